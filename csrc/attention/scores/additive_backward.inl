/* Gradients of additive scores: of queries, keys and the score vector (additive.h has the formulas). */
#ifndef FA_ATTENTION_SCORES_ADDITIVE_BACKWARD_INL
#define FA_ATTENTION_SCORES_ADDITIVE_BACKWARD_INL
#include "../../vec/vec.h"
#include "../../kernels.h"
#include "../../vec/math.h"
#include "additive.inl"
#include "kernel.h"

/* Gradient of one tile, features in lanes: for g_ij = d loss / d score_ij (already scaled)
 *   dq_i += g_ij act'_ij,  dk_j += g_ij act'_ij  (times v_h, and 4 for tanh, once at the end),   dv_h += g_ij act_ijh.
 * g_ij = 0 means masked or no influence: the pair is skipped. Four vectors of features share one division.
 */
FA_INLINE void additive_backward_body(const int activation, const int capped, const int estimates, int64_t rows,
                                      int64_t keys, const real *g, int64_t ldg, const real *q, const real *k,
                                      int64_t ld, real *dq, real *dk, real *dv, const uint8_t *q_flags,
                                      const uint8_t *k_flags) {
    const vec one = vset1(1), cap = vset1(FA_ADDITIVE_CAP);
    for (int64_t t = 0; t < ld; t += 4 * VL) {
        vec v_sum[4] = {vload(dv + t), vload(dv + t + VL), vload(dv + t + 2 * VL), vload(dv + t + 3 * VL)};
        for (int64_t i = 0; i < rows; i++) {
            if (q_flags[i] == FA_DIRECT) continue;
            const real *qi = q + i * ld + t;
            real *dqi = dq + i * ld + t;
            vec e[4], sum[4], v_row[4], g_row = vset1(0); /* of this row's pairs alone: see tile/sums.inl */
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++) {
                e[c] = vload(qi + c * VL);
                sum[c] = v_row[c] = vset1(0);
            }
            for (int64_t j = 0; j < keys; j++) {
                real gij = g[i * ldg + j];
                if (gij == 0 || k_flags[j] == FA_DIRECT) continue;
                const real *kj = k + j * ld + t;
                real *dkj = dk + j * ld + t;
                vec gv = vset1(gij), w[4];
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
                    vec d01 = a[0] * a[1], d23 = a[2] * a[3];
                    vec inverse = estimates ? vreciprocal(d01 * d23) : one / (d01 * d23);
                    vec i01 = inverse * d23, i23 = inverse * d01;
                    vec r[4] = {i01 * a[1], i01 * a[0], i23 * a[3], i23 * a[2]};
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
                    g_row = g_row + gv;
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
                if (activation == FA_TANH && estimates) v_row[c] = vfma(vset1(-2), v_row[c], g_row); /* 1 - 2 r */
                v_sum[c] = v_sum[c] + v_row[c];
            }
        }
#pragma GCC unroll 4
        for (int c = 0; c < 4; c++) vstore(dv + t + c * VL, v_sum[c]);
    }
}

FA_FUNC void additive_backward(int activation, int estimates, int64_t rows, int64_t keys, const real *g, int64_t ldg,
                               const real *q, const real *k, int64_t ld, real *dq, real *dk, real *dv,
                               const uint8_t *q_flags, const uint8_t *k_flags) {
    int capped = 0;
    for (int64_t i = 0; i < rows; i++) capped |= q_flags[i];
    for (int64_t j = 0; j < keys; j++) capped |= k_flags[j];
#define FA_BODY(ACTIVATION, CAPPED, ESTIMATES)                                                                         \
    additive_backward_body(ACTIVATION, CAPPED, ESTIMATES, rows, keys, g, ldg, q, k, ld, dq, dk, dv, q_flags, k_flags)
    if (activation == FA_RELU)
        FA_BODY(FA_RELU, 0, 0);
    else if (estimates && activation == FA_TANH && capped)
        FA_BODY(FA_TANH, 1, 1);
    else if (estimates && activation == FA_TANH)
        FA_BODY(FA_TANH, 0, 1);
    else if (estimates)
        FA_BODY(FA_SIGMOID, 1, 1);
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
