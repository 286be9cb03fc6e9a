/* The k largest elements of each row, in descending order; of equal ones the first first. NaN counts as -inf.
 *
 * A row is read once, four vectors at a time, each group compared with the smallest element that is kept: after the
 * first few groups hardly any has a larger one. Bound: the reading, V elements from the cache that they are in.
 */
#ifndef FA_OPS_LARGEST_INL
#define FA_OPS_LARGEST_INL
#include "../vec/vec.h"

FA_INLINE int64_t largest_insert(real x, int64_t id, int64_t kept, int64_t k, element *values, int64_t *ids) {
    const real size = x == x ? x : NEG_INF;
    int64_t at = kept < k ? kept : k - 1;
    if (kept == k && !(size > to_real(values[at]))) return kept;
    for (; at > 0 && to_real(values[at - 1]) < size; at--) {
        values[at] = values[at - 1];
        ids[at] = ids[at - 1];
    }
    values[at] = to_element(size);
    ids[at] = id;
    return kept < k ? kept + 1 : k;
}

/* values and ids are (rows, k), contiguous; k <= columns. */
FA_FUNC void largest(const element *x, int64_t columns, int64_t k, element *values, int64_t *ids, int64_t row0,
                     int64_t row1) {
    for (int64_t r = row0; r < row1; r++) {
        const element *row = x + r * columns;
        element *found = values + r * k;
        int64_t *at = ids + r * k, kept = 0, c = 0;
        for (; c < k; c++) kept = largest_insert(to_real(row[c]), c, kept, k, found, at);
        for (; c + 4 * VL <= columns; c += 4 * VL) {
            vec top = vset1(NEG_INF); /* second, since vmax gives its second argument where one is NaN */
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) top = vmax(eload(row + c + i * VL), top);
            if (!(vhmax(top) > to_real(found[k - 1]))) continue;
            for (int i = 0; i < 4 * VL; i++)
                if (to_real(row[c + i]) > to_real(found[k - 1]))
                    largest_insert(to_real(row[c + i]), c + i, kept, k, found, at);
        }
        for (; c < columns; c++) largest_insert(to_real(row[c]), c, kept, k, found, at);
    }
}
#endif
