/* The kernels of training over threads: rows, columns or elements in tasks of fixed size. Which thread has which task
 * changes no bit: no task adds to what another one writes, and sums over tasks are taken in order afterwards. */
#include <string.h>

#include "pool.h"
#include "run.h"
#include "tasks.h"

#define BLOCK 16384 /* elements of one task where memory is the bound; partial sums are of this many, always */

/* Elements that pass through a thread in the time of a multiply-add of a matrix product are few. */
#define WORK_PER_ELEMENT 16.0

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

typedef struct {
    const fa_kernels *k;
    const void *x, *bias;
    const int64_t *targets;
    void *y;
    double smoothing, *losses;
    int64_t rows, columns, block;
    int gradient;
} rows_call;

static void cross_entropy_one(void *context, int64_t task, int worker) {
    rows_call *c = context;
    (void)worker;
    c->k->cross_entropy(c->y, c->bias, c->targets, c->smoothing, c->gradient, c->losses, task * c->block,
                        least((task + 1) * c->block, c->rows), c->columns);
}

void fa_cross_entropy(const fa_kernels *k, void *logits, const void *bias, const int64_t *targets, double smoothing,
                      int gradient, double *losses, int64_t rows, int64_t V, int n_threads) {
    rows_call call = {.k = k, .bias = bias, .targets = targets, .y = logits, .smoothing = smoothing};
    call.losses = losses;
    call.rows = rows;
    call.columns = V;
    call.gradient = gradient;
    call.block = 1 + BLOCK / (V + 1);
    n_threads = threads_for((double)rows * (double)V * WORK_PER_ELEMENT, n_threads);
    fa_parallel(ceil_div(rows, call.block), n_threads, cross_entropy_one, &call);
}

static void log_softmax_one(void *context, int64_t task, int worker) {
    rows_call *c = context;
    (void)worker;
    c->k->log_softmax(c->x, c->bias, c->y, task * c->block, least((task + 1) * c->block, c->rows), c->columns);
}

void fa_log_softmax(const fa_kernels *k, const void *x, const void *bias, void *y, int64_t rows, int64_t V,
                    int n_threads) {
    rows_call call = {.k = k, .x = x, .bias = bias, .y = y, .rows = rows, .columns = V, .block = 1 + BLOCK / (V + 1)};
    n_threads = threads_for((double)rows * (double)V * WORK_PER_ELEMENT, n_threads);
    fa_parallel(ceil_div(rows, call.block), n_threads, log_softmax_one, &call);
}

typedef struct {
    const fa_kernels *k;
    const void *x;
    void *y;
    const fa_adam *adam;
    double *partial, scale;
    int64_t n;
} elements_call;

static void adam_one(void *context, int64_t task, int worker) {
    elements_call *c = context;
    (void)worker;
    c->k->adam(c->adam, task * BLOCK, least((task + 1) * BLOCK, c->n));
}

void fa_adam_step(const fa_kernels *k, const fa_adam *a, int64_t n, int n_threads) {
    elements_call call = {.k = k, .adam = a, .n = n};
    fa_parallel(ceil_div(n, BLOCK), threads_for((double)n * WORK_PER_ELEMENT, n_threads), adam_one, &call);
}

static void add_scaled_one(void *context, int64_t task, int worker) {
    elements_call *c = context;
    (void)worker;
    c->k->add_scaled(c->x, c->scale, c->y, task * BLOCK, least((task + 1) * BLOCK, c->n));
}

void fa_add_scaled(const fa_kernels *k, const void *x, double scale, void *y, int64_t n, int n_threads) {
    elements_call call = {.k = k, .x = x, .y = y, .scale = scale, .n = n};
    fa_parallel(ceil_div(n, BLOCK), threads_for((double)n * WORK_PER_ELEMENT / 4, n_threads), add_scaled_one, &call);
}

static void square_sum_one(void *context, int64_t task, int worker) {
    elements_call *c = context;
    (void)worker;
    c->partial[task] = c->k->square_sum(c->x, task * BLOCK, least((task + 1) * BLOCK, c->n));
}

int fa_square_sum(const fa_kernels *k, const void *x, int64_t n, double *sum, int n_threads) {
    const int64_t blocks = ceil_div(n, BLOCK);
    elements_call call = {.k = k, .x = x, .n = n, .partial = fa_workspace(fa_size_mul(blocks, sizeof(double)))};
    if (!call.partial) return FA_NO_MEMORY;
    fa_parallel(blocks, threads_for((double)n * WORK_PER_ELEMENT / 4, n_threads), square_sum_one, &call);
    for (int64_t i = 0; i < blocks; i++) *sum += call.partial[i];
    return FA_OK;
}

static void relu_back_one(void *context, int64_t task, int worker) {
    elements_call *c = context;
    (void)worker;
    c->k->relu_backward(c->x, c->y, task * BLOCK, least((task + 1) * BLOCK, c->n));
}

void fa_relu_back(const fa_kernels *k, const void *y, void *d, int64_t n, int n_threads) {
    elements_call call = {.k = k, .x = y, .y = d, .n = n};
    fa_parallel(ceil_div(n, BLOCK), threads_for((double)n * WORK_PER_ELEMENT / 4, n_threads), relu_back_one, &call);
}

typedef struct {
    const fa_kernels *k;
    const fa_rotary *a;
    int64_t rows, block;
} rotary_call;

static void rotary_one(void *context, int64_t task, int worker) {
    rotary_call *c = context;
    (void)worker;
    c->k->rotary(c->a, task * c->block, least((task + 1) * c->block, c->rows));
}

void fa_rotary_run(const fa_kernels *k, const fa_rotary *a, int n_threads) {
    rotary_call call = {k, a, a->B * a->T, 1 + BLOCK / (a->H * a->D + 1)};
    n_threads = threads_for((double)call.rows * (double)a->H * (double)a->D * WORK_PER_ELEMENT / 4, n_threads);
    fa_parallel(ceil_div(call.rows, call.block), n_threads, rotary_one, &call);
}

typedef struct {
    const fa_kernels *k;
    const void *x;
    void *values;
    int64_t *ids;
    int64_t rows, columns, count, block;
} largest_call;

static void largest_one(void *context, int64_t task, int worker) {
    largest_call *c = context;
    (void)worker;
    c->k->largest(c->x, c->columns, c->count, c->values, c->ids, task * c->block,
                  least((task + 1) * c->block, c->rows));
}

void fa_largest(const fa_kernels *k, const void *x, int64_t rows, int64_t columns, int64_t count, void *values,
                int64_t *ids, int n_threads) {
    largest_call call = {k, x, values, ids, rows, columns, count, 1 + BLOCK / (columns + 1)};
    n_threads = threads_for((double)rows * (double)columns * WORK_PER_ELEMENT / 4, n_threads);
    fa_parallel(ceil_div(rows, call.block), n_threads, largest_one, &call);
}

typedef struct {
    const fa_kernels *k;
    const void *x;
    const int64_t *ids;
    void *y;
    const int64_t *lists;
    int64_t n, x_row, width, block;
} table_call;

static void gather_one(void *context, int64_t task, int worker) {
    table_call *c = context;
    (void)worker;
    c->k->gather(c->x, c->ids, c->y, c->width, task * c->block, least((task + 1) * c->block, c->n));
}

void fa_gather(const fa_kernels *k, const void *table, const int64_t *ids, void *y, int64_t n, int64_t width,
               int n_threads) {
    table_call call = {.k = k, .x = table, .ids = ids, .y = y, .n = n, .width = width};
    call.block = 1 + BLOCK / (width + 1);
    n_threads = threads_for((double)n * (double)width * 4, n_threads);
    fa_parallel(ceil_div(n, call.block), n_threads, gather_one, &call);
}

static void scatter_one(void *context, int64_t task, int worker) {
    table_call *c = context;
    (void)worker;
    c->k->scatter(c->x, c->x_row, c->ids, c->lists, c->n, c->y, c->width, task * c->block,
                  least((task + 1) * c->block, c->width));
}

/* lists (2 n), for ops/embedding.inl, by a table of 2^bits places that has the first row of each number. */
static void list_rows(const int64_t *ids, int64_t n, int64_t skip, int64_t *lists, int64_t *places, int bits) {
    int64_t *last = places + ((int64_t)1 << bits); /* rows of each place's number: its last one so far */
    for (int64_t i = 0; i < (int64_t)1 << bits; i++) places[i] = -1;
    for (int64_t i = 0; i < n; i++) {
        lists[i] = lists[n + i] = -1;
        if (ids[i] == skip) continue;
        uint64_t at = (uint64_t)ids[i] * 0x9e3779b97f4a7c15u >> (64 - bits);
        while (places[at] >= 0 && ids[places[at]] != ids[i]) at = (at + 1) & (((uint64_t)1 << bits) - 1);
        if (places[at] < 0)
            places[at] = i;
        else
            lists[n + last[at]] = i;
        last[at] = i;
        lists[i] = places[at];
    }
}

int fa_scatter(const fa_kernels *k, const void *dy, int64_t dy_row, const int64_t *ids, int64_t n, int64_t skip,
               void *table, int64_t width, int n_threads) {
    int bits = 1;
    if (n == 0 || width == 0) return FA_OK;
    while (bits < 56 && (int64_t)1 << bits < 2 * n) bits++;
    int64_t *lists = fa_workspace(fa_size_mul(2 * n + ((int64_t)2 << bits), sizeof(int64_t)));
    if (!lists) return FA_NO_MEMORY;
    list_rows(ids, n, skip, lists, lists + 2 * n, bits);
    table_call call = {.k = k, .x = dy, .x_row = dy_row, .ids = ids, .lists = lists, .y = table, .n = n};
    call.width = width;
    n_threads = threads_for((double)n * (double)width * 4, n_threads);
    call.block = ceil_div(ceil_div(width, n_threads), k->panel_width) * k->panel_width;
    fa_parallel(ceil_div(width, call.block), n_threads, scatter_one, &call);
    return FA_OK;
}

typedef struct {
    const fa_kernels *k;
    const fa_layer_norm *a;
    int64_t block;
} norm_call;

static void layer_norm_one(void *context, int64_t task, int worker) {
    norm_call *c = context;
    (void)worker;
    c->k->layer_norm_forward(c->a, task * c->block, least((task + 1) * c->block, c->a->rows));
}
static void layer_norm_back_one(void *context, int64_t task, int worker) {
    norm_call *c = context;
    (void)worker;
    c->k->layer_norm_backward(c->a, task * c->block, least((task + 1) * c->block, c->a->rows));
}
static void layer_norm_columns_one(void *context, int64_t task, int worker) {
    norm_call *c = context;
    (void)worker;
    c->k->layer_norm_backward_columns(c->a, task * c->block, least((task + 1) * c->block, c->a->N));
}

void fa_layer_norm_run(const fa_kernels *k, const fa_layer_norm *a, int back, int n_threads) {
    norm_call call = {k, a, 1 + BLOCK / (a->N + 1)};
    n_threads = threads_for((double)a->rows * (double)a->N * 8, n_threads);
    fa_parallel(ceil_div(a->rows, call.block), n_threads, back ? layer_norm_back_one : layer_norm_one, &call);
    if (!back || !a->N) return;
    call.block = ceil_div(ceil_div(a->N, n_threads), k->panel_width) * k->panel_width;
    fa_parallel(ceil_div(a->N, call.block), n_threads, layer_norm_columns_one, &call);
}

typedef struct {
    const fa_kernels *k;
    const char *x;
    char *y;
    const uint64_t *seeds;
    double keep_scale;
    int64_t elements, blocks, item;
    uint32_t drop_below;
} dropout_call;

static void dropout_one(void *context, int64_t task, int worker) {
    dropout_call *c = context;
    int64_t sample = task / c->blocks, first = task % c->blocks * BLOCK, offset = sample * c->elements * c->item;
    (void)worker;
    c->k->dropout(c->x + offset, c->y + offset, c->seeds[sample], c->drop_below, c->keep_scale, first,
                  least(first + BLOCK, c->elements));
}

void fa_dropout(const fa_kernels *k, const void *x, void *y, const uint64_t *seeds, uint32_t drop_below,
                double keep_scale, int64_t samples, int64_t elements, int n_threads) {
    dropout_call call = {.k = k, .x = x, .y = y, .seeds = seeds, .keep_scale = keep_scale, .elements = elements};
    call.blocks = ceil_div(elements, BLOCK);
    call.item = k->element_bytes;
    call.drop_below = drop_below;
    n_threads = threads_for((double)samples * (double)elements * 4, n_threads);
    fa_parallel(samples * call.blocks, n_threads, dropout_one, &call);
}
