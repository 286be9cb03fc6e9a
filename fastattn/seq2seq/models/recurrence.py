"""The recurrent half of a decoder's cell: what cannot be computed before the loop over time.

The gates' part that comes from inputs known beforehand is one matrix product over all steps, so these cells take it as
given, of width 3 H (GRU) or 4 H (LSTM), and add the state's part. A record holds all steps of a batch, so that the
weights' gradient is one matrix product after the loop.
"""

import math
from typing import Any, ClassVar

import numpy as np

from fastattn import linear
from fastattn._arrays import Array
from fastattn._kernels import core
from fastattn.layers import Parameter
from fastattn.layers.recurrent.cell import Kind, RecurrentCell
from fastattn.precision import float32_precision, get_float32_precision

__all__ = ["GRUStep", "LSTMStep", "Record", "Step", "Walk"]


class Step(RecurrentCell):
    """A cell without products of inputs."""

    _matrices: ClassVar[tuple[str, ...]] = ()

    def __init__(self, kind: Kind, hidden: int, rng: np.random.Generator, dtype: Any) -> None:
        super().__init__(kind, 0, hidden, dtype)
        bound = 1 / math.sqrt(hidden)
        self.w_hidden = Parameter(rng.uniform(-bound, bound, (hidden, self.gates * hidden)).astype(dtype))
        self._no_bias = np.zeros(self.gates * hidden, dtype)

    def kernel(self) -> core.Recurrent:
        """Return the packed weights, as they are now."""
        w = self.w_hidden.packed()
        if self._weights is None or self._weights[0] is not w:
            # There are no inputs: any array stands for their weights.
            cell = core.Recurrent(self._kind, self.hidden, w._packed, self._gate_panels(), *self._biases())
            self._weights = w, None, cell
        return self._weights[2]

    def run(self, x: Array, h: Array, c: Any, kept: Any, inside: Array | None = None) -> tuple[Array, Any]:
        """Return h' and, of an LSTM, c', (B, H) each; x, contiguous, is overwritten.

        With kept, (aux, before), (B, H) each, keep what the backward pass needs there and in x.
        """
        h, c = np.ascontiguousarray(h), None if c is None else np.ascontiguousarray(c)
        after = np.empty_like(h), None if c is None else np.empty_like(c)
        self.kernel().forward(
            None, core.Sequences(len(h), 1), False, (h, c), after, x, kept, inside=inside, parts=self._on_unit(False)
        )
        return after

    def accumulate_steps(self, d_x: Array, aux: Array, before: Array) -> None:
        """Add the gradients of the parameters from what the kernels left of all steps."""
        raise NotImplementedError


class GRUStep(Step):
    """``h' = (1 - z) n + z h`` from x (B, 3 H), the parts of r, z and n that do not come from the state.

    ``r = sigmoid(x_r + U_r h + c_r)``, ``z = sigmoid(x_z + U_z h + c_z)``, and with reset "before" (Cho et al. 2014,
    equation 8) ``n = tanh(x_n + U_n (r h) + c_n)``, with "after" ``n = tanh(x_n + r (U_n h + c_n + inside))``, where
    inside (B, H), if given, is what else the reset gate acts on.

    Attributes
    ----------
    w_hidden : Parameter, shape (H, 3 H)
    b : Parameter, shape (3 H,)
    """

    def __init__(self, hidden: int, *, reset: str, rng: np.random.Generator, dtype: Any) -> None:
        super().__init__(Kind.AFTER if reset == "after" else Kind.BEFORE, hidden, rng, dtype)
        self.b = Parameter(np.zeros(3 * hidden, dtype))
        self.reset = reset

    def _biases(self) -> tuple[Array, Array]:
        """Return zeros, and the value of b."""
        return self._no_bias, self.b._array

    def forward(self, x: Array, h: Array, inside: Array | None = None) -> Array:
        """Return h' (B, H); x, contiguous, is overwritten."""
        return self.run(x, h, None, None, inside)[0]

    def accumulate_steps(self, d_x: Array, aux: Array, before: Array) -> None:
        """Add the gradients of w_hidden and b from what the kernels left of all steps."""
        both, w, b = 2 * self.hidden, self.w_hidden.gradient, self.b.gradient
        sums = np.zeros_like(b)
        w[:, :both] += linear.weight_gradient(before, d_x[..., :both], sums=sums[:both])
        if self.reset == "after":  # aux: the gradient at U_n h + c_n
            w[:, both:] += linear.weight_gradient(before, aux, sums=sums[both:])
        else:  # aux: r * h
            w[:, both:] += linear.weight_gradient(aux, d_x[..., both:], sums=sums[both:])
        b += sums


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

    def accumulate_steps(self, d_x: Array, aux: Array, before: Array) -> None:
        """Add the gradient of w_hidden from what the kernels left of all steps."""
        linear.weight_gradient(before, d_x, self.w_hidden.gradient)


class Record:
    """All steps of a batch through a `Step`, and back.

    Parameters
    ----------
    cell : Step
    steps : int
    h, c : arrays, shape (B, H)
        Before the first step; c of an LSTM alone.

    Attributes
    ----------
    states : array, shape (B, T + 1, H)
        h, the one before the first step first.
    before : array, shape (T, B, H)
        h before each step.
    d_x : array, shape (B, T, 3 H or 4 H)
        Gradients of x where `backward` has been; a view of what was kept of these steps.
    """

    def __init__(self, cell: Step, steps: int, h: Array, c: Array | None = None) -> None:
        (batch, H), dtype = h.shape, h.dtype
        self.cell = cell
        self.states = core.empty((batch, steps + 1, H), dtype)
        self.states[:, 0] = h
        self._state: tuple[Array, Any] = h, c
        self._first = None if c is None else np.ascontiguousarray(c)
        self._gates = core.empty((steps, batch, cell.gates * H), dtype)
        self._aux, self.before = core.empty((2, steps, batch, H), dtype)
        self.d_x = self._gates.transpose(1, 0, 2)
        self._precision = get_float32_precision()

    def forward(self, t: int, *x: Array, state: Array | None = None) -> Array:
        """Return h after step t for x, the sum of one or two arrays; the step before left h `state`, if given."""
        gates = self._gates[t]
        if len(x) == 2:
            np.add(*x, out=gates)
        else:
            gates[...] = x[0]
        h, c = self._state
        self._state = self.cell.run(gates, h if state is None else state, c, (self._aux[t], self.before[t]))
        self.states[:, t + 1] = self._state[0]
        return self._state[0]

    def backward(self, t: int, dh: Array, dc: Array | None = None) -> tuple[Array, Any]:
        """Return the gradients of h and c before step t from those after it; sets ``d_x[:, t]``."""
        before = np.empty_like(dh), None if dc is None else np.empty_like(dc)
        with float32_precision(self._precision):
            self.cell.kernel().backward(
                self.cell.w_hidden.packed()._panels_transposed(), core.Sequences(len(dh), 1), False, None, (dh, dc),
                before, self._gates[t], (self._aux[t], self.before[t]),
                self._aux[t - 1] if t and dc is not None else self._first, self.cell._on_unit(True),
            )  # fmt: skip
        return before

    def finish(self) -> None:
        """Add the gradients of all steps to those of the cell's parameters."""
        with float32_precision(self._precision):
            self.cell.accumulate_steps(self._gates, self._aux, self.before)


class Walk:
    """All steps of a batch through a `Step` in one call, where no input depends on an output, and back.

    Parameters
    ----------
    cell : Step
    x : array, shape (B, T, 3 H or 4 H)
        Contiguous; used up.
    h, c : arrays, shape (B, H)
        Before the first step; c of an LSTM alone.
    inside : array, shape (B, H), optional
        See `GRUStep`.

    Attributes
    ----------
    states : array, shape (B, T, H)
        h after each step.
    d_x : array, shape (B, T, 3 H or 4 H)
        Gradient of x, after `backward`.
    """

    def __init__(self, cell: Step, x: Array, h: Array, c: Array | None = None, inside: Array | None = None) -> None:
        batch, steps, _ = x.shape
        self.cell, self.d_x = cell, x
        self._first = None if c is None else np.ascontiguousarray(c)
        self.states, self._aux, self._before = core.empty((3, batch, steps, cell.hidden), x.dtype)
        last = np.empty_like(h), None if c is None else np.empty_like(c)
        cell.kernel().forward(
            None, core.Sequences(batch, steps), False, (np.ascontiguousarray(h), self._first), last, x,
            (self._aux, self._before), self.states, inside, cell._on_unit(False),
        )  # fmt: skip
        self._precision = get_float32_precision()

    def backward(self, dh: Array) -> tuple[Array, Any]:
        """Return the gradients of the first h and c from that of `states`."""
        (batch, steps, width), cell = dh.shape, self.cell
        first = np.empty((batch, width), dh.dtype), None if self._first is None else np.empty((batch, width), dh.dtype)
        with float32_precision(self._precision):
            cell.kernel().backward(
                cell.w_hidden.packed()._panels_transposed(), core.Sequences(batch, steps), False,
                np.ascontiguousarray(dh), None, first, self.d_x, (self._aux, self._before), self._first,
                cell._on_unit(True),
            )  # fmt: skip
        return first

    def d_inside(self) -> Array:
        """Return the gradient of `inside` after `backward`, in the order of the steps."""
        total: Array = self._aux[:, 0].copy()
        for t in range(1, self._aux.shape[1]):
            total += self._aux[:, t]
        return total

    def finish(self) -> None:
        """Add the gradients of all steps to those of the cell's parameters; of an LSTM with the bits of a `Record`."""
        kept = self.d_x, self._aux, self._before
        with float32_precision(self._precision):
            self.cell.accumulate_steps(*(kept if self._first is None else [x.transpose(1, 0, 2) for x in kept]))
