"""Products with matrices of bfloat16 and int8: accuracy, rows that do not depend on their neighbours, odd numbers."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from checks import same_bits

import fastattn
from fastattn import _reference, layers, linear
from fastattn._kernels import narrow

pytestmark = pytest.mark.skipif(
    fastattn.show_config(as_dict=True).get("backend") == "numba", reason="the kernels in Numba have no narrow types"
)
SCRIPT = str(Path(__file__).resolve().parent / "narrow_products.py")
CONFIG = fastattn.show_config(as_dict=True)
# avx512bf16 has the kernels of avx512.
LEVELS = [level for level in CONFIG["levels_built"] if level in CONFIG["levels_cpu"] and level != "avx512bf16"]
SIZES = [(1, 1), (3, 5), (8, 16), (33, 40), (64, 65), (100, 7), (513, 20), (70, 130)]
types = pytest.mark.parametrize("dtype", linear.NARROW)
EPS = float(np.finfo(np.float32).eps)


def draw(seed, *shape, spread=0.0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * np.exp2(rng.uniform(-spread, spread, shape))).astype(np.float32)


def test_element_types_are_words():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for dtype in (np.int8, np.dtype(np.int8), ml_dtypes.bfloat16, np.dtype(ml_dtypes.bfloat16)):
        assert linear.PackedWeights(draw(0, 3, 4), dtype).storage == np.dtype(dtype).name
        layer = layers.Linear(3, 4, rng=np.random.default_rng(0))
        layer.store(dtype)
        assert layer.w.packed().storage == np.dtype(dtype).name
    layer.store(np.float32)
    assert layer.w.packed().storage == "float32"
    for other in (np.float16, "int4", 8):
        with pytest.raises(fastattn.ArgumentError, match=r"'bfloat16' or 'int8'"):
            linear.PackedWeights(draw(0, 3, 4), other)


@pytest.mark.parametrize("spread", [0, 20])
@pytest.mark.parametrize(("k", "n"), SIZES)
def test_bfloat16_against_the_twin(k, n, spread):
    w, x = draw(k, k, n, spread=spread), draw(n, 50, k, spread=spread)
    packed = linear.PackedWeights(w, dtype="bfloat16")
    terms = np.abs(x).astype(np.float64) @ np.abs(w)
    found = packed.matmul(x)
    assert found.dtype == np.float32
    assert (np.abs(found - _reference.matmul_bfloat16(x, w)) <= 4 * EPS * terms).all()
    # The gate of half types: two roundings of the inputs, and the sum's.
    assert (np.abs(found - _reference.matmul(x, w)) <= (2 * 2.0**-8 + 4 * EPS) * terms).all()
    assert same_bits(packed.unpack(), _reference.bfloat16(w).astype(np.float32))


@pytest.mark.parametrize("spread", [0, 20])
@pytest.mark.parametrize(("k", "n"), SIZES)
def test_int8_is_its_twin(k, n, spread):
    w, x = draw(k, k, n, spread=spread), draw(n, 50, k, spread=spread)
    packed = linear.PackedWeights(w, dtype="int8")
    found = packed.matmul(x)
    assert same_bits(found, _reference.matmul_int8(x, w))
    numbers, scales = _reference.int8(w)
    assert same_bits(packed.unpack(), (numbers * scales).astype(np.float32))
    assert (numbers * scales == packed.unpack()).all() and np.abs(numbers).max() == 127
    s, t = np.abs(w).max(axis=0) / 127, np.abs(x).max(axis=1, keepdims=True) / 127
    room = np.abs(x).sum(axis=1, keepdims=True) * s / 2 + np.abs(w).sum(axis=0) * t / 2 + k * s * t / 4
    assert (np.abs(found - _reference.matmul(x, w)) <= (1 + 1e-4) * room).all()


@types
@pytest.mark.parametrize(("k", "n"), [(33, 40), (7, 3), (256, 65)])
def test_every_number_of_rows_gives_the_same_rows(k, n, dtype):
    packed, x = linear.PackedWeights(draw(1, k, n), dtype=dtype), draw(2, 512, k)
    forward = packed.matmul(x)
    for m in range(1, 71):
        assert same_bits(packed.matmul(x[:m]), forward[:m]), m
    for row in (0, 5, 6, 300, 511):
        assert same_bits(packed.matmul(x[row]), forward[row])
    assert same_bits(packed.matmul(x[::-1]), forward[::-1])
    assert same_bits(packed.matmul(np.asfortranarray(x)), forward)
    for columns in (slice(0, n // 2), slice(n // 2, n)):
        of_these = linear.PackedWeights(draw(1, k, n)[:, columns], dtype=dtype)
        assert same_bits(of_these.matmul(x[:40]), forward[:40, columns])


@types
@pytest.mark.parametrize(("k", "n"), SIZES)
def test_columns_are_those_of_the_matrix(k, n, dtype):
    packed = narrow.narrowed(draw(k, k, n, spread=20.0), dtype)
    ids = np.random.default_rng(n).integers(0, n, 50)
    found = packed.columns(ids)
    assert found.flags.c_contiguous and same_bits(found, packed.unpack()[:, ids].T.copy())


@types
def test_any_number_of_threads_gives_the_same_bits(dtype):
    packed, x = linear.PackedWeights(draw(1, 300, 200), dtype=dtype), draw(2, 700, 300)
    before = fastattn.get_num_threads()
    try:
        fastattn.set_num_threads(1)
        expected = packed.matmul(x)
        for threads in (2, 3, 16):
            fastattn.set_num_threads(threads)
            assert same_bits(packed.matmul(x), expected), threads
    finally:
        fastattn.set_num_threads(before)


@types
def test_bias_and_relu_have_the_bits_of_passes_of_their_own(dtype):
    for m, k, n in ((1, 5, 7), (70, 33, 64), (9, 0, 3), (40, 600, 65)):
        packed, x, bias = linear.PackedWeights(draw(1, k, n), dtype=dtype), draw(2, m, k), draw(3, n)
        plain = packed.matmul(x)
        assert plain.shape == (m, n) and (k or not plain.any())
        assert same_bits(packed.matmul(x, bias=bias), plain + bias)
        assert same_bits(packed.matmul(x, bias=bias, relu=True), np.maximum(plain + bias, 0))
        out = np.empty_like(plain)
        assert packed.matmul(x, out) is out and same_bits(out, plain)


WILD = [np.inf, -np.inf, np.nan, np.finfo(np.float32).max, np.float32(1e-45), np.float32(2.0**-80), np.float32(2.0**60)]


@types
@pytest.mark.parametrize("value", WILD)
def test_numbers_of_all_kinds_reach_their_rows_and_no_others(dtype, value):
    x, w = draw(1, 40, 70), draw(2, 70, 65)
    packed = linear.PackedWeights(w, dtype=dtype)
    before = packed.matmul(x)
    x[[3, 39], 5] = value
    found = packed.matmul(x)
    assert same_bits(np.delete(found, [3, 39], axis=0), np.delete(before, [3, 39], axis=0))
    twin = {"int8": _reference.matmul_int8, "bfloat16": _reference.matmul_bfloat16}[dtype](x[[3, 39]], w)
    with np.errstate(over="ignore"):
        twin = twin.astype(np.float32)
    assert np.allclose(found[[3, 39]], twin, rtol=1e-4, atol=1e-4, equal_nan=True)
    assert np.isnan(found[3]).all() == np.isnan(value)


@types
@pytest.mark.parametrize(("m", "k", "n"), [(1, 5, 7), (70, 33, 64), (9, 0, 3), (40, 600, 65), (33, 96, 40), (7, 17, 8)])
def test_rows_of_bfloat16_are_those_of_float32_rounded_once(dtype, m, k, n):
    half = pytest.importorskip("ml_dtypes").bfloat16
    packed, bias = linear.PackedWeights(draw(1, k, n), dtype=dtype), draw(3, n)
    x = draw(2, m, k).astype(half)
    if m > 9:  # rows for vectors, one that overflows, and numbers that are none
        x[2], x[3], x[4, 0], x[5, -1], x[-1, 3] = np.ldexp(draw(4, k), -135), 2.0**127, np.nan, -np.inf, np.inf
    for options in ({}, {"bias": bias}, {"bias": bias, "relu": True}):
        with np.errstate(over="ignore"):
            expected = packed.matmul(x.astype(np.float32), **options).astype(half)
        assert same_bits(packed.matmul(x, **options), expected)
        out = np.empty_like(expected)
        assert packed.matmul(x, out, **options) is out and same_bits(out, expected)
        beside = np.zeros((m, k + 3), half)
        beside[:, 1:-2] = x
        assert same_bits(packed.matmul(beside[:, 1:-2], **options), expected)


@types
def test_rows_and_columns_of_zeros_and_of_tiny_numbers(dtype):
    x, w = draw(1, 40, 70), draw(2, 70, 65)
    x[4], w[:, 7] = 0, 0
    found = linear.PackedWeights(w, dtype=dtype).matmul(x)
    assert not found[4].any() and not found[:, 7].any()
    for row, column in ((-140, 60), (-140, 0), (40, -140), (-149, -149), (100, -130)):
        x[6], w[:, 9] = np.ldexp(draw(3, 70), row), np.ldexp(draw(4, 70), column)
        found = linear.PackedWeights(w, dtype=dtype).matmul(x)
        if dtype == "int8":
            assert same_bits(found, _reference.matmul_int8(x, w))
        else:
            terms = np.abs(x).astype(np.float64) @ np.abs(w)
            assert (np.abs(found - _reference.matmul_bfloat16(x, w)) <= 4 * EPS * terms + 70 * 2.0**-149).all()


@types
@pytest.mark.parametrize("exponent", [0, -20, -126, -135, -141, 100])
def test_what_was_rounded_once_is_not_changed_again(dtype, exponent):
    w = np.ldexp(draw(1, 70, 65, spread=3), exponent)
    packed = linear.PackedWeights(w, dtype=dtype)
    again = linear.PackedWeights(packed.unpack(), dtype=dtype)
    assert same_bits(again.unpack(), packed.unpack())
    x = draw(2, 5, 70)
    assert same_bits(again.matmul(x), packed.matmul(x))
    for made in (pickle.loads(pickle.dumps(packed)), copy.deepcopy(packed)):
        assert made.storage == dtype and same_bits(made.matmul(x), packed.matmul(x))


def test_finite_numbers_stay_finite_as_bfloat16():
    most = np.finfo(np.float32).max
    packed = linear.PackedWeights(np.array([[most, -most]], np.float32), dtype="bfloat16")
    assert packed.unpack().tolist() == [[255 * 2.0**120, -255 * 2.0**120]]
    assert np.isfinite(packed.matmul(np.ones((1, 1), np.float32))).all()
    one = linear.PackedWeights(np.ones((1, 1), np.float32), dtype="bfloat16")
    assert one.matmul(np.array([[most]], np.float32)) == 255 * 2.0**120


@types
def test_the_transposed_product_is_of_the_elements_as_they_are_kept(dtype):
    packed, dy = linear.PackedWeights(draw(1, 40, 30), dtype=dtype), draw(2, 9, 30)
    wide = linear.PackedWeights(packed.unpack())
    assert same_bits(packed.matmul_transposed(dy), wide.matmul_transposed(dy))
    assert same_bits(packed.panels, wide.panels) and same_bits(packed.panels_transposed(), wide.panels_transposed())
    assert (packed.shape, packed.dtype, packed.storage) == ((40, 30), np.float32, dtype)
    assert repr(packed) == f"PackedWeights(shape=(40, 30), dtype={dtype})"
    assert (wide.storage, linear.PackedWeights(np.ones((2, 2))).storage) == ("float32", "float64")


WRONG = {
    "another word": (lambda: linear.PackedWeights(np.ones((2, 2), np.float32), dtype="int4"), fastattn.ArgumentError),
    "a dtype": (lambda: linear.PackedWeights(np.ones((2, 2), np.float32), dtype=np.int16), fastattn.FastattnError),
    "float64": (lambda: linear.PackedWeights(np.ones((2, 2)), dtype="int8"), fastattn.DTypeError),
    "an infinity in int8": (
        lambda: linear.PackedWeights(np.full((2, 2), np.inf, np.float32), dtype="int8"), fastattn.ArgumentError,
    ),
    "NaN in int8": (
        lambda: linear.PackedWeights(np.full((2, 2), np.nan, np.float32), dtype="int8"), fastattn.ArgumentError,
    ),
    "too many rows of int8": (
        lambda: linear.PackedWeights(np.zeros((linear.MOST_OF_INT8 + 1, 1), np.float32), dtype="int8"),
        fastattn.ShapeError,
    ),
    "x of another width": (
        lambda: linear.PackedWeights(np.ones((2, 2), np.float32), dtype="int8").matmul(np.ones((1, 3), np.float32)),
        fastattn.ShapeError,
    ),
    "x of float64": (
        lambda: linear.PackedWeights(np.ones((2, 2), np.float32), dtype="int8").matmul(np.ones((1, 2))),
        fastattn.DTypeError,
    ),
    "a parameter in another type": (
        lambda: layers.Parameter(np.ones((2, 2), np.float32)).store("float16"), fastattn.ArgumentError,
    ),
    "a parameter of float64": (lambda: layers.Parameter(np.ones((2, 2))).store("int8"), fastattn.DTypeError),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls(name):
    call, error = WRONG[name]
    with pytest.raises(error, match="Hint: "):
        call()


def test_whole_sums_fit():
    x = np.full((1, linear.MOST_OF_INT8), -1, np.float32)
    packed = linear.PackedWeights(np.ones((linear.MOST_OF_INT8, 1), np.float32), dtype="int8")
    assert packed.matmul(x)[0, 0] == _reference.matmul_int8(x, np.ones((linear.MOST_OF_INT8, 1)))[0, 0]


@types
def test_a_parameter_is_what_its_products_are_made_with(dtype):
    w, x = draw(1, 20, 30), draw(2, 4, 20)
    parameter = layers.Parameter(w)
    parameter.store(dtype)
    expected = linear.PackedWeights(w, dtype=dtype)
    assert same_bits(parameter.value, expected.unpack())
    assert same_bits(parameter.packed().matmul(x), expected.matmul(x))
    for made in (pickle.loads(pickle.dumps(parameter)), copy.deepcopy(parameter)):
        assert same_bits(made.packed().matmul(x), expected.matmul(x))
    parameter.assign(w + 1)
    assert same_bits(parameter.packed().matmul(x), linear.PackedWeights(w + 1, dtype=dtype).matmul(x))
    parameter.store("float32")
    assert same_bits(parameter.packed().matmul(x), linear.PackedWeights(w + 1).matmul(x))


@types
@pytest.mark.parametrize("make", [layers.GRU, layers.LSTM])
def test_recurrent_layers_multiply_their_inputs_with_it(make, dtype):
    layer, x = make(12, 70, rng=np.random.default_rng(0)), draw(1, 3, 6, 12)
    float32 = layer.forward(x)[0]
    layer.store(dtype)
    assert layer.cell.w_input.packed().storage == dtype and layer.cell.w_hidden.packed().storage == "float32"
    lengths = np.array([6, 2, 4])
    found = layer.forward(x, lengths=lengths)[0]
    assert 0 < np.abs(layer.forward(x)[0] - float32).max() < 0.05
    for row, length in enumerate(lengths):
        assert same_bits(layer.forward(x[row : row + 1, :length])[0][0], found[row, :length])
    assert same_bits(layer.vjp(x)[0], layer.forward(x)[0])


def test_every_level_has_one_set_of_bits(run_python):
    printed = [run_python(SCRIPT, FASTATTN_ISA=level).stdout.split() for level in LEVELS]
    assert [level for level, *_ in printed] == LEVELS
    assert len({tuple(bits) for _, *bits in printed}) == 1, printed
