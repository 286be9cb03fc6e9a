# Monotonic and hard attention, step by step, with gradients.

cdef class Monotonic:
    """One step of monotonic attention for each of B samples, forward and back; csrc/decoder/monotonic.inl has formulas.

    query and chunk_query (B, D), vectors (D,), offset (1,), lengths and rows (B,) int64, mask (B, S) bool, seeds (B,)
    uint64, previous (B, S): contiguous, or None where there may be none; key and chunk_key (., S, D), value (., S, Dv):
    any strides; panels (., 1, elements) of `pack_keys`, which a soft step reads. start (B,) int64 makes the step hard.
    """
    cdef fa_monotonic a
    cdef const fa_kernels *kernels
    cdef tuple keep
    cdef int kind
    cdef int64_t entries  # of the memory

    def __cinit__(self, cnp.ndarray query, cnp.ndarray key, cnp.ndarray vector, cnp.ndarray offset, int64_t chunk,
                  chunk_query, chunk_key, chunk_vector, panels, chunk_panels, cnp.ndarray value, rows,
                  cnp.ndarray lengths, mask, seeds, int64_t step, double noise, previous, start):
        cdef fa_monotonic *a = &self.a
        cdef fa_sizes q, k, v, c, p
        cdef int kind
        self.kind = kind = floats(query, "query")
        tensor(query, "query", kind, 2, 2, &q, FA_READ | FA_FLAT)
        tensor(key, "key", kind, 3, 3, &k)
        tensor(value, "value", kind, 3, 3, &v)
        self.entries = k.B if k.B < v.B else v.B
        same("key", "features", k.D, q.D)
        between("query", "features", q.D, 0, FA_WIDEST)
        same("value", "positions", v.T, k.T)
        if rows is None:
            between("key and value", "samples", self.entries, q.T, INT64_MAX)
        else:
            flat(rows, "rows", cnp.NPY_INT64, q.T)
        flat(vector, "vector", kind, q.D)
        flat(offset, "offset", kind, 1)
        flat(lengths, "lengths", cnp.NPY_INT64, q.T)
        if mask is not None:
            flat(mask, "mask", cnp.NPY_BOOL, fa_times(q.T, k.T))
        if seeds is not None:
            flat(seeds, "seeds", cnp.NPY_UINT64, q.T)
        self.kernels = _kernels(query)
        if start is not None:
            flat(start, "start", cnp.NPY_INT64, q.T)
        else:
            flat(previous, "previous", kind, fa_times(q.T, k.T))
            tensor(panels, "panels", kind, 3, 3, &p, FA_READ | FA_FLAT)
            between("panels", "entries", p.B, self.entries, INT64_MAX)
            same("panels", "heads", p.T, 1)
            between("panels", "elements", p.D, self.kernels.panel_elements(1, k.T, q.D), INT64_MAX)
        memset(a, 0, sizeof(fa_monotonic))
        between("chunk", None, chunk, 0, FA_WIDEST)
        if chunk:
            flat(chunk_query, "chunk_query", kind, fa_times(q.T, q.D))
            flat(chunk_vector, "chunk_vector", kind, q.D)
            tensor(chunk_key, "chunk_key", kind, 3, 3, &c)
            between("chunk_key", "entries", c.B, self.entries, INT64_MAX)
            same("chunk_key", "positions", c.T, k.T)
            same("chunk_key", "features", c.D, q.D)
            if start is None:
                flat(chunk_panels, "chunk_panels", kind, fa_times(p.B, p.D))
            a.chunk = chunk
            a.chunk_query = _data(chunk_query)
            a.chunk_key = _data(chunk_key)
            a.chunk_vector = _data(chunk_vector)
            a.chunk_key_strides = _strides3(chunk_key)
            a.chunk_panels = _data(chunk_panels)
        self.keep = (query, key, vector, offset, chunk_query, chunk_key, chunk_vector, panels, chunk_panels, value,
                     rows, lengths, mask, seeds, previous, start)
        a.B = q.T
        a.D = q.D
        a.S = k.T
        a.Dv = v.D
        a.query = cnp.PyArray_DATA(query)
        a.key = cnp.PyArray_DATA(key)
        a.vector = cnp.PyArray_DATA(vector)
        a.offset = cnp.PyArray_DATA(offset)
        a.value = cnp.PyArray_DATA(value)
        a.key_strides = _strides3(key)
        a.value_strides = _strides3(value)
        if start is None:
            a.panels = _data(panels)
            a.panels_batch = p.D
        a.memory_rows = <const int64_t *>_data(rows)
        a.lengths = <const int64_t *>cnp.PyArray_DATA(lengths)
        a.mask = <const uint8_t *>_data(mask)
        a.seeds = <const uint64_t *>_data(seeds)
        a.step = step
        a.noise = noise
        a.previous = _data(previous)
        a.start = <const int64_t *>_data(start)
        a.hard = start is not None

    cdef int numbers(self) except -1:
        """Check the numbers that kernels index by, which may have changed since the call was made."""
        if self.a.memory_rows != NULL:
            inside("rows", self.a.memory_rows, self.a.B, 0, self.entries - 1)
        inside("lengths", self.a.lengths, self.a.B, 0, self.a.S)
        if self.a.start != NULL:
            inside("start", self.a.start, self.a.B, 0, self.a.S)
        return 0

    cdef int each(self, object array, str name, int64_t width, bint wanted, int flags) except -1:
        """Check an array of `width` numbers for each sample, or that it is None unless it is wanted."""
        if wanted or array is not None:
            flat(array, name, self.kind, fa_times(self.a.B, width), flags)
        return 0

    def forward(self, cnp.ndarray context, cnp.ndarray weights, alignment, energy, chunk_energy, found):
        """context (B, Dv) and weights (B, S); a soft step's energy, and with chunks alignment and chunk_energy, all
        (B, S) and kept for the way back; of a hard one found (B,) int64, the key that it stopped at."""
        cdef bint soft = not self.a.hard
        cdef int status
        self.numbers()
        self.each(context, "context", self.a.Dv, True, FA_WRITE)
        self.each(weights, "weights", self.a.S, True, FA_WRITE)
        self.each(alignment, "alignment", self.a.S, soft and self.a.chunk, FA_WRITE)
        self.each(energy, "energy", self.a.S, soft, FA_WRITE)
        self.each(chunk_energy, "chunk_energy", self.a.S, soft and self.a.chunk, FA_WRITE)
        if not soft:
            flat(found, "found", cnp.NPY_INT64, self.a.B, FA_WRITE)
        self.keep += (weights, alignment, energy, chunk_energy)
        self.a.context = cnp.PyArray_DATA(context)
        self.a.weights = cnp.PyArray_DATA(weights)
        self.a.alignment = _data(alignment)
        self.a.energy = _data(energy)
        self.a.chunk_energy = _data(chunk_energy)
        self.a.found = <int64_t *>_data(found)
        with nogil:
            status = fa_monotonic_run(self.kernels, &self.a, 0, n_threads)
        if status:
            raise MemoryError("fastattn: no memory for the workspace of monotonic attention")

    def backward(self, cnp.ndarray d_context, d_weights, d_alignment, cnp.ndarray d_query, d_chunk_query,
                 cnp.ndarray d_previous, cnp.ndarray d_key, cnp.ndarray d_vector, cnp.ndarray d_offset, d_chunk_key,
                 d_chunk_vector):
        """After a soft step forward, of a whole memory: the last five are added to, each (B, ...)."""
        cdef fa_monotonic a = self.a
        cdef bint chunk = a.chunk > 0
        cdef int status
        self.numbers()
        same("backward", "soft steps forward before it", a.energy != NULL and not a.hard, 1)
        same("rows", "arrays on the way back", a.memory_rows != NULL, 0)
        self.each(d_context, "d_context", a.Dv, True, FA_READ)
        self.each(d_weights, "d_weights", a.S, False, FA_READ)
        self.each(d_alignment, "d_alignment", a.S, False, FA_READ)
        self.each(d_query, "d_query", a.D, True, FA_WRITE)
        self.each(d_chunk_query, "d_chunk_query", a.D, chunk, FA_WRITE)
        self.each(d_previous, "d_previous", a.S, True, FA_WRITE)
        self.each(d_key, "d_key", fa_times(a.S, a.D), True, FA_WRITE)
        self.each(d_vector, "d_vector", a.D, True, FA_WRITE)
        self.each(d_offset, "d_offset", 1, True, FA_WRITE)
        self.each(d_chunk_key, "d_chunk_key", fa_times(a.S, a.D), chunk, FA_WRITE)
        self.each(d_chunk_vector, "d_chunk_vector", a.D, chunk, FA_WRITE)
        a.d_context = cnp.PyArray_DATA(d_context)
        a.d_weights = _data(d_weights)
        a.d_alignment = _data(d_alignment)
        a.d_query = cnp.PyArray_DATA(d_query)
        a.d_chunk_query = _data(d_chunk_query)
        a.d_previous = cnp.PyArray_DATA(d_previous)
        a.d_key = cnp.PyArray_DATA(d_key)
        a.d_vector = cnp.PyArray_DATA(d_vector)
        a.d_offset = cnp.PyArray_DATA(d_offset)
        a.d_chunk_key = _data(d_chunk_key)
        a.d_chunk_vector = _data(d_chunk_vector)
        with nogil:
            status = fa_monotonic_run(self.kernels, &a, 1, n_threads)
        if status:
            raise MemoryError("fastattn: no memory for the workspace of monotonic attention")


def logarithm(cnp.ndarray x, seeds, int64_t step, cnp.ndarray y):
    """y = log x for rows (B, S); with seeds (B,) uint64 plus standard Gumbel noise. Contiguous."""
    cdef int kind = floats(x, "x")
    cdef fa_sizes s
    tensor(x, "x", kind, 2, 2, &s, FA_READ | FA_FLAT)
    flat(y, "y", kind, fa_times(s.T, s.D), FA_WRITE)
    if seeds is not None:
        flat(seeds, "seeds", cnp.NPY_UINT64, s.T)
    cdef const fa_kernels *k = _kernels(x)
    cdef const uint64_t *p_seeds = <const uint64_t *>_data(seeds)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef void *p_y = cnp.PyArray_DATA(y)
    with nogil:
        fa_log(k, p_x, p_seeds, step, p_y, s.T, s.D)


def uniform(cnp.ndarray seeds, int64_t step, int64_t draw, cnp.ndarray u):
    """u (B,) float64, in (0, 1): a number of each seed, uint64."""
    cdef int64_t n = _elements(u) if cnp.PyArray_Check(u) else 0
    flat(u, "u", cnp.NPY_FLOAT64, n, FA_WRITE)
    flat(seeds, "seeds", cnp.NPY_UINT64, n)
    fa_uniform(<const uint64_t *>cnp.PyArray_DATA(seeds), step, draw, <double *>cnp.PyArray_DATA(u), n)
