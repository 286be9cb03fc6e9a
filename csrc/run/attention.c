/* Spreads the tasks of one call over the pool, each worker with its own piece of the caller's workspace.
 *
 * How rows are cut into tasks and how many threads take part never changes a result (attention/forward.inl), so both
 * follow speed alone: about four tasks a thread, but blocks of rows large enough that packing the keys again for
 * each costs little (1 / (2 rows) of the arithmetic, and about twice that in time).
 */
#include "pool.h"
#include "run.h"
#include "tasks.h"

#define FA_ROWS_PER_TASK 384
#define FA_LEAST_ROWS_PER_TASK 48

typedef struct {
    const fa_kernels *k;
    const void *arguments;
    char *workspace;
    int64_t workspace_bytes;
} attention_call;

static void forward_one(void *context, int64_t task, int worker) {
    attention_call *c = context;
    c->k->attention_forward(c->arguments, task, c->workspace + worker * c->workspace_bytes);
}

static void join_one(void *context, int64_t task, int worker) {
    attention_call *c = context;
    c->k->attention_forward_join(c->arguments, task, c->workspace + worker * c->workspace_bytes);
}

/* In units of a multiply-add. An additive feature costs about 4 of them, an exponential of a packed key about 16; few
 * rows wait for keys and values as long as 8 of them compute. */
static double attention_work(const fa_attention *a) {
    const int additive = a->score == FA_SCORE_ADDITIVE;
    double keys = (double)a->B * (double)a->Hk * (double)a->Tk, rows = (double)(a->H / a->Hk) * (double)a->Tq;
    double pairs = keys * (rows < 8 ? 8 : rows);
    double each = (double)a->D * (additive ? 4 : 1) + (double)a->Dv + 16;
    double packing = additive && !a->key_panels ? 16 * keys * (double)a->D : 0;
    return pairs * each * (a->causal != FA_NOT_CAUSAL ? 0.5 : 1.0) + packing;
}

int fa_forward(const fa_kernels *k, fa_attention *a, int n_threads) {
    int64_t heads = a->B * a->Hk, rows = heads ? a->H / a->Hk * a->Tq : 0;
    if (rows == 0) return FA_OK;
    n_threads = threads_for(attention_work(a), n_threads);
    int64_t per_task = rows < FA_ROWS_PER_TASK ? rows : FA_ROWS_PER_TASK;
    while (heads * ceil_div(rows, per_task) < 4 * n_threads && n_threads > 1 && per_task > FA_LEAST_ROWS_PER_TASK)
        per_task = ceil_div(per_task / 2, 6) * 6;
    a->rows_per_task = per_task;
    a->partials = 0;
    int64_t chunks = k->attention_forward_chunks(a), partial_bytes = 0;
    const int by_chunk =
        n_threads > 1 && per_task == rows && rows <= FA_LEAST_ROWS_PER_TASK && heads < 2 * n_threads && chunks > 1;
    const int64_t partial = by_chunk ? fa_size_mul(k->attention_forward_partial(a), k->element_bytes) : 0;
    if (by_chunk) partial_bytes = aligned(fa_size_mul(fa_size_mul(heads, chunks), partial));
    attention_call call = {k, a, 0, aligned(k->attention_forward_workspace(a))};
    call.workspace = fa_workspace(fa_size_mul(call.workspace_bytes, n_threads) + partial_bytes);
    if (!call.workspace) return FA_NO_MEMORY;
    if (by_chunk) a->partials = call.workspace + call.workspace_bytes * n_threads;
    fa_parallel(k->attention_forward_tasks(a), n_threads, forward_one, &call);
    if (by_chunk) fa_parallel(heads, n_threads, join_one, &call);
    return FA_OK;
}

static void backward_one(void *context, int64_t task, int worker) {
    attention_call *c = context;
    c->k->attention_backward(c->arguments, task, c->workspace + worker * c->workspace_bytes);
}

typedef struct {
    const fa_kernels *k;
    const fa_attention_grad *g;
    const void *context, *d_lse;
    void *delta;
    int64_t rows, block;
} delta_call;

static void delta_one(void *context, int64_t task, int worker) {
    delta_call *c = context;
    int64_t first = task * c->block, last = first + c->block < c->rows ? first + c->block : c->rows;
    (void)worker;
    c->k->attention_backward_delta(c->g, c->context, c->d_lse, c->delta, first, last);
}

void fa_sum_parts(const fa_kernels *k, const void *parts, int64_t n, int64_t width, void *sums) {
    for (int64_t t = 0; t < width; t++) {
        if (k->element_bytes == 8) {
            const double *part = parts;
            double sum = 0;
            for (int64_t p = 0; p < n; p++) sum += part[p * width + t];
            ((double *)sums)[t] = sum;
        } else {
            const float *part = parts;
            double sum = 0;
            for (int64_t p = 0; p < n; p++) sum += (double)part[p * width + t];
            ((float *)sums)[t] = (float)sum;
        }
    }
}

int fa_backward(const fa_kernels *k, fa_attention_grad *g, const void *context, const void *d_lse, void *delta,
                void *d_score_vector_sum, int n_threads) {
    const fa_attention *a = &g->f;
    int64_t rows = a->B * a->H * a->Tq;
    int32_t unfit = 0;
    n_threads = threads_for(2.5 * attention_work(a), n_threads);
    g->delta = delta;
    g->unfit = &unfit;
    delta_call deltas = {k, g, context, d_lse, delta, rows, 256};
    fa_parallel(ceil_div(rows, deltas.block), n_threads, delta_one, &deltas);
    attention_call call = {k, g, 0, aligned(k->attention_backward_workspace(g))};
    call.workspace = fa_workspace(fa_size_mul(call.workspace_bytes, n_threads));
    if (!call.workspace) return FA_NO_MEMORY;
    fa_parallel(k->attention_backward_tasks(g), n_threads, backward_one, &call);
    if (d_score_vector_sum) fa_sum_parts(k, g->d_score_vector, a->B * a->Hk, a->D, d_score_vector_sum);
    return unfit ? FA_UNFIT : FA_OK;
}

typedef struct {
    const fa_kernels *k;
    int32_t score, activation;
    const char *key;
    const void *score_vector;
    char *panels;
    fa_strides3 strides;
    int64_t Hk, first, last, D, panels_batch, panels_head, item;
} pack_keys_call;

static void pack_keys_one(void *context, int64_t task, int worker) {
    pack_keys_call *c = context;
    (void)worker;
    int64_t b = task / c->Hk, h = task % c->Hk;
    c->k->pack_keys(c->score, c->activation, c->key + (b * c->strides.batch + h * c->strides.head) * c->item,
                    c->strides.row, c->score_vector, c->first, c->last, c->D,
                    c->panels + (b * c->panels_batch + h * c->panels_head) * c->item);
}

int fa_pack_keys(const fa_kernels *k, int32_t score, int32_t activation, const void *key, fa_strides3 strides,
                 const void *score_vector, int64_t B, int64_t Hk, int64_t first, int64_t last, int64_t D, void *panels,
                 int64_t panels_batch, int64_t panels_head, int n_threads) {
    n_threads = threads_for((double)B * (double)Hk * (double)(last - first) * (double)D * 4, n_threads);
    pack_keys_call call = {.k = k,
                           .score = score,
                           .activation = activation,
                           .key = key,
                           .score_vector = score_vector,
                           .panels = panels,
                           .strides = strides,
                           .Hk = Hk,
                           .first = first,
                           .last = last,
                           .D = D,
                           .panels_batch = panels_batch,
                           .panels_head = panels_head,
                           .item = k->element_bytes};
    fa_parallel(B * Hk, n_threads, pack_keys_one, &call);
    return FA_OK;
}

typedef struct {
    const fa_kernels *k;
    const void *x, *w;
    void *y;
    const void *bias;
    int relu;
    int64_t x_row, w_row, w_column, M, K, N, row_block, panel_block, panel_blocks;
} gemm_call;

static void gemm_pack_one(void *context, int64_t task, int worker) {
    gemm_call *c = context;
    (void)worker;
    int64_t panels = ceil_div(c->N, c->k->panel_width), first = task * c->panel_block, last = first + c->panel_block;
    c->k->gemm_pack(c->w, c->w_row, c->w_column, c->K, c->N, c->y, first, last < panels ? last : panels);
}

int fa_gemm_pack(const fa_kernels *k, const void *w, int64_t row_stride, int64_t column_stride, int64_t K, int64_t N,
                 void *packed, int n_threads) {
    gemm_call call = {.k = k, .w = w, .y = packed, .w_row = row_stride, .w_column = column_stride, .K = K, .N = N};
    call.panel_block = column_stride == 1 ? 8 : 1; /* runs of 2 KiB of a row */
    int64_t tasks = ceil_div(ceil_div(N, k->panel_width), call.panel_block);
    fa_parallel(tasks, threads_for((double)K * (double)N * 16, n_threads), gemm_pack_one, &call);
    return FA_OK;
}

static void gemm_one(void *context, int64_t task, int worker) {
    gemm_call *c = context;
    int64_t row = task / c->panel_blocks * c->row_block, panel = task % c->panel_blocks * c->panel_block;
    int64_t panels = ceil_div(c->N, c->k->panel_width);
    int64_t row_end = row + c->row_block < c->M ? row + c->row_block : c->M;
    int64_t panel_end = panel + c->panel_block < panels ? panel + c->panel_block : panels;
    (void)worker;
    c->k->gemm(c->x, c->x_row, c->w, c->y, c->N, row, row_end, panel, panel_end, c->K, c->N, c->bias, c->relu);
}

int fa_gemm(const fa_kernels *k, const void *x, int64_t x_row, const void *packed, void *y, int64_t M, int64_t K,
            int64_t N, const void *bias, int relu, int n_threads) {
    if (M == 0 || N == 0) return FA_OK;
    /* With few rows the weights are the work: reading one costs as much as about 8 multiply-adds. */
    n_threads = threads_for((double)(M < 8 ? 8 : M) * (double)N * (double)K, n_threads);
    int64_t panels = ceil_div(N, k->panel_width);
    gemm_call call = {.k = k, .x = x, .x_row = x_row, .w = packed, .y = y, .M = M, .K = K, .N = N};
    call.bias = bias;
    call.relu = relu;
    /* A task keeps one panel in L2 at a time and passes up to 1024 rows by it. With few rows each thread has one run of
     * panels, which may stay in its cache from call to call. */
    call.row_block = ceil_div(M, ceil_div(M, 1024));
    call.panel_block = n_threads == 1 ? panels : M < 64 ? ceil_div(panels, n_threads) : 1;
    if (n_threads > 1 && M >= 64 && panels < 2 * n_threads) { /* tasks for all, of whole tiles */
        int64_t shared = ceil_div(M, ceil_div(2 * n_threads, panels));
        if (shared < call.row_block) call.row_block = ceil_div(shared, 6) * 6;
    }
    call.panel_blocks = ceil_div(panels, call.panel_block);
    fa_parallel(ceil_div(M, call.row_block) * call.panel_blocks, n_threads, gemm_one, &call);
    return FA_OK;
}
