/* alpha-entmax of rows over threads, each with a workspace of scores. */
#include "for.h"
#include "run.h"

typedef struct {
    const char *x, *dy;
    const uint8_t *mask;
    char *y;
    double *d_alpha, alpha;
    int64_t columns;
} entmax;

FA_BODY(entmax_forward, entmax, {
    const int64_t at = first * a->columns, bytes = at * k->element_bytes;
    k->entmax_forward(a->x + bytes, a->mask ? a->mask + at : 0, a->y + bytes, a->alpha, last - first, a->columns,
                      workspace);
})
FA_BODY(entmax_backward, entmax, {
    const int64_t bytes = first * a->columns * k->element_bytes;
    k->entmax_backward(a->x + bytes, a->dy + bytes, a->y + bytes, a->d_alpha ? a->d_alpha + first : 0, a->alpha,
                       last - first, a->columns, workspace);
})

static int run_rows(const fa_kernels *k, fa_body body, const entmax *a, int64_t rows, int n_threads) {
    if (rows == 0 || a->columns == 0) return FA_OK;
    n_threads = threads_for((double)rows * (double)a->columns * 4, n_threads);
    return fa_run_each(k, body, a,
                       (fa_loop){.items = rows,
                                 .block = ceil_div(rows, n_threads == 1 ? 1 : 4 * n_threads),
                                 .threads = n_threads,
                                 .each = k->entmax_workspace(a->columns)});
}

int fa_entmax_forward(const fa_kernels *k, const void *x, const uint8_t *mask, void *y, double alpha, int64_t rows,
                      int64_t columns, int n_threads) {
    const entmax a = {.x = x, .mask = mask, .y = y, .alpha = alpha, .columns = columns};
    return run_rows(k, entmax_forward, &a, rows, n_threads);
}

int fa_entmax_backward(const fa_kernels *k, const void *y, const void *dy, void *dx, double *d_alpha, double alpha,
                       int64_t rows, int64_t columns, int n_threads) {
    const entmax a = {.x = y, .dy = dy, .y = dx, .d_alpha = d_alpha, .alpha = alpha, .columns = columns};
    return run_rows(k, entmax_backward, &a, rows, n_threads);
}
