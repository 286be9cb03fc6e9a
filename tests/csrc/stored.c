/* Calls all that takes a table of kernels, on arrays of any storage type, and prints what it writes: test_element.py.
 * Inputs are fractions that all types hold, each array is as long as it must be, outputs are not set before. */
#include <stdio.h>
#include <stdlib.h>

#include "levels/level.c"
#include "run/run.h"

static const fa_kernels *k = &FA_JOIN(FA_LEVEL, FA_BITS);
static const char *called;

static void *memory(int64_t bytes) {
    void *p = NULL;
    if (posix_memalign(&p, 64, bytes ? (size_t)bytes : 1)) exit(2);
    return memset(p, 0x47, (size_t)bytes); /* no number of interest in any type */
}
static element *out(int64_t n) { return memory(n * (int64_t)sizeof(element)); }
static real *reals(int64_t n) { return memory(n * (int64_t)sizeof(real)); }
static real *sums(int64_t n) { return memset(reals(n), 0, (size_t)n * sizeof(real)); }

static float fraction(void) {
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return (float)((int)(state >> 24) - 128) / 64;
}
static element *in(int64_t n) {
    element *p = out(n);
    for (int64_t i = 0; i < n; i++) p[i] = to_element(fraction());
    return p;
}
static real *real_in(int64_t n) {
    real *p = reals(n);
    for (int64_t i = 0; i < n; i++) p[i] = fraction();
    return p;
}

static void show(const char *name, const element *p, int64_t n) {
    printf("%s.%s", called, name);
    for (int64_t i = 0; i < n; i++) printf(" %a", (double)to_real(p[i]));
    puts("");
}
static void show_reals(const char *name, const real *p, int64_t n) {
    printf("%s.%s", called, name);
    for (int64_t i = 0; i < n; i++) printf(" %a", (double)p[i]);
    puts("");
}
static void show_doubles(const char *name, const double *p, int64_t n) {
    printf("%s.%s", called, name);
    for (int64_t i = 0; i < n; i++) printf(" %a", p[i]);
    puts("");
}
#define RUN(name, ...) (called = #name, k->name(__VA_ARGS__))
#define CALL(name, ...) (called = #name, name(k, __VA_ARGS__, 1)) /* on one thread */
#define SHOW(p, n) show(#p, p, n)
#define REALS(p, n) show_reals(#p, p, n)

static void attend(int64_t B, int64_t H, int64_t Hk, int64_t Tq, int64_t Tk, int64_t D, int64_t Dv, int score,
                   int activation, int options) {
    const int additive = score == FA_SCORE_ADDITIVE;
    const int64_t rows = B * H * Tq, heads = B * Hk, chunks = (Tk + FA_CHUNK - 1) / FA_CHUNK;
    element *query = in(rows * D), *key = in(heads * Tk * D), *value = in(heads * Tk * Dv), *vector = in(D);
    if (additive && options) query[0] = key[1] = to_element(300); /* beyond what is factored */
    uint8_t *mask = memory(Tq * Tk);
    uint64_t seeds[] = {1, 2, 3};
    for (int64_t i = 0; i < Tq * Tk; i++) mask[i] = i % 5 != 1;
    element *context = out(rows * Dv), *weights = out(rows * Tk), *lse = out(rows);
    real *row_max = reals(rows), *row_sum = reals(rows);
    fa_attention a = {.B = B, .H = H, .Hk = Hk, .Tq = Tq, .Tk = Tk, .D = D, .Dv = Dv, .query = query, .key = key,
                      .value = value, .query_strides = {H * Tq * D, Tq * D, D}, .left = -1, .right = -1,
                      .key_strides = {Hk * Tk * D, Tk * D, D}, .value_strides = {Hk * Tk * Dv, Tk * Dv, Dv},
                      .score = score, .activation = activation, .score_vector = vector,
                      .scale = score == FA_SCORE_L1 ? 0.03125 : 0.25, .context = context,
                      .context_strides = {H * Tq * Dv, Tq * Dv, Dv}, .weights = weights,
                      .lse = lse, .row_max = row_max, .row_sum = row_sum};
    if (options) {
        a.bias = in(Tq * Tk), a.bias_strides = (fa_strides4){0, 0, Tk, 1}, a.softcap = 3;
        a.mask = mask, a.mask_strides = a.bias_strides, a.causal = FA_BOTTOM_RIGHT;
        a.seeds = seeds, a.drop_below = 1u << 29, a.keep_scale = 1.125;
    }
    if (chunks > 1) { /* each by itself, as several threads do it */
        fa_plan plan = {.rows_per_task = H / Hk * Tq, .pieces = chunks};
        plan.partials = reals(heads * chunks * RUN(attention_forward_partial, &a));
        for (int64_t task = 0; task < heads * chunks; task++)
            RUN(attention_forward, &a, &plan, task, memory(k->attention_forward_workspace(&a, &plan)));
        for (int64_t head = 0; head < heads; head++)
            RUN(attention_forward_join, &a, &plan, head, memory(k->attention_forward_workspace(&a, &plan)));
        SHOW(context, rows * Dv), SHOW(weights, rows * Tk);
    }
    fa_attention packed = a;
    const int64_t elements = RUN(panel_elements, score, Tk, D);
    real *panels = reals(heads * elements);
    const fa_packing packing = {.score = score, .activation = activation, .key = key, .score_vector = vector,
                                .key_strides = a.key_strides, .B = B, .Hk = Hk, .D = D, .last = Tk, .panels = panels,
                                .panels_batch = Hk * elements, .panels_head = elements};
    CALL(fa_pack_keys, &packing);
    packed.key_panels = panels, packed.panels_batch = Hk * elements, packed.panels_head = elements;
    CALL(fa_attention_forward, &packed), SHOW(context, rows * Dv);
    int64_t *table = memory(Tk * B * 8);
    for (int64_t i = 0; i < Tk * B; i++) table[i] = i % 3 % B;
    packed = a, packed.position_rows = table;
    CALL(fa_attention_forward, &packed), SHOW(context, rows * Dv);
    CALL(fa_attention_forward, &a), SHOW(context, rows * Dv), SHOW(weights, rows * Tk), SHOW(lse, rows);
    REALS(row_max, rows), REALS(row_sum, rows);

    element *d_query = out(rows * D), *d_key = out(heads * Tk * D), *d_value = out(heads * Tk * Dv);
    element *d_score_vector = out(D), *d_bias = out(rows * Tk);
    double d_alpha[rows], alpha = 1.5;
    fa_attention_grad g = {.f = a, .d_context = in(rows * Dv), .d_context_strides = a.context_strides,
                           .d_lse = in(rows), .d_weights = options ? in(rows * Tk) : NULL, .d_query = d_query,
                           .d_key = d_key, .d_value = d_value, .d_score_vector = d_score_vector,
                           .d_bias = options ? d_bias : NULL, .d_bias_strides = {H * Tq * Tk, Tq * Tk, Tk, 1}};
    for (int sparse = 0; sparse < 2; sparse++) {
        memset(d_bias, 0, (size_t)(rows * Tk) * sizeof(element));
        if (sparse) {
            g.f.alpha = &alpha, g.d_alpha = d_alpha;
            CALL(fa_attention_forward, &g.f), SHOW(context, rows * Dv), SHOW(weights, rows * Tk);
        }
        CALL(fa_attention_backward, &g);
        SHOW(d_query, rows * D), SHOW(d_key, heads * Tk * D), SHOW(d_value, heads * Tk * Dv);
        if (sparse) show_doubles("d_alpha", d_alpha, rows);
        if (options) SHOW(d_bias, rows * Tk);
        if (additive) SHOW(d_score_vector, D);
    }
    if (H > 1) return;
    real *d_score = reals(B * Tk);
    const fa_query_gradient one = {
        .B = B, .Tk = Tk, .D = D, .Dv = Dv, .score = a.score, .activation = a.activation, .scale = 0.25,
        .query = query, .key = key, .value = value, .score_vector = vector, .weights = weights,
        .d_context = g.d_context, .query_row = Tq * D, .d_context_row = Tq * Dv, .key_strides = a.key_strides,
        .value_strides = a.value_strides, .d_query = d_query, .d_score = d_score, .d_weights = g.d_weights};
    CALL(fa_query_backward, &one), SHOW(d_query, B * D), REALS(d_score, B * Tk);
}

static void products(int64_t M, int64_t K, int64_t N) {
    element *x = in(M * K), *w = in(K * N), *turned = in(K * N), *bias = in(N), *y = out(M * N), *dy = in(M * N);
    real *packed = reals(RUN(gemm_packed_elements, K, N)), *dw = reals(K * N), *db = reals(N);
    for (int64_t i = 0; i < N; i++) dy[M / 2 * N + i] = to_element(0);
    /* Parts of a matrix, which fa_gemm_split and fa_adam_step_packed make, are of float32 as it is. */
    const void *parts = fa_gemm_parts_bytes(k, 3, K, N) ? abort(), packed : NULL;
    CALL(fa_gemm_pack, w, N, 1, K, N, packed), CALL(fa_gemm, x, K, packed, y, M, K, N, bias, 1, parts, 0);
    SHOW(y, M * N);
    CALL(fa_gemm_pack, turned, 1, K, K, N, packed), CALL(fa_gemm, x, K, packed, y, M, K, N, NULL, 0, parts, 0);
    SHOW(y, M * N);
    CALL(fa_gemm_tn, x, K, dy, N, dw, db, 0, 0, M, K, N), REALS(dw, K * N), REALS(db, N);
    for (int type = FA_BFLOAT16; type <= FA_INT8; type++) {
        const int64_t bytes = fa_narrow_bytes(type, K, N), columns = (N + 63) / 64 * 64;
        char *w_narrow = memory(bytes);
        float scales[columns];
        for (int64_t i = 0; i < bytes; i++) w_narrow[i] = (char)(type == FA_INT8 || i % 2 == 0 ? i % 100 - 50 : 0x3f);
        for (int64_t i = 0; i < columns; i++) scales[i] = 0.125f;
        const fa_narrow narrow_call = {.type = type, .relu = 1, .x = x, .x_row = K, .w = w_narrow, .scales = scales,
                                       .plain = memset(memory(columns), 0, (size_t)columns), .y = y, .bias = bias,
                                       .rows = M, .K = K, .N = N};
        CALL(fa_gemm_narrow, &narrow_call), SHOW(y, M * N);
    }
}

static void rows_and_elements(int64_t rows, int64_t n) {
    element *x = in(rows * n), *dy = in(rows * n), *y = out(rows * n), *dx = out(rows * n), *bias = in(n);
    element *gain = in(n), *values = out(rows * 3), *angles = in(rows * 4), *parameter = in(n);
    real *norms = reals(2 * rows), *mean = reals(rows), *inverse = reals(rows), *d_gain = sums(n), *d_offset = sums(n);
    real *table = sums(4 * n), *gradient = real_in(n), *m = sums(n), *v = sums(n);
    double losses[rows], d_alpha[rows], total = 0;
    int64_t ids[rows], found[3 * rows];
    uint8_t *mask = memory(rows * n);
    const uint64_t seeds[] = {1, 2, 3, 4, 5, 6, 7};
    for (int64_t i = 0; i < rows; i++) ids[i] = i % 2 + 1;
    for (int64_t i = 0; i < rows * n; i++) mask[i] = i % 7 != 2;
    for (int function = 0; function < 3; function++) RUN(map_elements, function, x, y, rows * n), SHOW(y, rows * n);
    RUN(softmax_forward, x, mask, y, rows, n), SHOW(y, rows * n);
    RUN(softmax_backward, y, dy, dx, rows, n), SHOW(dx, rows * n);
    RUN(normalize_forward, x, n, y, norms, rows, n), SHOW(y, rows * n), REALS(norms, 2 * rows);
    RUN(normalize_backward, y, norms, dy, dx, rows, n), SHOW(dx, rows * n);
    RUN(map_elements, FA_MAP_EXP, x, y, rows * n), RUN(logarithms, y, seeds, 3, dx, rows, n), SHOW(dx, rows * n);
    CALL(fa_entmax_forward, x, mask, y, 1.3, rows, n), SHOW(y, rows * n);
    CALL(fa_entmax_backward, y, dy, dx, d_alpha, 1.5, rows, n), SHOW(dx, rows * n);
    CALL(fa_log_softmax, x, bias, y, rows, n), SHOW(y, rows * n);
    CALL(fa_relu_backward, x, dy, rows * n), SHOW(dy, rows * n);
    CALL(fa_largest, x, rows, n, 3, values, found), SHOW(values, rows * 3);
    CALL(fa_dropout, x, y, seeds, 1u << 30, 1.5, rows, n), SHOW(y, rows * n);
    CALL(fa_gather, x, 0, ids, y, rows, n), SHOW(y, rows * n);
    CALL(fa_scatter, dy, n, ids, rows, -1, table, 0, n), REALS(table, 4 * n);
    CALL(fa_gather, x, 4, ids, y, rows, rows), SHOW(y, rows * rows);
    CALL(fa_scatter, dy, n, ids, rows, -1, table, 4, rows), REALS(table, 4 * rows);
    fa_rotary turn = {.x = x, .x_strides = {rows * n, 0, n}, .cosines = angles, .sines = in(rows * 4), .y = y, .B = 1,
                      .H = 1, .T = rows, .D = n, .n = 8};
    for (; turn.inverse < 2; turn.inverse++, turn.interleaved = 1) CALL(fa_rotate, &turn), SHOW(y, rows * n);
    const fa_layer_norm norm = {.rows = rows, .N = n, .x = x, .gain = gain, .offset = bias, .dy = dy, .x_row = n,
                                .dy_row = n, .epsilon = 1e-5, .y = y, .mean = mean, .inverse = inverse, .dx = dx,
                                .d_gain = d_gain, .d_offset = d_offset};
    CALL(fa_layer_norm_forward, &norm), SHOW(y, rows * n), REALS(mean, rows), REALS(inverse, rows);
    CALL(fa_layer_norm_backward, &norm), SHOW(dx, rows * n), REALS(d_gain, n), REALS(d_offset, n);
    CALL(fa_square_sum, gradient, n, &total), show_doubles("total", &total, 1);
    CALL(fa_add_scaled, table, 0.5, gradient, n), REALS(gradient, n);
    const fa_adam step = {parameter, gradient, m, v, 0.5, 0.5, 0.75, 0.125, 1.5, 1e-8, 0.875, 1};
    CALL(fa_adam_step, &step, n), SHOW(parameter, n), REALS(m, n), REALS(v, n);
    for (int gradients = 0; gradients < 2; gradients++)
        CALL(fa_cross_entropy, x, bias, ids, 0.125, gradients, losses, rows, n), show_doubles("losses", losses, rows);
    SHOW(x, rows * n);
}

static void recur(int cell, int64_t B, int64_t T, int64_t H, int64_t D) {
    const int64_t G = cell == FA_LSTM ? 4 : 3, each = k->gemm_packed_elements(H, H), rows = B * T;
    real *w = reals(G * each), *back = reals(k->gemm_packed_elements(G * H, H));
    real *w_input = reals(k->gemm_packed_elements(D, G * H));
    element *x = in(rows * D), *first = in(B * H), *last = out(B * H), *c_last = cell == FA_LSTM ? out(B * H) : NULL;
    element *gates = out(rows * G * H), *aux = out(rows * H), *before = out(rows * H), *y = out(rows * H);
    element *matrix = in((H > D ? H : D) * G * H);
    for (int64_t i = 0; i < H * G * H; i++) matrix[i] = to_element(to_real(matrix[i]) / 16);
    for (int64_t g = 0; g < G; g++) fa_gemm_pack(k, matrix + g * H, G * H, 1, H, H, w + g * each, 1);
    fa_gemm_pack(k, matrix, 1, G * H, G * H, H, back, 1), fa_gemm_pack(k, matrix, G * H, 1, D, G * H, w_input, 1);
    fa_recurrent a = {.B = B, .T = T, .H = H, .cell = cell, .w_hidden = w, .w_hidden_transposed = back,
                      .b_input = in(G * H), .b_hidden = in(G * H), .gates = gates, .aux = aux, .before = before, .y = y,
                      .dy = in(rows * H), .memory_first = first,
                      .inside = cell == FA_GRU_AFTER ? in(B * H) : NULL};
    const element *c_first = cell == FA_LSTM ? first : NULL;
    CALL(fa_recurrent_forward, &a, x, D, w_input, rows, D, first, c_first, last, c_last);
    SHOW(last, B * H), SHOW(y, rows * H), SHOW(aux, rows * H), SHOW(before, rows * H);
    if (c_last) SHOW(c_last, B * H);
    CALL(fa_recurrent_backward, &a, first, c_first, last, c_last), SHOW(last, B * H), SHOW(gates, rows * G * H);
}

static void step(int64_t C, int64_t K, int score, int factor, int64_t S, int64_t D, int64_t Dv) {
    enum { B = 2, T = 3 };
    int64_t first[B * T], last[B * T];
    element *context = out(B * T * Dv), *weights = out(B * T * S), *normalized = factor ? out(B * T * S) : weights;
    element *d_query = out(B * T * D), *d_history = out(B * T * S), *d_factor = out(B * T * S);
    real *total = reals(B * T), *d_key = sums(B * S * D), *d_vector = sums(B * D), *d_u = sums(B * C * D);
    real *d_filters = sums(B * C * K);
    for (int i = 0; i < B * T; i++) first[i] = i % 3, last[i] = S - i % 2;
    fa_steps a = {.B = B, .T = T, .S = S, .D = D, .Dv = Dv, .C = C, .K = K, .score = score, .sigmoid = factor,
                  .scale = 0.5, .query = in(B * T * D), .key = in(B * S * D), .value = in(B * S * Dv), .vector = in(D),
                  .key_strides = {S * D, 0, D}, .value_strides = {S * Dv, 0, Dv}, .first = first, .last = last,
                  .history = in(B * T * S), .filters = K > 1 ? in(C * K) : NULL, .feature_weights = in(C * D),
                  .factor = factor ? in(B * T * S) : NULL, .context = context, .weights = weights,
                  .normalized = normalized, .total = total, .d_context = in(B * T * Dv), .d_weights = in(B * T * S),
                  .d_query = d_query, .d_history = d_history, .d_factor = factor ? d_factor : NULL, .d_key = d_key,
                  .d_vector = d_vector, .d_feature_weights = d_u, .d_filters = d_filters, .last_step = T};
    CALL(fa_steps_forward, &a);
    SHOW(context, B * T * Dv), SHOW(weights, B * T * S), SHOW(normalized, B * T * S), REALS(total, B * T);
    CALL(fa_steps_backward, &a);
    SHOW(d_query, B * T * D), REALS(d_key, B * S * D), REALS(d_vector, B * D), REALS(d_u, B * C * D);
    if (C) SHOW(d_history, B * T * S), REALS(d_filters, B * C * K);
    if (factor) SHOW(d_factor, B * T * S);
}

static void monotonic(int64_t chunk, int hard, int64_t S, int64_t D, int64_t Dv) {
    enum { B = 2 };
    const int64_t elements = k->panel_elements(FA_SCORE_ADDITIVE, S, D), lengths[] = {S, S - 2}, start[] = {0, 1};
    const uint64_t seeds[] = {3, 4};
    int64_t found[B];
    element *key = in(B * S * D), *chunk_key = in(B * S * D), *vector = in(D), *chunk_vector = in(D);
    element *d_query = out(B * D), *d_chunk_query = out(B * D), *d_previous = out(B * S);
    element *context = out(B * Dv), *weights = out(B * S);
    element *alignment = out(B * S), *energy = out(B * S), *chunk_energy = out(B * S), *previous = in(B * S);
    for (int64_t i = 0; i < B * S; i++) previous[i] = to_element(i % S == 1 ? 0.5f : i % S < 4 ? 0.125f : 0.0f);
    real *panels = reals(B * elements), *chunk_panels = reals(B * elements), *d_key = sums(B * S * D);
    real *d_offset = sums(B), *d_vector = sums(B * D), *d_chunk_key = sums(B * S * D), *d_chunk_vector = sums(B * D);
    fa_packing packing = {.score = FA_SCORE_ADDITIVE, .key = key, .score_vector = vector, .key_strides = {S * D, 0, D},
                          .B = B, .Hk = 1, .D = D, .last = S, .panels = panels, .panels_batch = elements};
    CALL(fa_pack_keys, &packing);
    packing.key = chunk_key, packing.score_vector = chunk_vector, packing.panels = chunk_panels;
    CALL(fa_pack_keys, &packing);
    fa_monotonic a = {.B = B, .S = S, .D = D, .Dv = Dv, .chunk = chunk, .hard = hard, .query = in(B * D), .key = key,
                      .vector = vector, .offset = in(1), .value = in(B * S * Dv), .chunk_query = in(B * D),
                      .chunk_key = chunk_key, .chunk_vector = chunk_vector, .panels = panels,
                      .chunk_panels = chunk_panels, .panels_batch = elements, .key_strides = {S * D, 0, D},
                      .chunk_key_strides = {S * D, 0, D}, .value_strides = {S * Dv, 0, Dv}, .lengths = lengths,
                      .seeds = seeds, .noise = 0.5, .previous = previous, .start = start, .found = found,
                      .context = context, .weights = weights, .alignment = alignment, .energy = energy,
                      .chunk_energy = chunk_energy, .d_context = in(B * Dv), .d_weights = in(B * S),
                      .d_alignment = in(B * S), .d_query = d_query, .d_chunk_query = d_chunk_query,
                      .d_previous = d_previous, .d_key = d_key, .d_vector = d_vector, .d_offset = d_offset,
                      .d_chunk_key = d_chunk_key, .d_chunk_vector = d_chunk_vector};
    CALL(fa_monotonic_forward, &a);
    SHOW(context, B * Dv), SHOW(weights, B * S);
    if (hard) return;
    SHOW(energy, B * S - 2); /* the last of a shorter sample are not set */
    if (chunk) SHOW(alignment, B * S), SHOW(chunk_energy, B * S - 2);
    CALL(fa_monotonic_backward, &a);
    SHOW(d_query, B * D), SHOW(d_previous, B * S), REALS(d_key, B * S * D), REALS(d_vector, B * D), REALS(d_offset, B);
    if (chunk) SHOW(d_chunk_query, B * D), REALS(d_chunk_key, B * S * D), REALS(d_chunk_vector, B * D);
}

int main(void) {
    if (k->element_bytes != sizeof(element) || k->real_bytes != sizeof(real)) return 1;
    for (int score = 0; score < FA_SCORE_PAIRWISE; score++) /* which is a user's compiled code, for other elements */
        for (int activation = 0; activation < (score == FA_SCORE_ADDITIVE ? 3 : 1); activation++)
            for (int options = 0; options < 2; options++) {
                attend(2, 2, 1, 7, 70, 20, 17, score, activation, options);
                attend(1, 1, 1, 1, 600, 16, 32, score, activation, options);
                attend(1, 4, 2, 30, 16, 64, 16, score, activation, options);
            }
    attend(1, 2, 1, 800, 16, 8, 8, FA_SCORE_DOT, 0, 0), attend(1, 2, 1, 800, 16, 8, 8, FA_SCORE_ADDITIVE, FA_TANH, 1);
    products(7, 20, 33), products(1, 16, 64), products(20, 2100, 5), products(2100, 7, 70), products(17500, 1, 1);
    rows_and_elements(5, 37), rows_and_elements(7, 160);
    for (int cell = 0; cell < 3; cell++) recur(cell, 3, 4, 19, 7), recur(cell, 8, 1, 64, 16);
    step(0, 1, FA_SCORE_DOT, 1, 21, 13, 17), step(0, 1, FA_SCORE_L1, 0, 21, 13, 17);
    step(0, 1, FA_SCORE_ADDITIVE, 0, 21, 16, 64), step(1, 1, FA_SCORE_ADDITIVE, 0, 37, 21, 17);
    step(3, 5, FA_SCORE_ADDITIVE, 1, 37, 40, 16);
    monotonic(0, 0, 21, 13, 17), monotonic(4, 0, 37, 16, 32), monotonic(0, 1, 21, 13, 17), monotonic(4, 1, 37, 16, 32);
    return 0;
}
