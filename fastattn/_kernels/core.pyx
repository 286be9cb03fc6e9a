"""Binding of the C kernels: arrays to pointers and strides, no GIL, one C call, status to exception.

Arguments have been checked by the callers (`fastattn.attention`, `linear`, `functional`). What every function here
relies on: float32 or float64 arrays in native byte order, all of one dtype; unit stride in the last axis (`unit`).
"""

import os

import numpy as np

cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

cnp.import_array()


cdef extern from "fastattn.h" nogil:
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
        void *d_query
        void *d_key
        void *d_value
        void *d_bias
        fa_strides4 d_bias_strides
        void *d_score_vector
        int64_t heads_per_task, batches_per_task
        double *d_alpha

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
        int64_t panel_width
        int64_t (*panel_elements)(int32_t, int64_t, int64_t) noexcept nogil
        int64_t (*gemm_packed_elements)(int64_t, int64_t) noexcept nogil
        void (*map)(int32_t, const void *, void *, int64_t) noexcept nogil
        void (*softmax)(const void *, const uint8_t *, void *, int64_t, int64_t) noexcept nogil
        void (*softmax_vjp)(const void *, const void *, void *, int64_t, int64_t) noexcept nogil
        void (*normalize)(const void *, int64_t, void *, void *, int64_t, int64_t) noexcept nogil
        void (*normalize_vjp)(const void *, const void *, const void *, void *, int64_t, int64_t) noexcept nogil

    ctypedef struct fa_level:
        const char *name
        const fa_kernels *f32
        const fa_kernels *f64

cdef extern from "dispatch/dispatch.h" nogil:
    int fa_levels()
    const fa_level *fa_level_at(int)
    int fa_level_supported(int)
    int fa_forward(const fa_kernels *, fa_attention *, int, int)
    int fa_backward(const fa_kernels *, fa_attention_grad *, const void *, const void *, void *, int, void *, int)
    int fa_pack_keys(const fa_kernels *, int32_t, int32_t, const void *, fa_strides3, const void *, int64_t, int64_t,
                     int64_t, int64_t, int64_t, void *, int64_t, int64_t, int, int)
    int fa_gemm_pack(const fa_kernels *, const void *, int64_t, int64_t, int64_t, int64_t, void *, int)
    int fa_gemm(const fa_kernels *, const void *, int64_t, const void *, void *, int64_t, int64_t, int64_t,
                const void *, int, int)
    int fa_gemm_tn(const fa_kernels *, const void *, int64_t, const void *, int64_t, void *, void *, int, int64_t,
                   int64_t, int64_t, int, int)

    void fa_cross_entropy(const fa_kernels *, void *, const void *, const int64_t *, double, int, double *, int64_t,
                          int64_t, int)
    void fa_log_softmax(const fa_kernels *, const void *, const void *, void *, int64_t, int64_t, int)
    void fa_adam_step(const fa_kernels *, const fa_adam *, int64_t, int)
    void fa_add_scaled(const fa_kernels *, const void *, double, void *, int64_t, int)
    int fa_square_sum(const fa_kernels *, const void *, int64_t, double *, int)
    void fa_relu_back(const fa_kernels *, const void *, void *, int64_t, int)
    void fa_largest(const fa_kernels *, const void *, int64_t, int64_t, int64_t, void *, int64_t *, int)
    void fa_gather(const fa_kernels *, const void *, const int64_t *, void *, int64_t, int64_t, int)
    void fa_scatter(const fa_kernels *, const void *, int64_t, const int64_t *, int64_t, int64_t, void *, int64_t, int)
    void fa_layer_norm_run(const fa_kernels *, const fa_layer_norm *, int, int)
    void fa_dropout(const fa_kernels *, const void *, void *, const uint64_t *, uint32_t, double, int64_t, int64_t, int,
                    int)
    int fa_steps_run(const fa_kernels *k, const fa_steps *a, int back, int n_threads)
    int fa_monotonic_run(const fa_kernels *k, const fa_monotonic *a, int back, int n_threads)
    void fa_log(const void *, const uint64_t *, int64_t, void *, int64_t, int64_t, int)
    void fa_uniform(const uint64_t *, int64_t, int64_t, double *, int64_t)
    void fa_query_gradient_run(const fa_kernels *, const fa_query_gradient *, int)
    int fa_recurrent_forward(const fa_kernels *, fa_recurrent *, const void *, int64_t, const void *, int64_t, int64_t,
                             const void *, const void *, void *, void *, int, int)
    int fa_recurrent_backward(const fa_kernels *, fa_recurrent *, const void *, const void *, void *, void *, int, int)
    int fa_sparse_forward(const fa_kernels *, fa_attention *, int)
    int fa_sparse_backward(const fa_kernels *, fa_attention_grad *, int, void *, int)
    int fa_entmax(const fa_kernels *, const void *, const uint8_t *, void *, double, int64_t, int64_t, int, int)
    int fa_entmax_vjp(const fa_kernels *, const void *, const void *, void *, double *, double, int64_t, int64_t, int,
                      int)

cdef extern from "threads/pool.h" nogil:
    void fa_fail_workspace(int64_t)


# ---- Level and threads ------------------------------------------------------------------------------------------

cdef const fa_level *level = NULL
cdef int n_threads = 1
cdef str level_reason = ""
cdef str threads_reason = ""


cdef _choose_level():
    global level, level_reason
    cdef int i, best = 0
    names = [fa_level_at(i).name.decode() for i in range(fa_levels())]
    for i in range(fa_levels()):
        if fa_level_supported(i):
            best = i
    level_reason = "highest level that this build has and this processor supports"
    wanted = os.environ.get("FASTATTN_ISA", "")
    if wanted:
        if wanted not in names:
            raise ImportError(f"FASTATTN_ISA: expected one of the levels of this build ({', '.join(names)}), got "
                              f"{wanted!r}.\nHint: unset FASTATTN_ISA to use {names[best]!r}.")
        if fa_level_supported(names.index(wanted)):
            best = names.index(wanted)
            level_reason = "FASTATTN_ISA"
        else:
            raise ImportError(f"FASTATTN_ISA: this processor does not support the level {wanted!r}.\n"
                              f"Hint: unset FASTATTN_ISA to use {names[best]!r}.")
    level = fa_level_at(best)


def _cgroup_cpus():
    """CPUs that the control group's quota amounts to (v2, then v1), or None without a quota."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        try:
            with open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") as file:
                quota = file.read().strip()
            with open("/sys/fs/cgroup/cpu/cpu.cfs_period_us") as file:
                period = file.read().strip()
        except OSError:
            return None
    try:
        cpus = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return max(1, round(cpus)) if cpus > 0 else None


cdef _choose_threads():
    global n_threads, threads_reason
    for name in ("FASTATTN_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "").split(",")[0].strip()
        if text.isdigit() and int(text) > 0:
            n_threads = min(int(text), 256)
            threads_reason = name
            return
        if text and name == "FASTATTN_NUM_THREADS":
            raise ImportError(f"{name}: expected a number of threads from 1 up, got {text!r}.\n"
                              "Hint: unset it, or set it to 1.")
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads_reason = "processors that this process may use"
    quota = _cgroup_cpus()
    if quota is not None and quota < cpus:
        cpus = quota
        threads_reason = "control group quota"
    n_threads = min(cpus, 256)


_choose_level()
_choose_threads()
if os.environ.get("FASTATTN_TEST_FAIL_ALLOC", "").isdigit():
    fa_fail_workspace(int(os.environ["FASTATTN_TEST_FAIL_ALLOC"]))


def get_num_threads():
    """The most threads that one call uses."""
    return n_threads


def set_num_threads(int n):
    """Set the most threads that one call uses (1 to 256)."""
    global n_threads, threads_reason
    n_threads = max(1, min(n, 256))
    threads_reason = "set_num_threads"


def build_info():
    """Levels built and supported, the level and the threads in use, with reasons."""
    names = [fa_level_at(i).name.decode() for i in range(fa_levels())]
    return {
        "level": level.name.decode(),
        "level_reason": level_reason,
        "levels_built": names,
        "levels_cpu": [names[i] for i in range(fa_levels()) if fa_level_supported(i)],
        "threads": n_threads,
        "threads_reason": threads_reason,
    }


# ---- Arrays -----------------------------------------------------------------------------------------------------

cdef inline const fa_kernels *_kernels(cnp.ndarray a) noexcept:
    return level.f64 if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT64 else level.f32


def unit(cnp.ndarray a, bint last_axis=True):
    """The array itself if the kernels can read it in place, else a contiguous copy: its data must be aligned, whole
    elements apart and in native byte order, and its last axis, if that matters, of unit stride."""
    cdef int i, n = cnp.PyArray_NDIM(a)
    cdef cnp.npy_intp item = cnp.PyArray_ITEMSIZE(a)
    if cnp.PyArray_ISBEHAVED_RO(a) and (not last_axis or n == 0 or cnp.PyArray_DIM(a, n - 1) <= 1
                                        or cnp.PyArray_STRIDE(a, n - 1) == item):
        for i in range(n):
            if cnp.PyArray_STRIDE(a, i) % item:
                break
        else:
            return a
    return a.astype(a.dtype.newbyteorder("="), order="C", copy=True)


def aligned_empty(shape, dtype):
    """An uninitialised array that starts on a 64-byte boundary, for data that kernels read many times."""
    cdef cnp.npy_intp offset
    size = int(np.prod(shape)) * dtype.itemsize
    space = np.empty(size + 64, np.uint8)
    offset = -<cnp.npy_intp>cnp.PyArray_DATA(space) % 64
    if offset < 0:
        offset += 64
    return space[offset:offset + size].view(dtype).reshape(shape)


cdef inline int64_t _axis_stride(cnp.ndarray a, int from_end) noexcept:
    """Elements from one entry to the next along an axis counted from the end; 0 if it is absent or of size 1."""
    cdef int axis = cnp.PyArray_NDIM(a) - from_end
    if axis < 0 or cnp.PyArray_DIM(a, axis) == 1:
        return 0
    return cnp.PyArray_STRIDE(a, axis) // cnp.PyArray_ITEMSIZE(a)


cdef inline fa_strides3 _strides3(cnp.ndarray a) noexcept:
    """Strides of (T, D), (B, T, D) or (B, H, T, D)."""
    cdef fa_strides3 s
    cdef int n = cnp.PyArray_NDIM(a)
    s.row = cnp.PyArray_STRIDE(a, n - 2) // cnp.PyArray_ITEMSIZE(a)
    s.head = _axis_stride(a, 3) if n == 4 else 0
    s.batch = _axis_stride(a, 4) if n == 4 else (_axis_stride(a, 3) if n == 3 else 0)
    return s


cdef inline fa_strides4 _strides4(cnp.ndarray a, int query_ndim) noexcept:
    """Strides of an array that broadcasts to (Tq, Tk), (B, Tq, Tk) or (B, H, Tq, Tk), by the rank of query."""
    cdef fa_strides4 s
    s.column = _axis_stride(a, 1)
    s.row = _axis_stride(a, 2)
    s.head = _axis_stride(a, 3) if query_ndim == 4 else 0
    s.batch = _axis_stride(a, 4) if query_ndim == 4 else (_axis_stride(a, 3) if query_ndim == 3 else 0)
    return s


cdef inline void *_data(object a) noexcept:
    return cnp.PyArray_DATA(<cnp.ndarray>a) if a is not None else NULL


# ---- Attention --------------------------------------------------------------------------------------------------

cdef class Call:
    """One attention problem: the C description, and the arrays that its pointers point into."""
    cdef fa_attention a
    cdef const fa_kernels *kernels
    cdef tuple keep
    cdef bint is_double

    def __init__(self, cnp.ndarray query, cnp.ndarray key, cnp.ndarray value, int score, int activation, score_vector,
                 double scale, double softcap, mask, bias, key_lengths, int causal, int64_t left, int64_t right,
                 seeds, uint32_t drop_below, double keep_scale, key_panels, memory_rows, int64_t tk, alpha=None,
                 position_rows=None):
        cdef fa_attention *a = &self.a
        cdef int n = cnp.PyArray_NDIM(query)
        memset(a, 0, sizeof(fa_attention))
        self.keep = (query, key, value, score_vector, mask, bias, key_lengths, seeds, key_panels, memory_rows, alpha,
                     position_rows)
        self.kernels = _kernels(query)
        self.is_double = cnp.PyArray_TYPE(query) == cnp.NPY_FLOAT64
        a.B = cnp.PyArray_DIM(query, 0) if n > 2 else 1
        a.H = cnp.PyArray_DIM(query, 1) if n == 4 else 1
        a.Hk = cnp.PyArray_DIM(key, 1) if n == 4 else 1
        a.Tq = cnp.PyArray_DIM(query, n - 2)
        a.Tk = tk
        a.D = cnp.PyArray_DIM(query, n - 1)
        a.Dv = cnp.PyArray_DIM(value, cnp.PyArray_NDIM(value) - 1)
        a.query = _data(query)
        a.key = _data(key)
        a.value = _data(value)
        a.query_strides = _strides3(query)
        a.key_strides = _strides3(key)
        a.value_strides = _strides3(value)
        a.score = score
        a.activation = activation
        a.score_vector = _data(score_vector)
        a.scale = scale
        a.softcap = softcap
        if mask is not None:
            a.mask = <const uint8_t *>_data(mask)
            a.mask_strides = _strides4(mask, n)
        if bias is not None:
            a.bias = _data(bias)
            a.bias_strides = _strides4(bias, n)
        a.key_lengths = <const int64_t *>_data(key_lengths)
        a.causal = causal
        a.left = left
        a.right = right
        a.seeds = <const uint64_t *>_data(seeds)
        a.drop_below = drop_below
        a.keep_scale = keep_scale
        if key_panels is not None:
            a.key_panels = _data(key_panels)
            a.panels_batch = _axis_stride(key_panels, 3)
            a.panels_head = _axis_stride(key_panels, 2)
        a.memory_rows = <const int64_t *>_data(memory_rows)
        a.position_rows = <const int64_t *>_data(position_rows)
        if alpha is not None:  # contiguous float64, of all heads or of each
            a.alpha = <const double *>_data(alpha)
            a.alpha_stride = cnp.PyArray_NDIM(<cnp.ndarray>alpha)

    def use_rows(self, size_t weights, size_t gradient, owner):
        """Normalize rows by functions at these addresses, which `owner` keeps alive; the call has some alpha."""
        self.a.row_weights = <fa_row_weights>weights
        self.a.row_gradient = <fa_row_gradient>gradient
        self.keep = (self.keep, owner)

    def forward(self, cnp.ndarray context, weights, lse, row_max, row_sum):
        """Write the context, and whatever else is not None."""
        cdef int status
        self.a.context = cnp.PyArray_DATA(context)
        self.a.context_strides = _strides3(context)
        self.a.weights = _data(weights)
        self.a.lse = _data(lse)
        self.a.row_max = _data(row_max)
        self.a.row_sum = _data(row_sum)
        with nogil:
            if self.a.alpha != NULL:
                status = fa_sparse_forward(self.kernels, &self.a, n_threads)
            else:
                status = fa_forward(self.kernels, &self.a, self.is_double, n_threads)
        if status:
            raise MemoryError("fastattn: no memory for the workspace of attention")

    def backward(self, cnp.ndarray context, weights, cnp.ndarray row_max, cnp.ndarray row_sum, cnp.ndarray d_context,
                 d_weights, d_lse, cnp.ndarray delta, cnp.ndarray d_query, cnp.ndarray d_key, cnp.ndarray d_value,
                 d_bias, d_vector_parts, d_vector):
        """Write all gradients; context, row_max and row_sum are those that forward wrote."""
        cdef fa_attention_grad g
        cdef int status
        cdef void *p_context = cnp.PyArray_DATA(context)
        cdef void *p_lse = _data(d_lse)
        cdef void *p_delta = cnp.PyArray_DATA(delta)
        cdef void *p_vector = _data(d_vector)
        self._describe(&g, d_context, d_weights, d_query, d_key, d_value, d_bias, d_vector_parts)
        g.f.weights = _data(weights)
        g.f.row_max = cnp.PyArray_DATA(row_max)
        g.f.row_sum = cnp.PyArray_DATA(row_sum)
        if self.a.B == 0 or self.a.H == 0:
            return
        with nogil:
            status = fa_backward(self.kernels, &g, p_context, p_lse, p_delta, self.is_double, p_vector, n_threads)
        if status:
            raise MemoryError("fastattn: no memory for the workspace of attention's gradients")

    def sparse_backward(self, cnp.ndarray d_context, d_weights, cnp.ndarray d_query, cnp.ndarray d_key,
                        cnp.ndarray d_value, d_bias, d_vector_parts, d_vector, d_alpha):
        """Write all gradients of a call that has an alpha; d_alpha (B, H, Tq), float64, is what each row adds."""
        cdef fa_attention_grad g
        cdef int status
        cdef void *p_vector = _data(d_vector)
        self._describe(&g, d_context, d_weights, d_query, d_key, d_value, d_bias, d_vector_parts)
        g.d_alpha = <double *>_data(d_alpha)
        if self.a.B == 0 or self.a.H == 0:
            return
        with nogil:
            status = fa_sparse_backward(self.kernels, &g, self.is_double, p_vector, n_threads)
        if status:
            raise MemoryError("fastattn: no memory for the workspace of attention's gradients")

    cdef void _describe(self, fa_attention_grad *g, cnp.ndarray d_context, d_weights, cnp.ndarray d_query,
                        cnp.ndarray d_key, cnp.ndarray d_value, d_bias, d_vector_parts):
        memset(g, 0, sizeof(fa_attention_grad))
        g.f = self.a
        g.d_context = cnp.PyArray_DATA(d_context)
        g.d_context_strides = _strides3(d_context)
        g.d_weights = _data(d_weights)
        g.d_query = cnp.PyArray_DATA(d_query)
        g.d_key = cnp.PyArray_DATA(d_key)
        g.d_value = cnp.PyArray_DATA(d_value)
        g.d_score_vector = _data(d_vector_parts)
        g.heads_per_task = 1
        g.batches_per_task = 1
        if d_bias is not None:
            g.d_bias = _data(d_bias)
            g.d_bias_strides = _strides4(d_bias, cnp.PyArray_NDIM(d_context))
            if g.d_bias_strides.head == 0:
                g.heads_per_task = self.a.Hk
            if g.d_bias_strides.batch == 0:
                g.batches_per_task = self.a.B


def panel_width(dtype_like):
    """Keys in one packed panel for arrays of this dtype."""
    return _kernels(dtype_like).panel_width


def panel_elements(cnp.ndarray key, int score, int64_t tk):
    """Elements of the packed keys of one batch entry and head, for tk keys of key's width and dtype."""
    return _kernels(key).panel_elements(score, tk, cnp.PyArray_DIM(key, cnp.PyArray_NDIM(key) - 1))


def pack_keys(cnp.ndarray key, int score, int activation, score_vector, int64_t first, int64_t last,
              cnp.ndarray panels):
    """Pack keys first..last-1 (first a multiple of the panel width) of (B, Hk, T, D) into panels (B, Hk, elements)."""
    cdef int status
    cdef fa_strides3 strides = _strides3(key)
    cdef const fa_kernels *k = _kernels(key)
    cdef void *p_key = cnp.PyArray_DATA(key)
    cdef void *p_vector = _data(score_vector)
    cdef void *p_panels = cnp.PyArray_DATA(panels)
    cdef int64_t B = cnp.PyArray_DIM(key, 0), Hk = cnp.PyArray_DIM(key, 1), D = cnp.PyArray_DIM(key, 3)
    cdef int64_t batch = _axis_stride(panels, 3), head = _axis_stride(panels, 2)
    cdef int is_double = cnp.PyArray_TYPE(key) == cnp.NPY_FLOAT64
    with nogil:
        status = fa_pack_keys(k, score, activation, p_key, strides, p_vector, B, Hk, first, last, D, p_panels, batch,
                              head, is_double, n_threads)
    if status:
        raise MemoryError("fastattn: no memory for the workspace of prepare")


# ---- Matrix products --------------------------------------------------------------------------------------------

def gemm_packed_elements(cnp.ndarray like, int64_t k, int64_t n):
    """Elements of a packed (k, n) matrix of this dtype."""
    return _kernels(like).gemm_packed_elements(k, n)


def gemm_pack(cnp.ndarray w, bint transposed, cnp.ndarray packed):
    """Pack w, or its transpose, of any strides."""
    cdef int64_t rows = cnp.PyArray_DIM(w, 0), columns = cnp.PyArray_DIM(w, 1), item = cnp.PyArray_ITEMSIZE(w)
    cdef int64_t row = cnp.PyArray_STRIDE(w, 0) // item, column = cnp.PyArray_STRIDE(w, 1) // item
    cdef const fa_kernels *k = _kernels(w)
    cdef void *p_w = cnp.PyArray_DATA(w)
    cdef void *p_packed = cnp.PyArray_DATA(packed)
    with nogil:
        if transposed:
            fa_gemm_pack(k, p_w, column, row, columns, rows, p_packed, n_threads)
        else:
            fa_gemm_pack(k, p_w, row, column, rows, columns, p_packed, n_threads)


def gemm(cnp.ndarray x, cnp.ndarray packed, cnp.ndarray y, bias=None, bint relu=False):
    """y (M, N), contiguous, = x (M, K) times a packed (K, N), plus bias (N,), contiguous, then relu if wanted."""
    cdef int64_t M = cnp.PyArray_DIM(x, 0), K = cnp.PyArray_DIM(x, 1), N = cnp.PyArray_DIM(y, 1)
    cdef int64_t x_row = cnp.PyArray_STRIDE(x, 0) // cnp.PyArray_ITEMSIZE(x)
    cdef const fa_kernels *k = _kernels(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef void *p_w = cnp.PyArray_DATA(packed)
    cdef void *p_y = cnp.PyArray_DATA(y)
    cdef const void *p_bias = _data(bias)
    with nogil:
        fa_gemm(k, p_x, x_row, p_w, p_y, M, K, N, p_bias, relu, n_threads)


def gemm_tn(cnp.ndarray x, cnp.ndarray dy, cnp.ndarray dw, db=None, bint accumulate=False):
    """dw (K, N), contiguous, = x (M, K) transposed times dy (M, N); db (N,), unless None, = the sum of dy's rows.

    accumulate: both are added to, each element continuing its chain. Rows of x whose dy is zero are not read.
    """
    cdef int64_t M = cnp.PyArray_DIM(x, 0), K = cnp.PyArray_DIM(x, 1), N = cnp.PyArray_DIM(dy, 1)
    cdef int64_t x_row = cnp.PyArray_STRIDE(x, 0) // cnp.PyArray_ITEMSIZE(x)
    cdef int64_t dy_row = cnp.PyArray_STRIDE(dy, 0) // cnp.PyArray_ITEMSIZE(dy)
    cdef const fa_kernels *k = _kernels(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef void *p_dy = cnp.PyArray_DATA(dy)
    cdef void *p_dw = cnp.PyArray_DATA(dw)
    cdef void *p_db = _data(db)
    cdef int is_double = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64
    cdef int status
    with nogil:
        status = fa_gemm_tn(k, p_x, x_row, p_dy, dy_row, p_dw, p_db, accumulate, M, K, N, is_double, n_threads)
    if status:
        raise MemoryError("fastattn: no memory for the workspace of weight_gradient")


# ---- Rows and elements, on contiguous arrays --------------------------------------------------------------------

def map_array(int function, cnp.ndarray x, cnp.ndarray y):
    """y = exp, tanh or sigmoid (0, 1, 2) of x."""
    cdef int64_t n = cnp.PyArray_SIZE(x)
    cdef const fa_kernels *k = _kernels(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef void *p_y = cnp.PyArray_DATA(y)
    with nogil:
        k.map(function, p_x, p_y, n)


def softmax(cnp.ndarray x, mask, cnp.ndarray y, int64_t rows, int64_t columns):
    """Softmax of rows; mask is a bool array of x's shape, or None."""
    cdef const fa_kernels *k = _kernels(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef const uint8_t *p_mask = <const uint8_t *>_data(mask)
    cdef void *p_y = cnp.PyArray_DATA(y)
    with nogil:
        k.softmax(p_x, p_mask, p_y, rows, columns)


def softmax_vjp(cnp.ndarray y, cnp.ndarray dy, cnp.ndarray dx, int64_t rows, int64_t columns):
    """dx from y = softmax(x) and dy."""
    cdef const fa_kernels *k = _kernels(y)
    cdef void *p_y = cnp.PyArray_DATA(y)
    cdef void *p_dy = cnp.PyArray_DATA(dy)
    cdef void *p_dx = cnp.PyArray_DATA(dx)
    with nogil:
        k.softmax_vjp(p_y, p_dy, p_dx, rows, columns)


def normalize(cnp.ndarray x, cnp.ndarray y, cnp.ndarray inverse_norm, int64_t rows, int64_t columns):
    """y = rows of x scaled to unit length, inverse_norm = 1 / length; zero rows give zeros."""
    cdef const fa_kernels *k = _kernels(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef void *p_y = cnp.PyArray_DATA(y)
    cdef void *p_n = cnp.PyArray_DATA(inverse_norm)
    with nogil:
        k.normalize(p_x, columns, p_y, p_n, rows, columns)


def normalize_vjp(cnp.ndarray y, cnp.ndarray inverse_norm, cnp.ndarray dy, cnp.ndarray dx, int64_t rows,
                  int64_t columns):
    """dx from the results of normalize and dy."""
    cdef const fa_kernels *k = _kernels(y)
    cdef void *p_y = cnp.PyArray_DATA(y)
    cdef void *p_n = cnp.PyArray_DATA(inverse_norm)
    cdef void *p_dy = cnp.PyArray_DATA(dy)
    cdef void *p_dx = cnp.PyArray_DATA(dx)
    with nogil:
        k.normalize_vjp(p_y, p_n, p_dy, p_dx, rows, columns)


def mix64(x):
    """The 64-bit mixing function of the dropout hash, on a Python integer."""
    cdef uint64_t u = <uint64_t>(int(x) & 0xFFFFFFFFFFFFFFFF)
    u += <uint64_t>0x9E3779B97F4A7C15
    u = (u ^ (u >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    u = (u ^ (u >> 27)) * <uint64_t>0x94D049BB133111EB
    return u ^ (u >> 31)


# ---- Training ---------------------------------------------------------------------------------------------------

def cross_entropy(cnp.ndarray logits, bias, cnp.ndarray targets, double smoothing, bint gradient, cnp.ndarray losses):
    """losses (M,) float64 of logits (M, V) plus bias against int64 targets; with gradient, logits become theirs, and
    otherwise nothing that is worth reading."""
    cdef const fa_kernels *k = _kernels(logits)
    cdef int64_t rows = cnp.PyArray_DIM(logits, 0), v = cnp.PyArray_DIM(logits, 1)
    cdef void *p_logits = cnp.PyArray_DATA(logits)
    cdef void *p_bias = _data(bias)
    cdef const int64_t *p_targets = <const int64_t *>cnp.PyArray_DATA(targets)
    cdef double *p_losses = <double *>cnp.PyArray_DATA(losses)
    with nogil:
        fa_cross_entropy(k, p_logits, p_bias, p_targets, smoothing, gradient, p_losses, rows, v, n_threads)


def log_softmax(cnp.ndarray x, bias, cnp.ndarray y, int64_t rows, int64_t columns):
    """y = log-softmax of rows of x plus bias (or None); y may be x."""
    cdef const fa_kernels *k = _kernels(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef void *p_bias = _data(bias)
    cdef void *p_y = cnp.PyArray_DATA(y)
    with nogil:
        fa_log_softmax(k, p_x, p_bias, p_y, rows, columns, n_threads)


def adam(cnp.ndarray value, cnp.ndarray gradient, cnp.ndarray m, cnp.ndarray v, double scale, double beta1,
         double beta2, double size, double spread, double epsilon, double keep):
    """One step in place, gradient set to zero; the numbers are those of csrc/optim/adam.c."""
    cdef const fa_kernels *k = _kernels(value)
    cdef fa_adam a
    cdef int64_t n = cnp.PyArray_SIZE(value)
    a.value = cnp.PyArray_DATA(value)
    a.gradient = cnp.PyArray_DATA(gradient)
    a.m = cnp.PyArray_DATA(m)
    a.v = cnp.PyArray_DATA(v)
    a.scale = scale
    a.beta1 = beta1
    a.beta2 = beta2
    a.size = size
    a.spread = spread
    a.epsilon = epsilon
    a.keep = keep
    with nogil:
        fa_adam_step(k, &a, n, n_threads)


def add_scaled(cnp.ndarray x, double scale, cnp.ndarray y):
    """y += scale x, contiguous, one rounding for each element."""
    cdef const fa_kernels *k = _kernels(x)
    cdef int64_t n = cnp.PyArray_SIZE(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef void *p_y = cnp.PyArray_DATA(y)
    with nogil:
        fa_add_scaled(k, p_x, scale, p_y, n, n_threads)


def square_sum(cnp.ndarray x, double start):
    """start plus the sum of the squares of a contiguous array, in float64."""
    cdef const fa_kernels *k = _kernels(x)
    cdef int64_t n = cnp.PyArray_SIZE(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef double total = start
    cdef int status
    with nogil:
        status = fa_square_sum(k, p_x, n, &total, n_threads)
    if status:
        raise MemoryError("fastattn: no memory for the workspace of a sum of squares")
    return total


def gather(cnp.ndarray table, cnp.ndarray ids, cnp.ndarray y):
    """y[i] = table[ids[i]] for int64 ids; all contiguous."""
    cdef const fa_kernels *k = _kernels(table)
    cdef int64_t n = cnp.PyArray_SIZE(ids), width = cnp.PyArray_DIM(table, 1)
    cdef void *p_table = cnp.PyArray_DATA(table)
    cdef const int64_t *p_ids = <const int64_t *>cnp.PyArray_DATA(ids)
    cdef void *p_y = cnp.PyArray_DATA(y)
    with nogil:
        fa_gather(k, p_table, p_ids, p_y, n, width, n_threads)


def scatter(cnp.ndarray dy, cnp.ndarray ids, int64_t skip, cnp.ndarray table):
    """table[ids[i]] += dy[i] in ascending order, unless ids[i] == skip; dy (n, width)."""
    cdef const fa_kernels *k = _kernels(table)
    cdef int64_t n = cnp.PyArray_SIZE(ids), width = cnp.PyArray_DIM(table, 1)
    cdef int64_t row = cnp.PyArray_STRIDE(dy, 0) // cnp.PyArray_ITEMSIZE(dy)
    cdef void *p_dy = cnp.PyArray_DATA(dy)
    cdef const int64_t *p_ids = <const int64_t *>cnp.PyArray_DATA(ids)
    cdef void *p_table = cnp.PyArray_DATA(table)
    with nogil:
        fa_scatter(k, p_dy, row, p_ids, n, skip, p_table, width, n_threads)


def layer_norm(cnp.ndarray x, cnp.ndarray gain, cnp.ndarray offset, double epsilon, cnp.ndarray y, cnp.ndarray mean,
               cnp.ndarray inverse):
    """y (M, N) from x (M, N); mean and inverse (M,) are for layer_norm_vjp."""
    cdef const fa_kernels *k = _kernels(x)
    cdef fa_layer_norm a
    memset(&a, 0, sizeof(fa_layer_norm))
    a.rows = cnp.PyArray_DIM(x, 0)
    a.N = cnp.PyArray_DIM(x, 1)
    a.x = cnp.PyArray_DATA(x)
    a.x_row = cnp.PyArray_STRIDE(x, 0) // cnp.PyArray_ITEMSIZE(x)
    a.gain = cnp.PyArray_DATA(gain)
    a.offset = cnp.PyArray_DATA(offset)
    a.epsilon = epsilon
    a.y = cnp.PyArray_DATA(y)
    a.mean = cnp.PyArray_DATA(mean)
    a.inverse = cnp.PyArray_DATA(inverse)
    with nogil:
        fa_layer_norm_run(k, &a, 0, n_threads)


def layer_norm_vjp(cnp.ndarray x, cnp.ndarray gain, cnp.ndarray mean, cnp.ndarray inverse, cnp.ndarray dy,
                   cnp.ndarray dx, cnp.ndarray d_gain, cnp.ndarray d_offset):
    """dx (M, N), contiguous; d_gain and d_offset (N,) are added to."""
    cdef const fa_kernels *k = _kernels(x)
    cdef fa_layer_norm a
    memset(&a, 0, sizeof(fa_layer_norm))
    a.rows = cnp.PyArray_DIM(x, 0)
    a.N = cnp.PyArray_DIM(x, 1)
    a.x = cnp.PyArray_DATA(x)
    a.x_row = cnp.PyArray_STRIDE(x, 0) // cnp.PyArray_ITEMSIZE(x)
    a.gain = cnp.PyArray_DATA(gain)
    a.mean = cnp.PyArray_DATA(mean)
    a.inverse = cnp.PyArray_DATA(inverse)
    a.dy = cnp.PyArray_DATA(dy)
    a.dy_row = cnp.PyArray_STRIDE(dy, 0) // cnp.PyArray_ITEMSIZE(dy)
    a.dx = cnp.PyArray_DATA(dx)
    a.d_gain = cnp.PyArray_DATA(d_gain)
    a.d_offset = cnp.PyArray_DATA(d_offset)
    with nogil:
        fa_layer_norm_run(k, &a, 1, n_threads)


def dropout(cnp.ndarray x, cnp.ndarray seeds, uint32_t drop_below, double keep_scale, cnp.ndarray y):
    """y = x with elements of each sample (first axis) dropped; x and y contiguous, seeds uint64 (B,)."""
    cdef const fa_kernels *k = _kernels(x)
    cdef int64_t samples = cnp.PyArray_DIM(x, 0)
    cdef int64_t elements = cnp.PyArray_SIZE(x) // samples if samples else 0
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef void *p_y = cnp.PyArray_DATA(y)
    cdef const uint64_t *p_seeds = <const uint64_t *>cnp.PyArray_DATA(seeds)
    cdef int is_double = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64
    with nogil:
        fa_dropout(k, p_x, p_y, p_seeds, drop_below, keep_scale, samples, elements, is_double, n_threads)


# ---- Decoder loops ----------------------------------------------------------------------------------------------

def query_gradient(int score, int activation, double scale, cnp.ndarray query, cnp.ndarray key, cnp.ndarray value,
                   score_vector, cnp.ndarray weights, cnp.ndarray d_context, cnp.ndarray d_query,
                   cnp.ndarray d_score, d_weights=None):
    """d_query (B, D) and d_score (B, Tk), contiguous, of one query (B, D) for each sample of key (B, Tk, D) and value
    (B, Tk, Dv), from the weights (B, Tk), contiguous, of its forward pass, d_context (B, Dv), and d_weights (B, Tk),
    contiguous, or None."""
    cdef fa_query_gradient g
    cdef cnp.npy_intp item = cnp.PyArray_ITEMSIZE(query)
    cdef const fa_kernels *k = _kernels(query)
    g.B = cnp.PyArray_DIM(key, 0)
    g.Tk = cnp.PyArray_DIM(key, 1)
    g.D = cnp.PyArray_DIM(key, 2)
    g.Dv = cnp.PyArray_DIM(value, 2)
    g.score = score
    g.activation = activation
    g.scale = scale
    g.query = cnp.PyArray_DATA(query)
    g.key = cnp.PyArray_DATA(key)
    g.value = cnp.PyArray_DATA(value)
    g.score_vector = _data(score_vector)
    g.weights = cnp.PyArray_DATA(weights)
    g.d_context = cnp.PyArray_DATA(d_context)
    g.query_row = cnp.PyArray_STRIDE(query, 0) // item
    g.d_context_row = cnp.PyArray_STRIDE(d_context, 0) // item
    g.key_strides = _strides3(key)
    g.value_strides = _strides3(value)
    g.d_query = cnp.PyArray_DATA(d_query)
    g.d_score = cnp.PyArray_DATA(d_score)
    g.d_weights = _data(d_weights)
    with nogil:
        fa_query_gradient_run(k, &g, n_threads)


# ---- Recurrent layers -------------------------------------------------------------------------------------------


cdef class Recurrent:
    """The weights of a recurrent layer: cell 0 GRU, reset after; 1 GRU, reset before; 2 LSTM, whose b_hidden is None.

    w_input is packed (D, G H), w_hidden is packed (H, H) for each gate; biases are read in place, at every call.
    Every array is contiguous; sequences is (lengths, starts, order), each (B,) int64, or None.
    """
    cdef fa_recurrent a
    cdef const fa_kernels *kernels
    cdef const void *w_input
    cdef tuple keep
    cdef bint is_double

    def __init__(self, int cell, int64_t hidden, cnp.ndarray w_input, cnp.ndarray w_hidden, cnp.ndarray b_input,
                 b_hidden):
        memset(&self.a, 0, sizeof(fa_recurrent))
        self.keep = (w_input, w_hidden, b_input, b_hidden)
        self.kernels = _kernels(b_input)
        self.is_double = cnp.PyArray_TYPE(b_input) == cnp.NPY_FLOAT64
        self.w_input = cnp.PyArray_DATA(w_input)
        self.a.cell = cell
        self.a.H = hidden
        self.a.w_hidden = cnp.PyArray_DATA(w_hidden)
        self.a.b_input = cnp.PyArray_DATA(b_input)
        self.a.b_hidden = _data(b_hidden)

    cdef void _sequences(self, fa_recurrent *a, int64_t batch, int64_t steps, bint reverse, sequences):
        a.B = batch
        a.T = steps
        a.reverse = reverse
        if sequences is not None:
            a.lengths = <const int64_t *>_data(sequences[0])
            a.starts = <const int64_t *>_data(sequences[1])
            a.order = <const int64_t *>_data(sequences[2])

    def forward(self, cnp.ndarray x, int64_t batch, int64_t steps, bint reverse, sequences, h_first, c_first,
                cnp.ndarray h_last, c_last, cnp.ndarray gates, aux, before, y, inside=None):
        """All steps over x (rows, D): last states, y (B, T, H) unless None; gates (rows, G H) is scratch, or is kept
        with aux and before (rows, H) for backward. x may be None if gates hold its products. inside (B, H) is what
        else the reset gate of a GRU with reset after acts on."""
        cdef fa_recurrent a = self.a
        cdef int64_t rows = 0, D = 0, x_row = 0
        cdef const void *p_x = NULL
        cdef const void *p_h = _data(h_first)
        cdef const void *p_c = _data(c_first)
        cdef void *p_h_last = cnp.PyArray_DATA(h_last)
        cdef void *p_c_last = _data(c_last)
        cdef int status
        if x is not None:
            rows = cnp.PyArray_DIM(x, 0)
            D = cnp.PyArray_DIM(x, 1)
            x_row = cnp.PyArray_STRIDE(x, 0) // cnp.PyArray_ITEMSIZE(x)
            p_x = cnp.PyArray_DATA(x)
        self._sequences(&a, batch, steps, reverse, sequences)
        a.gates = cnp.PyArray_DATA(gates)
        a.aux = _data(aux)
        a.before = _data(before)
        a.y = _data(y)
        a.inside = _data(inside)
        with nogil:
            status = fa_recurrent_forward(self.kernels, &a, p_x, x_row, self.w_input, rows, D, p_h, p_c, p_h_last,
                                          p_c_last, self.is_double, n_threads)
        if status:
            raise MemoryError("fastattn: no memory for the workspace of a recurrent layer")

    def backward(self, cnp.ndarray w_hidden_transposed, int64_t batch, int64_t steps, bint reverse, sequences, dy,
                 dh_last, dc_last, cnp.ndarray dh_first, dc_first, cnp.ndarray gates, cnp.ndarray aux,
                 cnp.ndarray before, c_first):
        """All steps back: gradients of the first states, and in gates, and in aux of a GRU with reset after, those at
        the gates' arguments. dy, dh_last and dc_last may be None: zeros."""
        cdef fa_recurrent a = self.a
        cdef const void *p_h_last = _data(dh_last)
        cdef const void *p_c_last = _data(dc_last)
        cdef void *p_h = cnp.PyArray_DATA(dh_first)
        cdef void *p_c = _data(dc_first)
        cdef int status
        self._sequences(&a, batch, steps, reverse, sequences)
        a.w_hidden_transposed = cnp.PyArray_DATA(w_hidden_transposed)
        a.gates = cnp.PyArray_DATA(gates)
        a.aux = cnp.PyArray_DATA(aux)
        a.before = cnp.PyArray_DATA(before)
        a.dy = _data(dy)
        a.memory_first = _data(c_first)
        with nogil:
            status = fa_recurrent_backward(self.kernels, &a, p_h_last, p_c_last, p_h, p_c, self.is_double, n_threads)
        if status:
            raise MemoryError("fastattn: no memory for the workspace of a recurrent layer's gradients")


# ---- Sparse normalizers, on contiguous arrays -------------------------------------------------------------------

def entmax(cnp.ndarray x, mask, cnp.ndarray y, double alpha, int64_t rows, int64_t columns):
    """y = alpha-entmax of rows; mask is a bool array of x's shape, or None."""
    cdef const fa_kernels *k = _kernels(x)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef const uint8_t *p_mask = <const uint8_t *>_data(mask)
    cdef void *p_y = cnp.PyArray_DATA(y)
    cdef int is_double = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64
    cdef int status
    with nogil:
        status = fa_entmax(k, p_x, p_mask, p_y, alpha, rows, columns, is_double, n_threads)
    if status:
        raise MemoryError("fastattn: no memory for the workspace of entmax")


def entmax_vjp(cnp.ndarray y, cnp.ndarray dy, cnp.ndarray dx, d_alpha, double alpha, int64_t rows, int64_t columns):
    """dx from y = entmax(x) and dy; d_alpha (rows,), float64, unless None, is what each row adds."""
    cdef const fa_kernels *k = _kernels(y)
    cdef void *p_y = cnp.PyArray_DATA(y)
    cdef void *p_dy = cnp.PyArray_DATA(dy)
    cdef void *p_dx = cnp.PyArray_DATA(dx)
    cdef double *p_alpha = <double *>_data(d_alpha)
    cdef int is_double = cnp.PyArray_TYPE(y) == cnp.NPY_FLOAT64
    cdef int status
    with nogil:
        status = fa_entmax_vjp(k, p_y, p_dy, p_dx, p_alpha, alpha, rows, columns, is_double, n_threads)
    if status:
        raise MemoryError("fastattn: no memory for the workspace of entmax")


# ---- Decoder steps over earlier weights -------------------------------------------------------------------------


cdef class Steps:
    """T steps of attention for each of B samples, forward and back; csrc/steps/ has formulas and layouts.

    query (B, T, D), history and factor (B, T, S), first and last (B, T) int64, mask (B, S) bool, rows (B,) int64,
    vector (D,), filters (C, K), feature_weights (C, D): contiguous, or None; key (., S, D) and value (., S, Dv): any
    strides.
    """
    cdef fa_steps a
    cdef const fa_kernels *kernels
    cdef tuple keep

    def __init__(self, double scale, bint sigmoid, cnp.ndarray query, cnp.ndarray key, cnp.ndarray value, rows,
                 cnp.ndarray first, cnp.ndarray last, mask, vector, history, filters, feature_weights, factor):
        cdef fa_steps *a = &self.a
        memset(a, 0, sizeof(fa_steps))
        self.keep = (query, key, value, rows, first, last, mask, vector, history, filters, feature_weights, factor)
        self.kernels = _kernels(query)
        a.B = cnp.PyArray_DIM(query, 0)
        a.T = cnp.PyArray_DIM(query, 1)
        a.D = cnp.PyArray_DIM(query, 2)
        a.S = cnp.PyArray_DIM(key, 1)
        a.Dv = cnp.PyArray_DIM(value, 2)
        a.score = 0 if vector is None else 1
        a.sigmoid = sigmoid
        a.scale = scale
        a.query = cnp.PyArray_DATA(query)
        a.key = cnp.PyArray_DATA(key)
        a.value = cnp.PyArray_DATA(value)
        a.key_strides = _strides3(key)
        a.value_strides = _strides3(value)
        a.memory_rows = <const int64_t *>_data(rows)
        a.first = <const int64_t *>cnp.PyArray_DATA(first)
        a.last = <const int64_t *>cnp.PyArray_DATA(last)
        a.mask = <const uint8_t *>_data(mask)
        a.vector = _data(vector)
        a.history = _data(history)
        a.filters = _data(filters)
        a.feature_weights = _data(feature_weights)
        a.factor = _data(factor)
        if feature_weights is not None:
            a.C = cnp.PyArray_DIM(feature_weights, 0)
            a.K = 1 if filters is None else cnp.PyArray_DIM(filters, 1)

    def forward(self, cnp.ndarray context, cnp.ndarray weights, cnp.ndarray normalized, cnp.ndarray total):
        """context (B, T, Dv), weights (B, T, S), normalized: before the factor, or weights itself, total (B, T)."""
        cdef int status
        self.keep += (weights, normalized, total)
        self.a.context = cnp.PyArray_DATA(context)
        self.a.weights = cnp.PyArray_DATA(weights)
        self.a.normalized = cnp.PyArray_DATA(normalized)
        self.a.total = cnp.PyArray_DATA(total)
        with nogil:
            status = fa_steps_run(self.kernels, &self.a, 0, n_threads)
        if status:
            raise MemoryError("fastattn: no memory for the workspace of attention steps")

    def backward(self, cnp.ndarray d_context, d_weights, cnp.ndarray d_query, d_history, d_factor,
                 cnp.ndarray d_key, d_vector, d_feature_weights, d_filters):
        """After forward, whose arrays are still there: the last four are added to, each (B, ...)."""
        cdef fa_steps a = self.a
        cdef int status
        a.d_context = cnp.PyArray_DATA(d_context)
        a.d_weights = _data(d_weights)
        a.d_query = cnp.PyArray_DATA(d_query)
        a.d_history = _data(d_history)
        a.d_factor = _data(d_factor)
        a.d_key = cnp.PyArray_DATA(d_key)
        a.d_vector = _data(d_vector)
        a.d_feature_weights = _data(d_feature_weights)
        a.d_filters = _data(d_filters)
        with nogil:
            status = fa_steps_run(self.kernels, &a, 1, n_threads)
        if status:
            raise MemoryError("fastattn: no memory for the workspace of attention steps")


# ---- Feed-forward networks and search ---------------------------------------------------------------------------

def relu_back(cnp.ndarray y, cnp.ndarray d):
    """d becomes 0 where y = relu(...) is not above 0; both contiguous."""
    cdef const fa_kernels *k = _kernels(y)
    cdef int64_t n = cnp.PyArray_SIZE(y)
    cdef void *p_y = cnp.PyArray_DATA(y)
    cdef void *p_d = cnp.PyArray_DATA(d)
    with nogil:
        fa_relu_back(k, p_y, p_d, n, n_threads)


def largest(cnp.ndarray x, cnp.ndarray values, cnp.ndarray ids):
    """values and ids (M, k): the k largest elements of each row of x (M, N) in descending order, of equal ones the
    first first, and their columns; NaN counts, and is given, as -inf. All contiguous, ids int64, k <= N."""
    cdef const fa_kernels *k = _kernels(x)
    cdef int64_t rows = cnp.PyArray_DIM(x, 0), columns = cnp.PyArray_DIM(x, 1), count = cnp.PyArray_DIM(ids, 1)
    cdef void *p_x = cnp.PyArray_DATA(x)
    cdef void *p_values = cnp.PyArray_DATA(values)
    cdef int64_t *p_ids = <int64_t *>cnp.PyArray_DATA(ids)
    if count:
        with nogil:
            fa_largest(k, p_x, rows, columns, count, p_values, p_ids, n_threads)


# ---- Monotonic attention ----------------------------------------------------------------------------------------

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


# ---- The table of functions for compiled plugins ----------------------------------------------------------------

cdef extern from "dispatch/capi.h" nogil:
    ctypedef struct fastattn_api:
        pass
    const fastattn_api fa_api
    const char *FASTATTN_CAPSULE
    void fa_api_use(const fa_level *, const int *)

fa_api_use(level, &n_threads)
_C_API = PyCapsule_New(<void *>&fa_api, FASTATTN_CAPSULE, NULL)
