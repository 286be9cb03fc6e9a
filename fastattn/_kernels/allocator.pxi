# Memory of arrays that is kept and used again (csrc/run/allocator.c), as a handler of NumPy's.

cdef extern from "run/allocator.h" nogil:
    enum:
        FA_ALLOCATOR_SMALLEST
    void *fa_allocator_new(void *, size_t)
    void *fa_allocator_zeros(void *, size_t, size_t)
    void *fa_allocator_lasting(void *, size_t)
    void *fa_allocator_lasting_zeros(void *, size_t, size_t)
    void *fa_allocator_resized(void *, void *, size_t)
    void fa_allocator_free(void *, void *, size_t)
    size_t fa_allocator_kept()
    size_t fa_allocator_limit(size_t)

cdef extern from "numpy/arrayobject.h":  # not among the declarations of old NumPy
    ctypedef struct PyDataMem_Handler:
        pass
    object PyDataMem_SetHandler(object)

cdef extern from *:
    """
    static PyDataMem_Handler fa_allocator_handler = {
        "fastattn", 1, {NULL, fa_allocator_new, fa_allocator_zeros, fa_allocator_resized, fa_allocator_free}};
    """
    PyDataMem_Handler fa_allocator_handler

cdef extern from *:
    """
    static PyDataMem_Handler fa_lasting_handler = {
        "fastattn_lasting", 1,
        {NULL, fa_allocator_lasting, fa_allocator_lasting_zeros, fa_allocator_resized, fa_allocator_free}};
    """
    PyDataMem_Handler fa_lasting_handler

cdef object memory_handler = PyCapsule_New(&fa_allocator_handler, "mem_handler", NULL)
cdef object lasting_handler = PyCapsule_New(&fa_lasting_handler, "mem_handler", NULL)


@cython.auto_pickle(False)
cdef class KeptMemory:
    """A context in which all arrays of this thread, NumPy's results too, are made of memory that is kept."""
    cdef object before

    def __enter__(self):
        self.before = PyDataMem_SetHandler(memory_handler)

    def __exit__(self, *error):
        PyDataMem_SetHandler(self.before)


def empty(tuple shape, cnp.dtype dtype):
    """As ``numpy.empty``, a large array of kept memory whatever the context; a small one sooner."""
    cdef cnp.npy_intp sizes[4]
    cdef Py_ssize_t i, count = len(shape)
    cdef double bytes = dtype.itemsize
    if count <= 4 and dtype.byteorder in (b"=", b"|"):
        for i in range(count):
            sizes[i] = shape[i]
            bytes *= <double>sizes[i]
            if sizes[i] < 0:
                break
        else:
            if bytes < FA_ALLOCATOR_SMALLEST:
                return cnp.PyArray_EMPTY(<int>count, sizes, dtype.type_num, 0)
    before = PyDataMem_SetHandler(memory_handler)
    try:
        return np.empty(shape, dtype)
    finally:
        PyDataMem_SetHandler(before)


def lasting(shape, dtype):
    """As ``numpy.zeros``, for an array that lasts: beside others like it in large pages."""
    before = PyDataMem_SetHandler(lasting_handler)
    try:
        return np.zeros(shape, dtype)
    finally:
        PyDataMem_SetHandler(before)


def memory_kept():
    """Bytes that are kept and in no array."""
    return fa_allocator_kept()


def memory_limit(size_t size):
    """Set how many bytes are kept at most; return the limit before."""
    return fa_allocator_limit(size)
