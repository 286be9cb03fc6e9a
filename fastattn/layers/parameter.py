"""What every layer is made of: parameters with their gradients, and layers that hold them by name."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn._arrays import float_array
from fastattn.errors import ShapeError, describe
from fastattn.linear import PackedWeights, pack_panels

__all__ = ["Layer", "Parameter"]

Array = NDArray[Any]


class _PackedValue(PackedWeights):
    """The packed forms of a parameter: its transpose is packed from the value itself instead of a copy, and both are
    in the memory of the forms before them, since new memory costs more than packing."""

    def __init__(self, value: Array, memory: dict[bool, Array]) -> None:
        self._value, self._memory = value, memory
        super().__init__(value)

    def _pack(self, w: Array, transposed: bool) -> Array:
        self._memory[transposed] = pack_panels(w, transposed, self._memory.get(transposed))
        return self._memory[transposed]

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

    __slots__ = ("_lent", "_memory", "_packed", "gradient", "value")

    def __init__(self, value: Array) -> None:
        self.value = np.array(float_array("value", value), order="C")
        self.gradient = np.zeros_like(self.value)
        self._packed: PackedWeights | None = None
        self._memory: dict[bool, Array] = {}
        self._lent: Array | None = None

    def packed(self) -> PackedWeights:
        """Return the matrix packed for products; it is packed once for each change of the value.

        Do not use it after the next `touch`: what is packed then takes its memory.
        """
        if self._packed is None:
            self._packed = _PackedValue(self.value, self._memory)
        return self._packed

    def borrow(self) -> Array:
        """Return an array like the value, whose elements are arbitrary, for a gradient that cannot be added yet.

        `give_back` it, and it is lent again without costing new memory.
        """
        array, self._lent = self._lent, None
        return np.empty_like(self.value) if array is None else array

    def give_back(self, array: Array) -> None:
        """Take what `borrow` returned; it may be overwritten from now on."""
        self._lent = array

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
