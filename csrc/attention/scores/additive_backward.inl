/* Gradients of additive scores: of queries, keys and the score vector (additive.h has the formulas). */
#ifndef FA_ATTENTION_SCORES_ADDITIVE_BACKWARD_INL
#define FA_ATTENTION_SCORES_ADDITIVE_BACKWARD_INL
#include "../../vec/vec.h"
#include "../../kernels.h"
#include "../../vec/math.h"
#include "additive.inl"
#include "kernel.h"

/* The pairs of a tile that are computed. */
typedef struct {
    int n[FA_QUERY_BLOCK];
    real sum[FA_QUERY_BLOCK]; /* of g */
    uint8_t key[FA_QUERY_BLOCK][PW];
} additive_pairs;

/* The keys of each row whose pairs are computed, ascending: looked for once, not at every vector of features. */
FA_FUNC void additive_find_pairs(const score_block *b, additive_pairs *pairs) {
    for (int64_t i = 0; i < b->rows; i++) {
        int n = 0;
        real sum = 0;
        for (int64_t j = 0; j < b->keys && b->q_flags[i] != FA_DIRECT; j++) {
            const real g = b->g[i * PW + j];
            if (g == 0 || b->k_flags[j] == FA_DIRECT) continue;
            pairs->key[i][n++] = (uint8_t)j;
            sum += g;
        }
        pairs->n[i] = n;
        pairs->sum[i] = sum;
    }
}

/* Gradient of one tile, features in lanes: for g_ij = d loss / d score_ij (already scaled)
 *   dq_i += g_ij act'_ij,  dk_j += g_ij act'_ij  (times v_h, and 4 for tanh, once at the end),   dv_h += g_ij act_ijh.
 * g_ij = 0 means masked or no influence: the pair is skipped. Four vectors of features share one division;
 * estimates are one for each, as many operations in shorter chains (17.5 cycles for 64 features, 20.5 with one for
 * four), and need no cap: that of infinity is 0.
 */
FA_INLINE void additive_backward_body(const int activation, const int capped, const int estimates, const score_block *b,
                                      const additive_pairs *pairs, real *d_v) {
    const vec one = vset1(1), cap = vset1(FA_ADDITIVE_CAP);
    const int64_t ld = b->key_ld;
    for (int64_t t = 0; t < b->ld; t += 4 * VL) {
        vec v_sum[4] = {vload(d_v + t), vload(d_v + t + VL), vload(d_v + t + 2 * VL), vload(d_v + t + 3 * VL)};
        for (int64_t i = 0; i < b->rows; i++) {
            const int n = pairs->n[i];
            if (n == 0) continue;
            const real *qi = b->query + i * b->ld + t, *g = b->g + i * PW;
            real *dqi = b->d_query + i * b->ld + t;
            vec e[4], sum[4], v_row[4]; /* of this row's pairs alone: see tile/sums.inl */
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++) {
                e[c] = vload(qi + c * VL);
                sum[c] = v_row[c] = vset1(0);
            }
            for (int at = 0; at < n; at++) {
                const int64_t j = pairs->key[i][at];
                const real *kj = b->key + j * ld + t;
                real *dkj = b->d_key + j * ld + t;
                vec gv = vset1(g[j]), w[4];
                if (activation == FA_RELU) {
#pragma GCC unroll 4
                    for (int c = 0; c < 4; c++) {
                        vec x = e[c] + vload(kj + c * VL);
                        w[c] = vselect_lt(vset1(0), x, one, x * vset1(0)); /* 0 at x <= 0, NaN at NaN */
                        v_row[c] = vfma(gv, vmax(vset1(0), x), v_row[c]);
                    }
                } else {
                    vec a[4];
#pragma GCC unroll 4
                    for (int c = 0; c < 4; c++) a[c] = vfma(e[c], vload(kj + c * VL), one);
                    if (capped)
#pragma GCC unroll 4
                        for (int c = 0; c < 4; c++) a[c] = vmin(cap, a[c]);
                    vec r[4];
                    if (estimates) {
#pragma GCC unroll 4
                        for (int c = 0; c < 4; c++) r[c] = vreciprocal(a[c]);
                    } else {
                        vec d01 = a[0] * a[1], d23 = a[2] * a[3], inverse = one / (d01 * d23);
                        vec i01 = inverse * d23, i23 = inverse * d01;
                        r[0] = i01 * a[1], r[1] = i01 * a[0], r[2] = i23 * a[3], r[3] = i23 * a[2];
                    }
#pragma GCC unroll 4
                    for (int c = 0; c < 4; c++) {
                        w[c] = vfma(-r[c], r[c], r[c]);
                        if (activation == FA_TANH && !estimates) { /* tanh as (E - 1) r: 1 - 2 r loses small values */
                            vec x = vfma_once(e[c], vload(kj + c * VL), -one);
                            if (capped) x = vmin(cap, x);
                            r[c] = x * r[c];
                        }
                        v_row[c] = vfma(gv, r[c], v_row[c]);
                    }
                }
#pragma GCC unroll 4
                for (int c = 0; c < 4; c++) {
                    sum[c] = vfma(gv, w[c], sum[c]);
                    vstore(dkj + c * VL, vfma(gv, w[c], vload(dkj + c * VL)));
                }
            }
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++) {
                vstore(dqi + c * VL, vload(dqi + c * VL) + sum[c]);
                if (activation == FA_TANH && estimates) /* 1 - 2 r */
                    v_row[c] = vfma(vset1(-2), v_row[c], vset1(pairs->sum[i]));
                v_sum[c] = v_sum[c] + v_row[c];
            }
        }
#pragma GCC unroll 4
        for (int c = 0; c < 4; c++) vstore(d_v + t + c * VL, v_sum[c]);
    }
}

FA_FUNC void additive_backward(const score_form *f, const score_block *b) {
    const int activation = f->activation, estimates = f->estimates;
    additive_pairs pairs;
    int capped = 0;
    for (int64_t i = 0; i < b->rows; i++) capped |= b->q_flags[i];
    for (int64_t j = 0; j < b->keys; j++) capped |= b->k_flags[j];
    additive_find_pairs(b, &pairs);
#define FA_BODY(ACTIVATION, CAPPED, ESTIMATES) additive_backward_body(ACTIVATION, CAPPED, ESTIMATES, b, &pairs, f->d_v)
    if (activation == FA_RELU)
        FA_BODY(FA_RELU, 0, 0);
    else if (estimates && activation == FA_TANH)
        FA_BODY(FA_TANH, 0, 1);
    else if (estimates)
        FA_BODY(FA_SIGMOID, 0, 1);
    else if (activation == FA_SIGMOID)
        FA_BODY(FA_SIGMOID, 1, 0);
    else if (capped)
        FA_BODY(FA_TANH, 1, 0);
    else
        FA_BODY(FA_TANH, 0, 0);
#undef FA_BODY
}

/* The same for one pair by the activation itself; dq and dk in the units of additive_backward. */
FA_FUNC void additive_backward_direct(const score_form *f, real g, const element *q, const element *k, real *dq,
                                      real *dk) {
    const int activation = f->activation;
    const int64_t D = f->D;
    real *dv = f->d_v;
    const vec one = vset1(1), gv = vset1(g);
    for (int64_t t = 0; t < D; t += VL) {
        vec x = eload_n(q + t, D - t) + eload_n(k + t, D - t), y, w;
        if (activation == FA_RELU) {
            y = vmax(vset1(0), x);
            w = vselect_lt(vset1(0), x, one, x * vset1(0));
        } else if (activation == FA_TANH) {
            y = vtanh(x);
            w = vset1((real)0.25) * vfma(-y, y, one);
        } else {
            y = vsigmoid(x);
            w = vfma(-y, y, y);
        }
        vstore_n(dq + t, vfma(gv, w, vload_n(dq + t, D - t)), D - t);
        vstore_n(dk + t, vfma(gv, w, vload_n(dk + t, D - t)), D - t);
        vstore_n(dv + t, vfma(gv, y, vload_n(dv + t, D - t)), D - t);
    }
}

/* tanh: what the rounding of the exponentials moved dv by, to first order (see Accuracy above):
 * dv += sum_i (sum_j g_ij) lost_i + sum_j (sum_i g_ij) lost_j over the pairs that additive_backward computed. */
FA_FUNC void additive_correct_vector(int64_t rows, int64_t keys, const real *g, int64_t ldg, const real *q_lost,
                                     const real *k_lost, int64_t ld, real *dv, const uint8_t *q_flags,
                                     const uint8_t *k_flags) {
    real of_key[PW] = {0}, row[PW];
    for (int64_t i = 0; i < rows; i++) {
        if (q_flags[i] == FA_DIRECT) continue;
        vec sum = vset1(0);
        for (int64_t j = 0; j < keys; j += VL) { /* g is 0 from `keys` up to a whole vector */
            vstore(row + j, vload(g + i * ldg + j));
            for (int64_t c = j; c < j + VL && c < keys; c++)
                if (k_flags[c] == FA_DIRECT) row[c] = 0;
            vstore(of_key + j, vload(of_key + j) + vload(row + j));
            sum = sum + vload(row + j);
        }
        vec of_row = vset1(vhsum(sum));
        for (int64_t t = 0; t < ld; t += VL) vstore(dv + t, vfma(of_row, vload(q_lost + i * ld + t), vload(dv + t)));
    }
    for (int64_t j = 0; j < keys; j++)
        for (int64_t t = 0; t < ld; t += VL)
            vstore(dv + t, vfma(vset1(of_key[j]), vload(k_lost + j * ld + t), vload(dv + t)));
}
#endif
