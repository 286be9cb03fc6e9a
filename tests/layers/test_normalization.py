"""Layer normalization and the feed-forward network: twin, central differences, rows that stay as they are."""

import numpy as np
import pytest
from checks import same_bits
from gradcheck import check_directions

import fastattn
from fastattn import _reference
from fastattn.layers import FeedForward, LayerNorm, dropout
from fastattn.testing.arrays import assigned

dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def layer_norm(width, dtype="float32", epsilon=1e-5):
    rng = np.random.default_rng(width)
    layer = LayerNorm(width, epsilon=epsilon, dtype=dtype)
    for parameter, value in zip((layer.gain, layer.offset), rng.standard_normal((2, width))):
        parameter.assign(value)
    return layer, rng


def run(layer, x, dy, **options):
    for parameter in layer.parameters().values():
        parameter.gradient[...] = 0
    y, backward = layer.vjp(x, **options)
    return [y, backward(dy), *(p.gradient.copy() for p in layer.parameters().values())]


@dtypes
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (2, 3), (7, 16), (600, 33), (3, 512), (5, 130)])
def test_layer_norm_against_the_twin(rows, width, dtype):
    layer, rng = layer_norm(width, dtype)
    x, dy = (rng.standard_normal((rows, width)).astype(dtype) + 0.5 for _ in range(2))
    found = run(layer, x, dy)
    gain, offset = layer.gain.value, layer.offset.value
    expected = [_reference.layer_norm(x, gain, offset, 1e-5), *_reference.layer_norm_vjp(x, gain, 1e-5, dy)]
    assert same_bits(layer.forward(x), found[0])
    for a, b in zip(found, expected):
        assert a.dtype == dtype and np.allclose(a, b, rtol=0, atol=32 * np.finfo(dtype).eps * (1 + np.abs(b).max()))


def test_layer_norm_central_differences():
    layer, rng = layer_norm(11, "float64", epsilon=0.1)
    x, dy = rng.standard_normal((2, 4, 11)), rng.standard_normal((2, 4, 11))
    _, dx, d_gain, d_offset = run(layer, x, dy)
    values, loss = assigned(layer.parameters(), lambda: (layer.forward(x) * dy).sum())
    check_directions(loss, {"x": x, **values}, {"x": dx, "gain": d_gain, "offset": d_offset}, rng)


@dtypes
def test_layer_norm_rows_do_not_depend_on_others(dtype):
    layer, rng = layer_norm(70, dtype)
    x, dy = (rng.standard_normal((600, 70)).astype(dtype) for _ in range(2))
    before = fastattn.get_num_threads()
    try:
        fastattn.set_num_threads(1)
        expected = run(layer, x, dy)
        for threads in (2, 3, 16):
            fastattn.set_num_threads(threads)
            assert same_bits(run(layer, x, dy), expected)
    finally:
        fastattn.set_num_threads(before)
    assert same_bits(run(layer, np.asfortranarray(x), np.asfortranarray(dy)), expected)
    assert same_bits([a.reshape(600, 70) for a in run(layer, x.reshape(6, 100, 70), dy.reshape(6, 100, 70))[:2]],
                     expected[:2])  # fmt: skip
    for rows in (slice(3, 4), slice(255, 300), slice(None, None, -1)):
        assert same_bits(run(layer, x[rows], dy[rows])[:2], [a[rows] for a in expected[:2]])
    # Rows of padding: NaN in x, zero gradients.
    at = np.flatnonzero(np.arange(1000) % 5 < 3)
    padded, d_padded = np.full((1000, 70), np.nan, dtype), np.zeros((1000, 70), dtype)
    padded[at], d_padded[at] = x, dy
    found = run(layer, padded, d_padded)
    assert same_bits(found[2:], expected[2:]) and same_bits(found[1][at], expected[1])
    assert not np.delete(found[1], at, axis=0).any()


def test_threads_do_not_change_which_columns_are_read():
    layer, rng = layer_norm(256)
    x, dy = (rng.standard_normal((600, 256)).astype("float32") for _ in range(2))
    x[7, 3], dy[7, :128] = np.nan, 0  # the gradients of a thread's columns may all be zero
    before = fastattn.get_num_threads()
    try:
        fastattn.set_num_threads(1)
        expected = run(layer, x, dy)
        fastattn.set_num_threads(2)
        assert same_bits(run(layer, x, dy), expected)
    finally:
        fastattn.set_num_threads(before)
    assert np.isnan(expected[2]).all()


def test_layer_norm_of_hard_rows():
    layer = LayerNorm(4)
    assert same_bits(layer.forward(np.full((1, 4), 1e4, np.float32)), np.zeros((1, 4), np.float32))
    y = layer.forward(np.array([[1e4, 1e4 + 1, 1e4 + 2, 1e4 + 3]], np.float32))
    assert np.allclose(y, [[-1.3416, -0.4472, 0.4472, 1.3416]], atol=1e-4)
    assert layer.forward(np.zeros((0, 4), np.float32)).shape == (0, 4)
    assert np.isnan(layer.forward(np.array([[np.nan, 1, 2, 3]], np.float32))).all()


def test_layer_norm_wrong_calls():
    with pytest.raises(fastattn.ShapeError, match=r"^x: expected"):
        LayerNorm(4).forward(np.ones((2, 3), np.float32))
    with pytest.raises(fastattn.DTypeError, match=r"^x: expected"):
        LayerNorm(4).forward(np.ones((2, 4)))
    with pytest.raises(fastattn.ShapeError, match=r"^dy: expected"):
        LayerNorm(4).vjp(np.ones((2, 4), np.float32))[1](np.ones((1, 4), np.float32))
    with pytest.raises(fastattn.DTypeError, match=r"^dy: expected"):
        LayerNorm(4).vjp(np.ones((2, 4), np.float32))[1](np.ones((2, 4)))
    with pytest.raises(fastattn.ArgumentError, match=r"^epsilon: expected"):
        LayerNorm(4, epsilon=-1)


def test_feed_forward():
    rng = np.random.default_rng(5)
    layer = FeedForward(6, 17, rng=rng, dtype="float64")
    for parameter in layer.parameters().values():
        parameter.assign(rng.standard_normal(parameter.value.shape))
    x, dy = rng.standard_normal((3, 4, 6)), rng.standard_normal((3, 4, 6))
    y, dx, *gradients = run(layer, x, dy)
    p, forward_loss = assigned(layer.parameters(), lambda: (layer.vjp(x)[0] * dy).sum())
    expected = np.maximum(x @ p["inner.w"] + p["inner.b"], 0) @ p["outer.w"] + p["outer.b"]
    assert np.allclose(y, expected, rtol=1e-13) and same_bits(layer.forward(x), y)

    check_directions(forward_loss, {"x": x, **p}, {"x": dx, **dict(zip(p, gradients))}, rng)
    y, dx, *gradients = run(layer, x, dy, rate=0.5, seed=1)
    h = dropout(np.maximum(layer.inner.forward(x), 0), 0.5, 1)
    assert same_bits(layer.outer.forward(h), y)
    p, dropped_loss = assigned(layer.parameters(), lambda: (layer.vjp(x, rate=0.5, seed=1)[0] * dy).sum())
    check_directions(dropped_loss, {"x": x, **p}, {"x": dx, **dict(zip(p, gradients))}, rng)
    assert same_bits(layer.forward(x[1:2]), layer.forward(x)[1:2])
