"""Which keys a query may attend to: mask, lengths, causal order, window and -inf bias in one boolean array."""

from typing import Any

import numpy as np

from .shapes import Array


def sample_lengths(key_lengths: Any, batch: int, keys: int) -> Array:
    """Number of valid keys of each sample."""
    if key_lengths is None:
        return np.full(batch, keys, dtype=np.int64)
    return np.broadcast_to(np.asarray(key_lengths, dtype=np.int64), (batch,))


def allowed_keys(
    shape: tuple[int, int, int, int],
    *,
    mask: Array | None = None,
    key_lengths: Any = None,
    causal: Any = None,
    window: Any = None,
    bias: Array | None = None,
) -> Array:
    """Boolean (B, H, Tq, Tk), True where query i may attend to key j. mask and bias are already of that shape."""
    batch, _, queries, keys = shape
    lengths = sample_lengths(key_lengths, batch, keys)[:, None, None, None]
    if causal is True and queries != keys:
        raise ValueError("causal=True needs as many queries as keys")
    offset = lengths - queries if causal == "bottom_right" and causal is not True else 0 * lengths
    position = np.arange(queries)[:, None] + offset
    key = np.arange(keys)
    allowed = np.broadcast_to(key < lengths, shape)
    if causal:
        allowed = allowed & (key <= position)
    if window is not None:
        left, right = window
        if left is not None:
            allowed = allowed & (key >= position - left)
        if right is not None:
            allowed = allowed & (key <= position + right)
    if mask is not None:
        allowed = allowed & mask
    if bias is not None:
        allowed = allowed & ~np.isneginf(bias)
    return allowed
