"""The recurrent half of a decoder's cell: what cannot be computed before the loop over time.

The gates' part that comes from inputs known beforehand is one matrix product over all steps, so these cells take it as
given, of width 3 H (GRU) or 4 H (LSTM), and add the state's part. A record holds all steps of a batch, so that the
weights' gradient is one matrix product after the loop.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn import linear
from fastattn.errors import ArgumentError, describe
from fastattn.functional import sigmoid, tanh
from fastattn.layers import Layer, Parameter

__all__ = ["GRURecord", "GRUStep", "LSTMRecord", "LSTMStep"]

Array = NDArray[Any]


class GRUStep(Layer):
    """``h' = (1 - z) n + z h`` from x (B, 3 H), the parts of r, z and n that do not come from the state.

    ``r = sigmoid(x_r + U_r h + c_r)``, ``z = sigmoid(x_z + U_z h + c_z)``, and with reset "before" (Cho et al. 2014,
    equation 8) ``n = tanh(x_n + U_n (r h) + c_n)``, with "after" ``n = tanh(x_n + r (U_n h + c_n + inside))``, where
    inside (B, H), if given, is what else the reset gate acts on.

    Attributes
    ----------
    w : Parameter, shape (H, 3 H)
    b : Parameter, shape (3 H,)
    """

    def __init__(self, hidden: int, *, reset: str, rng: np.random.Generator, dtype: Any) -> None:
        if reset not in ("before", "after"):
            hint = "'before' is as published; 'after' is cuDNN's."
            raise ArgumentError(describe("reset", "'before' or 'after'", repr(reset), hint))
        bound = 1 / math.sqrt(hidden)
        self.w = Parameter(rng.uniform(-bound, bound, (hidden, 3 * hidden)).astype(dtype))
        self.b = Parameter(np.zeros(3 * hidden, dtype))
        self.hidden, self.reset = hidden, reset
        self._split: tuple[Any, linear.PackedWeights, linear.PackedWeights] | None = None

    def forward(self, x: Array, h: Array, inside: Array | None = None) -> Array:
        """Return h' (B, H)."""
        return self.run(x, h, inside)[0]

    def run(self, x: Array, h: Array, inside: Array | None = None) -> tuple[Array, Array, Array, Array]:
        """Return h', the gates r and z side by side, n, and what r multiplies or is multiplied into."""
        H, b = self.hidden, self.b.value
        if self.reset == "after":
            u = self.w.packed().matmul(h)
            u += b
            gates = sigmoid(x[:, : 2 * H] + u[:, : 2 * H])
            reset = u[:, 2 * H :] if inside is None else u[:, 2 * H :] + inside
            n = tanh(x[:, 2 * H :] + gates[:, :H] * reset)
        else:
            of_gates, of_new = self.parts()
            gates = sigmoid(x[:, : 2 * H] + (of_gates.matmul(h) + b[: 2 * H]))
            reset = gates[:, :H] * h
            n = tanh(x[:, 2 * H :] + (of_new.matmul(reset) + b[2 * H :]))
        return n + gates[:, H:] * (h - n), gates, n, reset

    def parts(self) -> tuple[linear.PackedWeights, linear.PackedWeights]:
        """Return the columns of w for r and z, and those for n, packed each on its own."""
        whole = self.w.packed()
        if self._split is None or self._split[0] is not whole:
            H, w = self.hidden, self.w.value
            self._split = whole, linear.PackedWeights(w[:, : 2 * H]), linear.PackedWeights(w[:, 2 * H :])
        return self._split[1:]


class GRURecord:
    """All steps of a batch through a `GRUStep`, and back.

    Attributes
    ----------
    states : array, shape (B, T + 1, H)
        The one before the first step first.
    d_x : array, shape (B, T, 3 H)
        Gradients of x, as far as `backward` has come.
    """

    def __init__(self, cell: GRUStep, first: Array, steps: int, inside: Array | None = None) -> None:
        (batch, H), dtype = first.shape, first.dtype
        self.cell, self.inside = cell, inside
        self.states = np.empty((batch, steps + 1, H), dtype)
        self.states[:, 0] = first
        self._gates, self._new, self._reset = (np.empty((batch, steps, n * H), dtype) for n in (2, 1, 1))
        self.d_x = np.empty((batch, steps, 3 * H), dtype)

    def forward(self, t: int, x: Array) -> Array:
        """Return the state after step t."""
        after, self._gates[:, t], self._new[:, t], self._reset[:, t] = self.cell.run(x, self.states[:, t], self.inside)
        self.states[:, t + 1] = after
        return after

    def backward(self, t: int, dh: Array) -> Array:
        """Return the gradient of the state before step t from that of the state after it; sets ``d_x[:, t]``."""
        cell, H = self.cell, self.cell.hidden
        r, z = self._gates[:, t, :H], self._gates[:, t, H:]
        n, before, reset = self._new[:, t], self.states[:, t], self._reset[:, t]
        d_x = self.d_x[:, t]
        dn = dh * (1 - z) * (1 - n * n)
        d_x[:, H : 2 * H] = dh * (before - n) * z * (1 - z)
        d_x[:, 2 * H :] = dn
        if cell.reset == "after":
            d_x[:, :H] = dn * reset * r * (1 - r)
            hidden = d_x.copy()
            hidden[:, 2 * H :] *= r
            self._new[:, t] = hidden[:, 2 * H :]  # what `finish` needs; n itself is done with
            result: Array = dh * z + cell.w.packed().matmul_transposed(hidden)
            return result
        of_gates, of_new = cell.parts()
        d_reset = of_new.matmul_transposed(dn)
        d_x[:, :H] = d_reset * before * r * (1 - r)
        result = dh * z + d_reset * r + of_gates.matmul_transposed(d_x[:, : 2 * H])
        return result

    def d_inside(self) -> Array:
        """Return the gradient of `inside` after `backward` of all steps, in the order of the steps."""
        total = self._new[:, 0].copy()
        for t in range(1, self._new.shape[1]):
            total += self._new[:, t]
        return total

    def finish(self) -> None:
        """Add the gradients of all steps to those of w and b."""
        cell, H = self.cell, self.cell.hidden
        before, d_gates, d_new = self.states[:, :-1], self.d_x[..., : 2 * H], self.d_x[..., 2 * H :]
        if cell.reset == "after":
            d_hidden = np.concatenate([d_gates, self._new], axis=-1)
            cell.w.accumulate(linear.weight_gradient(before, d_hidden))
            cell.b.accumulate(linear.row_sum(d_hidden))
        else:
            d_w = [linear.weight_gradient(before, d_gates), linear.weight_gradient(self._reset, d_new)]
            cell.w.accumulate(np.concatenate(d_w, axis=-1))
            cell.b.accumulate(linear.row_sum(self.d_x))


class LSTMStep(Layer):
    """``c' = f c + i g``, ``h' = o tanh(c')`` from x (B, 4 H), the parts of i, f, g and o not from the state.

    Attributes
    ----------
    w : Parameter, shape (H, 4 H)
    """

    def __init__(self, hidden: int, *, rng: np.random.Generator, dtype: Any) -> None:
        bound = 1 / math.sqrt(hidden)
        self.w = Parameter(rng.uniform(-bound, bound, (hidden, 4 * hidden)).astype(dtype))
        self.hidden = hidden

    def forward(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        """Return h' and c', (B, H) each."""
        return self.run(x, h, c)[:2]

    def run(self, x: Array, h: Array, c: Array) -> tuple[Array, Array, Array]:
        """Return h', c', and the gates side by side."""
        H = self.hidden
        u = self.w.packed().matmul(h)
        u += x
        gates = np.empty_like(u)
        gates[:, : 2 * H] = sigmoid(u[:, : 2 * H])
        gates[:, 2 * H : 3 * H] = tanh(u[:, 2 * H : 3 * H])
        gates[:, 3 * H :] = sigmoid(u[:, 3 * H :])
        i, f, g, o = (gates[:, k * H : (k + 1) * H] for k in range(4))
        after = f * c + i * g
        return o * tanh(after), after, gates


class LSTMRecord:
    """All steps of a batch through an `LSTMStep`, and back.

    Attributes
    ----------
    states, cells : array, shape (B, T + 1, H)
        h and c, those before the first step first.
    d_x : array, shape (B, T, 4 H)
        Gradients of x, as far as `backward` has come.
    """

    def __init__(self, cell: LSTMStep, h: Array, c: Array, steps: int) -> None:
        (batch, H), dtype = h.shape, h.dtype
        self.cell = cell
        self.states, self.cells = (np.empty((batch, steps + 1, H), dtype) for _ in range(2))
        self.states[:, 0], self.cells[:, 0] = h, c
        self._gates = np.empty((batch, steps, 4 * H), dtype)
        self.d_x = np.empty((batch, steps, 4 * H), dtype)

    def forward(self, t: int, x: Array) -> Array:
        """Return h after step t."""
        h, self.cells[:, t + 1], self._gates[:, t] = self.cell.run(x, self.states[:, t], self.cells[:, t])
        self.states[:, t + 1] = h
        return h

    def backward(self, t: int, dh: Array, dc: Array) -> tuple[Array, Array]:
        """Return the gradients of h and c before step t from those after it; sets ``d_x[:, t]``."""
        H = self.cell.hidden
        i, f, g, o = (self._gates[:, t, k * H : (k + 1) * H] for k in range(4))
        d_x = self.d_x[:, t]
        y = tanh(self.cells[:, t + 1])
        e = dc + dh * o * (1 - y * y)
        d_x[:, :H] = e * g * i * (1 - i)
        d_x[:, H : 2 * H] = e * self.cells[:, t] * f * (1 - f)
        d_x[:, 2 * H : 3 * H] = e * i * (1 - g * g)
        d_x[:, 3 * H :] = dh * y * o * (1 - o)
        return self.cell.w.packed().matmul_transposed(d_x), e * f

    def finish(self) -> None:
        """Add the gradient of all steps to that of w."""
        self.cell.w.accumulate(linear.weight_gradient(self.states[:, :-1], self.d_x))
