"""Activations of feed-forward networks, and their slopes, against Python's own functions of one number."""

import math

import numpy as np
import pytest

from fastattn.layers.activations import activate, slope

X = np.concatenate([np.linspace(-42, 42, 4001), np.linspace(-1, 1, 4001), [0.0, -0.0, 1e-30, -1e-30, 1e30, -1e30]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["gelu", "swish"])
def test_values_and_slopes_are_right_to_a_few_units_in_the_last_place(name, dtype):
    x = X.astype(dtype)
    exact = x.astype(np.float64)
    below = np.array([0.5 * math.erfc(-each / math.sqrt(2)) for each in exact])
    sigmoid = np.array([1 / (1 + math.exp(-each)) if each > -700 else 0.0 for each in exact])
    value, steep = {
        "gelu": (exact * below, below + exact * np.exp(-np.minimum(exact**2, 1e4) / 2) / math.sqrt(2 * math.pi)),
        "swish": (exact * sigmoid, sigmoid + exact * sigmoid * (1 - sigmoid)),
    }[name]
    eps = np.finfo(dtype).eps
    assert (np.abs(activate(name, x) - value) <= 3 * eps * np.abs(exact)).all()
    assert (np.abs(slope(name, x) - steep) <= 4 * eps * (1 + np.minimum(np.abs(exact), 2))).all()


@pytest.mark.parametrize("name", ["gelu", "swish"])
def test_an_element_has_the_same_bits_in_any_array(name):
    x = np.random.default_rng(0).normal(0, 3, (3, 40001)).astype(np.float32)
    for f in (activate, slope):
        whole = f(name, x)
        assert np.array_equal(whole[1, 7:30], f(name, x[1, 7:30].copy()))
