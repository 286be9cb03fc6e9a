/* Products of float32 with packed weights of bfloat16, by vectors:  y = f(x w + b), x rounded to bfloat16.
 *
 *   1. for each 6 rows of x and panel of columns, in the order of K: round 32 numbers of each row
 *   2.   numbers 0 to 15 of the block, and 16 to 31: a chain of multiply-adds each, from zero
 *   3.   the two are added, and then that to the sum of the blocks before
 * This is the order of a matrix unit (tile/amx_model.h), so that every level has one set of bits. The unit takes what
 * is below the smallest normal number for zero, vectors do not: narrow_tiles.inl names what it leaves to this file.
 *
 * Rounding is to nearest, ties to even; a finite number beyond the largest of bfloat16 becomes that.
 *
 * Bound: 2 M N K flops of float32 from 6 rows up; below that 2 N K bytes of weights from the cache they are in.
 */
#ifndef FA_OPS_NARROW_BFLOAT16_INL
#define FA_OPS_NARROW_BFLOAT16_INL
#include "../vec/vec.h"
#include "../kernels.h"
#include "../tile/fma.inl"
#include "narrow_panel.inl"

FA_INLINE vec bfloat16_rounded(vec x) {
    const uvec bits = (uvec)x, one = (uvec){0} + 1;
    const uvec near = bits + 0x7fffu + (bits >> 16 & one);
    /* Cut off what is not finite, or would be rounded to infinity; a NaN keeps one bit at least. */
    const ivec size = (ivec)(bits & 0x7fffffffu);
    const uvec cut = bits | ((uvec)(size > 0x7f800000) & 0x400000u), far = (uvec)(size >= 0x7f7f8000);
    return (vec)(((near & ~far) | (cut & far)) & 0xffff0000u);
}

/* A block: sums, PW apart, are added to. */
FA_INLINE void bfloat16_block(const int rows, const int vectors, const float (*x)[32], const char *w, int64_t column,
                              float *sums) {
    vec chains[MR][NV][2];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) chains[r][v][0] = chains[r][v][1] = vset1(0);
    for (int i = 0; i < 16; i++) {
        vec w0[NV], w1[NV];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            const int64_t c = column + v * VL;
            uvec pair;
            memcpy(&pair, w + c / 16 * NARROW_TILE + i * 64 + c % 16 * 4, sizeof pair);
            w0[v] = (vec)(pair << 16);
            w1[v] = (vec)(pair & 0xffff0000u);
        }
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            const vec x0 = vset1(x[r][i]), x1 = vset1(x[r][i + 16]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) {
                chains[r][v][0] = vfma_once(x0, w0[v], chains[r][v][0]);
                chains[r][v][1] = vfma_once(x1, w1[v], chains[r][v][1]);
            }
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            float *sum = sums + r * PW + column + v * VL;
            vstore(sum, vload(sum) + (chains[r][v][0] + chains[r][v][1]));
        }
}

/* A panel of rows r..r+rows-1 into sums. With few rows, more columns at once, or the chains are waited for. */
FA_INLINE void bfloat16_rows(const int rows, const fa_narrow *a, const char *w, int64_t r, float *sums) {
    const int vectors = rows <= 2 ? NV : NV / 2;
    for (int i = 0; i < rows * PW; i += VL) vstore(sums + i, vset1(0));
    for (int64_t k = 0; k < a->K; k += 32, w += NARROW_BLOCK) {
        _Alignas(64) float x[MR][32];
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < 32; j += VL) vstore(x[i] + j, bfloat16_rounded(narrow_load(a, r + i, k + j)));
        for (int64_t c = 0; c < PW; c += vectors * VL) bfloat16_block(rows, vectors, (const float(*)[32])x, w, c, sums);
    }
}

/* Columns of a panel that have their bit in `wanted`, rows first..last-1. */
FA_FUNC void bfloat16_multiply(const fa_narrow *a, int64_t panel, int64_t first, int64_t last, uint64_t wanted) {
    const char *w = narrow_panel(a, panel);
    const int64_t n = narrow_columns(a, panel);
    for (int64_t r = first; r < last;) {
        _Alignas(64) float sums[MR * PW];
        const int rows = balanced_rows(last - r);
        switch (rows) {
        case 1:
            bfloat16_rows(1, a, w, r, sums);
            break;
        case 2:
            bfloat16_rows(2, a, w, r, sums);
            break;
        case 3:
            bfloat16_rows(3, a, w, r, sums);
            break;
        case 4:
            bfloat16_rows(4, a, w, r, sums);
            break;
        case 5:
            bfloat16_rows(5, a, w, r, sums);
            break;
        default:
            bfloat16_rows(6, a, w, r, sums);
        }
        for (int i = 0; i < rows; i++)
            for (int64_t c = 0; c < n; c += VL)
                narrow_put(a, r + i, panel * PW + c, vload(sums + i * PW + c), wanted >> c);
        r += rows;
    }
}
#endif
