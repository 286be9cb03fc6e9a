"""The base class of attention mechanisms."""

import functools
import os
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar, cast

import numpy as np

from fastattn import _reprs
from fastattn._allocator import in_kept_memory
from fastattn._arrays import Array, as_array, float_array, float_dtype, name_of
from fastattn._numbers import check_flag
from fastattn.attention import AttentionOutput
from fastattn.errors import DTypeError, ShapeError, describe
from fastattn.layers.parameter import Layer
from fastattn.precision import captured, float32_precision
from fastattn.variants.protocol.backward import StepBackward, check_cotangents
from fastattn.variants.protocol.checks import check_lengths, check_size
from fastattn.variants.protocol.prepared import Prepared, check_prepared, check_whole
from fastattn.variants.protocol.state import AttentionState, check_state
from fastattn.variants.protocol.tape import Tape

__all__ = ["Array", "AttentionState", "Backward", "MemoryGradient", "Prepared", "StepBackward", "Variant"]

MemoryGradient = Array | tuple[Array, Array]
Backward = Callable[[Array, Array | None], tuple[Array, MemoryGradient]]
P = TypeVar("P", bound=Prepared)


class Variant(Layer, Generic[P]):
    """Base class of attention mechanisms; see the protocol in `fastattn.variants.protocol`.

    ``Variant[P]`` for the class P of its prepared memories, a `Prepared` with what the variant adds to one.

    Attributes
    ----------
    name : str
        As in `fastattn.create`.
    query_width, memory_width : int
        Widths Dq and Dm.
    dtype : dtype
        float32 or float64, of everything that goes in and comes out.
    sums_values : bool
        Whether a context is the weighted sum of the memory's rows, or of the values in their place; else these pass
        through projections of the variant's own.
    gated : bool
        Whether that sum is multiplied by a number that the query makes.
    loops : bool
        Whether it can be that of a decoder, which goes back step by step over a memory that stays as it is.
    takes_seeds : bool
        Whether `start` takes ``seeds=``, one a sample, of what is random in training.
    states : tuple of classes
        Those of its states; `AttentionState` itself if it carries nothing.
    identity : bytes
        Drawn when it is made: by it a prepared memory knows its variant, and copies of both know each other.
    """

    _store_halves: ClassVar[tuple[str, ...]] = ("prepare", "step", "forward", "step_vjp", "vjp")

    name: str = ""
    sums_values: ClassVar[bool] = True
    gated: ClassVar[bool] = False
    loops: ClassVar[bool] = True
    takes_seeds: ClassVar[bool] = False
    states: tuple[type[AttentionState], ...] = (AttentionState,)
    query_width: int
    memory_width: int
    dtype: Any

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "finish" in vars(cls):
            setattr(cls, "finish", _in_its_precision(cls.finish))  # noqa: B010, of a class that is not known yet

    @property
    def longest(self) -> int | None:
        """The most positions that a memory may have, or None: any number."""
        return None

    def __init__(self, query_width: int, memory_width: int, dtype: Any) -> None:
        self.query_width = check_size("query_width", query_width, 0)
        self.memory_width = check_size("memory_width", memory_width, 0)
        self.dtype = float_dtype(dtype)
        self.identity = os.urandom(8)

    def prepare(
        self, memory: Array, lengths: Array | None = None, mask: Array | None = None, *, values: Array | None = None
    ) -> P:
        """Return the memory with all that can be computed before there is a query.

        Parameters
        ----------
        memory : array, shape (B, S, Dm)
            Not to be changed while the result is in use.
        lengths : int array, shape (B,), optional
            Positions from there on are padding.
        mask : bool array, shape (B, S), optional
            True = may be attended to.
        values : array, shape (B, S, Dv), optional
            What contexts are sums of, in place of the memory.

        Returns
        -------
        Prepared
        """
        memory = self._float("memory", memory, ("B", "S", self.memory_width))
        batch, keys = memory.shape[:2]
        if values is not None:
            values = self._float("values", values, (batch, keys, "Dv"))
        known = np.full(batch, keys, np.int64) if lengths is None else check_lengths(lengths, batch, keys)
        if mask is not None:
            mask = as_array("mask", mask)
            if mask.dtype != bool or mask.shape != (batch, keys):
                expected, got = f"bool of shape ({batch}, {keys})", f"{mask.dtype} of shape {mask.shape}"
                error = DTypeError if mask.dtype != bool else ShapeError
                raise error(describe("mask", expected, got, "True = may be attended to."))
        return self.extend(Prepared(memory, values, known, mask)).close(self.identity)

    def extend(self, prepared: Prepared) -> P:
        """Return a checked memory with what this variant needs of it."""
        return cast(P, prepared)

    def start(self, prepared: P) -> AttentionState:
        """Return the state before the first step."""
        check_prepared(prepared, self)
        return AttentionState(shape=prepared.shape)

    def start_search(self, prepared: P) -> AttentionState:
        """Return the state before the first step of a search, where that differs from training."""
        return self.start(prepared)

    def step(self, query: Array, prepared: P, state: AttentionState) -> tuple[Array, Array | None, AttentionState]:
        """Attend with one query a sample.

        Parameters
        ----------
        query : array, shape (B, Dq)
        prepared : Prepared
        state : AttentionState

        Returns
        -------
        context : array, shape (B, Dv)
        weights : array, shape (B, S), or (B, H, S) with heads, or None
        state : AttentionState
            For the next step; the one that was given stays as it is.
        """
        raise NotImplementedError

    def forward(
        self,
        queries: Array,
        prepared: P,
        *,
        state: AttentionState | None = None,
        return_weights: bool = False,
    ) -> Array | AttentionOutput:
        """Attend with all queries at once: what `step` gives for one after the other.

        Parameters
        ----------
        queries : array, shape (B, Tq, Dq)
        prepared : Prepared
        state : AttentionState, optional
            Before the first query.
        return_weights : bool
            Return an `AttentionOutput` whose weights are (B, Tq, S), or (B, H, Tq, S).

        Returns
        -------
        array, shape (B, Tq, Dv), or AttentionOutput
        """
        queries = self.check_queries(queries, prepared, state)
        context, weights = self.attend(queries, prepared, state, check_flag("return_weights", return_weights))
        return context if weights is None else AttentionOutput(context, weights)

    def attend(
        self, queries: Array, prepared: P, state: Any, return_weights: bool
    ) -> tuple[Array, Array | None]:  # fmt: skip
        """Return contexts, and weights or None: what `forward` does, with what it has checked; a loop over steps."""
        state, found = self.start(prepared) if state is None else state, []
        for t in range(queries.shape[1]):
            *one, state = self.step(queries[:, t], prepared, state)
            found.append(one)
        return self._joined(prepared, found, return_weights)

    def step_vjp(
        self, query: Array, prepared: P, state: AttentionState
    ) -> tuple[Array, Array | None, AttentionState, StepBackward]:
        """Return what `step` does, and the function from gradients of the results to those of query and state.

        Parameters
        ----------
        query, prepared, state
            As for `step`.

        Returns
        -------
        context, weights, state
            As of `step`.
        backward : StepBackward
            ``backward(d_context, d_weights=None, d_state=None) -> (d_query, d_state)``, to be called once, in reverse
            order of the steps. A d_state is a state of gradients, or None for zeros. The query, and what the step
            returned, are not to be changed before.
        """
        raise NotImplementedError

    def finish(self, prepared: P) -> MemoryGradient:
        """Return the gradient of the memory over all backward steps so far, and add to those of the parameters.

        Returns
        -------
        array, shape (B, S, Dm), or a pair of arrays
            With `values`, a pair: of the memory, and of the values. The tape is empty afterwards.
        """
        raise NotImplementedError

    @in_kept_memory
    def vjp(
        self,
        queries: Array,
        prepared: P,
        *,
        state: AttentionState | None = None,
        return_weights: bool = False,
    ) -> tuple[Array | AttentionOutput, Callable[..., tuple[Array, MemoryGradient]]]:
        """Return what `forward` does, and the function from its gradients to those of queries and memory.

        Returns
        -------
        output : array or AttentionOutput
        backward : callable
            ``backward(d_context=None, d_weights=None) -> (d_queries, d_memory)``; `d_weights` needs
            ``return_weights=True``. To be called once.
        """
        queries = self.check_queries(queries, prepared, state)
        check_whole(prepared)
        return_weights = check_flag("return_weights", return_weights)
        context, weights, back = self.attend_vjp(queries, prepared, state, return_weights)
        output = context if weights is None else AttentionOutput(context, weights)

        @captured
        @in_kept_memory
        def backward(d_context: Array | None = None, d_weights: Array | None = None) -> tuple[Array, MemoryGradient]:
            return back(*check_cotangents(output, d_context, d_weights))

        return output, backward

    def attend_vjp(
        self, queries: Array, prepared: P, state: Any, return_weights: bool
    ) -> tuple[Array, Array | None, Backward]:
        """Return what `attend` does, and the backward pass, which is given what was checked; a loop over steps."""
        prepared = prepared.fresh()
        state, found, backs = self.start(prepared) if state is None else state, [], []
        for t in range(queries.shape[1]):
            *one, state, back = self.step_vjp(queries[:, t], prepared, state)
            found.append(one)
            backs.append(back)

        def backward(d_context: Array, d_weights: Array | None) -> tuple[Array, MemoryGradient]:
            d_queries, d_state = np.empty_like(queries), None
            for t in reversed(range(len(backs))):
                given = None if d_weights is None else d_weights[..., t, :]
                d_queries[:, t], d_state = backs[t](d_context[:, t], given, d_state)
            return d_queries, self.finish(prepared)

        return *self._joined(prepared, found, return_weights), backward

    def _joined(self, prepared: P, found: list[Any], return_weights: bool) -> tuple[Array, Array | None]:
        """Return contexts and weights, or None, of steps, one after the other."""
        if not found:
            context = np.empty((prepared.batch, 0, prepared.summed.shape[-1]), self.dtype)
            return context, np.empty((prepared.batch, 0, prepared.keys), self.dtype) if return_weights else None
        contexts, weights = zip(*found)
        return np.stack(contexts, axis=1), np.stack(weights, axis=-2) if return_weights else None

    def check_queries(self, queries: Array, prepared: P, state: AttentionState | None) -> Array:
        """Return queries (B, Tq, Dq) as an array, or raise if these, the memory or the state are wrong."""
        check_prepared(prepared, self)
        if state is not None:
            check_state(state, self, prepared)
        return self._float("queries", queries, (prepared.batch, "Tq", self.query_width))

    def check_query(self, query: Array, prepared: P, state: AttentionState) -> Array:
        """Return a query (B, Dq) as an array, or raise if it, the memory or the state is wrong."""
        check_prepared(prepared, self)
        check_state(state, self, prepared)
        shape = (prepared.shape[0], self.query_width)
        if type(query) is np.ndarray and query.shape == shape and query.dtype == self.dtype:
            return query  # as nearly all are, at a quarter of the time of the checks one by one
        return self._float("query", query, shape)

    def take(self, prepared: P) -> tuple[Tape[Any], dict[str, Array]]:
        """Return what backward steps left on a memory, for `finish`, or raise if it is not of this variant."""
        check_prepared(prepared, self)
        check_whole(prepared)
        return prepared.take()

    def _float(self, name: str, value: object, shape: tuple[int | str, ...]) -> Array:
        array = float_array(name, value)
        if array.ndim != len(shape) or any(type(n) is int and n != got for n, got in zip(shape, array.shape)):
            expected = f"shape ({', '.join(map(str, shape))})"
            hint = f"{self.name or type(self).__name__} has query_width {self.query_width} and memory_width "
            raise ShapeError(describe(name, expected, f"shape {array.shape}", f"{hint}{self.memory_width}."))
        if array.dtype != self.dtype:
            made = f"make the variant with dtype={name_of(array.dtype)}"
            hint = f"pass np.asarray({name}, {name_of(self.dtype)}), or {made}."
            raise DTypeError(describe(name, f"{self.dtype}, the variant's dtype", array.dtype, hint))
        return array

    def __repr__(self) -> str:
        shapes = _reprs.shapes(self.parameters()) or str(self.dtype)
        return _reprs.words(self, f"{self.query_width} -> {self.memory_width}", shapes)


def _in_its_precision(finish: Callable[[Any, Any], MemoryGradient]) -> Callable[[Any, Any], MemoryGradient]:
    """Return a `Variant.finish` that computes in the precision in which the memory was prepared."""

    @functools.wraps(finish)
    def run(self: Any, prepared: Any) -> MemoryGradient:
        check_prepared(prepared, self)
        with float32_precision(prepared.precision):
            return finish(self, prepared)

    return run
