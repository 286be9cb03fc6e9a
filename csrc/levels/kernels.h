/* All kernels for one element type: included twice by level.h, with FA_BITS 32 and 64. */
#include "../vec/vec.h"
#include "../vec/math.h"
#include "../micro/micro.h"
#include "../micro/sums.h"
#include "../additive/additive.h"
#include "../additive/pack.h"
#include "../additive/tile.h"
#include "../additive/backward.h"
#include "../attention/scores.h"
#include "../attention/tile.h"
#include "../attention/forward.c"
#include "../attention/backward.c"
#include "../gemm/gemm.c"
#include "../gemm/gradient.c"
#include "../elementwise/relu.c"
#include "../elementwise/rotary.c"
#include "../search/largest.c"
#include "../elementwise/elementwise.c"
#include "../softmax/softmax.c"
#include "../loss/cross_entropy.c"
#include "../optim/adam.c"
#include "../embedding/embedding.c"
#include "../normalization/layer_norm.c"
#include "../dropout/elements.c"
#include "../attention/query_gradient.h"
#include "../normalizers/entmax.h"
#include "../normalizers/rows.c"
#include "../attention/sparse.h"
#include "../attention/sparse_forward.c"
#include "../attention/sparse_backward.c"
#include "../recurrent/step.h"
#include "../recurrent/forward.c"
#include "../recurrent/backward.c"
#include "../steps/features.h"
#include "../steps/forward.h"
#include "../steps/backward.h"
#include "../steps/monotonic.h"

FA_FUNC int64_t FN(panel_elements)(int32_t score, int64_t Tk, int64_t D) {
    return fa_size_mul((Tk + PW - 1) / PW, panel_stride(score, D));
}
FA_FUNC void FN(pack_keys_run)(int32_t score, int32_t activation, const void *key, int64_t row_stride,
                               const void *score_vector, int64_t first, int64_t last, int64_t D, void *panels) {
    pack_keys(score, activation, key, row_stride, score_vector, first, last, D,
              (real *)panels + first / PW * panel_stride(score, D), (fa_ahead){0});
}

/* In the order of struct fa_kernels: names of kernels are macros here, so its members cannot be named. */
static const fa_kernels FN(kernels) = {
    PW,
    forward_tasks,
    forward_workspace,
    forward_task,
    forward_chunks,
    forward_partial,
    forward_join,
    backward_tasks,
    backward_workspace,
    backward_task,
    backward_delta,
    FN(panel_elements),
    FN(pack_keys_run),
    gemm_packed_elements,
    gemm_pack,
    gemm_run,
    tn_depth,
    tn_packed_bytes,
    tn_workspace,
    tn_rows,
    tn_pack,
    tn_run,
    tn_settle,
    map_run,
    softmax_rows,
    softmax_rows_vjp,
    normalize,
    normalize_vjp,
    cross_entropy_rows,
    log_softmax_rows,
    adam_run,
    square_sum,
    gather_rows,
    scatter_rows,
    layer_norm_rows,
    layer_norm_back,
    layer_norm_columns,
    dropout_run,
    add_scaled,
    query_gradient,
    recurrent_workspace,
    recurrent_step,
    recurrent_back,
    sparse_rows,
    sparse_forward_tasks,
    sparse_forward_workspace,
    sparse_forward,
    sparse_backward_workspace,
    sparse_backward,
    entmax_rows_workspace,
    entmax_rows,
    entmax_rows_vjp,
    step_workspace,
    step_forward,
    step_backward,
    relu_back,
    largest_rows,
    rotary_rows,
    monotonic_workspace,
    monotonic_forward,
    monotonic_backward,
};
