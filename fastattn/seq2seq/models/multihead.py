"""The Transformer's multi-head attention (Vaswani et al. 2017, section 3.2.3): of a sequence to itself, or another."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn._arrays import Array
from fastattn.attention import Memory, prepare
from fastattn.layers import Layer, Linear
from fastattn.positions import Positions, attend
from fastattn.variants.heads.projections import NOWHERE, ToHeads, heads_vjp, joined

__all__ = ["CrossAttention", "SelfAttention"]


class SelfAttention(Layer):
    """``[heads: attention(x W_q, x W_k, x W_v)] W_o``, the three matrices side by side in `project`.

    Width is the size D of x's last axis; each of the heads has D / heads features. In the paper there is no bias.
    """

    def __init__(self, width: int, heads: int, *, bias: bool, rng: np.random.Generator, dtype: Any) -> None:
        more: Any = {"bias": bias, "rng": rng, "dtype": dtype}
        self.project = ToHeads(width, width // heads, query=heads, key=heads, value=heads, **more)
        self.output = Linear(width, width, **more)

    def vjp(
        self, x: Array, positions: Positions = NOWHERE, *, kept: list[Array] | None = None, **options: Any
    ) -> tuple[Array, Callable[[Array], Array]]:
        """Return y (B, T, D) for x (B, T, D), and the function from its gradient to that of x.

        The weights (B, H, T, T) are appended to `kept` if it is given. `options` are those of `fastattn.attention`:
        key_lengths, causal, dropout and seed.
        """
        options["return_weights"] = kept is not None
        y, weights, attention_back = heads_vjp(self.output, self.project.heads(x, positions), positions, **options)
        if kept is not None and weights is not None:
            kept.append(weights)
        project_back = self.project.heads_backward(x, positions)
        return y, lambda dy: project_back(*attention_back(dy)[:3])

    def start(self, batch: int) -> Memory:
        """Return the memory of no positions."""
        w = self.output.w.value
        return prepare(*self.project.heads(np.empty((batch, 0, len(w)), w.dtype))[1:])

    def step(self, x: Array, memory: Memory, positions: Positions = NOWHERE) -> tuple[Array, Memory]:
        """Return y (B, D) for the next position x (B, D), and the memory with it; what `vjp` gives when causal."""
        at = memory.shape[-1]
        query, *key_and_value = self.project.heads(x[:, None], positions, at)
        memory = memory.extended(*key_and_value)
        return self.output.forward(joined(attend(memory, query, positions, at)[0]))[:, 0], memory


class CrossAttention(Layer):
    """``[heads: attention(x W_q, m W_k, m W_v)] W_o`` of positions x over a memory m; made as `SelfAttention`."""

    def __init__(self, width: int, heads: int, *, bias: bool, rng: np.random.Generator, dtype: Any) -> None:
        more: Any = {"bias": bias, "rng": rng, "dtype": dtype}
        self.query = ToHeads(width, width // heads, query=heads, **more)
        self.project = ToHeads(width, width // heads, key=heads, value=heads, **more)
        self.output = Linear(width, width, **more)

    def vjp(
        self, x: Array, memory: Array, **options: Any
    ) -> tuple[Array, Array | None, Callable[[Array], tuple[Array, Array]]]:
        """Return y (B, T, D) for x (B, T, D) and memory (B, S, D), the weights, and the gradients' function.

        Weights are (B, H, T, S) or None; the function gives the gradients of x and memory. `options` are those of
        `fastattn.attention`: return_weights, key_lengths, dropout and seed.
        """
        heads = self.query.heads(x) + self.project.heads(memory)
        y, weights, attention_back = heads_vjp(self.output, heads, **options)
        query_back, project_back = self.query.heads_backward(x), self.project.heads_backward(memory)

        def backward(dy: Array) -> tuple[Array, Array]:
            gradients = attention_back(dy)
            return query_back(gradients.query), project_back(gradients.key, gradients.value)

        return y, weights, backward

    def prepare(self, memory: Array, lengths: Array) -> Memory:
        """Return keys and values of a memory (B, S, D), projected and packed."""
        return prepare(*self.project.heads(memory), key_lengths=lengths)

    def step(self, x: Array, memory: Memory, *, return_weights: bool = False) -> tuple[Array, Array | None]:
        """Return y (B, D) for one position x (B, D), and the weights (B, H, S) or None."""
        (query,) = self.query.heads(x[:, None])
        found: Any = memory.attend(query, return_weights=return_weights)
        y = self.output.forward(joined(found.context if return_weights else found))[:, 0]
        return y, found.weights[:, :, 0] if return_weights else None
