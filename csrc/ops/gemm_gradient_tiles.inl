/* Gradients of weights on a matrix unit:  d_w = x^T d_y  of factors in parts of bfloat16, as in gemm_tiles.inl: one, to
 * which they are rounded, two or three; and d_b as in gemm_gradient.inl, whose rows and pieces of rows these are.
 *
 *   1. x, a piece of rows, into strips of 32 columns: for each 32 rows two tiles of each part, turned, so that rows of
 *      x are summed
 *   2. for each 128 columns: d_y into strips of 32 columns, which stay in L2
 *   3.   for each strip of x and of d_y: 32 x 32 sums in four registers, over all rows of the piece in ascending order,
 *        row i beside row i + 16 of each 32; what is not for the unit is added, and then all of it to d_w
 *
 * The unit takes what is below the smallest normal number for zero, and infinity less infinity is NaN. So a number of x
 * that is neither zero nor of size 2^-32 to 2^32, and one of d_y neither zero nor of size 2^-80 to 2^48, or 2^-64 to
 * 2^64 of several parts, is a zero there, and its products are added in float32 afterwards, each number by itself, row
 * by row: no other element of d_w changes a bit. Products of the others of one part are multiples of 2^-126, and so are
 * sums: none is lost, and none overflows. Those of several parts are of size 2^-96 at least, and what is lost below
 * 2^-126 is 2^-30 of one.
 *
 * Bound: 2 M K N flops of the unit for one part, 6 for two, 12 for three, 2200 to 3300 Gflop/s with tiles from L2; and
 * d_w, read and written once for each 1024 rows, 8 K N bytes, or 4 of one that is only written, past the caches: as
 * long as one part's products of about 350 rows where 25 GB/s come from memory. Packing is 14 operations for 16 numbers
 * of one part, 26 of three, of x once, of d_y once for each task of a group.
 */
#ifndef FA_OPS_GEMM_GRADIENT_TILES_INL
#define FA_OPS_GEMM_GRADIENT_TILES_INL
#include "../sizes.h"
#include "../vec/vec.h"
#include "../kernels.h"
#include "../tile/shape.h"
#include "../tile/halves.inl"
#include "gemm_gradient.inl"
#include "gemm_tiles.inl"
#ifndef FA_TILE_FILE /* this file is read by itself */
#define FA_TILE_FILE "../tile/amx_model.h"
#endif
#include FA_TILE_FILE

#define STRIP 32 /* columns, two tiles */
#define STRIPS 4 /* of d_y in a group */

/* A number is for the unit if it is zero or these bits of its sum are set: exponents 95 to 158 of x, 47 to 174 of d_y,
 * 63 to 190 of several parts. */
#define STRIP_SUM(turned, parts, bits) ((bits) + ((turned) ? 97u << 23 : (parts) == 1 ? 81u << 23 : 65u << 23))
#define STRIP_FITS(turned) ((turned) ? 3u << 29 : 1u << 30)

/* A strip: tiles, a mark of 32 bits for each row, 1 for a column with a number that is not for the unit, and whether
 * there is any. The rest keeps strips from lying a multiple of 4096 bytes apart. */
FA_INLINE int64_t strip_marks(int parts, int64_t depth) { return half_blocks(depth) * parts * 2 * TILE_BYTES; }
FA_INLINE int64_t strip_bytes(int parts, int64_t depth) {
    return strip_marks(parts, depth) + half_blocks(depth) * TILE_K * 4 + 64;
}
FA_INLINE uint32_t *marks_of(char *strip, int parts, int64_t depth) {
    return (uint32_t *)(void *)(strip + strip_marks(parts, depth));
}

FA_FUNC int64_t tiles_gradient_bytes(int parts, int64_t depth, int64_t K) {
    return fa_size_mul((K + STRIP - 1) / STRIP, strip_bytes(parts, depth));
}
FA_FUNC int64_t tiles_gradient_workspace(int parts, int64_t depth) { return STRIPS * strip_bytes(parts, depth); }

/* 32 rows of n columns of a strip: pairs of rows as two tiles of each part, or turned. Returns whether all numbers are
 * for the unit; careful: those that are not are zeros. */
FA_INLINE int strip_block(const int turned, const int careful, const int parts, const real *const *rows, int64_t n,
                          char *to) {
    const uint32_t need = STRIP_FITS(turned);
    uvec in = (uvec){0} + need;
    for (int tile = 0; tile < 2; tile++, to += parts * TILE_BYTES) {
        _Alignas(64) char square[3 * TILE_BYTES];
        char *made = turned ? square : to;
        for (int i = 0; i < TILE_N; i++)
#pragma GCC unroll 4
            for (int c = 0; c < TILE_N; c += VL) {
                const int64_t at = tile * TILE_N + c, more = n - at;
                uvec bits[2];
#pragma GCC unroll 2
                for (int j = 0; j < 2; j++) {
                    const real *x = rows[i + j * TILE_N] + at;
                    bits[j] = (uvec)(more >= VL ? vload(x) : more > 0 ? vload_n(x, more) : vset1(0));
                    const uvec good = STRIP_SUM(turned, parts, bits[j]) | (uvec)((bits[j] & 0x7fffffffu) == 0);
                    if (careful) bits[j] &= (uvec)((good & need) == need);
                    in &= good;
                }
                split(bits[0], bits[1], parts, made + i * 64 + c * 4);
            }
        for (int p = 0; turned && p < parts; p++) half_transpose(square + p * TILE_BYTES, to + p * TILE_BYTES);
    }
    const uint64_t needed = (uint64_t)need << 32 | need;
    uint64_t lanes[sizeof in / 8], all = needed;
    memcpy(lanes, &in, sizeof in);
    for (size_t i = 0; i < sizeof in / 8; i++) all &= lanes[i];
    return all == needed;
}

/* Strips of n columns from x on, side by side: 32 rows of all of them before the next, as each row is in a page of its
 * own. */
FA_INLINE void strips_pack(const int turned, const int parts, const real *x, int64_t x_row, const int64_t *numbers,
                           int64_t depth, int64_t n, char *strips) {
    static const real zeros[STRIP];
    const int64_t each = strip_bytes(parts, depth);
    for (int64_t c = 0; c < n; c += STRIP)
        marks_of(strips + c / STRIP * each, parts, depth)[half_blocks(depth) * TILE_K] = 0;
    for (int64_t m = 0; m < depth; m += TILE_K)
        for (int64_t c = 0; c < n; c += STRIP) {
            char *strip = strips + c / STRIP * each, *to = strip + m / TILE_K * parts * 2 * TILE_BYTES;
            const int64_t wide = n - c < STRIP ? n - c : STRIP;
            uint32_t *all = marks_of(strip, parts, depth), *marks = all + m;
            const real *rows[TILE_K];
            for (int i = 0; i < TILE_K; i++) rows[i] = m + i < depth ? x + numbers[m + i] * x_row + c : zeros;
            memset(marks, 0, TILE_K * sizeof *marks);
            if (wide == STRIP ? strip_block(turned, 0, parts, rows, STRIP, to)
                              : strip_block(turned, 0, parts, rows, wide, to))
                continue;
            strip_block(turned, 1, parts, rows, wide, to);
            all[half_blocks(depth) * TILE_K] = 1;
            for (int i = 0; i < TILE_K; i++)
                for (int j = 0; j < wide; j++) {
                    uint32_t bits;
                    memcpy(&bits, rows[i] + j, sizeof bits);
                    const uint32_t fits = STRIP_SUM(turned, parts, bits) & STRIP_FITS(turned);
                    marks[i] |= (uint32_t)((bits & 0x7fffffffu) && fits != STRIP_FITS(turned)) << j;
                }
        }
}

/* Strips first..last-1 of x. */
FA_INLINE void pack_strips(const int parts, const fa_gradient *a, int64_t first, int64_t last) {
    const int64_t n = a->K < last * STRIP ? a->K : last * STRIP;
    strips_pack(1, parts, a->x + first * STRIP, a->x_row, a->rows, a->depth, n - first * STRIP,
                a->packed + first * strip_bytes(parts, a->depth));
}
FA_FUNC void tiles_gradient_pack(const fa_gradient *a, int64_t first, int64_t last) {
    if (a->parts == 3)
        pack_strips(3, a, first, last);
    else if (a->parts == 2)
        pack_strips(2, a, first, last);
    else
        pack_strips(1, a, first, last);
}

/* What is not for the unit, of K0 columns of x from k on and n columns of d_y from `column` on. */
FA_FUNC void strip_plain(const fa_gradient *a, int64_t k, int64_t K0, int64_t column, int64_t n, const uint32_t *of_x,
                         const uint32_t *of_dy, float *sums) {
    for (int64_t m = 0; m < a->depth; m++) {
        if (!(of_x[m] | of_dy[m])) continue;
        const real *x = a->x + a->rows[m] * a->x_row + k, *dy = a->dy + a->rows[m] * a->dy_row + column;
        real all[STRIP] = {0}, marked[STRIP] = {0};
        for (int64_t c = 0; c < n; c++) {
            all[c] = dy[c];
            if (of_dy[m] >> c & 1) marked[c] = dy[c];
        }
        for (int64_t i = 0; i < K0; i++) {
            const int whole = of_x[m] >> i & 1;
            if (!whole && !of_dy[m]) continue;
            for (int c = 0; c < STRIP; c += VL) {
                float *sum = sums + i * STRIP + c;
                vstore(sum, vload(sum) + vset1(x[i]) * vload((whole ? all : marked) + c));
            }
        }
    }
}

/* Columns of a group of d_w, strips first..last-1 of its rows; d_b (NULL: not wanted) of these columns. */
FA_INLINE void add_strips(const int parts, const fa_gradient *a, int64_t group, int64_t first, int64_t last, real *db,
                          char *workspace) {
    const int64_t most = STRIPS * STRIP, start = group * most, n = a->N - start < most ? a->N - start : most;
    const int64_t each = strip_bytes(parts, a->depth), blocks = half_blocks(a->depth);
    real *low = a->low;
    strips_pack(0, parts, a->dy + start, a->dy_row, a->rows, a->depth, n, workspace);
    for (int64_t c = start; db && c < start + n; c += PW) {
        real sums[PW];
        const int64_t wide = start + n - c < PW ? start + n - c : PW;
        if (wide == PW)
            tn_panel(0, a->dy + c, a->dy_row, a->rows, a->depth, PW, NULL, sums);
        else
            tn_panel(0, a->dy + c, a->dy_row, a->rows, a->depth, wide, NULL, sums);
        tn_add(a->fresh, db + c, low ? low + a->K * a->N + c : NULL, sums, wide);
    }
    TILES_BEGIN(TILE_N);
    for (int64_t s = first; s < last; s++) {
        char *x = a->packed + s * each, *dy = workspace;
        const int64_t k = s * STRIP, high = a->K - k < STRIP ? a->K - k : STRIP;
        const int64_t of_block = parts * 2 * TILE_BYTES;
        const uint32_t *of_x = marks_of(x, parts, a->depth);
        for (int64_t c = 0; c < n; c += STRIP, dy += each) {
            const int64_t wide = n - c < STRIP ? n - c : STRIP, at = k * a->N + start + c;
            const uint32_t *of_dy = marks_of(dy, parts, a->depth);
            _Alignas(64) float sums[STRIP * STRIP];
            for (int64_t i = 0; i < high && !a->stream; i++) {
                __builtin_prefetch(a->dw + at + i * a->N, 1, 3);
                __builtin_prefetch(a->dw + at + i * a->N + wide - 1, 1, 3);
            }
            square(1, parts, blocks, x, parts * TILE_BYTES, of_block, dy, of_block, sums,
                   x + each + c / STRIP * (blocks * of_block / STRIPS), parts * 8);
            if (of_x[blocks * TILE_K] | of_dy[blocks * TILE_K])
                strip_plain(a, k, high, start + c, wide, of_x, of_dy, sums);
            for (int64_t i = 0; i < high && a->stream; i++)
                for (int64_t j = 0; j < wide; j += VL) vstream(a->dw + at + i * a->N + j, vload(sums + i * STRIP + j));
            for (int64_t i = 0; i < high && !a->stream; i++)
                tn_add(a->fresh, a->dw + at + i * a->N, low ? low + at + i * a->N : NULL, sums + i * STRIP, wide);
        }
    }
    TILES_END();
    if (a->stream) vstream_end();
}
FA_FUNC void tiles_gradient(const fa_gradient *a, int64_t group, int64_t first, int64_t last, real *db,
                            void *workspace) {
    if (a->parts == 3)
        add_strips(3, a, group, first, last, db, workspace);
    else if (a->parts == 2)
        add_strips(2, a, group, first, last, db, workspace);
    else
        add_strips(1, a, group, first, last, db, workspace);
}
#endif
