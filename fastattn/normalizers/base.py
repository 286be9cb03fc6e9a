"""What every normalizer is: a frozen object with a name, parameters, and what the kernels need to know of it.

The kernels compute softmax, and alpha-entmax for 1 <= alpha <= 2, whose ends are softmax and sparsemax.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastattn._arrays import frozen

__all__ = ["Normalizer"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Normalizer:
    """Base class of normalizers.

    Attributes
    ----------
    name : str
    parameters : dict of str to array
        Gradients come back under the same names, in `Gradients.normalizer`.
    """

    name: ClassVar[str] = ""

    @property
    def parameters(self) -> dict[str, Array]:
        """Arrays that have gradients, by name."""
        return {}

    def kernel_alpha(self, query_shape: tuple[int, ...]) -> Array | None:
        """Return alpha of all heads, or of each, as contiguous float64; None stands for softmax."""
        return None

    def attach(self, call: Any) -> None:
        """Hand what else the kernels need over to a call of them."""

    def reduce(self, d_alpha: Array) -> dict[str, Array]:
        """Return the gradients of the parameters from what each row, (B, H, Tq), adds to that of alpha."""
        return {}


def constant_alpha(value: float) -> Array:
    """Return a read-only alpha for a normalizer without parameters."""
    return frozen(np.array(value))
