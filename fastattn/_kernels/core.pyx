"""Binding of the C kernels: arrays to pointers and strides, no GIL, one C call, status to exception.

Whatever a kernel trusts is checked here (checks.pxi), in every function and method: nothing that is handed to this
module, by whomever, reads or writes beyond an array. Callers check before, for the better text.
"""

import os

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_New
from libc.math cimport sqrt
from libc.stdint cimport INT32_MAX, INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memset

cnp.import_array()

include "declarations.pxi"  # made by setup.py from csrc/kernels.h and csrc/run/run.h

cdef extern from "run/pool.h" nogil:
    int n_threads "fa_threads"  # atomic: set_num_threads of one thread, calls of the others
    void fa_fail_workspace(int64_t)
    ctypedef void (*fa_team)(void (*)(void *), void *, unsigned, unsigned)
    void fa_use_team(fa_team)

include "level.pxi"
include "allocator.pxi"
include "checks.pxi"


cdef inline const fa_kernels *_kernels(cnp.ndarray a) noexcept:
    return level.f64 if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT64 else level.f32


cdef inline bint _in_place(cnp.ndarray a, bint last_axis) noexcept:
    """Whether the kernels can read an array where it is: its data are aligned, whole elements apart and in native byte
    order, and its last axis, if that matters, is of unit stride."""
    cdef int i, n = cnp.PyArray_NDIM(a)
    cdef cnp.npy_intp item = cnp.PyArray_ITEMSIZE(a)
    if not cnp.PyArray_ISBEHAVED_RO(a) or (last_axis and n > 0 and cnp.PyArray_DIM(a, n - 1) > 1
                                           and cnp.PyArray_STRIDE(a, n - 1) != item):
        return False
    for i in range(n):
        if cnp.PyArray_STRIDE(a, i) % item:
            return False
    return True


def unit(cnp.ndarray a, bint last_axis=True):
    """The array itself if the kernels can read it in place, else a contiguous copy."""
    return a if _in_place(a, last_axis) else a.astype(a.dtype.newbyteorder("="), order="C", copy=True)


def aligned_empty(shape, dtype):
    """An uninitialised array that starts on a 64-byte boundary, for data that kernels read many times."""
    cdef cnp.npy_intp offset
    size = int(np.prod(shape)) * dtype.itemsize
    if size >= FA_ALLOCATOR_SMALLEST:
        return empty(shape, dtype)
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


include "records.pxi"
include "attention.pxi"
include "products.pxi"
include "rows.pxi"
include "training.pxi"
include "recurrent.pxi"
include "sparse.pxi"
include "steps.pxi"
include "monotonic.pxi"

# The table of functions for compiled plugins.
cdef extern from "run/capi.h" nogil:
    ctypedef struct fastattn_api:
        pass
    const fastattn_api fa_api
    const char *FASTATTN_CAPSULE
    void fa_api_use(const fa_level *)
    ctypedef void *(*fa_xla_handler)(void *)
    void fa_xla_use(fa_xla_handler, fa_xla_handler)
    void *fa_xla_forward(void *)
    void *fa_xla_backward(void *)

fa_api_use(level)
_C_API = PyCapsule_New(<void *>&fa_api, FASTATTN_CAPSULE, NULL)


def xla_handlers(size_t forward, size_t backward):
    """The addresses of handlers of XLA that compute plain calls of attention, and leave all else to those at these."""
    fa_xla_use(<fa_xla_handler>forward, <fa_xla_handler>backward)
    return <size_t>&fa_xla_forward, <size_t>&fa_xla_backward
