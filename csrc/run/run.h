/* Which level runs, and the entry points that spread a call's tasks over threads. */
#ifndef FA_RUN_H
#define FA_RUN_H
#include "../kernels.h"

int fa_levels(void); /* number of levels built, lowest first */
const fa_level *fa_level_at(int index);
int fa_level_supported(int index); /* the processor and the operating system both allow it */
int fa_level_refused(int index);   /* the processor does, and the operating system does not save its registers */

/* Return an fa_status. n_threads is the most that may be used; small calls run on one. Also those of an alpha. */
int fa_attention_forward(const fa_kernels *k, const fa_attention *a, int n_threads);
int fa_attention_backward(const fa_kernels *k, const fa_attention_grad *g, int n_threads);
/* Of bfloat16 arrays and the score dot, where there is a matrix unit. */
int fa_attention_on_tiles(const fa_kernels *k, const fa_attention *a, int n_threads);
int fa_attention_backward_on_tiles(const fa_kernels *k, const fa_attention_grad *g, int n_threads);
void fa_pack_keys(const fa_kernels *k, const fa_packing *a, int n_threads);
int fa_gemm_pack(const fa_kernels *k, const void *w, int64_t row_stride, int64_t column_stride, int64_t K, int64_t N,
                 void *packed, int n_threads);
/* bias (N elements) or NULL is added to the product, then relu taken if it is 1. split: the weights in parts, or
 * NULL. With parts that need no packed weights, as fa_gemm_split says, these may be NULL; FA_PLAIN: a row needs them.
 */
int fa_gemm(const fa_kernels *k, const void *x, int64_t x_row, const void *packed, void *y, int64_t M, int64_t K,
            int64_t N, const void *bias, int relu, const void *split, int parts, int n_threads);
/* Bytes of packed weights in 1 to 3 parts, which fa_gemm takes for the matrix unit; 0: none is there. */
int64_t fa_gemm_parts_bytes(const fa_kernels *k, int parts, int64_t K, int64_t N);
/* Returns whether there are columns that need packed weights. */
int fa_gemm_split(const fa_kernels *k, const fa_split *a, int n_threads);
/* The product of `call`, whose rows are all, with narrow weights; of weights, bytes. */
int fa_gemm_narrow(const fa_kernels *k, const fa_narrow *call, int n_threads);
int64_t fa_narrow_bytes(int32_t type, int64_t K, int64_t N);
/* How products of float32 are made where there is a matrix unit: of 1 to 3 parts of a number, or, 4, without it. That
 * of the process, and, unless 0, of the calling thread. */
int fa_parts(int of_thread);
void fa_set_parts(int parts, int of_thread);
/* db: NULL, or N sums of the rows of dy. accumulate: continue in dw and db instead of starting at zero. parts: of a
 * number, 1 to 3, for a matrix unit, where there is one; 0: not for it. */
int fa_gemm_tn(const fa_kernels *k, const void *x, int64_t x_row, const void *dy, int64_t dy_row, void *dw, void *db,
               int accumulate, int parts, int64_t M, int64_t K, int64_t N, int n_threads);

void fa_cross_entropy(const fa_kernels *k, void *logits, const void *bias, const int64_t *targets, double smoothing,
                      int gradient, double *losses, int64_t rows, int64_t V, int n_threads);
void fa_log_softmax(const fa_kernels *k, const void *x, const void *bias, void *y, int64_t rows, int64_t V,
                    int n_threads);
void fa_adam_step(const fa_kernels *k, const fa_adam *a, int64_t n, int n_threads);
/* The same of a matrix (K, N), whose value is also packed in parts as by fa_gemm_split: forms[0] of it, forms[1] of its
 * transpose; without `split` not. unfit: of each, whether there are columns that need packed weights. */
int fa_adam_step_packed(const fa_kernels *k, const fa_adam *a, const fa_split *forms, int64_t K, int64_t N, int *unfit,
                        int n_threads);
void fa_add_scaled(const fa_kernels *k, const void *x, double scale, void *y, int64_t n, int n_threads);
/* Adds the sum of the squares to *sum. */
int fa_square_sum(const fa_kernels *k, const void *x, int64_t n, double *sum, int n_threads);
/* d = 0 where y, n elements, is not above 0. */
void fa_relu_backward(const fa_kernels *k, const void *y, void *d, int64_t n, int n_threads);
/* Rows of all batch entries and positions. */
void fa_rotate(const fa_kernels *k, const fa_rotary *a, int n_threads);
/* values and ids (rows, count): the largest elements of each row of x, in descending order. */
void fa_largest(const fa_kernels *k, const void *x, int64_t rows, int64_t columns, int64_t count, void *values,
                int64_t *ids, int n_threads);
/* Of rows of a table, size = 0, or of columns of one that has `size` of them. */
void fa_gather(const fa_kernels *k, const void *table, int64_t size, const int64_t *ids, void *y, int64_t n,
               int64_t width, int n_threads);
int fa_scatter(const fa_kernels *k, const void *dy, int64_t dy_row, const int64_t *ids, int64_t n, int64_t skip,
               void *table, int64_t size, int64_t width, int n_threads);
void fa_layer_norm_forward(const fa_kernels *k, const fa_layer_norm *a, int n_threads);
void fa_layer_norm_backward(const fa_kernels *k, const fa_layer_norm *a, int n_threads);
void fa_dropout(const fa_kernels *k, const void *x, void *y, const uint64_t *seeds, uint32_t drop_below,
                double keep_scale, int64_t samples, int64_t elements, int n_threads);
void fa_query_backward(const fa_kernels *k, const fa_query_gradient *a, int n_threads);
int fa_steps_forward(const fa_kernels *k, const fa_steps *a, int n_threads);
int fa_steps_backward(const fa_kernels *k, const fa_steps *a, int n_threads);
int fa_monotonic_forward(const fa_kernels *k, const fa_monotonic *a, int n_threads);
int fa_monotonic_backward(const fa_kernels *k, const fa_monotonic *a, int n_threads);
/* u (B): uniform in (0, 1), of several draws of a step. */
void fa_uniform(const uint64_t *seeds, int64_t step, int64_t draw, double *u, int64_t B);
/* All steps. x (rows, D) are the inputs of all positions, NULL if gates hold their products already; gates, aux,
 * before, y and the weights of `a` are set. States are contiguous (B, H), by sample; first states may be NULL: zeros.
 * LSTM has c beside h, others pass NULL. */
int fa_recurrent_forward(const fa_kernels *k, const fa_recurrent *a, const void *x, int64_t x_row, const void *w_input,
                         int64_t rows, int64_t D, const void *h_first, const void *c_first, void *h_last, void *c_last,
                         int n_threads);
int fa_recurrent_backward(const fa_kernels *k, const fa_recurrent *a, const void *dh_last, const void *dc_last,
                          void *dh_first, void *dc_first, int n_threads);
/* alpha-entmax of contiguous rows, and its gradients from the weights; d_alpha of each row, or NULL. */
int fa_entmax_forward(const fa_kernels *k, const void *x, const uint8_t *mask, void *y, double alpha, int64_t rows,
                      int64_t columns, int n_threads);
int fa_entmax_backward(const fa_kernels *k, const void *y, const void *dy, void *dx, double *d_alpha, double alpha,
                       int64_t rows, int64_t columns, int n_threads);
#endif
