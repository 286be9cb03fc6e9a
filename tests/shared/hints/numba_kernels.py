"""Hints of the kernels in Numba, which see what callers have checked before."""

import ctypes
import os
from unittest import mock

import numpy as np

from fastattn import _kernels
from fastattn._kernels.numba import checks, records, threads
from fastattn._kernels.numba.attention import Call
from hints import Said, advice

FLOAT32 = np.dtype(np.float32)
SIZES = "sizes and numbers must be those of the other arrays"

advice(lambda: checks.between("rows", "entries", 3, 2, 2), SIZES, lambda: checks.same("rows", "entries", 2, 2))
advice(lambda: checks.between("rows", None, 3, 0, 2), SIZES, lambda: checks.inside("rows", np.arange(3), 0, 2))
REQUIRED = "pass np.require(x, np.float32, ['C', 'W'])"
for wrong in (1, np.ones(2), np.ones((4, 4), FLOAT32)[:, :2]):
    advice(
        lambda x=wrong: checks.flat(x, "x", FLOAT32, np.size(x)),
        REQUIRED,
        lambda: checks.flat(np.ones(2, FLOAT32), "x", FLOAT32, 2),
    )


def attend(normalizer):
    x = np.ones((2, 3))
    return Call(x, records.Keys(x, x), records.KernelScore(0), 1.0, records.Options(), normalizer)


FUNCTION = ctypes.CFUNCTYPE(None)(lambda: None)
ADDRESS = ctypes.cast(FUNCTION, ctypes.c_void_p).value
advice(
    lambda address=ADDRESS: attend(records.KernelNormalizer(weights=address, gradient=address)),
    "use the compiled module",
    lambda: attend(records.KernelNormalizer(np.array(1.5))),
)


def setting(function, **variables):
    try:
        with mock.patch.dict(os.environ, variables):
            function()
    except ImportError as error:
        raise Said(str(error)) from None


advice(lambda: setting(threads._choose, FASTATTN_NUM_THREADS="all"), "unset it, or set it to 1", threads.build_info)
advice(
    lambda: setting(lambda: _kernels._choose("numba"), FASTATTN_ISA="mmx"),
    "unset FASTATTN_ISA, or FASTATTN_BACKEND",
    lambda: setting(lambda: _kernels._choose("numba"), FASTATTN_ISA=""),
)
