/* Sums of many rows whose error does not grow with their number (docs/decisions/0011-sums-of-many-rows.md).
 *
 * Blocks of a few rows are one chain of additions each. Blocks are added one after the other, and after every turn of
 * many rows the sum so far goes to a pair (high, low): the rounding error of an addition to high is known exactly
 * (Knuth's two-sum) and kept in low. Blocks and turns are counted from the first row, so that neither rows of zeros
 * that follow nor threads change a bit.
 */
#ifndef FA_TILE_SUMS_INL
#define FA_TILE_SUMS_INL
#include "../vec/vec.h"

/* (high, low) += x */
FA_FUNC void sum_keep(real *high, real *low, const real *x, int64_t n) {
    for (int64_t c = 0; c < n; c += VL) {
        const vec h = vload_n(high + c, n - c), v = vload_n(x + c, n - c), sum = h + v, grown = sum - h;
        const vec lost = (h - (sum - grown)) + (v - grown);
        vstore_n(high + c, sum, n - c);
        vstore_n(low + c, vload_n(low + c, n - c) + lost, n - c);
    }
}

/* high + low, or high alone where that is not a number. */
FA_FUNC void sum_settle(real *to, const real *high, const real *low, int64_t n) {
    for (int64_t c = 0; c < n; c += VL) {
        const vec h = vload_n(high + c, n - c);
        const ivec finite = (h - h) == vset1(0);
        vstore_n(to + c, h + (vec)((ivec)vload_n(low + c, n - c) & finite), n - c);
    }
}
#endif
