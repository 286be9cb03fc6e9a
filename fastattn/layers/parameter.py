"""What every layer is made of: parameters with their gradients, and layers that hold them by name."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn._arrays import float_array
from fastattn.errors import ShapeError, describe
from fastattn.linear import PackedWeights

__all__ = ["Layer", "Parameter"]

Array = NDArray[Any]


class _PackedValue(PackedWeights):
    """The packed forms of a parameter, which packs its transpose from the value itself instead of a copy."""

    def __init__(self, value: Array) -> None:
        super().__init__(value)
        self._value = value

    def unpack(self) -> Array:
        return self._value


class Parameter:
    """An array that is learnt, its gradient, and its packed forms.

    Parameters
    ----------
    value : array, float32 or float64
        Copied.

    Attributes
    ----------
    value : array
        Change it in place only, and call `touch` afterwards.
    gradient : array
        Same shape; backward passes add to it, an optimizer sets it back to zero.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import Parameter
    >>> w = Parameter(np.ones((2, 3), np.float32))
    >>> w.value += 1
    >>> w.touch()
    >>> w.packed().matmul(np.ones((1, 2), np.float32))
    array([[4., 4., 4.]], dtype=float32)
    """

    __slots__ = ("_packed", "gradient", "value")

    def __init__(self, value: Array) -> None:
        self.value = np.array(float_array("value", value), order="C")
        self.gradient = np.zeros_like(self.value)
        self._packed: PackedWeights | None = None

    def packed(self) -> PackedWeights:
        """Return the matrix packed for products; it is packed once for each change of the value."""
        if self._packed is None:
            self._packed = _PackedValue(self.value)
        return self._packed

    def touch(self) -> None:
        """Say that the value was changed: packed forms are made anew when they are next needed."""
        self._packed = None

    def accumulate(self, gradient: Array) -> None:
        """Add to the gradient."""
        if gradient.shape != self.value.shape:
            raise ShapeError(
                describe("gradient", f"shape {self.value.shape}, that of the parameter", f"shape {gradient.shape}",
                         "sum it over the axes that the parameter was broadcast along.")
            )  # fmt: skip
        self.gradient += gradient

    def __repr__(self) -> str:
        return f"Parameter(shape={self.value.shape}, dtype={self.value.dtype})"


class Layer:
    """Base class of layers: finds parameters in its attributes, in the order in which they were set."""

    def parameters(self) -> dict[str, Parameter]:
        """Return all parameters by dotted name; a parameter that two layers share is listed once."""
        found: dict[str, Parameter] = {}
        seen: set[int] = set()
        for name, parameter in self._named():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                found[name] = parameter
        return found

    def _named(self) -> Iterator[tuple[str, Parameter]]:
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield name, value
            elif isinstance(value, Layer):
                yield from ((f"{name}.{inner}", parameter) for inner, parameter in value._named())
            elif isinstance(value, (list, tuple)):
                for number, item in enumerate(value):
                    if isinstance(item, Layer):
                        yield from ((f"{name}.{number}.{inner}", parameter) for inner, parameter in item._named())
