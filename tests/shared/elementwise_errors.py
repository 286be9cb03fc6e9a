"""Elementwise functions over all of float32: points, and the distance from exact values."""

import numpy as np

from fastattn import functional

FUNCTIONS = ("exp", "tanh", "sigmoid")


def every_exponent():
    """All float32 exponents and both signs: the ends, the middle, and 40 random fractions of each binade."""
    rng = np.random.default_rng(0)
    exponents = np.arange(255, dtype=np.uint32)[:, None] << 23
    edges = np.broadcast_to(np.array([0, 1, 0x3FFFFF, 0x400000, 0x7FFFFE, 0x7FFFFF], np.uint32), (255, 6))
    fractions = np.concatenate([edges, rng.integers(0, 2**23, (255, 40), np.uint32)], axis=1)
    bits = (exponents | fractions).ravel()
    near = np.concatenate([np.linspace(-110, 95, 20011), np.linspace(-2, 2, 4001), np.linspace(-1e-3, 1e-3, 1001)])
    both = np.concatenate([bits, bits | np.uint32(1 << 31)])
    return np.concatenate([both.view(np.float32), near.astype(np.float32)])


def distance(name, x, dtype):
    """Largest distance from the exact value, in units in the last place of the result's dtype."""
    found = getattr(functional, name)(x)
    assert found.dtype == dtype and found.shape == x.shape
    exact = getattr(np, name)(x.astype(np.longdouble)) if name != "sigmoid" else None
    if exact is None:
        with np.errstate(over="ignore"):
            exact = 1 / (1 + np.exp(-x.astype(np.longdouble)))
    with np.errstate(over="ignore"):
        rounded = exact.astype(dtype)
    finite = np.isfinite(rounded)
    assert np.array_equal(found[~finite], rounded[~finite], equal_nan=True)
    found, exact = found[finite], exact[finite]
    # At the very top exp may round to infinity within its 2 units.
    info = np.finfo(dtype)
    found = np.where(np.isinf(found), np.longdouble(2) ** info.maxexp, found)
    return float(np.max(np.abs(found - exact) / np.spacing(np.abs(rounded[finite])).astype(np.longdouble)))
