/* Matrix product with narrow packed weights:  y = f(x w + b),  x (M, K) and y (M, N), f the identity or relu.
 *
 * Both types have one layout: panels of PW columns, [N / 64][blocks of K][64 / 16][16][16] times 4 bytes. These are of
 * column c and of numbers i and i + 16 of a block of 32, bfloat16; or of 4 i to 4 i + 3 of a block of 64, int8. What is
 * beyond K and N is zero. A matrix unit reads it as it lies, in tiles of 16 columns, vectors of any width do too.
 */
#ifndef FA_OPS_NARROW_INL
#define FA_OPS_NARROW_INL
#include "../sizes.h"
#include "../vec/vec.h"
#include "../kernels.h"
#include "narrow_bfloat16.inl"
#include "narrow_int8.inl"

FA_FUNC int64_t narrow_rows_bytes(int32_t type, int64_t rows, int64_t K) {
    return type == FA_INT8 ? int8_pairs_bytes(rows, K) : 0;
}

FA_FUNC void narrow_make(const fa_narrow *a, int64_t tile0, int64_t tile1) {
    const int64_t last = tile1 * 16 < a->rows ? tile1 * 16 : a->rows;
    for (int64_t r = tile0 * 16; a->type == FA_INT8 && r < last; r++) int8_make_pairs(a, r);
}

FA_FUNC void narrow_multiply(const fa_narrow *a, int64_t panel, int64_t first, int64_t last) {
    if (a->type == FA_INT8)
        int8_multiply(a, panel, first, last);
    else
        bfloat16_multiply(a, panel, first, last, ~(uint64_t)0);
}
#endif
