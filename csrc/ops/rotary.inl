/* Rotary positions:  (a, b) at position t  ->  (a cos - b sin, b cos + a sin),  n / 2 pairs of the n first features,
 * cos and sin (T, n / 2); inverse: with -sin. Pair i is features i and i + n / 2, or `interleaved` 2 i and 2 i + 1.
 *
 * x (B, H, T, D) by strides, of unit stride in its last axis; y (B, T, H, D) contiguous. Rows first..last-1 of B T.
 * Products and sums are rounded one by one, so that all levels and loops have the same bits.
 * Bound: memory, B H T D elements read and written; 3 n / D operations an element.
 */
#ifndef FA_OPS_ROTARY_INL
#define FA_OPS_ROTARY_INL
#include "../vec/vec.h"
#include "../kernels.h"

FA_FUNC void rotary(const fa_rotary *a, int64_t first, int64_t last) {
    const int64_t half = a->n / 2, D = a->D;
    const real sign = a->inverse ? (real)-1 : (real)1;
    for (int64_t row = first; row < last; row++) {
        const int64_t b = row / a->T, t = row % a->T;
        const element *cosines = a->cosines + t * half, *sines = a->sines + t * half;
        for (int64_t h = 0; h < a->H; h++) {
            const element *x = a->x + b * a->x_strides.batch + h * a->x_strides.head + t * a->x_strides.row;
            element *restrict y = a->y + (row * a->H + h) * D;
            if (a->interleaved) /* written so that GCC 12 sees no complex product, which it would fuse */
                for (int64_t i = 0; i < half; i++) {
                    const real s = sign * to_real(sines[i]);
                    y[2 * i] = to_element(to_real(x[2 * i]) * to_real(cosines[i]) - to_real(x[2 * i + 1]) * s);
                    y[2 * i + 1] = to_element(to_real(x[2 * i + 1]) * to_real(cosines[i]) + to_real(x[2 * i]) * s);
                }
            else
                for (int64_t i = 0; i < half; i++) {
                    const real s = sign * to_real(sines[i]);
                    y[i] = to_element(to_real(x[i]) * to_real(cosines[i]) - to_real(x[half + i]) * s);
                    y[half + i] = to_element(to_real(x[half + i]) * to_real(cosines[i]) + to_real(x[i]) * s);
                }
            if (a->n < D) memcpy(y + a->n, x + a->n, (size_t)(D - a->n) * sizeof(element));
        }
    }
}
#endif
