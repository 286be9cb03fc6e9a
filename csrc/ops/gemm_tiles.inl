/* Matrix product with packed weights on a matrix unit that multiplies bfloat16:  y = f(x w + b), as in gemm.inl.
 *
 * A float32 number is the sum of three bfloat16 numbers, x = x1 + x2 + x3, each the nearest to what is left; of the
 * nine products of parts, six are as good as all (the others are below 2^-24), three (x1 w1, x1 w2, x2 w1) give 16
 * bits, one gives 8.
 *   1. pack: panels of w into as many parts, once:  [N / 64][K / 32][64 / 16] tiles of 32 k and 16 columns, each part
 *      in turn
 *   2. split: a piece of K of the rows of x into parts, [M / 16][K / 32] tiles
 *   3. multiply: for each 32 rows and 32 columns the products of each 32 k into four registers, the smallest first:
 *      3*1 2*1 2*2 1*2 1*3 1*1  or  2*1 1*2 1*1  or  1*1
 *   4. with the last piece: bias, relu, and what is not for the unit
 *
 * The unit takes what is below the smallest normal number for zero, infinity less infinity is NaN, and a part may be
 * beyond the largest one. So a row of x with a number that is neither zero nor of size 2^-56 to 2^72 is a plain row,
 * and a column of w with one neither zero nor of size 2^-40 to 2^24 a plain column: parts are zeros there, and gemm
 * computes the elements afterwards, if it has packed weights; without them whoever calls looks for plain rows. All
 * other products are of size 2^-96 at least, so that what is lost below 2^-126 is 2^-30 of a product.
 *
 * An element (m, n) is computed the same way whatever rows and columns are beside it: from row m of x and column n of w
 * alone, in the order of k; pieces are of whole blocks of 32, and a register goes through memory without a change.
 *
 * Bound: 12 M N K flops of the unit from 32 rows up; below that 6 N K bytes of parts from the cache they are in.
 */
#ifndef FA_OPS_GEMM_TILES_INL
#define FA_OPS_GEMM_TILES_INL
#include "../sizes.h"
#include "../vec/vec.h"
#include "../kernels.h"
#include "../tile/shape.h"
#include "../tile/halves.inl"
#include "gemm.inl"
#ifndef FA_TILE_FILE /* this file is read by itself */
#define FA_TILE_FILE "../tile/amx_model.h"
#endif
#include FA_TILE_FILE

/* A number of x is of size 2^-56 to 2^72 where this sum has bit 30, its exponent being 71 to 198; one of w is of size
 * 2^-40 to 2^24, its exponent being 87 to 150, where it has bits 30 and 29. */
#define SUM_X(bits) ((bits) + (57u << 23))
#define SUM_W(bits) ((bits) + (105u << 23))
#define IN_X (1u << 30)
#define IN_W (3u << 29)

/* To the nearest of bfloat16, ties to even: numbers of fewer bits than 24, as float16 has, are often halfway. */
FA_INLINE uvec nearest_part(uvec x) { return (x + 0x7fffu + (x >> 16 & 1u)) & 0xffff0000u; }

/* Parts of two vectors, side by side in pairs of 16 bits. */
FA_INLINE void split(uvec x, uvec y, const int parts, char *to) {
    if (parts == 1) {
        const uvec pair = vnearest_pairs((vec)x, (vec)y);
        memcpy(to, &pair, sizeof pair);
        return;
    }
#pragma GCC unroll 3
    for (int p = 0; p < parts; p++) {
        /* What is left after two parts has 8 bits. */
        const uvec a = p < 2 ? nearest_part(x) : x, b = p < 2 ? nearest_part(y) : y;
        const uvec pair = (a >> 16) | b;
        memcpy(to + p * TILE_BYTES, &pair, sizeof pair);
        x = (uvec)((vec)x - (vec)a);
        y = (uvec)((vec)y - (vec)b);
    }
}

FA_INLINE int64_t tile_blocks(int64_t depth) { return (depth + TILE_K - 1) / TILE_K; }

/* Bytes of `rows` rows of a piece in parts. */
FA_FUNC int64_t tiles_rows_bytes(int parts, int64_t rows, int64_t depth) {
    return fa_size_mul(fa_size_mul((rows + TILE_N - 1) / TILE_N, tile_blocks(depth)), parts * TILE_BYTES);
}

/* Bytes of packed parts: panels one after the other, then a bit for each plain column. */
FA_INLINE int64_t panel_bytes(int parts, int64_t K) { return tile_blocks(K) * parts * (PW / TILE_N) * TILE_BYTES; }
FA_FUNC int64_t tiles_bytes(int parts, int64_t K, int64_t N) {
    const int64_t panels = (N + PW - 1) / PW;
    return fa_size_mul(panels, tiles_rows_bytes(parts, PW, K) + 8);
}
FA_INLINE char *plain_columns(const void *packed, int parts, int64_t K, int64_t N, int64_t panel) {
    return (char *)packed + (N + PW - 1) / PW * panel_bytes(parts, K) + panel * (int64_t)sizeof(uint64_t);
}

/* One row of a tile, for all blocks of the piece: numbers i and i + 16 of a block are a pair. Lines `ahead` numbers
 * further, of the next row, are asked for. Returns whether the row is plain. */
FA_INLINE int split_row(const real *x, int64_t depth, const int parts, int64_t ahead, char *to) {
    uvec in = (uvec){0} + IN_X;
    for (int64_t k = 0; k < depth; k += TILE_K, to += parts * TILE_BYTES) {
        __builtin_prefetch(x + k + ahead, 0, 3);
        __builtin_prefetch(x + k + ahead + TILE_N, 0, 3);
#pragma GCC unroll 4
        for (int i = 0; i < TILE_N; i += VL) {
            uvec bits[2];
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++) {
                const int64_t at = k + h * TILE_N + i, n = depth - at;
                bits[h] = (uvec)(n >= VL ? vload(x + at) : n > 0 ? vload_n(x + at, n) : vset1(0));
                const uvec good = SUM_X(bits[h]) | (uvec)((bits[h] & 0x7fffffffu) == 0);
                bits[h] &= (uvec)((good & IN_X) == IN_X);
                in &= good;
            }
            split(bits[0], bits[1], parts, to + i * 4);
        }
    }
    int all = 1;
    for (int i = 0; i < VL; i++) all &= in[i] != 0;
    return !all;
}

/* Tiles tile0..tile1-1 of rows; plain_rows is added to. */
FA_INLINE void split_rows(const fa_tiled *a, const int parts, int64_t tile0, int64_t tile1) {
    const int64_t tile_bytes = tiles_rows_bytes(parts, TILE_N, a->depth);
    for (int64_t t = tile0; t < tile1; t++)
        for (int64_t i = 0; i < TILE_N; i++) {
            const int64_t r = t * TILE_N + i;
            char *to = (char *)a->split + t * tile_bytes + i * 2 * TILE_K;
            if (r < a->rows)
                a->plain_rows[r] |= (uint8_t)split_row(a->x + r * a->x_row + a->k0, a->depth, parts,
                                                       r + 1 < a->rows ? a->x_row : 0, to);
            else
                for (int64_t b = 0; b < tile_blocks(a->depth) * parts; b++) memset(to + b * TILE_BYTES, 0, 2 * TILE_K);
        }
}

/* Two rows of a panel, a pair, as a row of four tiles of each part. */
FA_INLINE void split_pair(const int careful, const int parts, const real *first, const real *second, char *to,
                          uvec *in) {
#pragma GCC unroll 4
    for (int c = 0; c < PW; c += VL) {
        uvec bits[2] = {(uvec)vload(first + c), (uvec)vload(second + c)};
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            uvec good = SUM_W(bits[i]);
            if (careful) {
                good |= (uvec)((bits[i] & 0x7fffffffu) == 0);
                bits[i] &= (uvec)((good & IN_W) == IN_W);
            }
            in[c / VL] &= good;
        }
        split(bits[0], bits[1], parts, to + c / TILE_N * parts * TILE_BYTES + c % TILE_N * 4);
    }
}

/* A block of 32 k of a panel. careful: numbers out of range are zeros, `in` has IN_W for each column without any. */
FA_INLINE void split_block(const int careful, const int parts, const fa_split *a, int64_t p, int64_t k, char *to,
                           uvec *in) {
    static const real zeros[PW];
    const int64_t depth = a->K - k < TILE_K ? a->K - k : TILE_K;
    real block[TILE_K * PW];
    const real *w = a->w + k * a->w_row + p * PW * a->w_column;
    gemm_pack(w, a->w_row, a->w_column, depth, a->N - p * PW, block, 0, 1);
    for (int i = 0; i < TILE_N; i++) {
        const real *first = i < depth ? block + i * PW : zeros;
        const real *second = TILE_N + i < depth ? block + (TILE_N + i) * PW : zeros;
        split_pair(careful, parts, first, second, to + i * 64, in);
    }
}

/* A whole block of 32 k as it lies, not careful: `in` may lack IN_W for zeros, too, and in any column if numbers are
 * neighbours along k. As the rows are pages apart, lines `ahead` numbers further are asked for. */
FA_INLINE void split_whole(const int parts, const fa_split *a, int64_t p, int64_t k, int64_t ahead, char *to,
                           uvec *in) {
    const real *w = a->w + k * a->w_row + p * PW * a->w_column;
    for (int i = 0; a->w_column == 1 && i < TILE_N; i++) {
        const real *first = w + i * a->w_row, *second = first + TILE_N * a->w_row;
        for (int c = 0; c < PW; c += 16) {
            __builtin_prefetch(first + ahead + c, 0, 2);
            __builtin_prefetch(second + ahead + c, 0, 2);
        }
        split_pair(0, parts, first, second, to + i * 64, in);
    }
    for (int t = 0; a->w_column != 1 && t < PW / TILE_N; t++) {
        _Alignas(64) char square[3 * TILE_BYTES];
        for (int i = 0; i < TILE_N; i++) {
            const real *row = w + (t * TILE_N + i) * a->w_column;
            __builtin_prefetch(row + ahead, 0, 2);
            __builtin_prefetch(row + ahead + TILE_N, 0, 2);
#pragma GCC unroll 4
            for (int c = 0; c < TILE_N; c += VL) {
                const uvec bits[2] = {(uvec)vload(row + c), (uvec)vload(row + TILE_N + c)};
                in[0] &= SUM_W(bits[0]) & SUM_W(bits[1]);
                split(bits[0], bits[1], parts, square + i * 64 + c * 4);
            }
        }
        for (int q = 0; q < parts; q++) half_transpose(square + q * TILE_BYTES, to + (t * parts + q) * TILE_BYTES);
    }
}

/* k0..k1-1 of panels panel0..panel1-1, at most SPLIT_PANELS: of neighbouring columns each 32 rows of all of them in one
 * go. careful, of each panel, is 1 from now on if it has a number that is zero or not for the unit: `settle_panel`. */
#define SPLIT_PANELS 32
FA_INLINE void split_panels(const int parts, const fa_split *a, int64_t panel0, int64_t panel1, int64_t k0, int64_t k1,
                            uint8_t *careful) {
    const int64_t of_block = PW / TILE_N * parts * TILE_BYTES, of_panel = panel_bytes(parts, a->K);
    uvec in[SPLIT_PANELS][PW / VL];
    for (int64_t p = 0; p < panel1 - panel0; p++)
        for (int c = 0; c < PW / VL; c++) in[p][c] = (uvec){0} + IN_W;
    for (int64_t k = k0; k < k1; k += TILE_K)
        for (int64_t p = panel0; p < panel1; p++) {
            char *to = (char *)a->split + p * of_panel + k / TILE_K * of_block;
            const int beside = a->w_column == 1 && p + 1 < panel1;
            const int64_t ahead = beside ? PW : TILE_K * a->w_row - (a->w_column == 1 ? (p - panel0) * PW : 0);
            if ((a->w_column == 1 || a->w_row == 1) && a->K - k >= TILE_K && a->N - p * PW >= PW)
                split_whole(parts, a, p, k, ahead, to, in[p - panel0]);
            else
                split_block(0, parts, a, p, k, to, in[p - panel0]);
        }
    for (int64_t p = panel0; p < panel1; p++) {
        uvec all = (uvec){0} + IN_W;
        int good = 1;
        for (int c = 0; c < PW / VL; c++) all &= in[p - panel0][c];
        for (int i = 0; i < VL; i++) good &= (all[i] & IN_W) == IN_W;
        careful[p - panel0] |= !good;
    }
}

/* Which columns of a panel are plain, of which a careful one is packed once more. */
FA_INLINE void settle_panel(const int parts, const fa_split *a, int64_t p, int careful) {
    const int64_t of_block = PW / TILE_N * parts * TILE_BYTES;
    uvec in[PW / VL];
    uint64_t plain = 0;
    if (careful) {
        for (int c = 0; c < PW / VL; c++) in[c] = (uvec){0} + IN_W;
        for (int64_t k = 0; k < a->K; k += TILE_K)
            split_block(1, parts, a, p, k, (char *)a->split + p * panel_bytes(parts, a->K) + k / TILE_K * of_block, in);
        for (int c = 0; c < PW; c++) plain |= (uint64_t)((in[c / VL][c % VL] & IN_W) != IN_W) << c;
    }
    memcpy(plain_columns(a->split, parts, a->K, a->N, p), &plain, sizeof plain);
}

/* Two tiles of rows by two of columns: registers 0 to 3, rows in 4 and 5, columns in 6 and 7. One product changes one
 * side, so that 24 products need 14 loads. The second tile of rows is `a_tile` bytes after the first, that of columns
 * after the first one's parts; from one block of k to the next there are `a_block` and `b_block`. For each of them
 * `lines` lines of the cache are asked for, from `next` on: 6 % of the time of 1024 x 1024, which comes from L3. What
 * is in a register of rows is stored to `spare` now and then, as tile/amx.h says. */
#define ROW(t, p) TILE_STREAM(t, a + (t - 4) * a_tile + (p - 1) * TILE_BYTES, 64)
#define COLUMN(t, p) TILE_LOAD(t, b + ((t - 6) * parts + p - 1) * TILE_BYTES, 64)
/* Products of one part with one; a tile that the second product needs is loaded after the first, and those of the next
 * four when there is nothing left that reads the register. */
#define PRODUCTS(second, next)                                                                                         \
    TILE_BFLOAT16(0, 4, 6);                                                                                            \
    second;                                                                                                            \
    TILE_BFLOAT16(1, 4, 7);                                                                                            \
    TILE_BFLOAT16(2, 5, 6);                                                                                            \
    next;                                                                                                              \
    TILE_BFLOAT16(3, 5, 7)

FA_INLINE void square(int fresh, const int parts, int64_t blocks, const char *a, int64_t a_tile, int64_t a_block,
                      const char *b, int64_t b_block, float *sums, const char *next, const int lines) {
    TILES(TILE_N);
    _Alignas(64) char spare[64];
    if (fresh) {
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
    } else {
        TILE_LOAD(0, sums, 128);
        TILE_LOAD(1, sums + 16, 128);
        TILE_LOAD(2, sums + 512, 128);
        TILE_LOAD(3, sums + 528, 128);
    }
    for (int64_t i = 0; i < blocks; i++, a += a_block, b += b_block) {
        for (int line = 0; line < lines; line++, next += 64) __builtin_prefetch(next, 0, 2);
        if (parts == 3) {
            ROW(4, 3);
            COLUMN(6, 1);
            COLUMN(7, 1);
            PRODUCTS(ROW(5, 3), ROW(4, 2));
            PRODUCTS(ROW(5, 2), COLUMN(6, 2));
            PRODUCTS(COLUMN(7, 2), ROW(4, 1));
            PRODUCTS(ROW(5, 1), COLUMN(6, 3));
            PRODUCTS(COLUMN(7, 3), COLUMN(6, 1));
            PRODUCTS(COLUMN(7, 1), );
        } else if (parts == 2) {
            ROW(4, 2);
            COLUMN(6, 1);
            COLUMN(7, 1);
            PRODUCTS(ROW(5, 2), ROW(4, 1); COLUMN(6, 2));
            PRODUCTS(ROW(5, 1); COLUMN(7, 2), COLUMN(6, 1));
            PRODUCTS(COLUMN(7, 1), );
        } else {
            ROW(4, 1);
            COLUMN(6, 1);
            COLUMN(7, 1);
            PRODUCTS(ROW(5, 1), );
        }
        if (i % (parts == 1 ? 8 : 4) == 3) TILE_STORE(4, spare, 0);
    }
    TILE_STORE(0, sums, 128);
    TILE_STORE(1, sums + 16, 128);
    TILE_STORE(2, sums + 512, 128);
    TILE_STORE(3, sums + 528, 128);
}
#undef ROW
#undef COLUMN
#undef PRODUCTS

/* One tile of `rows` rows by four of columns: registers 0 to 3, rows in 4 (part 1), 5 (part 2) and 6 (part 3), columns
 * in 7. */
#define COLUMN(c)                                                                                                      \
    if (parts == 3) {                                                                                                  \
        TILE_LOAD(7, b + (c * parts) * TILE_BYTES, 64);                                                                \
        TILE_BFLOAT16(c, 6, 7);                                                                                        \
        TILE_BFLOAT16(c, 5, 7);                                                                                        \
        TILE_LOAD(7, b + (c * parts + 1) * TILE_BYTES, 64);                                                            \
        TILE_BFLOAT16(c, 5, 7);                                                                                        \
        TILE_BFLOAT16(c, 4, 7);                                                                                        \
        TILE_LOAD(7, b + (c * parts + 2) * TILE_BYTES, 64);                                                            \
        TILE_BFLOAT16(c, 4, 7);                                                                                        \
    } else if (parts == 2) {                                                                                           \
        TILE_LOAD(7, b + (c * parts) * TILE_BYTES, 64);                                                                \
        TILE_BFLOAT16(c, 5, 7);                                                                                        \
        TILE_LOAD(7, b + (c * parts + 1) * TILE_BYTES, 64);                                                            \
        TILE_BFLOAT16(c, 4, 7);                                                                                        \
    }                                                                                                                  \
    TILE_LOAD(7, b + (c * parts) * TILE_BYTES, 64);                                                                    \
    TILE_BFLOAT16(c, 4, 7)

FA_INLINE void strip(int fresh, const int parts, int rows, int64_t blocks, const char *a, const char *b, float *sums) {
    TILES(rows);
    if (fresh) {
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
    } else {
        TILE_LOAD(0, sums, 256);
        TILE_LOAD(1, sums + 16, 256);
        TILE_LOAD(2, sums + 32, 256);
        TILE_LOAD(3, sums + 48, 256);
    }
    for (int64_t i = 0; i < blocks; i++, a += parts * TILE_BYTES, b += PW / TILE_N * parts * TILE_BYTES) {
        TILE_LOAD(4, a, 64);
        if (parts > 1) {
            TILE_LOAD(5, a + TILE_BYTES, 64);
        }
        if (parts > 2) {
            TILE_LOAD(6, a + 2 * TILE_BYTES, 64);
        }
        COLUMN(0);
        COLUMN(1);
        COLUMN(2);
        COLUMN(3);
    }
    TILE_STORE(0, sums, 256);
    TILE_STORE(1, sums + 16, 256);
    TILE_STORE(2, sums + 32, 256);
    TILE_STORE(3, sums + 48, 256);
}
#undef COLUMN

/* Sums from and to y: `rows` by n of the columns. */
FA_INLINE void sums_load(float *sums, int64_t row, const real *y, int64_t y_row, int64_t rows, int64_t n) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < n; c += VL) vstore(sums + i * row + c, vload_n(y + i * y_row + c, n - c));
}
FA_INLINE void sums_store(const float *sums, int64_t row, real *y, int64_t y_row, int64_t rows, int64_t n,
                          const real *bias, int relu) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < n; c += VL) {
            vec v = vload(sums + i * row + c);
            if (bias) v = v + vload_n(bias + c, n - c);
            if (relu) v = vselect_lt(v, vset1(0), vset1(0), v);
            vstore_n(y + i * y_row + c, v, n - c);
        }
}

/* What is not for the unit, of rows first..last-1 of a panel: plain rows whole, plain columns of all rows. Rows beside
 * each other are multiplied together, so that many cost what they do at other levels. */
FA_INLINE void multiply_plain(const fa_tiled *a, int64_t panel, uint64_t columns, int64_t first, int64_t last) {
    const int64_t n = a->N - panel * PW < PW ? a->N - panel * PW : PW;
    for (int64_t r = first, rows; r < last; r += rows + !rows) {
        real made[MR * PW];
        for (rows = 0; rows < MR && r + rows < last && (columns || a->plain_rows[r + rows]);) rows++;
        if (!rows) continue;
        gemm(a->x + r * a->x_row, a->x_row, a->packed, made - panel * PW, PW, 0, rows, panel, panel + 1, a->K, a->N,
             a->bias, a->relu);
        for (int64_t i = 0; i < rows; i++) {
            const uint64_t wanted = a->plain_rows[r + i] ? ~(uint64_t)0 : columns;
            for (int64_t c = 0; c < n; c++)
                if (wanted >> c & 1) a->y[(r + i) * a->y_row + panel * PW + c] = made[i * PW + c];
        }
    }
}

/* A piece of a panel, for rows first..last-1, first a multiple of 32. */
FA_INLINE void multiply_panel(const fa_tiled *a, const int parts, int64_t panel, int64_t first, int64_t last) {
    const int64_t blocks = tile_blocks(a->depth), a_tile = blocks * parts * TILE_BYTES;
    const int64_t n = a->N - panel * PW < PW ? a->N - panel * PW : PW;
    const int64_t of_block = panel_bytes(parts, TILE_K);
    const char *columns = (const char *)a->parts_of_w + panel * panel_bytes(parts, a->K) + a->k0 / TILE_K * of_block;
    const int fresh = a->k0 == 0, done = a->k0 + a->depth == a->K, relu = done && a->relu;
    const int few = a->rows <= TILE_N;
    const real *bias = done && a->bias ? a->bias + panel * PW : NULL;
    TILES_BEGIN(few ? (int)a->rows : TILE_N);
    for (int64_t r = first; r < last; r += 2 * TILE_N) {
        const char *in = (const char *)a->split + r / TILE_N * a_tile;
        const int64_t rows = last - r < 2 * TILE_N ? last - r : 2 * TILE_N;
        real *y = a->y + r * a->y_row + panel * PW;
        _Alignas(64) float sums[4 * TILE_N * TILE_N];
        if (rows <= TILE_N) {
            if (!fresh) sums_load(sums, PW, y, a->y_row, rows, n);
            strip(fresh, parts, few ? (int)a->rows : TILE_N, blocks, in, columns, sums);
            sums_store(sums, PW, y, a->y_row, rows, n, bias, relu);
            continue;
        }
        for (int64_t c = 0; c < n; c += 2 * TILE_N) {
            const int64_t wide = n - c < 2 * TILE_N ? n - c : 2 * TILE_N;
            if (!fresh) sums_load(sums, 2 * TILE_N, y + c, a->y_row, rows, wide);
            const char *these = columns + c / TILE_N * parts * TILE_BYTES;
            const int64_t part = (r - first) / TILE_N + c / (2 * TILE_N); /* of the next panel's 16 */
            const char *next = part < 16 ? columns + panel_bytes(parts, a->K) + part * (blocks * of_block / 16) : these;
            square(fresh, parts, blocks, in, a_tile, parts * TILE_BYTES, these, of_block, sums, next, parts * 4);
            sums_store(sums, 2 * TILE_N, y + c, a->y_row, rows, wide, bias ? bias + c : NULL, relu);
        }
    }
    TILES_END();
    if (done && a->packed) {
        uint64_t plain;
        memcpy(&plain, plain_columns(a->parts_of_w, parts, a->K, a->N, panel), sizeof plain);
        multiply_plain(a, panel, plain, first, last);
    }
}

/* The kernels, one for each number of parts. */
FA_FUNC void tiles_pack_piece(const fa_split *a, int64_t panel0, int64_t panel1, int64_t k0, int64_t k1,
                              uint8_t *careful) {
    for (int64_t p = panel0, last; p < panel1; p = last) {
        last = panel1 - p < SPLIT_PANELS ? panel1 : p + SPLIT_PANELS;
        if (a->parts == 3)
            split_panels(3, a, p, last, k0, k1, careful + (p - panel0));
        else if (a->parts == 2)
            split_panels(2, a, p, last, k0, k1, careful + (p - panel0));
        else
            split_panels(1, a, p, last, k0, k1, careful + (p - panel0));
    }
}
FA_FUNC void tiles_settle(const fa_split *a, int64_t panel, int careful) {
    if (a->parts == 3)
        settle_panel(3, a, panel, careful);
    else if (a->parts == 2)
        settle_panel(2, a, panel, careful);
    else
        settle_panel(1, a, panel, careful);
}
FA_FUNC void tiles_pack(const fa_split *a, int64_t panel0, int64_t panel1) {
    for (int64_t p = panel0, last; p < panel1; p = last) {
        uint8_t careful[SPLIT_PANELS] = {0};
        last = panel1 - p < SPLIT_PANELS ? panel1 : p + SPLIT_PANELS;
        tiles_pack_piece(a, p, last, 0, a->K, careful);
        for (int64_t i = p; i < last; i++) tiles_settle(a, i, careful[i - p]);
    }
}
/* Whether there is a plain column. */
FA_FUNC int tiles_plain(const fa_split *a) {
    uint64_t any = 0;
    for (int64_t p = 0; p * PW < a->N; p++) {
        uint64_t plain;
        memcpy(&plain, plain_columns(a->split, a->parts, a->K, a->N, p), sizeof plain);
        any |= plain;
    }
    return any != 0;
}
FA_FUNC void tiles_split(const fa_tiled *a, int64_t tile0, int64_t tile1) {
    if (a->parts == 3)
        split_rows(a, 3, tile0, tile1);
    else if (a->parts == 2)
        split_rows(a, 2, tile0, tile1);
    else
        split_rows(a, 1, tile0, tile1);
}
FA_FUNC void tiles_multiply(const fa_tiled *a, int64_t panel, int64_t first, int64_t last) {
    if (a->parts == 3)
        multiply_panel(a, 3, panel, first, last);
    else if (a->parts == 2)
        multiply_panel(a, 2, panel, first, last);
    else
        multiply_panel(a, 1, panel, first, last);
}
#endif
