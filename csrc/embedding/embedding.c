/* Rows of a table by number:  y_i = w[ids_i],  and back  d_w[ids_i] += d_y_i  in ascending order of i.
 *
 * gather: rows first..last-1 of y. scatter: columns first..last-1 of all rows, so that threads share no element; rows
 * with the number `skip` are not read. Bound: memory, one row read and one written; back one more of each.
 */
#define gather_rows FN(gather_rows)
#define scatter_rows FN(scatter_rows)

FA_FUNC void gather_rows(const void *table, const int64_t *ids, void *y, int64_t width, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++)
        memcpy((real *)y + i * width, (const real *)table + ids[i] * width, (size_t)width * sizeof(real));
}

FA_FUNC void scatter_rows(const void *dy, int64_t dy_row, const int64_t *ids, int64_t n, int64_t skip, void *table,
                          int64_t width, int64_t first, int64_t last) {
    for (int64_t i = 0; i < n; i++) {
        const real *src = (const real *)dy + i * dy_row;
        real *dst = (real *)table + ids[i] * width;
        if (ids[i] == skip) continue;
        for (int64_t c = first; c < last; c += VL)
            vstore_n(dst + c, vload_n(dst + c, last - c) + vload_n(src + c, last - c), last - c);
    }
}
