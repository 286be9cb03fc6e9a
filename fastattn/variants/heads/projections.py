"""Heads side by side: projections to them, attention in each, and the projection back (Vaswani et al. 2017, 3.2.2).

One product projects to all heads that are made of one input, and the kernels read them where that product left them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastattn._arrays import Array
from fastattn._kernels import core
from fastattn.attention import Gradients
from fastattn.layers import Linear
from fastattn.positions import Positions, attend_vjp

__all__ = ["NOWHERE", "ToHeads", "heads_of", "heads_vjp", "joined"]

NOWHERE = Positions()


def heads_of(x: Array, heads: int) -> Array:
    """Return (B, T, H d) as (B, H, T, d), in place."""
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads).transpose(0, 2, 1, 3)


def joined(*parts: Array) -> Array:
    """Return arrays (B, H, T, d) side by side as (B, T, H d + ...); one that lies so is not copied."""
    turned = [x.transpose(0, 2, 1, 3) for x in parts]
    batch, positions, _, d = turned[0].shape
    heads = sum(x.shape[2] for x in turned)
    if len(turned) == 1:
        return turned[0].reshape(batch, positions, heads * d)
    whole = core.empty((batch, positions, heads * d), turned[0].dtype)
    # Into an array of that order: NumPy's own choice is that of the parts, which would have to be copied again.
    np.concatenate(turned, axis=2, out=whole.reshape(batch, positions, heads, d))
    return whole


class ToHeads(Linear):
    """``x W + b``, split into the heads of queries, keys and values, or of those of them that x makes.

    Parameters
    ----------
    width, head_width : int
    bias, rng, dtype
        As for `Linear`.
    **counts : int
        How many heads of "query", "key" and "value", in the order of W's columns.
    """

    def __init__(
        self, width: int, head_width: int, *, bias: bool, rng: np.random.Generator, dtype: Any, **counts: int
    ) -> None:
        super().__init__(width, sum(counts.values()) * head_width, bias=bias, rng=rng, dtype=dtype)
        self.count, self.spans, begin = sum(counts.values()), [], 0
        for name, count in counts.items():
            self.spans.append((name != "value", slice(begin, begin + count)))
            begin += count

    def heads(self, x: Array, positions: Positions = NOWHERE, first: int = 0) -> list[Array]:
        """Return arrays (B, H, T, d) of x (B, T, D) at positions first, first + 1, ..., each turned but for values."""
        whole = heads_of(self.forward(x), self.count)
        return [positions.turn(whole[:, span], first) if turned else whole[:, span] for turned, span in self.spans]

    def heads_backward(self, x: Array, positions: Positions = NOWHERE, first: int = 0) -> Callable[..., Array]:
        """Return the function from the gradients of what `heads` returned to that of x."""
        back = self.backward(x)

        def backward(*gradients: Array) -> Array:
            parts = zip(self.spans, gradients)
            return back(joined(*(positions.turn_vjp(g, first) if turned else g for (turned, _), g in parts)))

        return backward


def heads_vjp(
    output: Linear, heads: Sequence[Array], positions: Positions = NOWHERE, first: int = 0, **options: Any
) -> tuple[Array, Array | None, Callable[..., Gradients]]:
    """Return ``[head_1; ...; head_H] W_o`` (B, Tq, Dv), weights (B, H, Tq, Tk) or None, and the backward pass.

    Parameters
    ----------
    output : Linear
        W_o.
    heads : three arrays (B, H, T, d)
        Query, key and value as `ToHeads.heads` returned them; the backward pass gives their gradients.
    positions, first, **options
        Of `fastattn.positions.attend_vjp`.
    """
    query, key, value = heads
    batch, count, queries, d = query.shape
    out = heads_of(core.empty((batch, queries, count * d), query.dtype), count)
    context, weights, attention_back = attend_vjp(query, key, value, positions, first, out=out, **options)
    y, output_back = output.vjp(joined(context))

    def backward(dy: Array, d_weights: Array | None = None) -> Gradients:
        return attention_back(heads_of(output_back(dy), count), d_weights)

    return y, weights, backward
