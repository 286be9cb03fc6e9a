/* Layer normalization of rows of width N:  y = gain n + offset,  n = (x - mean) inverse,
 *   mean = sum x / N,  inverse = 1 / sqrt(sum (x - mean)^2 / N + epsilon)
 *   d_x = (g - sum g / N - n sum(g n) / N) inverse,  g = gain d_y
 *   d_gain = sum_rows d_y n,  d_offset = sum_rows d_y
 *
 * Forward: two passes for the statistics, which are saved, one for y. Back: rows for d_x, then columns for d_gain and
 * d_offset, each a chain over the rows in ascending order that continues what is there. A row whose d_y is zero is
 * not read. Sums over a row run in VL lanes, then halves.
 *
 * Bound: memory; x is read once and y written, the other passes find their row in L1. Back: x and d_y twice.
 */
#define layer_norm_rows FN(layer_norm_rows)
#define layer_norm_back FN(layer_norm_back)
#define layer_norm_columns FN(layer_norm_columns)
#define any_nonzero FN(any_nonzero)

/* Does the statement for vectors c of a row of N elements; `left` lanes of it count, a constant but for the last. */
#define EACH(N, ...)                                                                                                   \
    do {                                                                                                               \
        int64_t c = 0;                                                                                                 \
        for (const int64_t left = VL; c + VL <= (N); c += VL) __VA_ARGS__                                              \
        for (const int64_t left = (N)-c; c < (N); c += VL) __VA_ARGS__                                                 \
    } while (0)

FA_FUNC void layer_norm_rows(const fa_layer_norm *a, int64_t first, int64_t last) {
    const int64_t N = a->N;
    const real *gain = a->gain, *offset = a->offset;
    for (int64_t r = first; r < last; r++) {
        const real *x = (const real *)a->x + r * a->x_row;
        real *y = (real *)a->y + r * N;
        vec sum = vset1(0), squares = vset1(0);
        EACH(N, { sum = sum + vload_n(x + c, left); });
        const real mean = vhsum(sum) / (real)N;
        const vec centre = vset1(mean);
        EACH(N, {
            vec d = vload_or(x + c, left, mean) - centre; /* zero beyond the row */
            squares = vfma(d, d, squares);
        });
        const real inverse = (real)(1 / sqrt((double)vhsum(squares) / (double)N + a->epsilon));
        const vec factor = vset1(inverse);
        EACH(N, {
            vec n = (vload_n(x + c, left) - centre) * factor;
            vstore_n(y + c, vfma(n, vload_n(gain + c, left), vload_n(offset + c, left)), left);
        });
        ((real *)a->mean)[r] = mean;
        ((real *)a->inverse)[r] = inverse;
    }
}

FA_INLINE int any_nonzero(const real *x, int64_t n) {
    for (int64_t c = 0; c < n; c++)
        if (x[c] != 0) return 1;
    return 0;
}

FA_FUNC void layer_norm_back(const fa_layer_norm *a, int64_t first, int64_t last) {
    const int64_t N = a->N;
    const real *gain = a->gain;
    for (int64_t r = first; r < last; r++) {
        const real *x = (const real *)a->x + r * a->x_row, *dy = (const real *)a->dy + r * a->dy_row;
        real *dx = (real *)a->dx + r * N;
        if (!any_nonzero(dy, N)) {
            memset(dx, 0, (size_t)N * sizeof(real));
            continue;
        }
        const vec centre = vset1(((const real *)a->mean)[r]), factor = vset1(((const real *)a->inverse)[r]);
        vec sum = vset1(0), along = vset1(0);
        EACH(N, { /* g is zero beyond the row */
                  vec g = vload_n(gain + c, left) * vload_n(dy + c, left);
                  sum = sum + g;
                  along = vfma(g, (vload_n(x + c, left) - centre) * factor, along);
        });
        const vec level = vset1(vhsum(sum) / (real)N), tilt = vset1(-vhsum(along) / (real)N);
        EACH(N, {
            vec g = vload_n(gain + c, left) * vload_n(dy + c, left), n = (vload_n(x + c, left) - centre) * factor;
            vstore_n(dx + c, vfma(n, tilt, g - level) * factor, left);
        });
    }
}

/* Columns first..last-1 of all rows; the two sums stay in L1. */
FA_FUNC void layer_norm_columns(const fa_layer_norm *a, int64_t first, int64_t last) {
    const int64_t N = a->N, n = last - first;
    real *gains = (real *)a->d_gain + first, *offsets = (real *)a->d_offset + first;
    for (int64_t r = 0; r < a->rows; r++) {
        const real *x = (const real *)a->x + r * a->x_row + first, *row = (const real *)a->dy + r * a->dy_row;
        const real *dy = row + first;
        if (!any_nonzero(row, N)) continue; /* all of it: what is read does not depend on the thread's columns */
        const vec centre = vset1(((const real *)a->mean)[r]), factor = vset1(((const real *)a->inverse)[r]);
        EACH(n, {
            vec d = vload_n(dy + c, left), normal = (vload_n(x + c, left) - centre) * factor;
            vstore_n(gains + c, vfma(d, normal, vload_n(gains + c, left)), left);
            vstore_n(offsets + c, vload_n(offsets + c, left) + d, left);
        });
    }
}
#undef EACH
