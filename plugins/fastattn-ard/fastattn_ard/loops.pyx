# cython: boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Operands of the dot product, and their gradients: rows, spread over fastattn's threads."""

from cython cimport floating
from libc.stdint cimport int64_t

from fastattn._kernels.capi cimport fastattn_api, fastattn_import

cdef const fastattn_api *fa = fastattn_import()

cdef enum:
    ROWS = 64  # of one task


cdef struct rows:
    const void *x
    const void *w
    const void *d_operand
    void *out
    void *d_w
    int64_t count, width
    int side, is_double


cdef void fill(floating *w, rows *a, int64_t row) noexcept nogil:
    cdef const floating *x = <const floating *>a.x + row * a.width
    cdef floating *out = <floating *>a.out + row * (a.width + 2)
    cdef floating square = 0
    cdef int64_t c
    for c in range(a.width):
        out[c] = 2 * w[c] * w[c] * x[c] if a.side == 0 else x[c]
        square += (w[c] * x[c]) * (w[c] * x[c])
    out[a.width] = -square if a.side == 0 else 1
    out[a.width + 1] = -1 if a.side == 0 else square


cdef void back(floating *w, rows *a, int64_t row) noexcept nogil:
    cdef const floating *x = <const floating *>a.x + row * a.width
    cdef const floating *d = <const floating *>a.d_operand + row * (a.width + 2)
    cdef floating *dx = <floating *>a.out + row * a.width
    cdef floating *dw = <floating *>a.d_w + row * a.width
    cdef floating of_square = -d[a.width] if a.side == 0 else d[a.width + 1]
    cdef int64_t c
    cdef bint read = of_square != 0
    for c in range(a.width):
        read = read or d[c] != 0
    for c in range(a.width):
        if not read:  # such a row may be NaN
            dx[c] = dw[c] = 0
        elif a.side == 0:
            dx[c] = 2 * w[c] * w[c] * (d[c] + x[c] * of_square)
            dw[c] = 2 * w[c] * x[c] * (2 * d[c] + x[c] * of_square)
        else:
            dx[c] = d[c] + 2 * w[c] * w[c] * x[c] * of_square
            dw[c] = 2 * w[c] * x[c] * x[c] * of_square


cdef void fill_task(void *context, int64_t number) noexcept nogil:
    cdef rows *a = <rows *>context
    cdef int64_t row
    for row in range(number * ROWS, min((number + 1) * ROWS, a.count)):
        if a.is_double:
            fill(<double *>a.w, a, row)
        else:
            fill(<float *>a.w, a, row)


cdef void back_task(void *context, int64_t number) noexcept nogil:
    cdef rows *a = <rows *>context
    cdef int64_t row
    for row in range(number * ROWS, min((number + 1) * ROWS, a.count)):
        if a.is_double:
            back(<double *>a.w, a, row)
        else:
            back(<float *>a.w, a, row)


cdef void *pointer(array):
    return <void *><size_t>array.ctypes.data


cdef rows described(x, w, int side):
    cdef rows a
    a.x, a.w = pointer(x), pointer(w)
    a.d_operand = a.d_w = NULL
    a.width = x.shape[x.ndim - 1]
    a.count = x.size // a.width if a.width else 0
    a.side, a.is_double = side, x.dtype.itemsize == 8
    return a


def operand(x, w, int side, out):
    """Set out (..., D + 2) from x (..., D); side 0: query, 1: key. All contiguous and of one dtype."""
    cdef rows a = described(x, w, side)
    a.out = pointer(out)
    with nogil:
        fa.parallel((a.count + ROWS - 1) // ROWS, fill_task, &a)


def operand_vjp(x, w, int side, d_operand, d_x, d_w):
    """Set d_x and d_w (..., D), the latter row by row, from d_operand (..., D + 2)."""
    cdef rows a = described(x, w, side)
    a.d_operand, a.out, a.d_w = pointer(d_operand), pointer(d_x), pointer(d_w)
    with nogil:
        fa.parallel((a.count + ROWS - 1) // ROWS, back_task, &a)
