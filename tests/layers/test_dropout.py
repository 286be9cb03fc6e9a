"""Dropout of elements: the twin's mask, masks that belong to the sample, and gradients."""

import numpy as np
import pytest
from checks import same_bits

import fastattn
from fastattn import _reference
from fastattn.layers import dropout, dropout_vjp

SEEDS = np.array([3, 2**64 - 1, 0, 12345678901234567890, 7], np.uint64)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.999])
@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 37), (5, 3, 129)])
def test_against_the_twin(shape, rate, dtype):
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)
    kept = _reference.element_mask(SEEDS, x[0].size, rate).reshape(shape)
    y, backward = dropout_vjp(x, rate, SEEDS)
    scale = np.dtype(dtype).type(1 / (1 - rate))
    assert same_bits(y, np.where(kept, x * scale, 0).astype(dtype))
    assert same_bits(backward(dy), np.where(kept, dy * scale, 0).astype(dtype))
    assert same_bits(dropout(x, rate, SEEDS), y)


def test_an_int_is_spread_over_the_batch_as_in_attention():
    x = np.ones((4, 50), np.float32)
    assert same_bits(dropout(x, 0.4, 11), dropout(x, 0.4, np.array(_reference.sample_seeds(11, 4), np.uint64)))
    assert len({row.tobytes() for row in dropout(x, 0.4, 11)}) == 4


def test_a_sample_keeps_its_mask_in_any_batch_and_with_any_padding():
    x = np.random.default_rng(2).standard_normal((5, 8, 16)).astype(np.float32)
    y = dropout(x, 0.3, SEEDS)
    assert same_bits(dropout(x[3:4], 0.3, SEEDS[3:4]), y[3:4])
    assert same_bits(dropout(x[::-1], 0.3, SEEDS[::-1]), y[::-1])
    assert same_bits(dropout(x[:, :5], 0.3, SEEDS), y[:, :5])
    assert same_bits(dropout(np.asfortranarray(x), 0.3, SEEDS), y)


def test_threads():
    x = np.random.default_rng(2).standard_normal((5, 400, 100)).astype(np.float32)
    before = fastattn.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3, 16):
            fastattn.set_num_threads(threads)
            results.append(dropout(x, 0.3, SEEDS))
    finally:
        fastattn.set_num_threads(before)
    assert all(same_bits(result, results[0]) for result in results)


def test_how_much_is_dropped():
    y = dropout(np.ones((5, 100_000), np.float32), 0.3, SEEDS)
    dropped = (y == 0).mean(axis=-1)
    assert (np.abs(dropped - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 100_000)).all()
    both = ((y[0] == 0) & (y[1] == 0)).mean()
    assert abs(both - 0.09) < 5 * np.sqrt(0.09 * 0.91 / 100_000)


def test_what_is_dropped_is_not_read_and_rate_zero_is_the_identity():
    x = np.ones((1, 64), np.float32)
    kept = dropout(x, 0.5, SEEDS[:1]) != 0
    y, backward = dropout_vjp(np.where(kept, x, np.nan), 0.5, SEEDS[:1])
    assert np.isfinite(y).all() and np.isfinite(backward(np.where(kept, x, np.inf))).all()
    assert dropout(x, 0.0, 1) is x
    assert dropout(np.ones((0, 3)), 0.5, 1).shape == (0, 3)


@pytest.mark.parametrize(
    ("rate", "seed", "error", "argument"),
    [
        (1.0, 1, fastattn.ArgumentError, "rate"),
        (-0.1, 1, fastattn.ArgumentError, "rate"),
        (float("nan"), 1, fastattn.ArgumentError, "rate"),
        ("half", 1, fastattn.DTypeError, "rate"),
        (0.5, 1.0, fastattn.DTypeError, "seed"),
        (0.5, None, fastattn.DTypeError, "seed"),
        (0.5, np.array([1, 2, 3]), fastattn.ShapeError, "seed"),
    ],
)
def test_wrong_calls(rate, seed, error, argument):
    with pytest.raises(error, match=f"^{argument}: expected"):
        dropout(np.ones((2, 3), np.float32), rate, seed)
    with pytest.raises(fastattn.ShapeError, match=r"^x: expected"):
        dropout(np.float32(1), 0.5, 1)
    with pytest.raises(fastattn.ShapeError, match=r"^dy: expected"):
        dropout_vjp(np.ones((2, 3)), 0.5, 1)[1](np.ones((2, 4)))
