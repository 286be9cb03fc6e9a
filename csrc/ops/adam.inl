/* One step of Adam with decoupled decay, and the sum of squares that clipping needs; elements first..last-1.
 *
 *   g = scale gradient,  m' = beta1 m + (1 - beta1) g,  v' = beta2 v + (1 - beta2) g^2
 *   value' = keep value - size m' / (sqrt(v') spread + epsilon),  gradient' = 0 if wanted
 *   keep = 1 - rate decay,  size = rate / (1 - beta1^t),  spread = 1 / sqrt(1 - beta2^t)
 *
 * m' and v' below the smallest normal number become zero: moments of rows that get no gradient any more would sink
 * into subnormal numbers and stay there, at a hundred cycles for each operation. A finite g counts as at most
 * FA_ADAM_MOST, or v' would become infinite and the element never move again.
 *
 * Bound: memory, 7 or 8 elements read or written for each; a division and a root of VL lanes take a third of that time.
 */
#ifndef FA_OPS_ADAM_INL
#define FA_OPS_ADAM_INL
#include "../vec/vec.h"
#include "../kernels.h"

FA_INLINE vec adam_flush(vec x) {
    const vec least = vset1(FA_BITS == 32 ? (real)1.17549435e-38f : (real)2.2250738585072014e-308);
    return vselect_lt(vmax(-x, x), least, vset1(0), x);
}

#undef FA_ADAM_MOST
#if FA_BITS == 32
#define FA_ADAM_MOST 0x1p63f
#else
#define FA_ADAM_MOST 0x1p511
#endif
FA_INLINE vec adam_bounded(vec g) {
    const vec most = vset1(FA_ADAM_MOST);
    return vselect_lt(vmax(-g, g), vset1((real)INFINITY), vmin(most, vmax(-most, g)), g);
}

FA_FUNC void adam(const fa_adam *a, int64_t first, int64_t last) {
    element *value = a->value;
    real *gradient = a->gradient, *m = a->m, *v = a->v;
    const vec scale = vset1((real)a->scale), beta1 = vset1((real)a->beta1), beta2 = vset1((real)a->beta2);
    const vec rest1 = vset1((real)(1 - a->beta1)), rest2 = vset1((real)(1 - a->beta2)), keep = vset1((real)a->keep);
    const vec size = vset1((real)-a->size), spread = vset1((real)a->spread), epsilon = vset1((real)a->epsilon);
    for (int64_t i = first; i < last; i += VL) {
        const int64_t n = last - i;
        vec g = adam_bounded(vload_n(gradient + i, n) * scale);
        vec mean = adam_flush(vfma(beta1, vload_n(m + i, n), rest1 * g));
        vec square = adam_flush(vfma(beta2, vload_n(v + i, n), rest2 * g * g));
        vec step = mean / vfma(vsqrt(square), spread, epsilon);
        estore_n(value + i, vfma(size, step, keep * eload_n(value + i, n)), n);
        vstore_n(m + i, mean, n);
        vstore_n(v + i, square, n);
        if (a->clear) vstore_n(gradient + i, vset1(0), n);
    }
}

/* In float64: squares of all float32 numbers and their sums neither overflow nor vanish there. */
FA_FUNC double square_sum(const real *x, int64_t first, int64_t last) {
    dvec sums[4][2] = {{{0}, {0}}, {{0}, {0}}, {{0}, {0}}, {{0}, {0}}};
    int64_t i = first;
    for (; i + 4 * VL <= last; i += 4 * VL)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            dvec wide[2];
            __builtin_prefetch((const char *)(x + i + j * VL) + 2048);
            vwiden(wide, vload(x + i + j * VL));
            sums[j][0] += wide[0] * wide[0];
            sums[j][1] += wide[1] * wide[1];
        }
    dvec pair[2];
    for (int h = 0; h < 2; h++) pair[h] = (sums[0][h] + sums[2][h]) + (sums[1][h] + sums[3][h]);
    double sum = vhsum_wide(pair);
    for (; i < last; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}
#endif
