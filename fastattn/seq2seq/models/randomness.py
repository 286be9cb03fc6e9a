"""Random numbers by counter: functions of a seed and of what they are for, never of what was drawn before."""

import enum

import numpy as np

from fastattn._arrays import Array
from fastattn.seq2seq.text.batches import mix64

__all__ = ["Place", "derive", "uniform"]


class Place(enum.IntEnum):
    """Where dropout is in a model: no two places share their seeds. What is counted in a plural is added to it."""

    SOURCE = 0
    TARGET = 1
    FEATURES = 2
    STATES = 3
    DECODER = 4
    ENCODER_SUBLAYERS = 1 << 16
    DECODER_SUBLAYERS = 2 << 16
    ENCODER_WEIGHTS = 1 << 20
    DECODER_WEIGHTS = 2 << 20
    STEPS = 4 << 32  # 2^32 of each layer


def derive(seeds: Array, purpose: int) -> Array:
    """Return other seeds, one for each of `seeds`, that depend on it and on `purpose`.

    Parameters
    ----------
    seeds : uint64 array, any shape
    purpose : int
        A `Place` in a model, a step, a draw: from 0 up.

    Returns
    -------
    uint64 array

    Notes
    -----
    Two rounds of `mix64`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.seq2seq.models.randomness import derive
    >>> seeds = np.arange(3, dtype=np.uint64)
    >>> len(set(derive(seeds, 0).tolist()) | set(derive(seeds, 1).tolist()))
    6
    """
    return mix64(mix64(seeds) + np.uint64(purpose))


def uniform(seeds: Array, counter: int) -> Array:
    """Return a float64 in [0, 1) for each seed, the draw number `counter`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.seq2seq.models.randomness import uniform
    >>> u = uniform(np.arange(10000, dtype=np.uint64), 3)
    >>> bool(abs(u.mean() - 0.5) < 0.01), bool(u.min() >= 0), bool(u.max() < 1)
    (True, True, True)
    """
    return (derive(seeds, counter) >> np.uint64(11)).astype(np.float64) * 2.0**-53
