/* Rows of a table by number:  y_i = w[ids_i],  and back  d_w[r] += sum_i d_y_i  over ids_i = r, in ascending order of
 * i, in float64; or columns of a table of `size` columns, which are rows of y all the same.
 *
 * gather: rows first..last-1 of y. gather_columns, scatter and scatter_columns: columns first..last-1 of all rows of y
 * and d_y, so that threads share no element.
 * lists[i] is the first row of i's number, or -1: not read; lists[n + i] the next row of its number, or -1.
 * Bound: memory, one row read and one written; back one read, and one of the table read and written for each number.
 * Of columns a line of the table for each number in each of its rows, or all lines: of VL rows at once, which L2 holds.
 */
#ifndef FA_OPS_EMBEDDING_INL
#define FA_OPS_EMBEDDING_INL
#include "../vec/vec.h"

FA_FUNC void gather(const element *table, const int64_t *ids, element *y, int64_t width, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++)
        memcpy(y + i * width, table + ids[i] * width, (size_t)width * sizeof(element));
}

FA_FUNC void gather_columns(const element *table, int64_t size, const int64_t *ids, int64_t n, element *y,
                            int64_t width, int64_t first, int64_t last) {
    for (int64_t c = first; c < last; c += VL)
        for (int64_t i = 0; i < n; i++) {
            const element *from = table + c * size + ids[i];
            for (int64_t j = 0; j < VL && j < last - c; j++) y[i * width + c + j] = from[j * size];
        }
}

FA_FUNC void scatter(const element *dy, int64_t dy_row, const int64_t *ids, const int64_t *lists, int64_t n,
                     real *table, int64_t width, int64_t first, int64_t last) {
    const int64_t *next = lists + n;
    for (int64_t i = 0; i < n; i++) {
        if (lists[i] != i) continue;
        real *dst = table + ids[i] * width;
        const element *alone = dy + i * dy_row;
        for (int64_t c = first; next[i] < 0 && c < last; c += VL) /* the same bits */
            vstore_n(dst + c, vload_n(dst + c, last - c) + eload_n(alone + c, last - c), last - c);
        for (int64_t c = first; next[i] >= 0 && c < last; c += 2 * VL) {
            const int64_t left = last - c, behind = left - VL;
            dvec sums[2][2] = {{{0}, {0}}, {{0}, {0}}};
            for (int64_t j = i; j >= 0; j = next[j]) {
                const element *src = dy + j * dy_row + c;
                vadd_wide(sums[0], eload_n(src, left));
                if (behind > 0) vadd_wide(sums[1], eload_n(src + VL, behind));
            }
            vstore_n(dst + c, vload_n(dst + c, left) + vnarrow(sums[0]), left);
            if (behind > 0) vstore_n(dst + c + VL, vload_n(dst + c + VL, behind) + vnarrow(sums[1]), behind);
        }
    }
}

FA_FUNC void scatter_columns(const element *dy, int64_t dy_row, const int64_t *ids, const int64_t *lists, int64_t n,
                             real *table, int64_t size, int64_t first, int64_t last) {
    const int64_t *next = lists + n;
    for (int64_t c = first; c < last; c += VL)
        for (int64_t i = 0; i < n; i++) {
            if (lists[i] != i) continue;
            dvec sums[2] = {{0}, {0}};
            for (int64_t j = i; j >= 0; j = next[j]) vadd_wide(sums, eload_n(dy + j * dy_row + c, last - c));
            const vec sum = vnarrow(sums);
            real *to = table + c * size + ids[i];
            for (int64_t j = 0; j < VL && j < last - c; j++) to[j * size] += sum[j];
        }
}
#endif
