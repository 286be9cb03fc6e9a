"""Multi-head attention with its projections (Vaswani et al. 2017, section 3.2.2): of a sequence to itself, or another.

All heads are projected by one matrix product, and the kernels read the heads where that product left them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn._arrays import Array
from fastattn.attention import Memory, attention_vjp, prepare
from fastattn.layers import Layer, Linear
from fastattn.positions import Positions, attend, attend_vjp
from fastattn.variants.multihead import heads_of

__all__ = ["CrossAttention", "SelfAttention"]

_NONE = Positions()


class SelfAttention(Layer):
    """``[heads: attention(x W_q, x W_k, x W_v)] W_o``, the three matrices side by side in `project`.

    Parameters
    ----------
    width, heads : int
        Size D of x's last axis, and number H of heads of D / H features.
    bias : bool
        Whether the projections have biases; in the paper they have none.
    rng, dtype
        As for `Linear`.
    """

    def __init__(self, width: int, heads: int, *, bias: bool, rng: np.random.Generator, dtype: Any) -> None:
        self.width, self.heads = width, heads
        self.project = Linear(width, 3 * width, bias=bias, rng=rng, dtype=dtype)
        self.output = Linear(width, width, bias=bias, rng=rng, dtype=dtype)

    def vjp(self, x: Array, *, positions: Positions = _NONE, **options: Any) -> tuple[Array, Callable[[Array], Array]]:
        """Return y (B, T, D) for x (B, T, D), and the function from its gradient to that of x.

        `options` are those of `fastattn.attention`: key_lengths, causal, dropout and seed.
        """
        D, heads = self.width, self.heads
        joined, project_back = self.project.vjp(x)
        query, key, value = (heads_of(joined[..., i * D : (i + 1) * D], heads) for i in range(3))
        query, key = positions.turn(query), positions.turn(key)
        context = np.empty(x.shape, x.dtype)
        _, _, attention_back = attend_vjp(query, key, value, positions, 0, out=heads_of(context, heads), **options)
        y, output_back = self.output.vjp(context)

        def backward(dy: Array) -> Array:
            gradients = attention_back(heads_of(output_back(dy), heads))
            d_joined = np.empty_like(joined)
            d_query, d_key = positions.turn_vjp(gradients.query), positions.turn_vjp(gradients.key)
            for i, gradient in enumerate((d_query, d_key, gradients.value)):
                heads_of(d_joined[..., i * D : (i + 1) * D], heads)[...] = gradient
            return project_back(d_joined)

        return y, backward

    def start(self, batch: int) -> Memory:
        """Return the memory of no positions."""
        nothing = np.empty((batch, self.heads, 0, self.width // self.heads), self.output.w.value.dtype)
        return prepare(nothing, nothing)

    def step(self, x: Array, memory: Memory, positions: Positions = _NONE) -> tuple[Array, Memory]:
        """Return y (B, D) for the next position x (B, D), and the memory with it; what `vjp` gives when causal."""
        D, at = self.width, memory.shape[-1]
        joined = self.project.forward(x)[:, None]
        query, key, value = (heads_of(joined[..., i * D : (i + 1) * D], self.heads) for i in range(3))
        memory = memory.extended(positions.turn(key, at), value)
        context, _ = attend(memory, positions.turn(query, at), positions, at)
        return self.output.forward(context.reshape(len(x), D)), memory


class CrossAttention(Layer):
    """``[heads: attention(x W_q, m W_k, m W_v)] W_o`` of positions x over a memory m.

    Parameters
    ----------
    width, heads : int
    bias : bool
    rng, dtype
        As for `SelfAttention`.
    """

    def __init__(self, width: int, heads: int, *, bias: bool, rng: np.random.Generator, dtype: Any) -> None:
        self.width, self.heads = width, heads
        self.query = Linear(width, width, bias=bias, rng=rng, dtype=dtype)
        self.project = Linear(width, 2 * width, bias=bias, rng=rng, dtype=dtype)
        self.output = Linear(width, width, bias=bias, rng=rng, dtype=dtype)

    def _keys_and_values(self, joined: Array) -> tuple[Array, Array]:
        return heads_of(joined[..., : self.width], self.heads), heads_of(joined[..., self.width :], self.heads)

    def vjp(
        self, x: Array, memory: Array, *, return_weights: bool = False, **options: Any
    ) -> tuple[Array, Array | None, Callable[[Array], tuple[Array, Array]]]:
        """Return y (B, T, D) for x (B, T, D) and memory (B, S, D), the weights, and the gradients' function.

        Weights are (B, H, T, S) or None; the function gives the gradients of x and memory. `options` are those of
        `fastattn.attention`: key_lengths, dropout and seed.
        """
        heads = self.heads
        query, query_back = self.query.vjp(x)
        joined, project_back = self.project.vjp(memory)
        key, value = self._keys_and_values(joined)
        context = np.empty(x.shape, x.dtype)
        found: Any
        found, attention_back = attention_vjp(
            heads_of(query, heads), key, value, out=heads_of(context, heads), return_weights=return_weights, **options
        )
        y, output_back = self.output.vjp(context)

        def backward(dy: Array) -> tuple[Array, Array]:
            gradients = attention_back(heads_of(output_back(dy), heads))
            d_joined, d_query = np.empty_like(joined), np.empty_like(query)
            d_key, d_value = self._keys_and_values(d_joined)
            d_key[...], d_value[...], heads_of(d_query, heads)[...] = gradients.key, gradients.value, gradients.query
            return query_back(d_query), project_back(d_joined)

        return y, found.weights if return_weights else None, backward

    def prepare(self, memory: Array, lengths: Array) -> Memory:
        """Return keys and values of a memory (B, S, D), projected and packed."""
        return prepare(*self._keys_and_values(self.project.forward(memory)), key_lengths=lengths)

    def step(self, x: Array, memory: Memory, *, return_weights: bool = False) -> tuple[Array, Array | None]:
        """Return y (B, D) for one position x (B, D), and the weights (B, H, S) or None."""
        query = heads_of(self.query.forward(x)[:, None], self.heads)
        found: Any = memory.attend(query, return_weights=return_weights)
        context = found.context if return_weights else found
        y = self.output.forward(context.reshape(len(x), self.width))
        return y, found.weights[:, :, 0] if return_weights else None
