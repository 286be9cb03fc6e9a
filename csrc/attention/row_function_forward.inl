/* Attention with a function of rows, forward: for a block of rows of one (batch, key head)
 *   1. scores of all keys                            rows x Tk, kept (sparse.inl)
 *   2. options on a row, and the function, which writes the weights over the scores
 *   3. dropout, then context = weights x values, in chunks of FA_CHUNK keys, each one chain; chunks are added, and what
 *      rounding loses there is kept apart (tile/sums.inl)
 *
 * A row depends on its own keys alone, so blocks, tasks and threads change no bit. A task is rows_per_task rows.
 * Bound for D = Dv = 64 on two 512-bit units: 64 + 64 multiply-adds and what the function does for a vector of scores.
 */
#ifndef FA_ATTENTION_ROW_FUNCTION_FORWARD_INL
#define FA_ATTENTION_ROW_FUNCTION_FORWARD_INL
#include "../dropout.h"
#include "../vec/vec.h"
#include "../kernels.h"
#include "../tile/fma.inl"
#include "../tile/sums.inl"
#include "rows.inl"
#include "tile.inl"
#include "forward.inl"
#include "sparse.inl"
#include "row_function.inl"

#ifndef FA_ROW_FUNCTION_ROWS
#define FA_ROW_FUNCTION_ROWS 192
#define FA_ROW_FUNCTION_BYTES (768 * 1024)
#endif

typedef struct {
    sparse_state f;
    int64_t ldv;
    real *values, *acc, *total, *lost, *buffers;
} row_function_state;

/* As many as keep their scores in L2: the more rows, the less often keys are packed. At least one tile. */
FA_FUNC int64_t row_function_rows(const fa_attention *a) {
    const int64_t bytes = whole_pieces(a->Tk + 1) * (int64_t)sizeof(real),
                  rows = FA_ROW_FUNCTION_BYTES / bytes / MR * MR;
    return rows < MR ? MR : rows > FA_ROW_FUNCTION_ROWS ? FA_ROW_FUNCTION_ROWS : rows;
}

FA_FUNC int64_t row_function_layout(row_function_state *s, const fa_attention *a, int64_t rows, char *workspace) {
    char *w = sparse_layout(&s->f, a, rows, workspace);
    s->ldv = padded(a->Dv);
    s->values = take(&w, FA_CHUNK, s->ldv);
    s->acc = take(&w, MR, s->ldv);
    s->total = take(&w, rows, s->ldv);
    s->lost = take(&w, a->Tk > FA_CHUNK ? rows : 0, s->ldv);
    s->buffers = take(&w, a->row_buffers, s->f.lds);
    return w - workspace;
}

FA_FUNC int64_t row_function_forward_workspace(const fa_attention *a, const fa_plan *plan) {
    row_function_state s;
    return row_function_layout(&s, a, plan->rows_per_task, (char *)64);
}

/* Step 2 and dropout for row r of the block. */
FA_FUNC void row_function_weights(row_function_state *s, int64_t r, fa_row row, fa_range k) {
    const fa_attention *a = s->f.a;
    const int64_t b = s->f.b, head = s->f.first_head + row.head;
    const row_pieces at = pieces_of(k);
    real *S = s->f.S + r * s->f.lds + at.first;
    if (at.n && row_function_options(a, b, head, row.query, k, S, NULL, NULL))
        ((fa_row_forward)a->row_function->forward)(S, at.n, b, head, row.query, at.first, a->row_function->parameters,
                                                   s->buffers);
    else
        memset(S, 0, (size_t)at.n * sizeof(real));
    if (a->weights) {
        element *w = a->weights + ((b * a->H + head) * a->Tq + row.query) * a->Tk;
        memset(w, 0, (size_t)a->Tk * sizeof(element));
        for (int64_t j = 0; j < at.n; j += VL) estore_n(w + at.first + j, vload(S + j), at.n - j);
    }
    row_function_flush(at.n, S, NULL);
    if (a->seeds) row_dropout(a, b, head, row.query, at.first, at.n, S);
}

/* Step 3 for keys first..last-1, of one chunk, whose values begin with that of key `first`. */
FA_FUNC void row_function_context(row_function_state *s, int64_t first, int64_t last, const real *values,
                                  int64_t stride) {
    const fa_attention *a = s->f.a;
    const int one_chunk = a->Tk <= FA_CHUNK;
    fa_row row = fa_task_row(a, s->f.row0);
    for (int64_t r = 0; r < s->f.rows;) {
        const int tile = balanced_rows(s->f.rows - r);
        row_pieces at[MR];
        int64_t lo = last, hi = first;
        for (int i = 0; i < tile; i++, row = fa_next_row(a, row)) {
            at[i] = pieces_of(fa_row_range(a, s->f.b, s->f.first_head + row.head, s->f.length, row.query));
            if (!at[i].n) continue;
            lo = at[i].first < lo ? at[i].first : lo;
            hi = at[i].first + at[i].n > hi ? at[i].first + at[i].n : hi;
        }
        lo = lo < first ? first : lo;
        hi = hi > last ? last : hi;
        real *weights = s->f.S + r * s->f.lds + lo, *total = s->total + r * s->ldv, *to = one_chunk ? total : s->acc;
        if (lo < hi) {
            for (int i = 0; i < tile; i++) clear_beside(s->f.S + (r + i) * s->f.lds, at[i], lo, hi);
            const real *from = values + (lo - first) * stride;
            micro_gemm(MICRO_FRESH, tile, a->Dv, weights, s->f.lds, 1, from, stride, to, s->ldv, hi - lo);
            if (has_nonfinite(to, tile * s->ldv))
                nonzero_product(MICRO_FRESH, tile, s->ldv, weights, s->f.lds, 1, from, stride, to, s->ldv, hi - lo);
            if (!one_chunk) sum_keep(total, s->lost + r * s->ldv, to, tile * s->ldv);
        }
        r += tile;
    }
}

FA_FUNC void row_function_forward(const fa_attention *a, const fa_plan *plan, int64_t task, void *workspace) {
    row_function_state s;
    const int64_t group_rows = a->H / a->Hk * a->Tq, block = plan->rows_per_task;
    int64_t b, hk;
    row_function_layout(&s, a, block, workspace);
    forward_head(a, task / plan->pieces, &b, &hk);
    sparse_load(&s.f, b, hk);
    const int64_t row0 = task % plan->pieces * block, rows = group_rows - row0 < block ? group_rows - row0 : block;
    sparse_scores(&s.f, row0, rows);
    int64_t key_lo = s.f.length, key_hi = 0;
    fa_row row = fa_task_row(a, row0);
    for (int64_t r = 0; r < rows; r++, row = fa_next_row(a, row)) {
        const fa_range k = fa_row_range(a, b, s.f.first_head + row.head, s.f.length, row.query);
        const row_pieces at = pieces_of(k);
        row_function_weights(&s, r, row, k);
        if (!at.n) continue;
        key_lo = at.first < key_lo ? at.first : key_lo;
        key_hi = k.hi > key_hi ? k.hi : key_hi;
    }
    memset(s.total, 0, (size_t)(rows * s.ldv) * sizeof(real));
    if (a->Tk > FA_CHUNK) memset(s.lost, 0, (size_t)(rows * s.ldv) * sizeof(real));
    for (int64_t start = key_lo / FA_CHUNK * FA_CHUNK; start < key_hi; start += FA_CHUNK) {
        const int64_t first = start > key_lo ? start : key_lo;
        const int64_t last = start + FA_CHUNK < key_hi ? start + FA_CHUNK : key_hi;
        if (a->allow && !fa_rows_reach(a, b, s.f.first_head, row0, rows, first, last)) continue;
        int64_t stride = a->value_strides.row;
        const element *from = s.f.value + first * stride;
        const real *values = row_in(from, NULL, 0);
        if (!FA_IN_PLACE || s.ldv != a->Dv || (rows >= FA_COPY_ROWS && unaligned_rows(from, stride, a->Dv))) {
            load_block(s.values, s.ldv, from, stride, last - first, a->Dv, 1);
            values = s.values;
            stride = s.ldv;
        }
        row_function_context(&s, first, last, values, stride);
    }
    if (a->Tk > FA_CHUNK) sum_settle(s.total, s.total, s.lost, rows * s.ldv);
    row = fa_task_row(a, row0);
    for (int64_t r = 0; r < rows; r++, row = fa_next_row(a, row)) {
        element *out = a->context + row_at(&a->context_strides, b, s.f.first_head + row.head, row.query);
        for (int64_t c = 0; c < a->Dv; c += VL) /* no zero is negative: how a row was cut must not show */
            estore_n(out + c, vload(s.total + r * s.ldv + c) + vset1(0), a->Dv - c);
    }
}
#endif
