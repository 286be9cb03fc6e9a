"""Embedding: rows by id, and their gradients in ascending order of position."""

import numpy as np
import pytest
from checks import same_bits

import fastattn
from fastattn import _reference
from fastattn.layers import Embedding


def table(size=9, width=5, dtype="float32", padding=None):
    return Embedding(size, width, padding=padding, rng=np.random.default_rng(3), dtype=dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("padding", [None, 0, 4])
@pytest.mark.parametrize("width", [1, 5, 16, 70])
def test_against_the_twin(width, padding, dtype):
    rng = np.random.default_rng(0)
    layer = table(9, width, dtype, padding)
    ids = rng.integers(0, 9, (6, 11), dtype=np.int32)
    y, backward = layer.vjp(ids)
    assert same_bits(y, layer.w.value[ids]) and same_bits(layer.forward(ids), y)
    dy = rng.standard_normal(y.shape).astype(dtype)
    backward(dy)
    expected = _reference.embedding_vjp(ids, dy, 9, padding)
    assert np.allclose(layer.w.gradient, expected, rtol=0, atol=50 * np.finfo(dtype).eps)
    assert layer.w.gradient.any() and (padding is None or not layer.w.gradient[padding].any())


def test_gradients_are_added_in_ascending_order():
    layer = table(3, 1)
    y, backward = layer.vjp(np.array([1, 1, 1, 2]))
    backward(np.array([[1e8], [-1e8], [1.0], [5.0]], np.float32))
    assert layer.w.gradient[:, 0].tolist() == [0.0, 1.0, 5.0]
    y, backward = layer.vjp(np.array([1]))
    backward(np.ones_like(y))
    assert layer.w.gradient[:, 0].tolist() == [0.0, 2.0, 5.0]


def test_padding_is_zero_and_not_read():
    layer = table(padding=0)
    ids = np.array([[3, 0], [0, 0], [3, 5]])
    y, backward = layer.vjp(ids)
    assert not y[ids == 0].any()
    dy = np.where((ids == 0)[..., None], np.nan, np.ones_like(y)).astype(np.float32)
    backward(dy)
    assert layer.w.gradient.sum(axis=-1).tolist() == [0, 0, 0, 10, 0, 5, 0, 0, 0]


def test_strides_threads_and_shapes():
    rng = np.random.default_rng(1)
    ids, dy = rng.integers(0, 50, (40, 30)), rng.standard_normal((40, 30, 33)).astype(np.float32)
    before = fastattn.get_num_threads()

    def gradient(ids, dy):
        layer = table(50, 33)
        layer.vjp(ids)[1](dy)
        return layer.w.gradient

    try:
        fastattn.set_num_threads(1)
        expected = gradient(ids, dy)
        for threads in (2, 3, 16):
            fastattn.set_num_threads(threads)
            assert same_bits(gradient(ids, dy), expected)
    finally:
        fastattn.set_num_threads(before)
    assert same_bits(gradient(np.asfortranarray(ids), np.asfortranarray(dy)), expected)
    assert same_bits(gradient(ids.reshape(-1), dy.reshape(-1, 33)), expected)
    empty = table().forward(np.zeros((2, 0), np.int64))
    assert empty.shape == (2, 0, 5)
    assert table().forward(np.int64(3)).shape == (5,)


def test_wrong_calls():
    layer = table()
    wrong = [
        (np.array([9]), fastattn.ArgumentError),
        (np.array([-1]), fastattn.ArgumentError),
        (np.array([2**63], np.uint64), fastattn.ArgumentError),
        (np.array([1.0]), fastattn.DTypeError),
    ]
    for ids, error in wrong:
        with pytest.raises(error, match=r"ids: expected"):
            layer.forward(ids)
    with pytest.raises(fastattn.ShapeError, match="dy: expected"):
        layer.vjp(np.array([1, 2]))[1](np.ones((2, 4), np.float32))
    with pytest.raises(fastattn.DTypeError, match="dy: expected"):
        layer.vjp(np.array([1, 2]))[1](np.ones((2, 5)))
    with pytest.raises(fastattn.ArgumentError, match="padding: expected"):
        table(padding=9)
