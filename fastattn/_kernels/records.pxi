# What calls are made of: records that are made once where their parts are known, and read in C by every call.
#
# They are unchangeable, and hold numbers that were compared and arrays that were not: an array is checked by the calls
# that read it, each time, as it may have changed in between.

cdef extern from "kernels.h" nogil:
    const int FA_SCORE_ADDITIVE
    const fa_score_facts *fa_facts(int32_t)

SCORES = {fa_facts(i).name.decode(): i for i in range(FA_SCORES)}


@cython.final
@cython.freelist(8)
cdef class KernelScore:
    """A score that kernels compute, a number of SCORES, with an activation and its vector; softcap 0 is none."""
    cdef readonly int kernel, activation
    cdef readonly object vector
    cdef readonly double softcap

    def __cinit__(self, int kernel, int activation=0, vector=None, double softcap=0):
        between("score", None, kernel, 0, FA_SCORES - 1)
        between("activation", None, activation, 0, 2)
        self.kernel = kernel
        self.activation = activation
        self.vector = vector
        self.softcap = softcap

    cdef inline const void *read(self, int kind, int64_t width) except? NULL:
        """Where the vector is, of a score that has one."""
        return flat(self.vector, "vector", kind, width) if fa_facts(self.kernel).vector else NULL

    cdef int uncapped(self) except -1:
        return between("softcap", None, self.softcap != 0, 0, 0)


@cython.final
cdef class KernelNormalizer:
    """What makes weights of a row in place of softmax: alpha-entmax, with alpha (float64) of all heads or of each; or
    functions at addresses, which `owner` keeps alive."""
    cdef readonly cnp.ndarray alpha
    cdef readonly object owner
    cdef readonly size_t weights, gradient

    def __cinit__(self, cnp.ndarray alpha=None, size_t weights=0, size_t gradient=0, owner=None):
        same("weights", "functions without a gradient", weights != 0, gradient != 0)
        same("alpha", "ways to make weights beside functions", (alpha is not None) + (weights != 0), 1)
        self.alpha = alpha
        self.weights = weights
        self.gradient = gradient
        self.owner = owner

    cdef int read(self, int64_t heads, fa_attention *a) except -1:
        a.row_weights = <fa_row_weights>self.weights
        a.row_gradient = <fa_row_gradient>self.gradient
        if self.alpha is not None:
            a.alpha_stride = cnp.PyArray_NDIM(self.alpha)
            a.alpha = <const double *>flat(self.alpha, "alpha", cnp.NPY_FLOAT64, heads if a.alpha_stride else 1)
        return 0


@cython.final
@cython.freelist(8)
cdef class Options:
    """What pairs of a query and a key are scored at all, and what is added to and taken from their scores.

    mask and bias broadcast to (..., Tq, Tk); key_lengths (B,) int64, seeds (B,) uint64. causal: 0 none, 1 top left, 2
    bottom right; left and right of a window: -1 unbounded; drop_below is the probability of dropout times 2^32.
    """
    cdef readonly object mask, bias, key_lengths, seeds
    cdef readonly int causal
    cdef readonly int64_t left, right
    cdef readonly uint32_t drop_below
    cdef readonly double keep_scale

    def __cinit__(self, mask=None, bias=None, key_lengths=None, int causal=0, int64_t left=-1, int64_t right=-1,
                  seeds=None, uint32_t drop_below=0, double keep_scale=1):
        between("causal", None, causal, 0, 2)
        between("left", None, left, -1, FA_FARTHEST)
        between("right", None, right, -1, FA_FARTHEST)
        self.mask = mask
        self.bias = bias
        self.key_lengths = key_lengths
        self.causal = causal
        self.left = left
        self.right = right
        self.seeds = seeds
        self.drop_below = drop_below
        self.keep_scale = keep_scale

    def replace(self, bias, key_lengths):
        """The same with this bias and these lengths."""
        return Options(self.mask, bias, key_lengths, self.causal, self.left, self.right, self.seeds, self.drop_below,
                       self.keep_scale)

    @property
    def only_lengths(self):
        """Whether nothing but key lengths sets one query of a sample apart from another."""
        return (self.mask is None and self.bias is None and self.seeds is None and self.causal == 0
                and self.left < 0 and self.right < 0)


@cython.final
@cython.freelist(8)
cdef class Keys:
    """Keys (..., T, D) and values (..., T, Dv) of a memory, of any strides, of which the first `positions` are there.

    panels (entries, Hk, elements): the keys packed by `pack_keys`. rows (B,) int64: the entry of each batch entry;
    table (positions, B) int64: that of each position, without panels and rows.
    """
    cdef object key, value, panels, rows, table
    cdef int64_t positions

    def __cinit__(self, key, value, panels=None, rows=None, table=None, positions=None):
        self.key = key
        self.value = value
        self.panels = panels
        self.rows = rows
        self.table = table
        self.positions = -1 if positions is None else positions
        if positions is not None:
            between("positions", None, self.positions, 0, INT64_MAX)

    cdef int64_t read(self, int kind, int least, int most, int64_t batch, int64_t width, fa_sizes *k, fa_sizes *v,
                      fa_strides3 *key_strides, fa_strides3 *value_strides) except -1:
        """Check what all calls read, and fill sizes, k.T with that of positions, and strides; returns how many entries
        the memory has."""
        cdef int64_t entries, positions = self.positions
        tensor(self.key, "key", kind, least, most, k)
        tensor(self.value, "value", kind, least, most, v)
        between("query", "features", width, 0, FA_WIDEST)
        between("value", "features", v.D, 0, FA_WIDEST)
        same("key", "features", k.D, width)
        if positions < 0:
            positions = k.T
        between("key", "positions", k.T, positions, INT64_MAX)
        between("value", "positions", v.T, positions, INT64_MAX)
        k.T = positions
        entries = k.B if k.B < v.B else v.B
        if self.rows is not None:
            flat(self.rows, "rows", cnp.NPY_INT64, batch)
        elif self.table is None:
            between("key and value", "batch entries", entries, batch, INT64_MAX)
        key_strides[0] = _strides3(self.key)
        value_strides[0] = _strides3(self.value)
        return entries


@cython.final
@cython.freelist(8)
cdef class Features:
    """What earlier weights add to an additive score: history (B, T, S), weights (C, D), filters (C, K) or None."""
    cdef object history, weights, filters

    def __cinit__(self, history, weights, filters=None):
        self.history = history
        self.weights = weights
        self.filters = filters


@cython.final
@cython.freelist(8)
cdef class Chunks:
    """The second energies of monotonic attention, over chunks of `width` keys: queries (B, D), their keys and score."""
    cdef object query
    cdef Keys keys
    cdef KernelScore score
    cdef int64_t width

    def __cinit__(self, int64_t width, query, Keys keys not None, KernelScore score not None):
        between("width", None, width, 1, FA_WIDEST)
        self.width = width
        self.query = query
        self.keys = keys
        self.score = score


@cython.final
cdef class Sequences:
    """A batch of sequences for a recurrent layer: sizes, and for unequal lengths (lengths, starts, order), each (B,)
    int64, without which every sample has all `steps` positions."""
    cdef int64_t batch, steps
    cdef object lengths, starts, order

    def __cinit__(self, int64_t batch, int64_t steps, lengths=None, starts=None, order=None):
        between("batch", None, batch, 0, INT64_MAX)
        between("steps", None, steps, 0, INT64_MAX)
        self.batch = batch
        self.steps = steps
        self.lengths = lengths
        self.starts = starts
        self.order = order
