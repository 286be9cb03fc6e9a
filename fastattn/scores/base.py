"""What every score function is: parameters, and how it reduces to a score that a fused kernel computes.

A kernel computes a form of `core.SCORES`, as ``q . k`` or ``v . act(q + k)``. A score function turns query and key into
the operands of one of these, and the gradients of these operands into gradients of query, key and its own parameters.
That is all that differs from score to score, and it is said once: by a class, whose parameters are arrays, or are
trained where `Score.hold` put others in their place (`fastattn.variants.soft.Soft`).
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np

from fastattn import _reprs, functional, linear
from fastattn._arrays import Array, float_array
from fastattn._kernels import core
from fastattn._numbers import check_number, finite_number
from fastattn.errors import ArgumentError, ShapeError, UnsupportedError, describe

__all__ = [
    "KERNEL_ADDITIVE",
    "KERNEL_DOT",
    "KERNEL_NONE",
    "KERNEL_PAIRWISE",
    "Array",
    "Held",
    "Kept",
    "OperandGradients",
    "Operands",
    "Plain",
    "Score",
    "kernel_functions",
    "kernel_score",
    "normal",
    "parameter",
    "uniform",
]

ByName = dict[str, Array]
KERNEL_DOT = core.SCORES["dot"]
KERNEL_NONE = -1  # of scores that are taken apart before a kernel sees them
KERNEL_ADDITIVE = core.SCORES["additive"]
KERNEL_PAIRWISE = core.SCORES["pairwise"]


class Held(Protocol):
    """A parameter that somebody else keeps, with its packed form: a trained one, or a prepared memory's."""

    @property
    def value(self) -> Array: ...

    def packed(self) -> linear.PackedWeights: ...


class Kept:
    """An array that stays as it is, a copy, packed once."""

    def __init__(self, value: Array) -> None:
        self.value = value.copy()
        self._packed: linear.PackedWeights | None = None

    def packed(self) -> linear.PackedWeights:
        """Return the matrix packed for products."""
        if self._packed is None:
            self._packed = linear.PackedWeights(self.value)
        return self._packed


@dataclass(slots=True)
class Operands:
    """What the kernel is given instead of query and key.

    Attributes
    ----------
    query, key : array
        Of one width; key may have any width when it is not read (`fastattn.scores.Location`).
    bias : array or None
        Added to the score, `(..., Tq, Tk)`.
    asked, compared : array
        The query and the key that they were made of.
    """

    query: Array
    key: Array
    bias: Array | None
    asked: Array
    compared: Array


class OperandGradients(NamedTuple):
    """Gradients of the kernel's operands; bias and vector are None where the call has none."""

    query: Array
    key: Array
    bias: Array | None
    vector: Array | None


class Score:
    """Base class of score functions; as it stands, the dot product.

    A subclass with projections says how they act, `project_query` and `project_key`, and what their gradients are:
    `query_vjp` and `key_vjp` of what is projected, `query_gradients` and `key_gradients` of the parameters that act on
    it, by name. All are functions of what they are given and of the parameters, and change nothing. A parameter that
    acts on both has two gradients, which are added. `matmul` multiplies by a parameter, packed where that pays.

    Attributes
    ----------
    name : str
    summary, paper, examples, formula
        The record of one of ours; a plugin's is a `fastattn.plugin.ScoreRecord`, with the formula as its reference.
    formula_vjp : callable, optional
        ``formula_vjp(parameters, query, key, scale, d_scores)``, the gradients of query, key and parameters, zero where
        d_scores is: of a score with a kernel of its own, which our tests then take through all their cases.
    parameters : dict of str to array
        Gradients come back under the same names.
    softcap : float or None
        If given, scores become ``softcap * tanh(score / softcap)``, before the bias is added.
    axes : dict of str to int
        How many axes parameters have, where it is not left to the score to say what is wrong with them.
    one_dtype : bool
        Whether parameters must be of the type of query and key.
    one_width : bool
        Whether query and key must be of one width. Trained on others, queries pass through a matrix first.
    trained_names : dict of str to str
        The names that parameters have when they are trained, where these are others.
    projects : bool
        Whether a method of the class makes the kernel's operands differ from query and key; found when it is defined.
    """

    name: str = ""
    summary: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ()
    formula: ClassVar[Callable[..., Array] | None] = None
    formula_vjp: ClassVar[Callable[..., tuple[Array, Array, ByName]] | None] = None
    kernel: int = KERNEL_DOT
    axes: ClassVar[Mapping[str, int]] = {}
    one_dtype: ClassVar[bool] = True
    one_width: bool = True
    trained_names: Mapping[str, str] = {}
    projects: ClassVar[bool] = False
    activation: str = ""
    activation_code: int = 0
    held: Mapping[str, Held] | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.projects = any(getattr(cls, method) is not getattr(Score, method) for method in _PROJECTIONS)

    def __init__(self, *, softcap: float | None = None) -> None:
        self.parameters: ByName = {}
        self.softcap = check_softcap(softcap)

    # What a subclass may say.

    @property
    def longest(self) -> int | None:
        """The most keys that it has parameters for, or None: any number."""
        return None

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

    def project_query(self, query: Array) -> Array:
        """Return the kernel's query."""
        return query

    def query_vjp(self, query: Array, d_projected: Array) -> Array:
        """Return the gradient of a query from that of the kernel's."""
        return d_projected

    def query_gradients(self, query: Array, d_projected: Array) -> ByName:
        """Return the gradients of the parameters that act on queries, over all rows."""
        return {}

    def project_key(self, key: Array) -> Array:
        """Return the kernel's key."""
        return key

    def key_vjp(self, key: Array, d_projected: Array) -> Array:
        """Return the gradient of a key from that of the kernel's.

        Rows of d_projected that are zero belong to what was not read, where key may be NaN.
        """
        return d_projected

    def key_gradients(self, key: Array, d_projected: Array) -> ByName:
        """Return the gradients of the parameters that act on keys, over all rows."""
        return {}

    def vector(self) -> Array | None:
        """Return the vector v (D,) of an additive score."""
        return None

    def vector_gradients(self, d_vector: Array) -> ByName:
        """Return the gradients of the parameters that make the vector."""
        return {}

    def location(self, keys: int) -> Array | None:
        """Return a matrix (Dq, Tk) from queries to scores that do not depend on the keys, or None."""
        return None

    def location_gradients(self, query: Array, d_scores: Array) -> ByName:
        """Return the gradient of the parameter that this matrix is a part of."""
        return {}

    def offset(self, query: Array) -> Array | None:
        """Return what is added to all scores of a query, `(..., Tq, 1)`, or None.

        No normalizer of ours sees it, so that it is left out where neither scores nor their sum are asked for.
        """
        return None

    def offset_vjp(self, query: Array, d_offset: Array) -> tuple[Array, ByName]:
        """Return the gradients of a query and of parameters through the offset."""
        raise NotImplementedError

    def whole(self) -> "Score":
        """Return the same score without an offset: functions on scores are given what the kernel computes."""
        return self

    def functions(self, dtype: "np.dtype[Any]", width: int, differentiate: bool) -> core.KernelFunctions | None:
        """Return the functions that the kernel calls, forward and, if wanted, backward, for keys of this width."""
        return None

    def function_gradients(self, sums: list[Array | None]) -> ByName:
        """Return the gradients of the parameters of these functions from what they added up of each."""
        return {}

    def plain(self) -> "Score":
        """Return the score of operands that were made already, whose parameters are as they are now."""
        return Plain(self)

    def plain_gradients(self, d: ByName) -> ByName:
        """Return the gradients of the parameters from those of the parameters of `plain`."""
        return self.vector_gradients(d["v"]) if "v" in d else {}

    # What all have.

    def hold(self, held: Mapping[str, Held]) -> Self:
        """Return the same score of parameters that are kept elsewhere, whose later values it follows."""
        other = copy.copy(self)
        other.held = dict(held)
        other.parameters = {name: one.value for name, one in held.items()}
        return other

    def keep(self, key_width: int) -> "Score":
        """Return the same score of copies of its parameters, which stay as they are and are packed once."""
        return self.hold({name: Kept(array) for name, array in self.parameters.items()}) if self.parameters else self

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        if self.held is not None:
            del state["parameters"]  # views of what is held, which a copy has anew
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self.held is not None:
            self.parameters = {name: one.value for name, one in self.held.items()}

    def matmul(self, name: str, x: Array, bias: Array | None = None) -> Array:
        """Return ``x @ w`` for a parameter w, or ``x @ w + bias``."""
        if self.held is not None:
            return self.held[name].packed().matmul(x, bias=bias)
        product = linear.matmul(x, self.parameters[name])
        return product if bias is None else np.add(product, bias, out=product)

    def matmul_transposed(self, name: str, dy: Array) -> Array:
        """Return ``dy @ w.T`` for a parameter w."""
        if self.held is not None:
            return self.held[name].packed().matmul_transposed(dy)
        return linear.matmul(dy, self.parameters[name].T)

    def project_bias(self, query: Array, columns: int, scale: float) -> Array | None:
        """Return scores that are not of the kernel's form, `(..., Tq, columns or 1)`, to be added, or None."""
        matrix = self.location(columns)
        scores = self.offset(query) if matrix is None else linear.matmul(query, matrix, plain=True)
        if scores is None:
            return None
        scores *= scores.dtype.type(scale)
        if self.softcap:
            scores /= self.softcap
            functional.tanh(scores, out=scores)
            scores *= self.softcap
        return scores

    def project(self, query: Array, key: Array, scale: float) -> Operands:
        """Return the operands of the kernel."""
        bias = self.project_bias(query, key.shape[-2], scale)
        return Operands(self.project_query(query), self.project_key(key), bias, query, key)

    def project_vjp(self, operands: Operands, d: OperandGradients, scale: float) -> tuple[Array, Array, ByName]:
        """Return the gradients of query, of key, and of the parameters by name, from those of the operands."""
        query, key = operands.asked, operands.compared
        parts = [self.query_gradients(query, d.query), self.key_gradients(key, d.key)]
        if d.vector is not None:
            parts.append(self.vector_gradients(d.vector))
        d_query = self.query_vjp(query, d.query)
        if operands.bias is not None and d.bias is not None:
            through, more = self._bias_vjp(query, key.shape[-2], operands.bias, d.bias, scale)
            d_query = through if not d.query.shape[-1] else d_query + through
            parts.append(more)
        parameters: ByName = {}
        for name, gradient in (item for part in parts for item in part.items()):
            parameters[name] = parameters[name] + gradient if name in parameters else gradient
        return d_query, self.key_vjp(key, d.key), parameters

    def _bias_vjp(self, query: Array, keys: int, bias: Array, d_bias: Array, scale: float) -> tuple[Array, ByName]:
        if self.softcap:
            slope = 1 - (bias / self.softcap) ** 2
            d_bias = np.where(d_bias == 0, d_bias, d_bias * slope)  # slope is NaN where a masked query is
        d_scores = d_bias * d_bias.dtype.type(scale)
        matrix = self.location(keys)
        if matrix is not None:
            return linear.matmul(d_scores, matrix.T, plain=True), self.location_gradients(query, d_scores)
        if d_scores.shape[-1] != 1:  # with a bias of the caller's; running sums have one order whatever the padding
            none = np.zeros((*d_scores.shape[:-1], 1), d_scores.dtype)
            d_scores = np.cumsum(np.concatenate([none, d_scores], axis=-1), axis=-1)[..., -1:]
        return self.offset_vjp(query, d_scores)

    def __repr__(self) -> str:
        return _reprs.words(self, _reprs.shapes(self.parameters))


_PROJECTIONS = ("project_query", "project_key", "location", "offset")


class Plain(Score):
    """What a kernel computes of operands that were made already."""

    def __init__(self, score: Score) -> None:
        super().__init__(softcap=score.softcap)
        self.name, self.kernel = score.name, score.kernel
        self.activation, self.activation_code = score.activation, score.activation_code
        vector = score.vector()
        if vector is not None:
            self.parameters["v"] = vector

    def vector(self) -> Array | None:
        return self.parameters.get("v")

    def vector_gradients(self, d_vector: Array) -> ByName:
        return {"v": d_vector}


def normal(*shape: str | int) -> Callable[..., Array]:
    """Return a function that draws a parameter for the conformance kit; a size may be that of "query" or of "key"."""

    def draw(rng: np.random.Generator, query: int, key: int, dtype: Any) -> Array:
        widths = {"query": query, "key": key}
        return rng.normal(size=[widths[n] if isinstance(n, str) else n for n in shape]).astype(dtype)

    return draw


def uniform(rng: np.random.Generator, rows: int, columns: int, dtype: Any, inputs: int | None = None) -> Array:
    """Return a matrix drawn in +-sqrt(3 / inputs), by default its rows, so that outputs vary as inputs do."""
    bound = math.sqrt(3 / max(rows if inputs is None else inputs, 1))
    return rng.uniform(-bound, bound, (rows, columns)).astype(dtype)


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


def kernel_score(
    score: Score, dtype: "np.dtype[Any]", width: int | None = None, differentiate: bool = False
) -> core.KernelScore:
    """Return what the kernels read of a score, its parameters and softcap as they are now, or raise.

    Functions that a kernel calls are for keys of this width; without it there are none, and the score is to be packed.
    """
    if score.kernel == KERNEL_DOT and score.softcap is None:
        return _DOT
    if score.kernel == KERNEL_NONE:
        hint = 'use it in attention, or in a variant of global soft attention, such as kind = "luong" with this score.'
        raise UnsupportedError(describe("score", "one without a function on scores", repr(score), hint))
    vector = score.vector()
    cap = check_softcap(score.softcap, dtype) or 0.0
    functions = None if width is None else score.functions(dtype, width, differentiate)
    vector = None if vector is None else core.unit(vector)
    return core.KernelScore(score.kernel, score.activation_code, vector, cap, functions)


def kernel_functions(found: Any, dtype: "np.dtype[Any]", differentiate: bool) -> core.KernelFunctions:
    """Return what the kernels read of a compiled function of a user's, forward and, if wanted, backward."""
    backward = found.backward if differentiate else 0
    return core.KernelFunctions(dtype, found.forward, backward, found.parameters, found.gradients, found)


def parameter(name: str, value: object, shape: tuple[int | None, ...], meaning: str) -> Array:
    """Check a score's parameter: float32 or float64, of the given shape (None: any size)."""
    array = float_array(name, value)
    if array.ndim != len(shape) or any(want is not None and want != got for want, got in zip(shape, array.shape)):
        wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"
        raise ShapeError(describe(name, f"shape {wanted}", f"shape {array.shape}", f"{name} is {meaning}."))
    return array
