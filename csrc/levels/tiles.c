/* The products of one level on a matrix unit, or on its model. The build compiles this file once for each level of
 * levels.def that names its instructions' file, FA_TILE_FILE, with the macros of level.c.
 */
#define FA_PRAGMA_(text) _Pragma(#text)
#define FA_PRAGMA(text) FA_PRAGMA_(text)
#ifndef FA_LEVEL
#define FA_LEVEL amx_model
#endif
#if defined(FA_NEEDS) && defined(__clang__)
FA_PRAGMA(clang attribute push(__attribute__((target(FA_NEEDS))), apply_to = function))
#elif defined(FA_NEEDS)
FA_PRAGMA(GCC target(FA_NEEDS))
#endif

#include "../vec/vec.h"
#include "../kernels.h"

#include "../ops/gemm_tiles.inl"
#include "../ops/narrow_tiles.inl"
#include "../ops/gemm_gradient_tiles.inl"
#include "../attention/dot_tiles_forward.inl"
#include "../attention/dot_tiles_backward.inl"

#define FA_JOIN_(level) fa_tiles_##level
#define FA_JOIN(level) FA_JOIN_(level)

const fa_tiles FA_JOIN(FA_LEVEL) = {tiles_bytes,
                                    tiles_rows_bytes,
                                    tiles_pack,
                                    tiles_pack_piece,
                                    tiles_settle,
                                    tiles_plain,
                                    tiles_split,
                                    tiles_multiply,
                                    .narrow = {narrow_tiles_rows_bytes, narrow_tiles_make, narrow_tiles_multiply},
                                    .gradient_bytes = tiles_gradient_bytes,
                                    .gradient_workspace = tiles_gradient_workspace,
                                    .gradient_pack = tiles_gradient_pack,
                                    .gradient = tiles_gradient,
                                    .attention_workspace = dot_tiles_workspace,
                                    .attention = dot_tiles_forward,
                                    .attention_backward_workspace = dot_tiles_backward_workspace,
                                    .attention_backward = dot_tiles_backward};
#if defined(FA_NEEDS) && defined(__clang__)
#pragma clang attribute pop
#endif
