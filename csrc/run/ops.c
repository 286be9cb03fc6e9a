/* The kernels of training over threads: rows, columns or elements in tasks of fixed size. */
#include <string.h>

#include "../dropout.h"
#include "for.h"
#include "run.h"

#define BLOCK 16384 /* elements of one task where memory is the bound; partial sums are of this many, always */

/* Elements that pass through a thread in the time of a multiply-add of a matrix product are few. */
#define WORK_PER_ELEMENT 16.0

/* Rows of one task. */
static int64_t block_of(int64_t width) { return 1 + BLOCK / (width + 1); }

/* Columns of one task for each thread, in whole panels. */
static int64_t panels_of(const fa_kernels *k, int64_t columns, int threads) {
    return ceil_div(ceil_div(columns, threads), k->panel_width) * k->panel_width;
}

typedef struct {
    const void *x, *bias;
    void *y;
    const int64_t *ids, *lists;
    int64_t *found;
    double *sums, scale;
    int64_t rows, columns, row, size;
    int gradient;
} arrays;

FA_BODY(cross_entropy, arrays,
        k->cross_entropy(a->y, a->bias, a->ids, a->scale, a->gradient, a->sums, first, last, a->columns))
FA_BODY(log_softmax, arrays, k->log_softmax(a->x, a->bias, a->y, first, last, a->columns))
FA_BODY(adam, fa_adam, k->adam(a, first, last))
FA_BODY(add_scaled, arrays, k->add_scaled(a->x, a->scale, a->y, first, last))
FA_BODY(square_sum, arrays, a->sums[first / BLOCK] = k->square_sum(a->x, first, last))
FA_BODY(relu_backward, arrays, k->relu_backward(a->x, a->y, first, last))
FA_BODY(rotary, fa_rotary, k->rotary(a, first, last))
FA_BODY(largest, arrays, k->largest(a->x, a->columns, a->row, a->y, a->found, first, last))
FA_BODY(gather, arrays, k->gather(a->x, a->ids, a->y, a->columns, first, last))
FA_BODY(gather_columns, arrays, k->gather_columns(a->x, a->size, a->ids, a->rows, a->y, a->columns, first, last))
FA_BODY(scatter, arrays, k->scatter(a->x, a->row, a->ids, a->lists, a->rows, a->y, a->columns, first, last))
FA_BODY(scatter_columns, arrays,
        k->scatter_columns(a->x, a->row, a->ids, a->lists, a->rows, a->y, a->size, first, last))
FA_BODY(norm_forward, fa_layer_norm, k->layer_norm_forward(a, first, last))
FA_BODY(norm_backward, fa_layer_norm, k->layer_norm_backward(a, first, last))
FA_BODY(norm_backward_columns, fa_layer_norm, k->layer_norm_backward_columns(a, first, last))

void fa_cross_entropy(const fa_kernels *k, void *logits, const void *bias, const int64_t *targets, double smoothing,
                      int gradient, double *losses, int64_t rows, int64_t V, int n_threads) {
    const arrays a = {.y = logits,
                      .bias = bias,
                      .ids = targets,
                      .scale = smoothing,
                      .gradient = gradient,
                      .sums = losses,
                      .columns = V};
    fa_for(k, cross_entropy, &a, .items = rows, .block = block_of(V),
           .threads = threads_for((double)rows * (double)V * WORK_PER_ELEMENT, n_threads));
}

void fa_log_softmax(const fa_kernels *k, const void *x, const void *bias, void *y, int64_t rows, int64_t V,
                    int n_threads) {
    const arrays a = {.x = x, .bias = bias, .y = y, .columns = V};
    fa_for(k, log_softmax, &a, .items = rows, .block = block_of(V),
           .threads = threads_for((double)rows * (double)V * WORK_PER_ELEMENT, n_threads));
}

void fa_adam_step(const fa_kernels *k, const fa_adam *a, int64_t n, int n_threads) {
    fa_for(k, adam, a, .items = n, .block = BLOCK, .threads = threads_for((double)n * WORK_PER_ELEMENT, n_threads));
}

/* A panel's width of rows of a matrix, of which both forms are made while caches have the value. Rows in several pieces
 * of 1024 columns, which L2 would hold with all else, take longer than the whole: each stream would be short. */
typedef struct {
    fa_adam step;
    const fa_split *forms;
    int64_t K, N, panels; /* of the matrix; those of the first form */
    uint8_t *careful[2];  /* of each panel, of the first form once for each task */
} stepped;

FA_BODY(adam_packed, stepped, {
    const int64_t wide = k->panel_width, row = first * wide, end = least(a->K, row + wide);
    k->adam(&a->step, row * a->N, end * a->N);
    if (a->forms[0].split) k->tiles->pack_piece(a->forms, 0, a->panels, row, end, a->careful[0] + first * a->panels);
    if (a->forms[1].split) k->tiles->pack_piece(a->forms + 1, first, last, 0, a->N, a->careful[1] + first);
})

FA_BODY(settle_rows, stepped, {
    int careful = 0;
    for (int64_t i = 0; i < ceil_div(a->K, k->panel_width); i++) careful |= a->careful[0][i * a->panels + first];
    k->tiles->settle(a->forms, first, careful);
})
FA_BODY(settle_columns, stepped, k->tiles->settle(a->forms + 1, first, a->careful[1][first]))

int fa_adam_step_packed(const fa_kernels *k, const fa_adam *step, const fa_split *forms, int64_t K, int64_t N,
                        int *unfit, int n_threads) {
    const int64_t slabs = ceil_div(K, k->panel_width), panels = ceil_div(N, k->panel_width);
    const int64_t bytes = fa_size_mul(slabs, panels + 1);
    uint8_t *careful = fa_workspace(bytes);
    if (!careful) return FA_NO_MEMORY;
    memset(careful, 0, (size_t)bytes);
    const stepped a = {*step, forms, K, N, panels, {careful, careful + slabs * panels}};
    n_threads = threads_for((double)K * (double)N * WORK_PER_ELEMENT, n_threads);
    fa_for(k, adam_packed, &a, .items = slabs, .threads = n_threads);
    if (forms[0].split) fa_for(k, settle_rows, &a, .items = panels, .threads = n_threads);
    if (forms[1].split) fa_for(k, settle_columns, &a, .items = slabs, .threads = n_threads);
    for (int i = 0; i < 2; i++) unfit[i] = forms[i].split ? k->tiles->plain(forms + i) : 0;
    return FA_OK;
}

void fa_add_scaled(const fa_kernels *k, const void *x, double scale, void *y, int64_t n, int n_threads) {
    const arrays a = {.x = x, .y = y, .scale = scale};
    fa_for(k, add_scaled, &a, .items = n, .block = BLOCK,
           .threads = threads_for((double)n * WORK_PER_ELEMENT / 4, n_threads));
}

int fa_square_sum(const fa_kernels *k, const void *x, int64_t n, double *sum, int n_threads) {
    const int64_t blocks = ceil_div(n, BLOCK);
    const arrays a = {.x = x, .sums = fa_workspace(fa_size_mul(blocks, sizeof(double)))};
    if (!a.sums) return FA_NO_MEMORY;
    fa_for(k, square_sum, &a, .items = n, .block = BLOCK,
           .threads = threads_for((double)n * WORK_PER_ELEMENT / 4, n_threads));
    for (int64_t i = 0; i < blocks; i++) *sum += a.sums[i];
    return FA_OK;
}

void fa_relu_backward(const fa_kernels *k, const void *y, void *d, int64_t n, int n_threads) {
    const arrays a = {.x = y, .y = d};
    fa_for(k, relu_backward, &a, .items = n, .block = BLOCK,
           .threads = threads_for((double)n * WORK_PER_ELEMENT / 4, n_threads));
}

void fa_rotate(const fa_kernels *k, const fa_rotary *a, int n_threads) {
    const int64_t rows = a->B * a->T, width = a->H * a->D;
    fa_for(k, rotary, a, .items = rows, .block = block_of(width),
           .threads = threads_for((double)rows * (double)width * WORK_PER_ELEMENT / 4, n_threads));
}

void fa_largest(const fa_kernels *k, const void *x, int64_t rows, int64_t columns, int64_t count, void *values,
                int64_t *ids, int n_threads) {
    const arrays a = {.x = x, .y = values, .found = ids, .columns = columns, .row = count};
    fa_for(k, largest, &a, .items = rows, .block = block_of(columns),
           .threads = threads_for((double)rows * (double)columns * WORK_PER_ELEMENT / 4, n_threads));
}

void fa_gather(const fa_kernels *k, const void *table, int64_t size, const int64_t *ids, void *y, int64_t n,
               int64_t width, int n_threads) {
    const arrays a = {.x = table, .ids = ids, .y = y, .rows = n, .columns = width, .size = size};
    n_threads = threads_for((double)n * (double)width * (size ? WORK_PER_ELEMENT : 4), n_threads);
    if (size)
        fa_for(k, gather_columns, &a, .items = width, .block = panels_of(k, width, n_threads), .threads = n_threads);
    else
        fa_for(k, gather, &a, .items = n, .block = block_of(width), .threads = n_threads);
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
               void *table, int64_t size, int64_t width, int n_threads) {
    int bits = 1;
    if (n == 0 || width == 0) return FA_OK;
    while (bits < 56 && (int64_t)1 << bits < 2 * n) bits++;
    int64_t *lists = fa_workspace(fa_size_mul(2 * n + ((int64_t)2 << bits), sizeof(int64_t)));
    if (!lists) return FA_NO_MEMORY;
    list_rows(ids, n, skip, lists, lists + 2 * n, bits);
    const arrays a = {
        .x = dy, .row = dy_row, .ids = ids, .lists = lists, .y = table, .rows = n, .columns = width, .size = size};
    n_threads = threads_for((double)n * (double)width * (size ? WORK_PER_ELEMENT : 4), n_threads);
    fa_for(k, size ? scatter_columns : scatter, &a, .items = width, .block = panels_of(k, width, n_threads),
           .threads = n_threads);
    return FA_OK;
}

void fa_layer_norm_forward(const fa_kernels *k, const fa_layer_norm *a, int n_threads) {
    fa_for(k, norm_forward, a, .items = a->rows, .block = block_of(a->N),
           .threads = threads_for((double)a->rows * (double)a->N * 8, n_threads));
}

void fa_layer_norm_backward(const fa_kernels *k, const fa_layer_norm *a, int n_threads) {
    n_threads = threads_for((double)a->rows * (double)a->N * 8, n_threads);
    fa_for(k, norm_backward, a, .items = a->rows, .block = block_of(a->N), .threads = n_threads);
    if (!a->N) return;
    fa_for(k, norm_backward_columns, a, .items = a->N, .block = panels_of(k, a->N, n_threads), .threads = n_threads);
}

void fa_uniform(const uint64_t *seeds, int64_t step, int64_t draw, double *u, int64_t B) {
    /* The hash is dropout's with head -4, which no dropout has. */
    for (int64_t b = 0; b < B; b++) u[b] = fa_key_uniform(fa_row_key(seeds[b], -4, step), (uint32_t)draw);
}

typedef struct {
    const char *x;
    char *y;
    const uint64_t *seeds;
    double keep_scale;
    int64_t elements, blocks;
    uint32_t drop_below;
} drops;

/* One block of one sample. */
FA_BODY(dropout, drops, {
    const int64_t sample = first / a->blocks, at = sample * a->elements * k->element_bytes;
    const int64_t begin = first % a->blocks * BLOCK;
    k->dropout(a->x + at, a->y + at, a->seeds[sample], a->drop_below, a->keep_scale, begin,
               least(begin + BLOCK, a->elements));
})

void fa_dropout(const fa_kernels *k, const void *x, void *y, const uint64_t *seeds, uint32_t drop_below,
                double keep_scale, int64_t samples, int64_t elements, int n_threads) {
    const int64_t blocks = ceil_div(elements, BLOCK);
    const drops a = {x, y, seeds, keep_scale, elements, blocks, drop_below};
    fa_for(k, dropout, &a, .items = samples * blocks,
           .threads = threads_for((double)samples * (double)elements * 4, n_threads));
}
