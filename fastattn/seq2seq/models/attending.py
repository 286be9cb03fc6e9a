"""Encoder-decoders with attention: one mechanism of any name, asked step by step or with all queries at once."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastattn._allocator import in_kept_memory
from fastattn._arrays import Array
from fastattn.attention import AttentionOutput
from fastattn.layers import Linear
from fastattn.seq2seq.models.model import BatchLike, Model
from fastattn.seq2seq.models.weight_losses import weight_losses, weight_losses_vjp
from fastattn.variants import AttentionState, Prepared, StepBackward, Variant

__all__ = ["Attending", "AttentionLoop", "Pass"]


class AttentionLoop:
    """The attention of a decoder over one batch, and its backward pass; either step by step or all steps at once.

    Parameters
    ----------
    mechanism : Variant[Any]
    through : Linear
        What contexts pass through: it acts on the memory once where contexts are sums of its rows, else on contexts.
    states : array, shape (B, S, D)
        The memory.
    lengths : int array, shape (B,)
    seeds : uint64 array, shape (B,), or None
        Of what is random in training, for mechanisms that take them.

    Attributes
    ----------
    d_weights : array, of the shape of `weights`, or None
        To be set before the backward pass where a loss acts on the weights.
    """

    def __init__(
        self, mechanism: Variant[Any], through: Linear, states: Array, lengths: Array, seeds: Array | None
    ) -> None:
        self._mechanism, self._through, self._states = mechanism, through, states
        self._prepared = prepare(mechanism, through, states, lengths)
        random: dict[str, Any] = {"seeds": seeds} if mechanism.takes_seeds and seeds is not None else {}
        self._state: AttentionState = mechanism.start(self._prepared, **random)
        self._steps: list[tuple[Array, Array, StepBackward]] = []
        self._whole: tuple[AttentionOutput, Callable[..., Any]] | None = None
        self._d_state: AttentionState | None = None
        self._d_memory: Any = None
        self.d_weights: Array | None = None

    def step(self, query: Array) -> Array:
        """Return what the context (B, R) of the next query (B, H) is after `through`."""
        context, weights, self._state, backward = self._mechanism.step_vjp(query, self._prepared, self._state)
        assert weights is not None
        self._steps.append((context, weights, backward))
        return context if self._mechanism.sums_values else self._through.forward(context)

    def step_backward(self, t: int, d_context: Array) -> Array:
        """Return the gradient of query t from that of what `step` returned, from the last step to the first."""
        context, _, backward = self._steps[t]
        if not self._mechanism.sums_values:
            d_context = self._through.backward(context)(d_context)
        d_weights = None if self.d_weights is None else self.d_weights[:, t]
        d_query, self._d_state = backward(d_context, d_weights, self._d_state)
        return d_query

    def forward(self, queries: Array) -> Array:
        """Return what `step` does, (B, T, R), for queries (B, T, H) of which none depends on a context."""
        output, backward = self._mechanism.vjp(queries, self._prepared, state=self._state, return_weights=True)
        assert isinstance(output, AttentionOutput)
        self._whole = output, backward
        return output.context if self._mechanism.sums_values else self._through.forward(output.context)

    def backward(self, d_contexts: Array) -> Array:
        """Return the gradients of all queries from those of what `forward` returned."""
        assert self._whole is not None
        output, backward = self._whole
        if not self._mechanism.sums_values:
            d_contexts = self._through.backward(output.context)(d_contexts)
        d_weights = self.d_weights
        if d_weights is not None and d_weights.ndim == 4:
            d_weights = d_weights.transpose(0, 2, 1, 3)
        d_queries: Array
        d_queries, self._d_memory = backward(d_contexts, d_weights)
        return d_queries

    def finish(self) -> Array:
        """Return the gradient of the memory, after the backward pass of all steps."""
        gradient = self._mechanism.finish(self._prepared) if self._whole is None else self._d_memory
        if not self._mechanism.sums_values:
            return np.asarray(gradient)
        d_states, d_values = gradient
        found: Array = d_states + self._through.backward(self._states)(d_values)
        return found

    def weights(self) -> Array:
        """Return the weights of all steps, (B, T, S) or (B, T, H, S)."""
        if self._whole is None:
            return np.stack([weights for _, weights, _ in self._steps], axis=1)
        weights: Any = self._whole[0].weights
        return weights if weights.ndim == 3 else np.ascontiguousarray(weights.transpose(0, 2, 1, 3))


def prepare(mechanism: Variant[Any], through: Linear, states: Array, lengths: Array) -> Prepared:
    """Return the memory, with ``through(states)`` in place of contexts where these are sums of its rows."""
    return mechanism.prepare(states, lengths, values=through.forward(states) if mechanism.sums_values else None)


class Pass(NamedTuple):
    """A batch through a model: features (B, T, F), the function from their gradient, and the attention."""

    features: Array
    backward: Callable[[Array], None]
    attention: AttentionLoop


class Attending(Model):
    """Base class of encoder-decoders whose decoder has one attention.

    Attributes
    ----------
    mechanism : Variant[Any]
    from_context : Linear
        What acts on contexts: see `AttentionLoop`.
    """

    mechanism: Variant[Any]
    from_context: Linear

    @abstractmethod
    def run(self, batch: BatchLike, inputs: Array, seeds: Array | None) -> Pass:
        """Compute features from decoder inputs (B, T), with dropout by seeds (B,) or without."""

    def remember(self, states: Array, lengths: Array) -> tuple[Prepared, AttentionState]:
        """Return states (B, S, D) of an encoder ready for a search, and what attention has before its first step."""
        memory = prepare(self.mechanism, self.from_context, states, np.asarray(lengths))
        return memory, self.mechanism.start_search(memory)

    def attend(
        self, query: Array, memory: Prepared, state: AttentionState
    ) -> tuple[Array, Array | None, AttentionState]:
        """Return what the context (B, R) is after `from_context`, the weights and the attention's next state."""
        context, weights, state = self.mechanism.step(query, memory, state)
        return context if self.mechanism.sums_values else self.from_context.forward(context), weights, state

    def features(self, batch: BatchLike, inputs: Array, *, weights: bool | str = False) -> tuple[Array, Array | None]:
        """Return features (B, T, F), and weights (B, T, S) or (B, T, H, S), or None."""
        x, _, attention = self.run(batch, inputs, None)
        return x, attention.weights() if weights else None

    def features_vjp(self, batch: BatchLike, inputs: Array, seeds: Array) -> tuple[Array, Callable[[Array], None]]:
        """Return features with dropout, and the function from their gradient, which adds to parameters'."""
        return self.run(batch, inputs, seeds)[:2]

    @in_kept_memory
    def loss_vjp(
        self, batch: BatchLike, *, seeds: Array, sampling: float = 0.0
    ) -> tuple[float, int, Callable[[float], None]]:
        """As `Model.loss_vjp`, with the losses of weights that the configuration asks for."""
        if not weight_losses(self.config):
            return super().loss_vjp(batch, seeds=seeds, sampling=sampling)
        batch, inputs, seeds = self.training_inputs(batch, seeds, sampling)
        x, features_backward, attention = self.run(batch, inputs, seeds)
        loss, count, plain_backward = self.loss_of_features(batch, x, features_backward)
        more, weights_backward = weight_losses_vjp(self.config, batch, attention.weights())

        @in_kept_memory
        def backward(scale: float = 1.0) -> None:
            attention.d_weights = weights_backward(scale)
            plain_backward(scale)

        return loss + more, count, backward
