# Matrix products with packed weights, and gradients of weights.

def gemm_packed_elements(cnp.ndarray like, int64_t k, int64_t n):
    """Elements of a packed (k, n) matrix of this dtype."""
    return _kernels(like).gemm_packed_elements(k, n)


def gemm_pack(cnp.ndarray w, bint transposed, cnp.ndarray packed):
    """Pack w, or its transpose, of any strides."""
    cdef int64_t rows = cnp.PyArray_DIM(w, 0), columns = cnp.PyArray_DIM(w, 1), item = cnp.PyArray_ITEMSIZE(w)
    cdef int64_t row = cnp.PyArray_STRIDE(w, 0) // item, column = cnp.PyArray_STRIDE(w, 1) // item
    cdef const fa_kernels *k = _kernels(w)
    cdef void *p_w = cnp.PyArray_DATA(w)
    cdef void *p_packed = cnp.PyArray_DATA(packed)
    with nogil:
        if transposed:
            fa_gemm_pack(k, p_w, column, row, columns, rows, p_packed, n_threads)
        else:
            fa_gemm_pack(k, p_w, row, column, rows, columns, p_packed, n_threads)


def gemm(cnp.ndarray x, cnp.ndarray packed, cnp.ndarray y, bias=None, bint relu=False):
    """y (M, N), contiguous, = x (M, K) times a packed (K, N), plus bias (N,), contiguous, then relu if wanted."""
    cdef int64_t M = cnp.PyArray_DIM(x, 0), K = cnp.PyArray_DIM(x, 1), N = cnp.PyArray_DIM(y, 1)
    cdef int64_t x_row = cnp.PyArray_STRIDE(x, 0) // cnp.PyArray_ITEMSIZE(x)
    cdef const fa_kernels *k = _kernels(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef void *p_w = cnp.PyArray_DATA(packed)
    cdef void *p_y = cnp.PyArray_DATA(y)
    cdef const void *p_bias = _data(bias)
    with nogil:
        fa_gemm(k, p_x, x_row, p_w, p_y, M, K, N, p_bias, relu, n_threads)


def gemm_tn(cnp.ndarray x, cnp.ndarray dy, cnp.ndarray dw, db=None, bint accumulate=False):
    """dw (K, N), contiguous, = x (M, K) transposed times dy (M, N); db (N,), unless None, = the sum of dy's rows.

    accumulate: both are added to, each element continuing its chain. Rows of x whose dy is zero are not read.
    """
    cdef int64_t M = cnp.PyArray_DIM(x, 0), K = cnp.PyArray_DIM(x, 1), N = cnp.PyArray_DIM(dy, 1)
    cdef int64_t x_row = cnp.PyArray_STRIDE(x, 0) // cnp.PyArray_ITEMSIZE(x)
    cdef int64_t dy_row = cnp.PyArray_STRIDE(dy, 0) // cnp.PyArray_ITEMSIZE(dy)
    cdef const fa_kernels *k = _kernels(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef void *p_dy = cnp.PyArray_DATA(dy)
    cdef void *p_dw = cnp.PyArray_DATA(dw)
    cdef void *p_db = _data(db)
    cdef int is_double = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64
    cdef int status
    with nogil:
        status = fa_gemm_tn(k, p_x, x_row, p_dy, dy_row, p_dw, p_db, accumulate, M, K, N, is_double, n_threads)
    if status:
        raise MemoryError("fastattn: no memory for the workspace of weight_gradient")
