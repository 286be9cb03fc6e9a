# Monotonic and hard attention, step by step, with gradients.

cdef class Monotonic:
    """One step of monotonic attention for each of B samples, forward and back; csrc/decoder/monotonic.inl has formulas.

    query (B, D), offset (1,), lengths (B,) int64, mask (B, S) bool, previous (B, S), seeds (B,) uint64: contiguous, or
    None where there may be none. A soft step goes on from `previous` and reads the keys' panels, with seeds adds
    `noise`; a hard one goes on from `start` (B,) int64.
    """
    cdef fa_monotonic a
    cdef const fa_kernels *kernels
    cdef tuple keep
    cdef int kind
    cdef int64_t entries  # of the memory

    def __cinit__(self, cnp.ndarray query, Keys keys not None, KernelScore score not None, cnp.ndarray offset,
                  cnp.ndarray lengths, mask=None, Chunks chunks=None, previous=None, start=None, seeds=None,
                  int64_t step=0, double noise=0):
        cdef fa_monotonic *a = &self.a
        cdef fa_sizes q, k, v
        cdef fa_strides3 unread  # chunks have no values of their own
        cdef int kind
        self.kind = kind = floats(query, "query")
        memset(a, 0, sizeof(fa_monotonic))
        a.query = tensor(query, "query", kind, 2, 2, &q, FA_READ | FA_FLAT)
        self.kernels = _kernels(query)
        self.entries = keys.read(kind, 3, 3, q.T, q.D, &k, &v, &a.key_strides, &a.value_strides)
        a.B = q.T
        a.D = q.D
        a.S = k.T
        a.Dv = v.D
        a.offset = flat(offset, "offset", kind, 1)
        a.lengths = <const int64_t *>flat(lengths, "lengths", cnp.NPY_INT64, a.B)
        a.mask = <const uint8_t *>maybe(mask, "mask", cnp.NPY_BOOL, fa_size_mul(a.B, a.S))
        a.seeds = <const uint64_t *>maybe(seeds, "seeds", cnp.NPY_UINT64, a.B)
        a.start = <const int64_t *>maybe(start, "start", cnp.NPY_INT64, a.B)
        a.hard = start is not None
        if not a.hard:
            a.previous = flat(previous, "previous", kind, fa_size_mul(a.B, a.S))
        a.vector = self.energy(keys, score, &a.panels)
        if chunks is not None:
            a.chunk_query = flat(chunks.query, "chunk_query", kind, fa_size_mul(a.B, a.D))
            chunks.keys.read(kind, 3, 3, a.B, a.D, &k, &v, &a.chunk_key_strides, &unread)
            between("chunk_key", "entries", k.B if k.B < v.B else v.B, self.entries, INT64_MAX)
            same("chunk_key", "positions", k.T, a.S)
            a.chunk_vector = self.energy(chunks.keys, chunks.score, &a.chunk_panels)
            a.chunk = chunks.width
            a.chunk_key = _data(chunks.keys.key)
        self.keep = (query, keys, score, offset, lengths, mask, chunks, previous, start, seeds)
        a.key = _data(keys.key)
        a.value = _data(keys.value)
        a.memory_rows = <const int64_t *>_data(keys.rows)
        a.step = step
        a.noise = noise

    cdef const void *energy(self, Keys keys, KernelScore score, const void **panels) except? NULL:
        """Check what energies are made of: an additive score of tanh and, for a soft step, packed keys; the vector."""
        cdef fa_sizes p
        between("score", None, score.kernel, FA_SCORE_ADDITIVE, FA_SCORE_ADDITIVE)
        between("activation", None, score.activation, 0, 0)
        score.alone()
        same("table", "arrays with monotonic steps", keys.table is not None, 0)
        if not self.a.hard:
            panels[0] = tensor(keys.panels, "panels", self.kind, 3, 3, &p, FA_READ | FA_FLAT)
            between("panels", "entries", p.B, self.entries, INT64_MAX)
            same("panels", "heads", p.T, 1)
            between("panels", "elements", p.D, self.kernels.panel_elements(score.kernel, self.a.S, self.a.D), INT64_MAX)
            if self.a.panels_batch:
                same("panels", "elements", p.D, self.a.panels_batch)  # both energies' have one layout
            self.a.panels_batch = p.D
        return score.read(self.kind, self.a.D)

    cdef int numbers(self) except -1:
        """Check the numbers that kernels index by, which may have changed since the call was made."""
        if self.a.memory_rows != NULL:
            inside("rows", self.a.memory_rows, self.a.B, 0, self.entries - 1)
        inside("lengths", self.a.lengths, self.a.B, 0, self.a.S)
        if self.a.start != NULL:
            inside("start", self.a.start, self.a.B, 0, self.a.S)
        return 0

    cdef void *each(self, object array, str name, int64_t width, bint wanted, int flags) except? NULL:
        """Check an array of `width` numbers for each sample, or that it is None unless it is wanted."""
        if array is None and not wanted:
            return NULL
        return flat(array, name, self.kind, fa_size_mul(self.a.B, width), flags)

    def forward(self, cnp.ndarray context, cnp.ndarray weights, alignment, energy, chunk_energy, found):
        """context (B, Dv) and weights (B, S); a soft step's energy, and with chunks alignment and chunk_energy, all
        (B, S) and kept for the backward pass; of a hard one found (B,) int64, the key that it stopped at."""
        cdef fa_monotonic a = self.a
        cdef bint soft = not a.hard
        cdef int status
        self.numbers()
        a.context = self.each(context, "context", a.Dv, True, FA_WRITE)
        a.weights = self.each(weights, "weights", a.S, True, FA_WRITE)
        a.alignment = self.each(alignment, "alignment", a.S, soft and a.chunk, FA_WRITE)
        a.energy = self.each(energy, "energy", a.S, soft, FA_WRITE)
        a.chunk_energy = self.each(chunk_energy, "chunk_energy", a.S, soft and a.chunk, FA_WRITE)
        if not soft:
            a.found = <int64_t *>flat(found, "found", cnp.NPY_INT64, a.B, FA_WRITE)
        self.keep += (weights, alignment, energy, chunk_energy)
        self.a = a  # the backward pass reads these
        with nogil:
            status = fa_monotonic_forward(self.kernels, &self.a, n_threads)
        finished(status, "monotonic attention")

    def backward(self, cnp.ndarray d_context, d_weights, d_alignment, cnp.ndarray d_query, d_chunk_query,
                 cnp.ndarray d_previous, cnp.ndarray d_key, cnp.ndarray d_vector, cnp.ndarray d_offset, d_chunk_key,
                 d_chunk_vector):
        """After a soft step forward, of a whole memory: the last five are added to, each (B, ...)."""
        cdef fa_monotonic a = self.a
        cdef bint chunk = a.chunk > 0
        cdef int status
        self.numbers()
        same("backward", "soft steps forward before it", a.energy != NULL and not a.hard, 1)
        same("rows", "arrays in the backward pass", a.memory_rows != NULL, 0)
        a.d_context = self.each(d_context, "d_context", a.Dv, True, FA_READ)
        a.d_weights = self.each(d_weights, "d_weights", a.S, False, FA_READ)
        a.d_alignment = self.each(d_alignment, "d_alignment", a.S, False, FA_READ)
        a.d_query = self.each(d_query, "d_query", a.D, True, FA_WRITE)
        a.d_chunk_query = self.each(d_chunk_query, "d_chunk_query", a.D, chunk, FA_WRITE)
        a.d_previous = self.each(d_previous, "d_previous", a.S, True, FA_WRITE)
        a.d_key = self.each(d_key, "d_key", fa_size_mul(a.S, a.D), True, FA_WRITE)
        a.d_vector = self.each(d_vector, "d_vector", a.D, True, FA_WRITE)
        a.d_offset = self.each(d_offset, "d_offset", 1, True, FA_WRITE)
        a.d_chunk_key = self.each(d_chunk_key, "d_chunk_key", fa_size_mul(a.S, a.D), chunk, FA_WRITE)
        a.d_chunk_vector = self.each(d_chunk_vector, "d_chunk_vector", a.D, chunk, FA_WRITE)
        with nogil:
            status = fa_monotonic_backward(self.kernels, &a, n_threads)
        finished(status, "monotonic attention")


def logarithm(cnp.ndarray x, seeds, int64_t step, cnp.ndarray y):
    """y = log x for rows (B, S); with seeds (B,) uint64 plus standard Gumbel noise. Contiguous."""
    cdef int kind = floats(x, "x")
    cdef fa_sizes s
    cdef void *p_x = tensor(x, "x", kind, 2, 2, &s, FA_READ | FA_FLAT)
    cdef void *p_y = flat(y, "y", kind, fa_size_mul(s.T, s.D), FA_WRITE)
    cdef const uint64_t *p_seeds = <const uint64_t *>maybe(seeds, "seeds", cnp.NPY_UINT64, s.T)
    cdef const fa_kernels *k = _kernels(x)
    with nogil:
        k.logarithms(p_x, p_seeds, step, p_y, s.T, s.D)


def uniform(cnp.ndarray seeds, int64_t step, int64_t draw, cnp.ndarray u):
    """u (B,) float64, in (0, 1): a number of each seed, uint64."""
    cdef int64_t n = _elements(u) if cnp.PyArray_Check(u) else 0
    cdef double *p_u = <double *>flat(u, "u", cnp.NPY_FLOAT64, n, FA_WRITE)
    fa_uniform(<const uint64_t *>flat(seeds, "seeds", cnp.NPY_UINT64, n), step, draw, p_u, n)
