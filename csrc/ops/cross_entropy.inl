/* Softmax cross-entropy of rows of logits x + b against q = 1 - s + s / V at the target, s / V elsewhere:
 *
 *   loss = log(sum_v e^(x_v - m)) - (1 - s) (x_t - m) - s / V sum_v (x_v - m),  m = max_v x_v
 *   d_x  = softmax(x) - q, which takes the place of x
 *
 * and log_softmax(x)_v = x_v - m - log(sum). Three passes over a row, which stays in L1 or L2: bias and maximum;
 * exponentials and sums, in float64; division. The second passes of the loss alone store nothing. What a pass leaves
 * for the next lies in the result, as elements: no error there is larger than that of the result's own rounding.
 *
 * Bound: about 25 vector instructions for VL logits, of which one exponential is 15: 3 % of the 6 K V of the products
 * around it at K = 512.
 */
#ifndef FA_OPS_CROSS_ENTROPY_INL
#define FA_OPS_CROSS_ENTROPY_INL
#include "../vec/vec.h"
#include "../vec/math.h"

/* Adds the bias (or NULL) to x in place, and returns the maximum, or 0 if that is -inf. */
FA_INLINE real loss_top(const element *x, const element *bias, element *y, int64_t n) {
    vec top[4] = {vset1(NEG_INF), vset1(NEG_INF), vset1(NEG_INF), vset1(NEG_INF)};
    int64_t c = 0;
    for (; c + 4 * VL <= n; c += 4 * VL)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            vec v = eload(x + c + i * VL);
            if (bias) v = v + eload(bias + c + i * VL);
            if (bias || x != y) estore(y + c + i * VL, v);
            top[i] = vmax(top[i], v);
        }
    for (; c < n; c += VL) {
        vec v = eload_or(x + c, n - c, NEG_INF);
        if (bias) v = v + eload_n(bias + c, n - c);
        if (bias || x != y) estore_n(y + c, v, n - c);
        top[0] = vmax(top[0], v);
    }
    real largest = vhmax(vmax(vmax(top[0], top[1]), vmax(top[2], top[3])));
    return largest == NEG_INF ? (real)0 : largest;
}

/* Exponentials of x - top, kept in place if wanted; returns their sum, and that of x - top in *apart. */
FA_INLINE double loss_row(element *x, real top, int64_t n, const int keep, const int smooth, double *apart) {
    dvec sums[2] = {{0}, {0}}, plain[2] = {{0}, {0}};
    const vec base = vset1(top);
    int64_t c = 0;
    for (; c + VL <= n; c += VL) {
        vec d = eload(x + c) - base, e = vexp_soft(d);
        if (smooth) vadd_wide(plain, d);
        if (keep) estore(x + c, e);
        vadd_wide(sums, e);
    }
    if (c < n) {
        vec e = vexp_soft(eload_or(x + c, n - c, NEG_INF) - base);
        if (smooth) vadd_wide(plain, eload_or(x + c, n - c, top) - base);
        if (keep) estore_n(x + c, e, n - c);
        vadd_wide(sums, e);
    }
    *apart = smooth ? vhsum_wide(plain) : 0;
    return vhsum_wide(sums);
}

FA_FUNC void cross_entropy(element *logits, const element *bias, const int64_t *targets, double smoothing, int gradient,
                           double *losses, int64_t row0, int64_t row1, int64_t V) {
    const real share = (real)(smoothing / (double)V);
    for (int64_t r = row0; r < row1; r++) {
        element *x = logits + r * V, *hit_at = x + targets[r];
        const real top = loss_top(x, bias, x, V);
        const double hit = (double)to_real(*hit_at) - (double)top;
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
        for (; c + VL <= V; c += VL) estore(x + c, vfma(eload(x + c), inverse, less));
        if (c < V) estore_n(x + c, vfma(eload_n(x + c, V - c), inverse, less), V - c);
        *hit_at = to_element(to_real(*hit_at) - (real)(1 - smoothing));
    }
}

FA_FUNC void log_softmax(const element *logits, const element *bias, element *result, int64_t row0, int64_t row1,
                         int64_t V) {
    for (int64_t r = row0; r < row1; r++) {
        element *y = result + r * V;
        const real top = loss_top(logits + r * V, bias, y, V);
        double apart, sum = loss_row(y, top, V, 0, 0, &apart);
        /* A row of only -inf stays as it is. */
        const double rest = sum == 0 ? 0 : log(sum);
        const vec base = vset1(top), less = vset1((real)rest);
        int64_t c = 0;
        for (; c + VL <= V; c += VL) estore(y + c, (eload(y + c) - base) - less);
        if (c < V) estore_n(y + c, (eload_n(y + c, V - c) - base) - less, V - c);
    }
}
#endif
