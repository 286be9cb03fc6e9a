"""The recurrent half of an LSTM decoder's cell: see `fastattn.seq2seq.models.recurrence`."""

from typing import Any

import numpy as np

from fastattn import linear
from fastattn._arrays import Array
from fastattn._kernels import core
from fastattn.layers.recurrent.cell import Kind
from fastattn.seq2seq.models.recurrence import Step

__all__ = ["LSTMRecord", "LSTMStep", "LSTMWalk"]


class LSTMStep(Step):
    """``c' = f c + i g``, ``h' = o tanh(c')`` from x (B, 4 H), the parts of i, f, g and o not from the state.

    Attributes
    ----------
    w_hidden : Parameter, shape (H, 4 H)
    """

    def __init__(self, hidden: int, *, rng: np.random.Generator, dtype: Any) -> None:
        super().__init__(Kind.LSTM, hidden, rng, dtype)

    def _biases(self) -> tuple[Array, None]:
        """Return zeros."""
        return self._no_bias, None

    def forward(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        """Return h' and c', (B, H) each; x, contiguous, is overwritten."""
        return self.run(x, h, c, None)

    def run(self, x: Array, h: Array, c: Array, kept: tuple[Array, Array] | None) -> tuple[Array, Array]:
        """Return h' and c'; with kept, (aux, before), (B, H) each, keep what the backward pass needs there and in x."""
        h, c = np.ascontiguousarray(h), np.ascontiguousarray(c)
        after, cell = np.empty_like(h), np.empty_like(c)
        self.kernel().forward(None, core.Sequences(len(h), 1), False, (h, c), (after, cell), x, kept)
        return after, cell


class LSTMRecord:
    """All steps of a batch through an `LSTMStep`, and back.

    Attributes
    ----------
    states : array, shape (B, T + 1, H)
        h, the one before the first step first.
    before : array, shape (T, B, H)
        h before each step.
    d_x : array, shape (B, T, 4 H)
        Gradients of x where `backward` has been; a view of what was kept of these steps.
    """

    def __init__(self, cell: LSTMStep, h: Array, c: Array, steps: int) -> None:
        (batch, H), dtype = h.shape, h.dtype
        self.cell = cell
        self.states = np.empty((batch, steps + 1, H), dtype)
        self.states[:, 0], self._state = h, (h, c)
        self._first = np.ascontiguousarray(c)
        self._gates = np.empty((steps, batch, 4 * H), dtype)
        self._aux, self.before = np.empty((2, steps, batch, H), dtype)
        self.d_x = self._gates.transpose(1, 0, 2)

    def forward(self, t: int, *x: Array) -> Array:
        """Return h after step t for x, the sum of one or two arrays."""
        gates = self._gates[t]
        if len(x) == 2:
            np.add(*x, out=gates)
        else:
            gates[...] = x[0]
        self._state = self.cell.run(gates, *self._state, (self._aux[t], self.before[t]))
        self.states[:, t + 1] = self._state[0]
        return self._state[0]

    def backward(self, t: int, dh: Array, dc: Array) -> tuple[Array, Array]:
        """Return the gradients of h and c before step t from those after it; sets ``d_x[:, t]``."""
        cell, h_before, c_before = self.cell, np.empty_like(dh), np.empty_like(dc)
        cell.kernel().backward(
            cell.w_hidden.packed()._panels_transposed(), core.Sequences(len(dh), 1), False, None, (dh, dc),
            (h_before, c_before), self._gates[t], (self._aux[t], self.before[t]),
            self._aux[t - 1] if t else self._first,
        )  # fmt: skip
        return h_before, c_before

    def finish(self) -> None:
        """Add the gradient of all steps to that of w_hidden."""
        linear.weight_gradient(self.before, self._gates, self.cell.w_hidden.gradient)


class LSTMWalk:
    """All steps of a batch through an `LSTMStep` in one call, where no input depends on an output, and back.

    The bits are those of an `LSTMRecord`.

    Parameters
    ----------
    cell : LSTMStep
    x : array, shape (B, T, 4 H)
        Contiguous; used up.
    h, c : arrays, shape (B, H)

    Attributes
    ----------
    states : array, shape (B, T, H)
        h after each step.
    d_x : array, shape (B, T, 4 H)
        Gradient of x, after `backward`.
    """

    def __init__(self, cell: LSTMStep, x: Array, h: Array, c: Array) -> None:
        batch, steps, _ = x.shape
        self.cell, self.d_x = cell, x
        self._first = np.ascontiguousarray(c)
        self.states, self._aux, self._before = np.empty((3, batch, steps, cell.hidden), x.dtype)
        last = np.empty((2, batch, cell.hidden), x.dtype)
        cell.kernel().forward(
            None, core.Sequences(batch, steps), False, (np.ascontiguousarray(h), self._first), (last[0], last[1]), x,
            (self._aux, self._before), self.states,
        )  # fmt: skip

    def backward(self, dh: Array) -> tuple[Array, Array]:
        """Return the gradients of the first h and c from that of `states`."""
        (batch, steps, width), cell = dh.shape, self.cell
        first = np.empty((2, batch, width), dh.dtype)
        cell.kernel().backward(
            cell.w_hidden.packed()._panels_transposed(), core.Sequences(batch, steps), False,
            np.ascontiguousarray(dh), None, (first[0], first[1]), self.d_x, (self._aux, self._before), self._first,
        )  # fmt: skip
        return first[0], first[1]

    def finish(self) -> None:
        """Add the gradient of all steps to that of w_hidden, in the order of the steps."""
        before, d_x = self._before.transpose(1, 0, 2), self.d_x.transpose(1, 0, 2)
        linear.weight_gradient(before, d_x, self.cell.w_hidden.gradient)
