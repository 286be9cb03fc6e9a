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
#include "../vec/vec.h"
#include "../kernels.h"
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

FA_FUNC real product_less(const element *a, const element *b, int64_t n) {
    const vec root = vset1(FA_LESS_ROOT);
    vec sum = vset1(0);
    for (int64_t c = 0; c < n; c += VL) sum = vfma(eload_n(a + c, n - c) * root, eload_n(b + c, n - c) * root, sum);
    return vhsum(sum);
}

FA_INLINE real weight_gradient(const int lessened, const element *d_context, const element *value, int64_t n,
                               const element *d_weight) {
    real d = lessened ? product_less(d_context, value, n) : product_in_chains(d_context, value, n);
    if (d_weight) d += lessened ? less(to_real(*d_weight)) : to_real(*d_weight);
    return d;
}

/* One row of weights p_j, which factors may multiply: NULL for those that are 1. */
typedef struct {
    const element *p, *d_context, *value, *d_weights, *factor;
    element *d_factor; /* with a factor */
    int64_t value_row, Dv;
} row_gradient;

/* d[j] = dP_j for keys first..last-1, 0 where p_j is; returns sum_j p_j dP_j, not finite where some dP_j is not. */
FA_INLINE real weight_gradients(const int lessened, const row_gradient *row, int64_t first, int64_t last, real *d) {
    real delta = 0;
    for (int64_t j = first; j < last; j++) {
        const real p = to_real(row->p[j]);
        d[j] = 0;
        if (p == 0) continue;
        d[j] = weight_gradient(lessened, row->d_context, row->value + j * row->value_row, row->Dv,
                               row->d_weights ? row->d_weights + j : NULL);
        if (row->factor) {
            const real d_factor = p * d[j];
            row->d_factor[j] = to_element(lessened ? whole(d_factor) : d_factor);
            d[j] *= to_real(row->factor[j]);
        }
        delta += p * d[j];
    }
    return delta;
}

FA_FUNC void query_gradient_row(const fa_query_gradient *g, int64_t b) {
    const element *weights = g->weights + b * g->Tk;
    const row_gradient row = {.p = weights,
                              .d_context = g->d_context + b * g->d_context_row,
                              .value = g->value + b * g->value_strides.batch,
                              .d_weights = g->d_weights ? g->d_weights + b * g->Tk : NULL,
                              .value_row = g->value_strides.row,
                              .Dv = g->Dv};
    real *d_score = g->d_score + b * g->Tk;
    const real scale = (real)g->scale;
    real delta = weight_gradients(0, &row, 0, g->Tk, d_score);
    const int lessened = delta - delta != 0;
    if (lessened) delta = weight_gradients(1, &row, 0, g->Tk, d_score);
    for (int64_t j = 0; j < g->Tk; j++) {
        const real p = to_real(weights[j]);
        if (p == 0) continue;
        d_score[j] = scale * (p * (d_score[j] - delta));
        if (lessened) d_score[j] = whole(d_score[j]);
    }
    const score_form form = {.activation = g->activation, .D = g->D, .vector = g->score_vector};
    score_kernels[g->score]->query_backward(&form, g->query + b * g->query_row, g->key + b * g->key_strides.batch,
                                            g->key_strides.row, g->Tk, weights, d_score, g->d_query + b * g->D);
}

FA_FUNC void query_backward(const fa_query_gradient *g, int64_t first, int64_t last) {
    for (int64_t b = first; b < last; b++) query_gradient_row(g, b);
}
#endif
