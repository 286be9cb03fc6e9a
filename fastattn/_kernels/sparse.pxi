# Sparse normalizers, on contiguous arrays.

def entmax(cnp.ndarray x, mask, cnp.ndarray y, double alpha, int64_t rows, int64_t columns):
    """y = alpha-entmax of rows; mask is a bool array of x's shape, or None."""
    cdef int kind = floats(x, "x")
    cdef int64_t n = _table(rows, columns)
    cdef void *p_x = flat(x, "x", kind, n)
    cdef void *p_y = flat(y, "y", kind, n, FA_WRITE)
    cdef const uint8_t *p_mask = <const uint8_t *>maybe(mask, "mask", cnp.NPY_BOOL, n)
    cdef const fa_kernels *k = _kernels(x)
    cdef int status
    with nogil:
        status = fa_entmax_forward(k, p_x, p_mask, p_y, alpha, rows, columns, n_threads)
    finished(status, "entmax")


def entmax_backward(cnp.ndarray y, cnp.ndarray dy, cnp.ndarray dx, d_alpha, double alpha, int64_t rows,
                    int64_t columns):
    """dx from y = entmax(x) and dy; d_alpha (rows,), float64, unless None, is what each row adds."""
    cdef int kind = floats(y, "y")
    cdef int64_t n = _table(rows, columns)
    cdef void *p_y = flat(y, "y", kind, n)
    cdef void *p_dx = flat(dx, "dx", kind, n, FA_WRITE)
    cdef void *p_dy = flat(dy, "dy", kind, n)
    cdef double *p_alpha = <double *>maybe(d_alpha, "d_alpha", cnp.NPY_FLOAT64, rows, FA_WRITE)
    cdef const fa_kernels *k = _kernels(y)
    cdef int status
    with nogil:
        status = fa_entmax_backward(k, p_y, p_dy, p_dx, p_alpha, alpha, rows, columns, n_threads)
    finished(status, "entmax")
