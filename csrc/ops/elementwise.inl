/* exp, tanh and sigmoid over an array (x may be y), y += scale x, the gradient of relu, and rows scaled to unit length
 * for cosine scores.
 *
 *   y_t = x_t / |x|,  d_x = (d_y - y (y . d_y)) / |x|;  a zero row gives zeros and a zero gradient.
 * |x| is taken of x / max |x|, so that squares neither overflow nor vanish. 1 / |x| is kept as two factors, of which
 * the second is a power of two: their product may be beyond the type.
 */
#ifndef FA_OPS_ELEMENTWISE_INL
#define FA_OPS_ELEMENTWISE_INL
#include "../vec/vec.h"
#include "../kernels.h"
#include "../vec/math.h"

FA_FUNC void map_elements(int32_t function, const element *x, element *y, int64_t n) {
    for (int64_t i = 0; i < n; i += VL) {
        vec v = eload_n(x + i, n - i);
        v = function == FA_MAP_EXP ? vexp(v) : function == FA_MAP_TANH ? vtanh(v) : vsigmoid(v);
        estore_n(y + i, v, n - i);
    }
}

FA_FUNC void add_scaled(const real *x, double scale, real *y, int64_t first, int64_t last) {
    const vec factor = vset1((real)scale);
    for (int64_t i = first; i < last; i += VL)
        vstore_n(y + i, vfma(factor, vload_n(x + i, last - i), vload_n(y + i, last - i)), last - i);
}

/* d becomes 0 where the result y is 0, or NaN. A pass over both. */
FA_FUNC void relu_backward(const element *y, element *d, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i += VL)
        estore_n(d + i, vselect_lt(vset1(0), eload_n(y + i, last - i), eload_n(d + i, last - i), vset1(0)), last - i);
}

/* The power of two by which a row is multiplied first, so that neither its length nor the reciprocal leaves the normal
 * numbers: 1 unless its largest element is within a few decades of the ends of the type. */
FA_INLINE real power_for(real largest) {
    const real small = FA_BITS == 32 ? (real)0x1p-100f : (real)0x1p-900;
    const real up = FA_BITS == 32 ? (real)0x1p64f : (real)0x1p200;
    return largest < small ? up : largest > 1 / small ? 1 / up : (real)1;
}

FA_FUNC void normalize_forward(const element *x, int64_t x_row, element *y, real *inverse_norm, int64_t rows,
                               int64_t columns) {
    for (int64_t r = 0; r < rows; r++) {
        const element *src = x + r * x_row;
        real *saved = inverse_norm + 2 * r;
        vec size = vset1(0), squares = vset1(0);
        for (int64_t c = 0; c < columns; c += VL) {
            vec v = eload_n(src + c, columns - c);
            size = vmax(size, vmax(v, -v));
        }
        const real largest = vhmax(size), power = power_for(largest); /* largest may be -0 */
        const real scale = largest != 0 ? 1 / (largest * power) : (real)1;
        for (int64_t c = 0; c < columns; c += VL) {
            vec v = eload_n(src + c, columns - c) * vset1(power) * vset1(scale);
            squares = vfma(v, v, squares);
        }
        real sum = vhsum(squares), inverse = sum == 0 ? (real)0 : scale / (real)sqrt((double)sum);
        for (int64_t c = 0; c < columns; c += VL)
            estore_n(y + r * columns + c, eload_n(src + c, columns - c) * vset1(power) * vset1(inverse), columns - c);
        saved[0] = inverse;
        saved[1] = power;
    }
}

FA_FUNC void normalize_backward(const element *y, const real *inverse_norm, const element *dy, element *dx,
                                int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; r++) {
        const element *u = y + r * columns, *g = dy + r * columns;
        const real *saved = inverse_norm + 2 * r;
        element *d = dx + r * columns;
        vec along = vset1(0);
        int any = 0;
        for (int64_t c = 0; c < columns; c++) any |= to_real(g[c]) != 0;
        if (!any) { /* whatever u holds: a masked key may be NaN */
            for (int64_t c = 0; c < columns; c++) d[c] = to_element(0);
            continue;
        }
        for (int64_t c = 0; c < columns; c += VL)
            along = vfma(eload_n(u + c, columns - c), eload_n(g + c, columns - c), along);
        vec dot = vset1(vhsum(along));
        for (int64_t c = 0; c < columns; c += VL) {
            vec v = vfma(-dot, eload_n(u + c, columns - c), eload_n(g + c, columns - c));
            v = saved[0] == 0 ? vset1(0) : v * vset1(saved[0]) * vset1(saved[1]);
            estore_n(d + c, v, columns - c);
        }
    }
}
#endif
