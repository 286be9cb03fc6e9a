/* Softmax of rows:  y_j = e^(x_j - m) / sum_k e^(x_k - m),  m = max_k x_k;  d_x = y (d_y - y . d_y).
 * mask (one byte for each element, 1 = counts) may be NULL; a row with nothing to count, or only -inf, gives zeros.
 * Three passes over a row: maximum, exponentials and sum, division; the sum runs in VL lanes, then halves.
 * What a pass leaves for the next lies in y, as elements: no error there is larger than that of the result's rounding.
 */
#ifndef FA_OPS_SOFTMAX_INL
#define FA_OPS_SOFTMAX_INL
#include "../vec/vec.h"
#include "../vec/math.h"

FA_FUNC void softmax_forward(const element *x, const uint8_t *mask, element *y, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; r++) {
        const element *src = x + r * columns;
        const uint8_t *allowed = mask ? mask + r * columns : NULL;
        element *dst = y + r * columns;
        real top = NEG_INF;
        for (int64_t c = 0; c < columns; c++) {
            const real counted = !allowed || allowed[c] ? to_real(src[c]) : NEG_INF;
            dst[c] = to_element(counted);
            top = counted > top ? counted : top;
        }
        vec base = vset1(top == NEG_INF ? (real)0 : top), sum = vset1(0);
        for (int64_t c = 0; c < columns; c += VL) {
            vec p = vexp_soft(eload_n(dst + c, columns - c) - base);
            estore_n(dst + c, p, columns - c);
            sum = sum + eload_n(dst + c, columns - c);
        }
        real total = vhsum(sum);
        vec inverse = vset1(total == 0 ? (real)0 : 1 / total);
        for (int64_t c = 0; c < columns; c += VL)
            estore_n(dst + c, eload_n(dst + c, columns - c) * inverse, columns - c);
    }
}

FA_FUNC void softmax_backward(const element *y, const element *dy, element *dx, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; r++) {
        const element *p = y + r * columns, *g = dy + r * columns;
        element *d = dx + r * columns;
        vec along = vset1(0);
        for (int64_t c = 0; c < columns; c += VL) {
            vec weight = eload_n(p + c, columns - c), slope = eload_n(g + c, columns - c);
            ivec used = weight != vset1(0);
            along = vfma(weight, (vec)((ivec)slope & used), along);
        }
        vec dot = vset1(vhsum(along));
        for (int64_t c = 0; c < columns; c += VL) {
            vec weight = eload_n(p + c, columns - c), v = weight * (eload_n(g + c, columns - c) - dot);
            ivec used = weight != vset1(0);
            estore_n(d + c, (vec)((ivec)v & used), columns - c);
        }
    }
}
#endif
