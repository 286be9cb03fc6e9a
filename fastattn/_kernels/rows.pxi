# Functions of rows and elements, on contiguous arrays.

cdef inline int64_t _elements(object a) noexcept:
    return cnp.PyArray_SIZE(<cnp.ndarray>a)


def map_array(int function, cnp.ndarray x, cnp.ndarray y):
    """y = exp, tanh or sigmoid (0, 1, 2) of x."""
    cdef int kind = floats(x, "x")
    cdef int64_t n = _elements(x)
    flat(x, "x", kind, n)
    flat(y, "y", kind, n, FA_WRITE)
    between("function", None, function, 0, 2)
    cdef const fa_kernels *k = _kernels(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef void *p_y = cnp.PyArray_DATA(y)
    with nogil:
        k.map_elements(function, p_x, p_y, n)


def softmax(cnp.ndarray x, mask, cnp.ndarray y, int64_t rows, int64_t columns):
    """Softmax of rows; mask is a bool array of x's shape, or None."""
    cdef int kind = floats(x, "x")
    _two(x, "x", y, "y", kind, rows, columns)
    if mask is not None:
        flat(mask, "mask", cnp.NPY_BOOL, _elements(x))
    cdef const fa_kernels *k = _kernels(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef const uint8_t *p_mask = <const uint8_t *>_data(mask)
    cdef void *p_y = cnp.PyArray_DATA(y)
    with nogil:
        k.softmax_forward(p_x, p_mask, p_y, rows, columns)


cdef int _two(object x, str x_name, object y, str y_name, int kind, int64_t rows, int64_t columns) except -1:
    """Both are (rows, columns), and y is written."""
    between("rows", None, rows, 0, INT64_MAX)
    between("columns", None, columns, 0, FA_WIDEST)
    flat(x, x_name, kind, fa_size_mul(rows, columns))
    flat(y, y_name, kind, fa_size_mul(rows, columns), FA_WRITE)
    return 0


def softmax_backward(cnp.ndarray y, cnp.ndarray dy, cnp.ndarray dx, int64_t rows, int64_t columns):
    """dx from y = softmax(x) and dy."""
    cdef int kind = floats(y, "y")
    _two(y, "y", dx, "dx", kind, rows, columns)
    flat(dy, "dy", kind, _elements(y))
    cdef const fa_kernels *k = _kernels(y)
    cdef void *p_y = cnp.PyArray_DATA(y)
    cdef void *p_dy = cnp.PyArray_DATA(dy)
    cdef void *p_dx = cnp.PyArray_DATA(dx)
    with nogil:
        k.softmax_backward(p_y, p_dy, p_dx, rows, columns)


def normalize(cnp.ndarray x, cnp.ndarray y, cnp.ndarray inverse_norm, int64_t rows, int64_t columns):
    """y = rows of x scaled to unit length, inverse_norm (rows, 2) = two factors of 1 / length; zero rows give zeros."""
    cdef int kind = floats(x, "x")
    _two(x, "x", y, "y", kind, rows, columns)
    flat(inverse_norm, "inverse_norm", kind, fa_size_mul(rows, 2), FA_WRITE)
    cdef const fa_kernels *k = _kernels(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef void *p_y = cnp.PyArray_DATA(y)
    cdef void *p_n = cnp.PyArray_DATA(inverse_norm)
    with nogil:
        k.normalize_forward(p_x, columns, p_y, p_n, rows, columns)


def normalize_backward(cnp.ndarray y, cnp.ndarray inverse_norm, cnp.ndarray dy, cnp.ndarray dx, int64_t rows,
                  int64_t columns):
    """dx from the results of normalize and dy."""
    cdef int kind = floats(y, "y")
    _two(y, "y", dx, "dx", kind, rows, columns)
    flat(dy, "dy", kind, _elements(y))
    flat(inverse_norm, "inverse_norm", kind, fa_size_mul(rows, 2))
    cdef const fa_kernels *k = _kernels(y)
    cdef void *p_y = cnp.PyArray_DATA(y)
    cdef void *p_n = cnp.PyArray_DATA(inverse_norm)
    cdef void *p_dy = cnp.PyArray_DATA(dy)
    cdef void *p_dx = cnp.PyArray_DATA(dx)
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
    flat(y, "y", kind, n)
    flat(d, "d", kind, n, FA_WRITE)
    cdef const fa_kernels *k = _kernels(y)
    cdef void *p_y = cnp.PyArray_DATA(y)
    cdef void *p_d = cnp.PyArray_DATA(d)
    with nogil:
        fa_relu_backward(k, p_y, p_d, n, n_threads)


def largest(cnp.ndarray x, cnp.ndarray values, cnp.ndarray ids):
    """values and ids (M, k): the k largest elements of each row of x (M, N) in descending order, of equal ones the
    first first, and their columns; NaN counts, and is given, as -inf. All contiguous, ids int64, k <= N."""
    cdef int kind = floats(x, "x")
    cdef fa_sizes s, found
    tensor(x, "x", kind, 2, 2, &s, FA_READ | FA_FLAT)
    tensor(values, "values", kind, 2, 2, &found, FA_WRITE | FA_FLAT)
    same("values", "rows", found.T, s.T)
    between("values", "columns", found.D, 0, s.D)
    flat(ids, "ids", cnp.NPY_INT64, fa_size_mul(found.T, found.D), FA_WRITE)
    cdef const fa_kernels *k = _kernels(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef void *p_values = cnp.PyArray_DATA(values)
    cdef int64_t *p_ids = <int64_t *>cnp.PyArray_DATA(ids)
    if found.D:
        with nogil:
            fa_largest(k, p_x, s.T, s.D, found.D, p_values, p_ids, n_threads)


def rotary(cnp.ndarray x, cnp.ndarray cosines, cnp.ndarray sines, bint interleaved, bint inverse, cnp.ndarray y):
    """y (B, T, H, D), contiguous, = x (B, H, T, D) with pairs of features turned; cosines and sines (T, n / 2)."""
    cdef int kind = floats(x, "x")
    cdef fa_sizes s, table
    tensor(x, "x", kind, 4, 4, &s)
    tensor(cosines, "cosines", kind, 2, 2, &table, FA_READ | FA_FLAT)
    same("cosines", "positions", table.T, s.T)
    between("cosines", "pairs of features", table.D, 0, s.D // 2)
    flat(sines, "sines", kind, fa_size_mul(table.T, table.D))
    flat(y, "y", kind, _times(s.B, s.H, s.T, s.D), FA_WRITE)
    cdef const fa_kernels *k = _kernels(x)
    cdef fa_rotary a
    a.x = cnp.PyArray_DATA(x)
    a.x_strides = _strides3(x)
    a.cosines = cnp.PyArray_DATA(cosines)
    a.sines = cnp.PyArray_DATA(sines)
    a.y = cnp.PyArray_DATA(y)
    a.B = s.B
    a.H = s.H
    a.T = s.T
    a.D = s.D
    a.n = 2 * table.D
    a.interleaved = interleaved
    a.inverse = inverse
    with nogil:
        fa_rotate(k, &a, n_threads)
