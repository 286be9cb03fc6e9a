/* Layer normalization of rows of width N:  y = gain n + offset,  n = (x - mean) inverse,
 *   mean = sum x / N,  inverse = 1 / sqrt(sum (x - mean)^2 / N + epsilon)
 *   d_x = (g - sum g / N - n sum(g n) / N) inverse,  g = gain d_y
 *   d_gain = sum_rows d_y n,  d_offset = sum_rows d_y
 *
 * Forward: two passes for the statistics, which are saved, one for y. Back: rows for d_x, then columns for d_gain and
 * d_offset, sums over the rows in ascending order, added to what is there. A row whose d_y is zero is
 * not read. Sums over a row run in VL lanes, then halves. A row whose squares leave the normal numbers is multiplied by
 * a power of two first; one of equal elements has n = 0, also without an epsilon.
 *
 * Forward, rows may be added to those of x first: their sum is where y will be.
 * Bound: memory; x is read once and y written, the other passes find their row in L1. Back: x and d_y twice.
 */
#ifndef FA_OPS_LAYER_NORM_INL
#define FA_OPS_LAYER_NORM_INL
#include "../vec/vec.h"
#include "../kernels.h"
#include "../attention/rows.inl"

/* Does the statement for vectors c of a row of N elements; `left` lanes of it count, a constant but for the last. */
#define EACH(N, ...)                                                                                                   \
    do {                                                                                                               \
        int64_t c = 0;                                                                                                 \
        for (const int64_t left = VL; c + VL <= (N); c += VL) __VA_ARGS__                                              \
        for (const int64_t left = (N)-c; c < (N); c += VL) __VA_ARGS__                                                 \
    } while (0)

#undef NORM_HUGE
#undef NORM_POWER
#undef NORM_ROOT
#if FA_BITS == 32
#define NORM_HUGE 0x1p120f
#define NORM_POWER 0x1p100f
#define NORM_ROOT 0x1p50f
#else
#define NORM_HUGE 0x1p960
#define NORM_POWER 0x1p800
#define NORM_ROOT 0x1p400
#endif

FA_INLINE int norm_equal(const element *x, real mean, int64_t n) {
    for (int64_t c = 0; c < n; c++)
        if (to_real(x[c]) != mean) return 0;
    return 1;
}

FA_FUNC void layer_norm_forward(const fa_layer_norm *a, int64_t first, int64_t last) {
    const int64_t N = a->N;
    const element *gain = a->gain, *offset = a->offset;
    for (int64_t r = first; r < last; r++) {
        const element *x = a->x + r * a->x_row;
        element *y = a->y + r * N;
        real power = 1, mean, total;
        if (a->added) {
            const element *added = a->added + r * N;
            EACH(N, { estore_n(y + c, eload_n(x + c, left) + eload_n(added + c, left), left); });
            x = y;
        }
        for (;;) { /* once, or again of the row times a power of two, which y holds meanwhile */
            vec sum = vset1(0), squares = vset1(0);
            EACH(N, { sum = sum + eload_n(x + c, left); });
            mean = vhsum(sum) / (real)N;
            const vec centre = vset1(mean);
            EACH(N, {
                vec d = eload_or(x + c, left, mean) - centre; /* zero beyond the row */
                squares = vfma(d, d, squares);
            });
            total = vhsum(squares);
            if (power != 1) break;
            if (!(total <= NORM_HUGE))
                power = 1 / NORM_POWER;
            else if (total < 1 / NORM_HUGE && a->epsilon < 1 / (double)NORM_HUGE && !norm_equal(x, mean, N))
                power = NORM_POWER;
            else
                break;
            EACH(N, { estore_n(y + c, eload_n(x + c, left) * vset1(power), left); });
            x = y;
        }
        const double spread = (double)total / (double)N + a->epsilon * (double)power * (double)power;
        const real inverse = spread == 0 ? (real)0 : (real)(1 / sqrt(spread));
        const vec factor = vset1(inverse), centre = vset1(mean);
        EACH(N, {
            vec n = (eload_n(x + c, left) - centre) * factor;
            estore_n(y + c, vfma(n, eload_n(gain + c, left), eload_n(offset + c, left)), left);
        });
        a->mean[r] = mean / power;
        a->inverse[r] = vmin(vset1(FA_LARGEST), vset1(inverse * power))[0];
    }
}

/* n = (x - mean) inverse of a row from what was saved: of large elements times a power of two, as theirs was. */
typedef struct {
    vec times, centre, factor;
} norm_row;

FA_INLINE norm_row norm_saved(const fa_layer_norm *a, int64_t r) {
    const real mean = a->mean[r], inverse = a->inverse[r];
    const real power = inverse < 1 / NORM_ROOT && inverse != 0 ? 1 / NORM_POWER : (real)1;
    return (norm_row){vset1(power), vset1(-mean * power), vset1(power == 1 ? inverse : inverse / power)};
}
FA_INLINE vec norm_normal(const norm_row *row, vec x) { return vfma(x, row->times, row->centre) * row->factor; }

FA_INLINE int any_nonzero(const element *x, int64_t n) {
    for (int64_t c = 0; c < n; c++)
        if (to_real(x[c]) != 0) return 1;
    return 0;
}

FA_FUNC void layer_norm_backward(const fa_layer_norm *a, int64_t first, int64_t last) {
    const int64_t N = a->N;
    const element *gain = a->gain;
    for (int64_t r = first; r < last; r++) {
        const element *x = a->x + r * a->x_row, *dy = a->dy + r * a->dy_row;
        element *dx = a->dx + r * N;
        if (!any_nonzero(dy, N)) {
            memset(dx, 0, (size_t)N * sizeof(element));
            continue;
        }
        const norm_row row = norm_saved(a, r);
        const vec factor = vset1(a->inverse[r]);
        vec sum = vset1(0), along = vset1(0);
        EACH(N, { /* g is zero beyond the row */
                  vec g = eload_n(gain + c, left) * eload_n(dy + c, left);
                  sum = sum + g;
                  along = vfma(g, norm_normal(&row, eload_n(x + c, left)), along);
        });
        const vec level = vset1(vhsum(sum) / (real)N), tilt = vset1(-vhsum(along) / (real)N);
        EACH(N, {
            vec g = eload_n(gain + c, left) * eload_n(dy + c, left), n = norm_normal(&row, eload_n(x + c, left));
            estore_n(dx + c, vfma(n, tilt, g - level) * factor, left);
        });
    }
}

/* Columns first..last-1 of all rows, NORM_COLUMNS at a time: sums of NORM_BLOCK rows that count, which stay in L1, and
 * those of all blocks in float64 (tile/sums.inl). */
#define NORM_COLUMNS 512
#define NORM_BLOCK 64

FA_INLINE void norm_keep(real *block, double *total, int64_t n) {
    for (int64_t c = 0; c < n; c++) {
        total[c] += (double)block[c];
        block[c] = 0;
    }
}

FA_FUNC void layer_norm_backward_columns(const fa_layer_norm *a, int64_t first, int64_t last) {
    for (int64_t c0 = first; c0 < last; c0 += NORM_COLUMNS) {
        const int64_t N = a->N, n = last - c0 < NORM_COLUMNS ? last - c0 : NORM_COLUMNS;
        real gains[NORM_COLUMNS] = {0}, offsets[NORM_COLUMNS] = {0};
        double all_gains[NORM_COLUMNS] = {0}, all_offsets[NORM_COLUMNS] = {0};
        int64_t count = 0;
        for (int64_t r = 0; r < a->rows; r++) {
            const element *x = a->x + r * a->x_row + c0, *row = a->dy + r * a->dy_row, *dy = row + c0;
            if (!any_nonzero(row, N)) continue; /* all of it: what is read does not depend on the thread's columns */
            const norm_row saved = norm_saved(a, r);
            EACH(n, {
                vec d = eload_n(dy + c, left), normal = norm_normal(&saved, eload_n(x + c, left));
                vstore_n(gains + c, vfma(d, normal, vload_n(gains + c, left)), left);
                vstore_n(offsets + c, vload_n(offsets + c, left) + d, left);
            });
            if (++count % NORM_BLOCK) continue;
            norm_keep(gains, all_gains, n);
            norm_keep(offsets, all_offsets, n);
        }
        norm_keep(gains, all_gains, n);
        norm_keep(offsets, all_offsets, n);
        for (int64_t c = 0; c < n; c++) {
            a->d_gain[c0 + c] += (real)all_gains[c];
            a->d_offset[c0 + c] += (real)all_offsets[c];
        }
    }
}
#undef EACH
#endif
