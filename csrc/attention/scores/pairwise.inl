/* Scores that functions from outside compute of a tile of queries and keys, sum_d f(q_id, k_jd); kernels.h says what
 * they are given.
 *
 * Queries and keys come as they are, in the panels of all scores. A pair that does not count has g = 0, of which the
 * functions make nothing. Bound: that of the functions, and one call for a tile of 6 rows or a block.
 */
#ifndef FA_ATTENTION_SCORES_PAIRWISE_INL
#define FA_ATTENTION_SCORES_PAIRWISE_INL
#include "../../vec/vec.h"
#include "kernel.h"

FA_FUNC void pairwise_tile(const score_source *s, const score_tile_rows *t) {
    const fa_compiled *f = s->form.functions;
    const real scale = (real)s->a->scale;
    ((fa_pairs)f->forward)(t->query, s->ldq, t->rows, t->panel, PW, t->keys, s->form.D, t->S, t->lds, f->parameters);
    for (int r = 0; scale != 1 && r < t->rows; r++)
        for (int64_t j = 0; j < t->keys; j++) t->S[r * t->lds + j] *= scale;
}

FA_FUNC void pairwise_pair_backward(const score_form *s, real g, const element *q, const element *k, real *dq,
                                    real *dk) {
    const fa_compiled *f = s->functions;
    const real *query = row_in(q, NULL, 0), *key = row_in(k, NULL, 0); /* functions are of types that lie as they are */
    ((fa_pairs_backward)f->backward)(&g, 1, query, key, s->D, 1, 1, s->D, dq, dk, f->parameters, s->sums);
}

FA_FUNC void pairwise_block_backward(const score_form *s, const score_block *b) {
    const fa_compiled *f = s->functions;
    ((fa_pairs_backward)f->backward)(b->g, PW, b->query, b->key, b->ld, b->rows, b->keys, s->D, b->d_query, b->d_key,
                                     f->parameters, s->sums);
}

static const score_kernel pairwise_kernel = {
    .tile = pairwise_tile,
    .pair_backward = pairwise_pair_backward,
    .block_backward = pairwise_block_backward,
};
#endif
