# Attention: a call forward and backward, packed keys, one query's gradient.

def tiles():
    """Whether there is a matrix unit, which takes calls whose query, key, value and context are bits of bfloat16."""
    return level.f32.tiles != NULL


cdef inline bint estimated() noexcept:
    """Whether the precision in force takes estimates for reciprocals: "medium" where there is a matrix unit."""
    return level.f32.tiles != NULL and (fa_parts(True) or fa_parts(False)) == 1


cdef class Call:
    """One attention problem: the C description, and the arrays that its pointers point into.

    query, key and value of uint16 are bits of bfloat16, with a score of products and options that `tiles` take: context
    and the gradients of these are of that type then too, and all else is float32.
    """
    cdef fa_attention a
    cdef const fa_kernels *kernels
    cdef tuple keep
    cdef int kind, axes  # of query
    cdef int real  # the type of what is neither query, key, value nor context
    cdef bint sparse
    cdef int64_t entries  # of the memory

    def __cinit__(self, cnp.ndarray query, Keys keys not None, KernelScore score not None, double scale,
                  Options options not None, KernelNormalizer normalizer=None):
        cdef fa_attention *a = &self.a
        cdef fa_sizes q, k, v, p
        cdef int n, kind
        cdef int real
        self.kind = kind = stored(query, "query")
        self.real = real = cnp.NPY_FLOAT32 if kind == cnp.NPY_UINT16 else kind
        memset(a, 0, sizeof(fa_attention))
        a.query = tensor(query, "query", kind, 2, 4, &q)
        self.axes = n = cnp.PyArray_NDIM(query)
        self.keep = (query, keys, score, options, normalizer)
        self.kernels = _kernels(query)
        self.entries = keys.read(kind, 2, 4, q.B, q.D, &k, &v, &a.key_strides, &a.value_strides, True)
        a.kept = keys.kept
        a.B = q.B
        a.H = q.H
        a.Hk = k.H if n == 4 else 1
        a.Tq = q.T
        a.Tk = k.T
        a.D = q.D
        a.Dv = v.D
        same("key", "heads", k.H, a.Hk)
        same("value", "heads", v.H, a.Hk)
        same("query", "heads beyond a multiple of those of key", q.H % a.Hk if a.Hk else q.H, 0)
        a.key = _data(keys.key)
        a.value = _data(keys.value)
        a.query_strides = _strides3(query)
        a.score = score.kernel
        a.activation = score.activation
        a.score_vector = score.read(kind, q.D)
        a.estimates = kind == cnp.NPY_FLOAT32 and estimated()
        a.scale = scale
        a.softcap = score.softcap
        if score.kernel == FA_SCORE_PAIRWISE:
            same("score", "functions", score.functions is not None, 1)
            a.pairwise = score.functions.read("score", kind)
        if options.mask is not None:
            a.mask = <const uint8_t *>broadcasts(options.mask, "mask", cnp.NPY_BOOL, n, &q, a.Tk)
            a.mask_strides = _strides4(options.mask, n)
        if options.bias is not None:
            a.bias = broadcasts(options.bias, "bias", real, n, &q, a.Tk)
            a.bias_strides = _strides4(options.bias, n)
        a.key_lengths = <const int64_t *>maybe(options.key_lengths, "key_lengths", cnp.NPY_INT64, q.B)
        a.causal = options.causal
        a.left = options.left
        a.right = options.right
        a.seeds = <const uint64_t *>maybe(options.seeds, "seeds", cnp.NPY_UINT64, q.B)
        a.drop_below = options.drop_below
        a.keep_scale = options.keep_scale
        if options.modifier is not None:
            a.modifier = options.modifier.read("modifier", kind)
        if options.allow is not None:
            options.allow.read(kind, a)
        if keys.panels is not None:
            a.key_panels = tensor(keys.panels, "panels", kind, 3, 3, &p)  # (entries, Hk, elements)
            between("panels", "batch entries", p.B, self.entries, INT64_MAX)
            between("panels", "heads", p.T, a.Hk, INT64_MAX)
            between("panels", "elements", p.D, self.kernels.panel_elements(a.score, a.Tk, q.D), INT64_MAX)
            a.panels_batch = _axis_stride(keys.panels, 3)
            a.panels_head = _axis_stride(keys.panels, 2)
        a.memory_rows = <const int64_t *>_data(keys.rows)
        if keys.table is not None:
            a.position_rows = <const int64_t *>flat(keys.table, "table", cnp.NPY_INT64, fa_size_mul(a.Tk, q.B))
            same("table", "other arrays that say where keys are",
                 (keys.panels is not None) + (keys.rows is not None), 0)
        self.sparse = normalizer is not None
        if self.sparse:
            between("keys", "for sparse weights", a.Tk, 0, INT32_MAX)
            same("table", "arrays with sparse weights", keys.table is not None, 0)
            normalizer.read(q.H, kind, a)
        if a.kept != FA_KEPT_PLAIN:
            same("keys", "panels or sparse weights beside narrower types", (a.key_panels != NULL) + self.sparse, 0)
        if kind == cnp.NPY_UINT16:
            same("score", "kinds other than products on tiles", score.kernel != FA_SCORE_DOT or score.softcap != 0, 0)
            same("options", "functions or dropout on tiles",
                 (a.modifier != NULL) + (a.allow != NULL) + (a.seeds != NULL), 0)
            same("keys", "panels, tables or sparse weights on tiles",
                 (a.key_panels != NULL) + (a.position_rows != NULL) + self.sparse, 0)

    cdef inline int numbers(self) except -1:
        """Check the numbers that kernels index by, which may have changed since the call was made."""
        if self.a.key_lengths != NULL:
            inside("key_lengths", self.a.key_lengths, self.a.B, 0, self.a.Tk)
        if self.a.memory_rows != NULL:
            inside("rows", self.a.memory_rows, self.a.B, 0, self.entries - 1)
        if self.a.position_rows != NULL:
            inside("table", self.a.position_rows, self.a.B * self.a.Tk, 0, self.entries - 1)
        return 0

    cdef inline void *output(self, object array, str name, fa_strides3 *strides, int flags) except? NULL:
        """Check an array of context's sizes."""
        cdef fa_sizes s
        cdef void *p = tensor(array, name, self.kind, self.axes, self.axes, &s, flags)
        same(name, "batch entries", s.B, self.a.B)
        same(name, "heads", s.H, self.a.H)
        same(name, "queries", s.T, self.a.Tq)
        same(name, "features", s.D, self.a.Dv)
        strides[0] = _strides3(array)
        return p

    cdef inline void *rows(self, object array, str name, int64_t width, int flags) except? NULL:
        """Check an array of `width` numbers for each row of the call, or None."""
        return maybe(array, name, self.real, _times(self.a.B, self.a.H, self.a.Tq, width), flags)

    def forward(self, cnp.ndarray context, weights, lse, row_max, row_sum, exact=None):
        """Write the context, and whatever else is not None; exact, on tiles alone, is the context in float32."""
        cdef int status
        self.numbers()
        self.a.context = self.output(context, "context", &self.a.context_strides, FA_WRITE)
        self.a.weights = self.rows(weights, "weights", self.a.Tk, FA_WRITE)
        self.a.lse = self.rows(lse, "lse", 1, FA_WRITE)
        self.a.row_max = self.rows(row_max, "row_max", 1, FA_WRITE)
        self.a.row_sum = self.rows(row_sum, "row_sum", 1, FA_WRITE)
        same("exact", "arrays without tiles", exact is not None and self.kind != cnp.NPY_UINT16, 0)
        self.a.exact = self.rows(exact, "exact", self.a.Dv, FA_WRITE)
        with nogil:
            if self.kind == cnp.NPY_UINT16:
                status = fa_attention_on_tiles(self.kernels, &self.a, n_threads)
            else:
                status = fa_attention_forward(self.kernels, &self.a, n_threads)
        finished(status, "attention")

    def backward(self, cnp.ndarray context, weights, cnp.ndarray row_max, cnp.ndarray row_sum, cnp.ndarray d_context,
                 d_weights, d_lse, cnp.ndarray d_query, cnp.ndarray d_key, cnp.ndarray d_value, d_bias, d_vector,
                 d_parameters, value=None):
        """Write all gradients, and return whether they are finite; row_max, row_sum and context, on tiles that in
        float32, are those that forward wrote, and value, if it is not None, is read in place of the call's.
        d_parameters, float64, has the sums of functions from outside."""
        cdef fa_attention_grad g
        self._describe(&g, d_context, d_weights, d_query, d_key, d_value, d_bias, d_vector, d_parameters, value)
        same("normalizer", "objects", self.sparse, 0)
        if self.kind == cnp.NPY_UINT16:
            g.f.exact = flat(context, "context", self.real, _times(self.a.B, self.a.H, self.a.Tq, self.a.Dv))
        else:
            g.f.context = self.output(context, "context", &g.f.context_strides, FA_READ)
        g.f.weights = self.rows(weights, "weights", self.a.Tk, FA_READ)
        same("d_weights", "arrays without weights", d_weights is not None and weights is None, 0)
        g.f.row_max = flat(row_max, "row_max", self.real, _times(self.a.B, self.a.H, self.a.Tq))
        g.f.row_sum = flat(row_sum, "row_sum", self.real, _times(self.a.B, self.a.H, self.a.Tq))
        g.d_lse = self.rows(d_lse, "d_lse", 1, FA_READ)
        return self._back(&g)

    def sparse_backward(self, cnp.ndarray d_context, d_weights, cnp.ndarray d_query, cnp.ndarray d_key,
                        cnp.ndarray d_value, d_bias, d_vector, d_parameters, d_alpha, value=None):
        """The same for a call with a normalizer; d_alpha (B, H, Tq), float64, is what each row adds."""
        cdef fa_attention_grad g
        self._describe(&g, d_context, d_weights, d_query, d_key, d_value, d_bias, d_vector, d_parameters, value)
        same("normalizer", "objects", self.sparse, 1)
        cdef int64_t rows = _times(self.a.B, self.a.H, self.a.Tq)
        g.d_alpha = <double *>maybe(d_alpha, "d_alpha", cnp.NPY_FLOAT64, rows, FA_WRITE)
        return self._back(&g)

    cdef _back(self, fa_attention_grad *g):
        cdef int status
        with nogil:
            if self.kind == cnp.NPY_UINT16:
                status = fa_attention_backward_on_tiles(self.kernels, g, n_threads)
            else:
                status = fa_attention_backward(self.kernels, g, n_threads)
        finished(status == FA_NO_MEMORY, "attention's gradients")
        return status == FA_OK

    cdef int _describe(self, fa_attention_grad *g, cnp.ndarray d_context, d_weights, cnp.ndarray d_query,
                       cnp.ndarray d_key, cnp.ndarray d_value, d_bias, d_vector, d_parameters, value) except -1:
        cdef fa_sizes q, v
        cdef int kind
        cdef fa_attention *f = &g.f
        q.B, q.H, q.T = self.a.B, self.a.H, self.a.Tq
        same("bias", "gradients, or of weights, on tiles",
             self.kind == cnp.NPY_UINT16 and (d_bias is not None or d_weights is not None), 0)
        self.numbers()
        # The backward pass reads entry b of keys and values for entry b of the batch.
        same("rows", "arrays in the backward pass", self.a.memory_rows != NULL or self.a.position_rows != NULL, 0)
        same("keys", "narrower types in the backward pass", self.a.kept, FA_KEPT_PLAIN)
        memset(g, 0, sizeof(fa_attention_grad))
        g.f = self.a
        f.context = f.weights = f.lse = f.row_max = f.row_sum = NULL  # whose arrays may be gone
        if value is not None:
            f.value = tensor(value, "value", self.kind, 2, 4, &v)
            same("value", "batch entries", v.B, f.B)
            same("value", "heads", v.H, f.Hk)
            same("value", "features", v.D, f.Dv)
            between("value", "positions", v.T, f.Tk, INT64_MAX)
            f.value_strides = _strides3(value)
        g.d_context = self.output(d_context, "d_context", &g.d_context_strides, FA_READ)
        g.d_weights = self.rows(d_weights, "d_weights", f.Tk, FA_READ)
        g.d_query = flat(d_query, "d_query", self.kind, _times(f.B, f.H, f.Tq, f.D), FA_WRITE)
        g.d_key = flat(d_key, "d_key", self.kind, _times(f.B, f.Hk, f.Tk, f.D), FA_WRITE)
        g.d_value = flat(d_value, "d_value", self.kind, _times(f.B, f.Hk, f.Tk, f.Dv), FA_WRITE)
        if fa_facts(f.score).vector or d_vector is not None:
            g.d_score_vector = flat(d_vector, "d_vector", self.kind, f.D, FA_WRITE)
        if f.modifier != NULL:
            same("modifier", "functions without a gradient",
                 f.modifier.backward == NULL and f.modifier.sloped == NULL, 0)
        if f.pairwise != NULL:
            same("score", "functions without a gradient", f.pairwise.backward == NULL, 0)
        if f.row_function != NULL:
            same("normalizer", "functions without a gradient", f.row_function.backward == NULL, 0)
        if fa_sums(f):
            g.d_parameters = <double *>flat(d_parameters, "d_parameters", cnp.NPY_FLOAT64, fa_sums(f), FA_WRITE)
        if d_bias is not None:
            kind = floats(d_bias, "d_bias")
            if kind != cnp.NPY_FLOAT64:
                kind = self.kind
            g.d_bias = broadcasts(d_bias, "d_bias", kind, self.axes, &q, f.Tk, FA_WRITE)
            g.d_bias_wide = kind == cnp.NPY_FLOAT64
            g.d_bias_strides = _strides4(d_bias, self.axes)
        return 0


cdef KernelScore _dot = KernelScore(FA_SCORE_DOT)


def plain(cnp.ndarray query not None, cnp.ndarray key not None, cnp.ndarray value not None,
          Options options not None):
    """Context, maxima and sums of rows of scaled products of arrays as nearly all come; None of all others."""
    cdef int i, n = cnp.PyArray_NDIM(query), kind = cnp.PyArray_TYPE(query)
    cdef cnp.npy_intp sizes[4]
    cdef double width
    if (kind != cnp.NPY_FLOAT32 and kind != cnp.NPY_FLOAT64) or not 2 <= n <= 4:
        return None
    for one in (key, value):
        if cnp.PyArray_TYPE(<cnp.ndarray>one) != kind or cnp.PyArray_NDIM(<cnp.ndarray>one) != n:
            return None
    for i in range(n):
        sizes[i] = cnp.PyArray_DIM(query, i)
        if ((i != n - 2 and cnp.PyArray_DIM(key, i) != sizes[i])
                or (i != n - 1 and cnp.PyArray_DIM(value, i) != cnp.PyArray_DIM(key, i))):
            return None
    if not (_in_place(query, True) and _in_place(key, True) and _in_place(value, True)):
        return None
    width, sizes[n - 1] = sizes[n - 1], cnp.PyArray_DIM(value, n - 1)
    try:
        context = empty(tuple([sizes[i] for i in range(n)]), query.dtype)
    except ValueError:  # no array can be so large
        return None
    call = Call(query, Keys(key, value), _dot, 1 / sqrt(width) if width else 1.0, options)
    row_max, row_sum = cnp.PyArray_EMPTY(n - 1, sizes, kind, 0), cnp.PyArray_EMPTY(n - 1, sizes, kind, 0)
    call.forward(context, None, None, row_max, row_sum)
    return context, row_max, row_sum


def panel_width(dtype_like):
    """Keys in one packed panel for arrays of this dtype."""
    floats(dtype_like, "dtype_like")
    return _kernels(dtype_like).panel_width


def panel_elements(cnp.ndarray key, int score, int64_t tk):
    """Elements of the packed keys of one batch entry and head, for tk keys of key's width and dtype."""
    cdef fa_sizes k
    tensor(key, "key", floats(key, "key"), 2, 4, &k)
    between("score", None, score, 0, FA_SCORES - 1)
    between("key", "features", k.D, 0, FA_WIDEST)
    between("tk", None, tk, 0, FA_WIDEST)
    return _kernels(key).panel_elements(score, tk, k.D)


def pack_keys(cnp.ndarray key, KernelScore score not None, int64_t first, int64_t last, cnp.ndarray panels):
    """Pack keys first..last-1 (first a multiple of the panel width) of (B, Hk, T, D) into panels (B, Hk, elements)."""
    cdef int kind = floats(key, "key")
    cdef fa_sizes s, p
    cdef fa_packing a
    cdef const fa_kernels *k = _kernels(key)
    a.key = tensor(key, "key", kind, 4, 4, &s)
    a.panels = tensor(panels, "panels", kind, 3, 3, &p, FA_WRITE)
    a.score_vector = score.read(kind, s.D)
    between("last", None, last, 0, s.T)
    between("first", None, first, 0, last)
    same("first", "keys beyond a multiple of a panel", first % k.panel_width, 0)
    between("key", "features", s.D, 0, FA_WIDEST)
    between("panels", "batch entries", p.B, s.B, INT64_MAX)
    between("panels", "heads", p.T, s.H, INT64_MAX)
    between("panels", "elements", p.D, k.panel_elements(score.kernel, last, s.D), INT64_MAX)
    a.score = score.kernel
    a.activation = score.activation
    a.key_strides = _strides3(key)
    a.B = s.B
    a.Hk = s.H
    a.D = s.D
    a.first = first
    a.last = last
    a.panels_batch = _axis_stride(panels, 3)
    a.panels_head = _axis_stride(panels, 2)
    with nogil:
        fa_pack_keys(k, &a, n_threads)


def query_backward(cnp.ndarray query, Keys keys not None, KernelScore score not None, double scale,
                   cnp.ndarray weights, cnp.ndarray d_context, cnp.ndarray d_query, cnp.ndarray d_score,
                   d_weights=None):
    """d_query (B, D) and d_score (B, Tk), contiguous, of one query (B, D) for each sample of keys (B, Tk, D) and values
    (B, Tk, Dv), from the weights (B, Tk), contiguous, of its forward pass, d_context (B, Dv), and d_weights (B, Tk),
    contiguous, or None. Without softcap."""
    cdef fa_query_gradient g
    cdef fa_sizes q, k, v, d
    cdef int kind = floats(query, "query")
    g.query = tensor(query, "query", kind, 2, 2, &q)
    keys.read(kind, 3, 3, q.T, q.D, &k, &v, &g.key_strides, &g.value_strides)
    same("key", "samples", k.B, q.T)
    same("value", "samples", v.B, q.T)
    same("rows", "arrays in the backward pass", (keys.rows is not None) + (keys.table is not None), 0)
    g.d_context = tensor(d_context, "d_context", kind, 2, 2, &d)
    same("d_context", "samples", d.T, q.T)
    same("d_context", "features", d.D, v.D)
    g.weights = flat(weights, "weights", kind, fa_size_mul(q.T, k.T))
    g.d_query = flat(d_query, "d_query", kind, fa_size_mul(q.T, q.D), FA_WRITE)
    g.d_score = flat(d_score, "d_score", kind, fa_size_mul(q.T, k.T), FA_WRITE)
    g.d_weights = maybe(d_weights, "d_weights", kind, fa_size_mul(q.T, k.T))
    score.alone()
    g.score_vector = score.read(kind, q.D)
    cdef cnp.npy_intp item = cnp.PyArray_ITEMSIZE(query)
    cdef const fa_kernels *kernels = _kernels(query)
    g.B = q.T
    g.Tk = k.T
    g.D = q.D
    g.Dv = v.D
    g.score = score.kernel
    g.activation = score.activation
    g.scale = scale
    g.key = _data(keys.key)
    g.value = _data(keys.value)
    g.query_row = cnp.PyArray_STRIDE(query, 0) // item
    g.d_context_row = cnp.PyArray_STRIDE(d_context, 0) // item
    with nogil:
        fa_query_backward(kernels, &g, n_threads)
