/* Vector functions by AVX-512 F, BW, DQ and VL; generic.h says what each one does. */
#ifndef FA_VEC_AVX512_H
#define FA_VEC_AVX512_H
#define FA_VBYTES 64
#define NV 4
#include <immintrin.h>

#include "types.h"

#define vset1 vset1
#define vload_n vload_n
#define vload_or vload_or
#define vstore_n vstore_n
#define vstream vstream
#define vfma vfma
#define vselect_lt vselect_lt
#define vmax vmax
#define vmin vmin
#define vmax_bits vmax_bits
#define vhmax_bits vhmax_bits
#define vhmax vhmax
#define vscale2 vscale2
#define vscale2_or_zero vscale2_or_zero
#define vwithin vwithin
#define vfraction vfraction
#define vscale2_floor vscale2_floor
#define vsqrt vsqrt
#define vwiden vwiden
#define vnone_above vnone_above
#define vbits_above vbits_above
#define vpack_above vpack_above
#define dsum dsum
#define dabove dabove

/* Names that differ by the type of the elements. */
#if FA_BITS == 32
typedef __m512 vreg;
typedef __mmask16 vmask;
#define OP(name) _mm512_##name##_ps
#define IN(x, y, how) _mm512_cmp_ps_mask((vreg)(x), (vreg)(y), how)
#define MAX_BITS _mm512_max_epi32
#define TOP_BITS _mm512_reduce_max_epi32
#else
typedef __m512d vreg;
typedef __mmask8 vmask;
#define OP(name) _mm512_##name##_pd
#define IN(x, y, how) _mm512_cmp_pd_mask((vreg)(x), (vreg)(y), how)
#define MAX_BITS _mm512_max_epi64
#define TOP_BITS _mm512_reduce_max_epi64
#endif

FA_INLINE vmask vlanes(int64_t n) { return (vmask)((1u << n) - 1); }
FA_INLINE vec vset1(real x) { return (vec)OP(set1)(x); }
FA_INLINE vec vload_n(const real *p, int64_t n) { return n >= VL ? vload(p) : (vec)OP(maskz_loadu)(vlanes(n), p); }
FA_INLINE vec vload_or(const real *p, int64_t n, real other) {
    return n >= VL ? vload(p) : (vec)OP(mask_loadu)(OP(set1)(other), vlanes(n), p);
}
FA_INLINE void vstore_n(real *p, vec v, int64_t n) {
    if (n >= VL)
        vstore(p, v);
    else
        OP(mask_storeu)(p, vlanes(n), (vreg)v);
}
FA_INLINE vec vfma(vec a, vec b, vec c) { return (vec)OP(fmadd)((vreg)a, (vreg)b, (vreg)c); }
FA_INLINE vec vselect_lt(vec x, vec t, vec a, vec b) {
    return (vec)OP(mask_blend)(IN(x, t, _CMP_LT_OQ), (vreg)b, (vreg)a);
}
FA_INLINE vec vmax(vec a, vec b) { return (vec)OP(max)((vreg)a, (vreg)b); }
FA_INLINE vec vmin(vec a, vec b) { return (vec)OP(min)((vreg)a, (vreg)b); }
FA_INLINE ivec vmax_bits(ivec a, vec x) {
    ivec b = (ivec)x & (ivec)(((ivec){0} - 1) ^ (ivec)vset1((real)-0.0));
    return (ivec)MAX_BITS((__m512i)a, (__m512i)b);
}
FA_INLINE real vhmax_bits(ivec v) {
    const ireal top = (ireal)TOP_BITS((__m512i)v);
    real x;
    memcpy(&x, &top, sizeof x);
    return x;
}
FA_INLINE real vhmax(vec v) { return OP(reduce_max)((vreg)v); }
FA_INLINE vec vscale2(vec p, vec n) { return (vec)OP(scalef)((vreg)p, (vreg)n); }
FA_INLINE vec vscale2_or_zero(vec p, vec n, vec x, vec lowest) {
    const vmask in = IN(x, lowest, _CMP_NLT_UQ);
    return (vec)OP(maskz_scalef)(in, (vreg)p, (vreg)n);
}
FA_INLINE vec vwithin(vec x, vec bound) { return (vec)OP(range)((vreg)x, (vreg)bound, 2); } /* the lesser size */
FA_INLINE vec vfraction(vec x) { return (vec)OP(reduce)((vreg)x, _MM_FROUND_TO_NEG_INF); }
FA_INLINE vec vscale2_floor(vec p, vec x, vec lowest) {
    const vmask in = IN(x, lowest, _CMP_NLT_UQ);
    return (vec)OP(maskz_scalef)(in, (vreg)p, (vreg)x);
}
FA_INLINE void vstream(real *p, vec v) { OP(stream)(p, (vreg)v); }
FA_INLINE void vstream_end(void) { _mm_sfence(); }
FA_INLINE vec vsqrt(vec x) { return (vec)OP(sqrt)((vreg)x); }
FA_INLINE int vnone_above(const vec *x, vec limit) {
    vmask out = (vmask)-1;
    for (int c = 0; c < 4; c++) out &= IN(x[c], limit, _CMP_LE_OQ);
    return out == (vmask)-1;
}
FA_INLINE unsigned vbits_above(vec x, real limit) { return IN(x, OP(set1)(limit), _CMP_NLE_UQ); }
#undef IN

#if FA_BITS == 32
#define vhsum vhsum
#define vquotient vquotient
#define vreciprocal vreciprocal
#define vnarrow vnarrow
#define vtranspose vtranspose
#define vpairs vpairs
#define vbytes vbytes
#define vcolumns vcolumns

FA_INLINE ivec vpairs(ivec a, ivec b) { return (ivec)_mm512_madd_epi16((__m512i)a, (__m512i)b); }
#ifdef __AVX512BF16__
#define vnearest_pairs vnearest_pairs
FA_INLINE uvec vnearest_pairs(vec low, vec high) { /* words of low come first, then those of high */
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return (uvec)_mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low));
}
#endif
FA_INLINE real vhsum(vec v) {
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));
    __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    quarter = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
    return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)));
}
FA_INLINE vec vreciprocal(vec x) { return (vec)_mm512_rcp14_ps((__m512)x); }
/* By an estimate of 1 / b, one Newton step and the remainder: the division unit takes 16 cycles for a vector, and the
 * five divisions of an LSTM's unit were half of its time. */
FA_INLINE vec vquotient(vec a, vec b) {
    vec r = (vec)_mm512_rcp14_ps((__m512)b);
    r = vfma(vfma(-b, r, vset1(1)), r, r);
    vec q = a * r;
    return vfma(vfma(-q, b, a), r, q);
}
FA_INLINE void vwiden(dvec wide[2], vec x) {
    wide[0] = (dvec)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)x));
    wide[1] = (dvec)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)x, 1));
}
FA_INLINE vec vnarrow(const dvec wide[2]) {
    return (vec)_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps((__m512d)wide[0])),
                                   _mm512_cvtpd_ps((__m512d)wide[1]), 1);
}
/* Four vectors of whole numbers, of bytes each. */
FA_INLINE void vbytes(void *to, const ivec *from) {
    const __m512i lanes = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i low = _mm512_packs_epi32((__m512i)from[0], (__m512i)from[1]);
    const __m512i high = _mm512_packs_epi32((__m512i)from[2], (__m512i)from[3]);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi32(lanes, _mm512_packs_epi16(low, high)));
}
/* Rows of a square of VL become its columns. */
FA_INLINE void vtranspose(vec *rows) {
    __m512 a[16], b[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) a[i] = (__m512)rows[i];
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        __m512 lo0 = _mm512_unpacklo_ps(a[i], a[i + 1]), hi0 = _mm512_unpackhi_ps(a[i], a[i + 1]);
        __m512 lo1 = _mm512_unpacklo_ps(a[i + 2], a[i + 3]), hi1 = _mm512_unpackhi_ps(a[i + 2], a[i + 3]);
        b[i] = _mm512_shuffle_ps(lo0, lo1, 0x44);
        b[i + 1] = _mm512_shuffle_ps(lo0, lo1, 0xee);
        b[i + 2] = _mm512_shuffle_ps(hi0, hi1, 0x44);
        b[i + 3] = _mm512_shuffle_ps(hi0, hi1, 0xee);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        __m512 p = _mm512_shuffle_f32x4(b[c], b[c + 4], 0x88), q = _mm512_shuffle_f32x4(b[c], b[c + 4], 0xdd);
        __m512 u = _mm512_shuffle_f32x4(b[c + 8], b[c + 12], 0x88);
        __m512 w = _mm512_shuffle_f32x4(b[c + 8], b[c + 12], 0xdd);
        rows[c] = (vec)_mm512_shuffle_f32x4(p, u, 0x88);
        rows[c + 8] = (vec)_mm512_shuffle_f32x4(p, u, 0xdd);
        rows[c + 4] = (vec)_mm512_shuffle_f32x4(q, w, 0x88);
        rows[c + 12] = (vec)_mm512_shuffle_f32x4(q, w, 0xdd);
    }
}
/* Elements 0 to 3 of 16 rows, the first 4 x `fours` of them, as columns; of the others there are zeros. Half as many
 * shuffles as a square takes, as quarters of vectors are brought together while they are loaded. */
FA_INLINE void vcolumns(vec *to, const real *const *rows, int64_t at, const int fours) {
    __m512 a[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        a[i] = _mm512_zextps128_ps512(_mm_loadu_ps(rows[i] + at));
        if (fours == 1) continue;
        a[i] = _mm512_insertf32x4(a[i], _mm_loadu_ps(rows[i + 4] + at), 1);
        a[i] = _mm512_insertf32x4(a[i], _mm_loadu_ps(rows[i + 8] + at), 2);
        a[i] = _mm512_insertf32x4(a[i], _mm_loadu_ps(rows[i + 12] + at), 3);
    }
    const __m512d lo0 = _mm512_castps_pd(_mm512_unpacklo_ps(a[0], a[1]));
    const __m512d hi0 = _mm512_castps_pd(_mm512_unpackhi_ps(a[0], a[1]));
    const __m512d lo1 = _mm512_castps_pd(_mm512_unpacklo_ps(a[2], a[3]));
    const __m512d hi1 = _mm512_castps_pd(_mm512_unpackhi_ps(a[2], a[3]));
    to[0] = (vec)_mm512_unpacklo_pd(lo0, lo1);
    to[1] = (vec)_mm512_unpackhi_pd(lo0, lo1);
    to[2] = (vec)_mm512_unpacklo_pd(hi0, hi1);
    to[3] = (vec)_mm512_unpackhi_pd(hi0, hi1);
}
FA_INLINE int64_t vpack_above(real *packed, int32_t *key, int64_t n, vec x, real limit, int64_t j) {
    const __mmask16 in = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(limit), _CMP_NLE_UQ);
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    _mm512_storeu_ps(packed + n, _mm512_maskz_compress_ps(in, (__m512)x));
    _mm512_storeu_si512(key + n, _mm512_maskz_compress_epi32(in, _mm512_add_epi32(_mm512_set1_epi32((int)j), lanes)));
    return n + __builtin_popcount(in);
}

#else
FA_INLINE void vwiden(dvec wide[2], vec x) {
    wide[0] = (dvec)x;
    wide[1] = (dvec){0};
}
FA_INLINE int64_t vpack_above(real *packed, int32_t *key, int64_t n, vec x, real limit, int64_t j) {
    const __mmask8 in = _mm512_cmp_pd_mask((__m512d)x, _mm512_set1_pd(limit), _CMP_NLE_UQ);
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm512_storeu_pd(packed + n, _mm512_maskz_compress_pd(in, (__m512d)x));
    _mm256_storeu_si256((__m256i *)(key + n),
                        _mm256_maskz_compress_epi32(in, _mm256_add_epi32(_mm256_set1_epi32((int)j), lanes)));
    return n + __builtin_popcount(in);
}
#endif

FA_INLINE double dsum(dvec v) { return _mm512_reduce_add_pd((__m512d)v); }
FA_INLINE dvec dabove(dvec v, dvec limit, int64_t *count) {
    const __mmask8 in = _mm512_cmp_pd_mask((__m512d)v, (__m512d)limit, _CMP_GT_OQ);
    *count += __builtin_popcount(in);
    return (dvec)_mm512_maskz_mov_pd(in, (__m512d)v);
}

#include "generic.h"
#endif
