"""Products with packed weights: accuracy, and rows that do not depend on their neighbours."""

import itertools

import numpy as np
import pytest
from checks import same_bits

import fastattn
from fastattn import _reference, linear

SIZES = [(1, 1), (3, 5), (8, 16), (17, 33), (64, 65), (100, 7), (1, 130), (130, 1), (513, 20)]
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def draw(rng, *shape, dtype="float32"):
    return rng.standard_normal(shape).astype(dtype)


def close(found, exact, unit, dtype, gate=4.0):
    """A sum errs by a few eps of the sum of the absolute values of its terms."""
    assert found.dtype == dtype and found.shape == exact.shape
    room = gate * np.finfo(dtype).eps * unit + np.finfo(dtype).tiny
    assert (np.abs(found - exact) <= room).all()


@dtypes
@pytest.mark.parametrize(("k", "n"), SIZES)
def test_products_against_the_twin(k, n, dtype):
    rng = np.random.default_rng(k * 1000 + n)
    w = draw(rng, k, n, dtype=dtype)
    packed = linear.PackedWeights(w)
    for m in (1, 2, 6, 7, 50):
        x, dy = draw(rng, m, k, dtype=dtype), draw(rng, m, n, dtype=dtype)
        close(packed.matmul(x), _reference.matmul(x, w), np.abs(x) @ np.abs(w), dtype)
        close(packed.matmul_transposed(dy), _reference.matmul_transposed(dy, w), np.abs(dy) @ np.abs(w.T), dtype)
        close(linear.weight_gradient(x, dy), _reference.weight_gradient(x, dy), np.abs(x.T) @ np.abs(dy), dtype)


@dtypes
@pytest.mark.parametrize(("k", "n"), [(33, 40), (7, 3), (256, 65)])
def test_every_number_of_rows_gives_the_same_rows(k, n, dtype):
    rng = np.random.default_rng(1)
    packed = linear.PackedWeights(draw(rng, k, n, dtype=dtype))
    x, dy = draw(rng, 512, k, dtype=dtype), draw(rng, 512, n, dtype=dtype)
    forward, transposed = packed.matmul(x), packed.matmul_transposed(dy)
    for m in range(1, 71):
        assert same_bits(packed.matmul(x[:m]), forward[:m]), m
        assert same_bits(packed.matmul_transposed(dy[:m]), transposed[:m]), m
    for row in (0, 5, 6, 300, 511):
        assert same_bits(packed.matmul(x[row]), forward[row])
        assert same_bits(packed.matmul_transposed(dy[row]), transposed[row])


@dtypes
@pytest.mark.parametrize(("m", "k", "n"), [(1, 5, 7), (70, 33, 64), (9, 0, 3), (13, 4100, 65)])
def test_bias_and_relu_have_the_bits_of_passes_of_their_own(m, k, n, dtype):
    rng = np.random.default_rng(3)
    packed, x, bias = linear.PackedWeights(draw(rng, k, n, dtype=dtype)), draw(rng, m, k, dtype=dtype), None
    bias = draw(rng, n, dtype=dtype)
    plain = packed.matmul(x)
    assert same_bits(packed.matmul(x, bias=bias), plain + bias)
    assert same_bits(packed.matmul(x, bias=bias, relu=True), np.maximum(plain + bias, 0))
    assert same_bits(packed.matmul(x, relu=True), np.maximum(plain, 0))
    if k:
        x[0] = np.nan
        assert np.isnan(packed.matmul(x, bias=bias, relu=True)[0]).all()
    with pytest.raises(fastattn.errors.ShapeError, match="bias"):
        packed.matmul(x, bias=bias[:-1])


@dtypes
def test_any_number_of_threads_gives_the_same_bits(dtype):
    rng = np.random.default_rng(2)
    w, x, dy = (draw(rng, *s, dtype=dtype) for s in ((96, 70), (700, 96), (700, 70)))
    before = fastattn.get_num_threads()

    def everything():
        packed = linear.PackedWeights(w)
        return [packed.matmul(x), packed.matmul_transposed(dy), linear.weight_gradient(x, dy)]

    try:
        fastattn.set_num_threads(1)
        expected = everything()
        for threads in (2, 3, 4, 7, 8, 16):
            fastattn.set_num_threads(threads)
            assert same_bits(expected, everything()), threads
    finally:
        fastattn.set_num_threads(before)


def test_leading_dimensions_layouts_and_out():
    rng = np.random.default_rng(3)
    w, x = draw(rng, 12, 9), draw(rng, 2, 3, 4, 12)
    packed = linear.PackedWeights(w)
    expected = packed.matmul(x)
    assert expected.shape == (2, 3, 4, 9)
    assert same_bits(packed.matmul(x.reshape(-1, 12)), expected.reshape(-1, 9))
    assert same_bits(packed.matmul(np.asfortranarray(x)), expected)
    assert same_bits(packed.matmul(x[::-1]), expected[::-1])
    for layout in (np.asfortranarray(w), np.repeat(w, 2, axis=1)[:, ::2], w[::-1].copy()[::-1]):
        assert same_bits(linear.PackedWeights(layout).matmul(x), expected)
    out = np.empty_like(expected)
    assert packed.matmul(x, out=out) is out and same_bits(out, expected)


@dtypes
def test_foreign_byte_order_and_odd_addresses(dtype):
    rng = np.random.default_rng(6)
    w, x, dy = (draw(rng, *shape, dtype=dtype) for shape in ((12, 9), (4, 12), (4, 9)))

    def swapped(a):
        return a.astype(a.dtype.newbyteorder())

    def odd(a):
        b = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
        b[...] = a
        return b

    def field(a):
        b = np.zeros(a.shape, [("", np.uint8), ("a", a.dtype)])["a"]
        b[...] = a
        return b

    def everything(change):
        packed = linear.PackedWeights(change(w))
        products = packed.matmul(change(x)), packed.matmul_transposed(change(dy))
        return [*products, linear.weight_gradient(change(x), change(dy))]

    for change in (swapped, odd, field):
        assert same_bits(everything(change), everything(np.asarray)), change


def test_packed_weights_are_a_copy():
    rng = np.random.default_rng(4)
    w, x = draw(rng, 5, 6), draw(rng, 3, 5)
    packed = linear.PackedWeights(w)
    expected = packed.matmul(x)
    w[:] = np.nan
    assert same_bits(packed.matmul(x), expected)


@pytest.mark.parametrize(("m", "k", "n"), [(0, 4, 3), (3, 0, 4), (3, 4, 0), (0, 0, 0)])
def test_zero_sizes(m, k, n):
    packed = linear.PackedWeights(np.ones((k, n), np.float32))
    assert np.array_equal(packed.matmul(np.ones((m, k), np.float32)), np.zeros((m, n)))
    assert np.array_equal(packed.matmul_transposed(np.ones((m, n), np.float32)), np.zeros((m, k)))
    gradient = linear.weight_gradient(np.ones((m, k), np.float32), np.ones((m, n), np.float32))
    assert np.array_equal(gradient, np.full((k, n), m))


@dtypes
@pytest.mark.parametrize(("k", "n"), [(7, 5), (40, 64), (13, 131), (1, 1), (200, 33)])
def test_gradients_of_rows_in_pieces(k, n, dtype):
    rng = np.random.default_rng(k)
    x, dy = draw(rng, 2500, k, dtype=dtype), draw(rng, 2500, n, dtype=dtype)
    sums = np.zeros(n, dtype)
    whole = linear.weight_gradient(x, dy, sums=sums)
    assert same_bits(whole, linear.weight_gradient(x, dy)) and same_bits(sums, linear.row_sum(dy))
    close(whole, _reference.weight_gradient(x, dy), np.abs(x.T) @ np.abs(dy), dtype)
    close(sums, dy.astype(np.float64).sum(axis=0), np.abs(dy).sum(axis=0), dtype)
    for cuts in ([0, 1, 700, 2500], [0, 1024, 2048, 2500], [0, 2499, 2500, 2500]):
        out, parts = np.zeros((k, n), dtype), np.zeros(n, dtype)
        expected = out.copy(), parts.copy()
        for a, b in itertools.pairwise(cuts):
            assert linear.weight_gradient(x[a:b], dy[a:b], out, sums=parts) is out
            if b - a <= 512:
                assert same_bits(out, expected[0] + linear.weight_gradient(x[a:b], dy[a:b]))
            expected = out.copy(), parts.copy()
        if 1024 in cuts:
            assert same_bits(out, whole) and same_bits(parts, sums), cuts
        close(out, _reference.weight_gradient(x, dy), np.abs(x.T) @ np.abs(dy), dtype)


@dtypes
def test_rows_without_a_gradient_are_not_read(dtype):
    rng = np.random.default_rng(7)
    x, dy = draw(rng, 1100, 20, dtype=dtype), draw(rng, 1100, 75, dtype=dtype)
    expected = linear.weight_gradient(x, dy)
    at = np.flatnonzero(np.arange(2750) % 5 < 2)
    padded, zero = np.full((2750, 20), np.nan, dtype), np.zeros((2750, 75), dtype)
    padded[at], zero[at] = x, dy
    assert same_bits(linear.weight_gradient(padded, zero), expected)
    zero[2748, 74] = 1
    assert np.isnan(linear.weight_gradient(padded, zero)[:, 74]).all()


@dtypes
def test_a_long_inner_axis_in_pieces(dtype):
    rng = np.random.default_rng(8)
    w, x = draw(rng, 5000, 70, dtype=dtype), draw(rng, 50, 5000, dtype=dtype)
    found = linear.PackedWeights(w).matmul(x)
    close(found, _reference.matmul(x, w), np.abs(x) @ np.abs(w), dtype, gate=20.0)
    for columns in (slice(0, 64), slice(64, 70), slice(3, 4)):
        assert same_bits(linear.PackedWeights(w[:, columns]).matmul(x[7:8]), found[7:8, columns])


def test_nan_reaches_only_its_row():
    rng = np.random.default_rng(5)
    packed = linear.PackedWeights(draw(rng, 20, 30))
    x = draw(rng, 9, 20)
    expected = packed.matmul(x)
    x[4, 3] = np.nan
    found = packed.matmul(x)
    assert np.isnan(found[4]).all()
    assert same_bits(np.delete(found, 4, 0), np.delete(expected, 4, 0))


WRONG = {
    "another width": (lambda p: p.matmul(np.ones((2, 4), np.float32)), fastattn.ShapeError),
    "another dtype": (lambda p: p.matmul(np.ones((2, 5), np.float64)), fastattn.DTypeError),
    "integers": (lambda p: p.matmul(np.ones((2, 5), np.int64)), fastattn.DTypeError),
    "another width, transposed": (lambda p: p.matmul_transposed(np.ones((2, 5), np.float32)), fastattn.ShapeError),
    "out of another width": (
        lambda p: p.matmul(np.ones((2, 5), np.float32), out=np.ones((2, 3), np.float32)),
        fastattn.ShapeError,
    ),
    "a vector as weights": (lambda p: linear.PackedWeights(np.ones(3, np.float32)), fastattn.ShapeError),
    "masked weights": (lambda p: linear.PackedWeights(np.ma.ones((3, 3))), fastattn.DTypeError),
    "integer weights": (lambda p: linear.PackedWeights(np.ones((3, 3), np.int8)), fastattn.DTypeError),
    "dy of another dtype": (
        lambda p: linear.weight_gradient(np.ones((2, 3)), np.ones((2, 3), np.float32)),
        fastattn.DTypeError,
    ),
    "out of another dtype": (
        lambda p: linear.weight_gradient(np.ones((2, 3)), np.ones((2, 3)), np.zeros((3, 3), np.float32)),
        fastattn.DTypeError,
    ),
    "sums of another shape": (
        lambda p: linear.weight_gradient(np.ones((2, 3)), np.ones((2, 3)), sums=np.zeros(2)),
        fastattn.ShapeError,
    ),
    "a number for x": (lambda p: linear.weight_gradient(1.0, 1.0), fastattn.ShapeError),
    "another number of rows": (lambda p: linear.weight_gradient(np.ones((2, 3)), np.ones((3, 3))), fastattn.ShapeError),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls(name):
    call, error = WRONG[name]
    with pytest.raises(error, match="Hint: "):
        call(linear.PackedWeights(np.ones((5, 6), np.float32)))


def overlapping():
    """Calls that write where they read, by name, with an argument whose memory must not change."""
    space = np.arange(200.0)
    packed = linear.PackedWeights(np.ones((4, 4)))
    x, out = space[:32].reshape(8, 4), space[16:48].reshape(8, 4)
    apart, square, sums = np.ones((8, 4)), space[60:76].reshape(4, 4), space[60:64]
    return space, {
        "matmul, out and x": lambda: packed.matmul(x, out=out),
        "matmul, out and bias": lambda: packed.matmul(apart, out=out, bias=out[3]),
        "matmul_transposed, out and dy": lambda: packed.matmul_transposed(x, out=out),
        "weight_gradient, out and x": lambda: linear.weight_gradient(x, apart, space[:16].reshape(4, 4)),
        "weight_gradient, out and dy": lambda: linear.weight_gradient(apart, x, space[:16].reshape(4, 4)),
        "weight_gradient, sums and x": lambda: linear.weight_gradient(x, apart, sums=space[:4]),
        "weight_gradient, sums and dy": lambda: linear.weight_gradient(apart, x, sums=space[:4]),
        "weight_gradient, out and sums": lambda: linear.weight_gradient(apart, apart, square, sums=sums),
        "row_sum, out and dy": lambda: linear.row_sum(x, space[4:8]),
    }


@pytest.mark.parametrize("name", overlapping()[1])
def test_outputs_apart_from_inputs_and_from_each_other(name):
    space, calls = overlapping()
    before = space.copy()
    with pytest.raises(fastattn.ArgumentError, match=r"^(out|sums): expected memory of its own"):
        calls[name]()
    assert same_bits(space, before)


def test_columns_of_one_array_are_apart():
    both = np.zeros((8, 8))
    x = both[:, :4]
    x[...] = np.arange(32.0).reshape(8, 4)
    packed = linear.PackedWeights(np.eye(4))
    with pytest.raises(fastattn.ArgumentError, match=r"^out: expected a contiguous array"):
        packed.matmul(x, out=both[:, 4:])
    assert same_bits(linear.weight_gradient(np.ones((8, 1)), x, sums=np.zeros(4)), x.sum(0)[None])


@pytest.mark.parametrize("number", range(5))
def test_a_matrix_that_is_none_is_refused(number):
    w = [np.ones((4, 3), np.int64), np.ones(4), np.ones((4, 3, 1)), "text", None][number]
    with pytest.raises(fastattn.FastattnError, match=r"^w: expected"):
        linear.matmul(np.ones((2, 4)), w)


def test_lists_are_arrays():
    assert linear.matmul([[1.0, 2.0]], [[1.0], [1.0]]).tolist() == [[3.0]]
    assert linear.row_sum([[1.0, 2.0], [3.0, 4.0]]).tolist() == [4.0, 6.0]
    assert linear.PackedWeights([[1.0], [1.0]]).matmul([[1.0, 2.0]], bias=[5.0]).tolist() == [[8.0]]


def test_sizes_of_packed_weights_are_theirs():
    packed = linear.PackedWeights(np.ones((4, 3)))
    for name, value in (("shape", (400, 3)), ("dtype", np.float32), ("panels", np.ones(1))):
        with pytest.raises(AttributeError):
            setattr(packed, name, value)
    assert packed.shape == (4, 3) and packed.dtype == np.float64


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_gradients_of_parameters_from_half_types(half, precision):
    """Those of the same numbers in float32, and of that type."""
    kind = np.float16 if half == "float16" else pytest.importorskip("ml_dtypes").bfloat16
    x, dy = (draw(np.random.default_rng(0), 3, 20, size).astype(kind) for size in (160, 130))
    wide_x, wide_dy = x.astype(np.float32), dy.astype(np.float32)
    with fastattn.float32_precision(precision):
        assert same_bits(linear.weight_gradient(x, dy), linear.weight_gradient(wide_x, wide_dy))
    assert same_bits(linear.row_sum(dy), linear.row_sum(wide_dy))
    with pytest.raises(fastattn.errors.DTypeError, match="out: expected dtype float32"):
        linear.row_sum(dy, np.zeros(130, kind))


@pytest.mark.parametrize("storage", [None, "bfloat16", "int8"])
@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_rows_of_half_types(monkeypatch, half, storage, precision):
    """What comes out is that of float32, rounded once; float16 is never made bfloat16."""
    if storage and fastattn.show_config(as_dict=True).get("backend") == "numba":
        pytest.skip("the kernels in Numba have no narrow types")
    if half == "bfloat16":
        half = pytest.importorskip("ml_dtypes").bfloat16
    monkeypatch.setattr(linear, "LEAST_FOR_TILES", 1)
    monkeypatch.setattr(linear, "LEAST_IN_MEDIUM", 1)
    rng = np.random.default_rng(0)
    x, dy, w = (draw(rng, *shape).astype(half) for shape in ((2, 3, 70), (2, 3, 40), (70, 40)))
    packed, wide = linear.PackedWeights(w, storage), linear.PackedWeights(w.astype(np.float32), storage)
    assert packed.storage == wide.storage and same_bits(packed.unpack(), wide.unpack())
    kept, bias = linear.PackedWeights(packed.unpack()), draw(rng, 40)
    exactly = half == "float16"
    with fastattn.float32_precision("highest" if exactly else precision):
        of_x = kept if exactly and storage != "int8" else wide
        y = of_x.matmul(x.astype(np.float32), bias=bias).astype(half)
        dx = (kept if exactly else wide).matmul_transposed(dy.astype(np.float32)).astype(half)
        once = linear.matmul(x.astype(np.float32), w.astype(np.float32)).astype(half)
    with fastattn.float32_precision(precision):
        assert same_bits(packed.matmul(x, bias=bias), y) and same_bits(packed.matmul_transposed(dy), dx)
        assert same_bits(linear.matmul(x, w), once)
        out = np.empty_like(y)
        assert packed.matmul(x, out, bias=bias) is out and same_bits(out, y)
        assert same_bits(packed.matmul(x[1:, 2:], bias=bias), y[1:, 2:])
    with pytest.raises(fastattn.errors.DTypeError, match=r"out: expected dtype b?float16, got float32"):
        packed.matmul(x, np.empty((2, 3, 40), np.float32))
    with pytest.raises(fastattn.errors.DTypeError, match="x: expected a float32 or float64 array"):
        linear.PackedWeights(w.astype(np.float64)).matmul(x)
