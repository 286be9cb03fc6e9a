/* Scores that are the product of query and key. Bound: a multiply-add for a feature of a vector of scores. */
#ifndef FA_ATTENTION_SCORES_DOT_INL
#define FA_ATTENTION_SCORES_DOT_INL
#include "../../vec/vec.h"
#include "../../tile/fma.inl"
#include "../../tile/row.inl"
#include "kernel.h"

FA_FUNC void dot_tile(const score_source *s, const score_tile_rows *t) {
    const int vectors = (int)((t->keys + VL - 1) / VL);
    for (int c = 0; c < vectors; c += NV)
        micro_table[1][t->rows - 1][(vectors - c < NV ? vectors - c : NV) - 1](t->query, s->ldq, 1, t->panel + c * VL,
                                                                               PW, t->S + c * VL, t->lds, s->form.D);
}

FA_FUNC real dot_pair(const score_form *f, const element *q, const element *k) { return product_in_chains(q, k, f->D); }

FA_FUNC void dot_pair_backward(const score_form *f, real g, const element *q, const element *k, real *dq, real *dk) {
    row_add(dk, g, q, f->D);
    row_add(dq, g, k, f->D);
}

FA_FUNC void dot_query_backward(const score_form *f, const element *q, const element *key, int64_t key_row,
                                int64_t keys, const element *weights, const real *g, element *dq) {
    (void)q;
    for (int64_t t = 0; t < f->D; t += VL) {
        vec sum = vset1(0);
        for (int64_t j = 0; j < keys; j++)
            if (to_real(weights[j]) != 0) sum = vfma(vset1(g[j]), eload_n(key + j * key_row + t, f->D - t), sum);
        estore_n(dq + t, sum, f->D - t);
    }
}

static const score_kernel dot_kernel = {
    .tile = dot_tile,
    .pair = dot_pair,
    .pair_backward = dot_pair_backward,
    .query_backward = dot_query_backward,
};
#endif
