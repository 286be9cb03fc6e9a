# The C library as Cython sees it: structures, kernels, entry points.

cdef extern from "kernels.h" nogil:
    enum:
        FA_OK, FA_NO_MEMORY

    ctypedef struct fa_strides3:
        int64_t batch, head, row

    ctypedef struct fa_strides4:
        int64_t batch, head, row, column

    ctypedef void (*fa_row_weights)(const double *, double *, int64_t) noexcept nogil
    ctypedef void (*fa_row_gradient)(const double *, const double *, const double *, double *, int64_t) noexcept nogil

    ctypedef struct fa_attention:
        int64_t B, H, Hk, Tq, Tk, D, Dv
        const void *query
        const void *key
        const void *value
        fa_strides3 query_strides, key_strides, value_strides
        int32_t score, activation, causal
        double scale, softcap
        const void *score_vector
        const uint8_t *mask
        fa_strides4 mask_strides
        const void *bias
        fa_strides4 bias_strides
        const int64_t *key_lengths
        int64_t left, right
        const uint64_t *seeds
        uint32_t drop_below
        double keep_scale
        const void *key_panels
        int64_t panels_batch, panels_head
        const int64_t *memory_rows
        const int64_t *position_rows
        void *context
        fa_strides3 context_strides
        void *weights
        void *lse
        void *row_max
        void *row_sum
        const double *alpha
        int64_t alpha_stride
        fa_row_weights row_weights
        fa_row_gradient row_gradient

    ctypedef struct fa_attention_grad:
        fa_attention f
        const void *d_context
        fa_strides3 d_context_strides
        const void *d_weights
        const void *d_lse
        void *d_query
        void *d_key
        void *d_value
        void *d_bias
        int32_t d_bias_wide
        fa_strides4 d_bias_strides
        void *d_score_vector
        double *d_alpha

    ctypedef struct fa_packing:
        int32_t score, activation
        const void *key
        const void *score_vector
        fa_strides3 key_strides
        int64_t B, Hk, D, first, last
        void *panels
        int64_t panels_batch, panels_head

    ctypedef struct fa_adam:
        void *value
        void *gradient
        void *m
        void *v
        double scale, beta1, beta2, size, spread, epsilon, keep

    ctypedef struct fa_layer_norm:
        int64_t rows, N
        const void *x
        const void *gain
        const void *offset
        const void *dy
        int64_t x_row, dy_row
        double epsilon
        void *y
        void *mean
        void *inverse
        void *dx
        void *d_gain
        void *d_offset

    ctypedef struct fa_steps:
        int64_t B, T, S, D, Dv, C, K
        int32_t score, sigmoid
        double scale
        const void *query
        const void *key
        const void *value
        const void *vector
        fa_strides3 key_strides, value_strides
        const int64_t *memory_rows
        const int64_t *first
        const int64_t *last
        const uint8_t *mask
        const void *history
        const void *filters
        const void *feature_weights
        const void *factor
        void *context
        void *weights
        void *normalized
        void *total
        const void *d_context
        const void *d_weights
        void *d_query
        void *d_history
        void *d_factor
        void *d_key
        void *d_vector
        void *d_feature_weights
        void *d_filters
        int64_t first_step, last_step

    ctypedef struct fa_monotonic:
        int64_t B, S, D, Dv, chunk
        int32_t hard
        const void *query
        const void *key
        const void *vector
        const void *offset
        const void *value
        const void *chunk_query
        const void *chunk_key
        const void *chunk_vector
        const void *panels
        const void *chunk_panels
        int64_t panels_batch
        fa_strides3 key_strides, chunk_key_strides, value_strides
        const int64_t *memory_rows
        const int64_t *lengths
        const uint8_t *mask
        const uint64_t *seeds
        int64_t step
        double noise
        const void *previous
        const int64_t *start
        int64_t *found
        void *context
        void *weights
        void *alignment
        void *energy
        void *chunk_energy
        const void *d_context
        const void *d_weights
        const void *d_alignment
        void *d_query
        void *d_chunk_query
        void *d_previous
        void *d_key
        void *d_vector
        void *d_offset
        void *d_chunk_key
        void *d_chunk_vector

    ctypedef struct fa_query_gradient:
        int64_t B, Tk, D, Dv
        int32_t score, activation
        double scale
        const void *query
        const void *key
        const void *value
        const void *score_vector
        const void *weights
        const void *d_context
        int64_t query_row, d_context_row
        fa_strides3 key_strides, value_strides
        void *d_query
        void *d_score
        const void *d_weights

    ctypedef struct fa_recurrent:
        int64_t B, T, H
        int32_t cell, reverse
        const int64_t *lengths
        const int64_t *starts
        const int64_t *order
        const void *w_hidden
        const void *w_hidden_transposed
        const void *b_input
        const void *b_hidden
        void *gates
        void *aux
        void *before
        void *y
        const void *dy
        const void *memory_first
        const void *inside

    ctypedef struct fa_kernels:
        int64_t panel_width, element_bytes
        int64_t (*panel_elements)(int32_t, int64_t, int64_t) noexcept nogil
        int64_t (*gemm_packed_elements)(int64_t, int64_t) noexcept nogil
        void (*map_elements)(int32_t, const void *, void *, int64_t) noexcept nogil
        void (*softmax_forward)(const void *, const uint8_t *, void *, int64_t, int64_t) noexcept nogil
        void (*softmax_backward)(const void *, const void *, void *, int64_t, int64_t) noexcept nogil
        void (*normalize_forward)(const void *, int64_t, void *, void *, int64_t, int64_t) noexcept nogil
        void (*normalize_backward)(const void *, const void *, const void *, void *, int64_t, int64_t) noexcept nogil

    ctypedef struct fa_level:
        const char *name
        const fa_kernels *f32
        const fa_kernels *f64

cdef extern from "run/run.h" nogil:
    int fa_levels()
    const fa_level *fa_level_at(int)
    int fa_level_supported(int)
    int fa_attention_forward(const fa_kernels *, const fa_attention *, int)
    int fa_attention_backward(const fa_kernels *, const fa_attention_grad *, int)
    void fa_pack_keys(const fa_kernels *, const fa_packing *, int)
    int fa_gemm_pack(const fa_kernels *, const void *, int64_t, int64_t, int64_t, int64_t, void *, int)
    int fa_gemm(const fa_kernels *, const void *, int64_t, const void *, void *, int64_t, int64_t, int64_t,
                const void *, int, int)
    int fa_gemm_tn(const fa_kernels *, const void *, int64_t, const void *, int64_t, void *, void *, int, int64_t,
                   int64_t, int64_t, int)

    void fa_cross_entropy(const fa_kernels *, void *, const void *, const int64_t *, double, int, double *, int64_t,
                          int64_t, int)
    void fa_log_softmax(const fa_kernels *, const void *, const void *, void *, int64_t, int64_t, int)
    void fa_adam_step(const fa_kernels *, const fa_adam *, int64_t, int)
    void fa_add_scaled(const fa_kernels *, const void *, double, void *, int64_t, int)
    int fa_square_sum(const fa_kernels *, const void *, int64_t, double *, int)
    void fa_relu_backward(const fa_kernels *, const void *, void *, int64_t, int)
    ctypedef struct fa_rotary:
        const void *x
        fa_strides3 x_strides
        const void *cosines
        const void *sines
        void *y
        int64_t B, H, T, D, n
        int32_t interleaved, inverse
    void fa_rotate(const fa_kernels *, const fa_rotary *, int)
    void fa_largest(const fa_kernels *, const void *, int64_t, int64_t, int64_t, void *, int64_t *, int)
    void fa_gather(const fa_kernels *, const void *, const int64_t *, void *, int64_t, int64_t, int)
    int fa_scatter(const fa_kernels *, const void *, int64_t, const int64_t *, int64_t, int64_t, void *, int64_t, int)
    void fa_layer_norm_forward(const fa_kernels *, const fa_layer_norm *, int)
    void fa_layer_norm_backward(const fa_kernels *, const fa_layer_norm *, int)
    void fa_dropout(const fa_kernels *, const void *, void *, const uint64_t *, uint32_t, double, int64_t, int64_t,
                    int)
    int fa_steps_forward(const fa_kernels *, const fa_steps *, int)
    int fa_steps_backward(const fa_kernels *, const fa_steps *, int)
    int fa_monotonic_forward(const fa_kernels *, const fa_monotonic *, int)
    int fa_monotonic_backward(const fa_kernels *, const fa_monotonic *, int)
    void fa_log(const fa_kernels *, const void *, const uint64_t *, int64_t, void *, int64_t, int64_t)
    void fa_uniform(const uint64_t *, int64_t, int64_t, double *, int64_t)
    void fa_query_backward(const fa_kernels *, const fa_query_gradient *, int)
    int fa_recurrent_forward(const fa_kernels *, fa_recurrent *, const void *, int64_t, const void *, int64_t, int64_t,
                             const void *, const void *, void *, void *, int)
    int fa_recurrent_backward(const fa_kernels *, fa_recurrent *, const void *, const void *, void *, void *, int)
    int fa_entmax_forward(const fa_kernels *, const void *, const uint8_t *, void *, double, int64_t, int64_t, int)
    int fa_entmax_backward(const fa_kernels *, const void *, const void *, void *, double *, double, int64_t, int64_t,
                           int)

cdef extern from "run/pool.h" nogil:
    int n_threads "fa_threads"  # atomic: set_num_threads of one thread, calls of the others
    void fa_fail_workspace(int64_t)
