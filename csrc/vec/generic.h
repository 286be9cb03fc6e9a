/* Vector functions in plain C, for any processor: all of them at the level generic, and elsewhere those that the
 * level's own file leaves out. A file that has a function says so by a macro of its name, as `#define vset1 vset1`.
 */
#ifndef FA_VEC_GENERIC_H
#define FA_VEC_GENERIC_H
#include "types.h"

#ifndef vset1
FA_INLINE vec vset1(real x) {
    vec v;
    for (int i = 0; i < VL; i++) v[i] = x;
    return v;
}
#endif

/* The first n lanes only, the others zero; memory past p[n-1] is not touched. */
#ifndef vload_n
FA_INLINE vec vload_n(const real *p, int64_t n) {
    if (n >= VL) return vload(p);
    real lanes[VL];
    for (int i = 0; i < VL; i++) lanes[i] = i < n ? p[i] : (real)0;
    return vload(lanes);
}
#endif

/* The first n lanes, the others `other`. */
#ifndef vload_or
FA_INLINE vec vload_or(const real *p, int64_t n, real other) {
    if (n >= VL) return vload(p);
    real lanes[VL];
    for (int i = 0; i < VL; i++) lanes[i] = i < n ? p[i] : other;
    return vload(lanes);
}
#endif

/* Past the caches, p at a multiple of a vector's size; before other threads may read it: vstream_end. */
#ifndef vstream
FA_INLINE void vstream(real *p, vec v) { vstore(p, v); }
FA_INLINE void vstream_end(void) {}
#endif

#ifndef vstore_n
FA_INLINE void vstore_n(real *p, vec v, int64_t n) {
    if (n >= VL) {
        vstore(p, v);
        return;
    }
    real lanes[VL];
    vstore(lanes, v);
    for (int i = 0; i < VL; i++)
        if (i < n) p[i] = lanes[i];
}
#endif

/* a * b + c; one rounding where the level has the instruction, two here. */
#ifndef vfma
FA_INLINE vec vfma(vec a, vec b, vec c) { return a * b + c; }

/* a * b + c where the product must not be rounded by itself, at every level; c cancels most of it. Slow here: through
 * float64, or with the rounding error of the product by Dekker's splitting (|a|, |b| < 1e299). */
FA_INLINE vec vfma_once(vec a, vec b, vec c) {
#if FA_BITS == 32
    typedef double wide __attribute__((vector_size(2 * FA_VBYTES)));
    wide x = __builtin_convertvector(a, wide) * __builtin_convertvector(b, wide) + __builtin_convertvector(c, wide);
    return __builtin_convertvector(x, vec);
#else
    const vec splitter = vset1(134217729.0); /* 2^27 + 1 */
    vec p = a * b, ta = a * splitter, tb = b * splitter;
    vec ah = ta - (ta - a), al = a - ah, bh = tb - (tb - b), bl = b - bh;
    return (p + c) + (((ah * bh - p) + ah * bl + al * bh) + al * bl);
#endif
}
#else
FA_INLINE vec vfma_once(vec a, vec b, vec c) { return vfma(a, b, c); }
#endif

/* x < t ? a : b in each lane; a NaN in x selects b. */
#ifndef vselect_lt
FA_INLINE vec vselect_lt(vec x, vec t, vec a, vec b) {
    ivec m = x < t;
    return (vec)(((ivec)a & m) | ((ivec)b & ~m));
}
#endif

/* The second argument is returned when either is NaN, as the x86 instructions do: vmax(constant, x) keeps a NaN. */
#ifndef vmax
FA_INLINE vec vmax(vec a, vec b) { return vselect_lt(b, a, a, b); }
#endif
#ifndef vmin
FA_INLINE vec vmin(vec a, vec b) { return vselect_lt(a, b, a, b); }
#endif

/* Larger magnitude by its bits: infinity above every number, NaN above infinity. */
#ifndef vmax_bits
FA_INLINE ivec vmax_bits(ivec a, vec x) {
    ivec b = (ivec)x & (ivec)(((ivec){0} - 1) ^ (ivec)vset1((real)-0.0));
    ivec more = a > b;
    return (a & more) | (b & ~more);
}
#endif

/* The largest lane of such magnitudes. */
#ifndef vhmax_bits
FA_INLINE real vhmax_bits(ivec v) {
    ireal m = v[0];
    for (int i = 1; i < VL; i++) m = v[i] > m ? v[i] : m;
    real x;
    memcpy(&x, &m, sizeof x);
    return x;
}
#endif

#ifndef vhmax
FA_INLINE real vhmax(vec v) {
    real m = v[0];
    for (int i = 1; i < VL; i++) m = v[i] > m ? v[i] : m;
    return m;
}
#endif

/* Sum of the lanes in one fixed order: halves are added until one lane is left. */
#ifndef vhsum
FA_INLINE real vhsum(vec v) {
    real lanes[VL];
    vstore(lanes, v);
    for (int n = VL / 2; n > 0; n /= 2)
        for (int i = 0; i < n; i++) lanes[i] += lanes[i + n];
    return lanes[0];
}
#endif

#if FA_BITS == 32
#ifndef vnearest_pairs
/* The nearest bfloat16 numbers, ties to even, of zeros and normal numbers that are not rounded to infinity, as pairs of
 * 16 bits; of others, anything. */
FA_INLINE uvec vnearest_pairs(vec low, vec high) {
    const uvec x = (uvec)low, y = (uvec)high;
    const uvec a = x + 0x7fffu + (x >> 16 & 1u), b = y + 0x7fffu + (y >> 16 & 1u);
    return (a >> 16) | (b & 0xffff0000u);
}
#endif
/* A lane's halves are numbers of 16 bits: the sum of the products of the low ones and of the high ones. */
#ifndef vpairs
FA_INLINE ivec vpairs(ivec a, ivec b) {
    const ivec low_a = (ivec)((uvec)a << 16) >> 16, low_b = (ivec)((uvec)b << 16) >> 16;
    return low_a * low_b + (a >> 16) * (b >> 16);
}
#endif
#endif

/* p * 2^n for integral n with a normal result. A NaN in p stays a NaN. */
#ifndef vscale2
FA_INLINE vec vscale2(vec p, vec n) {
    ivec e = (ivec)(n + vset1((real)FA_MAGIC)) << FA_MANTISSA;
    vec one = vset1(1);
    return p * (vec)(e + (ivec)one);
}
#endif

/* The same where x >= lowest or x is NaN, and zero elsewhere. */
#ifndef vscale2_or_zero
FA_INLINE vec vscale2_or_zero(vec p, vec n, vec x, vec lowest) {
    ivec below = x < lowest;
    return (vec)((ivec)vscale2(p, n) & ~below);
}
#endif

/* x - floor(x), which may round to 1; of numbers beyond 2^(FA_MANTISSA - 1) in size anything. */
#ifndef vfraction
FA_INLINE vec vfloor(vec x) {
    const vec near = (x + vset1((real)FA_MAGIC)) - vset1((real)FA_MAGIC);
    return near - vselect_lt(x, near, vset1(1), vset1(0));
}
FA_INLINE vec vfraction(vec x) { return x - vfloor(x); }
#endif

/* p * 2^floor(x) where x >= lowest or x is NaN, and zero elsewhere. Here in two steps: 2^floor(x) may be too small. */
#ifndef vscale2_floor
FA_INLINE vec vscale2_floor(vec p, vec x, vec lowest) {
    const vec n = vfloor(x), half = vfloor(n * vset1((real)0.5));
    return vscale2_or_zero(vscale2(p, half), n - half, x, lowest);
}
#endif

#ifndef vsqrt
FA_INLINE vec vsqrt(vec x) {
    for (int i = 0; i < VL; i++) x[i] = FA_BITS == 32 ? (real)sqrtf((float)x[i]) : (real)sqrt((double)x[i]);
    return x;
}
#endif

/* x where it is at most `bound` in size, else `bound` with its sign. */
#ifndef vwithin
FA_INLINE vec vwithin(vec x, vec bound) { return vmin(bound, vmax(-bound, x)); }
#endif

/* 1 / x to 14 bits or more. */
#ifndef vreciprocal
FA_INLINE vec vreciprocal(vec x) { return vset1(1) / x; }
#endif
/* a / b for 1 <= b < 2^126, within 1 ulp. */
#ifndef vquotient
FA_INLINE vec vquotient(vec a, vec b) { return a / b; }
#endif

/* The lanes in float64, in two vectors of halves; the second is zero if they were float64 already. */
#ifndef vwiden
FA_INLINE void vwiden(dvec wide[2], vec x) {
#if FA_BITS == 64
    wide[0] = (dvec)x;
    wide[1] = (dvec){0};
#else
    dvec low = {0}, high = {0};
    for (int i = 0; i < DL; i++) low[i] = (double)x[i], high[i] = (double)x[DL + i];
    wide[0] = low;
    wide[1] = high;
#endif
}
#endif

/* The lanes that vwiden would make these of. */
#ifndef vnarrow
FA_INLINE vec vnarrow(const dvec wide[2]) {
#if FA_BITS == 64
    return (vec)wide[0];
#else
    vec x;
    for (int i = 0; i < DL; i++) x[i] = (real)wide[0][i], x[DL + i] = (real)wide[1][i];
    return x;
#endif
}
#endif

/* Whether all lanes of four vectors are <= limit. */
#ifndef vnone_above
FA_INLINE int vnone_above(const vec *x, vec limit) {
    ivec out = (x[0] <= limit) & (x[1] <= limit) & (x[2] <= limit) & (x[3] <= limit);
    ireal all = -1;
    for (int i = 0; i < VL; i++) all &= out[i];
    return all != 0;
}
#endif

/* One bit for each lane that is not <= limit. */
#ifndef vbits_above
FA_INLINE unsigned vbits_above(vec x, real limit) {
    unsigned in = 0;
    for (int i = 0; i < VL; i++) in |= (unsigned)!(x[i] <= limit) << i;
    return in;
}
#endif

/* Packs the lanes of x that are not <= limit into packed[n], ..., and their numbers j, j + 1, ... into key[n], ...;
 * returns n and how many they are. What lies up to a vector further is written too. */
#ifndef vpack_above
FA_INLINE int64_t vpack_above(real *packed, int32_t *key, int64_t n, vec x, real limit, int64_t j) {
    unsigned in = vbits_above(x, limit);
    if (!in) return n;
    real lanes[VL];
    vstore(lanes, x);
    for (; in; in &= in - 1) {
        const int i = __builtin_ctz(in);
        packed[n] = lanes[i];
        key[n++] = (int32_t)(j + i);
    }
    return n;
}
#endif

#ifndef dsum
FA_INLINE double dsum(dvec v) {
    double sum = v[0];
    for (int i = 1; i < DL; i++) sum += v[i];
    return sum;
}
#endif

/* Lanes above the limit, the others zero; their number is added to *count. */
#ifndef dabove
FA_INLINE dvec dabove(dvec v, dvec limit, int64_t *count) {
    const lvec in = v > limit;
    for (int i = 0; i < DL; i++) *count -= in[i];
    return (dvec)((lvec)v & in);
}
#endif
#endif
