/* The matrix unit's tile registers: 8 of 16 rows of 64 bytes, by the instructions of AMX. tile/amx_model.h has the same
 * names in C. Numbers of registers are literals.
 *
 *   TILES_BEGIN(rows)             registers are as follows, until TILES_END: 0 to 6 have this many rows, 7 has all 16
 *   TILES_TURNED_BEGIN(rows)      or so: 0, 1 and 4 have twice this many rows, at most 16, the others all 16; rows of
 *                                 2, 3 and 6 are of this many 32-bit numbers
 *   TILES(rows), TILES_TURNED(rows)  stands first in a function that uses registers
 *   TILES_SHARED(registers)       or so, where they have what others with the same tile_registers left in them
 *   TILE_ZERO(c)
 *   TILE_LOAD(t, from, stride)    rows of 64 bytes, `stride` bytes apart
 *   TILE_STREAM(t, from, stride)  the same of what is not needed again before much else: not kept in the first cache
 *   TILE_STORE(t, to, stride)
 *   TILE_BFLOAT16(c, a, b)        c[i][j] += sum of a[i][2k] b[k][2j] + a[i][2k + 1] b[k][2j + 1] over 16 k
 *   TILE_INT8(c, a, b)            the same of four bytes in place of two numbers, exact in 32 bits
 *
 * Cycles of an Intel Xeon (family 6, model 167), alone: a product 18, a load from the first cache 9, from the second 28
 * and TILE_STREAM 25. A store takes some 60, but 1200 if it is the first one after more than about 64 KiB have been
 * loaded from the second cache; a fence, a store by vectors, or asking for its lines changes nothing, and another store
 * of a tile on the way all. So a sum over more terms stores some register now and then, to 64 bytes of no use:
 * TILE_STORE(t, spare, 0). Of 32 x 32 x 1024 bfloat16 products that is a fifth of the time.
 *
 * By statements of assembly: the intrinsics of GCC 12 do not say that they read and write memory.
 */
#ifndef FA_TILE_AMX_H
#define FA_TILE_AMX_H
#include <stdint.h>
#include <string.h>
#include "shape.h"

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} fa_tile_shapes;

typedef struct {
    char none; /* the unit has them */
} tile_registers;

static inline void tiles_begin(int rows, int turned) {
    fa_tile_shapes shapes = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        shapes.rows[t] = (uint8_t)(TILE_HAS_ALL(turned, t) ? 16 : TILE_FEW(turned, rows));
        shapes.row_bytes[t] = (uint16_t)(TILE_IS_NARROW(turned, t) ? 4 * rows : 64);
    }
    __asm__ volatile("ldtilecfg %0" : : "m"(shapes));
}

#define TILES_BEGIN(rows) tiles_begin(rows, 0)
#define TILES_TURNED_BEGIN(rows) tiles_begin(rows, 1)
#define TILES_END() __asm__ volatile("tilerelease")
#define TILES(rows) ((void)(rows))
#define TILES_TURNED(rows) ((void)(rows))
#define TILES_SHARED(registers) ((void)(registers))
#define TILE_ZERO(c) __asm__ volatile("tilezero %tmm" #c)
#define TILE_LOAD(t, from, stride)                                                                                     \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t : : "r"(from), "r"((int64_t)(stride)) : "memory")
#define TILE_STREAM(t, from, stride)                                                                                   \
    __asm__ volatile("tileloaddt1 (%0,%1,1), %%tmm" #t : : "r"(from), "r"((int64_t)(stride)) : "memory")
#define TILE_STORE(t, to, stride)                                                                                      \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" : : "r"(to), "r"((int64_t)(stride)) : "memory")
#define TILE_BFLOAT16(c, a, b) __asm__ volatile("tdpbf16ps %tmm" #b ", %tmm" #a ", %tmm" #c)
#define TILE_INT8(c, a, b) __asm__ volatile("tdpbssd %tmm" #b ", %tmm" #a ", %tmm" #c)
#endif
