"""Scores that are a function of yours of one feature of query and key, summed over all."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastattn._kernels import core
from fastattn.scores.base import KERNEL_PAIRWISE, Array, ByName, Score, kernel_functions

if TYPE_CHECKING:
    from fastattn.jit import PairwiseFunction

__all__ = ["Pairwise"]


class Pairwise(Score):
    """``score_ij = scale * sum_d f(q_id, k_jd, parameters)``.

    Parameters
    ----------
    function : PairwiseFunction
        What `fastattn.pairwise_score` made of a function, with its parameters.
    softcap : float, optional
        Scores become ``softcap * tanh(score / softcap)``.

    Notes
    -----
    A class derived from it, whose parameters are the function's, is a score with a name where a record says so; one
    with a method `drawn` is a variant too.
    """

    kernel = KERNEL_PAIRWISE
    one_dtype = False

    def __init__(self, function: "PairwiseFunction", *, softcap: float | None = None) -> None:
        super().__init__(softcap=softcap)
        self.function = function
        self.name = type(self).name or function.name
        self.parameters = {name: function.parameters[name].copy() for name in function.trained}

    def _bound(self) -> "PairwiseFunction":
        """Return the function with the parameters as they are now."""
        return self.function.following(self.parameters)

    def keep(self, key_width: int) -> Score:
        return Pairwise(self._bound(), softcap=self.softcap)

    def plain(self) -> Score:
        return self.keep(0)

    def plain_gradients(self, d: ByName) -> ByName:
        return d

    def functions(self, dtype: "np.dtype[Any]", width: int, differentiate: bool) -> core.KernelFunctions:
        return kernel_functions(self._bound().compiled(dtype, width), dtype, differentiate)

    def function_gradients(self, sums: list[Array | None]) -> ByName:
        return self._bound().gradients(sums)
