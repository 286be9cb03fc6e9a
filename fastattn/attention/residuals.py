"""What a forward pass leaves for a backward pass of its own."""

from typing import Any, NamedTuple

import numpy as np

from fastattn import _reprs
from fastattn._arrays import Array, gradient_array, native
from fastattn.errors import ArgumentError, describe

__all__ = ["Residuals"]


class Residuals(NamedTuple):
    """What `attention_forward` made and `attention_backward` needs: outputs, and two numbers a row; no input.

    Attributes
    ----------
    context : array, shape (..., Tq, Dv)
        The context itself, not a copy; of arrays of a half type, in float32 as it was before it was rounded.
    row_max, row_sum : array, shape (..., Tq), or None
        The largest score of each row, and the sum of exponentials of the others less it. None with a sparse normalizer.
    weights : array, shape (..., Tq, Tk), or None
        The weights themselves, where they were asked for, likewise; only a gradient of them needs them.
    """

    context: Array
    row_max: Any = None
    row_sum: Any = None
    weights: Any = None

    def checked(self, shapes: tuple[tuple[int, ...], ...], dtype: np.dtype[Any], rows: bool) -> tuple[Any, ...]:
        """Return the four as arrays that the kernels can read, or raise if they cannot be those of the call.

        Parameters
        ----------
        shapes : tuple
            Those of the four.
        dtype : dtype
            That of query.
        rows : bool
            Whether the normalizer is softmax, which has the two numbers a row.
        """
        hint = "pass what attention_forward returned for the same inputs and options."
        found: list[Array | None] = []
        for name, array, shape in zip(self._fields, self, shapes):
            wanted = name == "context" or (rows and name != "weights")
            if array is None and wanted:
                raise ArgumentError(describe(f"residuals.{name}", f"an array of shape {shape}", "None", hint))
            if array is not None and not wanted and name != "weights":
                raise ArgumentError(describe(f"residuals.{name}", "None with a sparse normalizer", "an array", hint))
            if array is not None:
                array = native(gradient_array(f"residuals.{name}", array, shape, dtype, hint))
            found.append(array)
        return tuple(found)

    def __repr__(self) -> str:
        return _reprs.fields(self)
