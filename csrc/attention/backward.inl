/* Fused attention, backward, by recomputation: nothing of size Tq x Tk was saved, only each row's maximum and sum.
 *
 *   P_ij  = e^(s_ij - m_i) / l_i                        dP_ij = keep_ij (d_context_i . v_j) + d_weights_ij
 *   dS_ij = P_ij (dP_ij - delta_i)                      delta_i = sum_j P_ij dP_ij - d_lse_i   (passed in)
 *   d_value_j = sum_i keep_ij P_ij d_context_i          d_bias = dS
 *   g_ij = dS_ij modifier'_ij softcap'_ij scale         d_query, d_key, d_v: g through the score function
 *
 * A task is one (batch, key head); with a bias that is shared by heads or batch entries, all that share it, in order
 * for each block of keys, so that d_bias has one order of summation. For each block of keys (rows of the outer loop)
 * and of FA_QUERY_BLOCK queries:
 *   1. S  = scores of the block, as in the forward pass, options included          queries x PW
 *   2. dP = d_context x value^T, from value panels packed like keys
 *   3. P and g on the strips
 *   4. d_value += P^T d_context;   products: d_key += g^T query, d_query += g key;   others: block_backward
 *
 * Order of sums: d_query_i over keys ascending, d_key_j and d_value_j over queries ascending, where all heads of a
 * query that share the key head follow each other. Each block is one chain, and blocks are added (tile/sums.inl); a
 * turn is FA_QUERY_TURN rows. Sums for the score vector, for a bias that pairs share and for parameters of functions
 * from outside are kept in float64, the first from rows of 64 pairs and blocks, the last for each task.
 * Weights, and with them g and all sums of either, are FA_GROWN times what they are until they are stored: the same
 * bits, but far keys of scores that fall with distance meet no subnormal numbers on the way, each of which costs a
 * hundred cycles (ALiBi over 2048 keys: 1.40 of the time of scores without it, and 1.07 so). What would overflow
 * comes out non-finite, and is run again as it is.
 * Masked pairs: as in the forward pass, a task whose gradients come out non-finite is run again without those pairs. If
 * they stay so, a product or a sum may have overflowed: the caller repeats the call with less of everything
 * (fastattn/attention/overflow.py).
 *
 * Bound for D = Dv = 64 on two 512-bit units: 5 x 64 multiply-adds and about 20 other operations for a vector of
 * scores.
 */
#ifndef FA_ATTENTION_BACKWARD_INL
#define FA_ATTENTION_BACKWARD_INL
#include "../vec/vec.h"
#include "../kernels.h"
#include "../vec/math.h"
#include "../tile/fma.inl"
#include "../tile/sums.inl"
#include "rows.inl"

#define FA_BIAS_AHEAD 8 /* rows */
#define FA_QUERY_TURN (32 * FA_QUERY_BLOCK)
#if FA_BITS == 32
#define FA_GROWN 0x1p64f
#else
#define FA_GROWN 0x1p512
#endif

typedef struct {
    const fa_attention_grad *g;
    const fa_attention *a;
    const score_kernel *kernel;
    const real *delta;
    score_source scores;
    int64_t b, hk, group, ldq, block_keys;
    int64_t ldd, ldv, ldk; /* columns of D- and Dv-wide rows in the workspace, and of keys */
    int leave_out;         /* leave masked pairs out of every product */
    /* The outer block: its keys (packed, if the score does it), rows_stride apart, and its sums, ldd and ldv apart, in
     * the outputs themselves where their rows are whole vectors. Bit p of started: panel p holds sums; of kept: so do
     * the pairs, which begin with the panel's in high and low and go on with those of its values. */
    const real *rows;
    int64_t rows_stride;
    real *d_key, *d_value, *high, *low, *d_key_block;
    unsigned started, kept;
    double *d_v_total, *d_v_totals; /* of a head, and of all that backward_in_turns keeps */
    double *bias_sums; /* of an outer block, panel by panel; NULL: what a bias gets is added where it belongs */
    int64_t bias_rows;
    uint8_t *finite; /* of the heads of backward_in_turns */
    real *key_panels, *value_panels, *keys, *d_keys, *d_values;
    real *queries, *query_rows, *query_lost, *key_lost, *d_context, *d_query, *S, *dP, *slope, *before, *v, *d_v;
    double **sums; /* where gradients of parameters of functions from outside are added up */
    uint8_t *q_flags, *k_flags, *live;
    real grown;                         /* FA_GROWN, or 1 */
    real *d_queries;                    /* of all rows, while they are summed: the output, if that can be */
    const element *raw[FA_QUERY_BLOCK]; /* the inner block's queries */
} backward_state;

/* Rows of a bias that heads or batch entries share, if its gradient has another place for each pair of a block and is
 * not of float64; else 0. */
FA_FUNC int64_t shared_bias_rows(const fa_attention_grad *g) {
    const fa_attention *a = &g->f;
    const fa_strides4 *d = &g->d_bias_strides;
    const int shared = (a->H > 1 && d->head == 0) || (a->B > 1 && d->batch == 0);
    const int overlaps = (a->Tq > 1 && d->row == 0) || (a->Tk > 1 && d->column == 0);
    if (!FA_IN_PLACE || !g->d_bias || g->d_bias_wide || !shared || overlaps) return 0;
    return (d->head ? a->H / a->Hk : 1) * a->Tq;
}

FA_FUNC int64_t backward_layout(backward_state *s, const fa_attention_grad *g, char *workspace) {
    const fa_attention *a = &g->f;
    const score_kernel *kernel = score_kernels[a->score];
    const int pairs = kernel->block_backward != NULL, packs = kernel->pack_row != NULL;
    const int vector = fa_facts(a->score)->vector;
    char *w = workspace;
    s->a = a;
    s->g = g;
    s->kernel = kernel;
    s->ldd = pairs ? (a->D + 4 * VL - 1) / (4 * VL) * (4 * VL) : padded(a->D);
    s->ldv = padded(a->Dv);
    /* Blocks of pairs take the same few lines of each key: an odd number of them apart, they do not share sets of L1.
     * A function from outside has one number for all rows. */
    s->ldk = pairs && !a->pairwise ? (s->ldd / (4 * VL) | 1) * (4 * VL) : s->ldd;
    s->bias_rows = shared_bias_rows(g);
    s->block_keys = pairs ? 2 * PW : 4 * PW;
    const int64_t heads = s->bias_rows ? a->B * a->Hk : 1;
    int64_t panels = s->block_keys / PW, Q = FA_QUERY_BLOCK;
    s->key_panels = take(&w, panels, panel_stride(a->score, a->D));
    s->value_panels = take(&w, panels * PW, a->Dv);
    s->keys = take(&w, s->block_keys, s->ldk);
    s->d_keys = take(&w, s->block_keys, s->ldd);
    s->d_values = take(&w, s->block_keys, s->ldv);
    const int turns = a->H / a->Hk * a->Tq > FA_QUERY_TURN;
    s->high = take(&w, turns ? s->block_keys : 0, s->ldd + s->ldv);
    s->low = take(&w, turns ? s->block_keys : 0, s->ldd + s->ldv);
    s->d_key_block = take(&w, pairs ? PW : 0, s->ldk);
    s->d_v_total = s->d_v_totals = take_of(sizeof(double), &w, vector ? heads : 0, s->ldd);
    s->bias_sums = s->bias_rows ? take_of(sizeof(double), &w, s->bias_rows, s->block_keys) : NULL;
    s->finite = (uint8_t *)take_of(1, &w, s->bias_rows ? heads : 0, 1);
    s->ldq = packs ? query_width(a) : s->ldd;
    s->queries = take(&w, Q, s->ldq);
    s->query_rows = packs ? take(&w, Q, s->ldd) : s->queries;
    s->query_lost = packs ? take(&w, Q, s->ldd) : NULL;
    s->key_lost = packs ? take(&w, s->block_keys, s->ldd) : NULL;
    s->d_context = take(&w, Q, s->ldv);
    s->d_query = take(&w, Q, s->ldd);
    s->d_queries = take(&w, FA_IN_PLACE ? 0 : a->H / a->Hk * a->Tq, a->D);
    s->S = take(&w, Q, PW);
    s->dP = take(&w, Q, PW);
    s->slope = take(&w, has_slope(a), PW);
    s->before = take(&w, a->modifier ? 1 : 0, PW);
    s->sums = take_of(sizeof(double *), &w, sums_pointers(a), 1);
    s->v = take(&w, vector_room(a, s->ldd), 1);
    s->d_v = take(&w, vector ? s->ldd : 0, 1);
    s->q_flags = (uint8_t *)take(&w, Q, 1);
    s->k_flags = (uint8_t *)take(&w, s->block_keys, 1);
    s->live = (uint8_t *)take(&w, Q, PW);
    return w - workspace;
}

FA_FUNC int64_t attention_backward_workspace(const fa_attention_grad *g) {
    backward_state s;
    return backward_layout(&s, g, (char *)64);
}

/* d_bias += dS of n keys of a row. */
FA_FUNC void add_bias_gradient(const fa_attention_grad *g, int64_t b, int64_t h, int64_t i, int64_t j0, int64_t n,
                               const real *dS) {
    const fa_strides4 *strides = &g->d_bias_strides;
    const int64_t step = strides->column;
    const int64_t at = b * strides->batch + h * strides->head + i * strides->row + j0 * step;
    if (g->d_bias_wide) {
        double *db = (double *)g->d_bias + at;
        if (step == 1)
            for (int64_t j = 0; j < n; j++) db[j] += (double)dS[j];
        else
            for (int64_t j = 0; j < n; j++) db[j * step] += (double)dS[j];
        return;
    }
    element *db = (element *)g->d_bias + at; /* which no other pair adds to */
    if (step == 1)
        for (int64_t j = 0; j < n; j++) db[j] = to_element(to_real(db[j]) + dS[j]);
    else
        for (int64_t j = 0; j < n; j++) db[j * step] = to_element(to_real(db[j * step]) + dS[j]);
}

/* The same into the sums of an outer block. */
FA_FUNC void sum_bias_gradient(const backward_state *s, fa_row row, int64_t p, int64_t n, const real *dS) {
    const int64_t at = (s->g->d_bias_strides.head ? row.head * s->a->Tq : 0) + row.query;
    double *sums = s->bias_sums + (p * s->bias_rows + at) * PW;
    for (int64_t j = 0; j < n; j++) sums[j] += (double)dS[j];
}

/* The sums of keys first..last-1 to where they belong. */
FA_FUNC void backward_store_bias(const backward_state *s, int64_t first, int64_t last) {
    const fa_strides4 *d = &s->g->d_bias_strides;
    const int64_t head = d->head ? s->hk * s->group : 0;
    for (int64_t r = 0; r < s->bias_rows; r++) {
        element *db = (element *)s->g->d_bias + s->b * d->batch + (head + r / s->a->Tq) * d->head +
                      r % s->a->Tq * d->row + first * d->column;
        for (int64_t j0 = first, p = 0; j0 < last; j0 += PW, p++, db += PW * d->column) {
            const double *sums = s->bias_sums + (p * s->bias_rows + r) * PW;
            const int64_t n = last - j0 < PW ? last - j0 : PW;
            if (d->column == 1)
                for (int64_t j = 0; j < n; j++) db[j] = to_element((real)((double)to_real(db[j]) + sums[j]));
            else
                for (int64_t j = 0; j < n; j++) {
                    element *to = db + j * d->column;
                    *to = to_element((real)((double)to_real(*to) + sums[j]));
                }
        }
    }
}

/* Asks for n keys of a row of the bias' gradient: rows lie all keys apart, too far for the hardware to foresee. */
FA_INLINE void bias_gradient_ahead(const fa_attention_grad *g, int64_t b, int64_t h, int64_t i, int64_t j0, int64_t n) {
    const fa_strides4 *d = &g->d_bias_strides;
    const int64_t at = b * d->batch + h * d->head + i * d->row + j0, narrow = sizeof(element);
    const int64_t bytes = g->d_bias_wide ? (int64_t)sizeof(double) : narrow;
    for (int64_t c = 0; d->column == 1 && c < n * bytes; c += 64)
        __builtin_prefetch((const char *)g->d_bias + at * bytes + c, 1, 3);
}

/* Steps 1 to 3 for `rows` rows (from row r0 of the task) against n keys of panel p: S becomes P (after dropout), dP
 * becomes g. Returns 0 when no row may read any of the keys. */
FA_FUNC int backward_strips(backward_state *s, int64_t r0, int64_t rows, int64_t length, int64_t j0, int64_t n,
                            int64_t p, int count_sums) {
    const fa_attention *a = s->a;
    const fa_attention_grad *g = s->g;
    int64_t end = padded(n);
    if (!fa_rows_reach(a, s->b, s->hk * s->group, r0, rows, j0, j0 + n)) return 0;
    const real *panel = s->key_panels + p * panel_stride(a->score, a->D);
    for (int64_t r = 0; r < rows;) {
        int tile = balanced_rows(rows - r);
        const score_tile_rows t = {.rows = tile,
                                   .query = s->queries + r * s->ldq,
                                   .flags = s->q_flags + r,
                                   .raw = s->raw + r,
                                   .panel = panel,
                                   .first = j0,
                                   .keys = n,
                                   .S = s->S + r * PW,
                                   .lds = PW};
        s->kernel->tile(&s->scores, &t);
        r += tile;
    }
    micro_gemm(1, rows, n, s->d_context, s->ldv, 1, s->value_panels + p * a->Dv * PW, PW, s->dP, PW, a->Dv);

    /* Sums over many tasks are not run again: what they are made of grows behind them. */
    const int grows_late = (g->d_bias && count_sums) || (a->modifier && !a->modifier->sloped);
    const real own = s->kernel->block_backward ? (real)a->scale : (real)1; /* of a product it is in the queries */
    const real scale = grows_late ? own * s->grown : own;
    const vec shrunk = vset1(grows_late ? 1 / s->grown : (real)1);
    fa_row row = fa_task_row(a, r0), ahead = row;
    for (int64_t r = -FA_BIAS_AHEAD; r < rows; r++) {
        if (a->bias && r + FA_BIAS_AHEAD < rows) {
            const int64_t head = s->hk * s->group + ahead.head;
            bias_ahead(a, s->b, head, ahead.query, j0, n);
            if (g->d_bias && !s->bias_sums) bias_gradient_ahead(g, s->b, head, ahead.query, j0, n);
            ahead = fa_next_row(a, ahead);
        }
        if (r < 0) continue;
        int64_t head = s->hk * s->group + row.head, query = row.query;
        int64_t at = (s->b * a->H + head) * a->Tq + query;
        real *S = s->S + r * PW, *dP = s->dP + r * PW, *slope = has_slope(a) ? s->slope : NULL;
        real sum = a->row_sum[at], top = a->row_max[at];
        real delta = s->delta[at], inverse = sum == 0 ? (real)0 : 1 / sum;
        fa_range k = fa_row_range(a, s->b, head, length, query);
        int options = has_elementwise(a) || n < end || k.lo > j0 || k.hi < j0 + n;
        if (options) row_options(a, s->b, head, query, k, j0, n, S, slope, s->before);
        if (s->leave_out)
            for (int64_t j = 0; j < n; j++) s->live[r * PW + j] = S[j] != NEG_INF;
        if (a->seeds) row_dropout(a, s->b, head, query, j0, n, dP);
        if (g->d_weights) {
            const element *dw = g->d_weights + at * a->Tk + j0;
            for (int64_t j = 0; j < n; j++) dP[j] += to_real(dw[j]);
        }
        vec base = vset1(top == NEG_INF ? (real)0 : top), f = vset1(inverse * s->grown), d = vset1(delta);
        const vec gs = vset1(scale);
        const vec lowest = vset1(NEG_INF), zero = vset1(0), least = vset1(sum * FA_LEAST_WEIGHT);
        for (int64_t j = 0; j < end; j += VL) {
            vec score = vload(S + j), e = vexp_soft(score - base), P = vselect_lt(e, least, zero, e) * f;
            vec dS = P * shrunk * (vload(dP + j) - d);
            if (options) { /* what may not be read has a score of -inf: its dP and delta do not count, NaN or not */
                ivec masked = score == lowest;
                dS = (vec)((ivec)dS & ~masked);
            }
            vstore(S + j, P);
            vstore(dP + j, dS);
        }
        if (s->bias_sums && count_sums)
            sum_bias_gradient(s, row, p, n, dP);
        else if (g->d_bias && count_sums)
            add_bias_gradient(g, s->b, head, query, j0, n, dP);
        if (a->modifier) modifier_backward(a, s->before, dP, n, s->b, head, query, j0, s->sums);
        if (slope) slope_backward(slope, dP, end);
        if (scale != 1)
            for (int64_t j = 0; j < end; j += VL) vstore(dP + j, vload(dP + j) * gs);
        if (a->seeds) row_dropout(a, s->b, head, query, j0, n, S);
        row = fa_next_row(a, row);
    }
    return 1;
}

/* Step 4 for one block of rows and n keys of one panel, which has `of_panel`. */
FA_FUNC void backward_block(backward_state *s, real *d_query, int64_t rows, int64_t j0, int64_t n, int64_t of_panel,
                            int64_t p) {
    const fa_attention *a = s->a;
    real *d_value = s->d_value + p * PW * s->ldv, *d_key = s->d_key + p * PW * s->ldd;
    const real *keys = s->rows + p * PW * s->rows_stride;
    const int mode = s->started >> p & 1 ? MICRO_ADD : MICRO_FRESH, product = !s->kernel->block_backward;
    if (mode == MICRO_FRESH) { /* of the other keys of the panel */
        memset(d_value + n * s->ldv, 0, (size_t)((of_panel - n) * s->ldv) * sizeof(real));
        memset(d_key + n * s->ldd, 0, (size_t)((of_panel - n) * s->ldd) * sizeof(real));
    }
    s->started |= 1u << p;
    if (s->leave_out)
        unmasked_product(mode, n, rows, s->S, s->live, 1, PW, s->d_context, s->ldv, d_value, s->ldv, s->ldv);
    else
        micro_gemm(mode, n, s->ldv, s->S, 1, PW, s->d_context, s->ldv, d_value, s->ldv, rows);
    if (product && s->leave_out) {
        unmasked_product(mode, n, rows, s->dP, s->live, 1, PW, s->queries, s->ldd, d_key, s->ldd, s->ldd);
        unmasked_product(MICRO_ADD, rows, n, s->dP, s->live, PW, 1, keys, s->rows_stride, d_query, s->ldd, s->ldd);
    } else if (product) {
        micro_gemm(mode, n, s->ldd, s->dP, 1, PW, s->queries, s->ldd, d_key, s->ldd, rows);
        micro_gemm(MICRO_ADD, rows, s->ldd, s->dP, PW, 1, keys, s->rows_stride, d_query, s->ldd, n);
    } else {
        const int vector = s->scores.form.d_v != NULL;
        real *dk = s->d_key_block;
        memset(dk, 0, (size_t)(n * s->ldk) * sizeof(real));
        if (vector) memset(s->d_v, 0, (size_t)s->ldd * sizeof(real));
        const score_block block = {.rows = rows,
                                   .keys = n,
                                   .ld = s->ldd,
                                   .key_ld = s->ldk,
                                   .g = s->dP,
                                   .query = s->query_rows,
                                   .key = keys,
                                   .d_query = d_query,
                                   .d_key = dk,
                                   .q_flags = s->q_flags,
                                   .k_flags = s->k_flags + p * PW,
                                   .query_lost = s->query_lost,
                                   .key_lost = s->key_lost ? s->key_lost + p * PW * s->ldd : NULL,
                                   .raw_query = s->raw,
                                   .raw_key = s->scores.key + j0 * a->key_strides.row,
                                   .raw_key_row = a->key_strides.row};
        s->kernel->block_backward(&s->scores.form, &block);
        for (int64_t j = 0; j < n; j++, d_key += s->ldd, dk += s->ldk)
            for (int64_t c = 0; c < s->ldd; c += VL)
                vstore(d_key + c, mode == MICRO_ADD ? vload(d_key + c) + vload(dk + c) : vload(dk + c));
        for (int64_t t = 0; vector && t < s->ldd; t++) s->d_v_total[t] += (double)s->d_v[t];
    }
}

/* The sums of the outer block's `count` keys so far to their pairs, after a turn. */
FA_FUNC void backward_keep(backward_state *s, int64_t count) {
    for (int64_t j = 0, p = 0; j < count; j += PW, p++) {
        if (!(s->started >> p & 1)) continue;
        const int64_t n = count - j < PW ? count - j : PW, at = j * (s->ldd + s->ldv), of_values = at + n * s->ldd;
        real *high = s->high, *low = s->low;
        if (!(s->kept >> p & 1)) {
            memset(high + at, 0, (size_t)(n * (s->ldd + s->ldv)) * sizeof(real));
            memset(low + at, 0, (size_t)(n * (s->ldd + s->ldv)) * sizeof(real));
        }
        sum_keep(high + at, low + at, s->d_key + j * s->ldd, n * s->ldd);
        sum_keep(high + of_values, low + of_values, s->d_value + j * s->ldv, n * s->ldv);
        s->kept |= 1u << p;
    }
    s->started = 0;
}

/* The other way: what was kept becomes the sums. */
FA_FUNC void backward_settle(backward_state *s, int64_t count) {
    if (!s->kept) return;
    backward_keep(s, count);
    for (int64_t j = 0, p = 0; j < count; j += PW, p++) {
        if (!(s->kept >> p & 1)) continue;
        const int64_t n = count - j < PW ? count - j : PW, at = j * (s->ldd + s->ldv), of_values = at + n * s->ldd;
        sum_settle(s->d_key + j * s->ldd, s->high + at, s->low + at, n * s->ldd);
        sum_settle(s->d_value + j * s->ldv, s->high + of_values, s->low + of_values, n * s->ldv);
    }
    s->started = s->kept;
}

/* n numbers and zeros, up to ld. */
FA_INLINE void pad_row(real *dst, int64_t ld, const real *src, int64_t n) {
    scale_row(dst, src, n, 1);
    for (int64_t c = n; c < ld; c++) dst[c] = 0;
}

/* Gradients of `rows` queries from row r0: from all rows into rows of ldd, or back. */
FA_FUNC void backward_queries(const backward_state *s, int64_t r0, int64_t rows, real *d_query, int back) {
    const fa_attention *a = s->a;
    fa_row row = fa_task_row(a, r0);
    for (int64_t r = 0; r < rows; r++, row = fa_next_row(a, row)) {
        real *out = d_query + (row.head * a->Tq + row.query) * a->D, *in = s->d_query + r * s->ldd;
        if (back)
            memcpy(out, in, (size_t)a->D * sizeof(real));
        else
            pad_row(in, s->ldd, out, a->D);
    }
}

/* Packs keys and values first..stop-1, the outer block. */
FA_FUNC void backward_pack(backward_state *s, const element *value, int64_t first, int64_t stop) {
    const fa_attention *a = s->a;
    const int64_t count = stop - first;
    const element *keys = s->scores.key + first * a->key_strides.row;
    s->rows = row_in(keys, NULL, 0);
    s->rows_stride = a->key_strides.row;
    const score_kernel *kernel = s->kernel;
    const int of_rows = s->scores.form.estimates; /* panels of the packed rows: one exponential for both */
    if (!of_rows)
        pack_key_panels(a->score, &s->scores.form, s->scores.key, s->rows_stride, first, stop, s->key_panels,
                        (fa_ahead){0});
    const int copied = kernel->block_backward || !FA_IN_PLACE || unaligned_rows(keys, s->rows_stride, a->D);
    if (kernel->pack_row)
        for (int64_t j = 0; j < count; j++)
            kernel->pack_row(&s->scores.form, keys + j * s->rows_stride, s->keys + j * s->ldk, s->ldd, s->k_flags + j,
                             s->key_lost + j * s->ldd);
    else if (copied)
        load_block(s->keys, s->ldk, keys, s->rows_stride, count, a->D, 1);
    for (int64_t j = 0; of_rows && j < count; j += PW) {
        const int64_t n = count - j < PW ? count - j : PW;
        real *panel = s->key_panels + j / PW * panel_stride(a->score, a->D);
        pack_panel(panel, (const element *)(const void *)(s->keys + j * s->ldk), s->ldk, n,
                   a->D); /* both are float32 */
        kernel->close_panel(&s->scores.form, panel, n, s->k_flags + j);
    }
    if (copied) {
        s->rows = s->keys;
        s->rows_stride = s->ldk;
    }
    value += first * a->value_strides.row;
    for (int64_t j = 0; j < count; j += PW)
        pack_panel(s->value_panels + j * a->Dv, value + j * a->value_strides.row, a->value_strides.row,
                   count - j < PW ? count - j : PW, a->Dv);
}

/* Packs queries and d_context of `rows` rows from row r0, the inner block. */
FA_FUNC void backward_load(backward_state *s, int64_t r0, int64_t rows) {
    const fa_attention *a = s->a;
    fa_row row = fa_task_row(a, r0);
    for (int64_t r = 0; r < rows; r++, row = fa_next_row(a, row)) {
        int64_t head = s->hk * s->group + row.head;
        const element *q = s->raw[r] = a->query + row_at(&a->query_strides, s->b, head, row.query);
        const element *d = s->g->d_context + row_at(&s->g->d_context_strides, s->b, head, row.query);
        load_block(s->d_context + r * s->ldv, s->ldv, d, 0, 1, a->Dv, 1);
        real *lost = s->query_lost ? s->query_lost + r * s->ldd : NULL;
        pack_query(&s->scores, q, s->queries + r * s->ldq, s->q_flags + r, lost);
        if (!lost) continue;
        for (int64_t t = a->D; t < s->ldd; t++) lost[t] = 0;
        pad_row(s->query_rows + r * s->ldd, s->ldd, s->queries + r * s->ldq, a->D);
    }
}

/* n rows of D columns times a factor and the score's vector, if it has one, from rows ldd apart into contiguous rows,
 * which may be the same. */
FA_FUNC void backward_store(const backward_state *s, const real *src, element *dst, int64_t n, real factor) {
    const int64_t D = s->a->D;
    const real *v = s->scores.form.d_v ? s->v : NULL;
    if (!v && factor == 1 && src == row_in(dst, NULL, 0)) return;
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < D; c += VL) {
            const vec x = vload_n(src + i * s->ldd + c, D - c);
            estore_n(dst + i * D + c, v ? times_vector(x, vload(v + c), factor) : x * vset1(factor), D - c);
        }
}

/* Whole vectors of sums as they are. Returns 0 if one is not finite. */
FA_FUNC int backward_shrink(const backward_state *s, real *sums, int64_t n) {
    const vec shrunk = vset1(1 / s->grown);
    vec z = vset1(0);
    for (int64_t c = 0; c < n; c += VL) {
        const vec x = vload(sums + c) * shrunk;
        z = vfma(x, vset1(0), z);
        vstore(sums + c, x);
    }
    const real sum = vhsum(z);
    return sum == sum;
}

/* One (batch, key head): blocks of keys begin..end-1, all of them or one after the other. Returns 0 if something
 * non-finite came out. */
FA_FUNC int backward_head(backward_state *s, int64_t begin, int64_t end, int count_sums) {
    const fa_attention *a = s->a;
    const fa_attention_grad *g = s->g;
    const int vector = s->scores.form.d_v != NULL;
    const int whole_d = FA_IN_PLACE && s->ldd == a->D, whole_v = FA_IN_PLACE && s->ldv == a->Dv;
    const int64_t rows_total = s->group * a->Tq, length = fa_key_length(a, s->b);
    const element *value = a->value + row_at(&a->value_strides, s->b, s->hk, 0);
    s->scores.key = a->key + row_at(&a->key_strides, s->b, s->hk, 0);
    element *query_out = g->d_query + (s->b * a->H + s->hk * s->group) * a->Tq * a->D;
    element *d_key = g->d_key + (s->b * a->Hk + s->hk) * a->Tk * a->D;
    element *d_value = g->d_value + (s->b * a->Hk + s->hk) * a->Tk * a->Dv;
    real *d_query = row_out(query_out, s->d_queries);
    const real factor = s->kernel->gradient_factor ? s->kernel->gradient_factor(&s->scores.form) : (real)1;
    int finite = 1;
    const int in_place = whole_d && s->group == 1; /* rows of a block of queries lie in the output as they do here */
    if (begin == 0) {
        memset(d_query, 0, (size_t)(rows_total * a->D) * sizeof(real));
        for (int64_t t = 0; vector && t < s->ldd; t++) s->d_v_total[t] = 0;
    }

    for (int64_t first = begin; first < end; first += s->block_keys) {
        const int64_t last = first + s->block_keys < a->Tk ? first + s->block_keys : a->Tk;
        const int64_t stop = last < length ? last : length;
        s->d_key = whole_d ? row_out(d_key + first * a->D, NULL) : s->d_keys;
        s->d_value = whole_v ? row_out(d_value + first * a->Dv, NULL) : s->d_values;
        s->started = s->kept = 0;
        if (first < stop) backward_pack(s, value, first, stop);
        for (int64_t r0 = 0; r0 < rows_total && first < stop; r0 += FA_QUERY_BLOCK) {
            const int64_t rows = rows_total - r0 < FA_QUERY_BLOCK ? rows_total - r0 : FA_QUERY_BLOCK;
            if (r0 && r0 % FA_QUERY_TURN == 0) backward_keep(s, stop - first);
            if (!fa_rows_reach(a, s->b, s->hk * s->group, r0, rows, first, stop)) continue;
            backward_load(s, r0, rows);
            real *dq = in_place ? d_query + r0 * a->D : s->d_query;
            if (!in_place) backward_queries(s, r0, rows, d_query, 0);
            /* Whole vectors of the last keys that these rows may read: of a causal block a twelfth is beyond. */
            const int64_t reach = first + padded(fa_rows_end(a, s->b, s->hk * s->group, r0, rows) - first);
            const int64_t until = reach < stop ? reach : stop;
            for (int64_t j0 = first, p = 0; j0 < until; j0 += PW, p++) {
                int64_t n = until - j0 < PW ? until - j0 : PW;
                if (backward_strips(s, r0, rows, length, j0, n, p, count_sums))
                    backward_block(s, dq, rows, j0, n, stop - j0 < PW ? stop - j0 : PW, p);
            }
            if (!in_place) backward_queries(s, r0, rows, d_query, 1);
            finite &= !has_nonfinite(dq, rows * s->ldd);
        }
        backward_settle(s, stop - first);
        for (int64_t j0 = first, p = 0; j0 < last; j0 += PW, p++) {
            const int64_t n = last - j0 < PW ? last - j0 : PW;
            /* keys beyond the length, and panels that no row reached */
            int64_t set = !(s->started >> p & 1) || stop < j0 ? 0 : stop - j0 < n ? stop - j0 : n;
            real *dk = s->d_key + p * PW * s->ldd, *dv = s->d_value + p * PW * s->ldv;
            memset(dk + set * s->ldd, 0, (size_t)((n - set) * s->ldd) * sizeof(real));
            memset(dv + set * s->ldv, 0, (size_t)((n - set) * s->ldv) * sizeof(real));
            finite &= backward_shrink(s, dk, set * s->ldd) & backward_shrink(s, dv, set * s->ldv);
            backward_store(s, dk, d_key + j0 * a->D, n, factor);
            for (int64_t j = 0; !whole_v && j < n; j++) store_row(d_value + (j0 + j) * a->Dv, dv + j * s->ldv, a->Dv);
        }
    }
    if (end < a->Tk) return finite;
    for (int64_t r = 0; r < rows_total; r++) {
        /* row by row: these are D apart, not ldd */
        backward_store(s, d_query + r * a->D, query_out + r * a->D, 1,
                       (s->kernel->block_backward ? factor : (real)a->scale) / s->grown);
    }
    for (int64_t t = 0; vector && t < s->ldd; t++) s->d_v_total[t] /= (double)s->grown;
    return finite;
}

/* The i-th (batch, key head) of a task. */
FA_FUNC void backward_at(backward_state *s, const fa_plan *plan, int64_t task, int64_t i) {
    const int64_t each = plan->heads_per_task, head_tasks = s->a->Hk / each;
    s->b = task / head_tasks * plan->batches_per_task + i / each;
    s->hk = task % head_tasks * each + i % each;
    s->leave_out = 0;
    s->grown = s->a->pairwise ? 1 : FA_GROWN; /* their sums are over many tasks, too */
    s->d_v_total = s->d_v_totals + (s->bias_sums ? i * s->ldd : 0);
}

/* All heads of a task that share a bias, block of keys by block of keys: the bias and the sums of its gradient stay in
 * L2, and nothing as large as the bias is of float64. */
FA_FUNC void backward_in_turns(backward_state *s, const fa_plan *plan, int64_t task, double *sums) {
    const fa_attention *a = s->a;
    const int64_t heads = plan->heads_per_task * plan->batches_per_task;
    memset(s->finite, 1, (size_t)heads);
    for (int64_t first = 0, last; first < a->Tk; first = last) {
        last = first + s->block_keys < a->Tk ? first + s->block_keys : a->Tk;
        memset(s->bias_sums, 0, (size_t)(s->bias_rows * s->block_keys) * sizeof(double));
        for (int64_t i = 0; i < heads; i++) {
            backward_at(s, plan, task, i);
            point_at_sums(a, sums, s->sums);
            s->finite[i] &= (uint8_t)backward_head(s, first, last, 1);
        }
        backward_store_bias(s, first, last);
    }
}

FA_FUNC void attention_backward(const fa_attention_grad *g, const fa_plan *plan, int64_t task, void *workspace) {
    backward_state s;
    backward_layout(&s, g, workspace);
    const fa_attention *a = s.a;
    s.delta = plan->delta;
    s.group = a->H / a->Hk;
    s.scores = score_from(a, s.v, s.ldd, s.ldq);
    if (fa_facts(a->score)->vector) s.scores.form.d_v = s.d_v;
    double *sums = task_sums(a, plan, task);
    s.scores.form.sums = s.sums + sums_of_modifier(a);
    const int in_turns = s.bias_sums && a->Tk;
    if (in_turns) backward_in_turns(&s, plan, task, sums);
    for (int64_t i = 0; i < plan->heads_per_task * plan->batches_per_task; i++) {
        backward_at(&s, plan, task, i);
        point_at_sums(a, sums, s.sums);
        int finite = in_turns ? s.finite[i] : backward_head(&s, 0, a->Tk, 1);
        for (int again = 0; !finite && again < (s.grown == 1 ? 1 : 2); again++) {
            s.leave_out = 1;
            if (again) s.grown = 1;
            point_at_sums(a, NULL, s.sums);
            finite = backward_head(&s, 0, a->Tk, 0);
        }
        backward_report(plan, a, s.b * a->Hk + s.hk, s.d_v_total, finite);
    }
}

/* delta_i = d_context_i . context_i + sum_j weights_ij d_weights_ij - d_lse_i for rows row0..row1-1 of (B, H, Tq).
 * d_weights needs f.weights; rows that read nothing get 0. */
FA_FUNC void attention_backward_delta(const fa_attention_grad *g, const fa_plan *plan, int64_t row0, int64_t row1) {
    const fa_attention *a = &g->f;
    for (int64_t at = row0; at < row1; at++) {
        int64_t b = at / a->Tq / a->H, h = at / a->Tq % a->H, i = at % a->Tq;
        const element *o = a->context + row_at(&a->context_strides, b, h, i);
        const element *d = g->d_context + row_at(&g->d_context_strides, b, h, i);
        vec sum = vset1(0);
        for (int64_t c = 0; c < a->Dv; c += VL) sum = vfma(eload_n(o + c, a->Dv - c), eload_n(d + c, a->Dv - c), sum);
        if (g->d_weights) {
            const element *w = a->weights + at * a->Tk, *dw = g->d_weights + at * a->Tk;
            for (int64_t j = 0; j < a->Tk; j += VL) {
                vec x = eload_n(w + j, a->Tk - j), y = eload_n(dw + j, a->Tk - j);
                ivec used = x != vset1(0); /* a masked pair's d_weights may be anything */
                sum = vfma(x, (vec)((ivec)y & used), sum);
            }
        }
        real value = vhsum(sum) - (g->d_lse ? to_real(g->d_lse[at]) : (real)0);
        plan->delta[at] = a->row_sum[at] == 0 ? (real)0 : value;
    }
}

/* The gradient of the score vector: the tasks' sums, in ascending order. */
FA_FUNC void attention_backward_vector(const fa_attention_grad *g, const fa_plan *plan) {
    const int64_t D = g->f.D, heads = g->f.B * g->f.Hk;
    for (int64_t t = 0; t < D; t++) {
        double sum = 0;
        for (int64_t head = 0; head < heads; head++) sum += (double)plan->d_score_vectors[head * D + t];
        g->d_score_vector[t] = to_element((real)sum);
    }
}
#endif
