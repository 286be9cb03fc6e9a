/* exp, tanh and sigmoid on vectors, for the element type that vec.h has just set up.
 *
 * exp(x) = 2^n e^r, n = round(x log2 e), r = x - n ln 2 in two steps (Cody and Waite), |r| <= 0.3466,
 * e^r = 1 + r h, h = 1 + r g(r), g of degree 4 (float32) or 10 (float64) by Chebyshev interpolation of
 * (e^r - 1 - r) / r^2. float32: at most 0.98 ulp over all inputs with fused multiply-add, 1.26 at the generic level
 * without it (tests/tools/exhaustive_exp.py); float64: at most 1.5 ulp on samples.
 *
 * vexp_soft flushes results below the smallest normal number to zero: in a softmax they are below 1e-37 of the largest
 * weight, and subnormal arithmetic is many times slower. vexp is the complete function.
 */
#ifndef FA_VEC_MATH_H
#define FA_VEC_MATH_H
#include "vec.h"

#if FA_BITS == 32
#define FA_LOG2E 1.44269504088896341f
#define FA_LN2_HI 0.693359375f
#define FA_LN2_LO -2.1219444005469058277e-4f
#define FA_EXP_SOFT_MIN -87.33654f /* ln(2^-126) */
#define FA_EXP_MIN -104.5f         /* below: rounds to zero */
#define FA_EXP_MAX 88.8f           /* above: overflows */
#define FA_TANH_MAX 10.0f          /* tanh rounds to 1 from about 9.01 */
#else
#define FA_LOG2E 1.44269504088896340736
#define FA_LN2_HI 0.6931471803691238
#define FA_LN2_LO 1.908214929270587816144e-10
#define FA_EXP_SOFT_MIN -708.3964185322641
#define FA_EXP_MIN -746.0
#define FA_EXP_MAX 709.9
#define FA_TANH_MAX 20.0
#endif

/* Reduces x to r and returns the factor h of e^r = 1 + r h; sets *n, so that e^x = 2^n e^r. */
FA_INLINE vec vexp_reduced(vec x, vec *n, vec *reduced) {
    const vec magic = vset1((real)FA_MAGIC);
    vec k = vfma(x, vset1((real)FA_LOG2E), magic) - magic;
    vec r = vfma(k, vset1((real)-FA_LN2_HI), x);
    r = vfma(k, vset1((real)-FA_LN2_LO), r);
#if FA_BITS == 32
    vec g = vset1(0.0013926183587713494542f);
    g = vfma(g, r, vset1(0.0083631790527225773704f));
    g = vfma(g, r, vset1(0.041666554617204574203f));
    g = vfma(g, r, vset1(0.16666576989698775683f));
#else
    vec g = vset1(2.0914686968086877233e-9);
    g = vfma(g, r, vset1(2.5105217004720745164e-8));
    g = vfma(g, r, vset1(2.7557273643110295328e-7));
    g = vfma(g, r, vset1(2.755725540020642443e-6));
    g = vfma(g, r, vset1(0.000024801587325547741216));
    g = vfma(g, r, vset1(0.00019841269874820625271));
    g = vfma(g, r, vset1(0.0013888888888883748305));
    g = vfma(g, r, vset1(0.0083333333333261351258));
    g = vfma(g, r, vset1(0.041666666666666669755));
    g = vfma(g, r, vset1(0.16666666666666670991));
#endif
    g = vfma(g, r, vset1((real)0.5));
    *n = k;
    *reduced = r;
    return vfma(g, r, vset1(1));
}

/* Returns e^r - 1 with full relative accuracy. */
FA_INLINE vec vexp_parts(vec x, vec *n) {
    vec r, h = vexp_reduced(x, n, &r);
    return h * r;
}

/* For x <= 88 (float32) or 709 (float64). */
FA_INLINE vec vexp_soft(vec x) {
    vec n, r, h = vexp_reduced(x, &n, &r);
    return vscale2_or_zero(vfma(h, r, vset1(1)), n, x, vset1((real)FA_EXP_SOFT_MIN));
}

FA_INLINE vec vexp(vec x) {
    x = vmin(vset1((real)FA_EXP_MAX), vmax(vset1((real)FA_EXP_MIN), x));
    vec n, r, h = vexp_reduced(x, &n, &r);
    /* Two factors, both normal: the product overflows or becomes subnormal only in the last multiplication. */
    const vec magic = vset1((real)FA_MAGIC);
    vec half = vfma(n, vset1((real)0.5), magic) - magic;
    return vscale2(vset1(1), half) * vscale2(vfma(h, r, vset1(1)), n - half);
}

#if FA_BITS == 32
/* 2^(x + up), 0 below 2^-126, with a relative error of 2^-23: x = k + r, 0 <= r <= 1, and a polynomial of degree 5 by
 * Lawson's iteration, with 1 as its value at 0 and errors that are even. `up` is 0 or 60. */
FA_INLINE vec vpower_times(vec x, int up) {
    const vec r = vfraction(x);
    const float one = up ? 0x1p60f : 1;
    vec g = vset1(0.001867130070106961f * one);
    g = vfma(g, r, vset1(0.009017030321809045f * one));
    g = vfma(g, r, vset1(0.055799913104355184f * one));
    g = vfma(g, r, vset1(0.24016445015484186f * one));
    g = vfma(g, r, vset1(0.6931513118046356f * one));
    return vscale2_floor(vfma(g, r, vset1(one)), x, vset1((float)(-126 - up)));
}
FA_INLINE vec vpower(vec x) { return vpower_times(x, 0); }
#else
FA_INLINE vec vpower(vec x) { return vexp_soft(x * vset1(FA_LN2_HI + FA_LN2_LO)); }
#endif

/* tanh x = m / (m + 2), m = e^(2x) - 1 = 2^n q + (2^n - 1), which has no cancellation. At most 3 ulp. */
FA_INLINE vec vtanh(vec x) {
    const vec bound = vset1((real)FA_TANH_MAX);
    vec c = vmin(bound, vmax(-bound, x));
    vec n, q = vexp_parts(c + c, &n);
    vec s = vscale2(vset1(1), n);
    vec m = vfma(s, q, s - vset1(1));
    return m / (m + vset1(2));
}

/* At most 3 ulp. */
FA_INLINE vec vsigmoid(vec x) { return vset1(1) / (vset1(1) + vexp(-x)); }
#endif
