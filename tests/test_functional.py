"""exp, tanh, sigmoid and softmax against exact values."""

import numpy as np
import pytest
from checks import same_bits
from elementwise_errors import FUNCTIONS, distance, every_exponent

import fastattn
from fastattn import _reference, functional

# exp is promised within 2 units in the last place; the others within 4, three of the quotient and one of exp.
ULPS = {"exp": 2, "tanh": 4, "sigmoid": 4}
SHAPES = [(0,), (1,), (7,), (64,), (3, 0), (2, 3, 5), ()]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_ulps_over_all_exponents_float32(name):
    x = every_exponent()
    if name == "sigmoid":
        # Below the smallest normal number sigmoid is flushed; there only its size is promised.
        low = functional.sigmoid(x[x < -87])
        assert (low >= 0).all() and (low <= 1.7e-38).all()
        x = x[x >= -87]
    with np.errstate(over="ignore"):
        assert distance(name, x, np.float32) <= ULPS[name]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_ulps_float64(name):
    rng = np.random.default_rng(1)
    scale = 10.0 ** rng.uniform(-300, 2.84, 60000)
    x = np.concatenate([scale, -scale, rng.uniform(-30, 30, 60000), np.linspace(-745, 709.7, 30011)])
    if name == "sigmoid":
        x = x[x >= -708]
    with np.errstate(over="ignore"):
        assert distance(name, x, np.float64) <= ULPS[name]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_special_values(dtype):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], dtype)
    assert np.array_equal(functional.exp(x), np.array([np.nan, np.inf, 0, 1, 1], dtype), equal_nan=True)
    assert np.array_equal(functional.tanh(x), np.array([np.nan, 1, -1, 0, 0], dtype), equal_nan=True)
    sigmoid = functional.sigmoid(x)
    assert np.isnan(sigmoid[0]) and sigmoid[1] == 1 and np.array_equal(sigmoid[3:], [0.5, 0.5])
    assert 0 <= sigmoid[2] <= 2 * np.finfo(dtype).tiny


def test_tanh_is_no_worse_than_the_direct_float32_evaluation():
    x = np.random.default_rng(2).standard_normal(100_000).astype(np.float32)
    exact = np.tanh(x.astype(np.float64))
    ours = np.abs(functional.tanh(x) - exact)
    direct = np.abs((1 - np.float32(2) / (np.exp(x + x) + np.float32(1))) - exact)
    assert ours.max() <= direct.max() and ours.mean() <= direct.mean()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_shapes_out_and_layouts(name, shape):
    function = getattr(functional, name)
    x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    expected = function(x)
    assert expected.shape == shape
    out = np.empty_like(x)
    assert function(x, out=out) is out and same_bits(out, np.asarray(expected))
    if x.ndim > 1:
        assert same_bits(function(np.asfortranarray(x)), expected)
        assert same_bits(function(x[::-1]), expected[::-1])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_element_alone_has_the_bits_it_has_among_others(name):
    function = getattr(functional, name)
    x = np.random.default_rng(4).standard_normal(77).astype(np.float32)
    whole = function(x)
    assert all(same_bits(function(x[i : i + n].copy()), whole[i : i + n]) for i in range(40) for n in (1, 3, 17))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_twin_agrees(name):
    x = np.random.default_rng(5).standard_normal(500)
    assert np.allclose(getattr(functional, name)(x), getattr(_reference, name)(x), rtol=1e-15, atol=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 3, 64), (5, 1000), (17,), (2, 0), (0, 4)])
@pytest.mark.parametrize("masked", [False, True])
def test_softmax_and_its_gradient(shape, dtype, masked):
    rng = np.random.default_rng(6)
    x, dy = (rng.standard_normal(shape).astype(dtype) * 3 for _ in range(2))
    mask = rng.random(shape) < 0.6 if masked else None
    if masked and x.ndim > 1 and len(x):
        mask[0] = False
    found = functional.softmax(x, mask) if masked else functional.softmax(x)
    twin = _reference.softmax(x, mask)
    eps = np.finfo(dtype).eps
    # The argument x_j - max errs by half a unit of up to 24, exp by 1 and the sum and quotient by 2 units.
    assert found.dtype == dtype and (np.abs(found - twin) <= 16 * eps * twin + np.finfo(dtype).tiny).all()
    if masked and x.ndim > 1 and len(x):
        assert not found[0].any()
    gradient = functional.softmax_vjp(found, dy)
    expected = _reference.softmax_vjp(found, dy)
    unit = found * (np.abs(dy) + (found * np.abs(dy)).sum(-1, keepdims=True)).astype(np.float64)
    assert gradient.dtype == dtype and (np.abs(gradient - expected) <= 8 * eps * unit + np.finfo(dtype).tiny).all()


def test_softmax_does_not_read_what_is_masked():
    rng = np.random.default_rng(7)
    x = rng.standard_normal((4, 37)).astype(np.float32)
    mask = rng.random((4, 37)) < 0.5
    dirty = np.where(mask, x, np.nan)
    assert same_bits(functional.softmax(x, mask), functional.softmax(dirty, mask))
    assert np.isnan(functional.softmax(dirty)).all()


def test_a_row_of_softmax_alone_has_the_bits_it_has_among_others():
    x = np.random.default_rng(8).standard_normal((33, 101)).astype(np.float32)
    whole = functional.softmax(x)
    assert all(same_bits(functional.softmax(x[i : i + 1]), whole[i : i + 1]) for i in range(33))


def test_the_mask_of_softmax_broadcasts():
    x = np.random.default_rng(9).standard_normal((3, 4, 9)).astype(np.float32)
    mask = np.arange(9) < 5
    assert same_bits(functional.softmax(x, mask), functional.softmax(x, np.broadcast_to(mask, x.shape).copy()))


def test_masked_arrays_are_refused():
    x = np.ma.masked_array(np.ones((2, 3)), mask=np.eye(2, 3, dtype=bool))
    for call in (functional.exp, functional.softmax, lambda x: functional.softmax_vjp(x, x)):
        with pytest.raises(fastattn.DTypeError, match="Hint: "):
            call(x)


@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid"])
def test_an_output_is_the_input_itself_or_apart_from_it(name):
    function = getattr(functional, name)
    whole = np.arange(100.0) / 100
    expected = function(whole[:-1])
    before = whole.copy()
    with pytest.raises(fastattn.ArgumentError, match=r"^out: expected memory of its own"):
        function(whole[:-1], out=whole[1:])
    assert same_bits(whole, before)
    apart = np.empty(200)
    assert same_bits(function(whole[:-1], out=apart[1:100]), expected)
    assert same_bits(function(whole[:-1], out=whole[:-1]), expected) and same_bits(whole[:-1].copy(), expected)
    square = np.arange(16.0).reshape(4, 4) / 16
    expected = function(square.T.copy())
    assert same_bits(function(square.T, out=square), expected)  # what is not contiguous is copied first


WRONG_OUTPUTS = {
    "a list": [0.0, 0.0],
    "a number": 0.0,
    "text": "out",
    "another dtype": np.empty(2, np.float32),
    "another byte order": np.empty(2, ">f8"),
    "every other element": np.empty(4)[::2],
    "read-only": np.broadcast_to(np.zeros(1), 2),
    "another shape": np.empty(3),
}


@pytest.mark.parametrize("out", WRONG_OUTPUTS.values(), ids=WRONG_OUTPUTS)
def test_what_is_no_output(out):
    with pytest.raises(fastattn.FastattnError, match=r"^out: expected .*\nHint: pass np\.empty"):
        functional.exp(np.zeros(2), out=out)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", [*FUNCTIONS, "softmax", "sparsemax", "entmax"])
def test_half_types_are_rounded_once(name, half):
    kind = np.dtype(half) if half == "float16" else pytest.importorskip("ml_dtypes").bfloat16
    function, x = getattr(functional, name), np.random.default_rng(5).standard_normal((3, 7)).astype(kind)
    expected = function(x.astype(np.float32)).astype(kind)
    found = function(x)
    assert found.dtype == kind and same_bits(found, expected)
    if name in FUNCTIONS:
        out, own = np.empty_like(x), x.copy()
        assert function(x, out) is out and function(own, own) is own
        assert same_bits(out, expected) and same_bits(own, expected)
        with pytest.raises(fastattn.errors.DTypeError, match=f"^out: expected dtype {half}"):
            function(x, np.empty((3, 7), np.float32))
        return
    backward = getattr(functional, f"{name}_vjp")
    narrow, wide = backward(found, x), backward(found.astype(np.float32), x.astype(np.float32))
    narrow, wide = (one[0] if name == "entmax" else one for one in (narrow, wide))
    assert narrow.dtype == kind and same_bits(narrow, wide.astype(kind))
