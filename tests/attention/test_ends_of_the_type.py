"""Subnormal numbers, numbers near the largest of the type, and zero: results that scale do so down to the last bit."""

import numpy as np
import pytest
from checks import same_bits

import fastattn
from fastattn._kernels import core
from fastattn._reference.scores_product import _units
from fastattn.errors import ArgumentError
from fastattn.grid import Grid
from fastattn.layers import LayerNorm, Parameter
from fastattn.linear import PackedWeights
from fastattn.optim import Adam, clip_scale, global_norm
from fastattn.seq2seq import build
from fastattn.seq2seq.models.bahdanau import BahdanauConfig

TYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])


def whole(rng, *shape, dtype):
    """Few bits each, so that a power of two times them is exact, also among the subnormal numbers."""
    return rng.integers(-8, 9, shape).astype(dtype)


def powers(dtype):
    """Of two: the least that all elements of `whole` survive, and the greatest, with some between."""
    info = np.finfo(dtype)
    least, greatest = info.minexp - info.nmant, info.maxexp - 5
    return [least, info.minexp, least // 2, greatest // 2, greatest]


def scaled(x, power):
    return np.ldexp(x, np.int32(power)).astype(x.dtype)


@TYPES
def test_cosine_scores_do_not_depend_on_the_lengths(dtype):
    rng = np.random.default_rng(0)
    q, k = whole(rng, 5, 7, dtype=dtype), whole(rng, 9, 7, dtype=dtype)
    v, d = rng.standard_normal((9, 3)).astype(dtype), rng.standard_normal((5, 3)).astype(dtype)
    context, backward = fastattn.attention_vjp(q, k, v, score="cosine")
    gradients = backward(d)
    for power in powers(dtype):
        for moved in (0, 1):
            arrays = [scaled(x, power) if i == moved else x for i, x in enumerate((q, k))]
            small, small_backward = fastattn.attention_vjp(*arrays, v, score="cosine")
            assert same_bits(small, context), power
            found = small_backward(d)
            assert same_bits(found[1 - moved], gradients[1 - moved]), power
            with np.errstate(over="ignore"):
                expected = np.ldexp(gradients[moved].astype(np.longdouble), -power).astype(dtype)
            np.testing.assert_allclose(found[moved], expected, rtol=1e-6, atol=2 * np.finfo(dtype).tiny, err_msg=power)


def test_cosine_scores_of_a_subnormal_key():
    q, k = np.array([[1, 2]], np.float32), np.array([[2, 1], [1e-39, 1e-39], [1, -1]], np.float32)
    weights = fastattn.attention(q, k, np.eye(3, dtype=np.float32), score="cosine")
    np.testing.assert_allclose(weights, [[0.40195861, 0.46639476, 0.13164663]], rtol=3e-7)


def test_units_of_the_reference_do_not_depend_on_the_lengths():
    x = whole(np.random.default_rng(1), 3, 4, dtype=np.float64)
    for power in powers(np.float64):
        unit, length = _units(scaled(x, power))
        assert same_bits(unit, _units(x)[0])
        np.testing.assert_allclose(length, scaled(_units(x)[1], power), rtol=1e-15)


@TYPES
@pytest.mark.parametrize("name", ["normed_additive", "monotonic", "mocha"])
def test_a_vector_that_is_normed_may_have_any_length(name, dtype):
    sizes = {"query_width": 6, "memory_width": 5, "width": 4, "dtype": dtype}
    made = [fastattn.create(name, **sizes, rng=np.random.default_rng(0)) for _ in range(6)]
    rng = np.random.default_rng(2)
    memory, queries = (rng.standard_normal((2, n, w)).astype(dtype) for n, w in ((7, 5), (3, 6)))
    d_context = rng.standard_normal((2, 3, 5)).astype(dtype)
    results = []
    for attention, power in zip(made, [0, *powers(dtype)]):
        for name, parameter in attention.parameters().items():
            if name in ("v", "align.v"):
                parameter.assign(scaled(np.array([3, -5, 1, 7], dtype), power))
        prepared = attention.prepare(memory)
        context, backward = attention.vjp(queries, prepared)
        d = backward(d_context)
        gradients = [p.gradient for n, p in attention.parameters().items() if n not in ("v", "align.v")]
        results.append((context, *d, *gradients))
    for power, found in zip(powers(dtype), results[1:]):
        assert all(same_bits(*pair) for pair in zip(found, results[0])), power


@TYPES
def test_sigmoids_that_vanish_are_normalized_by_their_distances(dtype):
    lowest = -1000 if dtype == np.float64 else -120
    sizes = {"query_width": 3, "memory_width": 2, "width": 2, "filters": 1, "filter_size": 3}
    rng = np.random.default_rng(0)
    attention = fastattn.create("location_sensitive", **sizes, smoothing=True, rng=rng, dtype=dtype)
    parameters = attention.parameters()
    for parameter in parameters.values():
        parameter.assign(np.zeros_like(parameter.value))
    parameters["key.w"].assign(20 * np.eye(2, dtype=dtype))
    parameters["v"].assign(np.array([lowest, 1], dtype))
    memory = np.array([[[1, 0], [1, 0.05], [1, -0.05]]], dtype)
    output = attention.forward(np.zeros((1, 1, 3), dtype), attention.prepare(memory), return_weights=True)
    e = np.exp(np.tanh([0, 1, -1]))
    np.testing.assert_allclose(output.weights[0, 0], e / e.sum(), rtol=-lowest * np.finfo(dtype).eps)


@TYPES
@pytest.mark.parametrize("cap", ["least", "tiny", "largest"])
def test_a_soft_cap_of_any_size(dtype, cap):
    info = np.finfo(dtype)
    cap = float({"least": info.smallest_subnormal * 32, "tiny": info.tiny, "largest": info.max}[cap])
    q, k, v = np.zeros((1, 1), dtype), np.array([[0], [1], [3]], dtype), np.eye(3, dtype=dtype)
    q[...] = cap if cap < 1 else 0.5
    weights = fastattn.attention(q, k, v, score="scaled_dot", scale=1.0) if cap < 1 else None
    found = fastattn.attention(q, k, v, score=fastattn.scores.ScaledDot(softcap=cap), scale=1.0)
    if cap < 1:
        assert same_bits(found, weights)  # all scores are about 0
    else:
        e = np.exp([0, 0.5, 1.5])
        np.testing.assert_allclose(found[0], e / e.sum(), rtol=1e-6)


@TYPES
def test_layer_norm_of_rows_of_any_size(dtype):
    rng = np.random.default_rng(3)
    x = whole(rng, 4, 9, dtype=dtype)
    x[3] = 5  # equal elements
    dy = rng.standard_normal((4, 9)).astype(dtype)
    layer = LayerNorm(9, epsilon=0, dtype=dtype)
    y, backward = layer.vjp(x)
    dx = backward(dy)
    gain = layer.gain.gradient.copy()
    assert (y[3] == 0).all() and (dx[3] == 0).all()
    for power in powers(dtype):
        layer.gain.gradient = np.zeros_like(gain)
        found, backward = layer.vjp(scaled(x, power))
        tolerance = {"rtol": 1e-6 if dtype == np.float32 else 1e-14, "err_msg": power}
        np.testing.assert_allclose(found, y, atol=1e-6 if dtype == np.float32 else 1e-15, **tolerance)
        d = backward(dy)
        if power > 0:
            np.testing.assert_allclose(layer.gain.gradient, gain, atol=1e-5, **tolerance)
            expected = np.ldexp(dx.astype(np.longdouble), -power).astype(dtype)
            np.testing.assert_allclose(d, expected, rtol=1e-4, atol=4 * np.finfo(dtype).tiny)


@TYPES
def test_adam_refuses_an_epsilon_that_leaves_steps_without_a_bound(dtype):
    with pytest.raises(ArgumentError, match="epsilon"):
        Adam({"w": Parameter(np.ones(3, dtype))}, rate=0.1, epsilon=0.0)
    w = Parameter(np.ones(4, dtype))
    tiny = float(np.finfo(dtype).tiny)
    optimizer = Adam({"w": w}, rate=0.1, epsilon=2 * tiny**0.5)
    w.gradient = np.array([0, tiny, tiny**0.5, 1], dtype)
    optimizer.step()
    assert w.value[0] == 1 and (np.abs(1 - w.value) < 4).all()


@TYPES
def test_adam_goes_on_after_gradients_near_the_largest(dtype):
    largest = np.finfo(dtype).max
    huge = np.array([largest, -largest, np.sqrt(largest), 1e3, 0], dtype)
    w, usual = Parameter(np.zeros(5, dtype)), Parameter(np.zeros(5, dtype))
    optimizers = Adam({"w": w}, rate=0.1, betas=(0.5, 0.5)), Adam({"w": usual}, rate=0.1, betas=(0.5, 0.5))
    for _ in range(3):
        w.gradient, usual.gradient = huge, np.sign(huge)
        for optimizer in optimizers:
            optimizer.step()
        np.testing.assert_allclose(w.value, usual.value, rtol=1e-6)  # a step has the size of the rate
    for _ in range(2000):
        w.gradient = np.ones(5, dtype)
        optimizers[0].step()
    assert (w.value < -50).all()


@TYPES
@pytest.mark.parametrize("number", [np.inf, np.nan])
def test_gradients_that_are_no_numbers_reach_what_adam_moves(dtype, number):
    w = Parameter(np.zeros(3, dtype))
    optimizer = Adam({"w": w}, rate=0.1)
    w.gradient = np.array([1, number, -1], dtype)
    optimizer.step()
    assert np.isnan(w.value[1]) and np.isfinite(w.value[[0, 2]]).all()
    scaled = Parameter(np.zeros(1, dtype))
    scaled.gradient = np.full(1, np.finfo(dtype).max)
    Adam({"w": scaled}, rate=0.1).step(scale=clip_scale(global_norm({"w": scaled}), 1.0))
    np.testing.assert_allclose(scaled.value, -0.1, rtol=1e-5)


@TYPES
@pytest.mark.parametrize("power", ["least", "most"])
def test_the_norm_of_gradients_of_any_size(dtype, power):
    size = np.finfo(dtype).smallest_subnormal if power == "least" else np.finfo(dtype).max / 8
    w = Parameter(np.zeros(2, dtype))
    w.gradient = np.array([3, 4], dtype) * size
    np.testing.assert_allclose(global_norm({"w": w}), 5 * float(size), rtol=1e-7)


def test_the_norm_of_gradients_that_are_no_numbers():
    w = Parameter(np.zeros(2))
    assert global_norm({"w": w}) == 0
    for number in (np.nan, np.inf):
        w.gradient = np.array([1e300, number])
        assert not np.isfinite(global_norm({"w": w}))


def test_cells_that_cannot_be_counted_are_refused():
    for extents in ([[2**32, 2**32]], [[2**31, 2**32]], [[1, 2**63]]):
        with pytest.raises(ArgumentError, match="fewer than"):
            Grid(np.array(extents, np.uint64))


def test_sizes_that_do_not_fit_are_out_of_memory():
    like = np.empty(0, np.float32)
    for k, n in ((2**32, 2**32), (2**40, 2**40), (2**20, 2**40)):
        assert core.gemm_packed_elements(like, k, n) >= 2**56
    with pytest.raises(MemoryError):
        PackedWeights(np.broadcast_to(np.float32(1), (2**30, 2**30)))


def test_a_seed_below_0_is_an_argument_error():
    with pytest.raises(ArgumentError, match="seed"):
        build(BahdanauConfig(), 9, 9, -1)


@TYPES
@pytest.mark.parametrize(("queries", "keys", "width"), [(3, 2, 5), (3, 70, 5), (1, 2000, 70), (60, 1100, 8)])
def test_a_mean_of_values_near_the_largest_is_finite(queries, keys, width, dtype):
    rng = np.random.default_rng(0)
    largest = float(np.finfo(dtype).max)
    q, k = rng.standard_normal((queries, 8)).astype(dtype), rng.standard_normal((keys, 8)).astype(dtype)
    v = (np.sign(rng.standard_normal((keys, width))) * (0.9 * largest)).astype(dtype)
    v[:, 0], v[:, 1] = largest, rng.standard_normal(keys)
    mask = rng.random((queries, keys)) < 0.8
    mask[:, 0], mask[:, 1] = True, False
    with_nan = v.copy()
    with_nan[1] = np.nan
    for normalizer in ("softmax", "sparsemax"):
        for values, allowed in ((v, None), (with_nan, mask)):
            options = {"mask": allowed, "normalizer": normalizer, "return_weights": True}
            found, weights, _ = fastattn.attention(q, k, values, **options)
            wide = np.where(np.isnan(values), 0, values).astype(np.longdouble) / largest
            np.testing.assert_allclose(found / largest, weights.astype(np.longdouble) @ wide, atol=1e-5)
            assert np.isfinite(found).all()
            small = np.broadcast_to(values[:, 1:2], (keys, 2))
            # What overflowed beside it changes no bit of a column.
            assert same_bits(fastattn.attention(q, k, small, **options).context[:, 1], found[:, 1])


@TYPES
def test_infinite_values_stay_infinite(dtype):
    q, k = np.zeros((2, 3), dtype), np.zeros((4, 3), dtype)
    v = np.full((4, 2), np.finfo(dtype).max)
    v[2, 1] = np.inf
    assert (fastattn.attention(q, k, v) == [[np.finfo(dtype).max, np.inf]]).all()
