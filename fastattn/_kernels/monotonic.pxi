# Monotonic and hard attention, step by step, with gradients.

cdef class Monotonic:
    """One step of monotonic attention for each of B samples, forward and back; csrc/steps/monotonic.h has formulas.

    query and chunk_query (B, D), vectors (D,), offset (1,), lengths and rows (B,) int64, mask (B, S) bool, seeds (B,)
    uint64, previous (B, S): contiguous, or None where there may be none; key and chunk_key (., S, D), value (., S, Dv):
    any strides; panels (., 1, elements) of `pack_keys`, which a soft step reads. start (B,) int64 makes the step hard.
    """
    cdef fa_monotonic a
    cdef const fa_kernels *kernels
    cdef tuple keep

    def __init__(self, cnp.ndarray query, cnp.ndarray key, cnp.ndarray vector, cnp.ndarray offset, int64_t chunk,
                 chunk_query, chunk_key, chunk_vector, panels, chunk_panels, cnp.ndarray value, rows,
                 cnp.ndarray lengths, mask, seeds, int64_t step, double noise, previous, start):
        cdef fa_monotonic *a = &self.a
        memset(a, 0, sizeof(fa_monotonic))
        self.keep = (query, key, vector, offset, chunk_query, chunk_key, chunk_vector, panels, chunk_panels, value,
                     rows, lengths, mask, seeds, previous, start)
        self.kernels = _kernels(query)
        a.B = cnp.PyArray_DIM(query, 0)
        a.D = cnp.PyArray_DIM(query, 1)
        a.S = cnp.PyArray_DIM(key, 1)
        a.Dv = cnp.PyArray_DIM(value, 2)
        a.query = cnp.PyArray_DATA(query)
        a.key = cnp.PyArray_DATA(key)
        a.vector = cnp.PyArray_DATA(vector)
        a.offset = cnp.PyArray_DATA(offset)
        a.value = cnp.PyArray_DATA(value)
        a.key_strides = _strides3(key)
        a.value_strides = _strides3(value)
        if chunk:
            a.chunk = chunk
            a.chunk_query = _data(chunk_query)
            a.chunk_key = _data(chunk_key)
            a.chunk_vector = _data(chunk_vector)
            a.chunk_key_strides = _strides3(chunk_key)
            a.chunk_panels = _data(chunk_panels)
        if panels is not None:
            a.panels = _data(panels)
            a.panels_batch = cnp.PyArray_DIM(panels, 2)
        a.memory_rows = <const int64_t *>_data(rows)
        a.lengths = <const int64_t *>cnp.PyArray_DATA(lengths)
        a.mask = <const uint8_t *>_data(mask)
        a.seeds = <const uint64_t *>_data(seeds)
        a.step = step
        a.noise = noise
        a.previous = _data(previous)
        a.start = <const int64_t *>_data(start)
        a.hard = start is not None

    def forward(self, cnp.ndarray context, cnp.ndarray weights, alignment, energy, chunk_energy, found):
        """context (B, Dv) and weights (B, S); a soft step's energy, and with chunks alignment and chunk_energy, all
        (B, S) and kept for the way back; of a hard one found (B,) int64, the key that it stopped at."""
        cdef int status
        self.keep += (alignment, energy, chunk_energy)
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
        cdef int status
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
    cdef const uint64_t *p_seeds = <const uint64_t *>_data(seeds)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef void *p_y = cnp.PyArray_DATA(y)
    cdef int64_t rows = cnp.PyArray_DIM(x, 0), columns = cnp.PyArray_DIM(x, 1)
    cdef int is_double = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64
    with nogil:
        fa_log(p_x, p_seeds, step, p_y, rows, columns, is_double)


def uniform(cnp.ndarray seeds, int64_t step, int64_t draw, cnp.ndarray u):
    """u (B,) float64, in (0, 1): a number of each seed, uint64."""
    fa_uniform(<const uint64_t *>cnp.PyArray_DATA(seeds), step, draw, <double *>cnp.PyArray_DATA(u),
               cnp.PyArray_DIM(seeds, 0))
