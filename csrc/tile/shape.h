/* Tiles of bfloat16 numbers, the registers of a matrix unit. */
#ifndef FA_TILE_SHAPE_H
#define FA_TILE_SHAPE_H

#define TILE_BYTES 1024
#define TILE_K 32 /* numbers of a row */
#define TILE_N 16 /* rows of a tile, and columns of a product */
#endif
