"""What every normalizer is: a frozen object with a name, parameters, and what the kernels need to know of it.

The kernels compute softmax, and alpha-entmax for 1 <= alpha <= 2, whose ends are softmax and sparsemax.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastattn._arrays import frozen
from fastattn.errors import DTypeError, describe

__all__ = ["Normalizer", "by_name", "resolve"]

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


_BY_NAME: dict[str, Normalizer] = {}


def by_name(cls: type[Normalizer]) -> type[Normalizer]:
    """Class decorator: makes a normalizer available under its name."""
    _BY_NAME[cls.name] = cls()
    return cls


def resolve(normalizer: object) -> Normalizer:
    """Return the normalizer that `normalizer`, a name or an object, stands for.

    Raises
    ------
    ArgumentError
        If there is none of this name.
    DTypeError
        If it is neither a name nor a normalizer.

    Examples
    --------
    >>> from fastattn import normalizers
    >>> normalizers.resolve("sparsemax")
    Sparsemax()
    """
    if isinstance(normalizer, str):
        found = _BY_NAME.get(normalizer)
        return found if found is not None else _provided(normalizer)
    if isinstance(normalizer, Normalizer):
        return normalizer
    hint = 'pass "softmax", or normalizers.Sparsemax(), say.'
    expected = "a name or an object of fastattn.normalizers"
    raise DTypeError(describe("normalizer", expected, type(normalizer).__name__, hint))


def _provided(name: str) -> Normalizer:
    """Return a plugin's normalizer with its default options; it is made once."""
    from fastattn.normalizers import registry
    from fastattn.plugin import manager

    made = registry.create(name)
    manager.current().keep(_BY_NAME, name, made)
    return made


def constant_alpha(value: float) -> Array:
    """Return a read-only alpha for a normalizer without parameters."""
    return frozen(np.array(value))
