/* Softmax cross-entropy of rows of logits x + b against q = 1 - s + s / V at the target, s / V elsewhere:
 *
 *   loss = log(sum_v e^(x_v - m)) - (1 - s) (x_t - m) - s / V sum_v (x_v - m),  m = max_v x_v
 *   d_x  = softmax(x) - q, which takes the place of x
 *
 * and log_softmax(x)_v = x_v - m - log(sum). Three passes over a row, which stays in L1 or L2: bias and maximum;
 * exponentials and sums, in float64; division. The second passes of the loss alone store nothing.
 *
 * Bound: about 25 vector instructions for VL logits, of which one exponential is 15: 3 % of the 6 K V of the products
 * around it at K = 512.
 */
#ifndef FA_OPS_CROSS_ENTROPY_INL
#define FA_OPS_CROSS_ENTROPY_INL
#include "../vec/vec.h"
#include "../vec/math.h"

/* Adds the bias (or NULL) to x in place, and returns the maximum, or 0 if that is -inf. */
FA_INLINE real loss_top(const real *x, const real *bias, real *y, int64_t n) {
    vec top[4] = {vset1(NEG_INF), vset1(NEG_INF), vset1(NEG_INF), vset1(NEG_INF)};
    int64_t c = 0;
    for (; c + 4 * VL <= n; c += 4 * VL)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            vec v = vload(x + c + i * VL);
            if (bias) v = v + vload(bias + c + i * VL);
            if (bias || x != y) vstore(y + c + i * VL, v);
            top[i] = vmax(top[i], v);
        }
    for (; c < n; c += VL) {
        vec v = vload_or(x + c, n - c, NEG_INF);
        if (bias) v = v + vload_n(bias + c, n - c);
        if (bias || x != y) vstore_n(y + c, v, n - c);
        top[0] = vmax(top[0], v);
    }
    real largest = vhmax(vmax(vmax(top[0], top[1]), vmax(top[2], top[3])));
    return largest == NEG_INF ? (real)0 : largest;
}

/* Exponentials of x - top, kept in place if wanted; returns their sum, and that of x - top in *apart. */
FA_INLINE double loss_row(real *x, real top, int64_t n, const int keep, const int smooth, double *apart) {
    dvec sums[2] = {{0}, {0}}, plain[2] = {{0}, {0}};
    const vec base = vset1(top);
    int64_t c = 0;
    for (; c + VL <= n; c += VL) {
        vec d = vload(x + c) - base, e = vexp_soft(d);
        if (smooth) vadd_wide(plain, d);
        if (keep) vstore(x + c, e);
        vadd_wide(sums, e);
    }
    if (c < n) {
        vec e = vexp_soft(vload_or(x + c, n - c, NEG_INF) - base);
        if (smooth) vadd_wide(plain, vload_or(x + c, n - c, top) - base);
        if (keep) vstore_n(x + c, e, n - c);
        vadd_wide(sums, e);
    }
    *apart = smooth ? vhsum_wide(plain) : 0;
    return vhsum_wide(sums);
}

FA_FUNC void cross_entropy(void *logits, const void *bias, const int64_t *targets, double smoothing, int gradient,
                           double *losses, int64_t row0, int64_t row1, int64_t V) {
    const real share = (real)(smoothing / (double)V);
    for (int64_t r = row0; r < row1; r++) {
        real *x = (real *)logits + r * V;
        const real top = loss_top(x, bias, x, V);
        const double hit = (double)x[targets[r]] - (double)top;
        double apart, sum;
        if (smoothing != 0)
            sum = gradient ? loss_row(x, top, V, 1, 1, &apart) : loss_row(x, top, V, 0, 1, &apart);
        else
            sum = gradient ? loss_row(x, top, V, 1, 0, &apart) : loss_row(x, top, V, 0, 0, &apart);
        losses[r] = log(sum) - (1 - smoothing) * hit;
        if (smoothing != 0) losses[r] -= smoothing / (double)V * apart;
        if (!gradient) continue;
        const vec inverse = vset1(sum == 0 ? (real)0 : (real)(1 / sum)), less = vset1(-share);
        int64_t c = 0;
        for (; c + VL <= V; c += VL) vstore(x + c, vfma(vload(x + c), inverse, less));
        if (c < V) vstore_n(x + c, vfma(vload_n(x + c, V - c), inverse, less), V - c);
        x[targets[r]] -= (real)(1 - smoothing);
    }
}

FA_FUNC void log_softmax(const void *logits, const void *bias, void *result, int64_t row0, int64_t row1, int64_t V) {
    for (int64_t r = row0; r < row1; r++) {
        real *y = (real *)result + r * V;
        const real top = loss_top((const real *)logits + r * V, bias, y, V);
        double apart, sum = loss_row(y, top, V, 0, 0, &apart);
        /* A row of only -inf stays as it is. */
        const double rest = sum == 0 ? 0 : log(sum);
        const vec base = vset1(top), less = vset1((real)rest);
        int64_t c = 0;
        for (; c + VL <= V; c += VL) vstore(y + c, (vload(y + c) - base) - less);
        if (c < V) vstore_n(y + c, (vload_n(y + c, V - c) - base) - less, V - c);
    }
}
#endif
