"""Global soft attention: a score function over the whole memory, on the fused kernels.

What the score is, is the score's own: `fastattn.scores`. Its parameters are trained here. Nothing is carried from step
to step.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastattn import linear, normalizers
from fastattn._arrays import Array
from fastattn._kernels import core
from fastattn._numbers import finite_number
from fastattn.attention import Gradients, Memory, attention_vjp, prepare
from fastattn.errors import ArgumentError, describe
from fastattn.layers import Parameter
from fastattn.normalizers.softmax import Softmax
from fastattn.scores import resolve
from fastattn.scores.base import KERNEL_NONE, KERNEL_PAIRWISE, Score, kernel_score, uniform
from fastattn.scores.bridged import Bridged
from fastattn.scores.modified import Modified
from fastattn.variants.protocol.checks import NormalizerLike, check_whole
from fastattn.variants.protocol.prepared import check_prepared
from fastattn.variants.protocol.state import PositionState
from fastattn.variants.protocol.tape import Tape
from fastattn.variants.protocol.variant import AttentionState, Backward, MemoryGradient, Prepared, StepBackward, Variant

if TYPE_CHECKING:
    from fastattn.jit import PairwiseFunction

__all__ = ["Soft", "SoftPrepared", "SoftStep"]


@dataclass(slots=True)
class SoftStep:
    """What a backward step leaves for `Soft.finish`: what went in, and gradients (B, ...)."""

    query: Array
    projected: Array
    bias: Array | None
    d_context: Array
    d_weights: Array | None
    d_projected: Array
    d_score: Array
    first: int = 0  # the position of the query
    d_gate: Array | None = None  # of a variant with a gate


class SoftPrepared(Prepared):
    """A memory whose keys are projected and packed.

    Attributes
    ----------
    key : array, shape (B, S, D)
        The kernel's.
    attended : Memory
    score : Score
        The kernel's.
    location : PackedWeights or None
        Makes scores of queries alone.
    """

    key: Array
    attended: Memory
    score: Score
    tape: Tape[SoftStep]
    location: linear.PackedWeights | None = None


class Soft(Variant[SoftPrepared]):
    """``weights = softmax_j(scale * score(query, memory_j))``, ``context = sum_j weights_j memory_j``.

    Parameters
    ----------
    score : Score, or a pairwise function
        Its parameters are where training begins. One whose query and key must be of one width is given queries of
        another through a matrix, the parameter ``bridge``. A function on scores goes with it as a
        `fastattn.scores.Modified`, whose i is the number of the step.
    query_width, memory_width : int
    scale : float, optional
        Of the scores; by default the score's own.
    normalizer : str, mapping or Normalizer
        What stands in place of softmax: "sparsemax", "entmax15", any other of `fastattn.normalizers.names()`, a mapping
        of its ``name`` and settings, or an object. An alpha of its own is a setting, and not trained.
    rng : numpy.random.Generator, optional
        For that matrix, which starts uniform in +-sqrt(3 / Dm).
    dtype : dtype

    Attributes
    ----------
    score : Score
        Follows the values of the parameters.
    trained : dict of str to Parameter
        By the names that they have in the score.
    normalizer : Normalizer

    Notes
    -----
    Work of a query: 2 S (D + Dv) operations, and S D (5 operations and a quarter of a division) more for an additive
    score; a backward step of it as much again, and about 3.5 times that for all queries together in `finish`. Nothing
    of size (Tq, S) is stored unless weights are asked for. With a normalizer other than softmax a backward step costs
    about as much as its share of `finish`, unless it is sparsemax or 1.5-entmax.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> variant = fastattn.create("dot", query_width=4, memory_width=4)
    >>> prepared = variant.prepare(np.ones((2, 5, 4), np.float32), lengths=np.array([5, 3]))
    >>> variant.forward(np.ones((2, 3, 4), np.float32), prepared).shape
    (2, 3, 4)
    """

    def __init__(
        self,
        score: "Score | PairwiseFunction",
        *,
        query_width: int,
        memory_width: int,
        scale: float | None = None,
        normalizer: NormalizerLike = "softmax",
        rng: np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(query_width, memory_width, dtype)
        score = resolve(score)
        if score.one_width and query_width != memory_width:
            if rng is None:
                hint = "pass rng=np.random.default_rng(0): a matrix takes queries to the memory's width."
                raise ArgumentError(describe("memory_width", f"{query_width}, that of queries", memory_width, hint))
            score = Bridged(score, uniform(rng, query_width, memory_width, dtype, memory_width))
        score.check(*(np.zeros((1, width), self.dtype) for width in (query_width, memory_width)))
        given = score.default_scale(memory_width) if scale is None else scale
        self.scale = finite_number("scale", given, self.dtype, "leave it out.")
        self.trained = {name: Parameter(value) for name, value in score.parameters.items()}
        self.score: Score = score.hold(self.trained) if self.trained else score
        self.name = type(self).name or score.name
        self.positioned = isinstance(score.plain(), Modified)  # a function may ask where a query is
        if self.positioned:
            self.states = (PositionState,)
        self.normalizer = normalizers.read(normalizer)
        # What calls of attention are given where it is not their default: what is not given costs a step no check.
        self._given: dict[str, Any] = {} if isinstance(self.normalizer, Softmax) else {"normalizer": self.normalizer}
        if self.scale != 1:
            self._given["scale"] = self.scale

    @property
    def longest(self) -> int | None:
        return self.score.longest

    def _named(self) -> Iterator[tuple[str, Parameter]]:
        names = self.score.trained_names
        yield from ((names.get(name, name), parameter) for name, parameter in self.trained.items())
        yield from super()._named()

    def accumulate(self, gradients: dict[str, Array]) -> None:
        """Add gradients that the score returned to those of its parameters."""
        for name, gradient in gradients.items():
            self.trained[name].accumulate(gradient)

    def start(self, prepared: SoftPrepared) -> AttentionState:
        check_prepared(prepared, self)
        return PositionState(0, shape=prepared.shape) if self.positioned else AttentionState(shape=prepared.shape)

    def _first(self, state: Any) -> int:
        return state.position if self.positioned and state is not None else 0

    def _after(self, state: AttentionState, first: int) -> AttentionState:
        return PositionState(first + 1, shape=state.shape) if self.positioned else state

    def extend(self, prepared: Prepared) -> SoftPrepared:
        made = SoftPrepared(prepared.memory, prepared.values, prepared.lengths, prepared.mask)
        made.score = self.score.plain()
        made.key = core.unit(self.score.project_key(made.memory))
        matrix = self.score.location(made.keys)
        if matrix is not None:
            made.location = linear.PlainWeights(matrix)
        mask = None if made.mask is None else made.mask[:, None]
        made.attended = prepare(made.key, core.unit(made.summed), score=made.score, key_lengths=made.lengths, mask=mask)
        return made

    def step(
        self, query: Array, prepared: SoftPrepared, state: AttentionState
    ) -> tuple[Array, Array | None, AttentionState]:
        query = self.check_query(query, prepared, state)
        context, weights = self.attend(query[:, None], prepared, state, True)
        after = self._after(state, self._first(state))
        return context[:, 0], None if weights is None else weights[:, 0], after

    def attend(
        self, queries: Array, prepared: SoftPrepared, state: Any, return_weights: bool
    ) -> tuple[Array, Array | None]:
        bias, projected = self._bias(prepared, queries), self.score.project_query(queries)
        found: Any = prepared.attended.attend(
            projected, bias=bias, first=self._first(state), return_weights=return_weights, **self._given
        )
        return found[:2] if return_weights else (found, None)

    def _bias(self, prepared: SoftPrepared, queries: Array) -> Array | None:
        """Return scores that do not depend on the memory, or None."""
        if prepared.location is None:
            return None
        bias = prepared.location.matmul(queries)
        return bias if self.scale == 1 else bias * self.dtype.type(self.scale)

    def _attention_vjp(
        self, prepared: SoftPrepared, projected: Array, bias: Array | None, first: int, weights: bool
    ) -> Any:
        mask = None if prepared.mask is None else prepared.mask[:, None]
        score = prepared.score.placed(first) if isinstance(prepared.score, Modified) else prepared.score
        return attention_vjp(
            projected, prepared.key, prepared.summed, score=score, key_lengths=prepared.lengths, mask=mask,
            bias=bias, return_weights=weights, **self._given,
        )  # fmt: skip

    def attend_vjp(
        self, queries: Array, prepared: SoftPrepared, state: Any, return_weights: bool
    ) -> tuple[Array, Array | None, Backward]:
        projected = self.score.project_query(queries)
        bias = self._bias(prepared, queries)
        found, attention_back = self._attention_vjp(prepared, projected, bias, self._first(state), return_weights)

        def backward(d_context: Array, d_weights: Array | None) -> tuple[Array, MemoryGradient]:
            gradients = attention_back(d_context, d_weights=d_weights)
            d_queries = self._query_vjp(prepared, queries, gradients.query, gradients.bias)
            return d_queries, self._finish(prepared, queries, gradients.query, gradients.bias, gradients)

        return *(found[:2] if return_weights else (found, None)), backward

    def step_vjp(
        self, query: Array, prepared: SoftPrepared, state: AttentionState
    ) -> tuple[Array, Array | None, AttentionState, StepBackward]:
        query = self.check_query(query, prepared, state)
        check_whole(prepared)
        prepared.count()
        projected = self.score.project_query(query)
        bias = self._bias(prepared, query[:, None])
        first = self._first(state)
        output: Any = prepared.attended.attend(
            projected[:, None], bias=bias, first=first, return_weights=True, **self._given
        )
        context, weights = output.context[:, 0], output.weights[:, 0]

        def backward(
            d_context: Array, d_weights: Array | None, d_state: AttentionState | None
        ) -> tuple[Array, AttentionState | None]:
            d_projected, d_score = self._step_back(prepared, projected, bias, first, weights, d_context, d_weights)
            own = None if bias is None else bias[:, 0]
            prepared.tape.append(SoftStep(query, projected, own, d_context, d_weights, d_projected, d_score, first))
            return self._query_vjp(prepared, query, d_projected, d_score), d_state

        after = self._after(state, first)
        return context, weights, after, StepBackward(backward, context, weights, after)

    def _step_back(
        self, prepared: SoftPrepared, projected: Array, bias: Array | None, first: int, weights: Array,
        d_context: Array, d_weights: Array | None,
    ) -> tuple[Array, Array]:  # fmt: skip
        """Return the gradients of one projected query (B, D) and of its scores (B, S)."""
        score = prepared.score
        slopes = self.normalizer.slopes(weights)
        if score.softcap is not None or slopes is None or score.kernel in (KERNEL_PAIRWISE, KERNEL_NONE):
            _, back = self._attention_vjp(prepared, projected[:, None], bias, first, True)
            gradients = back(d_context[:, None], d_weights=None if d_weights is None else d_weights[:, None])
            none = np.empty((len(projected), 0), self.dtype)
            return gradients.query[:, 0], none if gradients.bias is None else gradients.bias[:, 0]
        if slopes is not weights:
            # d_score = s (d_p - sum s d_p / sum s) is softmax's with s / sum s for weights, times sum s. Running sums,
            # unlike NumPy's sum, have one order whatever the padding.
            total = np.cumsum(slopes, axis=-1)[:, -1:] if slopes.shape[-1] else np.zeros((len(slopes), 1), self.dtype)
            weights = slopes / np.where(total == 0, 1, total)
            d_context, d_weights = d_context * total, None if d_weights is None else d_weights * total
        d_projected, d_score = np.empty(projected.shape, self.dtype), np.empty(weights.shape, self.dtype)
        core.query_backward(
            core.unit(projected), core.Keys(prepared.key, core.unit(prepared.summed)), kernel_score(score, self.dtype),
            self.scale, np.ascontiguousarray(weights), core.unit(d_context), d_projected, d_score,
            None if d_weights is None else np.ascontiguousarray(d_weights),
        )  # fmt: skip
        return d_projected, d_score

    def _query_vjp(self, prepared: SoftPrepared, query: Array, d_projected: Array, d_score: Array | None) -> Array:
        if prepared.location is not None and d_score is not None:
            return prepared.location.matmul_transposed(d_score * self.dtype.type(self.scale))
        return self.score.query_vjp(query, d_projected)

    def finish(self, prepared: SoftPrepared) -> MemoryGradient:
        tape: Tape[SoftStep] = self.take(prepared)[0]
        if not tape:
            return prepared.gradient(np.zeros_like(prepared.memory), np.zeros_like(prepared.summed))
        steps = tape.joined()
        whole: Any = None
        for part, first in tape.runs() if self.positioned else [(slice(None), 0)]:
            bias, d_context, d_weights = (
                None if x is None else x[:, part] for x in (steps.bias, steps.d_context, steps.d_weights)
            )
            _, back = self._attention_vjp(prepared, steps.projected[:, part], bias, first, d_weights is not None)
            gradients = back(d_context, d_weights=d_weights)
            whole = gradients if whole is None else _added(whole, gradients)
        return self._finish(prepared, steps.query, steps.d_projected, steps.d_score, whole)

    def _finish(
        self, prepared: SoftPrepared, queries: Array, d_projected: Array, d_scores: Array | None, gradients: Gradients
    ) -> MemoryGradient:
        if prepared.location is not None and d_scores is not None:
            self.accumulate(self.score.location_gradients(queries, d_scores * self.dtype.type(self.scale)))
        else:
            self.accumulate(self.score.query_gradients(queries, d_projected))
        self.accumulate(self.score.plain_gradients(gradients.score))
        self.accumulate(self.score.key_gradients(prepared.memory, gradients.key))
        return prepared.gradient(self.score.key_vjp(prepared.memory, gradients.key), gradients.value)

    def __repr__(self) -> str:
        made = super().__repr__()
        score = type(getattr(self.score, "inner", self.score))
        return made.replace("Soft", score.__name__, 1) if type(self) is Soft else made


def _added(one: Gradients, other: Gradients) -> Gradients:
    """Return the sums of gradients of keys, values and the score's parameters."""
    score = {name: gradient + other.score[name] for name, gradient in one.score.items()}
    return one._replace(key=one.key + other.key, value=one.value + other.value, score=score)
