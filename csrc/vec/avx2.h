/* Vector functions by AVX2 with FMA; generic.h says what each one does. */
#ifndef FA_VEC_AVX2_H
#define FA_VEC_AVX2_H
#define FA_VBYTES 32
#define NV 2
#define GEMM_DEPTH 512 /* a panel of 128 KiB, beside x in an L2 of 256 or 512 */
#include <immintrin.h>

#include "types.h"

#define vset1 vset1
#define vfma vfma
#define vmax vmax
#define vmin vmin
#define vsqrt vsqrt
#define vwiden vwiden
#define vnone_above vnone_above
#define vbits_above vbits_above
#define dabove dabove

#if FA_BITS == 32
#define vnarrow vnarrow
#define vtranspose vtranspose
#define vpairs vpairs
FA_INLINE vec vset1(real x) { return (vec)_mm256_set1_ps(x); }
FA_INLINE ivec vpairs(ivec a, ivec b) { return (ivec)_mm256_madd_epi16((__m256i)a, (__m256i)b); }
FA_INLINE vec vfma(vec a, vec b, vec c) { return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
FA_INLINE vec vmax(vec a, vec b) { return (vec)_mm256_max_ps((__m256)a, (__m256)b); }
FA_INLINE vec vmin(vec a, vec b) { return (vec)_mm256_min_ps((__m256)a, (__m256)b); }
FA_INLINE vec vsqrt(vec x) { return (vec)_mm256_sqrt_ps((__m256)x); }
FA_INLINE void vwiden(dvec wide[2], vec x) {
    wide[0] = (dvec)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)x));
    wide[1] = (dvec)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)x, 1));
}
FA_INLINE vec vnarrow(const dvec wide[2]) {
    return (vec)_mm256_set_m128(_mm256_cvtpd_ps((__m256d)wide[1]), _mm256_cvtpd_ps((__m256d)wide[0]));
}
/* Rows of a square of VL become its columns. */
FA_INLINE void vtranspose(vec *rows) {
    __m256 a[8], b[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) a[i] = (__m256)rows[i];
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        __m256 lo0 = _mm256_unpacklo_ps(a[i], a[i + 1]), hi0 = _mm256_unpackhi_ps(a[i], a[i + 1]);
        __m256 lo1 = _mm256_unpacklo_ps(a[i + 2], a[i + 3]), hi1 = _mm256_unpackhi_ps(a[i + 2], a[i + 3]);
        b[i] = _mm256_shuffle_ps(lo0, lo1, 0x44);
        b[i + 1] = _mm256_shuffle_ps(lo0, lo1, 0xee);
        b[i + 2] = _mm256_shuffle_ps(hi0, hi1, 0x44);
        b[i + 3] = _mm256_shuffle_ps(hi0, hi1, 0xee);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        rows[c] = (vec)_mm256_permute2f128_ps(b[c], b[c + 4], 0x20);
        rows[c + 4] = (vec)_mm256_permute2f128_ps(b[c], b[c + 4], 0x31);
    }
}
FA_INLINE unsigned vbits_above(vec x, real limit) {
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps((__m256)x, _mm256_set1_ps(limit), _CMP_NLE_UQ));
}

#else
FA_INLINE vec vset1(real x) { return (vec)_mm256_set1_pd(x); }
FA_INLINE vec vfma(vec a, vec b, vec c) { return (vec)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
FA_INLINE vec vmax(vec a, vec b) { return (vec)_mm256_max_pd((__m256d)a, (__m256d)b); }
FA_INLINE vec vmin(vec a, vec b) { return (vec)_mm256_min_pd((__m256d)a, (__m256d)b); }
FA_INLINE vec vsqrt(vec x) { return (vec)_mm256_sqrt_pd((__m256d)x); }
FA_INLINE void vwiden(dvec wide[2], vec x) {
    wide[0] = (dvec)x;
    wide[1] = (dvec){0};
}
FA_INLINE unsigned vbits_above(vec x, real limit) {
    return (unsigned)_mm256_movemask_pd(_mm256_cmp_pd((__m256d)x, _mm256_set1_pd(limit), _CMP_NLE_UQ));
}
#endif

FA_INLINE int vnone_above(const vec *x, vec limit) {
    ivec out = (x[0] <= limit) & (x[1] <= limit) & (x[2] <= limit) & (x[3] <= limit);
    return _mm256_movemask_epi8((__m256i)out) == -1;
}
FA_INLINE dvec dabove(dvec v, dvec limit, int64_t *count) {
    const __m256d in = _mm256_cmp_pd((__m256d)v, (__m256d)limit, _CMP_GT_OQ);
    *count += __builtin_popcount((unsigned)_mm256_movemask_pd(in));
    return (dvec)_mm256_and_pd(in, (__m256d)v);
}

#include "generic.h"
#endif
