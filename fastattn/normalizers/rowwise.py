"""A normalizer that is a function of yours of a row of scores, compiled into the kernels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastattn._arrays import Array
from fastattn._kernels import core
from fastattn.errors import UnsupportedError, describe
from fastattn.normalizers.base import KernelNormalizer, Normalizer

if TYPE_CHECKING:
    from fastattn.jit import RowFunction

__all__ = ["Rowwise"]


@dataclass(frozen=True, eq=False)
class Rowwise(Normalizer):
    """``weights_i = f(scores_i, b, h, i, j, parameters)``.

    Parameters
    ----------
    function : RowFunction
        What `fastattn.row_function` made of a function, with its parameters.

    Attributes
    ----------
    parameters : dict
        Those of the function that have a gradient, of their shapes and dtypes in ``Gradients.normalizer``.

    Notes
    -----
    ``attention(..., normalizer=f)`` makes one of a function; a record of a plugin names what returns one.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> from fastattn.normalizers import Rowwise
    >>> @fastattn.row_function
    ... def relu_squared(s, b, h, i, j):
    ...     return np.maximum(s, 0) ** 2
    >>> Rowwise(relu_squared())
    Rowwise(relu_squared())
    """

    name: ClassVar[str] = "rowwise"
    function: "RowFunction"

    @property
    def parameters(self) -> dict[str, Array]:
        """The function's parameters that have a gradient."""
        return {name: self.function.parameters[name] for name in self.function.trained}

    def kernel(self, query_shape: tuple[int, ...]) -> KernelNormalizer:
        """Raise: the kernel is one of a type and of a number of keys."""
        hint = "call kernel_for(dtype, query_shape, keys, differentiate)."
        raise UnsupportedError(describe("kernel", "a normalizer whose kernel is one for all types", repr(self), hint))

    def kernel_for(
        self, dtype: "np.dtype[Any]", query_shape: tuple[int, ...], keys: int, differentiate: bool
    ) -> KernelNormalizer:
        """Return the compiled functions; raise an `ArgumentError` if a look-up may leave its array."""
        batch = query_shape[0] if len(query_shape) > 2 else 1
        heads = query_shape[1] if len(query_shape) == 4 else 1
        found = self.function.compiled(dtype, batch, heads, query_shape[-2], keys)
        backward = found.backward if differentiate else 0
        functions = core.KernelFunctions(dtype, found.forward, backward, found.parameters, found.gradients, found)
        return KernelNormalizer(functions=functions, buffers=self.function.buffers)

    def placed(self, first: int) -> "Rowwise":
        """Return the same of queries whose place i begins at `first`."""
        return Rowwise(self.function.placed(first))

    def function_gradients(self, sums: "list[Array | None]") -> dict[str, Array]:
        """Return the gradients of the parameters from the sums of each."""
        return self.function.gradients(sums)

    def __repr__(self) -> str:
        return f"Rowwise({self.function!r})"
