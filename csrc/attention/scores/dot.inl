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

#ifdef vcolumns
/* Squares of keys become columns in registers, which meet the queries at once. One query has two squares side by side:
 * its sums are chains, each of which waits for itself. */
FA_INLINE void dot_columns(const int queries, const int squares, const int fours, const score_source *s,
                           const score_tile_rows *t, const element *key, int64_t keys, real *S) {
    const element *rows[2 * VL];
    vec sum[2][MR];
#pragma GCC unroll 32
    for (int i = 0; i < squares * VL; i++) rows[i] = key + (i < keys ? i : keys - 1) * s->key_row;
    /* The keys come from memory: their lines are asked for in order, as pack_panel does. */
    for (int64_t j = 0; j < keys; j++)
        for (int64_t d = 0; d < s->form.D; d += VL) (void)*(const volatile element *)(key + j * s->key_row + d);
#pragma GCC unroll 2
    for (int n = 0; n < squares; n++)
#pragma GCC unroll 6
        for (int r = 0; r < queries; r++) sum[n][r] = vset1(0);
    for (int64_t d = 0; d < s->form.D; d += 4)
#pragma GCC unroll 2
        for (int n = 0; n < squares; n++) {
            vec column[4];
            vcolumns(column, rows + n * VL, d, n ? fours : squares == 1 ? fours : VL / 4);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
#pragma GCC unroll 6
                for (int r = 0; r < queries; r++)
                    sum[n][r] = vfma(vset1(t->query[r * s->ldq + d + i]), column[i], sum[n][r]);
        }
#pragma GCC unroll 2
    for (int n = 0; n < squares; n++)
#pragma GCC unroll 6
        for (int r = 0; r < queries; r++) vstore(S + r * t->lds + n * VL, sum[n][r]);
}

FA_INLINE void dot_lying(const int queries, const score_source *s, const score_tile_rows *t, const element *key) {
    for (int64_t j = 0; j < t->keys;) {
        const int64_t keys = t->keys - j;
        const element *from = key + j * s->key_row;
        real *S = t->S + j;
        if (queries <= 2 && keys > VL + 4)
            dot_columns(queries, 2, VL / 4, s, t, from, keys < 2 * VL ? keys : 2 * VL, S), j += 2 * VL;
        else if (queries <= 2 && keys > VL)
            dot_columns(queries, 2, 1, s, t, from, keys, S), j += 2 * VL;
        else if (keys > 4)
            dot_columns(queries, 1, VL / 4, s, t, from, keys < VL ? keys : VL, S), j += VL;
        else
            dot_columns(queries, 1, 1, s, t, from, keys, S), j += VL;
    }
}

FA_FUNC int dot_tile_of_rows(const score_source *s, const score_tile_rows *t, const element *key) {
    if (s->form.D % 4) return 0;
    switch (t->rows) {
    case 1:
        dot_lying(1, s, t, key);
        break;
    case 2:
        dot_lying(2, s, t, key);
        break;
    case 3:
        dot_lying(3, s, t, key);
        break;
    case 4:
        dot_lying(4, s, t, key);
        break;
    case 5:
        dot_lying(5, s, t, key);
        break;
    default:
        dot_lying(6, s, t, key);
    }
    return 1;
}
#else
#define dot_tile_of_rows NULL
#endif

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
    .tile_of_rows = dot_tile_of_rows,
    .pair = dot_pair,
    .pair_backward = dot_pair_backward,
    .query_backward = dot_query_backward,
};
#endif
