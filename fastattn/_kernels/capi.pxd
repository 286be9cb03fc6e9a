# The C interface of fastattn for plugins in Cython; fastattn.h describes each function.
#
#     from fastattn._kernels.capi cimport FASTATTN_TANH, fastattn_api, fastattn_import
#     cdef const fastattn_api *fa = fastattn_import()
#
# It declares what the header has, and imports nothing. Functions are only ever added at the end.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "Python.h":
    pass


cdef extern from "fastattn.h" nogil:
    int FASTATTN_ABI_MAJOR
    int FASTATTN_ABI_MINOR
    int FASTATTN_FLOAT32
    int FASTATTN_FLOAT64
    int FASTATTN_EXP
    int FASTATTN_TANH
    int FASTATTN_SIGMOID

    ctypedef void (*fastattn_task)(void *, int64_t) noexcept nogil

    ctypedef struct fastattn_api:
        uint32_t abi_major
        uint32_t abi_minor
        uint64_t struct_size
        const char *version
        int (*threads)() noexcept nogil
        void (*parallel)(int64_t, fastattn_task, void *) noexcept nogil
        void (*map)(int, int, const void *, void *, int64_t) noexcept nogil
        void (*softmax)(int, const void *, const uint8_t *, void *, int64_t, int64_t) noexcept nogil
        void (*softmax_vjp)(int, const void *, const void *, void *, int64_t, int64_t) noexcept nogil
        int64_t (*packed_bytes)(int, int64_t, int64_t) noexcept nogil
        int (*pack)(int, const void *, int64_t, int64_t, int64_t, int64_t, void *) noexcept nogil
        int (*matmul)(int, const void *, int64_t, const void *, void *, int64_t, int64_t, int64_t) noexcept nogil


cdef extern from "fastattn.h":
    const fastattn_api *fastattn_import() except NULL
