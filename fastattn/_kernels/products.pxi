# Matrix products with packed weights, and gradients of weights.

cdef inline int64_t _packed(const fa_kernels *k, int64_t rows, int64_t columns) noexcept:
    """Elements of a packed (rows, columns) matrix; a size that no array has where they exceed 64 bits."""
    if fa_size_mul(rows, columns + k.panel_width) == FA_MOST:
        return FA_MOST
    return k.gemm_packed_elements(rows, columns)


def parts(bint of_thread):
    """By how many parts of a float32 number a matrix unit multiplies, 4: it does not; of a thread 0: as elsewhere."""
    return fa_parts(of_thread)


def set_parts(int parts, bint of_thread):
    """Set that: 1 to 4, of a thread 0 too."""
    between("parts", None, parts, 0 if of_thread else 1, 4)
    fa_set_parts(parts, of_thread)


def gemm_packed_elements(cnp.ndarray like, int64_t k, int64_t n):
    """Elements of a packed (k, n) matrix of this dtype."""
    floats(like, "like")
    between("k", None, k, 0, FA_WIDEST)
    between("n", None, n, 0, FA_WIDEST)
    return _packed(_kernels(like), k, n)


def gemm_pack(cnp.ndarray w, bint transposed, cnp.ndarray packed):
    """Pack w, or its transpose, of any strides."""
    cdef int kind = floats(w, "w")
    cdef fa_sizes s
    same("w", "axes", cnp.PyArray_NDIM(w), 2)
    s.B, s.H, s.T = 1, 1, cnp.PyArray_DIM(w, 0)
    cdef void *p_w = broadcasts(w, "w", kind, 2, &s, cnp.PyArray_DIM(w, 1))
    cdef int64_t rows = cnp.PyArray_DIM(w, 0), columns = cnp.PyArray_DIM(w, 1), item = cnp.PyArray_ITEMSIZE(w)
    cdef int64_t row = cnp.PyArray_STRIDE(w, 0) // item, column = cnp.PyArray_STRIDE(w, 1) // item
    cdef const fa_kernels *k = _kernels(w)
    cdef int64_t elements = _packed(k, columns, rows) if transposed else _packed(k, rows, columns)
    cdef void *p_packed = flat(packed, "packed", kind, elements, FA_WRITE)
    with nogil:
        if transposed:
            fa_gemm_pack(k, p_w, column, row, columns, rows, p_packed, n_threads)
        else:
            fa_gemm_pack(k, p_w, row, column, rows, columns, p_packed, n_threads)


def gemm_parts_bytes(cnp.ndarray like, int64_t k, int64_t n, int count=3):
    """Bytes of a packed (k, n) matrix of this dtype in so many parts, for a matrix unit; 0: there is none for it."""
    floats(like, "like")
    between("k", None, k, 0, FA_WIDEST)
    between("n", None, n, 0, FA_WIDEST)
    between("count", None, count, 1, 3)
    return fa_gemm_parts_bytes(_kernels(like), count, k, n)


cdef int _count(const fa_kernels *kernels, object parts, int64_t k, int64_t n) except -1:
    """Of how many parts an array of them is: its size says it."""
    cdef int64_t size = cnp.PyArray_SIZE(<cnp.ndarray>parts) if cnp.PyArray_Check(parts) else 0
    cdef int count = 3
    while count > 1 and size != fa_gemm_parts_bytes(kernels, count, k, n):
        count -= 1
    between("parts", "elements", fa_gemm_parts_bytes(kernels, count, k, n), 1, INT64_MAX)
    return count


def gemm_split(cnp.ndarray w, bint transposed, cnp.ndarray parts):
    """Write the parts of w, or its transpose, of any strides: as many as there is room for, see `gemm_parts_bytes`.

    Return whether all of its numbers are for the unit; if not, products need it packed as well.
    """
    cdef int kind = floats(w, "w"), side = 1 if transposed else 0, plain
    cdef fa_sizes s
    cdef fa_split call
    same("w", "axes", cnp.PyArray_NDIM(w), 2)
    s.B, s.H, s.T = 1, 1, cnp.PyArray_DIM(w, 0)
    memset(&call, 0, sizeof(fa_split))
    call.w = broadcasts(w, "w", kind, 2, &s, cnp.PyArray_DIM(w, 1))
    call.w_row = cnp.PyArray_STRIDE(w, side) // cnp.PyArray_ITEMSIZE(w)
    call.w_column = cnp.PyArray_STRIDE(w, 1 - side) // cnp.PyArray_ITEMSIZE(w)
    call.K, call.N = cnp.PyArray_DIM(w, side), cnp.PyArray_DIM(w, 1 - side)
    cdef const fa_kernels *kernels = _kernels(w)
    call.parts = _count(kernels, parts, call.K, call.N)
    call.split = <uint16_t *>flat(parts, "parts", cnp.NPY_UINT8,
                                  fa_gemm_parts_bytes(kernels, call.parts, call.K, call.N), FA_WRITE)
    with nogil:
        plain = fa_gemm_split(kernels, &call, n_threads)
    return plain == 0


def gemm(cnp.ndarray x, packed, cnp.ndarray y, bias=None, bint relu=False, parts=None):
    """y (M, N), contiguous, = x (M, K) times a packed (K, N), plus bias (N,), contiguous, then relu if wanted.

    parts: those of the matrix (`gemm_split`), which is multiplied on the matrix unit then, by products of as many;
    packed may be None then, if `gemm_split` said so. Return whether it is done: False if a row needs the packed matrix.
    """
    cdef int kind = floats(x, "x")
    cdef fa_sizes a, c
    cdef void *p_x = tensor(x, "x", kind, 2, 2, &a)
    cdef void *p_y = tensor(y, "y", kind, 2, 2, &c, FA_WRITE | FA_FLAT)
    same("y", "rows", c.T, a.T)
    cdef const fa_kernels *k = _kernels(x)
    cdef void *p_w = NULL
    if packed is not None or parts is None:
        p_w = flat(packed, "packed", kind, _packed(k, a.D, c.D))
    cdef void *p_bias = maybe(bias, "bias", kind, c.D)
    cdef int64_t x_row = cnp.PyArray_STRIDE(x, 0) // cnp.PyArray_ITEMSIZE(x)
    cdef void *p_parts = NULL
    cdef int count = 0
    if parts is not None:
        count = _count(k, parts, a.D, c.D)
        p_parts = flat(parts, "parts", cnp.NPY_UINT8, fa_gemm_parts_bytes(k, count, a.D, c.D))
    cdef int status
    with nogil:
        status = fa_gemm(k, p_x, x_row, p_w, p_y, a.T, a.D, c.D, p_bias, relu, p_parts, count, n_threads)
    finished(status == FA_NO_MEMORY, "a product")
    return status == FA_OK


def gemm_narrow(cnp.ndarray x, cnp.ndarray packed, cnp.ndarray y, scales=None, plain=None, bias=None, bint relu=False):
    """y (M, N), contiguous, = x (M, K) times a packed (K, N) of a narrow type, plus bias (N,), then relu if wanted.

    x and y are float32, or both uint16, the bits of bfloat16 numbers.
    Of int8 scales, of bfloat16 plain, a number for each column of whole panels of 64 (csrc/kernels.h).
    """
    cdef fa_narrow call
    cdef fa_sizes a, c
    memset(&call, 0, sizeof(fa_narrow))
    call.halves = cnp.PyArray_TYPE(x) == cnp.NPY_UINT16
    cdef int kind = cnp.NPY_UINT16 if call.halves else cnp.NPY_FLOAT32
    call.x = tensor(x, "x", kind, 2, 2, &a)
    call.y = tensor(y, "y", kind, 2, 2, &c, FA_WRITE | FA_FLAT)
    same("y", "rows", c.T, a.T)
    between("x", "columns", a.D, 0, FA_WIDEST if scales is None else 1 << 17)  # sums of int8 products fit 32 bits
    call.x_row = cnp.PyArray_STRIDE(x, 0) // cnp.PyArray_ITEMSIZE(x)
    call.rows, call.K, call.N = a.T, a.D, c.D
    call.relu = relu
    _multiply_narrow(&call, packed, scales, plain, bias)


cdef int _multiply_narrow(fa_narrow *call, packed, scales, plain, bias) except -1:
    """The product of what a call has of x and y."""
    call.type = FA_BFLOAT16 if scales is None else FA_INT8
    call.w = <const char *>flat(packed, "packed", cnp.NPY_UINT8, fa_narrow_bytes(call.type, call.K, call.N))
    cdef int64_t columns = fa_size_mul((call.N + 63) // 64, 64)
    if scales is None:
        call.plain = <const uint8_t *>flat(plain, "plain", cnp.NPY_UINT8, columns)
    else:
        call.scales = <const float *>flat(scales, "scales", cnp.NPY_FLOAT32, columns)
        if plain is not None:
            same("plain", "arrays", 1, 0)
    call.bias = maybe(bias, "bias", cnp.NPY_FLOAT32, call.N)
    cdef const fa_kernels *k = level.f32
    cdef int status
    with nogil:
        status = fa_gemm_narrow(k, call, n_threads)
    return finished(status, "a product")


cdef inline bint _as_nearly_all(object a) noexcept:
    """Whether it is a contiguous array of float32, and of NumPy's own class."""
    return cnp.PyArray_CheckExact(a) and cnp.PyArray_TYPE(<cnp.ndarray>a) == cnp.NPY_FLOAT32 \
        and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>a)


def narrow_product(x, tuple shape, cnp.ndarray packed, scales, plain, bias, relu):
    """A new array (..., N), x (..., K) times a packed matrix of this shape as `gemm_narrow` has it, of arguments as
    nearly all come; None of all others, which callers speak of."""
    cdef fa_narrow call
    cdef int64_t columns = shape[1]
    cdef int n
    if not _as_nearly_all(x) or (relu is not True and relu is not False):
        return None
    n = cnp.PyArray_NDIM(<cnp.ndarray>x)
    if n < 1 or cnp.PyArray_DIM(<cnp.ndarray>x, n - 1) != shape[0]:
        return None
    if bias is not None and (not _as_nearly_all(bias) or cnp.PyArray_NDIM(<cnp.ndarray>bias) != 1
                             or cnp.PyArray_DIM(<cnp.ndarray>bias, 0) != columns):
        return None
    if scales is not None and shape[0] > 1 << 17:
        return None
    y = empty((*x.shape[:n - 1], columns), x.dtype)
    memset(&call, 0, sizeof(fa_narrow))
    call.x, call.y = cnp.PyArray_DATA(<cnp.ndarray>x), cnp.PyArray_DATA(<cnp.ndarray>y)
    call.K, call.N, call.x_row = shape[0], columns, shape[0]
    call.rows = cnp.PyArray_SIZE(<cnp.ndarray>y) // columns if columns else 0
    call.relu = relu is True
    _multiply_narrow(&call, packed, scales, plain, bias)
    return y


def gemm_tn(cnp.ndarray x, cnp.ndarray dy, cnp.ndarray dw, db=None, bint accumulate=False, int parts=0):
    """dw (K, N), contiguous, = x (M, K) transposed times dy (M, N); db (N,), unless None, = the sum of dy's rows.

    accumulate: both are added to, each element continuing its chain. Rows of x whose dy is zero are not read.
    parts: of how many parts of a number products of dw are, 1 to 3, where there is a matrix unit for float32; 0: none.
    """
    cdef int kind = floats(x, "x")
    cdef fa_sizes a, d
    cdef void *p_x = tensor(x, "x", kind, 2, 2, &a)
    cdef void *p_dy = tensor(dy, "dy", kind, 2, 2, &d)
    same("dy", "rows", d.T, a.T)
    between("x", "columns", a.D, 0, FA_WIDEST)
    between("dy", "columns", d.D, 0, FA_WIDEST)
    between("parts", None, parts, 0, 3)
    cdef void *p_dw = flat(dw, "dw", kind, fa_size_mul(a.D, d.D), FA_WRITE)
    cdef void *p_db = maybe(db, "db", kind, d.D, FA_WRITE)
    cdef int64_t x_row = cnp.PyArray_STRIDE(x, 0) // cnp.PyArray_ITEMSIZE(x)
    cdef int64_t dy_row = cnp.PyArray_STRIDE(dy, 0) // cnp.PyArray_ITEMSIZE(dy)
    cdef const fa_kernels *k = _kernels(x)
    cdef int status
    with nogil:
        status = fa_gemm_tn(k, p_x, x_row, p_dy, dy_row, p_dw, p_db, accumulate, parts, a.T, a.D, d.D,
                            n_threads)
    finished(status, "weight_gradient")
