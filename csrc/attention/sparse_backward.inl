/* Attention with sparse weights, backward, by recomputation: nothing was saved.
 *
 *   dP_ij = keep_ij (d_context_i . v_j) + d_weights_ij           for the keys of row i that have a weight
 *   dS_ij = s_ij (dP_ij - delta_i)                               ops/entmax.inl
 *   d_value_j += keep_ij P_ij d_context_i                        d_bias_ij = dS_ij
 *   g_ij = dS_ij modifier'_ij softcap'_ij scale;   d_query, d_key, d_v: g through the score function
 *
 * A task is one (batch, key head), or all that share a bias, in order. It walks blocks of rows; scores and weights as
 * in the forward pass, then for each row the keys of its list, ascending. Order of sums: d_query_i over keys
 * ascending, one chain; d_key_j and d_value_j over rows ascending, one chain for each turn of FA_SPARSE_TURN rows
 * (tile/sums.inl). A key without a weight is neither read nor written.
 *
 * Bound for D = Dv = 64 on two 512-bit units: 64 multiply-adds for a vector of scores; for each key with a weight
 * 2 Dv + 2 D multiply-adds (additive: about 40 D operations, for the activation) and twice as many loads.
 */
#ifndef FA_ATTENTION_SPARSE_BACKWARD_INL
#define FA_ATTENTION_SPARSE_BACKWARD_INL
#include "../dropout.h"
#include "../vec/vec.h"
#include "../kernels.h"
#include "../tile/sums.inl"
#include "rows.inl"
#include "backward.inl"
#include "query_gradient.inl"
#include "sparse.inl"
#include "normalizers/entmax.inl"
#include "../ops/entmax.inl"

#define FA_SPARSE_TURN 384

typedef struct {
    sparse_state f;
    const fa_attention_grad *g;
    real *d_query, *d_v;
    real *d_key, *d_value;       /* of a turn: where all are summed, or with more turns than one turn and turn + Tk D */
    real *turn, *low, *sums;     /* sums: of d_query, d_key and d_value, where the outputs cannot hold them */
    double *d_v_total, *dP, *dS; /* dS: with a normalizer from outside only */
    real *d_scores;              /* of all keys of a row, with a modifier only */
    double **sums_at;            /* for parameters of functions from outside */
} sparse_backward_state;

FA_FUNC int64_t sparse_backward_layout(sparse_backward_state *s, const fa_attention_grad *g, char *workspace) {
    const fa_attention *a = &g->f;
    char *w = sparse_layout(&s->f, a, sparse_rows(a), workspace);
    s->g = g;
    const int vector = fa_facts(a->score)->vector;
    s->d_v = take(&w, vector ? a->D : 0, 1);
    const int turns = a->H / a->Hk * a->Tq > FA_SPARSE_TURN;
    s->turn = take(&w, turns ? a->Tk : 0, a->D + a->Dv);
    s->low = take(&w, turns ? a->Tk : 0, a->D + a->Dv);
    s->sums = take(&w, FA_IN_PLACE ? 0 : 1, a->H / a->Hk * a->Tq * a->D + a->Tk * (a->D + a->Dv));
    s->d_v_total = take_of(sizeof(double), &w, vector, a->D);
    s->d_scores = take(&w, a->modifier ? s->f.lds : 0, 1);
    s->sums_at = take_of(sizeof(double *), &w, sums_pointers(a), 1);
    s->dP = (double *)w;
    w += s->f.lds * (int64_t)sizeof(double);
    s->dS = (double *)w;
    w += a->row_gradient ? s->f.lds * (int64_t)sizeof(double) : 0;
    return w - workspace;
}

FA_FUNC int64_t sparse_backward_workspace(const fa_attention_grad *g) {
    sparse_backward_state s;
    return sparse_backward_layout(&s, g, (char *)64);
}

/* dS of a row's list, through the modifier, which takes all keys of the row's range. */
FA_FUNC void sparse_modifier_backward(sparse_backward_state *s, fa_row at, double *dS) {
    const fa_attention *a = s->f.a;
    const sparse_row *row = &s->f.row;
    const int64_t head = s->f.first_head + at.head;
    const fa_range k = fa_row_range(a, s->f.b, head, s->f.length, at.query);
    if (k.lo >= k.hi) return;
    memset(s->d_scores + k.lo, 0, (size_t)(k.hi - k.lo) * sizeof(real));
    for (int64_t i = 0; i < row->n; i++) s->d_scores[row->key[i]] = (real)dS[i];
    modifier_backward(a, s->f.before + k.lo, s->d_scores + k.lo, k.hi - k.lo, s->f.b, head, at.query, k.lo, s->sums_at);
    for (int64_t i = 0; i < row->n; i++) dS[i] = (double)s->d_scores[row->key[i]];
}

FA_FUNC void sparse_backward_row(sparse_backward_state *s, fa_row at) {
    const fa_attention_grad *g = s->g;
    const fa_attention *a = &g->f;
    const sparse_row *row = &s->f.row;
    const int64_t b = s->f.b, head = s->f.first_head + at.head, number = (b * a->H + head) * a->Tq + at.query;
    const element *d_context = g->d_context + row_at(&g->d_context_strides, b, head, at.query);
    const element *query = sparse_query(&s->f, at);
    const element *d_weights = g->d_weights ? g->d_weights + number * a->Tk : NULL;
    const uint64_t row_key = a->seeds ? fa_row_key(a->seeds[b], head, at.query) : 0;
    real *d_query = s->d_query + (at.head * a->Tq + at.query) * a->D;
    double *dP = s->dP, *d_alpha = g->d_alpha ? g->d_alpha + number : NULL;
    for (int64_t i = 0; i < row->n; i++) {
        const int64_t j = row->key[i];
        const int dropped = a->seeds && fa_key_hash(row_key, (uint32_t)j) < a->drop_below;
        const real keep = dropped ? (real)0 : a->seeds ? (real)a->keep_scale : (real)1;
        dP[i] = 0;
        if (!dropped) {
            dP[i] = (double)(keep * product_in_chains(d_context, s->f.value + j * a->value_strides.row, a->Dv));
            row_add(s->d_value + j * a->Dv, (real)row->p[i] * keep, d_context, a->Dv);
        }
        if (d_weights) dP[i] += (double)to_real(d_weights[j]);
    }
    if (a->row_gradient) {
        if (row->n) a->row_gradient(row->y, row->p, dP, s->dS, row->n);
        dP = s->dS;
    } else {
        entmax_back(row, a->alpha[head * a->alpha_stride], dP, d_alpha);
    }
    for (int64_t i = 0; g->d_bias && i < row->n; i++) {
        const real dS = (real)dP[i];
        add_bias_gradient(g, b, head, at.query, row->key[i], 1, &dS);
    }
    if (a->modifier && !a->modifier->sloped) sparse_modifier_backward(s, at, dP);
    for (int64_t i = 0; i < row->n; i++) {
        const int64_t j = row->key[i];
        const element *key = s->f.scores.key + j * a->key_strides.row;
        real x = (real)dP[i];
        if (has_slope(a)) x = x == 0 ? (real)0 : x * s->f.slope[j];
        x *= (real)a->scale;
        if (x == 0) continue;
        score_kernels[a->score]->pair_backward(&s->f.scores.form, x, query, key, d_query, s->d_key + j * a->D);
    }
}

/* Adds the sums of a turn to the outputs. */
FA_FUNC void sparse_keep(sparse_backward_state *s, real *d_key, real *d_value) {
    const fa_attention *a = s->f.a;
    const int64_t keys = a->Tk * a->D, values = a->Tk * a->Dv;
    sum_keep(d_key, s->low, s->d_key, keys);
    sum_keep(d_value, s->low + keys, s->d_value, values);
    memset(s->turn, 0, (size_t)(keys + values) * sizeof(real));
}

/* One (batch, key head): all its rows. */
FA_FUNC void sparse_backward_head(sparse_backward_state *s, const fa_plan *plan, int64_t b, int64_t hk) {
    const fa_attention_grad *g = s->g;
    const fa_attention *a = &g->f;
    const int64_t total = a->H / a->Hk * a->Tq, block = sparse_rows(a);
    const int vector = fa_facts(a->score)->vector;
    sparse_load(&s->f, b, hk);
    s->f.scores.form.d_v = s->d_v;
    s->f.scores.form.sums = s->sums_at + sums_of_modifier(a);
    element *query_out = g->d_query + (b * a->H + s->f.first_head) * a->Tq * a->D;
    element *key_out = g->d_key + (b * a->Hk + hk) * a->Tk * a->D;
    element *value_out = g->d_value + (b * a->Hk + hk) * a->Tk * a->Dv;
    s->d_query = row_out(query_out, s->sums);
    real *d_key = row_out(key_out, s->sums + total * a->D);
    real *d_value = row_out(value_out, s->sums + (total + a->Tk) * a->D);
    const int turns = total > FA_SPARSE_TURN;
    s->d_key = turns ? s->turn : d_key;
    s->d_value = turns ? s->turn + a->Tk * a->D : d_value;
    memset(s->d_query, 0, (size_t)(total * a->D) * sizeof(real));
    memset(d_key, 0, (size_t)(a->Tk * a->D) * sizeof(real));
    memset(d_value, 0, (size_t)(a->Tk * a->Dv) * sizeof(real));
    if (turns) {
        memset(s->turn, 0, (size_t)(a->Tk * (a->D + a->Dv)) * sizeof(real));
        memset(s->low, 0, (size_t)(a->Tk * (a->D + a->Dv)) * sizeof(real));
    }
    for (int64_t t = 0; vector && t < a->D; t++) s->d_v_total[t] = 0;
    for (int64_t row0 = 0; row0 < total; row0 += block) {
        const int64_t rows = total - row0 < block ? total - row0 : block;
        sparse_scores(&s->f, row0, rows);
        fa_row row = fa_task_row(a, row0);
        for (int64_t r = 0; r < rows; r++, row = fa_next_row(a, row)) {
            if (turns && row0 + r && (row0 + r) % FA_SPARSE_TURN == 0) sparse_keep(s, d_key, d_value);
            if (vector) memset(s->d_v, 0, (size_t)a->D * sizeof(real));
            sparse_weights(&s->f, r, row, has_slope(s->f.a));
            sparse_backward_row(s, row);
            for (int64_t t = 0; vector && t < a->D; t++) s->d_v_total[t] += (double)s->d_v[t];
        }
    }
    if (turns) {
        sparse_keep(s, d_key, d_value);
        sum_settle(d_key, d_key, s->low, a->Tk * a->D);
        sum_settle(d_value, d_value, s->low + a->Tk * a->D, a->Tk * a->Dv);
    }
    const int finite = !has_nonfinite(s->d_query, total * a->D) && !has_nonfinite(d_key, a->Tk * a->D) &&
                       !has_nonfinite(d_value, a->Tk * a->Dv);
    backward_report(plan, a, b * a->Hk + hk, s->d_v_total, finite);
    const real factor = vector ? score_kernels[a->score]->gradient_factor(&s->f.scores.form) : (real)1;
    for (int64_t i = 0; vector && i < total + a->Tk; i++) {
        real *at = i < total ? s->d_query + i * a->D : d_key + (i - total) * a->D;
        for (int64_t c = 0; c < a->D; c += VL)
            vstore_n(at + c, times_vector(vload_n(at + c, a->D - c), vload_n(s->f.v + c, a->D - c), factor), a->D - c);
    }
    row_done(query_out, s->d_query, total * a->D);
    row_done(key_out, d_key, a->Tk * a->D);
    row_done(value_out, d_value, a->Tk * a->Dv);
}

FA_FUNC void sparse_backward(const fa_attention_grad *g, const fa_plan *plan, int64_t task, void *workspace) {
    sparse_backward_state s;
    sparse_backward_layout(&s, g, workspace);
    const int64_t head_tasks = g->f.Hk / plan->heads_per_task;
    point_at_sums(&g->f, task_sums(&g->f, plan, task), s.sums_at);
    for (int64_t i = 0; i < plan->batches_per_task; i++)
        for (int64_t j = 0; j < plan->heads_per_task; j++)
            sparse_backward_head(&s, plan, task / head_tasks * plan->batches_per_task + i,
                                 task % head_tasks * plan->heads_per_task + j);
}
#endif
