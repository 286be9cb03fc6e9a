/* What tile/amx.h has, in C for any machine, with the same bits: so that what is built on the matrix unit is tested
 * where there is none, and under tools that do not know it.
 *
 * tdpbf16ps sums products of even and of odd numbers in two chains of multiply-adds that begin with zero, adds the
 * chains, and adds that to the register. Each of these operations rounds to nearest even; inputs below the smallest
 * normal number are zeros, and so are such results. A product of two bfloat16 numbers has 16 bits and a sum of float32
 * 24, so that float64 holds enough of both: rounded to it and then to float32, a multiply-add is rounded right.
 */
#ifndef FA_TILE_AMX_MODEL_H
#define FA_TILE_AMX_MODEL_H
#include <stdint.h>
#include <string.h>
#include "shape.h"

typedef union {
    float f32[16][16];
    int32_t i32[16][16];
    uint16_t u16[16][32];
    int8_t i8[16][64];
} fa_tile;

typedef struct {
    fa_tile tiles[8];
} tile_registers;

/* float32 bits of a number; zero, of its sign, if it is below the smallest normal one. */
static inline uint32_t tile_flushed(uint32_t bits) { return bits & 0x7f800000u ? bits : bits & 0x80000000u; }

static inline float tile_number(uint32_t bits) {
    float x;
    bits = tile_flushed(bits);
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* to[j] = x + y[j] * a, rounded. */
static inline void tile_add(float *to, const double *x, double a, const float *y) {
    for (int j = 0; j < 16; j++) {
        const float sum = (float)(x[j] + a * y[j]);
        uint32_t bits;
        memcpy(&bits, &sum, sizeof bits);
        to[j] = tile_number(bits);
    }
}

static inline void tile_bfloat16(int rows, fa_tile *c, const fa_tile *a, const fa_tile *b) {
    float y[2][16][16];
    for (int k = 0; k < 16; k++)
        for (int j = 0; j < 32; j++) y[j % 2][k][j / 2] = tile_number((uint32_t)b->u16[k][j] << 16);
    for (int i = 0; i < rows; i++) {
        float sum[2][16] = {{0}}, before[16];
        double wide[16];
        for (int k = 0; k < 32; k++) {
            for (int j = 0; j < 16; j++) wide[j] = sum[k % 2][j];
            tile_add(sum[k % 2], wide, tile_number((uint32_t)a->u16[i][k] << 16), y[k % 2][k / 2]);
        }
        for (int j = 0; j < 16; j++) wide[j] = sum[1][j];
        tile_add(sum[0], wide, 1, sum[0]);
        for (int j = 0; j < 16; j++) {
            uint32_t bits;
            memcpy(&bits, &c->f32[i][j], sizeof bits);
            before[j] = tile_number(bits);
            wide[j] = sum[0][j];
        }
        tile_add(c->f32[i], wide, 1, before);
    }
}

static inline void tile_int8(int rows, fa_tile *c, const fa_tile *a, const fa_tile *b) {
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < 16; j++)
            for (int k = 0; k < 64; k++) c->i32[i][j] += (int32_t)a->i8[i][k] * b->i8[k / 4][4 * j + k % 4];
}

/* Numbers beyond the end of a row are zeros, as are products with them. */
static inline void tile_load(int rows, int bytes, fa_tile *t, const void *from, int64_t stride) {
    if (bytes < 64) memset(t, 0, sizeof *t);
    for (int i = 0; i < rows; i++) memcpy(t->u16[i], (const char *)from + i * stride, (size_t)bytes);
}

static inline void tile_store(int rows, int bytes, const fa_tile *t, void *to, int64_t stride) {
    for (int i = 0; i < rows; i++) memcpy((char *)to + i * stride, t->u16[i], (size_t)bytes);
}

#define TILES_BEGIN(rows) ((void)(rows))
#define TILES_TURNED_BEGIN(rows) ((void)(rows))
#define TILES_END() ((void)0)
#define TILES_OF(rows, turned)                                                                                         \
    fa_tile tiles[8];                                                                                                  \
    const int tiles_few = rows, tiles_turned = turned
#define TILES(rows) TILES_OF(rows, 0)
#define TILES_SHARED(registers)                                                                                        \
    fa_tile *const tiles = (registers)->tiles;                                                                         \
    enum { tiles_few = TILE_N, tiles_turned = 0 }
#define TILES_TURNED(rows) TILES_OF(rows, 1)
#define TILE_ROWS_OF(t) (TILE_HAS_ALL(tiles_turned, t) ? 16 : TILE_FEW(tiles_turned, tiles_few))
#define TILE_BYTES_OF(t) (TILE_IS_NARROW(tiles_turned, t) ? 4 * tiles_few : 64)
#define TILE_ZERO(c) memset(&tiles[c], 0, sizeof tiles[c])
#define TILE_LOAD(t, from, stride) tile_load(TILE_ROWS_OF(t), TILE_BYTES_OF(t), &tiles[t], from, stride)
#define TILE_STREAM TILE_LOAD
#define TILE_STORE(t, to, stride) tile_store(TILE_ROWS_OF(t), TILE_BYTES_OF(t), &tiles[t], to, stride)
#define TILE_BFLOAT16(c, a, b) tile_bfloat16(TILE_ROWS_OF(c), &tiles[c], &tiles[a], &tiles[b])
#define TILE_INT8(c, a, b) tile_int8(TILE_ROWS_OF(c), &tiles[c], &tiles[a], &tiles[b])
#endif
