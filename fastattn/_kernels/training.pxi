# Losses, optimisers, embeddings, layer normalisation and dropout, on contiguous arrays.

def cross_entropy(cnp.ndarray logits, bias, cnp.ndarray targets, double smoothing, bint gradient, cnp.ndarray losses):
    """losses (M,) float64 of logits (M, V) plus bias against int64 targets; with gradient, logits become theirs, and
    otherwise nothing that is worth reading."""
    cdef const fa_kernels *k = _kernels(logits)
    cdef int64_t rows = cnp.PyArray_DIM(logits, 0), v = cnp.PyArray_DIM(logits, 1)
    cdef void *p_logits = cnp.PyArray_DATA(logits)
    cdef void *p_bias = _data(bias)
    cdef const int64_t *p_targets = <const int64_t *>cnp.PyArray_DATA(targets)
    cdef double *p_losses = <double *>cnp.PyArray_DATA(losses)
    with nogil:
        fa_cross_entropy(k, p_logits, p_bias, p_targets, smoothing, gradient, p_losses, rows, v, n_threads)


def log_softmax(cnp.ndarray x, bias, cnp.ndarray y, int64_t rows, int64_t columns):
    """y = log-softmax of rows of x plus bias (or None); y may be x."""
    cdef const fa_kernels *k = _kernels(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef void *p_bias = _data(bias)
    cdef void *p_y = cnp.PyArray_DATA(y)
    with nogil:
        fa_log_softmax(k, p_x, p_bias, p_y, rows, columns, n_threads)


def adam(cnp.ndarray value, cnp.ndarray gradient, cnp.ndarray m, cnp.ndarray v, double scale, double beta1,
         double beta2, double size, double spread, double epsilon, double keep):
    """One step in place, gradient set to zero; the numbers are those of csrc/optim/adam.c."""
    cdef const fa_kernels *k = _kernels(value)
    cdef fa_adam a
    cdef int64_t n = cnp.PyArray_SIZE(value)
    a.value = cnp.PyArray_DATA(value)
    a.gradient = cnp.PyArray_DATA(gradient)
    a.m = cnp.PyArray_DATA(m)
    a.v = cnp.PyArray_DATA(v)
    a.scale = scale
    a.beta1 = beta1
    a.beta2 = beta2
    a.size = size
    a.spread = spread
    a.epsilon = epsilon
    a.keep = keep
    with nogil:
        fa_adam_step(k, &a, n, n_threads)


def add_scaled(cnp.ndarray x, double scale, cnp.ndarray y):
    """y += scale x, contiguous, one rounding for each element."""
    cdef const fa_kernels *k = _kernels(x)
    cdef int64_t n = cnp.PyArray_SIZE(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef void *p_y = cnp.PyArray_DATA(y)
    with nogil:
        fa_add_scaled(k, p_x, scale, p_y, n, n_threads)


def square_sum(cnp.ndarray x, double start):
    """start plus the sum of the squares of a contiguous array, in float64."""
    cdef const fa_kernels *k = _kernels(x)
    cdef int64_t n = cnp.PyArray_SIZE(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef double total = start
    cdef int status
    with nogil:
        status = fa_square_sum(k, p_x, n, &total, n_threads)
    if status:
        raise MemoryError("fastattn: no memory for the workspace of a sum of squares")
    return total


def gather(cnp.ndarray table, cnp.ndarray ids, cnp.ndarray y):
    """y[i] = table[ids[i]] for int64 ids; all contiguous."""
    cdef const fa_kernels *k = _kernels(table)
    cdef int64_t n = cnp.PyArray_SIZE(ids), width = cnp.PyArray_DIM(table, 1)
    cdef void *p_table = cnp.PyArray_DATA(table)
    cdef const int64_t *p_ids = <const int64_t *>cnp.PyArray_DATA(ids)
    cdef void *p_y = cnp.PyArray_DATA(y)
    with nogil:
        fa_gather(k, p_table, p_ids, p_y, n, width, n_threads)


def scatter(cnp.ndarray dy, cnp.ndarray ids, int64_t skip, cnp.ndarray table):
    """table[ids[i]] += dy[i] in ascending order, unless ids[i] == skip; dy (n, width)."""
    cdef const fa_kernels *k = _kernels(table)
    cdef int64_t n = cnp.PyArray_SIZE(ids), width = cnp.PyArray_DIM(table, 1)
    cdef int64_t row = cnp.PyArray_STRIDE(dy, 0) // cnp.PyArray_ITEMSIZE(dy)
    cdef void *p_dy = cnp.PyArray_DATA(dy)
    cdef const int64_t *p_ids = <const int64_t *>cnp.PyArray_DATA(ids)
    cdef void *p_table = cnp.PyArray_DATA(table)
    with nogil:
        fa_scatter(k, p_dy, row, p_ids, n, skip, p_table, width, n_threads)


def layer_norm(cnp.ndarray x, cnp.ndarray gain, cnp.ndarray offset, double epsilon, cnp.ndarray y, cnp.ndarray mean,
               cnp.ndarray inverse):
    """y (M, N) from x (M, N); mean and inverse (M,) are for layer_norm_vjp."""
    cdef const fa_kernels *k = _kernels(x)
    cdef fa_layer_norm a
    memset(&a, 0, sizeof(fa_layer_norm))
    a.rows = cnp.PyArray_DIM(x, 0)
    a.N = cnp.PyArray_DIM(x, 1)
    a.x = cnp.PyArray_DATA(x)
    a.x_row = cnp.PyArray_STRIDE(x, 0) // cnp.PyArray_ITEMSIZE(x)
    a.gain = cnp.PyArray_DATA(gain)
    a.offset = cnp.PyArray_DATA(offset)
    a.epsilon = epsilon
    a.y = cnp.PyArray_DATA(y)
    a.mean = cnp.PyArray_DATA(mean)
    a.inverse = cnp.PyArray_DATA(inverse)
    with nogil:
        fa_layer_norm_run(k, &a, 0, n_threads)


def layer_norm_vjp(cnp.ndarray x, cnp.ndarray gain, cnp.ndarray mean, cnp.ndarray inverse, cnp.ndarray dy,
                   cnp.ndarray dx, cnp.ndarray d_gain, cnp.ndarray d_offset):
    """dx (M, N), contiguous; d_gain and d_offset (N,) are added to."""
    cdef const fa_kernels *k = _kernels(x)
    cdef fa_layer_norm a
    memset(&a, 0, sizeof(fa_layer_norm))
    a.rows = cnp.PyArray_DIM(x, 0)
    a.N = cnp.PyArray_DIM(x, 1)
    a.x = cnp.PyArray_DATA(x)
    a.x_row = cnp.PyArray_STRIDE(x, 0) // cnp.PyArray_ITEMSIZE(x)
    a.gain = cnp.PyArray_DATA(gain)
    a.mean = cnp.PyArray_DATA(mean)
    a.inverse = cnp.PyArray_DATA(inverse)
    a.dy = cnp.PyArray_DATA(dy)
    a.dy_row = cnp.PyArray_STRIDE(dy, 0) // cnp.PyArray_ITEMSIZE(dy)
    a.dx = cnp.PyArray_DATA(dx)
    a.d_gain = cnp.PyArray_DATA(d_gain)
    a.d_offset = cnp.PyArray_DATA(d_offset)
    with nogil:
        fa_layer_norm_run(k, &a, 1, n_threads)


def dropout(cnp.ndarray x, cnp.ndarray seeds, uint32_t drop_below, double keep_scale, cnp.ndarray y):
    """y = x with elements of each sample (first axis) dropped; x and y contiguous, seeds uint64 (B,)."""
    cdef const fa_kernels *k = _kernels(x)
    cdef int64_t samples = cnp.PyArray_DIM(x, 0)
    cdef int64_t elements = cnp.PyArray_SIZE(x) // samples if samples else 0
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef void *p_y = cnp.PyArray_DATA(y)
    cdef const uint64_t *p_seeds = <const uint64_t *>cnp.PyArray_DATA(seeds)
    cdef int is_double = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64
    with nogil:
        fa_dropout(k, p_x, p_y, p_seeds, drop_below, keep_scale, samples, elements, is_double, n_threads)
