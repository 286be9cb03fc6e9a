/* All kernels of one level for one element type, and their table. The build compiles this file twice for each level of
 * levels.def, with FA_BITS 32 and 64, FA_LEVEL the level's name, FA_VEC_FILE its vectors and FA_NEEDS its instructions:
 * a pragma selects these, so that no file needs flags of its own, and each kernel has one name.
 */
#define FA_PRAGMA_(text) _Pragma(#text)
#define FA_PRAGMA(text) FA_PRAGMA_(text)
#ifndef FA_LEVEL
#define FA_LEVEL generic
#endif
#if defined(FA_NEEDS) && defined(__clang__)
FA_PRAGMA(clang attribute push(__attribute__((target(FA_NEEDS))), apply_to = function))
#elif defined(FA_NEEDS)
FA_PRAGMA(GCC target(FA_NEEDS))
#endif

#include "../vec/vec.h"
#include "../kernels.h"

#define KERNEL(result, name, arguments) FA_FUNC result name arguments;
#include "../kernels.def"

#include "../tile/fma.inl"
#include "../tile/sums.inl"
#include "../attention/scores/scores.inl"
#include "../attention/rows.inl"
#include "../attention/tile.inl"
#include "../attention/keys.inl"
#include "../attention/forward.inl"
#include "../attention/backward.inl"
#include "../ops/gemm.inl"
#include "../ops/gemm_gradient.inl"
#include "../ops/rotary.inl"
#include "../ops/logarithms.inl"
#include "../ops/largest.inl"
#include "../ops/elementwise.inl"
#include "../ops/softmax.inl"
#include "../ops/cross_entropy.inl"
#include "../ops/adam.inl"
#include "../ops/embedding.inl"
#include "../ops/layer_norm.inl"
#include "../ops/dropout.inl"
#include "../attention/query_gradient.inl"
#include "../attention/normalizers/entmax.inl"
#include "../ops/entmax.inl"
#include "../attention/sparse.inl"
#include "../attention/sparse_forward.inl"
#include "../attention/sparse_backward.inl"
#include "../attention/row_function.inl"
#include "../attention/row_function_forward.inl"
#include "../attention/row_function_backward.inl"
#include "../decoder/recurrent.inl"
#include "../decoder/recurrent_forward.inl"
#include "../decoder/recurrent_backward.inl"
#include "../decoder/steps.inl"
#include "../decoder/steps_forward.inl"
#include "../decoder/steps_backward.inl"
#include "../decoder/monotonic.inl"
#if FA_BITS == 32
#include "../ops/narrow.inl"
static const fa_narrow_kernels narrow = {narrow_rows_bytes, narrow_make, narrow_multiply};
#define FA_NARROW &narrow
#else
#define FA_NARROW NULL
#endif

#define FA_JOIN_(level, bits) fa_kernels_##level##_f##bits
#define FA_JOIN(level, bits) FA_JOIN_(level, bits)

const fa_kernels FA_JOIN(FA_LEVEL, FA_BITS) = {
    .panel_width = PW,
    .element_bytes = sizeof(element),
    .real_bytes = sizeof(real),
    .in_place = FA_IN_PLACE,
    .narrow = FA_NARROW,
#define KERNEL(result, name, arguments) .name = name,
#include "../kernels.def"
};
#if defined(FA_NEEDS) && defined(__clang__)
#pragma clang attribute pop
#endif
