# Losses, optimisers, embeddings, layer normalisation and dropout, on contiguous arrays.

def cross_entropy(cnp.ndarray logits, bias, cnp.ndarray targets, double smoothing, bint gradient, cnp.ndarray losses):
    """losses (M,) float64 of logits (M, V) plus bias against int64 targets; with gradient, logits become theirs, and
    otherwise nothing that is worth reading."""
    cdef int kind = floats(logits, "logits")
    cdef fa_sizes s
    cdef void *p_logits = tensor(logits, "logits", kind, 2, 2, &s, FA_WRITE | FA_FLAT)
    cdef void *p_bias = maybe(bias, "bias", kind, s.D)
    cdef const int64_t *p_targets = within(targets, "targets", s.T, 0, s.D - 1)
    cdef double *p_losses = <double *>flat(losses, "losses", cnp.NPY_FLOAT64, s.T, FA_WRITE)
    cdef const fa_kernels *k = _kernels(logits)
    with nogil:
        fa_cross_entropy(k, p_logits, p_bias, p_targets, smoothing, gradient, p_losses, s.T, s.D, n_threads)


def log_softmax(cnp.ndarray x, bias, cnp.ndarray y, int64_t rows, int64_t columns):
    """y = log-softmax of rows of x plus bias (or None); y may be x."""
    cdef int kind = floats(x, "x")
    cdef int64_t n = _table(rows, columns)
    cdef void *p_x = flat(x, "x", kind, n)
    cdef void *p_y = flat(y, "y", kind, n, FA_WRITE)
    cdef void *p_bias = maybe(bias, "bias", kind, columns)
    cdef const fa_kernels *k = _kernels(x)
    with nogil:
        fa_log_softmax(k, p_x, p_bias, p_y, rows, columns, n_threads)


cdef int _form(const fa_kernels *k, fa_split *form, object parts, str name, const void *w, int64_t row,
               int64_t column, int64_t rows, int64_t columns) except -1:
    """Describe a form of a matrix that is to be packed in parts, unless None."""
    memset(form, 0, sizeof(fa_split))
    if parts is None:
        return 0
    form.w, form.w_row, form.w_column, form.K, form.N = w, row, column, rows, columns
    form.parts = _count(k, parts, rows, columns)
    form.split = <uint16_t *>flat(parts, name, cnp.NPY_UINT8, fa_gemm_parts_bytes(k, form.parts, rows, columns),
                                  FA_WRITE)
    return 0


def adam(cnp.ndarray value, cnp.ndarray gradient, cnp.ndarray m, cnp.ndarray v, double scale, double beta1,
         double beta2, double size, double spread, double epsilon, double keep, bint clear=True,
         parts=None, turned=None):
    """One step in place, gradient set to zero if clear; the numbers are those of csrc/ops/adam.inl.

    parts, turned: for those of a matrix and of its transpose, to be written on the way. Return what `gemm_split` would
    of each of them.
    """
    cdef int kind = floats(value, "value")
    cdef int64_t n = _elements(value)
    cdef fa_adam a
    a.value = flat(value, "value", kind, n, FA_WRITE)
    a.gradient = flat(gradient, "gradient", kind, n, FA_WRITE)
    a.m = flat(m, "m", kind, n, FA_WRITE)
    a.v = flat(v, "v", kind, n, FA_WRITE)
    cdef const fa_kernels *k = _kernels(value)
    a.scale = scale
    a.beta1 = beta1
    a.beta2 = beta2
    a.size = size
    a.spread = spread
    a.epsilon = epsilon
    a.keep = keep
    a.clear = clear
    cdef fa_split forms[2]
    cdef int unfit[2]
    cdef int status
    cdef int64_t K, N
    if parts is None and turned is None:
        with nogil:
            fa_adam_step(k, &a, n, n_threads)
        return True, True
    same("value", "axes", cnp.PyArray_NDIM(value), 2)
    K, N = cnp.PyArray_DIM(value, 0), cnp.PyArray_DIM(value, 1)
    _form(k, &forms[0], parts, "parts", a.value, N, 1, K, N)
    _form(k, &forms[1], turned, "turned", a.value, 1, N, N, K)
    with nogil:
        status = fa_adam_step_packed(k, &a, forms, K, N, unfit, n_threads)
    finished(status, "a step of Adam")
    return unfit[0] == 0, unfit[1] == 0


def add_scaled(cnp.ndarray x, double scale, cnp.ndarray y):
    """y += scale x, contiguous, one rounding for each element."""
    cdef int kind = floats(x, "x")
    cdef int64_t n = _elements(x)
    cdef void *p_x = flat(x, "x", kind, n)
    cdef void *p_y = flat(y, "y", kind, n, FA_WRITE)
    cdef const fa_kernels *k = _kernels(x)
    with nogil:
        fa_add_scaled(k, p_x, scale, p_y, n, n_threads)


def square_sum(cnp.ndarray x, double start):
    """start plus the sum of the squares of a contiguous array, in float64."""
    cdef int64_t n = _elements(x) if cnp.PyArray_Check(x) else 0
    cdef void *p_x = flat(x, "x", floats(x, "x"), n)
    cdef const fa_kernels *k = _kernels(x)
    cdef double total = start
    cdef int status
    with nogil:
        status = fa_square_sum(k, p_x, n, &total, n_threads)
    finished(status, "a sum of squares")
    return total


def gather(cnp.ndarray table, cnp.ndarray ids, cnp.ndarray y, bint columns=False):
    """y[i] = table[ids[i]] for int64 ids; all contiguous. columns: y[i] = table[:, ids[i]]."""
    cdef int kind = floats(table, "table")
    cdef int64_t n = _elements(ids) if cnp.PyArray_Check(ids) else 0
    cdef fa_sizes s
    cdef void *p_table = tensor(table, "table", kind, 2, 2, &s, FA_READ | FA_FLAT)
    cdef int64_t size = s.D if columns else s.T, width = s.T if columns else s.D
    cdef const int64_t *p_ids = within(ids, "ids", n, 0, size - 1)
    cdef void *p_y = flat(y, "y", kind, fa_size_mul(n, width), FA_WRITE)
    cdef const fa_kernels *k = _kernels(table)
    with nogil:
        fa_gather(k, p_table, size if columns else 0, p_ids, p_y, n, width, n_threads)


def scatter(cnp.ndarray dy, cnp.ndarray ids, int64_t skip, cnp.ndarray table, bint columns=False):
    """table[ids[i]] += dy[i] in ascending order, unless ids[i] == skip; dy (n, width). columns: table[:, ids[i]]."""
    cdef int kind = floats(table, "table")
    cdef fa_sizes s, d
    cdef void *p_table = tensor(table, "table", kind, 2, 2, &s, FA_WRITE | FA_FLAT)
    cdef void *p_dy = tensor(dy, "dy", kind, 2, 2, &d)
    cdef int64_t i, size = s.D if columns else s.T, width = s.T if columns else s.D
    same("dy", "columns", d.D, width)
    cdef const int64_t *p_ids = <const int64_t *>flat(ids, "ids", cnp.NPY_INT64, d.T)
    for i in range(d.T):
        if p_ids[i] != skip:
            between("ids", None, p_ids[i], 0, size - 1)
    cdef const fa_kernels *k = _kernels(table)
    cdef int64_t row = cnp.PyArray_STRIDE(dy, 0) // cnp.PyArray_ITEMSIZE(dy)
    cdef int status
    with nogil:
        status = fa_scatter(k, p_dy, row, p_ids, d.T, skip, p_table, size if columns else 0, width, n_threads)
    finished(status, "an embedding's gradient")


def layer_norm(cnp.ndarray x, cnp.ndarray gain, cnp.ndarray offset, double epsilon, cnp.ndarray y, cnp.ndarray mean,
               cnp.ndarray inverse):
    """y (M, N) from x (M, N); mean and inverse (M,) are for layer_norm_backward."""
    cdef int kind = floats(x, "x")
    cdef fa_sizes s
    cdef fa_layer_norm a
    memset(&a, 0, sizeof(fa_layer_norm))
    a.x = tensor(x, "x", kind, 2, 2, &s)
    a.gain = flat(gain, "gain", kind, s.D)
    a.offset = flat(offset, "offset", kind, s.D)
    a.y = flat(y, "y", kind, fa_size_mul(s.T, s.D), FA_WRITE)
    a.mean = flat(mean, "mean", kind, s.T, FA_WRITE)
    a.inverse = flat(inverse, "inverse", kind, s.T, FA_WRITE)
    cdef const fa_kernels *k = _kernels(x)
    a.rows = s.T
    a.N = s.D
    a.x_row = cnp.PyArray_STRIDE(x, 0) // cnp.PyArray_ITEMSIZE(x)
    a.epsilon = epsilon
    with nogil:
        fa_layer_norm_forward(k, &a, n_threads)


def layer_normalized(x, cnp.ndarray gain, cnp.ndarray offset, double epsilon, added=None):
    """A new array, x (..., N) or x + added as `layer_norm` has it, of arrays as nearly all come; None of others."""
    cdef fa_layer_norm a
    cdef int n
    if not _as_nearly_all(x):
        return None
    n = cnp.PyArray_NDIM(<cnp.ndarray>x)
    if (n < 1 or cnp.PyArray_TYPE(gain) != cnp.NPY_FLOAT32
            or cnp.PyArray_DIM(<cnp.ndarray>x, n - 1) != cnp.PyArray_SIZE(gain)):
        return None
    if added is not None and (not _as_nearly_all(added)
                              or not cnp.PyArray_SAMESHAPE(<cnp.ndarray>x, <cnp.ndarray>added)):
        return None
    y = empty(x.shape, x.dtype)
    memset(&a, 0, sizeof(fa_layer_norm))
    a.N = cnp.PyArray_SIZE(gain)
    a.rows = cnp.PyArray_SIZE(<cnp.ndarray>x) // a.N if a.N else 0
    cdef cnp.npy_intp statistics = 2 * a.rows
    means = cnp.PyArray_EMPTY(1, &statistics, cnp.NPY_FLOAT32, 0)
    a.x, a.y = cnp.PyArray_DATA(<cnp.ndarray>x), cnp.PyArray_DATA(<cnp.ndarray>y)
    a.added = _data(added)
    a.gain = flat(gain, "gain", cnp.NPY_FLOAT32, a.N)
    a.offset = flat(offset, "offset", cnp.NPY_FLOAT32, a.N)
    a.mean = cnp.PyArray_DATA(<cnp.ndarray>means)
    a.inverse = <float *>a.mean + a.rows
    a.x_row = a.N
    a.epsilon = epsilon
    with nogil:
        fa_layer_norm_forward(level.f32, &a, n_threads)
    return y


def layer_norm_backward(cnp.ndarray x, cnp.ndarray gain, cnp.ndarray mean, cnp.ndarray inverse, cnp.ndarray dy,
                   cnp.ndarray dx, cnp.ndarray d_gain, cnp.ndarray d_offset):
    """dx (M, N), contiguous; d_gain and d_offset (N,) are added to."""
    cdef int kind = floats(x, "x")
    cdef fa_sizes s, d
    cdef fa_layer_norm a
    memset(&a, 0, sizeof(fa_layer_norm))
    a.x = tensor(x, "x", kind, 2, 2, &s)
    a.dy = tensor(dy, "dy", kind, 2, 2, &d)
    same("dy", "rows", d.T, s.T)
    same("dy", "columns", d.D, s.D)
    a.gain = flat(gain, "gain", kind, s.D)
    a.mean = flat(mean, "mean", kind, s.T)
    a.inverse = flat(inverse, "inverse", kind, s.T)
    a.dx = flat(dx, "dx", kind, fa_size_mul(s.T, s.D), FA_WRITE)
    a.d_gain = flat(d_gain, "d_gain", kind, s.D, FA_WRITE)
    a.d_offset = flat(d_offset, "d_offset", kind, s.D, FA_WRITE)
    cdef const fa_kernels *k = _kernels(x)
    a.rows = s.T
    a.N = s.D
    a.x_row = cnp.PyArray_STRIDE(x, 0) // cnp.PyArray_ITEMSIZE(x)
    a.dy_row = cnp.PyArray_STRIDE(dy, 0) // cnp.PyArray_ITEMSIZE(dy)
    with nogil:
        fa_layer_norm_backward(k, &a, n_threads)


def dropout(cnp.ndarray x, cnp.ndarray seeds, uint32_t drop_below, double keep_scale, cnp.ndarray y):
    """y = x with elements of each sample (first axis) dropped; x and y contiguous, seeds uint64 (B,)."""
    cdef int kind = floats(x, "x")
    between("x", "axes", cnp.PyArray_NDIM(x), 1, INT32_MAX)
    cdef int64_t samples = cnp.PyArray_DIM(x, 0)
    cdef int64_t elements = _elements(x) // samples if samples else 0
    cdef void *p_x = flat(x, "x", kind, _elements(x))
    cdef void *p_y = flat(y, "y", kind, _elements(x), FA_WRITE)
    cdef const uint64_t *p_seeds = <const uint64_t *>flat(seeds, "seeds", cnp.NPY_UINT64, samples)
    cdef const fa_kernels *k = _kernels(x)
    with nogil:
        fa_dropout(k, p_x, p_y, p_seeds, drop_below, keep_scale, samples, elements, n_threads)
