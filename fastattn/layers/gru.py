"""Gated recurrent units, as a single step and over sequences."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn import linear
from fastattn._arrays import float_array
from fastattn.errors import ArgumentError, ShapeError, describe
from fastattn.functional import sigmoid, tanh
from fastattn.layers.parameter import Layer, Parameter
from fastattn.layers.sequences import Sequences, check_rows

__all__ = ["GRU", "GRUCell"]

Array = NDArray[Any]


class GRUCell(Layer):
    """One step of gated recurrent units.

    ``r = sigmoid(W_r x + b_r + U_r h + c_r)``, ``z = sigmoid(W_z x + b_z + U_z h + c_z)``,
    ``n = tanh(W_n x + b_n + r * (U_n h + c_n))`` with ``reset="after"``,
    ``n = tanh(W_n x + b_n + U_n (r * h) + c_n)`` with ``reset="before"``,
    ``h' = (1 - z) * n + z * h``.

    Parameters
    ----------
    inputs, hidden : int
        Widths D and H.
    reset : str
        Where the reset gate acts: ``"after"`` the product with the state, as in cuDNN and PyTorch, or ``"before"`` it,
        as in Cho et al. (2014), equation 8, and Bahdanau et al. (2015), appendix A.1.1.
    rng : numpy.random.Generator
        Weights and biases start uniform in +-1 / sqrt(H).
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    w_input : Parameter, shape (D, 3 H)
        Columns of r, z and n, in this order.
    w_hidden : Parameter, shape (H, 3 H)
    b_input, b_hidden : Parameter, shape (3 H,)

    Notes
    -----
    Work 6 B H (D + H) operations, twice that backward. In the papers z and 1 - z change places.

    References
    ----------
    K. Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", EMNLP 2014, equations 5 to 8.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import GRUCell
    >>> cell = GRUCell(3, 4, rng=np.random.default_rng(0))
    >>> cell.forward(np.ones((2, 3), np.float32), np.zeros((2, 4), np.float32)).shape
    (2, 4)
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        *,
        reset: str = "after",
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        if reset not in ("after", "before"):
            raise ArgumentError(describe("reset", "'after' or 'before'", repr(reset), "'after' is PyTorch's GRU."))
        bound = 1 / math.sqrt(max(hidden, 1))

        def draw(*shape: int) -> Parameter:
            return Parameter(rng.uniform(-bound, bound, shape).astype(dtype))

        self.inputs, self.hidden, self.reset = inputs, hidden, reset
        self.w_input = draw(inputs, 3 * hidden)
        self.w_hidden = draw(hidden, 3 * hidden)
        self.b_input = draw(3 * hidden)
        self.b_hidden = draw(3 * hidden)

    def forward(self, x: Array, h: Array) -> Array:
        """Return h' (B, H) for x (B, D) and h (B, H)."""
        x = _check_input(x, 2, self.inputs)
        return _run(self, x[:, None], h, None, False, None)[1]

    def vjp(self, x: Array, h: Array) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
        """Return h', and the function from its gradient to those of x and h, which adds to the parameters'."""
        x = _check_input(x, 2, self.inputs)
        saved: dict[str, Any] = {}
        _, h_next = _run(self, x[:, None], h, None, False, saved)

        def backward(dh: Array) -> tuple[Array, Array]:
            dx, dh0 = _run_back(self, saved, None, dh)
            return dx[:, 0], dh0

        return h_next, backward


class GRU(Layer):
    """Gated recurrent units over sequences; `GRUCell` has the formulas.

    Parameters
    ----------
    inputs, hidden : int
        Widths D and H.
    reset : str
        ``"after"`` or ``"before"``.
    reverse : bool
        Start at each sample's last position and end at its first.
    rng, dtype
        As in `GRUCell`.

    Attributes
    ----------
    w_input, w_hidden, b_input, b_hidden : Parameter
    cell : GRUCell
        A step with the same parameters, and the same bits.

    Notes
    -----
    The products with x are one matrix product over all positions, those with h one for each step. Memory of `vjp`:
    6 H elements for each position.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import GRU
    >>> layer = GRU(3, 4, rng=np.random.default_rng(0))
    >>> y, h_last, backward = layer.vjp(np.ones((2, 5, 3), np.float32), lengths=np.array([5, 2]))
    >>> print(y.shape, h_last.shape, bool((y[1, 2:] == 0).all()), bool((y[1, 1] == h_last[1]).all()))
    (2, 5, 4) (2, 4) True True
    >>> dx, dh0 = backward(np.ones_like(y))
    >>> dx.shape, dh0.shape
    ((2, 5, 3), (2, 4))
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        *,
        reset: str = "after",
        reverse: bool = False,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        cell = GRUCell(inputs, hidden, reset=reset, rng=rng, dtype=dtype)
        self.w_input, self.w_hidden = cell.w_input, cell.w_hidden
        self.b_input, self.b_hidden = cell.b_input, cell.b_hidden
        self.cell, self.reverse = cell, reverse

    def forward(self, x: Array, h0: Array | None = None, lengths: Array | None = None) -> tuple[Array, Array]:
        """Return the states at all positions and the last one of each sample.

        Parameters
        ----------
        x : array, shape (B, T, D)
        h0 : array, shape (B, H), optional
            State before the first step; zeros without it.
        lengths : int array, shape (B,), optional
            Positions of each sample; the others are not read, and y is zero there.

        Returns
        -------
        y : array, shape (B, T, H)
        h_last : array, shape (B, H)
            State after the last step; h0 where a sample has no position.
        """
        x = _check_input(x, 3, self.cell.inputs)
        return _run(self.cell, x, h0, lengths, self.reverse, None)

    def vjp(
        self, x: Array, h0: Array | None = None, lengths: Array | None = None
    ) -> tuple[Array, Array, Callable[..., tuple[Array, Array]]]:
        """Return y, h_last and ``backward(dy, dh_last=None) -> (dx, dh0)``, which adds to the parameters' gradients.

        dy may be None where only h_last was used. backward may be called once.
        """
        x = _check_input(x, 3, self.cell.inputs)
        saved: dict[str, Any] = {}
        y, h_last = _run(self.cell, x, h0, lengths, self.reverse, saved)

        def backward(dy: Array | None, dh_last: Array | None = None) -> tuple[Array, Array]:
            return _run_back(self.cell, saved, dy, dh_last)

        return y, h_last, backward


def _check_input(x: object, axes: int, inputs: int) -> Array:
    array = float_array("x", x)
    if array.ndim != axes or array.shape[-1] != inputs:
        expected = f"shape (B, {inputs})" if axes == 2 else f"shape (B, T, {inputs})"
        raise ShapeError(describe("x", expected, f"shape {array.shape}", "match the width of the layer."))
    return array


def _steps(sequences: Sequences, reverse: bool) -> Any:
    """Samples, positions and rows of each step."""
    batch, steps = sequences.batch, sequences.steps
    order = np.arange(batch) if sequences.order is None else sequences.order
    lengths = np.full(batch, steps) if sequences.lengths is None else sequences.lengths
    starts = np.arange(batch) * steps if sequences.starts is None else sequences.starts
    for step in range(steps):
        n = int((lengths > step).sum())
        at = lengths[:n] - 1 - step if reverse else np.full(n, step)
        yield order[:n], at, starts[:n] + at


def _run(
    cell: GRUCell, x: Array, h0: Array | None, lengths: Array | None, reverse: bool, saved: dict[str, Any] | None
) -> tuple[Array, Array]:
    width, dtype = cell.hidden, cell.w_input.value.dtype
    sequences = Sequences(x, lengths)
    state_shape = (sequences.batch, width)
    h = np.zeros(state_shape, dtype) if h0 is None else check_rows("h0", h0, state_shape, dtype).copy()
    rows = sequences.gather(x)
    gates = cell.w_input.packed().matmul(rows)
    gates += cell.b_input.value
    y = np.zeros((sequences.batch, sequences.steps, width), dtype)
    aux, before = np.empty((2, sequences.count, width), dtype)
    w = cell.w_hidden.packed()
    w_n = linear.PackedWeights(cell.w_hidden.value[:, 2 * width :])
    c = cell.b_hidden.value
    for sample, at, row in _steps(sequences, reverse):
        g, old = gates[row], h[sample]
        u = w.matmul(old) + c
        r, z = np.split(sigmoid(g[:, : 2 * width] + u[:, : 2 * width]), 2, axis=1)
        if cell.reset == "after":
            aux[row] = u[:, 2 * width :]
            n = tanh(g[:, 2 * width :] + r * aux[row])
        else:
            aux[row] = r * old
            n = tanh(g[:, 2 * width :] + (w_n.matmul(aux[row]) + c[2 * width :]))
        h[sample] = y[sample, at] = n + z * (old - n)
        gates[row] = np.concatenate([r, z, n], axis=1)
        before[row] = old
    if saved is not None:
        saved.update(sequences=sequences, rows=rows, gates=gates, aux=aux, before=before, reverse=reverse)
    return y, h


def _run_back(cell: GRUCell, saved: dict[str, Any], dy: Array | None, dh_last: Array | None) -> tuple[Array, Array]:
    if not saved:
        raise ArgumentError(describe("backward", "one call", "a second one", "call vjp again."))
    sequences, rows, gates, aux, before, reverse = saved.values()
    saved.clear()
    width, dtype = cell.hidden, cell.w_input.value.dtype
    y_shape, state_shape = (sequences.batch, sequences.steps, width), (sequences.batch, width)
    dy = np.zeros(y_shape, dtype) if dy is None else check_rows("dy", dy, y_shape, dtype)
    dh = np.zeros(state_shape, dtype) if dh_last is None else check_rows("dh_last", dh_last, state_shape, dtype).copy()
    w = cell.w_hidden.packed()
    w_n = linear.PackedWeights(cell.w_hidden.value[:, 2 * width :])
    d_hidden = np.empty_like(gates)
    for sample, at, row in reversed(list(_steps(sequences, reverse))):
        d = dh[sample] + dy[sample, at]
        r, z, n = np.split(gates[row], 3, axis=1)
        old = before[row]
        dn = d * (1 - z) * (1 - n * n)
        dz = d * (old - n) * z * (1 - z)
        if cell.reset == "after":
            dr = dn * aux[row] * r * (1 - r)
            d_hidden[row] = np.concatenate([dr, dz, dn * r], axis=1)
            dh[sample] = d * z + w.matmul_transposed(d_hidden[row])
        else:
            d_reset = w_n.matmul_transposed(dn)
            dr = d_reset * old * r * (1 - r)
            d_hidden[row] = np.concatenate([dr, dz, np.zeros_like(dn)], axis=1)
            dh[sample] = d * z + d_reset * r + w.matmul_transposed(d_hidden[row])
        gates[row] = np.concatenate([dr, dz, dn], axis=1)
    cell.w_input.accumulate(linear.weight_gradient(rows, gates))
    cell.b_input.accumulate(linear.row_sum(gates))
    if cell.reset == "after":
        cell.w_hidden.accumulate(linear.weight_gradient(before, d_hidden))
        cell.b_hidden.accumulate(linear.row_sum(d_hidden))
    else:
        dw = [linear.weight_gradient(before, gates[:, : 2 * width]), linear.weight_gradient(aux, gates[:, 2 * width :])]
        cell.w_hidden.accumulate(np.concatenate(dw, axis=1))
        cell.b_hidden.accumulate(linear.row_sum(gates))
    return sequences.scatter(cell.w_input.packed().matmul_transposed(gates)), dh
