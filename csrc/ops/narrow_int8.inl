/* Products of float32 with packed weights of int8, by vectors:  y = f(t_m s_n sum_k p_mk q_kn + b_n).
 *
 *   q, s   the weights: whole numbers up to 127 in size, and a scale for each column
 *   p, t   a row of x, made into the same at each call: t = max |x_m| / 127, p = x_m / t to nearest, ties to even
 *   1. make: p, as pairs of 16 bits, and t
 *   2. multiply: for each 6 rows and panel of columns, whole sums of 32 bits, exact up to 131072 numbers
 *   3. the sum, times the product of the scales, in float64, rounded once
 * All of that is the same at every level. A row with an infinity or a NaN has no scale: it is multiplied with s q in
 * float64 as it is, in the order of k.
 *
 * Bound: M N K / 16 operations on 512 bits from 6 rows up; below that N K bytes of weights from the cache they are in.
 */
#ifndef FA_OPS_NARROW_INT8_INL
#define FA_OPS_NARROW_INT8_INL
#include "../sizes.h"
#include "../vec/vec.h"
#include "../kernels.h"
#include "../tile/fma.inl"
#include "narrow_panel.inl"

typedef int16_t int8_halves __attribute__((vector_size(FA_VBYTES)));
typedef int32_t int8_sums __attribute__((vector_size(FA_VBYTES / 2)));

/* Row r's t, and what p is made with: x * lift * factor. A row of tiny numbers is lifted first, exactly, since 127 over
 * its largest would be too large. Returns whether all of the row is finite. */
FA_INLINE int int8_scale(const fa_narrow *a, int64_t r, real *lift, real *factor) {
    ivec bits = (ivec)vset1(0);
    ireal most = 0;
    real largest;
    for (int64_t k = 0; k < a->K; k += VL) bits = vmax_bits(bits, narrow_load(a, r, k));
    for (int i = 0; i < VL; i++) most = bits[i] > most ? bits[i] : most;
    memcpy(&largest, &most, sizeof largest);
    const int finite = most < 0x7f800000;
    a->row_scales[r] = finite ? (double)largest / 127 : 0;
    *lift = largest < 0x1p-60f ? 0x1p88f : 1;
    *factor = finite && largest > 0 ? 127 / (largest * *lift) : 0;
    return finite;
}

FA_INLINE ivec int8_of(vec x, real lift, real factor) {
    const vec magic = vset1(FA_MAGIC);
    return (ivec)(x * vset1(lift) * vset1(factor) + magic) - (ivec)magic;
}

/* Of each four numbers the pairs 0, 2 and 1, 3: those that shifts of 16 bits leave of four bytes of weights. */
FA_INLINE int64_t int8_row_pairs(int64_t K) { return narrow_blocks(FA_INT8, K) * 64 * (int64_t)sizeof(int16_t); }
FA_FUNC int64_t int8_pairs_bytes(int64_t rows, int64_t K) { return fa_size_mul(rows, int8_row_pairs(K)); }

FA_FUNC void int8_make_pairs(const fa_narrow *a, int64_t r) {
    int16_t *to = (int16_t *)(a->made + r * int8_row_pairs(a->K));
    const int64_t padded = narrow_blocks(FA_INT8, a->K) * 64;
    real lift, factor;
    if (!int8_scale(a, r, &lift, &factor)) {
        a->odd_rows[r] = 1;
        memset(to, 0, (size_t)padded * sizeof(int16_t));
        return;
    }
    for (int64_t k = 0; k < padded; k += VL) {
        const ivec p = int8_of(narrow_load(a, r, k), lift, factor);
        for (int i = 0; i < VL; i++) to[k + (i & ~3) + ((i & 1) << 1 | (i >> 1 & 1))] = (int16_t)p[i];
    }
}

/* Columns of `vectors` vectors of a panel, rows of x `row` pairs apart; sums are PW apart. */
FA_INLINE void int8_tile(const int rows, const int32_t *x, int64_t row, const char *w, int64_t blocks, int64_t column,
                         int32_t *sums) {
    ivec sum[MR][NV];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < NV; v++) sum[r][v] = (ivec)vset1(0);
    for (int64_t i = 0; i < blocks * 16; i++) {
        const char *from = w + i / 16 * NARROW_BLOCK + i % 16 * 64;
#pragma GCC unroll 4
        for (int v = 0; v < NV; v++) {
            const int64_t c = column + v * VL;
            uvec bytes;
            memcpy(&bytes, from + c / 16 * NARROW_TILE + c % 16 * 4, sizeof bytes);
            const ivec odd = (ivec)((int8_halves)bytes >> 8),
                       even = (ivec)((int8_halves)(bytes << 8 & 0xff00ff00u) >> 8);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                const int32_t *pairs = x + r * row + 2 * i;
                sum[r][v] += vpairs(even, (ivec){0} + pairs[0]) + vpairs(odd, (ivec){0} + pairs[1]);
            }
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < NV; v++) memcpy(sums + r * PW + column + v * VL, &sum[r][v], sizeof(ivec));
}

/* The scales of a panel's columns. */
FA_INLINE void int8_panel_scales(const fa_narrow *a, int64_t panel, double *scales) {
    for (int c = 0; c < PW; c++) scales[c] = (double)a->scales[panel * PW + c];
}

/* A row of y, n columns from `column` on, from their sums and scales. */
FA_INLINE void int8_finish(const fa_narrow *a, int64_t row, int64_t column, int64_t n, const int32_t *sums,
                           const double *scales) {
    const dvec t = dset1(a->row_scales[row]);
    for (int64_t c = 0; c < n; c += VL) {
        dvec wide[2];
        for (int h = 0; h < 2; h++) {
            int8_sums sum;
            dvec s;
            memcpy(&sum, sums + c + h * DL, sizeof sum);
            memcpy(&s, scales + c + h * DL, sizeof s);
            wide[h] = __builtin_convertvector(sum, dvec) * (t * s);
        }
        narrow_put(a, row, column + c, vnarrow(wide), ~(uint64_t)0);
    }
}

/* A row with an infinity or a NaN, the columns of a panel. */
FA_FUNC void int8_odd_row(const fa_narrow *a, int64_t panel, int64_t row) {
    const int8_t *w = (const int8_t *)narrow_panel(a, panel);
    double sums[PW] = {0};
    for (int64_t k = 0; k < a->K; k++) {
        const int8_t *from = w + k / 64 * NARROW_BLOCK + k % 64 / 4 * 64 + k % 4;
        for (int c = 0; c < PW; c++)
            sums[c] += (double)narrow_number(a, row, k) *
                       ((double)from[c / 16 * NARROW_TILE + c % 16 * 4] * (double)a->scales[panel * PW + c]);
    }
    for (int c = 0; c < narrow_columns(a, panel); c += VL) {
        vec sum;
        for (int i = 0; i < VL; i++) sum[i] = (real)sums[c + i];
        narrow_put(a, row, panel * PW + c, sum, ~(uint64_t)0);
    }
}

FA_FUNC void int8_multiply(const fa_narrow *a, int64_t panel, int64_t first, int64_t last) {
    const int64_t bytes = int8_row_pairs(a->K), blocks = narrow_blocks(FA_INT8, a->K), n = narrow_columns(a, panel);
    const char *w = narrow_panel(a, panel);
    double scales[PW];
    int8_panel_scales(a, panel, scales);
    for (int64_t r = first; r < last;) {
        _Alignas(64) int32_t sums[MR * PW];
        const int32_t *x = (const int32_t *)(a->made + r * bytes);
        const int64_t row = bytes / (int64_t)sizeof(int32_t);
        const int rows = balanced_rows(last - r);
        for (int64_t c = 0; c < PW; c += NV * VL) switch (rows) {
            case 1:
                int8_tile(1, x, row, w, blocks, c, sums);
                break;
            case 2:
                int8_tile(2, x, row, w, blocks, c, sums);
                break;
            case 3:
                int8_tile(3, x, row, w, blocks, c, sums);
                break;
            case 4:
                int8_tile(4, x, row, w, blocks, c, sums);
                break;
            case 5:
                int8_tile(5, x, row, w, blocks, c, sums);
                break;
            default:
                int8_tile(6, x, row, w, blocks, c, sums);
            }
        for (int i = 0; i < rows; i++) {
            if (a->odd_rows[r + i])
                int8_odd_row(a, panel, r + i);
            else
                int8_finish(a, r + i, panel * PW, n, sums + i * PW, scales);
        }
        r += rows;
    }
}
#endif
