/* Rows, queries and panels of additive scores: exponentials, flags and corrections (additive.h says what and why). */
#ifndef FA_ATTENTION_SCORES_ADDITIVE_PACK_INL
#define FA_ATTENTION_SCORES_ADDITIVE_PACK_INL
#include "../../vec/vec.h"
#include "../../kernels.h"
#include "../../vec/math.h"
#include "additive.inl"
#include "kernel.h"

/* E[t] = e^(a x_t), or x_t itself for relu and 1 where *flag is FA_DIRECT; columns D..ld-1 become zero. Returns the
 * correction, sum_t v_t lost_t, where lost_t is half the relative rounding error of E_t (tanh without estimates; else
 * 0); lost, ld elements, receives these too if there are any, unless it is NULL. */
FA_FUNC real additive_pack_row(const score_form *f, const element *x, real *E, int64_t ld, uint8_t *flag, real *lost) {
    const int activation = f->activation;
    const int corrected = activation == FA_TANH && !f->estimates;
    const int64_t D = f->D;
    const real a = additive_factor(activation), *v = f->v;
    ivec largest = {0};
    vec correction = vset1(0);
    if (!corrected) lost = NULL;
    for (int64_t t = 0; t < D; t += VL) {
        vec s = eload_n(x + t, D - t);
        if (a == 0) {
            vstore_n(E + t, s, D - t);
            continue;
        }
        s = s * vset1(a);
        largest = vmax_bits(largest, s);
        vec n, q = vexp_parts(s, &n); /* anything at all out of range: overwritten below */
        vec m = vset1(1) + q;
        vstore_n(E + t, vscale2(m, n), D - t);
        if (!corrected) continue;
        vec e = additive_lost(q, m);
        correction = vfma(vload_n(v + t, D - t), e, correction);
        if (lost) vstore_n(lost + t, e, D - t);
    }
    for (int64_t t = D; t < ld; t++) E[t] = 0;
    if (lost)
        for (int64_t t = D; t < ld; t++) lost[t] = 0;
    *flag = additive_flag(vhmax_bits(largest), FA_ADDITIVE_LIMIT);
    if (*flag != FA_DIRECT) return vhsum(correction);
    for (int64_t t = 0; t < D; t++) E[t] = 1;
    if (lost) memset(lost, 0, (size_t)ld * sizeof(real));
    return 0;
}

/* The same without the correction. */
FA_FUNC void additive_pack_features(const score_form *f, const element *x, real *E, int64_t ld, uint8_t *flag,
                                    real *lost) {
    additive_pack_row(f, x, E, ld, flag, lost);
}

/* The same for a whole panel whose lanes are n keys: panel[t][j] = x_jt becomes E_jt; zero rows follow up to D4, then a
 * row of corrections and PW flags. Keys beyond n are zero. */
FA_FUNC void additive_pack_panel(const score_form *f, real *panel, int64_t n, fa_ahead ahead) {
    const int corrected = f->activation == FA_TANH && !f->estimates;
    const real a = additive_factor(f->activation);
    const int64_t D = f->D, D4 = (D + 3) / 4 * 4;
    real *corrections = panel + D4 * PW;
    uint8_t *flags = (uint8_t *)(corrections + PW);
    memset(panel + D * PW, 0, (size_t)((D4 - D + 2) * PW) * sizeof(real));
    if (a == 0) return;
    const int64_t rounds = (n + VL - 1) / VL * ((D + 7) / 8);
    const int64_t asked = rounds ? (ahead.lines[0] + ahead.lines[1] + rounds - 1) / rounds : 0;
    for (int64_t j = 0; j < n; j += VL) {
        ivec largest = {0}, used;
        vec correction = vset1(0);
        for (int i = 0; i < VL; i++) used[i] = -(ireal)(j + i < n);
        for (int64_t t = 0; t < D; t++) {
            if (t % 8 == 0) fa_ask(&ahead, asked);
            vec k, s = vload(panel + t * PW + j) * vset1(a);
            largest = vmax_bits(largest, s);
            vec q = vexp_parts(s, &k), m = vset1(1) + q;
            vstore(panel + t * PW + j, (vec)((ivec)vscale2(m, k) & used)); /* without a key: 0, not e^0 */
            if (corrected) correction = vfma(vset1(to_real(f->vector[t])), additive_lost(q, m), correction);
        }
        vstore(corrections + j, correction);
        for (int64_t i = j; i < j + VL && i < n; i++) {
            flags[i] = additive_flag(((vec)largest)[i - j], FA_ADDITIVE_LIMIT);
            if (flags[i] != FA_DIRECT) continue;
            corrections[i] = 0;
            for (int64_t t = 0; t < D; t++) panel[t * PW + i] = 1;
        }
    }
}

/* What follows the features of a panel of n packed rows, without corrections. */
FA_FUNC void additive_close_panel(const score_form *f, real *panel, int64_t n, const uint8_t *flags) {
    const int64_t D = f->D, D4 = (D + 3) / 4 * 4;
    memset(panel + D * PW, 0, (size_t)((D4 - D + 2) * PW) * sizeof(real));
    memcpy(panel + (D4 + 1) * PW, flags, (size_t)n);
}

/* A packed query: E, then v E (tanh), then the correction; with estimates E u / v in place of v E.
 * additive_query_width elements. */
FA_INLINE int64_t additive_query_width(int64_t D) { return 2 * ((D + 3) / 4 * 4) + 4; }

/* That: an error of 2^-18 in an exponential, the rounding of 2 x log2 e, is 2^-20 in r, a 64th of an estimate's. */
FA_FUNC void additive_pack_scaled(const score_form *f, const element *x, real *q, uint8_t *flag) {
    const int64_t D = f->D, D4 = (D + 3) / 4 * 4;
    const vec a = vset1(additive_factor(f->activation)), log2e = vset1((real)FA_LOG2E), zero = vset1(0), one = vset1(1);
    ivec largest = {0};
    for (int64_t t = 0; t < D; t += VL) {
        const vec s = eload_n(x + t, D - t) * a, inverse = vload_n(f->inverse + t, D - t);
        const vec E = vpower(s * log2e);
        largest = vmax_bits(largest, s);
        vstore_n(q + t, E, D - t);
        vstore_n(q + D4 + t, E * vselect_lt(one, inverse, zero, inverse), D - t);
    }
    for (int64_t t = D; t < D4; t++) q[t] = q[D4 + t] = 0;
    *flag = additive_flag(vhmax_bits(largest), f->unit == f->unit ? FA_ADDITIVE_NEAR : (real)-1);
    for (int64_t t = 0; *flag == FA_DIRECT && t < 2 * D4; t++) q[t] = t < D;
}

FA_FUNC void additive_pack_query(const score_form *f, const element *x, real *q, uint8_t *flag, real *lost) {
    const real *v = f->v;
    const int64_t D4 = (f->D + 3) / 4 * 4;
    if (f->estimates) {
        additive_pack_scaled(f, x, q, flag);
        return;
    }
    q[2 * D4] = additive_pack_row(f, x, q, D4, flag, lost);
    vec out_of_range = vset1(0), correction = vset1(0);
    for (int64_t t = 0; t < D4; t += VL) {
        vec e = vload_n(q + t, D4 - t), w = vload_n(v + t, D4 - t), p = w * e;
        vec lost = vfma_once(w, e, -p);
        vstore_n(q + D4 + t, p, D4 - t);
        correction = correction + vselect_lt(vset1(0), e, lost / e, vset1(0));
        out_of_range = out_of_range + vselect_lt(vmax(p, -p), vset1(FA_ADDITIVE_HUGE), vset1(0), vset1(1));
    }
    if (f->activation != FA_TANH) return;
    if (vhsum(out_of_range) > 0) *flag = FA_DIRECT;
    if (*flag == FA_DIRECT)
        for (int64_t t = 0; t < 2 * D4 + 1; t++) q[t] = t < D4;
    else
        q[2 * D4] += vhsum(correction) / 2;
}
#endif
