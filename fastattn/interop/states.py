"""States of PyTorch's modules into layers of fastattn, name by name; PyTorch itself is not needed."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fastattn._arrays import Array, wide_array
from fastattn.errors import ArgumentError, DTypeError, ShapeError, describe, did_you_mean
from fastattn.layers import (
    GRU,
    LSTM,
    Bidirectional,
    Embedding,
    GRUCell,
    Layer,
    LayerNorm,
    Linear,
    LSTMCell,
    Parameter,
    Stacked,
)
from fastattn.variants.protocol.variant import Variant

__all__ = ["load_states"]

Take = Callable[..., Array]
Pairs = Iterator[tuple[Parameter, Array]]


def load_states(layer: Layer, states: Mapping[str, Any], prefix: str = "") -> None:
    """Copy the states of a module of PyTorch into the layer of fastattn that computes the same.

    Parameters
    ----------
    layer : Linear, Embedding, LayerNorm, LSTM, GRU, LSTMCell, GRUCell, Bidirectional, Stacked, or a variant of heads
        Of the module's sizes. ``nn.LSTM`` and ``nn.GRU`` of several layers are a `Stacked`, of two directions
        `Bidirectional` in it; ``nn.MultiheadAttention`` is ``create("multihead")``.
    states : mapping of str to array
        As ``module.state_dict()`` has them: tensors on the CPU without gradient, or arrays, of half types too.
    prefix : str
        What their names begin with: "encoder.rnn.", say. Names that begin otherwise are not read.

    Raises
    ------
    ArgumentError
        By its name, if a state is missing, or one with this prefix is of no use; if a GRU has ``reset="before"``.
    DTypeError
        If `states` is no mapping, as a module is none, a state is no array of floats, or PyTorch has no such layer.
    ShapeError
        If a state is of another shape.

    Notes
    -----
    ::

        Linear       w = weight.T                 b = bias
        Embedding    w = weight
        LayerNorm    gain = weight                offset = bias
        LSTM         w_input = weight_ih.T        w_hidden = weight_hh.T      b = bias_ih + bias_hh
        GRU          w_input = weight_ih.T        w_hidden = weight_hh.T      b_input = bias_ih    b_hidden = bias_hh
        multihead    as its method `load_torch` does

    Gates are in one order in both. A GRU of PyTorch has ``reset="after"``. Of recurrent layers and LayerNorm with
    ``bias=False`` the biases here are 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.interop.states import load_states
    >>> from fastattn.layers import Linear
    >>> layer = Linear(2, 3, rng=np.random.default_rng(0))
    >>> states = {"out.weight": np.ones((3, 2), np.float32), "out.bias": np.zeros(3, np.float32)}
    >>> load_states(layer, states, "out.")
    >>> layer.forward(np.ones((1, 2), np.float32))
    array([[2., 2., 2.]], dtype=float32)
    """
    if not isinstance(states, Mapping):
        raise DTypeError(
            describe("states", "a mapping of names to arrays", type(states).__name__, "pass module.state_dict().")
        )
    left = {name.removeprefix(prefix): state for name, state in states.items() if name.startswith(prefix)}
    known = sorted(left)

    def take(name: str, size: int | None = None) -> Array:
        """Return a state; for a bias whose size is given, zeros if the module has none."""
        if size is not None and not any(one.startswith("bias") for one in known):
            return np.zeros(size, np.float32)
        if name not in left:
            other = "give the prefix of the module, or another layer."
            if name == "bias":
                other = "make the layer with bias=False, as the module is."
            hint = did_you_mean(name, known, other)
            raise ArgumentError(describe("states", f"{prefix}{name}, for {type(layer).__name__}", known[:5], hint))
        return wide_array(f"states[{prefix + name!r}]", left.pop(name))

    if isinstance(layer, Variant) and hasattr(layer, "load_torch"):
        layer.load_torch(left)
        return
    pairs = list(_pairs(layer, take))
    if left:
        hint = "make the layer with what the module has: a bias, more layers, the other direction."
        raise ArgumentError(describe("states", "none besides these", sorted(left)[:5], hint))
    for parameter, state in pairs:  # all of them are checked before the first one is changed
        if state.shape != parameter.value.shape:
            expected, got = f"shape {parameter.value.shape}, turned as ours", f"shape {state.shape}"
            raise ShapeError(describe("states", expected, got, "make the layer with the sizes of the module."))
    for parameter, state in pairs:
        parameter.assign(state)


def _pairs(layer: Any, take: Take, end: str = "") -> Pairs:
    """Yield the parameters of a layer and what they are to be, from the states whose names end so."""
    if isinstance(layer, Stacked):
        for number, one in enumerate(layer.layers):
            yield from _pairs(one, take, f"_l{number}")
    elif isinstance(layer, Bidirectional):
        yield from _pairs(layer.forward_layer, take, end or "_l0")
        yield from _pairs(layer.backward_layer, take, f"{end or '_l0'}_reverse")
    elif isinstance(layer, (LSTM, GRU, LSTMCell, GRUCell)):
        if getattr(getattr(layer, "cell", layer), "reset", "after") != "after":
            hint = 'make it with reset="after", as GRUs of PyTorch are.'
            raise ArgumentError(describe("layer", 'one with reset="after"', 'reset="before"', hint))
        end = end or ("_l0" if isinstance(layer, (LSTM, GRU)) else "")
        yield layer.w_input, take(f"weight_ih{end}").T
        yield layer.w_hidden, take(f"weight_hh{end}").T
        size = layer.w_input.value.shape[1]
        biases = take(f"bias_ih{end}", size), take(f"bias_hh{end}", size)
        if isinstance(layer, (LSTM, LSTMCell)):
            yield layer.b, biases[0] + biases[1]
        else:
            yield from zip((layer.b_input, layer.b_hidden), biases)
    elif isinstance(layer, Linear):
        yield layer.w, take("weight").T
        if layer.b is not None:
            yield layer.b, take("bias")
    elif isinstance(layer, Embedding):
        yield layer.w, take("weight")
    elif isinstance(layer, LayerNorm):
        yield from ((layer.gain, take("weight")), (layer.offset, take("bias", layer.offset.value.size)))
    else:
        hint = "load the layers that it is made of, one by one."
        raise DTypeError(describe("layer", "a layer that PyTorch has", type(layer).__name__, hint))
