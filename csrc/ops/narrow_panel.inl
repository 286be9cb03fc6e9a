/* What products with narrow packed weights share: where a panel lies, how x is read, and how sums become y. */
#ifndef FA_OPS_NARROW_PANEL_INL
#define FA_OPS_NARROW_PANEL_INL
#include "../vec/vec.h"
#include "../kernels.h"
#include "../tile/halves.inl"

#define NARROW_BLOCK 4096 /* bytes of a block of K, PW columns */
#define NARROW_TILE 1024  /* 16 columns of it */

/* Numbers of a block. */
FA_INLINE int64_t narrow_depth(int32_t type) { return type == FA_INT8 ? 64 : 32; }
FA_INLINE int64_t narrow_blocks(int32_t type, int64_t K) { return (K + narrow_depth(type) - 1) / narrow_depth(type); }
FA_INLINE const char *narrow_panel(const fa_narrow *a, int64_t panel) {
    return a->w + panel * narrow_blocks(a->type, a->K) * NARROW_BLOCK;
}
FA_INLINE int64_t narrow_columns(const fa_narrow *a, int64_t panel) {
    return a->N - panel * PW < PW ? a->N - panel * PW : PW;
}

/* Numbers of row r of x from k on, zeros behind the last; the bits of bfloat16. */
FA_INLINE uvec narrow_bits(const fa_narrow *a, int64_t r, int64_t k) {
    const uint16_t *x = (const uint16_t *)a->x + r * a->x_row + k;
    const int64_t n = a->K - k;
    if (n >= VL) return half_bits(x);
    uint16_t last[VL] = {0};
    for (int64_t i = 0; i < n; i++) last[i] = x[i];
    return half_bits(last);
}

/* The numbers. */
FA_INLINE vec narrow_load(const fa_narrow *a, int64_t r, int64_t k) {
    if (a->halves) return (vec)(narrow_bits(a, r, k) << 16);
    return k < a->K ? eload_n(a->x + r * a->x_row + k, a->K - k) : vset1(0);
}

/* Number k of it. */
FA_INLINE real narrow_number(const fa_narrow *a, int64_t r, int64_t k) {
    const int64_t at = r * a->x_row + k;
    return a->halves ? half_real(((const uint16_t *)a->x)[at]) : to_real(a->x[at]);
}

/* A vector as bfloat16, to nearest, ties to even, infinite beyond the largest; NaN is that of its sign. */
FA_INLINE hvec narrow_half(vec x) {
    const ivec number = x == x;
    const uvec nan = ((uvec)x >> 16 & 0x8000u) | 0x7fc0u;
    return __builtin_convertvector((half_nearest(x) & (uvec)number) | (nan & ~(uvec)number), hvec);
}

/* y = f(sum + b) for a vector of a row from `column` on: the lanes that have their bit in `wanted`. */
FA_INLINE void narrow_put(const fa_narrow *a, int64_t row, int64_t column, vec sum, uint64_t wanted) {
    const uint64_t all = ((uint64_t)1 << VL) - 1;
    const int64_t n = a->N - column;
    const int64_t at = row * a->N + column;
    element *y = a->y + at;
    if (a->bias) sum = sum + eload_n(a->bias + column, n);
    if (a->relu) sum = vmax(vset1(0), sum);
    if (a->halves) {
        const hvec made = narrow_half(sum);
        uint16_t *bits = (uint16_t *)a->y + at;
        if ((wanted & all) == all && n >= VL)
            memcpy(bits, &made, sizeof made);
        else
            for (int i = 0; i < VL && i < n; i++)
                if (wanted >> i & 1) bits[i] = made[i];
    } else if ((wanted & all) == all)
        estore_n(y, sum, n);
    else
        for (int i = 0; i < VL && i < n; i++)
            if (wanted >> i & 1) y[i] = to_element(sum[i]);
}
#endif
