/* Gradient of one query a sample, for decoders whose next query depends on this context: the weights are those that
 * the forward pass returned, and gradients of keys and values are left to one pass over all steps (backward.c).
 *
 *   dP_j = d_context . value_j + d_weights_j    delta = sum_j P_j dP_j
 *   dS_j = scale P_j (dP_j - delta)             d_query = sum_j dS_j d score(query, key_j) / d query
 *
 * query (B, D), key (B, Tk, D), value (B, Tk, Dv), weights (B, Tk), d_context (B, Dv)
 * d_query (B, D), d_score (B, Tk): dS; both contiguous
 *
 * A pair of weight 0 counts for nothing, and its key and value are not read: they may be masked. Order of sums: keys
 * ascending; a product of d_context and a value in four chains that are joined at its end.
 *
 * Bound: B Tk (Dv + D) multiply-adds and as many loads, and for additive scores B Tk D values of act', about 16
 * operations each. That is small beside the step's matrix products (3 D D B and more) while Tk is below D.
 */
#ifndef FA_ATTENTION_QUERY_GRADIENT_INL
#define FA_ATTENTION_QUERY_GRADIENT_INL
#include "../kernels.h"
#include "../vec/vec.h"
#include "../tile/row.inl"
#include "scores/scores.inl"

/* FA_LESS times a gradient of weights, d_context . value + d_weight: finite for all finite ones of up to 2^16 elements.
 * A row in which one overflows is computed of these; its gradients are linear in them, and become whole at the end. */
#undef FA_LESS_ROOT
#if FA_BITS == 32
#define FA_LESS_ROOT 0x1p-72f
#else
#define FA_LESS_ROOT 0x1p-520
#endif
FA_INLINE real less(real x) { return x * FA_LESS_ROOT * FA_LESS_ROOT; }
FA_INLINE real whole(real x) { return x * (1 / FA_LESS_ROOT) * (1 / FA_LESS_ROOT); }

FA_FUNC real product_less(const real *a, const real *b, int64_t n) {
    const vec root = vset1(FA_LESS_ROOT);
    vec sum = vset1(0);
    for (int64_t c = 0; c < n; c += VL) sum = vfma(vload_n(a + c, n - c) * root, vload_n(b + c, n - c) * root, sum);
    return vhsum(sum);
}

FA_INLINE real weight_gradient(const int lessened, const real *d_context, const real *value, int64_t n,
                               const real *d_weight) {
    real d = lessened ? product_less(d_context, value, n) : product_in_chains(d_context, value, n);
    if (d_weight) d += lessened ? less(*d_weight) : *d_weight;
    return d;
}

/* One row of weights p_j, which factors may multiply: NULL for those that are 1. */
typedef struct {
    const real *p, *d_context, *value, *d_weights, *factor;
    real *d_factor; /* with a factor */
    int64_t value_row, Dv;
} row_gradient;

/* d[j] = dP_j for keys first..last-1, 0 where p_j is; returns sum_j p_j dP_j, not finite where some dP_j is not. */
FA_INLINE real weight_gradients(const int lessened, const row_gradient *row, int64_t first, int64_t last, real *d) {
    real delta = 0;
    for (int64_t j = first; j < last; j++) {
        d[j] = 0;
        if (row->p[j] == 0) continue;
        d[j] = weight_gradient(lessened, row->d_context, row->value + j * row->value_row, row->Dv,
                               row->d_weights ? row->d_weights + j : NULL);
        if (row->factor) {
            row->d_factor[j] = row->p[j] * d[j];
            if (lessened) row->d_factor[j] = whole(row->d_factor[j]);
            d[j] *= row->factor[j];
        }
        delta += row->p[j] * d[j];
    }
    return delta;
}

FA_FUNC void query_gradient_row(const fa_query_gradient *g, int64_t b) {
    const real *query = (const real *)g->query + b * g->query_row;
    const real *key = (const real *)g->key + b * g->key_strides.batch;
    const real *value = (const real *)g->value + b * g->value_strides.batch;
    const real *weights = (const real *)g->weights + b * g->Tk;
    const real *d_context = (const real *)g->d_context + b * g->d_context_row;
    const real *d_weights = g->d_weights ? (const real *)g->d_weights + b * g->Tk : NULL;
    real *d_score = (real *)g->d_score + b * g->Tk;
    const real scale = (real)g->scale;
    const row_gradient row = {weights, d_context, value, d_weights, NULL, NULL, g->value_strides.row, g->Dv};
    real delta = weight_gradients(0, &row, 0, g->Tk, d_score);
    const int lessened = delta - delta != 0;
    if (lessened) delta = weight_gradients(1, &row, 0, g->Tk, d_score);
    for (int64_t j = 0; j < g->Tk; j++) {
        if (weights[j] == 0) continue;
        d_score[j] = scale * (weights[j] * (d_score[j] - delta));
        if (lessened) d_score[j] = whole(d_score[j]);
    }
    const score_form form = {g->activation, g->D, g->score_vector, NULL};
    score_kernels[g->score]->query_backward(&form, query, key, g->key_strides.row, g->Tk, weights, d_score,
                                            (real *)g->d_query + b * g->D);
}

FA_FUNC void query_backward(const fa_query_gradient *g, int64_t first, int64_t last) {
    for (int64_t b = first; b < last; b++) query_gradient_row(g, b);
}
#endif
