"""Layers with arrays of half types."""

import numpy as np
import pytest
from checks import narrow_and_wide, same_bits, same_rounded

from fastattn import layers
from fastattn.errors import DTypeError

HALVES = [np.dtype(np.float16), np.dtype(pytest.importorskip("ml_dtypes").bfloat16)]
RNG = np.random.default_rng(0)


def both_ways(layer, half, x, *states):
    """Outputs and all gradients of inputs, with gradients of the type; those of the parameters have their own."""
    found = layer.vjp(x, *states)
    *outputs, backward = found
    d = narrow_and_wide(half, *outputs[0].shape)[x.dtype == np.float32]
    before = {name: p.gradient.copy() for name, p in layer.parameters().items()}
    gradients = backward(d)
    added = {name: p.gradient - before[name] for name, p in layer.parameters().items()}
    for p in layer.parameters().values():
        p.gradient = np.zeros_like(p.gradient)
    return (*outputs, gradients), added


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize(
    "layer",
    [
        layers.Linear(6, 4, rng=RNG),
        layers.FeedForward(6, 8, rng=RNG),
        layers.LayerNorm(6),
        layers.GRU(6, 4, rng=RNG),
        layers.LSTM(6, 4, rng=RNG),
        layers.Bidirectional(layers.GRU(6, 4, rng=RNG), layers.GRU(6, 4, reverse=True, rng=RNG)),
        layers.Stacked([layers.LSTM(6, 4, rng=RNG), layers.LSTM(4, 3, rng=RNG)]),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers(layer, half):
    x, wide = narrow_and_wide(half, 3, 5, 6)
    assert same_rounded(layer.forward(x), layer.forward(wide), half)
    assert same_rounded(layer.forward(x=x), layer.forward(x=wide), half)
    (*found, dx), added = both_ways(layer, half, x)
    (*expected, wide_dx), wide_added = both_ways(layer, half, wide)
    assert same_rounded(tuple(found), tuple(expected), half) and same_rounded(dx, wide_dx, half)
    assert all(same_bits(added[name], one) for name, one in wide_added.items())


@pytest.mark.parametrize("half", HALVES, ids=str)
def test_cells_take_states_of_either_type(half):
    (x, wide_x), (h, wide_h), (c, wide_c) = (narrow_and_wide(half, n, 4) for n in (3, 3, 3))
    gru, lstm = layers.GRUCell(4, 4, rng=RNG), layers.LSTMCell(4, 4, rng=RNG)
    for state in (h, wide_h):
        assert same_rounded(gru.forward(x, state), gru.forward(wide_x, wide_h), half)
    for state in ((h, c), (wide_h, wide_c)):
        assert same_rounded(lstm.forward(x, state), lstm.forward(wide_x, (wide_h, wide_c)), half)


def test_a_layer_of_another_type_says_what_it_was_given():
    layer = layers.GRU(6, 4, rng=RNG, dtype=np.float64)
    with pytest.raises(DTypeError, match=r"^x: expected a float32 or float64 array, got float16"):
        layer.forward(np.zeros((1, 2, 6), np.float16))


def test_a_plugin_has_it_too():
    class Twice(layers.Layer):
        def forward(self, x):
            assert x.dtype == np.float32
            return x + x

    assert Twice().forward(np.ones(3, np.float16)).dtype == np.float16
