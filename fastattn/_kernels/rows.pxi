# Functions of rows and elements, on contiguous arrays.

cdef inline int64_t _elements(object a) noexcept:
    return cnp.PyArray_SIZE(<cnp.ndarray>a)


def map_array(int function, cnp.ndarray x, cnp.ndarray y):
    """y = exp, tanh or sigmoid (0, 1, 2) of x."""
    cdef int kind = floats(x, "x")
    cdef int64_t n = _elements(x)
    cdef void *p_x = flat(x, "x", kind, n)
    cdef void *p_y = flat(y, "y", kind, n, FA_WRITE)
    between("function", None, function, 0, 2)
    cdef const fa_kernels *k = _kernels(x)
    with nogil:
        k.map_elements(function, p_x, p_y, n)


def softmax(cnp.ndarray x, mask, cnp.ndarray y, int64_t rows, int64_t columns):
    """Softmax of rows; mask is a bool array of x's shape, or None."""
    cdef int kind = floats(x, "x")
    cdef int64_t n = _table(rows, columns)
    cdef void *p_x = flat(x, "x", kind, n)
    cdef void *p_y = flat(y, "y", kind, n, FA_WRITE)
    cdef const uint8_t *p_mask = <const uint8_t *>maybe(mask, "mask", cnp.NPY_BOOL, n)
    cdef const fa_kernels *k = _kernels(x)
    with nogil:
        k.softmax_forward(p_x, p_mask, p_y, rows, columns)


cdef int64_t _table(int64_t rows, int64_t columns) except -1:
    """Elements of an array of these sizes."""
    between("rows", None, rows, 0, INT64_MAX)
    between("columns", None, columns, 0, FA_WIDEST)
    return fa_size_mul(rows, columns)


def softmax_backward(cnp.ndarray y, cnp.ndarray dy, cnp.ndarray dx, int64_t rows, int64_t columns):
    """dx from y = softmax(x) and dy."""
    cdef int kind = floats(y, "y")
    cdef int64_t n = _table(rows, columns)
    cdef void *p_y = flat(y, "y", kind, n)
    cdef void *p_dx = flat(dx, "dx", kind, n, FA_WRITE)
    cdef void *p_dy = flat(dy, "dy", kind, n)
    cdef const fa_kernels *k = _kernels(y)
    with nogil:
        k.softmax_backward(p_y, p_dy, p_dx, rows, columns)


def normalize(cnp.ndarray x, cnp.ndarray y, cnp.ndarray inverse_norm, int64_t rows, int64_t columns):
    """y = rows of x scaled to unit length, inverse_norm (rows, 2) = two factors of 1 / length; zero rows give zeros."""
    cdef int kind = floats(x, "x")
    cdef int64_t n = _table(rows, columns)
    cdef void *p_x = flat(x, "x", kind, n)
    cdef void *p_y = flat(y, "y", kind, n, FA_WRITE)
    cdef void *p_n = flat(inverse_norm, "inverse_norm", kind, fa_size_mul(rows, 2), FA_WRITE)
    cdef const fa_kernels *k = _kernels(x)
    with nogil:
        k.normalize_forward(p_x, columns, p_y, p_n, rows, columns)


def normalize_backward(cnp.ndarray y, cnp.ndarray inverse_norm, cnp.ndarray dy, cnp.ndarray dx, int64_t rows,
                  int64_t columns):
    """dx from the results of normalize and dy."""
    cdef int kind = floats(y, "y")
    cdef int64_t n = _table(rows, columns)
    cdef void *p_y = flat(y, "y", kind, n)
    cdef void *p_dx = flat(dx, "dx", kind, n, FA_WRITE)
    cdef void *p_dy = flat(dy, "dy", kind, n)
    cdef void *p_n = flat(inverse_norm, "inverse_norm", kind, fa_size_mul(rows, 2))
    cdef const fa_kernels *k = _kernels(y)
    with nogil:
        k.normalize_backward(p_y, p_n, p_dy, p_dx, rows, columns)


def mix64(x):
    """The 64-bit mixing function of the dropout hash, on a Python integer."""
    cdef uint64_t u = <uint64_t>(int(x) & 0xFFFFFFFFFFFFFFFF)
    u += <uint64_t>0x9E3779B97F4A7C15
    u = (u ^ (u >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    u = (u ^ (u >> 27)) * <uint64_t>0x94D049BB133111EB
    return u ^ (u >> 31)


def relu_backward(cnp.ndarray y, cnp.ndarray d):
    """d becomes 0 where y = relu(...) is not above 0; both contiguous."""
    cdef int kind = floats(y, "y")
    cdef int64_t n = _elements(y)
    cdef void *p_y = flat(y, "y", kind, n)
    cdef void *p_d = flat(d, "d", kind, n, FA_WRITE)
    cdef const fa_kernels *k = _kernels(y)
    with nogil:
        fa_relu_backward(k, p_y, p_d, n, n_threads)


def largest(cnp.ndarray x, cnp.ndarray values, cnp.ndarray ids):
    """values and ids (M, k): the k largest elements of each row of x (M, N) in descending order, of equal ones the
    first first, and their columns; NaN counts, and is given, as -inf. All contiguous, ids int64, k <= N."""
    cdef int kind = floats(x, "x")
    cdef fa_sizes s, found
    cdef void *p_x = tensor(x, "x", kind, 2, 2, &s, FA_READ | FA_FLAT)
    cdef void *p_values = tensor(values, "values", kind, 2, 2, &found, FA_WRITE | FA_FLAT)
    same("values", "rows", found.T, s.T)
    between("values", "columns", found.D, 0, s.D)
    cdef int64_t *p_ids = <int64_t *>flat(ids, "ids", cnp.NPY_INT64, fa_size_mul(found.T, found.D), FA_WRITE)
    cdef const fa_kernels *k = _kernels(x)
    if found.D:
        with nogil:
            fa_largest(k, p_x, s.T, s.D, found.D, p_values, p_ids, n_threads)


def rotary(cnp.ndarray x, cnp.ndarray cosines, cnp.ndarray sines, bint interleaved, bint inverse, cnp.ndarray y):
    """y (B, T, H, D), contiguous, = x (B, H, T, D) with pairs of features turned; cosines and sines (T, n / 2)."""
    cdef int kind = floats(x, "x")
    cdef fa_sizes s, table
    cdef fa_rotary a
    a.x = tensor(x, "x", kind, 4, 4, &s)
    a.cosines = tensor(cosines, "cosines", kind, 2, 2, &table, FA_READ | FA_FLAT)
    same("cosines", "positions", table.T, s.T)
    between("cosines", "pairs of features", table.D, 0, s.D // 2)
    a.sines = flat(sines, "sines", kind, fa_size_mul(table.T, table.D))
    a.y = flat(y, "y", kind, _times(s.B, s.H, s.T, s.D), FA_WRITE)
    cdef const fa_kernels *k = _kernels(x)
    a.x_strides = _strides3(x)
    a.B = s.B
    a.H = s.H
    a.T = s.T
    a.D = s.D
    a.n = 2 * table.D
    a.interleaved = interleaved
    a.inverse = inverse
    with nogil:
        fa_rotate(k, &a, n_threads)
