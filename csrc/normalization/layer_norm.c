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

FA_FUNC void layer_norm_rows(const fa_layer_norm *a, int64_t first, int64_t last) {
    const int64_t N = a->N;
    const real *gain = a->gain, *offset = a->offset;
    for (int64_t r = first; r < last; r++) {
        const real *x = (const real *)a->x + r * a->x_row;
        real *y = (real *)a->y + r * N;
        vec sum = vset1(0), squares = vset1(0);
        for (int64_t c = 0; c < N; c += VL) sum = sum + vload_n(x + c, N - c);
        const real mean = vhsum(sum) / (real)N;
        const vec centre = vset1(mean);
        int64_t c = 0;
        for (; c + VL <= N; c += VL) {
            vec d = vload(x + c) - centre;
            squares = vfma(d, d, squares);
        }
        if (c < N) {
            real lanes[VL] = {0};
            vstore_n(lanes, vload_n(x + c, N - c) - centre, N - c);
            squares = vfma(vload(lanes), vload(lanes), squares);
        }
        const real inverse = (real)(1 / sqrt((double)vhsum(squares) / (double)N + a->epsilon));
        const vec factor = vset1(inverse);
        for (c = 0; c < N; c += VL) {
            vec n = (vload_n(x + c, N - c) - centre) * factor;
            vstore_n(y + c, vfma(n, vload_n(gain + c, N - c), vload_n(offset + c, N - c)), N - c);
        }
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
        for (int64_t c = 0; c < N; c += VL) { /* g is zero beyond the row */
            vec g = vload_n(gain + c, N - c) * vload_n(dy + c, N - c);
            sum = sum + g;
            along = vfma(g, (vload_n(x + c, N - c) - centre) * factor, along);
        }
        const vec level = vset1(vhsum(sum) / (real)N), tilt = vset1(-vhsum(along) / (real)N);
        for (int64_t c = 0; c < N; c += VL) {
            vec g = vload_n(gain + c, N - c) * vload_n(dy + c, N - c), n = (vload_n(x + c, N - c) - centre) * factor;
            vstore_n(dx + c, vfma(n, tilt, g - level) * factor, N - c);
        }
    }
}

/* Columns first..last-1, at most PW. */
FA_FUNC void layer_norm_columns(const fa_layer_norm *a, int64_t first, int64_t last) {
    const int64_t N = a->N, n = last - first, vectors = (n + VL - 1) / VL;
    real *d_gain = (real *)a->d_gain + first, *d_offset = (real *)a->d_offset + first;
    vec gains[PW / VL], offsets[PW / VL];
    for (int64_t v = 0; v < vectors; v++) {
        gains[v] = vload_n(d_gain + v * VL, n - v * VL);
        offsets[v] = vload_n(d_offset + v * VL, n - v * VL);
    }
    for (int64_t r = 0; r < a->rows; r++) {
        const real *x = (const real *)a->x + r * a->x_row, *dy = (const real *)a->dy + r * a->dy_row;
        if (!any_nonzero(dy, N)) continue;
        const vec centre = vset1(((const real *)a->mean)[r]), factor = vset1(((const real *)a->inverse)[r]);
        for (int64_t v = 0; v < vectors; v++) {
            vec d = vload_n(dy + first + v * VL, n - v * VL);
            vec normal = (vload_n(x + first + v * VL, n - v * VL) - centre) * factor;
            gains[v] = vfma(d, normal, gains[v]);
            offsets[v] = offsets[v] + d;
        }
    }
    for (int64_t v = 0; v < vectors; v++) {
        vstore_n(d_gain + v * VL, gains[v], n - v * VL);
        vstore_n(d_offset + v * VL, offsets[v], n - v * VL);
    }
}
