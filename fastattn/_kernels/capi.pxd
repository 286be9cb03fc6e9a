# The C interface of fastattn for plugins in Cython; fastattn.h describes each function.
#
#     from fastattn._kernels.capi cimport FASTATTN_TANH, fastattn_api, fastattn_import
#     cdef const fastattn_api *fa = fastattn_import()
#
# It declares what the header has, and imports nothing. Functions are only ever added at the end.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t


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
    int FASTATTN_OK, FASTATTN_NO_MEMORY, FASTATTN_NOT_FINITE, FASTATTN_INVALID
    int FASTATTN_AS_SET, FASTATTN_HIGHEST, FASTATTN_HIGH, FASTATTN_MEDIUM
    int FASTATTN_DOT, FASTATTN_ADDITIVE, FASTATTN_L1
    int FASTATTN_BY_TANH, FASTATTN_BY_SIGMOID, FASTATTN_BY_RELU
    int FASTATTN_NOT_CAUSAL, FASTATTN_TOP_LEFT, FASTATTN_BOTTOM_RIGHT

    ctypedef void (*fastattn_task)(void *, int64_t) noexcept nogil

    ctypedef struct fastattn_attention:
        uint64_t struct_size
        int32_t dtype, memory_dtype, precision, score, activation, causal, windowed, unused
        int64_t left, right
        int64_t B, H, Hk, Tq, Tk, D, Dv
        double scale, softcap
        const void *query
        const void *key
        const void *value
        int64_t query_strides[3]
        int64_t key_strides[3]
        int64_t value_strides[3]
        const void *score_vector
        const uint8_t *mask
        const void *bias
        int64_t mask_strides[4]
        int64_t bias_strides[4]
        const int64_t *key_lengths
        const uint64_t *seeds
        double dropout
        void *context
        int64_t context_strides[3]
        void *weights
        void *lse
        void *row_max
        void *row_sum

    ctypedef struct fastattn_attention_gradient:
        uint64_t struct_size
        const void *d_context
        int64_t d_context_strides[3]
        const void *d_weights
        const void *d_lse
        void *d_query
        void *d_key
        void *d_value
        void *d_score_vector
        void *d_bias
        int64_t d_bias_strides[4]
        int32_t d_bias_dtype, unused

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
        int (*attention_forward)(const fastattn_attention *) noexcept nogil
        int (*attention_backward)(const fastattn_attention *, const fastattn_attention_gradient *) noexcept nogil


cdef extern from "fastattn.h":
    const fastattn_api *fastattn_import() except NULL
