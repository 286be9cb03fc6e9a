/* Matrix products with packed weights over threads. */
#include "for.h"
#include "run.h"

typedef struct {
    const void *x, *w, *bias;
    void *y;
    int relu;
    int64_t x_row, w_row, w_column, M, K, N, panels, row_block, panel_block, panel_blocks;
} product;

FA_BODY(pack, product, k->gemm_pack(a->w, a->w_row, a->w_column, a->K, a->N, a->y, first, last))

int fa_gemm_pack(const fa_kernels *k, const void *w, int64_t row_stride, int64_t column_stride, int64_t K, int64_t N,
                 void *packed, int n_threads) {
    const product a = {.w = w, .y = packed, .w_row = row_stride, .w_column = column_stride, .K = K, .N = N};
    fa_for(k, pack, &a, .items = ceil_div(N, k->panel_width),
           .block = column_stride == 1 ? 8 : 1, /* runs of 2 KiB of a row */
           .threads = threads_for((double)K * (double)N * 16, n_threads));
    return FA_OK;
}

/* A block of rows by a block of panels. */
FA_BODY(multiply, product, {
    const int64_t row = first / a->panel_blocks * a->row_block, panel = first % a->panel_blocks * a->panel_block;
    k->gemm(a->x, a->x_row, a->w, a->y, a->N, row, least(row + a->row_block, a->M), panel,
            least(panel + a->panel_block, a->panels), a->K, a->N, a->bias, a->relu);
})

int fa_gemm(const fa_kernels *k, const void *x, int64_t x_row, const void *packed, void *y, int64_t M, int64_t K,
            int64_t N, const void *bias, int relu, int n_threads) {
    if (M == 0 || N == 0) return FA_OK;
    /* With few rows the weights are the work: reading one costs as much as about 8 multiply-adds. */
    n_threads = threads_for((double)(M < 8 ? 8 : M) * (double)N * (double)K, n_threads);
    const int64_t panels = ceil_div(N, k->panel_width);
    product a = {.x = x, .x_row = x_row, .w = packed, .y = y, .M = M, .K = K, .N = N, .panels = panels};
    a.bias = bias;
    a.relu = relu;
    /* A task keeps one panel in L2 at a time and passes up to 1024 rows by it. With few rows each thread has one run of
     * panels, which may stay in its cache from call to call. */
    a.row_block = ceil_div(M, ceil_div(M, 1024));
    a.panel_block = n_threads == 1 ? panels : M < 64 ? ceil_div(panels, n_threads) : 1;
    if (n_threads > 1 && M >= 64 && panels < 2 * n_threads) { /* tasks for all, of whole tiles */
        int64_t shared = ceil_div(M, ceil_div(2 * n_threads, panels));
        if (shared < a.row_block) a.row_block = ceil_div(shared, 6) * 6;
    }
    a.panel_blocks = ceil_div(panels, a.panel_block);
    fa_for(k, multiply, &a, .items = ceil_div(M, a.row_block) * a.panel_blocks, .threads = n_threads);
    return FA_OK;
}
