/* Rows of keys and values that a memory keeps in a narrower type, as float32, exactly:
 *
 *   int8       n whole numbers q, then the four bytes of a float32 s: x = s q. A minus sign of s says that the row has
 *              numbers that are not finite: 127, -127 and -128 are infinity, minus infinity and NaN
 *   bfloat16   the upper half of a float32
 *   float16    by way of integers, times 2^112, so that every level has the same bits
 */
#ifndef FA_ATTENTION_KEPT_INL
#define FA_ATTENTION_KEPT_INL
#include "../vec/vec.h"
#include "../kernels.h"

FA_INLINE int64_t kept_bytes(int32_t kept) { return kept == FA_KEPT_INT8 ? 1 : 2; }

#if FA_BITS == 32 && FA_IN_PLACE
typedef int8_t kept_int8 __attribute__((vector_size(FA_VBYTES / 4)));
typedef int16_t kept_int16 __attribute__((vector_size(FA_VBYTES / 2)));
typedef uint16_t kept_half __attribute__((vector_size(FA_VBYTES / 2)));

FA_FUNC void kept_not_finite(real *dst, const int8_t *q, int64_t n) {
    for (int64_t c = 0; c < n; c++)
        if (q[c] == 127 || q[c] <= -127)
            dst[c] = q[c] == 127 ? (real)INFINITY : q[c] == -127 ? -(real)INFINITY : (real)NAN;
}

FA_INLINE void kept_row_int8(real *dst, const char *src, int64_t n) {
    real scale;
    memcpy(&scale, src + n, sizeof scale);
    const vec s = vset1((real)fabsf(scale));
    for (int64_t c = 0; c < n; c += VL) {
        kept_int8 q = {0};
        if (n - c >= VL)
            memcpy(&q, src + c, sizeof q);
        else
            memcpy(&q, src + c, (size_t)(n - c));
        const kept_int16 wider = __builtin_convertvector(q, kept_int16); /* at once GCC 12 takes numbers one by one */
        vstore(dst + c, __builtin_convertvector(__builtin_convertvector(wider, ivec), vec) * s);
    }
    if (signbit(scale)) kept_not_finite(dst, (const int8_t *)src, n);
}

FA_INLINE vec kept_float16(uvec half) {
    const uvec sign = (half & 0x8000u) << 16, size = (half & 0x7fffu) << 13;
    const uvec large = (uvec)(size >= 0xf800000u) & 0x7f800000u;
    return (vec)((uvec)((vec)size * vset1(0x1p112f)) | large | sign);
}

FA_INLINE void kept_row_half(real *dst, const char *src, int64_t n, int bfloat16) {
    for (int64_t c = 0; c < n; c += VL) {
        kept_half narrow = {0};
        if (n - c >= VL)
            memcpy(&narrow, src + 2 * c, sizeof narrow);
        else
            memcpy(&narrow, src + 2 * c, 2 * (size_t)(n - c));
        const uvec half = __builtin_convertvector(narrow, uvec);
        vstore(dst + c, bfloat16 ? (vec)(half << 16) : kept_float16(half));
    }
}

/* n numbers of a row, and zeros up to a whole vector. */
FA_INLINE void kept_row(real *dst, const void *src, int64_t n, int32_t kept) {
    if (kept == FA_KEPT_INT8)
        kept_row_int8(dst, src, n);
    else
        kept_row_half(dst, src, n, kept == FA_KEPT_BFLOAT16);
}
#else
FA_INLINE void kept_row(void *dst, const void *src, int64_t n, int32_t kept) {
    (void)dst, (void)src, (void)n, (void)kept; /* calls of other types have no such rows */
}
#endif
#endif
