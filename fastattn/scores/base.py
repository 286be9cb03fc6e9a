"""What every score function is: parameters, and how it reduces to a score that a fused kernel computes.

A kernel computes one of two forms, ``q . k`` and ``v . act(q + k)``. A score function with projections first turns
query and key into the operands of one of these (`Score.project`), and afterwards the gradients of these operands into
gradients of query, key and its own parameters (`Score.project_vjp`).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastattn import linear
from fastattn._arrays import float_array
from fastattn._kernels import core
from fastattn._numbers import check_number, finite_number
from fastattn.errors import ArgumentError, ShapeError, describe

__all__ = [
    "KERNEL_ADDITIVE",
    "KERNEL_DOT",
    "OperandGradients",
    "Operands",
    "ProjectedGradients",
    "Score",
    "kernel_score",
    "parameter",
]

Array = NDArray[Any]
KERNEL_DOT = 0
KERNEL_ADDITIVE = 1


@dataclass(slots=True)
class Operands:
    """What the kernel is given instead of query and key.

    Attributes
    ----------
    query, key : array
        Of one width; key may have any width when it is not read (`Location`).
    bias : array or None
        Added to the score, `(..., Tq, Tk)`.
    saved : tuple
        What `Score.project_vjp` needs.
    """

    query: Array
    key: Array
    bias: Array | None = None
    saved: tuple[Any, ...] = field(default=())


class OperandGradients(NamedTuple):
    """Gradients of the kernel's operands; bias and vector are None where the call has none."""

    query: Array
    key: Array
    bias: Array | None
    vector: Array | None


# Gradients of query, of key, and of the score's parameters by name.
ProjectedGradients = tuple[Array, Array, dict[str, Array]]


class Score:
    """Base class of score functions.

    Attributes
    ----------
    name : str
    parameters : dict of str to array
        Gradients come back under the same names.
    softcap : float or None
        If given, scores become ``softcap * tanh(score / softcap)``, before the bias is added.
    axes : dict of str to int
        How many axes parameters have, where it is not left to the score to say what is wrong with them.
    projects : bool
        Whether a method of the class makes the kernel's operands differ from query and key; found when it is defined.
    """

    name: ClassVar[str] = ""
    kernel: ClassVar[int] = KERNEL_DOT
    axes: ClassVar[Mapping[str, int]] = {}
    projects: ClassVar[bool] = False
    activation: str = ""
    activation_code: int = 0

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.projects = any(getattr(cls, method) is not getattr(Score, method) for method in _PROJECTIONS)

    def __init__(self, *, softcap: float | None = None) -> None:
        self.parameters: dict[str, Array] = {}
        self.softcap = check_softcap(softcap)

    def default_scale(self, width: int) -> float:
        """Return the factor that is used when ``scale=None``; `width` is Dk."""
        return 1.0

    def check(self, query: Array, key: Array) -> None:
        """Raise a `ShapeError` unless the widths of query and key suit the score and its parameters."""
        if query.shape[-1] != key.shape[-1]:
            raise ShapeError(
                describe("key", f"width {query.shape[-1]}, that of query", f"shape {key.shape}",
                         "project one of them, or use scores.General(w) with w of shape (Dq, Dk).")
            )  # fmt: skip

    def query_weight(self, query_width: int) -> Array | None:
        """Return the matrix that projects the query, or None."""
        return None

    def project_query(self, query: Array, product: Callable[[Array], Array] | None = None) -> Array:
        """Return the kernel's query; `product` stands in for the product with `query_weight`, packed beforehand."""
        w = self.query_weight(query.shape[-1])
        if w is None:
            return query
        return linear.matmul(query, w) if product is None else product(query)

    def project_key(self, key: Array) -> Array:
        """Return the kernel's key."""
        return key

    def project_bias(self, query: Array, columns: int, scale: float) -> Array | None:
        """Return scores that are not of the kernel's form, `(..., Tq, columns)`, to be added, or None."""
        return None

    def project(self, query: Array, key: Array, scale: float) -> Operands:
        """Return the operands of the kernel."""
        bias = self.project_bias(query, key.shape[-2], scale)
        return Operands(self.project_query(query), self.project_key(key), bias, saved=(query, key))

    def project_vjp(self, operands: Operands, d: OperandGradients, scale: float) -> ProjectedGradients:
        """Return the gradients of query, key and parameters from those of the operands."""
        return d.query, d.key, {}

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {array.shape}" for name, array in self.parameters.items())
        return f"{type(self).__name__}({shapes})"


_PROJECTIONS = ("query_weight", "project_query", "project_key", "project_bias", "project", "project_vjp")


def check_softcap(softcap: Any, dtype: "np.dtype[Any] | None" = None) -> float | None:
    """Return the softcap as a float, or None, or raise; it is used in `dtype`, if that is known."""
    if softcap is None:
        return None
    hint = "leave it out for no cap."
    value = check_number("softcap", softcap, hint) if dtype is None else finite_number("softcap", softcap, dtype, hint)
    if not 0 < value < math.inf:
        raise ArgumentError(describe("softcap", "a positive number or None", softcap, hint))
    return value


_DOT = core.KernelScore(KERNEL_DOT)


def kernel_score(score: Score, dtype: "np.dtype[Any]") -> core.KernelScore:
    """Return what the kernels read of a score, its parameters and softcap as they are now, or raise."""
    if score.kernel == KERNEL_DOT and score.softcap is None:
        return _DOT
    vector = score.parameters.get("v")
    cap = check_softcap(score.softcap, dtype) or 0.0
    return core.KernelScore(score.kernel, score.activation_code, None if vector is None else core.unit(vector), cap)


def parameter(name: str, value: object, shape: tuple[int | None, ...], meaning: str) -> Array:
    """Check a score's parameter: float32 or float64, of the given shape (None: any size)."""
    array = float_array(name, value)
    if array.ndim != len(shape) or any(want is not None and want != got for want, got in zip(shape, array.shape)):
        wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"
        raise ShapeError(describe(name, f"shape {wanted}", f"shape {array.shape}", f"{name} is {meaning}."))
    return array
