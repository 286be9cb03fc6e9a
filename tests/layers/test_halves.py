"""Layers and variants with arrays of half types: what they return is that of the same numbers in float32, rounded."""

import numpy as np
import pytest
from checks import same_bits
from variant_cases import CASES, label, make

from fastattn import layers
from fastattn.errors import DTypeError

HALVES = [np.dtype(np.float16), np.dtype(pytest.importorskip("ml_dtypes").bfloat16)]
RNG = np.random.default_rng(0)


def drawn(half, *shape):
    """Numbers of a half type, and the same in float32."""
    numbers = np.random.default_rng(list(shape)).standard_normal(shape).astype(half)
    return numbers, numbers.astype(np.float32)


def same(found, expected, half):
    """Whether arrays, or all in tuples, are those of float32, rounded; what is neither is not compared."""
    if isinstance(expected, tuple):
        return type(found) is type(expected) and all(same(*pair, half) for pair in zip(found, expected, strict=True))
    if not isinstance(expected, np.ndarray):
        return type(found) is type(expected)
    return found.dtype == half and same_bits(found.view(np.uint16), expected.astype(half).view(np.uint16))


def both_ways(layer, half, x, *states):
    """Outputs and all gradients of inputs, with gradients of the type; those of the parameters have their own."""
    found = layer.vjp(x, *states)
    *outputs, backward = found
    d = drawn(half, *outputs[0].shape)[x.dtype == np.float32]
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
    x, wide = drawn(half, 3, 5, 6)
    assert same(layer.forward(x), layer.forward(wide), half)
    (*found, dx), added = both_ways(layer, half, x)
    (*expected, wide_dx), wide_added = both_ways(layer, half, wide)
    assert same(tuple(found), tuple(expected), half) and same(dx, wide_dx, half)
    assert all(same_bits(added[name], one) for name, one in wide_added.items())


@pytest.mark.parametrize("half", HALVES, ids=str)
def test_cells_take_states_of_either_type(half):
    (x, wide_x), (h, wide_h), (c, wide_c) = (drawn(half, n, 4) for n in (3, 3, 3))
    gru, lstm = layers.GRUCell(4, 4, rng=RNG), layers.LSTMCell(4, 4, rng=RNG)
    for state in (h, wide_h):
        assert same(gru.forward(x, state), gru.forward(wide_x, wide_h), half)
    for state in ((h, c), (wide_h, wide_c)):
        assert same(lstm.forward(x, state), lstm.forward(wide_x, (wide_h, wide_c)), half)


def test_a_layer_of_another_type_says_what_it_was_given():
    layer = layers.GRU(6, 4, rng=RNG, dtype=np.float64)
    with pytest.raises(DTypeError, match=r"^x: expected a float32 or float64 array, got float16"):
        layer.forward(np.zeros((1, 2, 6), np.float16))


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=label)
def test_variants(case, half):
    """The memory, queries and gradients of a half type; contexts, weights and gradients come back in it."""
    problem = make(case, np.float32, masked=False)
    variant = problem.variant
    narrow = [x.astype(half) for x in (problem.memory, problem.queries)]
    d, wide_d = drawn(half, *variant.forward(problem.queries, problem.prepare()).shape)
    results = []
    for (memory, queries), d_context in ((narrow, d), ([x.astype(np.float32) for x in narrow], wide_d)):
        prepared = variant.prepare(memory, problem.lengths)
        output, backward = variant.vjp(queries, prepared, return_weights=True)
        gradients = backward(d_context)
        context, weights, _ = variant.step(queries[:, 0], prepared, variant.start(prepared))
        results.append((tuple(output)[:2], gradients, context, weights, variant.forward(queries, prepared)))
    assert same(*results, half)


def test_a_plugin_has_it_too():
    class Twice(layers.Layer):
        def forward(self, x):
            assert x.dtype == np.float32
            return x + x

    assert Twice().forward(np.ones(3, np.float16)).dtype == np.float16
