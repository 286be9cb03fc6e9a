# What calls are made of: records that are made once where their parts are known, and read in C by every call.
#
# They are unchangeable, and hold numbers that were compared and arrays that were not: an array is checked by the calls
# that read it, each time, as it may have changed in between.

cdef extern from "kernels.h" nogil:
    const int FA_SCORE_ADDITIVE, FA_SCORE_DOT, FA_SCORE_PAIRWISE, FA_BLOCK
    int64_t fa_sums(const fa_attention *)
    const fa_score_facts *fa_facts(int32_t)

SCORES = {fa_facts(i).name.decode(): i for i in range(FA_SCORES)}
# Types of a memory's rows that `Call` reads as they are kept, by name.
KEPT = {"int8": FA_KEPT_INT8, "bfloat16": FA_KEPT_BFLOAT16, "float16": FA_KEPT_FLOAT16}


@cython.final
cdef class KernelFunctions:
    """Functions from outside at addresses, one in each direction, for scores of one type or, without dtype, of any.

    They are given what is at the address `parameters`, and for gradients pointers to sums, of which `sizes` says how
    many each parameter has. `owner` keeps all that has an address alive. A modifier whose parameters have no gradients
    may be `sloped` in place of backward.
    """
    cdef fa_compiled c
    cdef int kind
    cdef cnp.ndarray starts
    cdef readonly tuple sizes
    cdef readonly object owner

    def __cinit__(self, dtype, size_t forward, size_t backward, size_t parameters, sizes, owner, size_t sloped=0):
        self.kind = -1 if dtype is None else floats(np.empty(0, dtype), "dtype")
        between("forward", None, forward != 0, 1, 1)
        self.sizes = tuple(sizes)
        sizes = np.array(self.sizes, np.int64)
        self.starts = np.where(sizes > 0, np.cumsum(sizes) - sizes, -1)
        self.owner = owner
        self.c.forward = <void (*)() noexcept nogil>forward
        self.c.backward = <void (*)() noexcept nogil>backward
        self.c.sloped = <void (*)() noexcept nogil>sloped
        self.c.parameters = <const void *const *>parameters
        self.c.starts = <const int64_t *>cnp.PyArray_DATA(self.starts)
        self.c.count = cnp.PyArray_SIZE(self.starts)
        self.c.size = sizes.sum()
        between("sloped", "with gradients of parameters", sloped != 0 and self.c.size != 0, 0, 0)

    @property
    def size(self):
        """How many sums there are for gradients of parameters."""
        return self.c.size

    def split(self, sums):
        """The sums of each parameter, None of one without."""
        return [sums[start:start + size] if size else None for start, size in zip(self.starts, self.sizes)]

    cdef const fa_compiled *read(self, str name, int kind) except NULL:
        """The functions, for scores of this type."""
        same(name, "functions of another type", self.kind != -1 and self.kind != kind, 0)
        return &self.c


@cython.final
@cython.freelist(8)
cdef class KernelScore:
    """A score that kernels compute, a number of SCORES, with an activation and its vector, or functions from outside,
    which packing needs none of; softcap 0 is none."""
    cdef readonly int kernel, activation
    cdef readonly object vector
    cdef readonly double softcap
    cdef readonly KernelFunctions functions

    def __cinit__(self, int kernel, int activation=0, vector=None, double softcap=0, KernelFunctions functions=None):
        between("score", None, kernel, 0, FA_SCORES - 1)
        between("activation", None, activation, 0, 2)
        self.kernel = kernel
        self.activation = activation
        self.vector = vector
        self.softcap = softcap
        between("functions", "of another score", functions is not None, 0, kernel == FA_SCORE_PAIRWISE)
        self.functions = functions

    cdef inline const void *read(self, int kind, int64_t width) except? NULL:
        """Where the vector is, of a score that has one."""
        return flat(self.vector, "vector", kind, width) if fa_facts(self.kernel).vector else NULL

    cdef int alone(self) except -1:
        """It is one for kernels of one query, without softcap and not of functions from outside."""
        same("score", "functions in steps", self.kernel == FA_SCORE_PAIRWISE, 0)
        return between("softcap", None, self.softcap != 0, 0, 0)


@cython.final
cdef class KernelNormalizer:
    """What makes weights of a row in place of softmax: alpha-entmax, with alpha (float64) of all heads or of each;
    functions at addresses, which `owner` keeps alive; or `functions` of rows of one type, with so many buffers."""
    cdef readonly cnp.ndarray alpha
    cdef readonly object owner
    cdef readonly size_t weights, gradient
    cdef readonly KernelFunctions functions
    cdef readonly int64_t buffers

    def __cinit__(self, cnp.ndarray alpha=None, size_t weights=0, size_t gradient=0, owner=None,
                  KernelFunctions functions=None, int64_t buffers=0):
        same("weights", "functions without a gradient", weights != 0, gradient != 0)
        same("alpha", "ways to make weights beside functions",
             (alpha is not None) + (weights != 0) + (functions is not None), 1)
        between("buffers", None, buffers, 0, FA_WIDEST if functions is not None else 0)
        self.functions = functions
        self.buffers = buffers
        self.alpha = alpha
        self.weights = weights
        self.gradient = gradient
        self.owner = owner

    cdef int read(self, int64_t heads, int kind, fa_attention *a) except -1:
        if self.functions is not None:
            a.row_function = self.functions.read("normalizer", kind)
            a.row_buffers = self.buffers
        a.row_weights = <fa_row_weights>self.weights
        a.row_gradient = <fa_row_gradient>self.gradient
        if self.alpha is not None:
            a.alpha_stride = cnp.PyArray_NDIM(self.alpha)
            a.alpha = <const double *>flat(self.alpha, "alpha", cnp.NPY_FLOAT64, heads if a.alpha_stride else 1)
        return 0


@cython.final
cdef class KernelMask:
    """A mask function, and what it says of blocks of 64 queries and 64 keys: uint8 (B or 1, H or 1, rows, columns), 0
    that no pair of them counts, 1 that all do, 2 that the function says it of each."""
    cdef readonly KernelFunctions functions
    cdef cnp.ndarray blocks, spans

    def __cinit__(self, KernelFunctions functions not None, blocks):
        cdef cnp.ndarray states = np.array(blocks, np.uint8, order="C")  # of nobody else
        between("blocks", "axes", cnp.PyArray_NDIM(states), 4, 4)
        between("blocks", None, states.max(initial=0), 0, 2)
        self.functions = functions
        self.blocks = states
        columns = states.shape[3]
        some = states != 0
        reached = some.any(axis=3)
        first = some.argmax(axis=3) if columns else np.zeros(reached.shape)
        last = columns - np.flip(some, axis=3).argmax(axis=3) if columns else first
        self.spans = np.stack([first, np.where(reached, last, first)], axis=-1).astype(np.int64)

    cdef int read(self, int kind, fa_attention *a) except -1:
        cdef cnp.npy_intp *n = cnp.PyArray_DIMS(self.blocks)
        if n[0] != 1:
            same("blocks", "batch entries", n[0], a.B)
        if n[1] != 1:
            same("blocks", "heads", n[1], a.H)
        same("blocks", "rows", n[2], (a.Tq + FA_BLOCK - 1) // FA_BLOCK)
        same("blocks", "columns", n[3], (a.Tk + FA_BLOCK - 1) // FA_BLOCK)
        a.allow = self.functions.read("mask", kind)
        a.blocks = <const uint8_t *>cnp.PyArray_DATA(self.blocks)
        a.spans = <const int64_t *>cnp.PyArray_DATA(self.spans)
        a.blocks_columns = n[3]
        a.blocks_head = n[2] if n[1] != 1 else 0
        a.blocks_batch = n[2] * n[1] if n[0] != 1 else 0
        return 0


@cython.final
@cython.freelist(8)
cdef class Options:
    """What pairs of a query and a key are scored at all, and what is added to and taken from their scores.

    mask and bias broadcast to (..., Tq, Tk); key_lengths (B,) int64, seeds (B,) uint64. causal: 0 none, 1 top left, 2
    bottom right; left and right of a window: -1 unbounded; drop_below is the probability of dropout times 2^32.
    modifier and allow: functions from outside, on scores and as a mask.
    """
    cdef readonly object mask, bias, key_lengths, seeds
    cdef readonly KernelFunctions modifier
    cdef readonly KernelMask allow
    cdef readonly int causal
    cdef readonly int64_t left, right
    cdef readonly uint32_t drop_below
    cdef readonly double keep_scale

    def __cinit__(self, mask=None, bias=None, key_lengths=None, int causal=0, int64_t left=-1, int64_t right=-1,
                  seeds=None, uint32_t drop_below=0, double keep_scale=1, KernelFunctions modifier=None,
                  KernelMask allow=None):
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
        self.modifier = modifier
        self.allow = allow

    def replace(self, bias, key_lengths):
        """The same with this bias and these lengths."""
        return Options(self.mask, bias, key_lengths, self.causal, self.left, self.right, self.seeds, self.drop_below,
                       self.keep_scale, self.modifier, self.allow)

    @property
    def only_lengths(self):
        """Whether nothing but key lengths sets one query of a sample apart from another."""
        return (self.mask is None and self.bias is None and self.seeds is None and self.causal == 0
                and self.left < 0 and self.right < 0 and self.modifier is None and self.allow is None)


@cython.final
@cython.freelist(8)
cdef class Keys:
    """Keys (..., T, D) and values (..., T, Dv) of a memory, of any strides, of which the first `positions` are there.

    panels (entries, Hk, elements): the keys packed by `pack_keys`. rows (B,) int64: the entry of each batch entry;
    table (positions, B) int64: that of each position, without panels and rows. kept: a number of KEPT, of the type in
    which key and value are, uint16 for the bits of halves, int8 with four bytes more in each row; 0 for that of the
    query.
    """
    cdef object key, value, panels, rows, table
    cdef int64_t positions
    cdef int kept

    def __cinit__(self, key, value, panels=None, rows=None, table=None, positions=None, int kept=FA_KEPT_PLAIN):
        between("kept", None, kept, FA_KEPT_PLAIN, FA_KEPT_FLOAT16)
        self.kept = kept
        self.key = key
        self.value = value
        self.panels = panels
        self.rows = rows
        self.table = table
        self.positions = -1 if positions is None else positions
        if positions is not None:
            between("positions", None, self.positions, 0, INT64_MAX)

    cdef int64_t read(self, int kind, int least, int most, int64_t batch, int64_t width, fa_sizes *k, fa_sizes *v,
                      fa_strides3 *key_strides, fa_strides3 *value_strides, bint narrow=False) except -1:
        """Check what all calls read, and fill sizes, k.T with that of positions, and strides; returns how many entries
        the memory has. narrow: the call reads rows of narrower types."""
        cdef int64_t entries, positions = self.positions
        cdef int64_t more = FA_SCALE_BYTES if self.kept == FA_KEPT_INT8 else 0
        if self.kept != FA_KEPT_PLAIN:
            same("keys", "narrower types, for float32 alone", narrow and kind == cnp.NPY_FLOAT32, 1)
            kind = cnp.NPY_INT8 if self.kept == FA_KEPT_INT8 else cnp.NPY_UINT16
        tensor(self.key, "key", kind, least, most, k)
        tensor(self.value, "value", kind, least, most, v)
        k.D -= more
        v.D -= more
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
