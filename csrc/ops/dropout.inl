/* Dropout of the elements of samples:  y_i = keep_scale x_i, or 0 when the hash of (seed, i) is below drop_below.
 *
 * The hash is that of dropout.h with head -1, row i >> 32 and key i mod 2^32: no head of attention has it. Elements
 * first..last-1 of one sample. What is dropped is not read into y. Bound: 9 integer operations for VL elements, the
 * two multiplications 10 cycles each at most; in cache about 1 cycle an element at AVX-512.
 */
#ifndef FA_OPS_DROPOUT_INL
#define FA_OPS_DROPOUT_INL
#include "../dropout.h"
#include "../vec/vec.h"

FA_FUNC void dropout(const element *x, element *y, uint64_t seed, uint32_t drop_below, double keep_scale, int64_t first,
                     int64_t last) {
    const real scale = (real)keep_scale;
    for (int64_t i = first; i < last;) {
        const int64_t left = last - i, page = ((i >> 32) + 1) << 32;
        const int n = (int)(left < 256 ? (left < page - i ? left : page - i) : (256 < page - i ? 256 : page - i));
        const uint64_t key = fa_row_key(seed, -1, i >> 32);
        const uint32_t start = (uint32_t)i;
        uint32_t hash[256];
        for (int j = 0; j < n; j++) hash[j] = fa_key_hash(key, start + (uint32_t)j);
        for (int j = 0; j < n; j++) {
            real kept = to_real(x[i + j]) * scale;
            y[i + j] = to_element(hash[j] < drop_below ? (real)0 : kept);
        }
        i += n;
    }
}
#endif
