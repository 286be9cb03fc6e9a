# Functions of rows and elements, on contiguous arrays.

def map_array(int function, cnp.ndarray x, cnp.ndarray y):
    """y = exp, tanh or sigmoid (0, 1, 2) of x."""
    cdef int64_t n = cnp.PyArray_SIZE(x)
    cdef const fa_kernels *k = _kernels(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef void *p_y = cnp.PyArray_DATA(y)
    with nogil:
        k.map(function, p_x, p_y, n)


def softmax(cnp.ndarray x, mask, cnp.ndarray y, int64_t rows, int64_t columns):
    """Softmax of rows; mask is a bool array of x's shape, or None."""
    cdef const fa_kernels *k = _kernels(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef const uint8_t *p_mask = <const uint8_t *>_data(mask)
    cdef void *p_y = cnp.PyArray_DATA(y)
    with nogil:
        k.softmax(p_x, p_mask, p_y, rows, columns)


def softmax_vjp(cnp.ndarray y, cnp.ndarray dy, cnp.ndarray dx, int64_t rows, int64_t columns):
    """dx from y = softmax(x) and dy."""
    cdef const fa_kernels *k = _kernels(y)
    cdef void *p_y = cnp.PyArray_DATA(y)
    cdef void *p_dy = cnp.PyArray_DATA(dy)
    cdef void *p_dx = cnp.PyArray_DATA(dx)
    with nogil:
        k.softmax_vjp(p_y, p_dy, p_dx, rows, columns)


def normalize(cnp.ndarray x, cnp.ndarray y, cnp.ndarray inverse_norm, int64_t rows, int64_t columns):
    """y = rows of x scaled to unit length, inverse_norm (rows, 2) = two factors of 1 / length; zero rows give zeros."""
    cdef const fa_kernels *k = _kernels(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef void *p_y = cnp.PyArray_DATA(y)
    cdef void *p_n = cnp.PyArray_DATA(inverse_norm)
    with nogil:
        k.normalize(p_x, columns, p_y, p_n, rows, columns)


def normalize_vjp(cnp.ndarray y, cnp.ndarray inverse_norm, cnp.ndarray dy, cnp.ndarray dx, int64_t rows,
                  int64_t columns):
    """dx from the results of normalize and dy."""
    cdef const fa_kernels *k = _kernels(y)
    cdef void *p_y = cnp.PyArray_DATA(y)
    cdef void *p_n = cnp.PyArray_DATA(inverse_norm)
    cdef void *p_dy = cnp.PyArray_DATA(dy)
    cdef void *p_dx = cnp.PyArray_DATA(dx)
    with nogil:
        k.normalize_vjp(p_y, p_n, p_dy, p_dx, rows, columns)


def mix64(x):
    """The 64-bit mixing function of the dropout hash, on a Python integer."""
    cdef uint64_t u = <uint64_t>(int(x) & 0xFFFFFFFFFFFFFFFF)
    u += <uint64_t>0x9E3779B97F4A7C15
    u = (u ^ (u >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    u = (u ^ (u >> 27)) * <uint64_t>0x94D049BB133111EB
    return u ^ (u >> 31)


def relu_back(cnp.ndarray y, cnp.ndarray d):
    """d becomes 0 where y = relu(...) is not above 0; both contiguous."""
    cdef const fa_kernels *k = _kernels(y)
    cdef int64_t n = cnp.PyArray_SIZE(y)
    cdef void *p_y = cnp.PyArray_DATA(y)
    cdef void *p_d = cnp.PyArray_DATA(d)
    with nogil:
        fa_relu_back(k, p_y, p_d, n, n_threads)


def largest(cnp.ndarray x, cnp.ndarray values, cnp.ndarray ids):
    """values and ids (M, k): the k largest elements of each row of x (M, N) in descending order, of equal ones the
    first first, and their columns; NaN counts, and is given, as -inf. All contiguous, ids int64, k <= N."""
    cdef const fa_kernels *k = _kernels(x)
    cdef int64_t rows = cnp.PyArray_DIM(x, 0), columns = cnp.PyArray_DIM(x, 1), count = cnp.PyArray_DIM(ids, 1)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef void *p_values = cnp.PyArray_DATA(values)
    cdef int64_t *p_ids = <int64_t *>cnp.PyArray_DATA(ids)
    if count:
        with nogil:
            fa_largest(k, p_x, rows, columns, count, p_values, p_ids, n_threads)


def rotary(cnp.ndarray x, cnp.ndarray cosines, cnp.ndarray sines, bint interleaved, bint inverse, cnp.ndarray y):
    """y (B, T, H, D), contiguous, = x (B, H, T, D) with pairs of features turned; cosines and sines (T, n / 2)."""
    cdef const fa_kernels *k = _kernels(x)
    cdef fa_rotary a
    a.x = cnp.PyArray_DATA(x)
    a.x_strides = _strides3(x)
    a.cosines = cnp.PyArray_DATA(cosines)
    a.sines = cnp.PyArray_DATA(sines)
    a.y = cnp.PyArray_DATA(y)
    a.B = cnp.PyArray_DIM(x, 0)
    a.H = cnp.PyArray_DIM(x, 1)
    a.T = cnp.PyArray_DIM(x, 2)
    a.D = cnp.PyArray_DIM(x, 3)
    a.n = 2 * cnp.PyArray_DIM(cosines, 1)
    a.interleaved = interleaved
    a.inverse = inverse
    with nogil:
        fa_rotary_run(k, &a, n_threads)
