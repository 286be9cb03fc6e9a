"""Which calls in half types are computed on a matrix unit."""

from typing import Any

import numpy as np

from fastattn._kernels import core

__all__ = ["on_tiles"]

_WIDEST = 256  # features whose products sum to a number of the type
_LARGEST = 16.0  # factor of scores


def on_tiles(
    half: np.dtype[Any], width: int, score: core.KernelScore, scale: float, options: core.Options, other: bool
) -> bool:
    """Whether a call is: one of bfloat16 whose score is a product, at a level that has a unit. `other`: it has
    projections, or a normalizer other than softmax.

    What decides is the same for any batch, lengths and numbers.
    """
    return (
        half.name == "bfloat16"
        and core.tiles()
        and score.kernel == core.SCORES["dot"]
        and score.softcap == 0
        and width <= _WIDEST
        and abs(scale) <= _LARGEST
        and options.modifier is None
        and options.allow is None
        and options.seeds is None
        and not other
    )
