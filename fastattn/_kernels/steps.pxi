# Decoder steps over earlier weights, with gradients.

cdef class Steps:
    """T steps of attention for each of B samples, forward and back; csrc/decoder/ has formulas and layouts.

    query (B, T, D), first and last (B, T) int64, mask (B, S) bool, factor (B, T, S): contiguous, or None.
    """
    cdef fa_steps a
    cdef const fa_kernels *kernels
    cdef tuple keep
    cdef int kind
    cdef int64_t entries  # of the memory

    def __cinit__(self, cnp.ndarray query, Keys keys not None, KernelScore score not None, double scale,
                  cnp.ndarray first, cnp.ndarray last, mask=None, bint sigmoid=False, Features features=None,
                  factor=None):
        cdef fa_steps *a = &self.a
        cdef fa_sizes q, k, v, u, f
        cdef int kind
        self.kind = kind = floats(query, "query")
        memset(a, 0, sizeof(fa_steps))
        a.query = tensor(query, "query", kind, 3, 3, &q, FA_READ | FA_FLAT)
        self.entries = keys.read(kind, 3, 3, q.B, q.D, &k, &v, &a.key_strides, &a.value_strides)
        a.B = q.B
        a.T = q.T
        a.D = q.D
        a.S = k.T
        a.Dv = v.D
        a.first = <const int64_t *>flat(first, "first", cnp.NPY_INT64, fa_size_mul(a.B, a.T))
        a.last = <const int64_t *>flat(last, "last", cnp.NPY_INT64, fa_size_mul(a.B, a.T))
        a.mask = <const uint8_t *>maybe(mask, "mask", cnp.NPY_BOOL, fa_size_mul(a.B, a.S))
        a.factor = maybe(factor, "factor", kind, _times(a.B, a.T, a.S))
        score.alone()
        a.vector = score.read(kind, a.D)
        between("activation", None, score.activation, 0, 0)
        same("table", "arrays with steps", keys.table is not None, 0)
        if features is not None:
            a.feature_weights = tensor(features.weights, "feature_weights", kind, 2, 2, &u, FA_READ | FA_FLAT)
            same("feature_weights", "columns", u.D, a.D)
            a.history = flat(features.history, "history", kind, _times(a.B, a.T, a.S))
            a.C, a.K = u.T, 1
            if features.filters is not None:
                a.filters = tensor(features.filters, "filters", kind, 2, 2, &f, FA_READ | FA_FLAT)
                same("filters", "rows", f.T, u.T)
                a.K = f.D
        self.keep = (query, keys, score, first, last, mask, features, factor)
        self.kernels = _kernels(query)
        a.score = score.kernel
        a.sigmoid = sigmoid
        a.scale = scale
        a.key = _data(keys.key)
        a.value = _data(keys.value)
        a.memory_rows = <const int64_t *>_data(keys.rows)

    cdef int numbers(self) except -1:
        """Check the numbers that kernels index by, which may have changed since the call was made."""
        cdef int64_t n = self.a.B * self.a.T, i
        if self.a.memory_rows != NULL:
            inside("rows", self.a.memory_rows, self.a.B, 0, self.entries - 1)
        inside("first", self.a.first, n, 0, self.a.S)
        inside("last", self.a.last, n, 0, self.a.S)
        return 0

    cdef void *each(self, object array, str name, int64_t width, bint wanted, int flags) except? NULL:
        """Check an array of `width` numbers for each sample, or that it is None unless it is wanted."""
        if array is None and not wanted:
            return NULL
        return flat(array, name, self.kind, fa_size_mul(self.a.B, width), flags)

    def forward(self, cnp.ndarray context, cnp.ndarray weights, cnp.ndarray normalized, cnp.ndarray total):
        """context (B, T, Dv), weights (B, T, S), normalized: before the factor, or weights itself, total (B, T)."""
        cdef fa_steps a = self.a
        cdef int status
        self.numbers()
        a.context = self.each(context, "context", fa_size_mul(a.T, a.Dv), True, FA_WRITE)
        a.weights = self.each(weights, "weights", fa_size_mul(a.T, a.S), True, FA_WRITE)
        a.normalized = self.each(normalized, "normalized", fa_size_mul(a.T, a.S), True, FA_WRITE)
        a.total = self.each(total, "total", a.T, True, FA_WRITE)
        self.keep += (weights, normalized, total)
        self.a = a  # the backward pass reads these
        with nogil:
            status = fa_steps_forward(self.kernels, &self.a, n_threads)
        finished(status, "attention steps")

    def backward(self, cnp.ndarray d_context, d_weights, cnp.ndarray d_query, d_history, d_factor,
                 cnp.ndarray d_key, d_vector, d_feature_weights, d_filters, int64_t first_step=0, last_step=None):
        """After forward, whose arrays are still there: the last four are added to, each (B, ...), by these steps."""
        cdef fa_steps a = self.a
        cdef int status
        self.numbers()
        same("backward", "calls of forward before it, at least", a.weights != NULL, 1)
        # The sums of a sample are beside those of the next one.
        same("rows", "arrays in the backward pass", a.memory_rows != NULL, 0)
        a.first_step = first_step
        a.last_step = a.T if last_step is None else last_step
        between("last_step", None, a.last_step, 0, a.T)
        between("first_step", None, first_step, 0, a.last_step)
        a.d_context = self.each(d_context, "d_context", fa_size_mul(a.T, a.Dv), True, FA_READ)
        a.d_weights = self.each(d_weights, "d_weights", fa_size_mul(a.T, a.S), False, FA_READ)
        a.d_query = self.each(d_query, "d_query", fa_size_mul(a.T, a.D), True, FA_WRITE)
        a.d_history = self.each(d_history, "d_history", fa_size_mul(a.T, a.S), a.C > 0, FA_WRITE)
        a.d_factor = self.each(d_factor, "d_factor", fa_size_mul(a.T, a.S), a.factor != NULL, FA_WRITE)
        a.d_key = self.each(d_key, "d_key", fa_size_mul(a.S, a.D), True, FA_WRITE)
        a.d_vector = self.each(d_vector, "d_vector", a.D, fa_facts(a.score).vector, FA_WRITE)
        a.d_feature_weights = self.each(d_feature_weights, "d_feature_weights", fa_size_mul(a.C, a.D), a.C > 0,
                                        FA_WRITE)
        a.d_filters = self.each(d_filters, "d_filters", fa_size_mul(a.C, a.K), a.filters != NULL, FA_WRITE)
        with nogil:
            status = fa_steps_backward(self.kernels, &a, n_threads)
        finished(status, "attention steps")
