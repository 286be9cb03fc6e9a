# Decoder steps over earlier weights, with gradients.

cdef class Steps:
    """T steps of attention for each of B samples, forward and back; csrc/steps/ has formulas and layouts.

    query (B, T, D), history and factor (B, T, S), first and last (B, T) int64, mask (B, S) bool, rows (B,) int64,
    vector (D,), filters (C, K), feature_weights (C, D): contiguous, or None; key (., S, D) and value (., S, Dv): any
    strides.
    """
    cdef fa_steps a
    cdef const fa_kernels *kernels
    cdef tuple keep

    def __init__(self, double scale, bint sigmoid, cnp.ndarray query, cnp.ndarray key, cnp.ndarray value, rows,
                 cnp.ndarray first, cnp.ndarray last, mask, vector, history, filters, feature_weights, factor):
        cdef fa_steps *a = &self.a
        memset(a, 0, sizeof(fa_steps))
        self.keep = (query, key, value, rows, first, last, mask, vector, history, filters, feature_weights, factor)
        self.kernels = _kernels(query)
        a.B = cnp.PyArray_DIM(query, 0)
        a.T = cnp.PyArray_DIM(query, 1)
        a.D = cnp.PyArray_DIM(query, 2)
        a.S = cnp.PyArray_DIM(key, 1)
        a.Dv = cnp.PyArray_DIM(value, 2)
        a.score = 0 if vector is None else 1
        a.sigmoid = sigmoid
        a.scale = scale
        a.query = cnp.PyArray_DATA(query)
        a.key = cnp.PyArray_DATA(key)
        a.value = cnp.PyArray_DATA(value)
        a.key_strides = _strides3(key)
        a.value_strides = _strides3(value)
        a.memory_rows = <const int64_t *>_data(rows)
        a.first = <const int64_t *>cnp.PyArray_DATA(first)
        a.last = <const int64_t *>cnp.PyArray_DATA(last)
        a.mask = <const uint8_t *>_data(mask)
        a.vector = _data(vector)
        a.history = _data(history)
        a.filters = _data(filters)
        a.feature_weights = _data(feature_weights)
        a.factor = _data(factor)
        if feature_weights is not None:
            a.C = cnp.PyArray_DIM(feature_weights, 0)
            a.K = 1 if filters is None else cnp.PyArray_DIM(filters, 1)

    def forward(self, cnp.ndarray context, cnp.ndarray weights, cnp.ndarray normalized, cnp.ndarray total):
        """context (B, T, Dv), weights (B, T, S), normalized: before the factor, or weights itself, total (B, T)."""
        cdef int status
        self.keep += (weights, normalized, total)
        self.a.context = cnp.PyArray_DATA(context)
        self.a.weights = cnp.PyArray_DATA(weights)
        self.a.normalized = cnp.PyArray_DATA(normalized)
        self.a.total = cnp.PyArray_DATA(total)
        with nogil:
            status = fa_steps_run(self.kernels, &self.a, 0, n_threads)
        if status:
            raise MemoryError("fastattn: no memory for the workspace of attention steps")

    def backward(self, cnp.ndarray d_context, d_weights, cnp.ndarray d_query, d_history, d_factor,
                 cnp.ndarray d_key, d_vector, d_feature_weights, d_filters):
        """After forward, whose arrays are still there: the last four are added to, each (B, ...)."""
        cdef fa_steps a = self.a
        cdef int status
        a.d_context = cnp.PyArray_DATA(d_context)
        a.d_weights = _data(d_weights)
        a.d_query = cnp.PyArray_DATA(d_query)
        a.d_history = _data(d_history)
        a.d_factor = _data(d_factor)
        a.d_key = cnp.PyArray_DATA(d_key)
        a.d_vector = _data(d_vector)
        a.d_feature_weights = _data(d_feature_weights)
        a.d_filters = _data(d_filters)
        with nogil:
            status = fa_steps_run(self.kernels, &a, 1, n_threads)
        if status:
            raise MemoryError("fastattn: no memory for the workspace of attention steps")
