# Sparse normalizers, on contiguous arrays.

def entmax(cnp.ndarray x, mask, cnp.ndarray y, double alpha, int64_t rows, int64_t columns):
    """y = alpha-entmax of rows; mask is a bool array of x's shape, or None."""
    cdef int kind = floats(x, "x")
    _two(x, "x", y, "y", kind, rows, columns)
    if mask is not None:
        flat(mask, "mask", cnp.NPY_BOOL, _elements(x))
    cdef const fa_kernels *k = _kernels(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef const uint8_t *p_mask = <const uint8_t *>_data(mask)
    cdef void *p_y = cnp.PyArray_DATA(y)
    cdef int status
    with nogil:
        status = fa_entmax_forward(k, p_x, p_mask, p_y, alpha, rows, columns, n_threads)
    if status:
        raise MemoryError("fastattn: no memory for the workspace of entmax")


def entmax_backward(cnp.ndarray y, cnp.ndarray dy, cnp.ndarray dx, d_alpha, double alpha, int64_t rows,
                    int64_t columns):
    """dx from y = entmax(x) and dy; d_alpha (rows,), float64, unless None, is what each row adds."""
    cdef int kind = floats(y, "y")
    _two(y, "y", dx, "dx", kind, rows, columns)
    flat(dy, "dy", kind, _elements(y))
    if d_alpha is not None:
        flat(d_alpha, "d_alpha", cnp.NPY_FLOAT64, rows, FA_WRITE)
    cdef const fa_kernels *k = _kernels(y)
    cdef void *p_y = cnp.PyArray_DATA(y)
    cdef void *p_dy = cnp.PyArray_DATA(dy)
    cdef void *p_dx = cnp.PyArray_DATA(dx)
    cdef double *p_alpha = <double *>_data(d_alpha)
    cdef int status
    with nogil:
        status = fa_entmax_backward(k, p_y, p_dy, p_dx, p_alpha, alpha, rows, columns, n_threads)
    if status:
        raise MemoryError("fastattn: no memory for the workspace of entmax")
