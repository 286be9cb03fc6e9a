/* Attention with a function of rows, backward, by recomputation: nothing was saved.
 *
 *   dP_ij = keep_ij (d_context_i . v_j) + d_weights_ij
 *   the function makes P_i and dS_i of the rows s_i and dP_i        d_bias = dS
 *   d_value_j = sum_i keep_ij P_ij d_context_i
 *   g_ij = dS_ij modifier'_ij softcap'_ij scale                    d_query, d_key, d_v: g through the score function
 *
 * A task is one (batch, key head), or all that share a bias, in order. Keys and values are packed once; then for each
 * block of FA_QUERY_BLOCK rows, whose scores and dP, rows x Tk, are kept:
 *   1. S = scores, dP = d_context x value^T, panel by panel
 *   2. row by row: options, the function, and g; P stands where S was, g where dP was
 *   3. d_value += P^T d_context; products: d_key += g^T query, d_query += g key; others: block_backward
 *
 * Order of sums: as in backward.inl, d_query_i over panels ascending, d_key_j and d_value_j over blocks of rows, turns
 * of FA_QUERY_TURN rows kept apart (tile/sums.inl); sums for parameters over rows ascending.
 * Bound for D = Dv = 64 on two 512-bit units: 5 x 64 multiply-adds, and what the function does, for a vector of scores.
 */
#ifndef FA_ATTENTION_ROW_FUNCTION_BACKWARD_INL
#define FA_ATTENTION_ROW_FUNCTION_BACKWARD_INL
#include "../dropout.h"
#include "../vec/vec.h"
#include "../kernels.h"
#include "../tile/fma.inl"
#include "../tile/sums.inl"
#include "rows.inl"
#include "backward.inl"
#include "row_function.inl"

typedef struct {
    backward_state b; /* whose outer block is all keys, and S and dP are lds apart */
    int64_t lds, length;
    real *buffers, *strip; /* strip: g of one panel */
    double **sums;         /* of the function */
    uint8_t *started;      /* whether a panel holds sums */
} row_function_backward_state;

FA_FUNC int64_t row_function_backward_layout(row_function_backward_state *state, const fa_attention_grad *g,
                                             char *workspace) {
    backward_state *s = &state->b;
    const fa_attention *a = &g->f;
    char *w = workspace + backward_layout(s, g, workspace);
    const int64_t keys = (a->Tk + PW - 1) / PW * PW, Q = FA_QUERY_BLOCK;
    const int whole_d = FA_IN_PLACE && s->ldd == a->D, whole_v = FA_IN_PLACE && s->ldv == a->Dv;
    const int turns = a->H / a->Hk * a->Tq > FA_QUERY_TURN;
    state->lds = whole_pieces(a->Tk);
    s->block_keys = keys;
    s->key_panels = take(&w, keys / PW, panel_stride(a->score, a->D));
    s->value_panels = take(&w, keys, a->Dv);
    s->keys = take(&w, keys, s->ldd);
    s->d_keys = take(&w, whole_d ? 0 : a->Tk, s->ldd); /* else sums are in the outputs */
    s->d_values = take(&w, whole_v ? 0 : a->Tk, s->ldv);
    s->high = take(&w, turns ? a->Tk : 0, s->ldd + s->ldv);
    s->low = take(&w, turns ? a->Tk : 0, s->ldd + s->ldv);
    s->key_lost = s->kernel->pack_row ? take(&w, keys, s->ldd) : NULL;
    s->k_flags = (uint8_t *)take(&w, keys, 1);
    s->S = take(&w, Q, state->lds);
    s->dP = take(&w, Q, state->lds);
    s->slope = take(&w, has_slope(a), state->lds);
    s->before = take(&w, a->modifier != NULL, state->lds);
    state->strip = take(&w, s->kernel->block_backward ? Q : 0, PW);
    state->buffers = take(&w, a->row_buffers, state->lds);
    state->started = (uint8_t *)take(&w, keys / PW, 1);
    return w - workspace;
}

FA_FUNC int64_t row_function_backward_workspace(const fa_attention_grad *g) {
    row_function_backward_state s;
    return row_function_backward_layout(&s, g, (char *)64);
}

/* Step 1 for keys first..last-1, first a multiple of FA_PIECE. */
FA_FUNC void row_function_products(row_function_backward_state *state, int64_t r0, int64_t rows, int64_t first,
                                   int64_t last) {
    backward_state *s = &state->b;
    const fa_attention *a = s->a;
    const int64_t lds = state->lds;
    for (int64_t j0 = first; j0 < last; j0 += PW) {
        const int64_t n = last - j0 < PW ? last - j0 : PW;
        if (!fa_rows_reach(a, s->b, s->hk * s->group, r0, rows, j0, j0 + n)) {
            for (int64_t r = 0; r < rows; r++) {
                memset(s->S + r * lds + j0, 0, PW * sizeof(real));
                memset(s->dP + r * lds + j0, 0, PW * sizeof(real));
            }
            continue;
        }
        for (int64_t r = 0; r < rows;) {
            const int tile = balanced_rows(rows - r);
            s->kernel->tile(&s->scores,
                            &(score_tile_rows){.rows = tile,
                                               .query = s->queries + r * s->ldq,
                                               .flags = s->q_flags + r,
                                               .raw = s->raw + r,
                                               .panel = s->key_panels + j0 / PW * panel_stride(a->score, a->D),
                                               .first = j0,
                                               .keys = n,
                                               .S = s->S + r * lds + j0,
                                               .lds = lds});
            r += tile;
        }
        micro_gemm(MICRO_FRESH, rows, n, s->d_context, s->ldv, 1, s->value_panels + j0 * a->Dv, PW, s->dP + j0, lds,
                   a->Dv);
    }
}

/* Step 2 for row r of the block, whose S and dP become P and g for keys first..last-1. */
FA_FUNC void row_function_gradient(row_function_backward_state *state, int64_t r, fa_row row, int64_t first,
                                   int64_t last, int count_sums) {
    backward_state *s = &state->b;
    const fa_attention *a = s->a;
    const fa_attention_grad *g = s->g;
    const int64_t b = s->b, head = s->hk * s->group + row.head, query = row.query;
    const fa_range k = fa_row_range(a, b, head, state->length, query);
    const row_pieces at = pieces_of(k);
    const int64_t n = at.n, end = padded(n), j0 = at.first;
    real *S = s->S + r * state->lds, *dP = s->dP + r * state->lds;
    clear_beside(S, at, first, last);
    clear_beside(dP, at, first, last);
    if (!n) return;
    S += j0;
    dP += j0;
    if (!row_function_options(a, b, head, query, k, S, has_slope(a) ? s->slope : NULL, s->before)) {
        memset(S, 0, (size_t)whole_pieces(n) * sizeof(real)); /* where the options wrote */
        memset(dP, 0, (size_t)n * sizeof(real));
        return;
    }
    for (int64_t j = n; j < whole_pieces(n); j++) dP[j] = 0;
    if (a->seeds) row_dropout(a, b, head, query, j0, n, dP);
    if (g->d_weights) {
        const element *dw = g->d_weights + ((b * a->H + head) * a->Tq + query) * a->Tk + j0;
        for (int64_t j = 0; j < n; j++) dP[j] += to_real(dw[j]);
    }
    ((fa_row_backward)a->row_function->backward)(S, dP, n, b, head, query, j0, a->row_function->parameters, state->sums,
                                                 state->buffers);
    row_function_flush(n, S, dP);
    if (g->d_bias && count_sums) add_bias_gradient(g, b, head, query, j0, n, dP);
    if (a->modifier) modifier_backward(a, s->before, dP, n, b, head, query, j0, s->sums);
    if (has_slope(a)) slope_backward(s->slope, dP, n);
    if (s->kernel->block_backward) /* of a product the scale is in the queries */
        for (int64_t j = 0; j < end; j += VL) vstore(dP + j, vload(dP + j) * vset1((real)a->scale));
    if (a->seeds) row_dropout(a, b, head, query, j0, n, S);
}

/* Sums for keys beyond the first n of panel p become 0. */
FA_FUNC void row_function_clear(row_function_backward_state *state, int64_t p, int64_t n) {
    backward_state *s = &state->b;
    const int64_t first = p * PW + n, left = s->a->Tk - p * PW, more = (left < PW ? left : PW) - n;
    memset(s->d_key + first * s->ldd, 0, (size_t)(more * s->ldd) * sizeof(real));
    memset(s->d_value + first * s->ldv, 0, (size_t)(more * s->ldv) * sizeof(real));
}

/* Step 3 for the keys of panel p, n of them. */
FA_FUNC void row_function_panel(row_function_backward_state *state, int64_t rows, int64_t p, int64_t n) {
    backward_state *s = &state->b;
    const int64_t lds = state->lds, j0 = p * PW;
    const real *keys = s->rows + j0 * s->rows_stride;
    real *d_key = s->d_key + j0 * s->ldd, *d_value = s->d_value + j0 * s->ldv, *P = s->S + j0, *g = s->dP + j0;
    void (*product)(int, int64_t, int64_t, const real *, int64_t, int64_t, const real *, int64_t, real *, int64_t,
                    int64_t) = s->leave_out ? nonzero_product : micro_gemm;
    const int mode = state->started[p] ? MICRO_ADD : MICRO_FRESH;
    if (!state->started[p]) row_function_clear(state, p, n);
    state->started[p] = 1;
    product(mode, n, s->ldv, P, 1, lds, s->d_context, s->ldv, d_value, s->ldv, rows);
    if (!s->kernel->block_backward) {
        product(mode, n, s->ldd, g, 1, lds, s->queries, s->ldd, d_key, s->ldd, rows);
        product(MICRO_ADD, rows, s->ldd, g, lds, 1, keys, s->rows_stride, s->d_query, s->ldd, n);
        return;
    }
    const int vector = s->scores.form.d_v != NULL;
    real *dk = s->d_key_block;
    for (int64_t r = 0; r < rows; r++) memcpy(state->strip + r * PW, g + r * lds, PW * sizeof(real));
    memset(dk, 0, (size_t)(n * s->ldd) * sizeof(real));
    if (vector) memset(s->d_v, 0, (size_t)s->ldd * sizeof(real));
    const score_block block = {.rows = rows,
                               .keys = n,
                               .ld = s->ldd,
                               .key_ld = s->ldd,
                               .g = state->strip,
                               .query = s->query_rows,
                               .key = keys,
                               .d_query = s->d_query,
                               .d_key = dk,
                               .q_flags = s->q_flags,
                               .k_flags = s->k_flags + j0,
                               .query_lost = s->query_lost,
                               .key_lost = s->key_lost ? s->key_lost + j0 * s->ldd : NULL,
                               .raw_query = s->raw,
                               .raw_key = s->scores.key + j0 * s->a->key_strides.row,
                               .raw_key_row = s->a->key_strides.row};
    s->kernel->block_backward(&s->scores.form, &block);
    for (int64_t c = 0; c < n * s->ldd; c += VL)
        vstore(d_key + c, mode == MICRO_ADD ? vload(d_key + c) + vload(dk + c) : vload(dk + c));
    for (int64_t t = 0; vector && t < s->ldd; t++) s->d_v_total[t] += (double)s->d_v[t];
}

/* Sums that no row has added to become 0. */
FA_FUNC void row_function_rest(row_function_backward_state *state) {
    for (int64_t p = 0; p * PW < state->b.a->Tk; p++)
        if (!state->started[p]) row_function_clear(state, p, 0);
}

/* One (batch, key head). Returns 0 if something that is not finite came out. */
FA_FUNC int row_function_head(row_function_backward_state *state, int count_sums) {
    backward_state *s = &state->b;
    const fa_attention *a = s->a;
    const fa_attention_grad *g = s->g;
    const int64_t total = s->group * a->Tq, length = state->length = fa_key_length(a, s->b);
    const int64_t of_keys = a->Tk * s->ldd, of_values = a->Tk * s->ldv, panels = s->block_keys / PW;
    const int64_t first_head = s->hk * s->group;
    element *query_out = g->d_query + (s->b * a->H + first_head) * a->Tq * a->D;
    element *key_out = g->d_key + (s->b * a->Hk + s->hk) * a->Tk * a->D;
    element *value_out = g->d_value + (s->b * a->Hk + s->hk) * a->Tk * a->Dv;
    real *d_query = row_out(query_out, s->d_queries);
    const real factor = s->kernel->gradient_factor ? s->kernel->gradient_factor(&s->scores.form) : (real)1;
    int turns = 0, finite = 1;
    s->scores.key = a->key + row_at(&a->key_strides, s->b, s->hk, 0);
    s->d_key = FA_IN_PLACE && s->ldd == a->D ? row_out(key_out, NULL) : s->d_keys;
    s->d_value = FA_IN_PLACE && s->ldv == a->Dv ? row_out(value_out, NULL) : s->d_values;
    memset(d_query, 0, (size_t)(total * a->D) * sizeof(real));
    memset(state->started, 0, (size_t)panels);
    for (int64_t t = 0; s->scores.form.d_v && t < s->ldd; t++) s->d_v_total[t] = 0;
    if (length) backward_pack(s, a->value + row_at(&a->value_strides, s->b, s->hk, 0), 0, length);
    for (int64_t r0 = 0; r0 < total && length; r0 += FA_QUERY_BLOCK) {
        const int64_t rows = total - r0 < FA_QUERY_BLOCK ? total - r0 : FA_QUERY_BLOCK;
        if (r0 && r0 % FA_QUERY_TURN == 0) {
            if (!turns) {
                memset(s->high, 0, (size_t)(of_keys + of_values) * sizeof(real));
                memset(s->low, 0, (size_t)(of_keys + of_values) * sizeof(real));
            }
            turns = 1;
            row_function_rest(state);
            sum_keep(s->high, s->low, s->d_key, of_keys);
            sum_keep(s->high + of_keys, s->low + of_keys, s->d_value, of_values);
            memset(state->started, 0, (size_t)panels);
        }
        int64_t lo = length, hi = 0;
        fa_row row = fa_task_row(a, r0);
        for (int64_t r = 0; r < rows; r++, row = fa_next_row(a, row)) {
            const row_pieces at = pieces_of(fa_row_range(a, s->b, first_head + row.head, length, row.query));
            if (!at.n) continue;
            lo = at.first < lo ? at.first : lo;
            hi = at.first + at.n > hi ? at.first + at.n : hi;
        }
        if (lo >= hi) continue;
        backward_load(s, r0, rows);
        row_function_products(state, r0, rows, lo, hi);
        row = fa_task_row(a, r0);
        for (int64_t r = 0; r < rows; r++, row = fa_next_row(a, row))
            row_function_gradient(state, r, row, lo, hi, count_sums);
        memset(s->d_query, 0, (size_t)(rows * s->ldd) * sizeof(real));
        for (int64_t j0 = lo; j0 < hi; j0 += PW) {
            const int64_t n = hi - j0 < PW ? hi - j0 : PW;
            if (fa_rows_reach(a, s->b, first_head, r0, rows, j0, j0 + n)) row_function_panel(state, rows, j0 / PW, n);
        }
        backward_queries(s, r0, rows, d_query, 1);
        finite &= !has_nonfinite(s->d_query, rows * s->ldd);
    }
    row_function_rest(state);
    if (turns) {
        sum_keep(s->high, s->low, s->d_key, of_keys);
        sum_keep(s->high + of_keys, s->low + of_keys, s->d_value, of_values);
        sum_settle(s->d_key, s->high, s->low, of_keys);
        sum_settle(s->d_value, s->high + of_keys, s->low + of_keys, of_values);
    }
    finite &= !has_nonfinite(s->d_key, of_keys) && !has_nonfinite(s->d_value, of_values);
    backward_store(s, s->d_key, key_out, a->Tk, factor);
    for (int64_t j = 0; s->d_value == s->d_values && j < a->Tk; j++)
        store_row(value_out + j * a->Dv, s->d_value + j * s->ldv, a->Dv);
    for (int64_t r = 0; r < total; r++) /* row by row: these are D apart, not ldd */
        backward_store(s, d_query + r * a->D, query_out + r * a->D, 1,
                       s->kernel->block_backward ? factor : (real)a->scale);
    return finite;
}

FA_FUNC void row_function_backward(const fa_attention_grad *g, const fa_plan *plan, int64_t task, void *workspace) {
    row_function_backward_state state;
    backward_state *s = &state.b;
    row_function_backward_layout(&state, g, workspace);
    const fa_attention *a = s->a;
    const int64_t head_tasks = a->Hk / plan->heads_per_task;
    s->group = a->H / a->Hk;
    s->scores = score_from(a, s->v, s->ldd, s->ldq);
    if (fa_facts(a->score)->vector) s->scores.form.d_v = s->d_v;
    double *sums = task_sums(a, plan, task);
    s->scores.form.sums = s->sums + sums_of_modifier(a);
    state.sums = s->sums + sums_of_scores(a);
    for (int64_t i = 0; i < plan->batches_per_task; i++)
        for (int64_t j = 0; j < plan->heads_per_task; j++) {
            s->b = task / head_tasks * plan->batches_per_task + i;
            s->hk = task % head_tasks * plan->heads_per_task + j;
            s->leave_out = 0;
            point_at_sums(a, sums, s->sums);
            int finite = row_function_head(&state, 1);
            if (!finite) {
                s->leave_out = 1;
                point_at_sums(a, NULL, s->sums);
                finite = row_function_head(&state, 0);
            }
            backward_report(plan, a, s->b * a->Hk + s->hk, s->d_v_total, finite);
        }
}
#endif
