/* Tiles of bfloat16 numbers, the registers of a matrix unit. */
#ifndef FA_TILE_SHAPE_H
#define FA_TILE_SHAPE_H

#define TILE_BYTES 1024
#define TILE_K 32 /* numbers of a row */
#define TILE_N 16 /* rows of a tile, and columns of a product */

/* Which of the eight registers have all rows, and which rows are of few numbers; see tile/amx.h. */
#define TILE_FEW(turned, rows) ((turned) ? (rows) < TILE_N / 2 ? 2 * (rows) : TILE_N : (rows))
#define TILE_HAS_ALL(turned, t) ((turned) ? (t) == 2 || (t) == 3 || (t) > 4 : (t) == 7)
#define TILE_IS_NARROW(turned, t) ((turned) && ((t) == 2 || (t) == 3 || (t) == 6))
#endif
