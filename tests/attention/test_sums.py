"""Sums of many rows in float32: the bound of docs/semantics.md for any number of them.

C is the error over eps * A, where A is the sum with absolute values in place of its terms, times 1 + S for what follows
from scores of size S. Terms of one sign, or all alike, are the hard case: their rounding errors add up.
"""

import numpy as np
import pytest
from cases import OWN
from checks import same_bits

import fastattn
from fastattn import functional, linear, scores
from fastattn.layers import Embedding, LayerNorm

EPS = float(np.finfo(np.float32).eps)
RNG = np.random.default_rng(0)
ROWS = pytest.mark.parametrize("rows", [300, 3000, 40_000])


def positive(*shape):
    return RNG.random(shape).astype(np.float32)


def alike(*shape):
    return np.full(shape, 0.7, np.float32)


KINDS = pytest.mark.parametrize("draw", [positive, alike], ids=lambda f: f.__name__)


def wide(*arrays):
    return (x.astype(np.float64) for x in arrays)


def size(found, expected, unit):
    """The largest C."""
    return float((np.abs(found - expected) / (EPS * unit + 1e-30)).max())


def softmax(s):
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@ROWS
@KINDS
def test_gradients_of_keys_and_values(rows, draw):
    q, k, v, d = (draw(n, 8) for n in (rows, 6, 6, rows))
    q *= np.float32(0.1)
    k *= np.linspace(0.05, 0.1, 6, dtype=np.float32)[:, None]
    v *= np.linspace(-1, 1, 6, dtype=np.float32)[:, None]
    bias = np.zeros(6, np.float32)
    _, backward = fastattn.attention_vjp(q, k, v, bias=bias, scale=1.0)
    found = backward(d)
    q, k, v, d = wide(q, k, v, d)
    s = 1 + (np.abs(q) @ np.abs(k.T)).max()
    p, dp, dp_unit = softmax(q @ k.T), d @ v.T, np.abs(d) @ np.abs(v.T)
    ds = p * (dp - (p * dp).sum(-1, keepdims=True))
    unit = s * p * (dp_unit + (p * dp_unit).sum(-1, keepdims=True))
    assert size(found.value, p.T @ d, s * (p.T @ np.abs(d))) <= 8
    assert size(found.key, ds.T @ q, unit.T @ np.abs(q)) <= 8
    assert size(found.bias, ds.sum(0), unit.sum(0)) <= 8


@ROWS
@KINDS
@pytest.mark.parametrize("normalizer", ["sparsemax", "entmax15"])
def test_gradients_of_values_with_sparse_weights(rows, draw, normalizer):
    q, k, v, d = (draw(n, 4) for n in (rows, 5, 5, rows))
    output, backward = fastattn.attention_vjp(q, k, v, normalizer=normalizer, return_weights=True)
    found = backward(d)
    weights, d = wide(output.weights, d)
    assert size(found.value, weights.T @ d, 6 * weights.T @ np.abs(d)) <= 8


@pytest.mark.parametrize("rows", [300, 5000])
@KINDS
@pytest.mark.parametrize("normalizer", ["softmax", "sparsemax"])
def test_gradients_of_an_additive_score(rows, draw, normalizer):
    q, k, v, d = (draw(n, 6) for n in (rows, 4, 4, rows))
    k *= np.linspace(0.1, 1, 4, dtype=np.float32)[:, None]
    v *= np.linspace(-1, 1, 4, dtype=np.float32)[:, None]
    w = draw(6)
    options = {"score": scores.Additive(w), "normalizer": normalizer, "return_weights": True}
    output, backward = fastattn.attention_vjp(q, k, v, **options)
    found = backward(d)
    q, k, v, d, p, w = wide(q, k, v, d, output.weights, w)
    y = np.tanh(q[:, None] + k)
    dp, dp_unit = d @ v.T, np.abs(d) @ np.abs(v.T)
    slope = p if normalizer == "softmax" else (p > 0) / (p > 0).sum(-1, keepdims=True)
    factor = p if normalizer == "softmax" else (p > 0)
    ds = factor * (dp - (slope * dp).sum(-1, keepdims=True))
    unit = factor * (dp_unit + (slope * dp_unit).sum(-1, keepdims=True))
    of_v, of_v_unit = np.einsum("ij,ijd->d", ds, y), np.einsum("ij,ijd->d", unit, np.abs(y))
    slopes = w * (1 - y * y)
    of_k, of_k_unit = np.einsum("ij,ijd->jd", ds, slopes), np.einsum("ij,ijd->jd", unit, np.abs(slopes) + w)
    assert size(found.score["v"], of_v, 6 * of_v_unit) <= 8
    assert size(found.key, of_k, 6 * of_k_unit) <= 8


@pytest.mark.parametrize("normalizer", ["softmax", "sparsemax"])
@pytest.mark.parametrize(("heads", "key_heads"), [(1, 1), (4, 2), (3, 1), (60, 1)])
@pytest.mark.parametrize("score", ["scaled_dot", "additive", *OWN])
def test_queries_that_follow_move_no_bit(normalizer, heads, key_heads, score):
    rows = 1700 // heads
    draw = RNG.standard_normal
    q, d = (draw((2, heads, rows, 5)).astype(np.float32) for _ in range(2))
    k, v = (draw((2, key_heads, 7, 5)).astype(np.float32) for _ in range(2))
    score = scores.Additive(np.ones(5, np.float32)) if score == "additive" else score
    _, backward = fastattn.attention_vjp(q, k, v, score=score, normalizer=normalizer)
    expected = backward(d)
    more = ((0, 0), (0, 0), (0, 111), (0, 0))
    _, backward = fastattn.attention_vjp(np.pad(q, more), k, v, score=score, normalizer=normalizer)
    found = backward(np.pad(d, more))
    assert same_bits(found.key, expected.key) and same_bits(found.value, expected.value)
    if isinstance(score, scores.Additive):
        assert same_bits(found.score["v"], expected.score["v"])


@pytest.mark.parametrize("shape", [(1, 4, 70, 300), (3, 1, 70, 300), (70, 300), (4, 1, 300), (3, 1, 1, 300)])
@pytest.mark.parametrize("key_heads", [2, 4])
@pytest.mark.parametrize("score", ["scaled_dot", "additive"])
def test_gradients_of_a_bias_that_pairs_share(shape, key_heads, score):
    """They are sums in float64, in order, of those that a bias of each pair has, rounded once; of a masked NaN too."""
    rng = np.random.default_rng(1)
    q, k, v, d = (rng.standard_normal(n, np.float32) for n in
                  ((3, 4, 70, 8), (3, key_heads, 300, 8), (3, key_heads, 300, 8), (3, 4, 70, 8)))  # fmt: skip
    bias = rng.standard_normal(shape, np.float32)
    options = {"score": scores.Additive(rng.standard_normal(8, np.float32)) if score == "additive" else score}
    mask = np.ones((3, 1, 1, 300), bool)
    mask[1, ..., 7] = False
    k[1, :, 7] = v[1, :, 7] = np.nan
    whole = np.broadcast_to(bias, (3, 4, 70, 300))
    _, one = fastattn.attention_vjp(q, k, v, mask=mask, bias=bias, **options)
    _, other = fastattn.attention_vjp(q, k, v, mask=mask, bias=np.array(whole), **options)
    found, expected = one(d), other(d)
    sums = np.zeros(shape)
    padded = sums.reshape((1,) * (4 - len(shape)) + shape)
    for i, j in np.ndindex(3, 4):
        part = expected.bias[i, j].astype(np.float64)
        to = padded[i % padded.shape[0], j % padded.shape[1]]
        for row in part if to.shape[0] == 1 else [part]:
            to += row
    assert same_bits(found.bias, sums.astype(np.float32))
    for name in ("query", "key", "value"):
        assert same_bits(getattr(found, name), getattr(expected, name)), name
        assert np.isfinite(getattr(found, name)).all(), name
    for name, gradient in expected.score.items():
        assert same_bits(found.score[name], gradient), name


@pytest.mark.parametrize("keys", [48, 500, 5000, 100_000])
@KINDS
def test_contexts_of_many_keys(keys, draw):
    q, k, v = draw(3, 8), draw(keys, 8) * np.float32(0.1), draw(keys, 8)
    found = fastattn.attention(q, k, v)
    q, k, v = wide(q, k, v)
    p = softmax(q @ k.T / 8**0.5)
    s = 1 + (q @ k.T / 8**0.5).max()
    assert size(found, p @ v, s * (p @ v)) <= (4 if draw is positive else 16)


def test_equal_terms_err_by_an_eighth_of_their_block():
    """The worst case: all additions of a chain round the same way. It does not grow with the number of terms.

    The limits are those of docs/semantics.md.
    """
    limits = {"context": 17, "value": 10, "key": 10, "weights": 10, "sparse value": 49, "sparse key": 49}
    largest = dict.fromkeys(limits, 0.0)
    for n in (96, 384, 1600, 5000):
        v = np.full((n, 64), RNG.uniform(0.5, 1, 64), np.float32)
        one, rows = np.ones((1, 2), np.float32), np.ones((n, 2), np.float32)
        found = {"context": n * fastattn.attention(one, np.zeros_like(rows), v)[0].astype(np.float64)}
        for prefix, normalizer, slope in (("", "softmax", 4), ("sparse ", "sparsemax", 2)):
            _, backward = fastattn.attention_vjp(rows, one, v[:1], normalizer=normalizer)
            found[f"{prefix}value"] = backward(v).value[0]
            # Two keys of the same score, whose values differ by 2: weights of a half, and slopes 1 / 4 or 1 / 2.
            k, two = np.zeros((2, 64), np.float32), np.array([[1], [-1]], np.float32)
            _, backward = fastattn.attention_vjp(v, k, two, normalizer=normalizer, scale=1.0)
            found[f"{prefix}key"] = backward(rows[:, :1]).key[0].astype(np.float64) * slope / 2
        found["weights"] = linear.weight_gradient(rows[:, :1], v)[0]
        expected = v.astype(np.float64).sum(0)
        for name, x in found.items():
            largest[name] = max(largest[name], size(x, expected, expected))
    assert all(largest[name] <= limit for name, limit in limits.items()), largest


@pytest.mark.parametrize("rows", [300, 3000, 100_000])
@KINDS
def test_gradients_of_weights(rows, draw):
    x, dy = draw(rows, 7), draw(rows, 3)
    sums = np.zeros(3, np.float32)
    found = linear.weight_gradient(x, dy, sums=sums)
    x, dy = wide(x, dy)
    assert size(found, x.T @ dy, x.T @ dy) <= 8
    assert size(sums, dy.sum(0), dy.sum(0)) <= 8


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7, 0.9])
def test_a_million_rows_that_are_alike(value):
    rows = np.full((10**6, 1), value, np.float32)
    expected = float(rows[0, 0]) * len(rows)
    assert abs(float(linear.row_sum(rows)[0]) - expected) <= 8 * EPS * expected


def test_ones_are_counted():
    ones = np.broadcast_to(np.float32(1), (2**24 + 2**22, 1))
    assert linear.row_sum(ones)[0] == 2**24 + 2**22


def test_small_terms_are_not_lost_behind_large_ones():
    x = np.ones((2**22, 1), np.float32)
    x[0] = 2**26
    expected = 2**26 + 2**22 - 1
    assert abs(linear.row_sum(x)[0] - expected) <= 8 * EPS * expected


def test_gradients_of_weights_that_overflow_stay_infinite():
    x = np.full((40_000, 1), 1e35, np.float32)
    with np.errstate(over="ignore"):
        assert linear.row_sum(x)[0] == np.inf


@pytest.mark.parametrize("rows", [300, 30_000])
@KINDS
def test_gradients_of_gains_and_offsets(rows, draw):
    x, dy = draw(rows, 5) * np.linspace(-1, 2, 5, dtype=np.float32), draw(rows, 5)
    layer = LayerNorm(5)
    layer.vjp(x)[1](dy)
    x, dy = wide(x, dy)
    mean, deviation = x.mean(-1, keepdims=True), np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    unit = (np.abs(x) + np.abs(mean)) / deviation
    assert size(layer.gain.gradient, ((x - mean) / deviation * dy).sum(0), (unit * dy).sum(0)) <= 8
    assert size(layer.offset.gradient, dy.sum(0), dy.sum(0)) <= 8


@pytest.mark.parametrize("rows", [300, 30_000])
@KINDS
def test_gradients_of_one_row_of_a_table(rows, draw):
    dy = draw(rows, 37)
    layer = Embedding(4, 37, rng=np.random.default_rng(0))
    ids = np.full(rows, 2)
    ids[5] = 1
    layer.vjp(ids)[1](dy)
    expected = np.zeros((4, 37))
    np.add.at(expected, ids, dy.astype(np.float64))
    assert size(layer.w.gradient, expected, expected) <= 1


def test_softmax_of_many_columns():
    x = np.zeros((1, 2**20), np.float32)
    assert abs(functional.softmax(x)[0, 0] * 2**20 - 1) <= 8 * EPS


STEPWISE = {
    "coverage": {"width": 5, "fertility": 2.0},
    "location_sensitive": {"width": 5, "filters": 2, "filter_size": 3},
    "neural_coverage": {"width": 5, "coverage_width": 2},
    "local_p": {"window": 2, "score": "concat", "width": 5},
    "monotonic": {"width": 5, "offset": 0.0},
    "mocha": {"width": 5, "chunk": 2, "offset": 0.0},
}
REFUSED = pytest.mark.skipif(
    fastattn.show_config(as_dict=True).get("backend") == "numba", reason="the kernels in Numba refuse these"
)
STEPS = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=REFUSED if name in ("monotonic", "mocha") else ()) for name in STEPWISE]
)


def sums_of_steps(name, steps, padding=0, at_once=False, same=True):
    """What the steps of a decoder add to, all with one state, and steps of padding after them."""
    rng, draw = np.random.default_rng(0), np.random.default_rng(1).standard_normal
    variant = fastattn.create(name, query_width=4, memory_width=3, rng=rng, **STEPWISE[name])
    prepared = variant.prepare(draw((2, 6, 3)).astype(np.float32))
    queries = draw((2, 1 if same else steps, 4)).astype(np.float32)
    d = draw((2, 1 if same else steps, 3)).astype(np.float32)
    queries, d = (np.broadcast_to(x, (2, steps, x.shape[-1])) if same else x for x in (queries, d))
    queries, d = (np.pad(x, ((0, 0), (0, padding), (0, 0))) for x in (queries, d))
    first = variant.step(queries[:, 0], prepared, variant.start(prepared))[2]
    if at_once:
        variant._back(variant._run(queries, prepared, first), prepared, d, None)
    _, d_state = variant.step_vjp(queries[:, 0], prepared.fresh(), first)[3](d[:, 0])
    backs = [variant.step_vjp(queries[:, t], prepared, first)[3] for t in range(0 if at_once else steps + padding)]
    for t, back in reversed(list(enumerate(backs))):
        back(d[:, t], None, None if t >= steps else d_state)
    assert not any(parameter.gradient.any() for parameter in variant.parameters().values()), "added to step by step"
    return prepared.take()[1]


@STEPS
def test_sums_over_the_steps_of_a_decoder(name):
    steps = 3000
    one, many = sums_of_steps(name, 1), sums_of_steps(name, steps)
    assert set(one) == set(many) and any(x.any() for x in one.values())
    for key, x in one.items():
        expected = steps * x.astype(np.float64)
        assert size(many[key], expected, np.abs(expected)) <= 8, key


def test_sums_over_steps_at_once():
    one, many = sums_of_steps("local_p", 1), sums_of_steps("local_p", 3000, at_once=True)
    for key, x in one.items():
        expected = 3000 * x.astype(np.float64)
        assert size(many[key], expected, np.abs(expected)) <= 8, key


@STEPS
def test_steps_that_follow_move_no_bit(name):
    one, more = (sums_of_steps(name, 70, padding, same=False) for padding in (0, 37))
    assert all(same_bits(more[key], x) for key, x in one.items())
