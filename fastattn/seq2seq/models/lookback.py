"""Attention inside a decoder's loop over time, with gradients: one memory, one query a step."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn._kernels import core
from fastattn.attention import Gradients, attention_vjp, prepare
from fastattn.scores.base import Score, kernel_score, resolve

__all__ = ["Lookback"]

Array = NDArray[Any]


class Lookback:
    """What a recurrent decoder attends to in training, step after step and then back.

    The next query depends on this step's context, so the way back needs the query's gradient at every step, but those
    of keys and values only at its end. Hence `backward` computes the first alone, from the weights of the forward
    pass, and `finish` the others in one pass over all steps.

    Parameters
    ----------
    key : array, shape (B, S, D)
        Projected already.
    value : array, shape (B, S, Dv)
    lengths : int array, shape (B,)
        Keys from this number on are not read.
    steps : int
        Number T of steps to come.
    score : str or Score
        ``"dot"``, or an additive score without projections.
    biased : bool
        Whether `forward` is given a bias at every step.

    Attributes
    ----------
    queries : array, shape (B, T, D)
    weights : array, shape (T, B, S)
    d_context : array, shape (B, T, Dv)
        To be filled in before `backward`.

    Notes
    -----
    Work of a step, forward and back: 2 B S (D + Dv) multiply-adds and about 20 B S D operations for an additive
    score; of `finish`, about 3.5 times that of all steps' forward passes. Memory: B T (S + D + Dv) elements.
    """

    def __init__(
        self, key: Array, value: Array, lengths: Array, steps: int, score: str | Score, biased: bool = False
    ) -> None:
        batch, keys, width = key.shape
        dtype = key.dtype
        self.key, self.value, self.lengths = core.unit(key), core.unit(value), lengths
        self.score = resolve(score)
        self._memory = prepare(self.key, self.value, score=self.score, key_lengths=lengths)
        self.queries = np.empty((batch, steps, width), dtype)
        self._bias = np.empty((batch, steps, keys), dtype) if biased else None
        self.weights = np.empty((steps, batch, keys), dtype)
        self.d_context = np.empty((batch, steps, value.shape[-1]), dtype)

    def forward(self, t: int, query: Array, bias: Array | None = None) -> Array:
        """Return the context (B, Dv) of step t for a query (B, D)."""
        self.queries[:, t] = query
        if bias is not None and self._bias is not None:
            self._bias[:, t] = bias
            bias = self._bias[:, t : t + 1]
        output: Any = self._memory.attend(self.queries[:, t : t + 1], bias=bias, return_weights=True)
        self.weights[t] = output.weights[:, 0]
        context: Array = output.context[:, 0]
        return context

    def forward_all(self, queries: Array, bias: Array | None = None) -> Array:
        """Return the contexts (B, T, Dv) of all steps for queries (B, T, D) that depend on no context."""
        self.queries[...] = queries
        if bias is not None and self._bias is not None:
            self._bias[...] = bias
        output: Any = self._memory.attend(self.queries, bias=self._bias, return_weights=True)
        self.weights[...] = output.weights.transpose(1, 0, 2)
        context: Array = output.context
        return context

    def backward(self, t: int) -> tuple[Array, Array]:
        """Return the gradients of the query (B, D) and of the scores (B, S) of step t from ``d_context[:, t]``."""
        batch, _, width = self.queries.shape
        d_query, d_score = np.empty((batch, width), self.key.dtype), np.empty(self.weights.shape[1:], self.key.dtype)
        core.query_gradient(
            self.queries[:, t], core.Keys(self.key, self.value), kernel_score(self.score, self.key.dtype), 1.0,
            self.weights[t], self.d_context[:, t], d_query, d_score,
        )  # fmt: skip
        return d_query, d_score

    def finish(self) -> Gradients:
        """Return the gradients of key, value and the score's vector over all steps."""
        _, backward = attention_vjp(
            self.queries, self.key, self.value, score=self.score, key_lengths=self.lengths, bias=self._bias
        )
        return backward(self.d_context)
