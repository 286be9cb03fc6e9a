"""A function of a user under test, a score or a normalizer that `fastattn.jit` compiles, bound anew for each call."""

import dataclasses
import types
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from fastattn.attention import attention, attention_vjp, prepare
from fastattn.errors import DTypeError, describe
from fastattn.jit import Function
from fastattn.jit.bound import Bound
from fastattn.jit.check import check_derivatives, check_pairwise, check_rows
from fastattn.jit.trace import ARGUMENTS, INPUTS, required
from fastattn.testing.arrays import Array, close, fill
from fastattn.testing.attention_checks import ATTENTION_CHECKS
from fastattn.testing.attention_problem import AttentionProblem, AttentionSubject
from fastattn.testing.certificate import Skipped
from fastattn.testing.normalizer_checks import masks as masks_of_rows
from fastattn.testing.normalizer_checks import nan_stays_in_its_row, weights_agree_with_context
from fastattn.testing.score_checks import masks, wrong_calls

__all__ = ["FunctionSubject", "as_function", "function_checks"]

# What is said of a function of a kind where another is to be checked.
_ADVICE = {
    "mask_mod": "a mask has no gradients: hold mask.evaluate(b, h, i, j) against what it should be.",
    "row_function": "use fastattn.testing.check_normalizer.",
    "score_mod": "use fastattn.testing.check_score.",
    "pairwise_score": "use fastattn.testing.check_score.",
}


def as_function(subject: Any, of_rows: bool, options: Mapping[str, Any] | None) -> Function | None:
    """Return a decorated function, of rows or of scores, or one written as these are; None for anything else.

    A plain function is known by how many arguments it has, as in attention, besides those that have a default or are
    options.

    Raises
    ------
    DTypeError
        If it is of another kind, or bound.
    """
    wanted = ("row_function",) if of_rows else ("score_mod", "pairwise_score")
    kind = None
    if isinstance(subject, Function):
        kind = subject.kind
    elif isinstance(subject, Bound):
        kind = subject.kind
    elif isinstance(subject, types.FunctionType):
        count = sum(name not in (options or {}) for name in required(subject))
        kinds = [kind for kind, inputs in INPUTS.items() if len(inputs) == count]
        kind = next((one for one in wanted if one in kinds), kinds[0] if kinds else None)
    if kind is None:
        return None
    expected = f"a function of fastattn.{' or '.join(wanted)}"
    if kind not in wanted:
        raise DTypeError(describe("subject", expected, f"a {kind}", _ADVICE[kind]))
    if isinstance(subject, Bound):
        hint = "pass the function itself, and its parameters as options=."
        raise DTypeError(describe("subject", expected, f"one that is bound, {subject!r}", hint))
    return subject if isinstance(subject, Function) else Function(subject, kind)


@dataclasses.dataclass
class FunctionProblem(AttentionProblem):
    """A call of attention with a function that is bound to some values; arrays among them may change."""

    function: Any = None
    values: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, Array]:
        """What has a gradient, by name."""
        return {n: x for n, x in self.values.items() if isinstance(x, np.ndarray) and x.dtype.kind == "f"}

    @property
    def bound(self) -> Any:
        """The function with the values as they are now."""
        return self.function(**self.values)

    @property
    def of_rows(self) -> bool:
        """Whether the function is a normalizer."""
        return self.function.kind == "row_function"

    def _options(self) -> dict[str, Any]:
        return {ARGUMENTS[self.function.kind]: self.bound}

    def forward(self) -> Any:
        """Return context, weights and, of softmax, lse."""
        options = {"key_lengths": self.lengths, "mask": self.mask, "return_lse": not self.of_rows}
        return self.call(self.query, self.key, self.value, **options)

    def call(self, *arrays: Array, **options: Any) -> Any:
        """Return context and weights of other arrays."""
        given: Any = {**self._options(), **options}
        return attention(*arrays, return_weights=True, **given)

    def gradients(self, d_context: Array, d_weights: Array) -> dict[str, Array]:
        """Return all gradients by name."""
        given: Any = {"key_lengths": self.lengths, "mask": self.mask, **self._options()}
        _, back = attention_vjp(self.query, self.key, self.value, return_weights=True, **given)
        found = back(d_context, d_weights=d_weights)
        arrays = {"query": found.query, "key": found.key, "value": found.value}
        return {**arrays, **found.score, **found.normalizer}

    def prepare(self) -> Any:
        """Return the memory, prepared; it knows no mask."""
        given: Any = {} if self.of_rows else self._options()
        return prepare(self.key, self.value, key_lengths=self.lengths, **given)

    def attend(self, memory: Any, query: Array) -> Any:
        """Return context and weights of a prepared memory."""
        return memory.attend(query, return_weights=True, **(self._options() if self.of_rows else {}))


class FunctionSubject(AttentionSubject):
    """A function, decorated or not, with one set of values for its parameters.

    Parameters
    ----------
    function : Function
    options : mapping
        Values of parameters; functions among them draw one, as in `fastattn.testing.check_score`.
    reference : callable or None
    """

    def __init__(self, function: Function, options: Mapping[str, Any], reference: Any) -> None:
        self.function, self.options, self.reference = function, dict(options), reference

    def __str__(self) -> str:
        return f"{self.function.kind} {self.function.__name__!r}"

    def problem(self, dtype: Any = np.float32, **sizes: Any) -> FunctionProblem:
        """Return a problem with a mask and lengths."""
        of_dot = super().problem(dtype, **sizes)
        width = of_dot.query.shape[-1]
        rng = np.random.default_rng(sizes.get("seed", 0))
        values = fill(self.options, rng, width, width, np.dtype(dtype))
        given = {field.name: getattr(of_dot, field.name) for field in dataclasses.fields(of_dot)}
        return FunctionProblem(**given, function=self.function, values=values)

    def parts(self, query: int, key: int, dtype: Any, seed: int) -> tuple[str, str]:
        """Return the score that is modified or made into weights, and softmax."""
        return "scaled_dot", "softmax"


def derivatives(s: FunctionSubject) -> None:
    """Derivatives, also those that the author gave, are central differences of the function, float64."""
    p = s.problem(np.float64)
    if s.function.kind == "pairwise_score":
        check_pairwise(p.bound, p.query.shape[-1])
    elif s.function.kind == "row_function":
        check_rows(p.bound, len(p.query), 1, p.query.shape[1], p.key.shape[1])
    else:
        check_derivatives(p.bound, len(p.query), 1, p.query.shape[1], p.key.shape[1])


def formula(s: FunctionSubject) -> str:
    """Weights are the softmax of what the function, or the reference, computes in NumPy, float64."""
    p = s.problem(np.float64)
    if s.function.kind == "pairwise_score":
        scores = p.bound.evaluate(p.query, p.key)
    else:
        plain = p.query @ p.key.swapaxes(1, 2) / np.sqrt(p.query.shape[-1])
        b, i, j = np.ogrid[tuple(map(slice, plain.shape))]
        scores = p.bound.evaluate(plain, b, 0, i, j)
    if s.reference is not None:
        named = s.reference(p.values, p.query, p.key, 1 / np.sqrt(p.query.shape[-1]))
        close(scores, named, 1e-9, "scores, against the reference")
    scores = np.where(p.inside, scores, -np.inf)
    wanted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    wanted /= wanted.sum(axis=-1, keepdims=True)
    return f"to {close(p.forward().weights, wanted, 1e-9, 'weights, against the formula'):.1g}"


def formula_of_rows(s: FunctionSubject) -> str:
    """Weights are what the function, or the reference, makes of rows of scaled dot products in NumPy, float64."""
    p = s.problem(np.float64)
    scores = np.where(p.inside, p.query @ p.key.swapaxes(1, 2) / np.sqrt(p.query.shape[-1]), -np.inf)
    b, i, _ = np.ogrid[tuple(map(slice, scores.shape))]
    wanted = p.bound.evaluate(scores, b, 0, i)
    if s.reference is not None:
        close(wanted, np.asarray(s.reference(scores, **p.values)), 1e-9, "weights, against the reference")
    return f"to {close(p.forward().weights, wanted, 1e-9, 'weights, against the formula'):.1g}"


# Checks that compare calls in which these arguments of the same pair are others.
_MOVED = {"any_batch_and_position": "b", "order_of_sums": "b", "prepared_memory": "bi"}
_MOVED_OF_ROWS = {**_MOVED, "masks": "bij"}


def function_checks(subject: FunctionSubject) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the checks of a function by name."""
    p = subject.problem()
    checks: tuple[Any, ...] = (formula, derivatives, masks, wrong_calls, *ATTENTION_CHECKS)
    if p.of_rows:
        own = (masks_of_rows, weights_agree_with_context, nan_stays_in_its_row)
        checks = (formula_of_rows, derivatives, *own, *ATTENTION_CHECKS)
    moving = _MOVED_OF_ROWS if p.of_rows else _MOVED
    for check in checks:
        moved = p.bound.inputs & set(moving.get(check.__name__, ""))
        name = "formula" if check is formula_of_rows else check.__name__
        yield name, partial(_left_out, moved) if moved else partial(check, subject)


def _left_out(moved: set[str]) -> None:
    raise Skipped(f"it depends on {' and '.join(sorted(moved))}")
