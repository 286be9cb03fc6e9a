# What the kernels trust, checked: nothing reaches one but through the functions of this file.
#
# They compare, and say where the data are: a kernel's pointer is what a check returned. A refusal, with its text, is
# made in `_refusal` and `_wrong`. The callers of this module check before, in the words of their own arguments: this is
# the last line, and it holds whatever they forget.
# What no binding can see is left to them: that outputs do not overlap inputs, and that floats make sense.
#
# Numbers of index arrays are compared at every call that reads them. As other threads may write while a kernel reads,
# callers keep copies that nobody else has.

cdef extern from *:
    """
    enum {
        FA_READ = NPY_ARRAY_ALIGNED,                        /* in native byte order, as all arrays */
        FA_WRITE = NPY_ARRAY_ALIGNED | NPY_ARRAY_WRITEABLE,
        FA_FLAT = NPY_ARRAY_C_CONTIGUOUS
    };
    #define FA_WIDEST ((int64_t)1 << 40)  /* of a row: a worker's workspace is a few hundred of them */
    #define FA_FARTHEST ((int64_t)1 << 61) /* side of a window: positions plus this fit 64 bits */
    """
    const int FA_READ, FA_WRITE, FA_FLAT
    const int64_t FA_WIDEST, FA_FARTHEST

cdef extern from "sizes.h" nogil:
    const int64_t FA_MOST  # beyond it, a size that no array has
    int64_t fa_size_mul(int64_t, int64_t) noexcept


cdef struct fa_sizes:
    int64_t B, H, T, D


cdef inline int64_t _times(int64_t a, int64_t b, int64_t c, int64_t d=1) noexcept:
    return fa_size_mul(fa_size_mul(fa_size_mul(a, b), c), d)


cdef inline bint _plain(object a, int kind, int flags) noexcept:
    """Whether `a` is an array of this type, in native byte order and with all of these flags."""
    return (cnp.PyArray_Check(a)
            and (cnp.PyArray_TYPE(<cnp.ndarray>a) == kind
                 or cnp.PyArray_EquivTypenums(cnp.PyArray_TYPE(<cnp.ndarray>a), kind))
            and cnp.PyArray_FLAGS(<cnp.ndarray>a) & flags == flags and cnp.PyArray_ISNOTSWAPPED(<cnp.ndarray>a))


cdef inline int floats(object a, str name) except -1:
    """The type of `a`, float32 or float64; what it is called with decides the type of a whole call."""
    if cnp.PyArray_Check(a):
        if cnp.PyArray_TYPE(<cnp.ndarray>a) == cnp.NPY_FLOAT32:
            return cnp.NPY_FLOAT32
        if cnp.PyArray_TYPE(<cnp.ndarray>a) == cnp.NPY_FLOAT64:
            return cnp.NPY_FLOAT64
    raise _refusal(a, name, cnp.NPY_FLOAT32, FA_READ)


cdef inline int stored(object a, str name) except -1:
    """The same, or uint16, the bits of bfloat16 numbers, at a level that multiplies them on a matrix unit."""
    if level.f32.tiles != NULL and cnp.PyArray_Check(a) and cnp.PyArray_TYPE(<cnp.ndarray>a) == cnp.NPY_UINT16:
        return cnp.NPY_UINT16
    return floats(a, name)


cdef inline void *flat(object a, str name, int kind, int64_t count, int flags=FA_READ) except? NULL:
    """`a` is contiguous and has `count` elements, whatever its axes."""
    if not _plain(a, kind, flags | FA_FLAT):
        raise _refusal(a, name, kind, flags | FA_FLAT)
    if cnp.PyArray_SIZE(<cnp.ndarray>a) != count:
        raise _wrong(name, "elements", cnp.PyArray_SIZE(<cnp.ndarray>a), count, count)
    return cnp.PyArray_DATA(<cnp.ndarray>a)


cdef inline void *maybe(object a, str name, int kind, int64_t count, int flags=FA_READ) except? NULL:
    """The same, or `a` is None."""
    return NULL if a is None else flat(a, name, kind, count, flags)


cdef void *tensor(object a, str name, int kind, int least, int most, fa_sizes *s, int flags=FA_READ) except? NULL:
    """`a` has `least` to `most` axes of (B, H, T, D), of which H is the first to be left away and B the second; its
    rows have unit stride, and what else is a step takes whole elements. Their sizes, 1 where there is none, go to s."""
    cdef int n, i
    cdef cnp.npy_intp item
    if not _plain(a, kind, flags):
        raise _refusal(a, name, kind, flags)
    n = cnp.PyArray_NDIM(<cnp.ndarray>a)
    between(name, "axes", n, least, most)
    if not cnp.PyArray_CHKFLAGS(<cnp.ndarray>a, FA_FLAT):
        item = cnp.PyArray_ITEMSIZE(<cnp.ndarray>a)
        if cnp.PyArray_DIM(<cnp.ndarray>a, n - 1) > 1 and cnp.PyArray_STRIDE(<cnp.ndarray>a, n - 1) != item:
            raise _refusal(a, name, kind, flags)
        for i in range(n - 1):
            if cnp.PyArray_STRIDE(<cnp.ndarray>a, i) % item:
                raise _refusal(a, name, kind, flags)
    s.D = cnp.PyArray_DIM(<cnp.ndarray>a, n - 1)
    s.T = cnp.PyArray_DIM(<cnp.ndarray>a, n - 2)
    s.H = cnp.PyArray_DIM(<cnp.ndarray>a, 1) if n == 4 else 1
    s.B = cnp.PyArray_DIM(<cnp.ndarray>a, 0) if n > 2 else 1
    return cnp.PyArray_DATA(<cnp.ndarray>a)


cdef void *broadcasts(object a, str name, int kind, int n, const fa_sizes *s, int64_t columns,
                      int flags=FA_READ) except? NULL:
    """`a` broadcasts to the first three sizes of s and `columns`, without H or B where n is below 4 or 3."""
    cdef int i, axes
    cdef int64_t full[4]
    if not _plain(a, kind, flags):
        raise _refusal(a, name, kind, flags)
    full[0], full[1], full[2], full[3] = columns, s.T, s.H if n == 4 else s.B, s.B
    axes = cnp.PyArray_NDIM(<cnp.ndarray>a)
    between(name, "axes", axes, 0, n)
    for i in range(axes):
        if cnp.PyArray_DIM(<cnp.ndarray>a, axes - 1 - i) != 1:
            same(name, "entries along an axis", cnp.PyArray_DIM(<cnp.ndarray>a, axes - 1 - i), full[i])
        if cnp.PyArray_STRIDE(<cnp.ndarray>a, axes - 1 - i) % cnp.PyArray_ITEMSIZE(<cnp.ndarray>a):
            raise _refusal(a, name, kind, flags)
    return cnp.PyArray_DATA(<cnp.ndarray>a)


cdef inline int inside(str name, const int64_t *p, int64_t count, int64_t low, int64_t high) except -1:
    """All of these integers are from low to high."""
    cdef int64_t i
    cdef bint outside = False
    for i in range(count):
        outside |= p[i] < low or p[i] > high
    if outside:
        for i in range(count):
            between(name, None, p[i], low, high)
    return 0


cdef inline const int64_t *within(object a, str name, int64_t count, int64_t low, int64_t high) except? NULL:
    """`a` is contiguous and has `count` integers, all of them from low to high."""
    cdef const int64_t *p = <const int64_t *>flat(a, name, cnp.NPY_INT64, count)
    inside(name, p, count, low, high)
    return p


cdef inline int between(str name, str what, int64_t got, int64_t low, int64_t high) except -1:
    """`got` is from low to high; it is how many of `what` there are, or, without that, a number."""
    if low <= got <= high:
        return 0
    raise _wrong(name, what, got, low, high)


cdef inline int same(str name, str what, int64_t got, int64_t wanted) except -1:
    return between(name, what, got, wanted, wanted)


cdef inline int finished(int status, str what) except -1:
    """The kernels had the memory that they needed."""
    if status:
        raise MemoryError(f"fastattn: no memory for the workspace of {what}")
    return 0


cdef _wrong(str name, str what, int64_t got, int64_t low, int64_t high):
    from fastattn.errors import ArgumentError, ShapeError, describe

    wanted = f"{low}" if low == high else f"{low} or more" if high == INT64_MAX else f"{low} to {high}"
    hint = "sizes and numbers must be those of the other arrays."
    if what is None:
        return ArgumentError(describe(name, f"numbers from {low} to {high}", got, hint))
    return ShapeError(describe(name, f"{wanted} {what}", got, hint))


cdef _refusal(object a, str name, int kind, int flags):
    """What is wrong with an array that is not plain, or whose elements are not where kernels look for them."""
    from fastattn.errors import ArgumentError, DTypeError, describe

    dtype = cnp.PyArray_DescrFromType(kind)
    hint = f"pass np.require({name}, np.{dtype}, ['C', 'W'])."
    if not cnp.PyArray_Check(a):
        return DTypeError(describe(name, f"{dtype} in an array", type(a).__name__, hint))
    if a.dtype != dtype:
        return DTypeError(describe(name, f"{dtype} in native byte order", a.dtype.str, hint))
    wanted = "contiguous" if flags & FA_FLAT else "of rows without gaps"
    if flags & cnp.NPY_ARRAY_WRITEABLE:
        wanted += ", that may be written"
    got = f"strides {a.strides}" + ("" if a.flags.writeable else ", read-only")
    return ArgumentError(describe(name, f"an aligned array, {wanted}", got, hint))
