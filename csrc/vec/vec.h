/* Vector notation for one element type at one ISA level.
 *
 * A level unit defines one of FA_LEVEL_GENERIC, FA_LEVEL_AVX2, FA_LEVEL_AVX512 or FA_LEVEL_NEON, then includes this
 * file (through levels/kernels.h) once with FA_BITS 32 and once with 64.  Kernels are written against the names below;
 * each resolves to a function that carries the element type, so both versions live in one translation unit.
 *
 *   real, vec, ivec     element, vector of VL elements, integer vector of the same lanes
 *   PW                  panel width in elements: 256 bytes at every level, so packed data has one layout
 *   MR, NV              rows and vectors of one register tile: MR * NV accumulators
 *
 * Multiply-add is always written (vfma); the build passes -ffp-contract=off, so no compiler makes another one.
 */
#ifndef FA_VEC_H
#define FA_VEC_H

#include <stdint.h>
#include <stddef.h>
#include <string.h>
#include <math.h>
#if defined(FA_LEVEL_AVX2) || defined(FA_LEVEL_AVX512)
#include <immintrin.h>
#elif defined(FA_LEVEL_NEON)
#include <arm_neon.h>
#endif

#if defined(FA_LEVEL_AVX512)
#define FA_VBYTES 64
#define NV 4
#elif defined(FA_LEVEL_AVX2)
#define FA_VBYTES 32
#define NV 2
#elif defined(FA_LEVEL_NEON)
#define FA_VBYTES 16
#define NV 4
#else
#define FA_VBYTES 16
#define NV 2
#endif

#define MR 6
#define FA_INLINE static inline __attribute__((always_inline, unused))
#define FA_FUNC static __attribute__((unused))
#define FA_CAT_(a, b) fa_##a##_##b
#define FA_CAT(a, b) FA_CAT_(a, b)
#define FN(name) FA_CAT(name, FA_SUFFIX)

#define real FN(real)
#define vec FN(vec)
#define ivec FN(ivec)
#define ireal FN(ireal)
#define VL ((int)(FA_VBYTES / sizeof(real)))
#define PW ((int)(256 / sizeof(real)))
#define NEG_INF (-(real)INFINITY)

#define vload FN(vload)
#define vload_n FN(vload_n)
#define vload_or FN(vload_or)
#define vstore FN(vstore)
#define vstore_n FN(vstore_n)
#define vset1 FN(vset1)
#define vfma FN(vfma)
#define vfma_once FN(vfma_once)
#define vmax FN(vmax)
#define vmin FN(vmin)
#define vsqrt FN(vsqrt)
#define vselect_lt FN(vselect_lt)
#define vhmax FN(vhmax)
#define vhsum FN(vhsum)
#define vscale2 FN(vscale2)
#define vmax_bits FN(vmax_bits)
#define vscale2_or_zero FN(vscale2_or_zero)
#define dvec FN(dvec)
#define vwiden FN(vwiden)
#define vadd_wide FN(vadd_wide)
#define vnarrow FN(vnarrow)
#define vhsum_wide FN(vhsum_wide)

#endif /* FA_VEC_H */

#undef FA_SUFFIX
#if FA_BITS == 32
#define FA_SUFFIX f32
typedef float real;
typedef int32_t ireal;
#define FA_MAGIC 12582912.0f /* 1.5 * 2^23: adding it rounds to an integer, whose bits end up lowest */
#define FA_MANTISSA 23
#define FA_EXP_BIAS 127
#define FA_LARGEST 0x1.fffffep127f
#else
#define FA_SUFFIX f64
typedef double real;
typedef int64_t ireal;
#undef FA_MAGIC
#undef FA_MANTISSA
#undef FA_EXP_BIAS
#undef FA_LARGEST
#define FA_MAGIC 6755399441055744.0
#define FA_MANTISSA 52
#define FA_EXP_BIAS 1023
#define FA_LARGEST 0x1.fffffffffffffp1023
#endif

typedef real vec __attribute__((vector_size(FA_VBYTES)));
typedef ireal ivec __attribute__((vector_size(FA_VBYTES)));

FA_INLINE vec vload(const real *p) {
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}
FA_INLINE void vstore(real *p, vec v) { memcpy(p, &v, sizeof v); }

/* The first n lanes only, the others zero; memory past p[n-1] is not touched. */
FA_INLINE vec vload_n(const real *p, int64_t n) {
    if (n >= VL) return vload(p);
#if defined(FA_LEVEL_AVX512) && FA_BITS == 32
    return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#elif defined(FA_LEVEL_AVX512)
    return (vec)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
#else
    real lanes[VL];
    for (int i = 0; i < VL; i++) lanes[i] = i < n ? p[i] : (real)0;
    return vload(lanes);
#endif
}
/* The first n lanes, the others `other`. */
FA_INLINE vec vload_or(const real *p, int64_t n, real other) {
    if (n >= VL) return vload(p);
#if defined(FA_LEVEL_AVX512) && FA_BITS == 32
    return (vec)_mm512_mask_loadu_ps(_mm512_set1_ps(other), (__mmask16)((1u << n) - 1), p);
#elif defined(FA_LEVEL_AVX512)
    return (vec)_mm512_mask_loadu_pd(_mm512_set1_pd(other), (__mmask8)((1u << n) - 1), p);
#else
    real lanes[VL];
    for (int i = 0; i < VL; i++) lanes[i] = i < n ? p[i] : other;
    return vload(lanes);
#endif
}
FA_INLINE void vstore_n(real *p, vec v, int64_t n) {
    if (n >= VL) {
        vstore(p, v);
        return;
    }
#if defined(FA_LEVEL_AVX512) && FA_BITS == 32
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#elif defined(FA_LEVEL_AVX512)
    _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)v);
#else
    real lanes[VL];
    vstore(lanes, v);
    for (int i = 0; i < n; i++) p[i] = lanes[i];
#endif
}

FA_INLINE vec vset1(real x) {
#if defined(FA_LEVEL_AVX512) && FA_BITS == 32
    return (vec)_mm512_set1_ps(x);
#elif defined(FA_LEVEL_AVX512)
    return (vec)_mm512_set1_pd(x);
#elif defined(FA_LEVEL_AVX2) && FA_BITS == 32
    return (vec)_mm256_set1_ps(x);
#elif defined(FA_LEVEL_AVX2)
    return (vec)_mm256_set1_pd(x);
#elif FA_BITS == 32
    return (vec){x, x, x, x};
#else
    return (vec){x, x};
#endif
}

/* a * b + c; one rounding where the level has the instruction, two at the generic level. */
FA_INLINE vec vfma(vec a, vec b, vec c) {
#if defined(FA_LEVEL_AVX512) && FA_BITS == 32
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(FA_LEVEL_AVX512)
    return (vec)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(FA_LEVEL_AVX2) && FA_BITS == 32
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(FA_LEVEL_AVX2)
    return (vec)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif defined(FA_LEVEL_NEON) && FA_BITS == 32
    return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#elif defined(FA_LEVEL_NEON)
    return (vec)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#else
    return a * b + c;
#endif
}

/* a * b + c where the product must not be rounded by itself, at every level; c cancels most of it. Slow at the generic
 * level: through float64, or with the rounding error of the product by Dekker's splitting (|a|, |b| < 1e299). */
FA_INLINE vec vfma_once(vec a, vec b, vec c) {
#if !defined(FA_LEVEL_GENERIC)
    return vfma(a, b, c);
#elif FA_BITS == 32
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

/* x < t ? a : b in each lane; a NaN in x selects b. */
FA_INLINE vec vselect_lt(vec x, vec t, vec a, vec b) {
#if defined(FA_LEVEL_AVX512) && FA_BITS == 32
    return (vec)_mm512_mask_blend_ps(_mm512_cmp_ps_mask((__m512)x, (__m512)t, _CMP_LT_OQ), (__m512)b, (__m512)a);
#elif defined(FA_LEVEL_AVX512)
    return (vec)_mm512_mask_blend_pd(_mm512_cmp_pd_mask((__m512d)x, (__m512d)t, _CMP_LT_OQ), (__m512d)b, (__m512d)a);
#else
    ivec m = x < t;
    return (vec)(((ivec)a & m) | ((ivec)b & ~m));
#endif
}

/* The second argument is returned when either is NaN, as the x86 instructions do: vmax(constant, x) keeps a NaN. */
FA_INLINE vec vmax(vec a, vec b) {
#if defined(FA_LEVEL_AVX512) && FA_BITS == 32
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(FA_LEVEL_AVX512)
    return (vec)_mm512_max_pd((__m512d)a, (__m512d)b);
#elif defined(FA_LEVEL_AVX2) && FA_BITS == 32
    return (vec)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(FA_LEVEL_AVX2)
    return (vec)_mm256_max_pd((__m256d)a, (__m256d)b);
#else
    return vselect_lt(b, a, a, b);
#endif
}
FA_INLINE vec vmin(vec a, vec b) {
#if defined(FA_LEVEL_AVX512) && FA_BITS == 32
    return (vec)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(FA_LEVEL_AVX512)
    return (vec)_mm512_min_pd((__m512d)a, (__m512d)b);
#elif defined(FA_LEVEL_AVX2) && FA_BITS == 32
    return (vec)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(FA_LEVEL_AVX2)
    return (vec)_mm256_min_pd((__m256d)a, (__m256d)b);
#else
    return vselect_lt(a, b, a, b);
#endif
}

/* Larger magnitude by its bits: infinity above every number, NaN above infinity. */
FA_INLINE ivec vmax_bits(ivec a, vec x) {
    ivec b = (ivec)x & (ivec)(((ivec){0} - 1) ^ (ivec)vset1((real)-0.0));
#if defined(FA_LEVEL_AVX512) && FA_BITS == 32
    return (ivec)_mm512_max_epi32((__m512i)a, (__m512i)b);
#elif defined(FA_LEVEL_AVX512)
    return (ivec)_mm512_max_epi64((__m512i)a, (__m512i)b);
#else
    ivec more = a > b;
    return (a & more) | (b & ~more);
#endif
}

FA_INLINE real vhmax(vec v) {
#if defined(FA_LEVEL_AVX512) && FA_BITS == 32
    return _mm512_reduce_max_ps((__m512)v);
#elif defined(FA_LEVEL_AVX512)
    return _mm512_reduce_max_pd((__m512d)v);
#else
    real m = v[0];
    for (int i = 1; i < VL; i++) m = v[i] > m ? v[i] : m;
    return m;
#endif
}

/* Sum of the lanes in one fixed order: halves are added until one lane is left. */
FA_INLINE real vhsum(vec v) {
#if defined(FA_LEVEL_AVX512) && FA_BITS == 32
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));
    __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    quarter = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
    return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)));
#else
    real lanes[VL];
    vstore(lanes, v);
    for (int n = VL / 2; n > 0; n /= 2)
        for (int i = 0; i < n; i++) lanes[i] += lanes[i + n];
    return lanes[0];
#endif
}

/* p * 2^n for integral n with a normal result. A NaN in p stays a NaN. */
FA_INLINE vec vscale2(vec p, vec n) {
#if defined(FA_LEVEL_AVX512) && FA_BITS == 32
    return (vec)_mm512_scalef_ps((__m512)p, (__m512)n);
#elif defined(FA_LEVEL_AVX512)
    return (vec)_mm512_scalef_pd((__m512d)p, (__m512d)n);
#else
    ivec e = (ivec)(n + vset1((real)FA_MAGIC)) << FA_MANTISSA;
    vec one = vset1(1);
    return p * (vec)(e + (ivec)one);
#endif
}

/* The same where x >= lowest or x is NaN, and zero elsewhere. */
FA_INLINE vec vscale2_or_zero(vec p, vec n, vec x, vec lowest) {
#if defined(FA_LEVEL_AVX512) && FA_BITS == 32
    return (vec)_mm512_maskz_scalef_ps(_mm512_cmp_ps_mask((__m512)x, (__m512)lowest, _CMP_NLT_UQ), (__m512)p,
                                       (__m512)n);
#elif defined(FA_LEVEL_AVX512)
    return (vec)_mm512_maskz_scalef_pd(_mm512_cmp_pd_mask((__m512d)x, (__m512d)lowest, _CMP_NLT_UQ), (__m512d)p,
                                       (__m512d)n);
#else
    ivec below = x < lowest;
    return (vec)((ivec)vscale2(p, n) & ~below);
#endif
}

FA_INLINE vec vsqrt(vec x) {
#if defined(FA_LEVEL_AVX512) && FA_BITS == 32
    return (vec)_mm512_sqrt_ps((__m512)x);
#elif defined(FA_LEVEL_AVX512)
    return (vec)_mm512_sqrt_pd((__m512d)x);
#elif defined(FA_LEVEL_AVX2) && FA_BITS == 32
    return (vec)_mm256_sqrt_ps((__m256)x);
#elif defined(FA_LEVEL_AVX2)
    return (vec)_mm256_sqrt_pd((__m256d)x);
#else
    for (int i = 0; i < VL; i++) x[i] = FA_BITS == 32 ? (real)sqrtf((float)x[i]) : (real)sqrt((double)x[i]);
    return x;
#endif
}

/* The lanes in float64, in two vectors of halves; the second is zero if they were float64 already. */
typedef double dvec __attribute__((vector_size(FA_VBYTES)));

FA_INLINE void vwiden(dvec wide[2], vec x) {
#if FA_BITS == 64
    wide[0] = (dvec)x;
    wide[1] = (dvec){0};
#elif defined(FA_LEVEL_AVX512)
    wide[0] = (dvec)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)x));
    wide[1] = (dvec)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)x, 1));
#elif defined(FA_LEVEL_AVX2)
    wide[0] = (dvec)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)x));
    wide[1] = (dvec)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)x, 1));
#else
    wide[0] = (dvec){(double)x[0], (double)x[1]};
    wide[1] = (dvec){(double)x[2], (double)x[3]};
#endif
}

/* Sums of the lanes of many vectors in float64: lane i is added to sum i. */
FA_INLINE void vadd_wide(dvec sums[2], vec x) {
    dvec wide[2];
    vwiden(wide, x);
    sums[0] = sums[0] + wide[0];
    if (FA_BITS == 32) sums[1] = sums[1] + wide[1];
}
FA_INLINE vec vnarrow(const dvec wide[2]) {
#if FA_BITS == 64
    return (vec)wide[0];
#elif defined(FA_LEVEL_AVX512)
    return (vec)_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps((__m512d)wide[0])),
                                   _mm512_cvtpd_ps((__m512d)wide[1]), 1);
#elif defined(FA_LEVEL_AVX2)
    return (vec)_mm256_set_m128(_mm256_cvtpd_ps((__m256d)wide[1]), _mm256_cvtpd_ps((__m256d)wide[0]));
#else
    return (vec){(real)wide[0][0], (real)wide[0][1], (real)wide[1][0], (real)wide[1][1]};
#endif
}
FA_INLINE double vhsum_wide(const dvec sums[2]) {
    dvec all = sums[0] + sums[1];
    double sum = 0;
    for (int i = 0; i < FA_VBYTES / 8; i++) sum += all[i];
    return sum;
}
