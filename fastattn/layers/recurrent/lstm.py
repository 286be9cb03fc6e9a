"""Long short-term memory, as a single step and over sequences."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn import linear
from fastattn._arrays import Array
from fastattn._numbers import check_flag
from fastattn.errors import ShapeError, describe
from fastattn.layers.backward import form_of, gradients_of
from fastattn.layers.parameter import Layer, Parameter
from fastattn.layers.recurrent.cell import Kind, RecurrentCell, Tape

__all__ = ["LSTM", "LSTMCell"]

State = tuple[Array, Array]


class LSTMCell(RecurrentCell):
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
        super().__init__(Kind.LSTM, inputs, hidden, dtype)
        self.w_input = Parameter(rng.uniform(-bound, bound, (inputs, 4 * hidden)).astype(dtype))
        self.w_hidden = Parameter(rng.uniform(-bound, bound, (hidden, 4 * hidden)).astype(dtype))
        bias = np.zeros(4 * hidden, dtype)
        bias[hidden : 2 * hidden] = forget_bias
        self.b = Parameter(bias)

    def forward(self, x: Array, state: State) -> State:
        """Return (h', c') for x (B, D) and state (h, c), each (B, H)."""
        batch = self.check_input(x, 2).shape[0]
        h, c = self.pair(("h", "c"), state, batch)
        h_next, c_next = self.step(self.check("x", x, batch, self.inputs), h, c)
        assert c_next is not None
        return h_next, c_next

    def vjp(self, x: Array, state: State) -> tuple[State, Callable[[tuple[Any, Any]], tuple[Array, State]]]:
        """Return (h', c') and ``backward((dh', dc')) -> (dx, (dh, dc))``, which adds to the parameters' gradients.

        Either of dh' and dc' may be None.
        """
        x = self.check_input(x, 2)[:, None]
        _, h_next, c_next, tape = self.walk(x, *self.pair(("h", "c"), state, len(x)), None, False, True)
        assert c_next is not None and tape is not None
        form = form_of((h_next, c_next))

        def backward(d_after: tuple[Any, Any]) -> tuple[Array, State]:
            dx, dh, dc = self.walk_back(tape, None, *gradients_of("d_after", d_after, form))
            assert dc is not None
            return dx[:, 0], (dh, dc)

        return (h_next, c_next), backward

    def pair(self, names: tuple[str, str], state: Any, batch: int) -> State:
        """Return both parts of a state, checked; None is zeros."""
        if state is None:
            return self.zeros(batch), self.zeros(batch)
        if not isinstance(state, tuple) or len(state) != 2:
            raise ShapeError(describe("state", "a tuple (h, c)", type(state).__name__, "pass both parts, or None."))
        h, c = state
        return self.check(names[0], h, batch, self.hidden), self.check(names[1], c, batch, self.hidden)

    def _biases(self) -> tuple[Array, None]:
        """Return the value of the bias."""
        return self.b._array, None

    def accumulate(self, tape: Tape) -> None:
        """Add the gradients of all parameters."""
        linear.weight_gradient(tape.x, tape.gates, self.w_input.gradient, sums=self.b.gradient)
        linear.weight_gradient(tape.before, tape.gates, self.w_hidden.gradient)


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
        self.cell, self.reverse = cell, check_flag("reverse", reverse)

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
        y, h, c, _ = self._walk(x, state, lengths, False)
        return y, (h, c)

    def vjp(
        self, x: Array, state: State | None = None, lengths: Array | None = None
    ) -> tuple[Array, State, Callable[..., tuple[Array, State]]]:
        """Return y, (h, c) and ``backward(dy, d_state=None) -> (dx, (dh0, dc0))``, which adds to the parameters'.

        dy may be None where only the last state was used, d_state is a pair of which either may be None. backward may
        be called once.
        """
        y, h, c, tape = self._walk(x, state, lengths, True)
        assert tape is not None
        form = form_of((h, c))

        def backward(dy: Array | None, d_state: tuple[Any, Any] | None = None) -> tuple[Array, State]:
            dx, dh, dc = self.cell.walk_back(tape, dy, *gradients_of("d_state", d_state, form))
            assert dc is not None
            return dx, (dh, dc)

        return y, (h, c), backward

    def _walk(self, x: Array, state: State | None, lengths: object, keep: bool) -> Any:
        x = self.cell.check_input(x, 3)
        return self.cell.walk(x, *self.cell.pair(("h", "c"), state, len(x)), lengths, self.reverse, keep)
