# Attention: a call forward and backward, packed keys, one query's gradient.

cdef class Call:
    """One attention problem: the C description, and the arrays that its pointers point into."""
    cdef fa_attention a
    cdef const fa_kernels *kernels
    cdef tuple keep
    cdef bint is_double

    def __init__(self, cnp.ndarray query, cnp.ndarray key, cnp.ndarray value, int score, int activation, score_vector,
                 double scale, double softcap, mask, bias, key_lengths, int causal, int64_t left, int64_t right,
                 seeds, uint32_t drop_below, double keep_scale, key_panels, memory_rows, int64_t tk, alpha=None,
                 position_rows=None):
        cdef fa_attention *a = &self.a
        cdef int n = cnp.PyArray_NDIM(query)
        memset(a, 0, sizeof(fa_attention))
        self.keep = (query, key, value, score_vector, mask, bias, key_lengths, seeds, key_panels, memory_rows, alpha,
                     position_rows)
        self.kernels = _kernels(query)
        self.is_double = cnp.PyArray_TYPE(query) == cnp.NPY_FLOAT64
        a.B = cnp.PyArray_DIM(query, 0) if n > 2 else 1
        a.H = cnp.PyArray_DIM(query, 1) if n == 4 else 1
        a.Hk = cnp.PyArray_DIM(key, 1) if n == 4 else 1
        a.Tq = cnp.PyArray_DIM(query, n - 2)
        a.Tk = tk
        a.D = cnp.PyArray_DIM(query, n - 1)
        a.Dv = cnp.PyArray_DIM(value, cnp.PyArray_NDIM(value) - 1)
        a.query = _data(query)
        a.key = _data(key)
        a.value = _data(value)
        a.query_strides = _strides3(query)
        a.key_strides = _strides3(key)
        a.value_strides = _strides3(value)
        a.score = score
        a.activation = activation
        a.score_vector = _data(score_vector)
        a.scale = scale
        a.softcap = softcap
        if mask is not None:
            a.mask = <const uint8_t *>_data(mask)
            a.mask_strides = _strides4(mask, n)
        if bias is not None:
            a.bias = _data(bias)
            a.bias_strides = _strides4(bias, n)
        a.key_lengths = <const int64_t *>_data(key_lengths)
        a.causal = causal
        a.left = left
        a.right = right
        a.seeds = <const uint64_t *>_data(seeds)
        a.drop_below = drop_below
        a.keep_scale = keep_scale
        if key_panels is not None:
            a.key_panels = _data(key_panels)
            a.panels_batch = _axis_stride(key_panels, 3)
            a.panels_head = _axis_stride(key_panels, 2)
        a.memory_rows = <const int64_t *>_data(memory_rows)
        a.position_rows = <const int64_t *>_data(position_rows)
        if alpha is not None:  # contiguous float64, of all heads or of each
            a.alpha = <const double *>_data(alpha)
            a.alpha_stride = cnp.PyArray_NDIM(<cnp.ndarray>alpha)

    def use_rows(self, size_t weights, size_t gradient, owner):
        """Normalize rows by functions at these addresses, which `owner` keeps alive; the call has some alpha."""
        self.a.row_weights = <fa_row_weights>weights
        self.a.row_gradient = <fa_row_gradient>gradient
        self.keep = (self.keep, owner)

    def forward(self, cnp.ndarray context, weights, lse, row_max, row_sum):
        """Write the context, and whatever else is not None."""
        cdef int status
        self.a.context = cnp.PyArray_DATA(context)
        self.a.context_strides = _strides3(context)
        self.a.weights = _data(weights)
        self.a.lse = _data(lse)
        self.a.row_max = _data(row_max)
        self.a.row_sum = _data(row_sum)
        with nogil:
            if self.a.alpha != NULL:
                status = fa_sparse_forward(self.kernels, &self.a, n_threads)
            else:
                status = fa_forward(self.kernels, &self.a, self.is_double, n_threads)
        if status:
            raise MemoryError("fastattn: no memory for the workspace of attention")

    def backward(self, cnp.ndarray context, weights, cnp.ndarray row_max, cnp.ndarray row_sum, cnp.ndarray d_context,
                 d_weights, d_lse, cnp.ndarray delta, cnp.ndarray d_query, cnp.ndarray d_key, cnp.ndarray d_value,
                 d_bias, d_vector_parts, d_vector):
        """Write all gradients; context, row_max and row_sum are those that forward wrote."""
        cdef fa_attention_grad g
        cdef int status
        cdef void *p_context = cnp.PyArray_DATA(context)
        cdef void *p_lse = _data(d_lse)
        cdef void *p_delta = cnp.PyArray_DATA(delta)
        cdef void *p_vector = _data(d_vector)
        self._describe(&g, d_context, d_weights, d_query, d_key, d_value, d_bias, d_vector_parts)
        g.f.weights = _data(weights)
        g.f.row_max = cnp.PyArray_DATA(row_max)
        g.f.row_sum = cnp.PyArray_DATA(row_sum)
        if self.a.B == 0 or self.a.H == 0:
            return
        with nogil:
            status = fa_backward(self.kernels, &g, p_context, p_lse, p_delta, self.is_double, p_vector, n_threads)
        if status:
            raise MemoryError("fastattn: no memory for the workspace of attention's gradients")

    def sparse_backward(self, cnp.ndarray d_context, d_weights, cnp.ndarray d_query, cnp.ndarray d_key,
                        cnp.ndarray d_value, d_bias, d_vector_parts, d_vector, d_alpha):
        """Write all gradients of a call that has an alpha; d_alpha (B, H, Tq), float64, is what each row adds."""
        cdef fa_attention_grad g
        cdef int status
        cdef void *p_vector = _data(d_vector)
        self._describe(&g, d_context, d_weights, d_query, d_key, d_value, d_bias, d_vector_parts)
        g.d_alpha = <double *>_data(d_alpha)
        if self.a.B == 0 or self.a.H == 0:
            return
        with nogil:
            status = fa_sparse_backward(self.kernels, &g, self.is_double, p_vector, n_threads)
        if status:
            raise MemoryError("fastattn: no memory for the workspace of attention's gradients")

    cdef void _describe(self, fa_attention_grad *g, cnp.ndarray d_context, d_weights, cnp.ndarray d_query,
                        cnp.ndarray d_key, cnp.ndarray d_value, d_bias, d_vector_parts):
        memset(g, 0, sizeof(fa_attention_grad))
        g.f = self.a
        g.d_context = cnp.PyArray_DATA(d_context)
        g.d_context_strides = _strides3(d_context)
        g.d_weights = _data(d_weights)
        g.d_query = cnp.PyArray_DATA(d_query)
        g.d_key = cnp.PyArray_DATA(d_key)
        g.d_value = cnp.PyArray_DATA(d_value)
        g.d_score_vector = _data(d_vector_parts)
        g.heads_per_task = 1
        g.batches_per_task = 1
        if d_bias is not None:
            g.d_bias = _data(d_bias)
            g.d_bias_strides = _strides4(d_bias, cnp.PyArray_NDIM(d_context))
            if g.d_bias_strides.head == 0:
                g.heads_per_task = self.a.Hk
            if g.d_bias_strides.batch == 0:
                g.batches_per_task = self.a.B


def panel_width(dtype_like):
    """Keys in one packed panel for arrays of this dtype."""
    return _kernels(dtype_like).panel_width


def panel_elements(cnp.ndarray key, int score, int64_t tk):
    """Elements of the packed keys of one batch entry and head, for tk keys of key's width and dtype."""
    return _kernels(key).panel_elements(score, tk, cnp.PyArray_DIM(key, cnp.PyArray_NDIM(key) - 1))


def pack_keys(cnp.ndarray key, int score, int activation, score_vector, int64_t first, int64_t last,
              cnp.ndarray panels):
    """Pack keys first..last-1 (first a multiple of the panel width) of (B, Hk, T, D) into panels (B, Hk, elements)."""
    cdef int status
    cdef fa_strides3 strides = _strides3(key)
    cdef const fa_kernels *k = _kernels(key)
    cdef void *p_key = cnp.PyArray_DATA(key)
    cdef void *p_vector = _data(score_vector)
    cdef void *p_panels = cnp.PyArray_DATA(panels)
    cdef int64_t B = cnp.PyArray_DIM(key, 0), Hk = cnp.PyArray_DIM(key, 1), D = cnp.PyArray_DIM(key, 3)
    cdef int64_t batch = _axis_stride(panels, 3), head = _axis_stride(panels, 2)
    cdef int is_double = cnp.PyArray_TYPE(key) == cnp.NPY_FLOAT64
    with nogil:
        status = fa_pack_keys(k, score, activation, p_key, strides, p_vector, B, Hk, first, last, D, p_panels, batch,
                              head, is_double, n_threads)
    if status:
        raise MemoryError("fastattn: no memory for the workspace of prepare")


def query_gradient(int score, int activation, double scale, cnp.ndarray query, cnp.ndarray key, cnp.ndarray value,
                   score_vector, cnp.ndarray weights, cnp.ndarray d_context, cnp.ndarray d_query,
                   cnp.ndarray d_score, d_weights=None):
    """d_query (B, D) and d_score (B, Tk), contiguous, of one query (B, D) for each sample of key (B, Tk, D) and value
    (B, Tk, Dv), from the weights (B, Tk), contiguous, of its forward pass, d_context (B, Dv), and d_weights (B, Tk),
    contiguous, or None."""
    cdef fa_query_gradient g
    cdef cnp.npy_intp item = cnp.PyArray_ITEMSIZE(query)
    cdef const fa_kernels *k = _kernels(query)
    g.B = cnp.PyArray_DIM(key, 0)
    g.Tk = cnp.PyArray_DIM(key, 1)
    g.D = cnp.PyArray_DIM(key, 2)
    g.Dv = cnp.PyArray_DIM(value, 2)
    g.score = score
    g.activation = activation
    g.scale = scale
    g.query = cnp.PyArray_DATA(query)
    g.key = cnp.PyArray_DATA(key)
    g.value = cnp.PyArray_DATA(value)
    g.score_vector = _data(score_vector)
    g.weights = cnp.PyArray_DATA(weights)
    g.d_context = cnp.PyArray_DATA(d_context)
    g.query_row = cnp.PyArray_STRIDE(query, 0) // item
    g.d_context_row = cnp.PyArray_STRIDE(d_context, 0) // item
    g.key_strides = _strides3(key)
    g.value_strides = _strides3(value)
    g.d_query = cnp.PyArray_DATA(d_query)
    g.d_score = cnp.PyArray_DATA(d_score)
    g.d_weights = _data(d_weights)
    with nogil:
        fa_query_gradient_run(k, &g, n_threads)
