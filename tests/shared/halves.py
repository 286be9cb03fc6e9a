"""Numbers of half types, and whether what was computed of them is that of the same numbers in float32, rounded."""

import numpy as np
import pytest
from checks import same_bits

HALVES = [np.dtype(np.float16), np.dtype(pytest.importorskip("ml_dtypes").bfloat16)]


def drawn(half, *shape):
    """Numbers of a half type, and the same in float32."""
    numbers = np.random.default_rng(list(shape)).standard_normal(shape).astype(half)
    return numbers, numbers.astype(np.float32)


def same(found, expected, half):
    """Whether arrays, or all in tuples, are those of float32, rounded; what is neither is not compared."""
    if isinstance(expected, tuple):
        return type(found) is type(expected) and all(same(*pair, half) for pair in zip(found, expected, strict=True))
    if not isinstance(expected, np.ndarray):
        return type(found) is type(expected)
    return found.dtype == half and same_bits(found.view(np.uint16), expected.astype(half).view(np.uint16))
