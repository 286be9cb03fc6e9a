"""What every normalizer is: a frozen object with a name, parameters, and what the kernels need to know of it.

The kernels compute softmax, alpha-entmax for 1 <= alpha <= 2, whose ends are softmax and sparsemax, and what compiled
functions from outside make of rows.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastattn._arrays import Array, frozen
from fastattn._kernels import core

__all__ = ["Array", "KernelNormalizer", "Normalizer"]

KernelNormalizer = core.KernelNormalizer


@dataclass(frozen=True)
class Normalizer(ABC):
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

    @abstractmethod
    def kernel(self, query_shape: tuple[int, ...]) -> KernelNormalizer | None:
        """Return which kernel makes the weights of queries of this shape.

        ``KernelNormalizer(alpha)`` is alpha-entmax, with an alpha of all heads, or of each, as contiguous float64;
        ``KernelNormalizer(weights=..., gradient=..., owner=...)`` has addresses of functions (`RowFunctions`); None
        stands for softmax.
        """

    def kernel_for(
        self, dtype: "np.dtype[Any]", query_shape: tuple[int, ...], keys: int, differentiate: bool
    ) -> KernelNormalizer | None:
        """Return the same for queries of one type and a number of keys, with a gradient or without one.

        Only a normalizer whose kernel is of one type has to say more than `kernel` does.
        """
        return self.kernel(query_shape)

    def slopes(self, weights: Array) -> Array | None:
        """Return s, from which the weights give the gradient, ``d_z = s (d_p - sum_k s_k d_p_k / sum_k s_k)``.

        None where it is of another form, or takes more than the weights. With it a step's backward pass is cheap.
        """
        return None

    def reduce(self, d_alpha: Array) -> dict[str, Array]:
        """Return the gradients of the parameters from what each row, (B, H, Tq), adds to that of alpha."""
        return {}

    def placed(self, first: int) -> "Normalizer":
        """Return the same of queries whose place begins at `first`, which only a function of rows can see."""
        return self

    def function_gradients(self, sums: list[Array | None]) -> dict[str, Array]:
        """Return the gradients of the parameters of functions of rows, from the sums of each (`Rowwise`)."""
        return {}


def entmax_kernel(alpha: float) -> KernelNormalizer:
    """Return the kernel of alpha-entmax, with an alpha that nobody changes."""
    return KernelNormalizer(frozen(np.array(alpha)))
