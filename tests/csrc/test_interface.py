"""Attention through the table for compiled plugins: ``interface.c``, compiled against the header, in bits of Python.

Arrays of every layout are the caller's own; what the structures of the header say wrongly is refused before it is read.
"""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from cases import AttentionCase, make, options
from checks import same_bits

import fastattn
from fastattn._kernels import core
from fastattn.scores.registry import resolve

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs GCC, as building does"),
    pytest.mark.skipif(not hasattr(core, "_C_API"), reason="kernels in Numba have no table for compiled plugins"),
]
SCORES = {"dot": 0, "scaled_dot": 0, "additive": 1, "l1": 2}
ACTIVATIONS = {"tanh": 0, "sigmoid": 1, "relu": 2}
CAUSAL = {None: 0, "top_left": 1, "bottom_right": 2}
CASES = [
    AttentionCase("plain", (3, 4), tq=33, tk=70, dk=16, dv=9),
    AttentionCase(
        "everything", (2, 4), key_heads=2, tq=30, tk=65, score="dot", softcap=3.0, mask=(2, 1, 1, 65),
        bias=(4, 30, 65), key_lengths=(65, 40), causal="bottom_right", window=(50, 9), dropout=0.2, seed=(5, 6),
        dtype="float64",
    ),
    AttentionCase("bias of all", (3, 2), tq=7, tk=31, bias=(7, 31), window=(None, 3)),
    AttentionCase("additive", (2, 1), tq=17, tk=40, dk=16, score="additive", given="", activation="sigmoid"),
    AttentionCase("l1", (2, 2), tq=5, tk=40, score="l1", causal="top_left"),
    AttentionCase("no queries", (2, 2), tq=0, tk=4),
    AttentionCase("no samples", (0, 2), tq=3, tk=4, dk=16, score="additive", given=""),
]  # fmt: skip


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """The functions of interface.c, and the table."""
    library = tmp_path_factory.mktemp("interface") / "interface.so"
    source = Path(__file__).with_name("interface.c")
    command = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers", "-shared", "-fPIC",
               f"-I{fastattn.get_include()}", source, "-o", library]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    address = ctypes.pythonapi.PyCapsule_GetPointer
    address.restype, address.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = ctypes.c_void_p(address(core._C_API, b"fastattn._kernels.core._C_API"))
    loaded = ctypes.CDLL(str(library))
    return lambda name, *given: getattr(loaded, name)(table, *given)


def strides(array, axes):
    """In elements, 0 along what is one for all; of (batch, head, row), or with the column."""
    found = [0 if n == 1 else step // array.itemsize for n, step in zip(array.shape, array.strides)]
    return ([0] * (4 - array.ndim) + found)[:axes]


def numbers(values, kind):
    return (kind * len(values))(*values)


def pointers(arrays):
    return numbers([None if x is None else x.ctypes.data for x in arrays], ctypes.c_void_p)


def third(array):
    """The same numbers, laid out (B, T, H, D)."""
    return np.ascontiguousarray(array.swapaxes(1, 2)).swapaxes(1, 2)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_bits_are_those_of_python(case, plugin):
    p = make(case)
    given = options(p)
    dtype, score = np.dtype(case.dtype), given.get("score")
    vector = getattr(score, "vector", lambda: None)()
    query, key, value = (third(x) for x in p.arrays)
    mask, bias = (x if x is None or x.ndim > 1 else x[None] for x in (given.get("mask"), given.get("bias")))
    lengths = None if case.key_lengths is None else np.array(case.key_lengths, np.int64)
    seeds = None if case.seed is None else np.array(case.seed, np.uint64)
    output, residuals = fastattn.attention_forward(query, key, value, return_weights=True, return_lse=True, **given)
    expected = fastattn.attention_backward(
        query, key, value, residuals, p.d_context, d_weights=p.d_weights, d_lse=p.d_lse, **given
    )
    spoilt = lambda like: np.full_like(like, 7.0)  # noqa: E731 -- what was not written shows
    context, weights, lse, row_max, row_sum = map(spoilt, (*output, residuals.row_max, residuals.row_sum))
    left, right = case.window or (None, None)
    left, right = (-1 if side is None else side for side in (left, right))
    scale = resolve(case.score if score is None else score).default_scale(case.dk)
    layout = [
        *(int(dtype == np.float64), 0, SCORES[case.score], ACTIVATIONS[case.activation], CAUSAL[case.causal]),
        *(int(case.window is not None), left, right),
        *(query.shape[0], query.shape[1], key.shape[1], query.shape[2], key.shape[2], query.shape[3], value.shape[3]),
        *strides(query, 3), *strides(key, 3), *strides(value, 3),
        *([0] * 4 if mask is None else strides(mask, 4)), *([0] * 4 if bias is None else strides(bias, 4)),
        *strides(context, 3),
    ]  # fmt: skip
    reals = numbers([scale, case.softcap or 0, case.dropout], ctypes.c_double)
    arrays = [
        *(query, key, value, vector, mask, bias, lengths, seeds), *(context, weights, lse, row_max, row_sum)
    ]  # fmt: skip
    assert plugin("forward", numbers(layout, ctypes.c_int64), reals, pointers(arrays)) == 0
    assert same_bits(output, (context, weights, lse))
    assert same_bits((residuals.row_max, residuals.row_sum), (row_max, row_sum))

    d_bias = None if bias is None else np.zeros(bias.shape)
    d_vector = None if vector is None else spoilt(vector)
    d_query, d_key, d_value = map(spoilt, expected[:3])
    d_context = third(p.d_context)
    layout += [*strides(d_context, 3), *([0] * 4 if d_bias is None else strides(d_bias, 4)), 1]
    arrays += [d_context, p.d_weights, p.d_lse, d_query, d_key, d_value, d_vector, d_bias]
    assert plugin("backward", numbers(layout, ctypes.c_int64), reals, pointers(arrays)) == 0
    assert same_bits(expected[:3], (d_query, d_key, d_value))
    if d_bias is not None:
        np.testing.assert_allclose(d_bias, expected.bias, rtol=1e-6, atol=1e-7)
    if vector is not None:
        assert same_bits([expected.score["v"]], [d_vector])


def test_gradients_that_overflow_are_said_to(plugin):
    x = np.full((1, 1, 3, 4), 1e30, np.float32)
    small = np.ones_like(x)
    out, rows = np.empty_like(x), np.empty((2, 3), np.float32)
    layout = [*(0,) * 6, 0, 0, *(1, 1, 1, 3, 3, 4, 4), *(0, 0, 4) * 3, *(0,) * 8, *(0, 0, 4)]
    reals = numbers([0.5, 0, 0], ctypes.c_double)
    arrays = [small, small, x, *(None,) * 5, out, None, None, rows[0], rows[1]]
    assert plugin("forward", numbers(layout, ctypes.c_int64), reals, pointers(arrays)) == 0
    gradients = [np.empty_like(x) for _ in range(3)]
    arrays += [x, None, None, *gradients, None, None]
    layout += [0, 0, 4, *(0,) * 4, 0]
    assert plugin("backward", numbers(layout, ctypes.c_int64), reals, pointers(arrays)) == 2


def test_what_cannot_be_is_refused(plugin):
    assert plugin("not_refused") == 0
