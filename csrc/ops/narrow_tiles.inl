/* Products with narrow packed weights on a matrix unit, with the bits of ops/narrow_bfloat16.inl and narrow_int8.inl.
 *
 *   1. make: rows of x, rounded to bfloat16 or made whole numbers, in tiles, [M / 16][blocks of K] of 1024 bytes
 *   2. multiply: for each 32 rows and 32 columns four registers of sums, over all of K
 *   3. the sums, scaled or as they are: bias, relu
 * A register's sums do not depend on other rows and columns: a row alone has the bits it has among others.
 *
 * The unit takes bfloat16 numbers and sums below the smallest normal one, 2^-126, for zero. A number of size 2^-72 to
 * 2^56 is a multiple of 2^-79, one of size 2^-40 to 2^24 of 2^-47, and so are sums of their products of 2^-126: no
 * such sum is lost. Rows of x and columns of w with other numbers but zero are left to vectors.
 *
 * Bound: 2 M N K operations of the unit from 32 rows up; below that K N weights from the cache that they are in.
 */
#ifndef FA_OPS_NARROW_TILES_INL
#define FA_OPS_NARROW_TILES_INL
#include "../sizes.h"
#include "../vec/vec.h"
#include "../kernels.h"
#include "narrow_bfloat16.inl"
#include "narrow_int8.inl"
#ifndef FA_TILE_FILE /* this file is read by itself */
#define FA_TILE_FILE "../tile/amx_model.h"
#endif
#include FA_TILE_FILE

typedef int8_t tile_bytes __attribute__((vector_size(FA_VBYTES / 4)));

/* Bit 30 of this sum says that a number's exponent is 55 to 182. */
#define NARROW_SUM(bits) ((bits) + (73u << 23))
#define NARROW_SMALL 0x1b80u /* 2^-72 and 2^56, as bfloat16 */
#define NARROW_LARGE 0x5b80u

FA_FUNC int64_t narrow_tiles_rows_bytes(int32_t type, int64_t rows, int64_t K) {
    return fa_size_mul(fa_size_mul((rows + 15) / 16, narrow_blocks(type, K)), NARROW_TILE);
}

/* A row of the tiles at `to`, of bfloat16. */
FA_INLINE void make_bfloat16(const fa_narrow *a, int64_t r, char *to) {
    uvec in = (uvec){0} + (1u << 30);
    for (int64_t k = 0; k < a->K; k += 32, to += NARROW_TILE)
#pragma GCC unroll 4
        for (int i = 0; i < 16; i += VL) {
            uvec bits[2];
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++) {
                const vec given = narrow_load(a, r, k + h * 16 + i);
                in &= NARROW_SUM((uvec)given) | (uvec)(((uvec)given & 0x7fffffffu) == 0);
                /* As bfloat16_rounded does with a row that is used. */
                bits[h] = (uvec)given + 0x7fffu + ((uvec)given >> 16 & 1);
            }
            const uvec pair = bits[0] >> 16 | (bits[1] & 0xffff0000u);
            memcpy(to + i * 4, &pair, sizeof pair);
        }
    int all = 1;
    for (int i = 0; i < VL; i++) all &= (int)(in[i] >> 30);
    a->odd_rows[r] = (uint8_t)!all;
}

/* The same of a row of bfloat16, as it is. */
FA_INLINE void make_halves(const fa_narrow *a, int64_t r, char *to) {
    uvec found = {0};
    for (int64_t k = 0; k < a->K; k += 32, to += NARROW_TILE)
#pragma GCC unroll 4
        for (int i = 0; i < 16; i += VL) {
            const uvec pair = narrow_bits(a, r, k + i) | narrow_bits(a, r, k + 16 + i) << 16;
            found = half_beyond(found, pair, NARROW_SMALL, NARROW_LARGE);
            memcpy(to + i * 4, &pair, sizeof pair);
        }
    a->odd_rows[r] = (uint8_t)half_any(found);
}

FA_INLINE void make_bytes(const fa_narrow *a, int64_t r, real lift, real factor, char *to) {
    for (int64_t k = 0; k < a->K; k += 64, to += NARROW_TILE) {
        ivec p[64 / VL];
#pragma GCC unroll 16
        for (int i = 0; i < 64 / VL; i++) p[i] = int8_of(narrow_load(a, r, k + i * VL), lift, factor);
#ifdef vbytes
        vbytes(to, p);
#else
#pragma GCC unroll 16
        for (int i = 0; i < 64 / VL; i++) {
            const tile_bytes bytes = __builtin_convertvector(p[i], tile_bytes);
            memcpy(to + i * VL, &bytes, sizeof bytes);
        }
#endif
    }
}

FA_INLINE void make_int8(const fa_narrow *a, int64_t r, char *to) {
    real lift, factor;
    a->odd_rows[r] = (uint8_t)!int8_scale(a, r, &lift, &factor);
    if (a->odd_rows[r])
        for (int64_t k = 0; k < a->K; k += 64, to += NARROW_TILE) memset(to, 0, 64);
    else if (lift == 1) /* times 1 takes as long as any product */
        make_bytes(a, r, 1, factor, to);
    else
        make_bytes(a, r, lift, factor, to);
}

FA_FUNC void narrow_tiles_make(const fa_narrow *given, int64_t tile0, int64_t tile1) {
    const fa_narrow own = *given, *a = &own; /* a copy that no store of bytes can have changed */
    const int64_t blocks = narrow_blocks(a->type, a->K);
    for (int64_t r = tile0 * 16; r < tile1 * 16; r++) {
        char *to = a->made + r / 16 * blocks * NARROW_TILE + r % 16 * 64;
        if (r >= a->rows)
            for (int64_t b = 0; b < blocks; b++) memset(to + b * NARROW_TILE, 0, 64);
        else if (a->type == FA_INT8)
            make_int8(a, r, to);
        else if (a->halves)
            make_halves(a, r, to);
        else
            make_bfloat16(a, r, to);
    }
}

/* Sums that have yet to become y: of a row `apart` from the next; scales of these columns if they are whole numbers. */
typedef struct {
    const char *sums;
    int64_t apart, row, rows, column, n;
    const double *scales;
} narrow_sums;

FA_INLINE void finish_row(const int32_t type, const fa_narrow *a, const narrow_sums *s, int64_t i) {
    const char *sums = s->sums + i * s->apart;
    if (type == FA_INT8)
        int8_finish(a, s->row + i, s->column, s->n, (const int32_t *)sums, s->scales);
    else
        for (int64_t c = 0; c < s->n; c += VL)
            narrow_put(a, s->row + i, s->column + c, vload((const float *)sums + c), ~(uint64_t)0);
}

FA_INLINE void finish_rows(const fa_narrow *a, const narrow_sums *s) {
    for (int64_t i = 0; i < s->rows; i++)
        if (a->type == FA_INT8)
            finish_row(FA_INT8, a, s, i);
        else
            finish_row(FA_BFLOAT16, a, s, i);
}

/* Two tiles of rows by two of columns, or one of `rows` rows by four: registers 0 to 3. `a_tile` bytes from one tile of
 * rows to the next; sums of a row are 32 or 64 columns. For each block four lines of the cache are asked for: all of
 * the next panel, from `next` on, while 256 rows pass. What is in the register of rows is stored to `spare` now and
 * then, as tile/amx.h says. `before` are sums of other rows or columns, which become y meanwhile: their rows are not in
 * the first cache, and by themselves would take a tenth of the time of 1024 x 1024 of bfloat16. */
#define NARROW_FOUR(PRODUCT, TYPE)                                                                                     \
    FA_INLINE void four_##PRODUCT(int64_t blocks, const char *a, int64_t a_tile, const char *b, void *sums,            \
                                  const char *next, const fa_narrow *call, const narrow_sums *before) {                \
        TILES(16);                                                                                                     \
        _Alignas(64) char spare[64];                                                                                   \
        const int64_t each = before->rows / (blocks + 1) + 1;                                                          \
        int64_t row = 0;                                                                                               \
        TILE_ZERO(0);                                                                                                  \
        TILE_ZERO(1);                                                                                                  \
        TILE_ZERO(2);                                                                                                  \
        TILE_ZERO(3);                                                                                                  \
        for (int64_t i = 0; i < blocks; i++, a += NARROW_TILE, b += NARROW_BLOCK) {                                    \
            for (int line = 0; line < 4; line++, next += 64) __builtin_prefetch(next, 0, 2);                           \
            TILE_STREAM(4, a, 64);                                                                                     \
            TILE_STREAM(6, b, 64);                                                                                     \
            TILE_STREAM(7, b + NARROW_TILE, 64);                                                                       \
            PRODUCT(0, 4, 6);                                                                                          \
            TILE_STREAM(5, a + a_tile, 64);                                                                            \
            PRODUCT(1, 4, 7);                                                                                          \
            PRODUCT(2, 5, 6);                                                                                          \
            PRODUCT(3, 5, 7);                                                                                          \
            if (i % 8 == 7) TILE_STORE(4, spare, 0);                                                                   \
            for (int64_t end = row + each; row < end && row < before->rows; row++)                                     \
                finish_row(TYPE, call, before, row);                                                                   \
        }                                                                                                              \
        for (; row < before->rows; row++) finish_row(TYPE, call, before, row);                                         \
        TILE_STORE(0, sums, 128);                                                                                      \
        TILE_STORE(1, (char *)sums + 64, 128);                                                                         \
        TILE_STORE(2, (char *)sums + 2048, 128);                                                                       \
        TILE_STORE(3, (char *)sums + 2112, 128);                                                                       \
    }                                                                                                                  \
    FA_INLINE void few_##PRODUCT(int rows, int64_t blocks, const char *a, const char *b, void *sums) {                 \
        TILES(rows);                                                                                                   \
        TILE_ZERO(0);                                                                                                  \
        TILE_ZERO(1);                                                                                                  \
        TILE_ZERO(2);                                                                                                  \
        TILE_ZERO(3);                                                                                                  \
        for (int64_t i = 0; i < blocks; i++, a += NARROW_TILE, b += NARROW_BLOCK) {                                    \
            TILE_LOAD(4, a, 64);                                                                                       \
            TILE_LOAD(7, b, 64);                                                                                       \
            PRODUCT(0, 4, 7);                                                                                          \
            TILE_LOAD(7, b + NARROW_TILE, 64);                                                                         \
            PRODUCT(1, 4, 7);                                                                                          \
            TILE_LOAD(7, b + 2 * NARROW_TILE, 64);                                                                     \
            PRODUCT(2, 4, 7);                                                                                          \
            TILE_LOAD(7, b + 3 * NARROW_TILE, 64);                                                                     \
            PRODUCT(3, 4, 7);                                                                                          \
        }                                                                                                              \
        TILE_STORE(0, sums, 256);                                                                                      \
        TILE_STORE(1, (char *)sums + 64, 256);                                                                         \
        TILE_STORE(2, (char *)sums + 128, 256);                                                                        \
        TILE_STORE(3, (char *)sums + 192, 256);                                                                        \
    }
NARROW_FOUR(TILE_BFLOAT16, FA_BFLOAT16)
NARROW_FOUR(TILE_INT8, FA_INT8)
#undef NARROW_FOUR

FA_INLINE void narrow_tiles_odd(const fa_narrow *a, int64_t panel, int64_t first, int64_t last) {
    uint64_t columns = 0;
    for (int c = 0; a->type == FA_BFLOAT16 && c < PW; c++) columns |= (uint64_t)a->plain[panel * PW + c] << c;
    if (columns) bfloat16_multiply(a, panel, first, last, columns);
    for (int64_t r = first; r < last; r++) {
        if (!a->odd_rows[r]) continue;
        if (a->type == FA_INT8)
            int8_odd_row(a, panel, r);
        else
            bfloat16_multiply(a, panel, r, r + 1, ~(uint64_t)0);
    }
}

FA_FUNC void narrow_tiles_multiply(const fa_narrow *given, int64_t panel, int64_t first, int64_t last) {
    const fa_narrow own = *given, *a = &own; /* as above */
    const int64_t blocks = narrow_blocks(a->type, a->K), a_tile = blocks * NARROW_TILE, n = narrow_columns(a, panel);
    const char *w = narrow_panel(a, panel);
    /* Registers of fewer rows where there are no more in all. */
    const int few = a->rows < 16 ? (int)a->rows : 16;
    _Alignas(64) char sums[2][4096];
    double scales[PW];
    if (a->type == FA_INT8) int8_panel_scales(a, panel, scales);
    narrow_sums before = {.rows = 0};
    int turn = 0;
    TILES_BEGIN(few);
    for (int64_t r = first; r < last; r += 32) {
        const char *in = a->made + r / 16 * a_tile;
        const int64_t rows = last - r < 32 ? last - r : 32, wide = rows <= 16 ? PW : 32;
        for (int64_t c = 0; c < n; c += wide, turn ^= 1) {
            const char *columns = w + c / 16 * NARROW_TILE;
            const int64_t part = (r - first) / 16 + c / 32; /* of the next panel's 16 */
            const char *next = part < 16 ? w + blocks * (NARROW_BLOCK + part * NARROW_BLOCK / 16) : columns;
            if (wide == PW) {
                if (a->type == FA_INT8)
                    few_TILE_INT8(few, blocks, in, w, sums[turn]);
                else
                    few_TILE_BFLOAT16(few, blocks, in, w, sums[turn]);
                finish_rows(a, &before);
            } else if (a->type == FA_INT8)
                four_TILE_INT8(blocks, in, a_tile, columns, sums[turn], next, a, &before);
            else
                four_TILE_BFLOAT16(blocks, in, a_tile, columns, sums[turn], next, a, &before);
            before =
                (narrow_sums){sums[turn], wide * 4, r, rows, panel * PW + c, n - c < wide ? n - c : wide, scales + c};
        }
    }
    finish_rows(a, &before);
    TILES_END();
    narrow_tiles_odd(a, panel, first, last);
}
#endif
