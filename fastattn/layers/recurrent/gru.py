"""Gated recurrent units, as a single step and over sequences."""

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np

from fastattn import linear
from fastattn._arrays import Array
from fastattn._numbers import check_choice, check_flag
from fastattn.layers.parameter import Layer, Parameter
from fastattn.layers.recurrent.cell import Kind, RecurrentCell, Tape

__all__ = ["GRU", "GRUCell", "Reset"]

Reset = Literal["after", "before"]


class GRUCell(RecurrentCell):
    """One step of gated recurrent units.

    ``r = sigmoid(W_r x + b_r + U_r h + c_r)``, ``z = sigmoid(W_z x + b_z + U_z h + c_z)``,
    ``n = tanh(W_n x + b_n + r * (U_n h + c_n))`` with ``reset="after"``,
    ``n = tanh(W_n x + b_n + U_n (r * h) + c_n)`` with ``reset="before"``,
    ``h' = (1 - z) * n + z * h``.

    Parameters
    ----------
    inputs, hidden : int
        Widths D and H.
    reset : {"after", "before"}
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
        reset: Reset = "after",
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        reset = check_choice("reset", reset, get_args(Reset), "'after' is PyTorch's GRU.")
        bound = 1 / math.sqrt(max(hidden, 1))

        def draw(*shape: int) -> Parameter:
            return Parameter(rng.uniform(-bound, bound, shape).astype(dtype))

        super().__init__(Kind.AFTER if reset == "after" else Kind.BEFORE, inputs, hidden, dtype)
        self.reset = reset
        self.w_input = draw(inputs, 3 * hidden)
        self.w_hidden = draw(hidden, 3 * hidden)
        self.b_input = draw(3 * hidden)
        self.b_hidden = draw(3 * hidden)

    def forward(self, x: Array, h: Array) -> Array:
        """Return h' (B, H) for x (B, D) and h (B, H)."""
        batch = self.check_input(x, 2).shape[0]
        return self.step(self.check("x", x, batch, self.inputs), self.check("h", h, batch, self.hidden), None)[0]

    def vjp(self, x: Array, h: Array) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
        """Return h', and the function from its gradient to those of x and h, which adds to the parameters'."""
        x = self.check_input(x, 2)[:, None]
        _, h_next, _, tape = self.walk(x, self.check("h", h, len(x), self.hidden), None, None, False, True)
        assert tape is not None

        def backward(dh: Array) -> tuple[Array, Array]:
            dx, dh_first, _ = self.walk_back(tape, None, dh, None)
            return dx[:, 0], dh_first

        return h_next, backward

    def _biases(self) -> tuple[Array, Array]:
        """Return the values of both biases."""
        return self.b_input._array, self.b_hidden._array

    def accumulate(self, tape: Tape) -> None:
        """Add the gradients of all parameters."""
        both = slice(None, 2 * self.hidden)
        candidate = slice(2 * self.hidden, None)
        linear.weight_gradient(tape.x, tape.gates, self.w_input.gradient, sums=self.b_input.gradient)
        if self.reset == "after":  # aux: the gradient at U_n h + c_n
            parts = (both, tape.before, tape.gates[:, both]), (candidate, tape.before, tape.aux)
        else:  # aux: r * h
            parts = (both, tape.before, tape.gates[:, both]), (candidate, tape.aux, tape.gates[:, candidate])
        for columns, seen, d in parts:
            dw = linear.weight_gradient(seen, d, sums=self.b_hidden.gradient[columns])
            self.w_hidden.gradient[:, columns] += dw


class GRU(Layer):
    """Gated recurrent units over sequences; `GRUCell` has the formulas.

    Parameters
    ----------
    inputs, hidden : int
        Widths D and H.
    reset : {"after", "before"}
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
        reset: Reset = "after",
        reverse: bool = False,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        cell = GRUCell(inputs, hidden, reset=reset, rng=rng, dtype=dtype)
        self.w_input, self.w_hidden = cell.w_input, cell.w_hidden
        self.b_input, self.b_hidden = cell.b_input, cell.b_hidden
        self.cell, self.reverse = cell, check_flag("reverse", reverse)

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
        y, h_last, _, _ = self._walk(x, h0, lengths, False)
        return y, h_last

    def vjp(
        self, x: Array, h0: Array | None = None, lengths: Array | None = None
    ) -> tuple[Array, Array, Callable[..., tuple[Array, Array]]]:
        """Return y, h_last and ``backward(dy, dh_last=None) -> (dx, dh0)``, which adds to the parameters' gradients.

        dy may be None where only h_last was used. backward may be called once.
        """
        y, h_last, _, tape = self._walk(x, h0, lengths, True)
        assert tape is not None

        def backward(dy: Array | None, dh_last: Array | None = None) -> tuple[Array, Array]:
            return self.cell.walk_back(tape, dy, dh_last, None)[:2]

        return y, h_last, backward

    def _walk(self, x: Array, h0: Array | None, lengths: object, keep: bool) -> Any:
        x = self.cell.check_input(x, 3)
        h = None if h0 is None else self.cell.check("h0", h0, len(x), self.cell.hidden)
        return self.cell.walk(x, h, None, lengths, self.reverse, keep)
