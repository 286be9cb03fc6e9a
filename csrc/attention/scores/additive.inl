/* Additive scores (Bahdanau, Cho, Bengio 2015, appendix A.1.2; Luong's concat has the same form).
 *
 *   score_ij = sum_h v_h act(q_ih + k_jh),   act = tanh, sigmoid or relu
 *
 * tanh and sigmoid need no function per pair: with E = e^(a q) e^(a k), D = 1 + E and r = 1 / D,
 *   tanh(x)    = (E - 1) / D     (a =  2)     tanh'    = 4 (r - r^2)
 *   sigmoid(x) = r               (a = -1)     sigmoid' =    r - r^2
 * so the exponentials are O((Tq + Tk) D), and a pair costs multiply-adds and a share of a division.
 *
 * Forward. Four features share one division: n1/d1 + n2/d2 = (n1 d2 + n2 d1) / (d1 d2), the same once more, then
 * divide. For tanh v_h is folded into the query, n = (v e^(2q)) e^(2k) - v: 18 operations and 1 division for 4
 * features, 14 for sigmoid. D is capped at 2^30 (float64: 2^250), so that the product of four is finite; that moves
 * r by less than 2^-30.
 * With estimates, vreciprocal takes the place of the division, and tanh(x) = 1 - 2 r that of n / D. Terms v_h / D_h are
 * then u / X_h with X_h = D_h u / v_h, u / v_h at most 1 in size (additive_inverse): no numerator is left to multiply,
 * 1/X1 + 1/X2 = (X1 + X2) / (X1 X2), and 12 operations and an estimate, which is 3, are those of 4 features. What a
 * query brings is e^(a q) u / v, in place of v e^(2q).
 * Backward. Each r of four is needed: invert the product of the four, then multiply back (Montgomery 1987). Estimates
 * are one for each.
 * A score depends on q_i and k_j alone, never on neighbours, so bits do not depend on tiles, padding or batch.
 *
 * Accuracy of tanh. n / D has a relative error of a few eps, but the rounding of e^(2q), e^(2k) and v e^(2q) moves
 * small scores by eps v. These roundings are known when they are made; to first order they move the score by
 * tanh' ~ 1 times a sum over h for the row plus one for the key, which are added at the end (`correction`). What
 * remains is of the size of the error of the direct evaluation, also for small q and k.
 *
 * Range: e^(a q) must be finite and normal. A row or a key with some |a x| > 86 (float64: 600), or with a NaN, is
 * flagged when it is packed; scores of flagged rows and keys are evaluated directly (additive_direct). With estimates
 * so is a row beyond FA_ADDITIVE_NEAR, and each if v is too large to be summed. relu always works on the sums
 * themselves.
 *
 * Files: additive_pack.inl makes the exponentials, additive_tile.inl the scores, additive_backward.inl the gradients,
 * additive_kernel.inl what attention calls; here is what they share.
 * Bound on two 512-bit units: 10.5 cycles for 4 features of 16 pairs (the division alone: 10 on Golden Cove, 6 on
 * Zen 4); with estimates 7.5. Of gradients, 4 features of 16 pairs: 20 cycles, with estimates 16.
 */
#ifndef FA_ATTENTION_SCORES_ADDITIVE_INL
#define FA_ATTENTION_SCORES_ADDITIVE_INL
#include "../../vec/vec.h"
#include "../../kernels.h"

#if FA_BITS == 32
#define FA_ADDITIVE_LIMIT 86.0f
#define FA_ADDITIVE_CAP 1073741824.0f
#define FA_ADDITIVE_HUGE 1e37f
#define FA_ADDITIVE_NEAR 64.0f   /* e^-64 times the least u / v is a normal number */
#define FA_ADDITIVE_SMALL 10.39f /* half of ln(2^30 - 1): no product of two such exponentials reaches the cap */
#else
#define FA_ADDITIVE_LIMIT 600.0
#define FA_ADDITIVE_CAP 1.8092513943330656e75 /* 2^250 */
#define FA_ADDITIVE_HUGE 1e290
#define FA_ADDITIVE_NEAR 600.0
#define FA_ADDITIVE_SMALL 86.6
#endif

/* a in e^(a x); relu is marked by 0. */
FA_INLINE real additive_factor(int activation) {
    return activation == FA_TANH ? (real)2 : activation == FA_SIGMOID ? (real)-1 : (real)0;
}

#define FA_DIRECT 1 /* out of the factored range */
#define FA_LARGE 2  /* some |a x| > FA_ADDITIVE_SMALL: products need the cap */

/* What a row or key needs whose largest |a x| is `size`, NaN above all. */
FA_INLINE uint8_t additive_flag(real size, real limit) {
    return !(size <= limit) ? FA_DIRECT : size > FA_ADDITIVE_SMALL ? FA_LARGE : 0;
}

/* With estimates: inverse_h = u / v_h for the elements of v that are at least 2^-30 of the sum of sizes, u being the
 * least of these; others, which together are too small to count, get the cap, and with it 1 / X_h below 2^-30. n is a
 * multiple of VL. Returns u, or NaN where v is too large for products or is not finite. */
FA_FUNC real additive_inverse(const real *v, int64_t n, real *inverse) {
    const vec zero = vset1(0), small = vset1((real)0x1p-30), most = vset1((real)INFINITY);
    vec sum = zero, least = most;
    for (int64_t t = 0; t < n; t += VL) sum = vfma(vmax(vload(v + t), -vload(v + t)), small, sum);
    const real lost = vhsum(sum);
    if (!(lost < FA_ADDITIVE_HUGE * (real)0x1p-30)) return (real)NAN;
    const vec dropped = vset1(lost > 0 ? lost : FA_SMALLEST * FA_EPSILON);
    for (int64_t t = 0; t < n; t += VL) {
        const vec size = vmax(vload(v + t), -vload(v + t));
        least = vmin(least, vselect_lt(size, dropped, most, size));
    }
    const real u = -vhmax(-least);
    for (int64_t t = 0; t < n; t += VL) {
        const vec x = vload(v + t);
        vstore(inverse + t, vselect_lt(vmax(x, -x), dropped, vset1(FA_ADDITIVE_CAP), vset1(u) / x));
    }
    return u < (real)INFINITY ? u : 0;
}

/* Half the relative rounding error of m = 1 + q, q = e^r - 1: (q + 1 - m) / 2m, with 2 - m for 1 / m, right to within
 * 1/6 on [0.70, 1.42], as good as tanh' ~ 1 is. */
FA_INLINE vec additive_lost(vec q, vec m) { return (q - (m - vset1(1))) * vfma(vset1((real)-0.5), m, vset1(1)); }
#endif
