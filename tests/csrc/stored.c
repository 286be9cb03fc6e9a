/* Attention forward on contiguous (B, H, T, D) arrays of another storage type, for test_element.py. */
#include <stdlib.h>

#include "levels/level.c"

int forward(int64_t B, int64_t H, int64_t Tq, int64_t Tk, int64_t D, int64_t Dv, int additive, int causal, double scale,
            const element *query, const element *key, const element *value, const element *vector, const element *bias,
            element *context, element *weights) {
    const fa_attention a = {.B = B,
                            .H = H,
                            .Hk = H,
                            .Tq = Tq,
                            .Tk = Tk,
                            .D = D,
                            .Dv = Dv,
                            .query = query,
                            .key = key,
                            .value = value,
                            .query_strides = {H * Tq * D, Tq * D, D},
                            .key_strides = {H * Tk * D, Tk * D, D},
                            .value_strides = {H * Tk * Dv, Tk * Dv, Dv},
                            .score = additive,
                            .score_vector = vector,
                            .causal = causal,
                            .scale = scale,
                            .bias = bias,
                            .bias_strides = {0, 0, Tk, 1},
                            .left = -1,
                            .right = -1,
                            .context = context,
                            .context_strides = {H * Tq * Dv, Tq * Dv, Dv},
                            .weights = weights};
    const fa_kernels *k = &FA_JOIN(FA_LEVEL, FA_BITS);
    const fa_plan plan = {.rows_per_task = H ? Tq : 0, .pieces = 1};
    void *workspace = NULL;
    if (k->element_bytes != sizeof(element) || k->real_bytes != sizeof(real)) return 1;
    if (posix_memalign(&workspace, 64, (size_t)k->attention_forward_workspace(&a, &plan))) return 2;
    for (int64_t head = 0; head < B * H; head++) k->attention_forward(&a, &plan, head, workspace);
    free(workspace);
    return 0;
}
