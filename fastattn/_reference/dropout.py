"""Counter-based dropout: which weights are dropped is a function of (seed, head, row, key) alone."""

import math
from typing import Any

import numpy as np

from .shapes import Array

_U64 = (1 << 64) - 1


def mix64(x: int) -> int:
    """One step of the splitmix64 generator on an unsigned 64-bit number."""
    x = (x + 0x9E3779B97F4A7C15) & _U64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _U64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _U64
    return x ^ (x >> 31)


def sample_seeds(seed: Any, batch: int) -> list[int]:
    """The 64-bit seed of each sample: an array is used as it is, an int is spread over the batch."""
    if np.ndim(seed) == 0:
        start = mix64(int(seed) & _U64)
        return [mix64((start + b) & _U64) for b in range(batch)]
    return [int(s) & _U64 for s in np.asarray(seed).tolist()]


def row_numbers(row_key: int, keys: int) -> Array:
    """The 32-bit number of every key of one row."""
    low, high = np.uint32(row_key & 0xFFFFFFFF), np.uint32(row_key >> 32)
    with np.errstate(over="ignore"):
        u = np.arange(keys, dtype=np.uint32) ^ low
        u = (u ^ (u >> np.uint32(16))) * np.uint32(0x7FEB352D)
        u = u + high
        u = (u ^ (u >> np.uint32(15))) * np.uint32(0x846CA68B)
        return u ^ (u >> np.uint32(16))


def dropout_mask(seed: Any, batch: int, heads: int, queries: int, keys: int, p: float) -> Array:
    """True where a weight is kept: (batch, heads, queries, keys)."""
    threshold = math.floor(p * 2.0**32)
    kept = np.ones((batch, heads, queries, keys), dtype=bool)
    for b, s in enumerate(sample_seeds(seed, batch)):
        for h in range(heads):
            head_key = mix64((s + 0x632BE59BD9B4E019 * (h + 1)) & _U64)
            for i in range(queries):
                row_key = mix64((head_key + i) & _U64)
                kept[b, h, i] = row_numbers(row_key, keys) >= threshold
    return kept


def element_mask(seeds: Any, elements: int, p: float) -> Array:
    """True where element i of a sample is kept: (samples, elements). Its head is -1 and its row i >> 32."""
    threshold = math.floor(p * 2.0**32)
    rows = [row_numbers(mix64(mix64(int(seed) & _U64)), elements) >= threshold for seed in seeds]
    return np.array(rows, dtype=bool).reshape(len(rows), elements)
