"""Long short-term memory, as a single step and over sequences."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn import linear
from fastattn.errors import ArgumentError, describe
from fastattn.functional import sigmoid, tanh
from fastattn.layers.gru import _check_input, _steps
from fastattn.layers.parameter import Layer, Parameter
from fastattn.layers.sequences import Sequences, check_rows

__all__ = ["LSTM", "LSTMCell"]

Array = NDArray[Any]
State = tuple[Array, Array]


class LSTMCell(Layer):
    """One step of long short-term memory.

    ``i, f, o = sigmoid(W x + b + U h)`` and ``g = tanh(W x + b + U h)``, each with its own columns;
    ``c' = f * c + i * g``, ``h' = o * tanh(c')``.

    Parameters
    ----------
    inputs, hidden : int
        Widths D and H.
    forget_bias : float
        Start of the forget gate's bias; 1 keeps the memory open at first (Jozefowicz et al. 2015).
    rng : numpy.random.Generator
        Weights start uniform in +-1 / sqrt(H), the other biases at zero.
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    w_input : Parameter, shape (D, 4 H)
        Columns of i, f, g and o, in this order.
    w_hidden : Parameter, shape (H, 4 H)
    b : Parameter, shape (4 H,)

    Notes
    -----
    Work 8 B H (D + H) operations, twice that backward. There are no peephole connections.

    References
    ----------
    S. Hochreiter and J. Schmidhuber, "Long Short-Term Memory", Neural Computation 9, 1997; the forget gate is from
    F. Gers et al., "Learning to Forget", Neural Computation 12, 2000.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import LSTMCell
    >>> cell = LSTMCell(3, 4, rng=np.random.default_rng(0))
    >>> zero = np.zeros((2, 4), np.float32)
    >>> h, c = cell.forward(np.ones((2, 3), np.float32), (zero, zero))
    >>> h.shape, c.shape
    ((2, 4), (2, 4))
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        *,
        forget_bias: float = 1.0,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        bound = 1 / math.sqrt(max(hidden, 1))
        self.inputs, self.hidden = inputs, hidden
        self.w_input = Parameter(rng.uniform(-bound, bound, (inputs, 4 * hidden)).astype(dtype))
        self.w_hidden = Parameter(rng.uniform(-bound, bound, (hidden, 4 * hidden)).astype(dtype))
        self.b = Parameter(np.zeros(4 * hidden, dtype))
        self.b.value[hidden : 2 * hidden] = forget_bias

    def forward(self, x: Array, state: State) -> State:
        """Return (h', c') for x (B, D) and state (h, c), each (B, H)."""
        x = _check_input(x, 2, self.inputs)
        return _run(self, x[:, None], state, None, False, None)[1]

    def vjp(self, x: Array, state: State) -> tuple[State, Callable[[tuple[Any, Any]], tuple[Array, State]]]:
        """Return (h', c') and ``backward((dh', dc')) -> (dx, (dh, dc))``, which adds to the parameters' gradients.

        Either of dh' and dc' may be None.
        """
        x = _check_input(x, 2, self.inputs)
        saved: dict[str, Any] = {}
        _, after = _run(self, x[:, None], state, None, False, saved)

        def backward(d_after: tuple[Any, Any]) -> tuple[Array, State]:
            dx, d_state = _run_back(self, saved, None, d_after)
            return dx[:, 0], d_state

        return after, backward


class LSTM(Layer):
    """Long short-term memory over sequences; `LSTMCell` has the formulas.

    Parameters
    ----------
    inputs, hidden : int
        Widths D and H.
    forget_bias : float
        As in `LSTMCell`.
    reverse : bool
        Start at each sample's last position and end at its first.
    rng, dtype
        As in `LSTMCell`.

    Attributes
    ----------
    w_input, w_hidden, b : Parameter
    cell : LSTMCell
        A step with the same parameters, and the same bits.

    Notes
    -----
    The products with x are one matrix product over all positions, those with h one for each step. Memory of `vjp`:
    7 H elements for each position.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import LSTM
    >>> layer = LSTM(3, 4, rng=np.random.default_rng(0))
    >>> y, (h, c), backward = layer.vjp(np.ones((2, 5, 3), np.float32), lengths=np.array([5, 2]))
    >>> print(y.shape, h.shape, c.shape, bool((y[1, 1] == h[1]).all()))
    (2, 5, 4) (2, 4) (2, 4) True
    >>> dx, (dh, dc) = backward(np.ones_like(y))
    >>> dx.shape
    (2, 5, 3)
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        *,
        forget_bias: float = 1.0,
        reverse: bool = False,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        cell = LSTMCell(inputs, hidden, forget_bias=forget_bias, rng=rng, dtype=dtype)
        self.w_input, self.w_hidden, self.b = cell.w_input, cell.w_hidden, cell.b
        self.cell, self.reverse = cell, reverse

    def forward(self, x: Array, state: State | None = None, lengths: Array | None = None) -> tuple[Array, State]:
        """Return h at all positions and the last (h, c) of each sample.

        Parameters
        ----------
        x : array, shape (B, T, D)
        state : tuple of two arrays of shape (B, H), optional
            (h, c) before the first step; zeros without it.
        lengths : int array, shape (B,), optional
            Positions of each sample; the others are not read, and y is zero there.

        Returns
        -------
        y : array, shape (B, T, H)
        state : tuple of two arrays of shape (B, H)
            (h, c) after the last step; those given where a sample has no position.
        """
        x = _check_input(x, 3, self.cell.inputs)
        return _run(self.cell, x, state, lengths, self.reverse, None)

    def vjp(
        self, x: Array, state: State | None = None, lengths: Array | None = None
    ) -> tuple[Array, State, Callable[..., tuple[Array, State]]]:
        """Return y, (h, c) and ``backward(dy, d_state=None) -> (dx, (dh0, dc0))``, which adds to the parameters'.

        dy may be None where only the last state was used, d_state is a pair of which either may be None. backward may
        be called once.
        """
        x = _check_input(x, 3, self.cell.inputs)
        saved: dict[str, Any] = {}
        y, after = _run(self.cell, x, state, lengths, self.reverse, saved)

        def backward(dy: Array | None, d_state: tuple[Any, Any] | None = None) -> tuple[Array, State]:
            return _run_back(self.cell, saved, dy, d_state)

        return y, after, backward


def _pair(names: tuple[str, str], state: Any, shape: tuple[int, int], dtype: Any) -> State:
    h, c = (None, None) if state is None else state
    return (
        np.zeros(shape, dtype) if h is None else check_rows(names[0], h, shape, dtype).copy(),
        np.zeros(shape, dtype) if c is None else check_rows(names[1], c, shape, dtype).copy(),
    )


def _run(
    cell: LSTMCell, x: Array, state: State | None, lengths: Array | None, reverse: bool, saved: dict[str, Any] | None
) -> tuple[Array, State]:
    width, dtype = cell.hidden, cell.w_input.value.dtype
    sequences = Sequences(x, lengths)
    h, c = _pair(("h", "c"), state, (sequences.batch, width), dtype)
    rows = sequences.gather(x)
    gates = cell.w_input.packed().matmul(rows)
    gates += cell.b.value
    y = np.zeros((sequences.batch, sequences.steps, width), dtype)
    memory, memory_before, before = np.empty((3, sequences.count, width), dtype)
    w = cell.w_hidden.packed()
    for sample, at, row in _steps(sequences, reverse):
        before[row], memory_before[row] = h[sample], c[sample]
        u = gates[row] + w.matmul(h[sample])
        i, f, o = sigmoid(u[:, :width]), sigmoid(u[:, width : 2 * width]), sigmoid(u[:, 3 * width :])
        g = tanh(u[:, 2 * width : 3 * width])
        c[sample] = memory[row] = f * c[sample] + i * g
        h[sample] = y[sample, at] = o * tanh(memory[row])
        gates[row] = np.concatenate([i, f, g, o], axis=1)
    if saved is not None:
        saved.update(sequences=sequences, rows=rows, gates=gates, memory=memory, memory_before=memory_before)
        saved.update(before=before, reverse=reverse)
    return y, (h, c)


def _run_back(cell: LSTMCell, saved: dict[str, Any], dy: Array | None, d_state: Any) -> tuple[Array, State]:
    if not saved:
        raise ArgumentError(describe("backward", "one call", "a second one", "call vjp again."))
    sequences, rows, gates, memory, memory_before, before, reverse = saved.values()
    saved.clear()
    width, dtype = cell.hidden, cell.w_input.value.dtype
    y_shape = sequences.batch, sequences.steps, width
    dy = np.zeros(y_shape, dtype) if dy is None else check_rows("dy", dy, y_shape, dtype)
    dh, dc = _pair(("dh", "dc"), d_state, (sequences.batch, width), dtype)
    w = cell.w_hidden.packed()
    for sample, at, row in reversed(list(_steps(sequences, reverse))):
        d = dh[sample] + dy[sample, at]
        i, f, g, o = np.split(gates[row], 4, axis=1)
        t = tanh(memory[row])
        e = dc[sample] + d * o * (1 - t * t)
        parts = e * g * i * (1 - i), e * memory_before[row] * f * (1 - f), e * i * (1 - g * g), d * t * o * (1 - o)
        dc[sample] = e * f
        gates[row] = np.concatenate(parts, axis=1)
        dh[sample] = w.matmul_transposed(gates[row])
    cell.w_input.accumulate(linear.weight_gradient(rows, gates))
    cell.w_hidden.accumulate(linear.weight_gradient(before, gates))
    cell.b.accumulate(linear.row_sum(gates))
    return sequences.scatter(cell.w_input.packed().matmul_transposed(gates)), (dh, dc)
