"""Global soft attention: every score over the whole memory, on the fused kernels.

A subclass says how query and memory become the operands of a kernel, ``q . k`` or ``v . act(q + k)``, and back; this
file does the rest. Nothing is carried from step to step.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn import linear, normalizers
from fastattn._kernels import core
from fastattn.attention import AttentionOutput, Gradients, Memory, attention_vjp, prepare
from fastattn.normalizers.softmax import Softmax
from fastattn.scores.base import KERNEL_ADDITIVE, Score, kernel_score
from fastattn.scores.registry import resolve
from fastattn.variants.protocol.backward import check_cotangents
from fastattn.variants.protocol.checks import NormalizerLike, check_whole
from fastattn.variants.protocol.variant import Array, AttentionState, MemoryGradient, Prepared, StepBackward, Variant

__all__ = ["Soft", "SoftPrepared"]


class SoftPrepared(Prepared):
    """A memory whose keys are projected and packed.

    Attributes
    ----------
    key : array, shape (B, S, D)
        The kernel's.
    attended : Memory
    score : Score
        The kernel's, as its parameters were.
    location : PackedWeights or None
        Makes scores of queries alone.
    """

    key: Array
    attended: Memory
    score: Score
    location: linear.PackedWeights | None = None


class Soft(Variant):
    """``weights = softmax_j(scale * score(query, memory_j))``, ``context = sum_j weights_j memory_j``.

    Parameters
    ----------
    query_width, memory_width : int
    dtype : dtype
    normalizer : str, mapping or Normalizer
        What stands in place of softmax: "sparsemax", "entmax15", any other of `fastattn.normalizers.names()`, a mapping
        of its ``name`` and settings, or an object. An alpha of its own is a setting, and not trained.

    Attributes
    ----------
    normalizer : Normalizer

    Notes
    -----
    Work of a query: 2 S (D + Dv) operations, and S D (5 operations and a quarter of a division) more for an additive
    score; a backward step of it as much again, and about 3.5 times that for all queries together in `finish`. Nothing
    of size (Tq, S) is stored unless weights are asked for. With a normalizer other than softmax a backward step costs
    about as much as its share of `finish`, unless it is sparsemax or 1.5-entmax.
    """

    scale: float = 1.0

    def __init__(self, query_width: int, memory_width: int, dtype: Any, normalizer: NormalizerLike = "softmax") -> None:
        super().__init__(query_width, memory_width, dtype)
        self.normalizer = normalizers.read(normalizer)
        plain = isinstance(self.normalizer, Softmax)
        self._normalizer: dict[str, Any] = {} if plain else {"normalizer": self.normalizer}

    # What a subclass may say; this is the plain dot product.

    def _score(self) -> Score:
        """Return the kernel's score, without projections."""
        return resolve("dot")

    def _key(self, memory: Array) -> Array:
        """Return the kernel's keys (B, S, D)."""
        return memory

    def _key_vjp(self, memory: Array, key: Array, d_key: Array) -> Array:
        """Return the gradient of the memory from that of the keys, and add to those of parameters.

        Rows of d_key that are zero belong to what was not read, where memory and key may be NaN.
        """
        return d_key

    def _project(self, query: Array) -> Array:
        """Return the kernel's query (..., D)."""
        return query

    def _project_vjp(self, query: Array, projected: Array, d_projected: Array) -> Array:
        """Return the gradient of a query; parameters are left to `_gather`."""
        return d_projected

    def _gather(self, queries: Array, d_projected: Array) -> None:
        """Add to the gradients of what projects queries, over all steps."""

    def _vector_vjp(self, d_vector: Array) -> None:
        """Add to the gradient of the vector of an additive score."""

    def _location(self, keys: int) -> linear.PackedWeights | None:
        """Return the matrix (Dq, S) from a query to scores that do not depend on the memory, or None."""
        return None

    def _location_vjp(self, queries: Array, d_scores: Array) -> None:
        """Add to the gradient of that matrix."""

    # The protocol.

    def _prepare(self, prepared: Prepared) -> SoftPrepared:
        made = SoftPrepared(prepared.memory, prepared.values, prepared.lengths, prepared.mask)
        made.score = self._score()
        made.key = core.unit(self._key(made.memory))
        made.location = self._location(made.keys)
        mask = None if made.mask is None else made.mask[:, None]
        made.attended = prepare(made.key, core.unit(made.summed), score=made.score, key_lengths=made.lengths, mask=mask)
        return made

    def step(
        self, query: Array, prepared: Prepared, state: AttentionState
    ) -> tuple[Array, Array | None, AttentionState]:
        query = self._query(query, prepared, state)
        output = self._attend(query[:, None], prepared, True)
        return output.context[:, 0], output.weights[:, 0], state

    def forward(
        self,
        queries: Array,
        prepared: Prepared,
        *,
        state: AttentionState | None = None,
        return_weights: bool = False,
    ) -> Array | AttentionOutput:
        output: Array | AttentionOutput = self._attend(
            self._queries(queries, prepared, state), prepared, return_weights
        )
        return output

    def _attend(self, queries: Array, prepared: Any, return_weights: bool) -> Any:
        bias = None if prepared.location is None else prepared.location.matmul(queries)
        projected = self._project(queries)
        return prepared.attended.attend(
            projected, bias=bias, scale=self.scale, return_weights=return_weights, **self._normalizer
        )

    def _attention_vjp(self, prepared: Any, projected: Array, bias: Array | None, weights: bool) -> Any:
        mask = None if prepared.mask is None else prepared.mask[:, None]
        return attention_vjp(
            projected, prepared.key, prepared.summed, score=prepared.score, key_lengths=prepared.lengths, mask=mask,
            bias=bias, scale=self.scale, return_weights=weights, **self._normalizer,
        )  # fmt: skip

    def vjp(
        self,
        queries: Array,
        prepared: Any,
        *,
        state: AttentionState | None = None,
        return_weights: bool = False,
    ) -> tuple[Array | AttentionOutput, Callable[..., tuple[Array, MemoryGradient]]]:
        queries = self._queries(queries, prepared, state)
        check_whole(prepared)
        projected = self._project(queries)
        bias = None if prepared.location is None else prepared.location.matmul(queries)
        output, attention_back = self._attention_vjp(prepared, projected, bias, return_weights)

        def backward(d_context: Array | None = None, d_weights: Array | None = None) -> tuple[Array, MemoryGradient]:
            d_context, d_weights = check_cotangents(output, d_context, d_weights)
            gradients = attention_back(d_context, d_weights=d_weights)
            d_queries = self._query_vjp(prepared, queries, projected, gradients.query, gradients.bias)
            return d_queries, self._finish(prepared, queries, gradients.query, gradients.bias, gradients)

        return output, backward

    def step_vjp(
        self, query: Array, prepared: Any, state: AttentionState
    ) -> tuple[Array, Array | None, AttentionState, StepBackward]:
        query = self._query(query, prepared, state)
        check_whole(prepared)
        projected = self._project(query)
        bias = None if prepared.location is None else prepared.location.matmul(query[:, None])
        output = prepared.attended.attend(
            projected[:, None], bias=bias, scale=self.scale, return_weights=True, **self._normalizer
        )
        context, weights = output.context[:, 0], output.weights[:, 0]

        def backward(
            d_context: Array, d_weights: Array | None, d_state: AttentionState | None
        ) -> tuple[Array, AttentionState | None]:
            d_projected, d_score = self._step_back(prepared, projected, bias, weights, d_context, d_weights)
            prepared.tape.append(
                {"query": query, "projected": projected, "bias": bias, "d_context": d_context, "d_weights": d_weights,
                 "d_projected": d_projected, "d_score": d_score}
            )  # fmt: skip
            return self._query_vjp(prepared, query, projected, d_projected, d_score), d_state

        return context, weights, state, StepBackward(backward, context, weights, state)

    def _step_back(
        self, prepared: Any, projected: Array, bias: Array | None, weights: Array, d_context: Array,
        d_weights: Array | None,
    ) -> tuple[Array, Array]:  # fmt: skip
        """Return the gradients of one projected query (B, D) and of its scores (B, S)."""
        score = prepared.score
        slopes = self.normalizer.slopes(weights)
        if score.softcap is not None or slopes is None:
            _, back = self._attention_vjp(prepared, projected[:, None], bias, True)
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

    def _query_vjp(
        self, prepared: Any, query: Array, projected: Array, d_projected: Array, d_score: Array | None
    ) -> Array:
        if prepared.location is not None and d_score is not None:
            moved: Array = prepared.location.matmul_transposed(d_score)
            return moved
        return self._project_vjp(query, projected, d_projected)

    def finish(self, prepared: Any) -> MemoryGradient:
        tape, _ = self._take(prepared)
        if not tape:
            nothing = np.zeros_like(prepared.memory)
            return nothing if prepared.values is None else (nothing, np.zeros_like(prepared.values))
        joined: dict[str, Any] = {
            name: None if tape[0][name] is None else np.stack([step[name] for step in tape], axis=1)
            for name in ("query", "projected", "d_context", "d_projected", "d_score")
        }
        bias = None if tape[0]["bias"] is None else np.concatenate([step["bias"] for step in tape], axis=1)
        d_weights = None
        if any(step["d_weights"] is not None for step in tape):
            shape = (prepared.batch, prepared.keys)
            given = [step["d_weights"] for step in tape]
            d_weights = np.stack([np.zeros(shape, self.dtype) if d is None else d for d in given], axis=1)
        _, back = self._attention_vjp(prepared, joined["projected"], bias, d_weights is not None)
        gradients = back(joined["d_context"], d_weights=d_weights)
        return self._finish(prepared, joined["query"], joined["d_projected"], joined["d_score"], gradients)

    def _finish(
        self, prepared: Any, queries: Any, d_projected: Any, d_scores: Array | None, gradients: Gradients
    ) -> MemoryGradient:
        if prepared.location is not None and d_scores is not None:
            self._location_vjp(queries, d_scores)
        else:
            self._gather(queries, d_projected)
        if prepared.score.kernel == KERNEL_ADDITIVE:
            self._vector_vjp(gradients.score["v"])
        d_memory = self._key_vjp(prepared.memory, prepared.key, gradients.key)
        found: MemoryGradient = prepared.gradient(d_memory, gradients.value)
        return found
