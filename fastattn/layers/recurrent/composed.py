"""Recurrent layers of two directions, and layers on top of each other."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastattn._arrays import Array, as_array, float_array
from fastattn._kernels import core
from fastattn.errors import ArgumentError, DTypeError, ShapeError, describe
from fastattn.layers.backward import form_of, gradients_of
from fastattn.layers.dropout import dropout_vjp
from fastattn.layers.parameter import Layer

__all__ = ["Bidirectional", "Stacked"]


class Bidirectional(Layer):
    """Two recurrent layers over the same sequences, one from each end; outputs and states side by side.

    Parameters
    ----------
    forward_layer : GRU or LSTM
    backward_layer : GRU or LSTM
        One with ``reverse=True``.

    References
    ----------
    M. Schuster and K. Paliwal, "Bidirectional Recurrent Neural Networks", IEEE Trans. Signal Processing 45, 1997.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import GRU, Bidirectional
    >>> rng = np.random.default_rng(0)
    >>> layer = Bidirectional(GRU(3, 4, rng=rng), GRU(3, 4, reverse=True, rng=rng))
    >>> y, h_last = layer.forward(np.ones((2, 5, 3), np.float32), lengths=np.array([5, 2]))
    >>> y.shape, h_last.shape
    ((2, 5, 8), (2, 8))
    """

    def __init__(self, forward_layer: Any, backward_layer: Any) -> None:
        if getattr(forward_layer, "reverse", None) is not False or getattr(backward_layer, "reverse", None) is not True:
            hint = "pass GRU(...) and GRU(..., reverse=True)."
            raise ArgumentError(describe("backward_layer", "the layer with reverse=True", "another", hint))
        self.forward_layer, self.backward_layer = forward_layer, backward_layer

    def forward(self, x: Array, state: Any = None, lengths: Array | None = None) -> tuple[Array, Any]:
        """Return y (B, T, H + H') and the last state, whose arrays are (B, H + H').

        state, if given, is laid out as the one that is returned: an array, or (h, c) of LSTMs.
        """
        first, second = self._split(state)
        y1, s1 = self.forward_layer.forward(x, first, lengths)
        y2, s2 = self.backward_layer.forward(x, second, lengths)
        return np.concatenate([y1, y2], axis=-1), _join(s1, s2)

    def vjp(
        self, x: Array, state: Any = None, lengths: Array | None = None
    ) -> tuple[Array, Any, Callable[..., tuple[Array, Any]]]:
        """Return y, the last state and ``backward(dy, d_state=None) -> (dx, d_state0)``."""
        first, second = self._split(state)
        y1, s1, backward1 = self.forward_layer.vjp(x, first, lengths)
        y2, s2, backward2 = self.backward_layer.vjp(x, second, lengths)
        y, last = np.concatenate([y1, y2], axis=-1), _join(s1, s2)
        form, form_of_last = form_of(y), form_of(last)

        def backward(dy: Array | None, d_state: Any = None) -> tuple[Array, Any]:
            dy1, dy2 = self._split(gradients_of("dy", dy, form))
            d1, d2 = self._split(gradients_of("d_state", d_state, form_of_last))
            dx1, d01 = backward1(dy1, d1)
            dx2, d02 = backward2(dy2, d2)
            dx1 += dx2
            return dx1, _join(d01, d02)

        return y, last, backward

    def _split(self, joined: Any) -> tuple[Any, Any]:
        """The parts of the two layers of an array, of a pair of arrays, or of None."""
        if joined is None:
            return None, None
        if isinstance(joined, tuple) and joined:
            first, second = zip(*(self._split(part) for part in joined))
            return first, second
        array, width = float_array("state", joined), self.forward_layer.cell.hidden
        if not array.ndim:
            hint = "pass a state of both directions, or None."
            raise ShapeError(describe("state", "an array (B, H)", "a number", hint))
        return array[..., :width], array[..., width:]


class Stacked(Layer):
    """Recurrent layers, each over the outputs of the one before.

    Parameters
    ----------
    layers : sequence of GRU, LSTM or Bidirectional
    dropout : float
        Share of the elements dropped between two layers, in training only.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import GRU, Stacked
    >>> rng = np.random.default_rng(0)
    >>> layer = Stacked([GRU(3, 4, rng=rng), GRU(4, 4, rng=rng)])
    >>> y, states = layer.forward(np.ones((2, 5, 3), np.float32))
    >>> y.shape, len(states)
    ((2, 5, 4), 2)
    """

    def __init__(self, layers: Sequence[Any], *, dropout: float = 0.0) -> None:
        self.layers, self.dropout = tuple(layers), dropout

    def forward(self, x: Array, states: Any = None, lengths: Array | None = None) -> tuple[Array, tuple[Any, ...]]:
        """Return the outputs of the last layer and the last state of each; states is a sequence of first states."""
        last = []
        for layer, state in zip(self.layers, self._each(states)):
            x, after = layer.forward(x, state, lengths)
            last.append(after)
        return x, tuple(last)

    def vjp(
        self, x: Array, states: Any = None, lengths: Array | None = None, *, seeds: Any = None
    ) -> tuple[Array, tuple[Any, ...], Callable[..., tuple[Array, tuple[Any, ...]]]]:
        """Return outputs, last states and ``backward(dy, d_states=None) -> (dx, d_states0)``.

        seeds, an int or one uint64 for each sample, choose what is dropped; the layers use different ones.
        """
        last, backwards, drops = [], [], []
        for number, (layer, state) in enumerate(zip(self.layers, self._each(states))):
            if number and self.dropout:
                x, undrop = self._drop(x, seeds, number)
                drops.append(undrop)
            x, after, backward_one = layer.vjp(x, state, lengths)
            last.append(after)
            backwards.append(backward_one)

        form, form_of_last = form_of(x), form_of(tuple(last))

        def backward(dy: Array | None, d_states: Any = None) -> tuple[Array, tuple[Any, ...]]:
            d, first = gradients_of("dy", dy, form), []
            given = gradients_of("d_states", d_states, form_of_last)
            for number in reversed(range(len(backwards))):
                dx, d_state = backwards[number](d, given[number])
                first.append(d_state)
                d = drops[number - 1](dx) if number and self.dropout else dx
            assert d is not None
            return d, tuple(reversed(first))

        return x, tuple(last), backward

    def _each(self, states: Any) -> Sequence[Any]:
        """The states of all layers; None for each without any."""
        count = len(self.layers)
        if states is None:
            return [None] * count
        if not isinstance(states, (tuple, list)) or len(states) != count:
            got = f"{len(states)} of them" if isinstance(states, (tuple, list)) else type(states).__name__
            hint = "pass one for each layer, or None."
            raise ShapeError(describe("states", f"a sequence of {count} states", got, hint))
        return states

    def _drop(self, x: Array, seeds: Any, number: int) -> tuple[Array, Callable[[Array], Array]]:
        if seeds is None:
            hint = "pass seeds=1, say."
            raise ArgumentError(describe("seeds", "an int, or one for each sample, with dropout", "None", hint))
        given = as_array("seeds", seeds)
        if given.dtype.kind not in "iu" or given.ndim > 1:
            hint = "pass seeds=1, say, or an array (B,)."
            raise DTypeError(describe("seeds", "integers", f"{given.dtype} of shape {given.shape}", hint))
        mixed = np.array([core.mix64(int(seed) + number) for seed in np.atleast_1d(given)], np.uint64)
        return dropout_vjp(x, self.dropout, mixed if given.ndim else mixed[0])


def _join(first: Any, second: Any) -> Any:
    if isinstance(first, tuple):
        return tuple(np.concatenate(pair, axis=-1) for pair in zip(first, second))
    return np.concatenate([first, second], axis=-1)
