/* Spreads attention with sparse weights, and alpha-entmax of rows, over the pool. How rows are cut into tasks changes
 * no result, so it follows speed alone: blocks of as many rows as the workspace of scores holds, fewer where threads
 * would be idle. */
#include "pool.h"
#include "run.h"
#include "tasks.h"

#define FA_LEAST_SPARSE_ROWS 24 /* packing the keys again for a block costs about 1 / 12 of its arithmetic */

typedef struct {
    const fa_kernels *k;
    const void *arguments;
    char *workspace;
    int64_t workspace_bytes;
} sparse_call;

/* In units of a multiply-add, with a fifth of the keys taken to have a weight. */
static double sparse_work(const fa_attention *a) {
    double pairs = (double)a->B * (double)a->H * (double)a->Tq * (double)a->Tk;
    double each = (double)a->D * (a->score == FA_SCORE_ADDITIVE ? 4 : 1) + (double)a->Dv * 0.2 + 16;
    return pairs * each * (a->causal != FA_NOT_CAUSAL ? 0.5 : 1.0);
}

static void forward_one(void *context, int64_t task, int worker) {
    sparse_call *c = context;
    c->k->sparse_forward(c->arguments, task, c->workspace + worker * c->workspace_bytes);
}

int fa_sparse_forward(const fa_kernels *k, fa_attention *a, int n_threads) {
    const int64_t heads = a->B * a->Hk, rows = heads ? a->H / a->Hk * a->Tq : 0;
    if (rows == 0) return FA_OK;
    n_threads = threads_for(sparse_work(a), n_threads);
    int64_t per_task = k->sparse_rows(a);
    if (per_task > rows) per_task = rows;
    while (heads * ceil_div(rows, per_task) < 4 * n_threads && n_threads > 1 && per_task > FA_LEAST_SPARSE_ROWS)
        per_task = ceil_div(per_task / 2, 6) * 6;
    a->rows_per_task = per_task;
    sparse_call call = {k, a, 0, aligned(k->sparse_forward_workspace(a))};
    call.workspace = fa_workspace(fa_size_mul(call.workspace_bytes, n_threads));
    if (!call.workspace) return FA_NO_MEMORY;
    fa_parallel(k->sparse_forward_tasks(a), n_threads, forward_one, &call);
    return FA_OK;
}

static void backward_one(void *context, int64_t task, int worker) {
    sparse_call *c = context;
    c->k->sparse_backward(c->arguments, task, c->workspace + worker * c->workspace_bytes);
}

int fa_sparse_backward(const fa_kernels *k, fa_attention_grad *g, void *d_score_vector_sum, int n_threads) {
    const fa_attention *a = &g->f;
    int32_t unfit = 0;
    n_threads = threads_for(1.5 * sparse_work(a), n_threads);
    g->unfit = &unfit;
    sparse_call call = {k, g, 0, aligned(k->sparse_backward_workspace(g))};
    call.workspace = fa_workspace(fa_size_mul(call.workspace_bytes, n_threads));
    if (!call.workspace) return FA_NO_MEMORY;
    fa_parallel(k->attention_backward_tasks(g), n_threads, backward_one, &call);
    if (d_score_vector_sum) fa_sum_parts(k, g->d_score_vector, a->B * a->Hk, a->D, d_score_vector_sum);
    return unfit ? FA_UNFIT : FA_OK;
}

typedef struct {
    const fa_kernels *k;
    const char *x, *dy;
    const uint8_t *mask;
    char *y, *workspace;
    double *d_alpha, alpha;
    int64_t rows, columns, block, item, workspace_bytes;
} entmax_call;

static void entmax_one(void *context, int64_t task, int worker) {
    entmax_call *c = context;
    const int64_t first = task * c->block, rows = c->rows - first < c->block ? c->rows - first : c->block;
    const int64_t at = first * c->columns;
    char *workspace = c->workspace + worker * c->workspace_bytes;
    if (c->dy)
        c->k->entmax_backward(c->x + at * c->item, c->dy + at * c->item, c->y + at * c->item,
                              c->d_alpha ? c->d_alpha + first : 0, c->alpha, rows, c->columns, workspace);
    else
        c->k->entmax_forward(c->x + at * c->item, c->mask ? c->mask + at : 0, c->y + at * c->item, c->alpha, rows,
                             c->columns, workspace);
}

static int entmax_rows(entmax_call *c, int n_threads) {
    if (c->rows == 0 || c->columns == 0) return FA_OK;
    n_threads = threads_for((double)c->rows * (double)c->columns * 4, n_threads);
    c->item = c->k->element_bytes;
    c->block = ceil_div(c->rows, n_threads == 1 ? 1 : 4 * n_threads);
    c->workspace_bytes = aligned(c->k->entmax_workspace(c->columns));
    c->workspace = fa_workspace(fa_size_mul(c->workspace_bytes, n_threads));
    if (!c->workspace) return FA_NO_MEMORY;
    fa_parallel(ceil_div(c->rows, c->block), n_threads, entmax_one, c);
    return FA_OK;
}

int fa_entmax(const fa_kernels *k, const void *x, const uint8_t *mask, void *y, double alpha, int64_t rows,
              int64_t columns, int n_threads) {
    entmax_call call = {.k = k, .x = x, .mask = mask, .y = y, .alpha = alpha, .rows = rows, .columns = columns};
    return entmax_rows(&call, n_threads);
}

int fa_entmax_vjp(const fa_kernels *k, const void *y, const void *dy, void *dx, double *d_alpha, double alpha,
                  int64_t rows, int64_t columns, int n_threads) {
    entmax_call call = {.k = k, .x = y, .dy = dy, .y = dx, .d_alpha = d_alpha, .alpha = alpha};
    call.rows = rows;
    call.columns = columns;
    return entmax_rows(&call, n_threads);
}
