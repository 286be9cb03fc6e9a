/* Softmax of rows:  y_j = e^(x_j - m) / sum_k e^(x_k - m),  m = max_k x_k;  d_x = y (d_y - y . d_y).
 * mask (one byte for each element, 1 = counts) may be NULL; a row with nothing to count, or only -inf, gives zeros.
 * Three passes over a row: maximum, exponentials and sum, division; the sum runs in VL lanes, then halves.
 */
#ifndef FA_OPS_SOFTMAX_INL
#define FA_OPS_SOFTMAX_INL
#include "../vec/vec.h"
#include "../vec/math.h"

FA_FUNC void softmax_forward(const void *x, const uint8_t *mask, void *y, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; r++) {
        const real *src = (const real *)x + r * columns;
        const uint8_t *allowed = mask ? mask + r * columns : NULL;
        real *dst = (real *)y + r * columns, top = NEG_INF;
        for (int64_t c = 0; c < columns; c++) {
            dst[c] = !allowed || allowed[c] ? src[c] : NEG_INF;
            top = dst[c] > top ? dst[c] : top;
        }
        vec base = vset1(top == NEG_INF ? (real)0 : top), sum = vset1(0);
        for (int64_t c = 0; c < columns; c += VL) {
            vec p = vexp_soft(vload_n(dst + c, columns - c) - base);
            vstore_n(dst + c, p, columns - c);
            sum = sum + vload_n(dst + c, columns - c);
        }
        real total = vhsum(sum);
        vec inverse = vset1(total == 0 ? (real)0 : 1 / total);
        for (int64_t c = 0; c < columns; c += VL)
            vstore_n(dst + c, vload_n(dst + c, columns - c) * inverse, columns - c);
    }
}

FA_FUNC void softmax_backward(const void *y, const void *dy, void *dx, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; r++) {
        const real *p = (const real *)y + r * columns, *g = (const real *)dy + r * columns;
        real *d = (real *)dx + r * columns;
        vec along = vset1(0);
        for (int64_t c = 0; c < columns; c += VL) {
            vec weight = vload_n(p + c, columns - c), slope = vload_n(g + c, columns - c);
            ivec used = weight != vset1(0);
            along = vfma(weight, (vec)((ivec)slope & used), along);
        }
        vec dot = vset1(vhsum(along));
        for (int64_t c = 0; c < columns; c += VL) {
            vec weight = vload_n(p + c, columns - c), v = weight * (vload_n(g + c, columns - c) - dot);
            ivec used = weight != vset1(0);
            vstore_n(d + c, (vec)((ivec)v & used), columns - c);
        }
    }
}
#endif
