"""Products with matrices of narrow types."""

from typing import Any

import numpy as np

from .gemm import matmul
from .shapes import Array


def bfloat16(x: Any) -> Array:
    """The nearest numbers of 8 bits, ties to even; what is finite stays so."""
    x = np.asarray(x, dtype=np.float64)
    with np.errstate(all="ignore"):
        unit = np.ldexp(1.0, np.maximum(np.frexp(x)[1], -125) - 8)
        near = np.rint(x / unit) * unit
        return np.where(np.isfinite(x), np.clip(near, -255 * 2.0**120, 255 * 2.0**120), x)


def matmul_bfloat16(x: Any, w: Any) -> Array:
    """x @ w of rounded numbers."""
    return matmul(bfloat16(x), bfloat16(w))


def int8(w: Any) -> tuple[Array, Array]:
    """Whole numbers (K, N) and scales (N,) of the columns of w: the least scales of 17 bits that no number is above
    127, or the least powers of two where these are below the smallest normal number."""
    w = np.asarray(w, dtype=np.float64)
    least = np.abs(w).max(axis=0, initial=0) / 127
    unit = np.ldexp(1.0, np.frexp(least)[1] - 17)
    scales = np.ceil(least / unit) * unit
    subnormal = (least < 2.0**-126) & (least > 0)
    power = np.ldexp(1.0, np.maximum(np.ceil(np.log2(np.where(subnormal, least, 1.0))).astype(int), -149))
    scales = np.where(subnormal, power, scales)
    return np.rint(w / np.where(scales > 0, scales, 1)) + 0.0, scales


def matmul_int8(x: Any, w: Any) -> Array:
    """The product of rows and columns that are whole numbers of scales; float32 x (..., K) and w (K, N)."""
    x = np.asarray(x, dtype=np.float32)
    q, s = int8(w)
    largest = np.abs(x).max(axis=-1, keepdims=True, initial=0)
    with np.errstate(all="ignore"):
        lift = np.where(largest < 2.0**-60, np.float32(2.0**88), np.float32(1))
        factor = np.where(largest > 0, np.float32(127) / (largest * lift), np.float32(0))
        p = np.rint(x * lift * factor)
        odd = ~np.isfinite(largest)
        scaled = matmul(np.where(odd, 0, p), q) * (largest.astype(np.float64) / 127 * s)
        return np.where(odd, matmul(x, q * s), scaled).astype(np.float32)
