/* L1 scores, by the Manhattan distance of query and key.
 *
 *   score_ij = -sum_d |q_id - k_jd|
 *   d score_ij / d q_id = -sign(q_id - k_jd),   d score_ij / d k_jd = sign(q_id - k_jd),   sign(0) = 0: of the
 *   subgradients where query and key are equal, the one that both directions share
 *
 * Forward: keys in lanes, a tile of rows x NV vectors in registers. Backward: features in lanes, one sum for a row of
 * queries and the keys of a block in registers, the keys' sums in memory.
 *
 * Numerics. The terms are positive and each difference is rounded once, so that nothing cancels: the error is that of a
 * chain of D additions. The sign of a rounded difference is that of the exact one, also below the smallest normal
 * number. A difference beyond the largest number gives -inf, which weighs nothing. A NaN in query or key is one in the
 * score, hence in g; a sign has none of its own, so that a pair that does not count, g = 0, adds 0.
 *
 * Bound on two 512-bit units: forward a subtraction, a mask and an addition for a feature of a vector of scores, 1.5
 * cycles (a product: 0.5), and a load for NV rows of them; backward 7 operations, 2 loads and a store for a vector of
 * features of a pair, 3.5 cycles. See benchmarks for what is measured.
 */
#ifndef FA_ATTENTION_SCORES_L1_INL
#define FA_ATTENTION_SCORES_L1_INL
#include "../../vec/vec.h"
#include "kernel.h"

FA_INLINE vec l1_size(vec x) { return (vec)((ivec)x & ~(ivec)vset1((real)-0.0)); }

/* g with the sign of x for g > 0, or the other one; 0 where x is 0. */
FA_INLINE vec l1_signed(vec x, vec g) {
    const ivec zero = x == vset1(0);
    return (vec)((((ivec)x & (ivec)vset1((real)-0.0)) ^ (ivec)g) & ~zero);
}

FA_INLINE void l1_tile_body(const int rows, const int vectors, const score_source *s, const score_tile_rows *t,
                            int64_t at) {
    const real *q = t->query, *k = t->panel + at;
    const vec scale = vset1(-(real)s->a->scale);
    vec sum[MR][NV];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++) sum[r][n] = vset1(0);
    for (int64_t d = 0; d < s->form.D; d++) {
        vec key[NV];
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++) key[n] = vload(k + d * PW + n * VL);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            const vec x = vset1(q[r * s->ldq + d]);
#pragma GCC unroll 4
            for (int n = 0; n < vectors; n++) sum[r][n] = sum[r][n] + l1_size(x - key[n]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int n = 0; n < vectors; n++) vstore(t->S + r * t->lds + at + n * VL, sum[r][n] * scale);
}

#define FA_ROWS(R)                                                                                                     \
    case R:                                                                                                            \
        for (; at + NV * VL <= end; at += NV * VL) l1_tile_body(R, NV, s, t, at);                                      \
        for (; at < end; at += VL) l1_tile_body(R, 1, s, t, at);                                                       \
        break;
FA_FUNC void l1_tile(const score_source *s, const score_tile_rows *t) {
    const int64_t end = (t->keys + VL - 1) / VL * VL;
    int64_t at = 0;
    switch (t->rows) {
        FA_ROWS(1)
        FA_ROWS(2)
        FA_ROWS(3)
        FA_ROWS(4)
        FA_ROWS(5)
        FA_ROWS(6)
    }
}
#undef FA_ROWS

/* In four chains, which are joined at the end. */
FA_FUNC real l1_pair(const score_form *f, const element *q, const element *k) {
    vec sum[4] = {vset1(0), vset1(0), vset1(0), vset1(0)};
    int64_t d = 0;
    for (; d + 4 * VL <= f->D; d += 4 * VL)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) sum[i] = sum[i] + l1_size(eload(q + d + i * VL) - eload(k + d + i * VL));
    for (; d < f->D; d += VL) sum[0] = sum[0] + l1_size(eload_n(q + d, f->D - d) - eload_n(k + d, f->D - d));
    return -vhsum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

FA_FUNC void l1_pair_backward(const score_form *f, real g, const element *q, const element *k, real *dq, real *dk) {
    for (int64_t d = 0; d < f->D; d += VL) {
        const int64_t n = f->D - d;
        const vec x = l1_signed(eload_n(q + d, n) - eload_n(k + d, n), vset1(g));
        vstore_n(dq + d, vload_n(dq + d, n) - x, n);
        vstore_n(dk + d, vload_n(dk + d, n) + x, n);
    }
}

FA_FUNC void l1_block_backward(const score_form *f, const score_block *b) {
    for (int64_t d = 0; d < f->D; d += 4 * VL) /* rows have zeros up to whole fours of vectors */
        for (int64_t i = 0; i < b->rows; i++) {
            const real *q = b->query + i * b->ld + d;
            real *dq = b->d_query + i * b->ld + d;
            vec x[4], sum[4];
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++) {
                x[c] = vload(q + c * VL);
                sum[c] = vset1(0);
            }
            for (int64_t j = 0; j < b->keys; j++) {
                const real g = b->g[i * PW + j], *k = b->key + j * b->key_ld + d;
                real *dk = b->d_key + j * b->key_ld + d;
                if (g == 0) continue;
#pragma GCC unroll 4
                for (int c = 0; c < 4; c++) {
                    const vec one = l1_signed(x[c] - vload(k + c * VL), vset1(g));
                    sum[c] = sum[c] - one;
                    vstore(dk + c * VL, vload(dk + c * VL) + one);
                }
            }
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++) vstore(dq + c * VL, vload(dq + c * VL) + sum[c]);
        }
}

FA_FUNC void l1_query_backward(const score_form *f, const element *q, const element *key, int64_t key_row, int64_t keys,
                               const element *weights, const real *g, element *dq) {
    for (int64_t d = 0; d < f->D; d += VL) {
        const int64_t n = f->D - d;
        const vec x = eload_n(q + d, n);
        vec sum = vset1(0);
        for (int64_t j = 0; j < keys; j++)
            if (to_real(weights[j]) != 0) sum = sum - l1_signed(x - eload_n(key + j * key_row + d, n), vset1(g[j]));
        estore_n(dq + d, sum, n);
    }
}

static const score_kernel l1_kernel = {
    .tile = l1_tile,
    .pair = l1_pair,
    .pair_backward = l1_pair_backward,
    .block_backward = l1_block_backward,
    .query_backward = l1_query_backward,
};
#endif
