"""Numbers near the largest of the type: contexts are means, so finite, and gradients that the type holds are right,
whatever their sums and products pass through. A power of two times all that is large moves no bit, or hardly one."""

import math

import numpy as np
import pytest
from checks import same_bits

import fastattn
from fastattn import scores

TYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])


def softmax(s):
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def close(found, expected, unit, dtype):
    """Equal within a few roundings of the unit, and infinite where the type does not hold the number."""
    with np.errstate(over="ignore"):
        held = expected.astype(dtype)
    fits = np.isfinite(held)
    assert same_bits(found[~fits], held[~fits])
    info = np.finfo(dtype)
    assert (np.abs(found - expected)[fits] <= 8 * info.eps * unit[fits] + info.tiny).all()


def problem(dtype, large, queries, keys, width=6):
    """Ordinary arrays, but what `large` names is near the largest number, and the rest so small that gradients fit."""
    rng, largest = np.random.default_rng(0), float(np.finfo(dtype).max)
    names, rows = ("q", "k", "v", "d"), (queries, keys, keys, queries)
    arrays = {name: rng.standard_normal((n, width)).astype(dtype) for name, n in zip(names, rows)}
    for name in set(large) & {"v", "d"}:
        sizes = rng.uniform(0.5, 0.99, arrays[name].shape) * largest
        arrays[name] = (np.sign(arrays[name]) * sizes).astype(dtype)
    small = dtype(1e-3) if len(large) == 1 else np.sqrt(dtype(1e-3 / largest))
    if "k" in large:
        arrays["k"] = (np.clip(arrays["k"], -3, 3) * (largest / 4)).astype(dtype)
        arrays["q"] = (arrays["q"] / (largest / 4)).astype(dtype)
    else:
        arrays["q"] *= small
        arrays["k"] *= small
    return arrays.values()


@TYPES
@pytest.mark.parametrize("large", ["v", "d", "k", "vd"])
@pytest.mark.parametrize(("queries", "keys"), [(3, 2), (3, 70), (1, 600), (100, 300), (1600, 5)])
def test_gradients_of_attention(dtype, large, queries, keys):
    q, k, v, d = problem(dtype, large, queries, keys)
    bias = np.zeros((1, keys), dtype)
    _, backward = fastattn.attention_vjp(q, k, v, bias=bias, scale=0.5)
    found = backward(d)
    q, k, v, d = (x.astype(np.longdouble) for x in (q, k, v, d))
    p, dp = softmax(q @ k.T / 2), d @ v.T
    ds = p * (dp - (p * dp).sum(-1, keepdims=True))
    size = np.abs(d) @ np.abs(v.T)
    size = 8 * p * (size + (p * size).sum(-1, keepdims=True))  # of scores up to 7
    close(found.query, ds @ k / 2, size @ np.abs(k) / 2, dtype)
    close(found.key, ds.T @ q / 2, size.T @ np.abs(q) / 2, dtype)
    close(found.value, p.T @ d, 8 * p.T @ np.abs(d), dtype)
    close(found.bias, ds.sum(0, keepdims=True), size.sum(0, keepdims=True), dtype)


@TYPES
@pytest.mark.parametrize("normalizer", ["softmax", "sparsemax"])
def test_sums_of_many_terms_that_cancel(dtype, normalizer):
    rows, largest = 1600, np.finfo(dtype).max
    d = np.full((rows, 3), largest)
    d[rows // 2 :] *= -1
    d[-1] /= 2
    q, k, v = np.zeros((rows, 2), dtype), np.ones((4, 2), dtype), np.zeros((4, 3), dtype)
    found = fastattn.attention_vjp(q, k, v, normalizer=normalizer)[1](d)
    np.testing.assert_allclose(
        found.value / largest, np.full((4, 3), 1 / 8), rtol=0, atol=2 * rows * np.finfo(dtype).eps
    )


def options(dtype, width):
    yield "dropout", {"dropout": 0.5, "seed": 3}
    yield "masks", {"mask": np.random.default_rng(1).random((20, 30)) < 0.7, "causal": "bottom_right"}
    yield "sparse", {"normalizer": "entmax15"}
    yield "additive", {"score": scores.Additive(np.linspace(1, 2, width).astype(dtype))}
    yield "sparse additive", {"score": scores.Additive(np.ones(width, dtype)), "normalizer": "sparsemax"}
    yield "soft cap", {"score": scores.ScaledDot(softcap=3.0)}


@TYPES
@pytest.mark.parametrize("name", [name for name, _ in options(np.float32, 1)])
def test_gradients_do_not_depend_on_the_size_of_values(dtype, name):
    rng = np.random.default_rng(0)
    q, k, v, d = (rng.standard_normal((2, n, 6)).astype(dtype) for n in (20, 30, 30, 20))
    d *= dtype(0.01)
    v = np.sign(v) * (1 - np.finfo(dtype).eps)
    d_weights = rng.standard_normal((2, 20, 30)).astype(dtype)
    d[0, 3] = [60, -50, 60, -50, -19, 0]  # sums over it overflow on the way
    more = int(np.finfo(dtype).maxexp) - (name == "dropout")  # which doubles weights
    with_options = {**dict(options(dtype, 6))[name], "return_weights": True}
    output, backward = fastattn.attention_vjp(q, k, v, **with_options)
    large, large_backward = fastattn.attention_vjp(q, k, np.ldexp(v, more), **with_options)
    np.testing.assert_allclose(np.ldexp(large.context, -more), output.context, rtol=0, atol=4 * np.finfo(dtype).eps)
    fewer = 12  # and gradients of keys that are this much larger do
    given = {"d_weights": np.ldexp(d_weights, -fewer)}, {"d_weights": np.ldexp(d_weights, more - fewer)}
    expected = backward(np.ldexp(d, -fewer), **given[0])
    found = large_backward(np.ldexp(d, -fewer), **given[1])
    assert same_bits(found.value, expected.value)
    pairs = [(found.query, expected.query), (found.key, expected.key)]
    for one, other in [*pairs, *((found.score[n], expected.score[n]) for n in found.score)]:
        np.testing.assert_allclose(np.ldexp(one, -more), other, rtol=0, atol=1e-5 * np.abs(other).max())
        assert np.isfinite(one).all()


@fastattn.score_mod
def distance(score, b, h, i, j, slope):
    return score - slope[0] * abs(i - j)


@fastattn.pairwise_score
def laplace(q, k, slope):
    return -slope * abs(q - k)


PASSES = ["plain", "bias", "function", "trained", "pairwise", "additive", "masks", "dropout"]


@TYPES
@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("size", [0.4, 0.6, 0.8])
def test_gradients_do_not_depend_on_the_size_of_what_comes_back(dtype, name, size):
    """Nor do sums for arrays that many pairs share: what overflows in one pass is not theirs."""
    rng = np.random.default_rng(0)
    q, k, v, d = (rng.standard_normal((2, n, 6)).astype(dtype) for n in (20, 90, 90, 20))
    slope = np.array([0.1], dtype)
    given = {
        **{name: dict(options(dtype, 6))[name] for name in ("additive", "dropout")},
        "masks": {"mask": rng.random((20, 90)) < 0.7},
        "plain": {},
        "bias": {"bias": rng.standard_normal((20, 90)).astype(dtype)},
        "function": {"score_mod": lambda score, b, h, i, j: score - 0.1 * abs(i - j)},
        "trained": {"score_mod": distance(slope=slope)},
        "pairwise": {"score": laplace(slope=np.linspace(0.1, 1, 6).astype(dtype))},
    }[name]
    backward = fastattn.attention_vjp(q, k, v, **given)[1]
    power = int(size * np.finfo(dtype).maxexp)
    expected, found = backward(d), backward(np.ldexp(d, power))
    pairs = list(zip(found[:4], expected[:4]))[: 3 + (name == "bias")]
    pairs += [(found.score[parameter], expected.score[parameter]) for parameter in expected.score]
    assert len(pairs) == 3 + (name in {"bias", "trained", "pairwise", "additive"})
    assert all(same_bits(np.ldexp(one, -power), other) for one, other in pairs)


@TYPES
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_of_far_keys_whose_weights_are_near_the_smallest(dtype, masked):
    """They are those of numbers without such an end, to the type's precision, with a masked NaN beside them or not."""
    rng, info = np.random.default_rng(0), np.finfo(dtype)
    q, k, v, d = (rng.standard_normal((n, 6)).astype(dtype) for n in (60, 200, 200, 60))
    d *= dtype(2.0**-9)
    fall = dtype(np.log(2) * -info.minexp / 150)  # weights of 150 keys are normal numbers
    bias = -fall * np.abs(np.subtract.outer(np.arange(60), np.arange(200))).astype(dtype)
    mask = np.ones((60, 200), bool)
    mask[:, 3] = False
    if masked:
        k[3] = v[3] = np.nan
    found = fastattn.attention_vjp(0.1 * q, k, v, bias=bias, mask=mask)[1](d)
    q, k, v, d, bias = (x.astype(np.longdouble) for x in (q * dtype(0.1), k, v, d, bias))
    k[3] = v[3] = 0
    p = softmax(np.where(mask, q @ k.T / np.sqrt(np.longdouble(6)) + bias, -np.inf))
    p[p < 2 * info.tiny] = 0
    expected = p.T @ d
    unit = p.T @ np.abs(d)
    kept = (unit > 16 * info.tiny).all(-1) & (np.arange(200) != 3)
    assert kept.sum() > 190 and unit[kept].min() < 2.0**64 * info.tiny
    assert (np.abs(found.value - expected)[kept] <= 500 * info.eps * unit[kept]).all()


def test_what_is_masked_and_what_is_infinite_is_left_alone():
    """A second pass with less of everything changes no element that was finite, nor reads what is masked."""
    q, k, v, d = problem(np.float32, "v", 7, 9)
    mask = np.ones((7, 9), bool)
    mask[:, 4] = mask[5] = False
    with_nan = [x.copy() for x in (k, v)]
    for x in with_nan:
        x[4] = np.nan
    expected = fastattn.attention_vjp(q, k, v, mask=mask)[1](d)
    found = fastattn.attention_vjp(q, *with_nan, mask=mask)[1](d)
    assert all(same_bits(*pair) for pair in zip(found[:3], expected[:3]))
    assert np.isfinite(expected.query).all() and (expected.query[5] == 0).all()
    d[2, 0] = np.inf
    found = fastattn.attention_vjp(q, k, v)[1](d)
    assert not np.isfinite(found.query[2]).any() and not np.isfinite(found.value[:, 0]).any()
    assert np.isfinite(np.delete(found.query, 2, 0)).all() and np.isfinite(found.value[:, 1:]).all()


STEPS = [
    ("coverage", {"width": 4}),
    ("location_sensitive", {"width": 4, "filters": 2, "filter_size": 3}),
    ("location_sensitive", {"width": 4, "filters": 1, "filter_size": 3, "smoothing": True}),
    ("location_sensitive", {"width": 7, "filters": 2, "filter_size": 3, "window": 2, "sharpening": 2.0}),
    ("monotonic", {"width": 4, "offset": 0.0}),
    ("mocha", {"width": 4, "chunk": 2, "offset": 0.0}),
    ("bahdanau", {"width": 4}),
    ("normed_additive", {"width": 4}),
]
VARIANTS = pytest.mark.parametrize(("name", "given"), STEPS, ids=[f"{n}-{len(o)}" for n, o in STEPS])


def stepwise(name, given, dtype, power, memory, d_context):
    """A variant whose memory is multiplied by a power of two, and whose products with it are divided by that: its
    contexts step by step, and the gradients that grow with the memory, of all steps at once and of each."""
    rng = np.random.default_rng(1)
    attention = fastattn.create(name, query_width=6, memory_width=5, rng=np.random.default_rng(0), dtype=dtype, **given)
    for key, parameter in attention.parameters().items():
        if key.endswith("key.w"):
            weights = np.random.default_rng(3).integers(-8, 9, parameter.value.shape)
            parameter.assign(np.ldexp(weights, -13 - power).astype(dtype))
    queries = rng.standard_normal((2, 3, 6)).astype(dtype)
    prepared = attention.prepare(np.ldexp(memory, power).astype(dtype))
    contexts, backward = attention.vjp(queries, prepared)
    gradients = [backward(np.broadcast_to(d_context, (2, 3, 5)).astype(dtype))[0]]
    gradients += [p.gradient.copy() for key, p in attention.parameters().items() if not key.endswith("key.w")]
    state = attention.start(prepared)
    for t in range(3):
        context, _, state, step_backward = attention.step_vjp(queries[:, t], prepared, state)
        assert same_bits(context, contexts[:, t])
        gradients.append(step_backward(np.broadcast_to(d_context, (2, 5)).astype(dtype))[0])
    return contexts, gradients


@TYPES
@VARIANTS
def test_gradients_of_steps(name, given, dtype):
    power = int(np.finfo(dtype).maxexp)
    memory = (np.random.default_rng(2).uniform(0.5, 1, (2, 7, 1)) * np.ones(5)).astype(dtype)
    d_context = [0.6, -0.5, 0.6, -0.5, 0]  # 1.2 times the largest number on the way
    large, gradients = stepwise(name, given, dtype, power, memory, d_context)
    contexts, expected = stepwise(name, given, dtype, 0, memory, d_context)
    assert same_bits(np.ldexp(large, -power), contexts)
    for found, other in zip(gradients, expected):
        np.testing.assert_allclose(np.ldexp(found, -power), other, rtol=0, atol=1e-5 * np.abs(other).max())


@TYPES
@VARIANTS
def test_contexts_of_steps_over_values_that_are_all_the_largest(name, given, dtype):
    power = int(np.finfo(dtype).maxexp)
    memory = np.full((2, 7, 5), np.nextafter(dtype(1), dtype(0)))
    memory[:, :, 1] *= -1
    contexts, _ = stepwise(name, given, dtype, power, memory, np.zeros(5))
    assert np.isfinite(contexts).all()
    if name not in ("monotonic", "mocha"):  # whose weights may sum to less
        np.testing.assert_allclose(np.ldexp(contexts, -power), memory[:, :3], rtol=1e-6)


@TYPES
def test_a_gradient_between_two_steps_of_a_formula_is_one_of_the_type(dtype):
    rng, power = np.random.default_rng(0), int(np.finfo(dtype).maxexp)
    q, v, d = (rng.standard_normal((n, 4)).astype(dtype) for n in (3, 5, 3))
    k = (rng.choice([-1, 1], (5, 4)) * rng.uniform(0.5, 0.9, (5, 4)) * 2.0**64).astype(dtype)
    k = np.ldexp(k, power - 64)
    w = np.ldexp(rng.integers(-8, 9, (4, 4)), 0 - power).astype(dtype)
    d *= 64
    _, backward = fastattn.attention_vjp(q, k, v, score=scores.General(w))
    assert not np.isfinite(backward(d).query).all()
    assert np.isfinite(backward(d / 2**12).query).all()


@pytest.mark.parametrize("large", ["v", "d", "vd"])
def test_what_overflows_beside_it_moves_no_bit_of_a_sample(large):
    arrays = problem(np.float32, large, 7, 9)
    rng = np.random.default_rng(1)
    small = [(rng.standard_normal(x.shape) * 1e-18).astype(np.float32) for x in arrays]
    both = [np.stack(pair) for pair in zip(arrays, small)]
    alone = fastattn.attention_vjp(*small[:3])[1](small[3])
    found = fastattn.attention_vjp(*both[:3])[1](both[3])
    assert all(same_bits(x[1], y) for x, y in zip(found[:3], alone[:3]))


@TYPES
@pytest.mark.parametrize("name", ["plain", "bias", "additive", "sparse"])
@pytest.mark.parametrize("other", ["huge", "infinite"])
def test_what_overflows_on_its_way_has_the_bits_that_it_has_alone(dtype, name, other):
    """Whatever is in another sample, in keys that are not read, or in gradients of weights that are 0."""
    rng, largest, power = np.random.default_rng(0), np.finfo(dtype).max, int(np.finfo(dtype).maxexp)
    q, k, v, d = (rng.standard_normal((2, n, 6)).astype(dtype) for n in (20, 30, 30, 20))
    large = np.ldexp(dtype(1), power // 2)  # of keys or the vector; the scale, which comes last, takes it back
    v[0], d[0] = np.ldexp(v[0], power - 28), np.ldexp(d[0], -20)
    more = {
        "plain": {},
        "bias": {"bias": rng.standard_normal((2, 20, 30)).astype(dtype)},
        "additive": {"score": scores.Additive(np.linspace(1, 2, 6).astype(dtype) * large)},
        "sparse": {"normalizer": "entmax15"},
    }[name]
    k = k if name == "additive" else k * large
    of_weights = np.zeros((2, 20, 30), dtype)

    def gradients(samples, keys):
        given = {option: x[samples, :, :keys] if option == "bias" else x for option, x in more.items()}
        given |= {"key_lengths": np.minimum([20, 30], keys)[samples], "return_weights": True, "scale": float(1 / large)}
        backward = fastattn.attention_vjp(q[samples], k[samples, :keys], v[samples, :keys], **given)[1]
        found = backward(d[samples], d_weights=of_weights[samples, :, :keys])
        return found.query[0], found.key[0, :20], found.value[0, :20]

    alone = gradients(slice(1), 20)
    assert all(np.isfinite(x).all() and x.any() for x in alone)
    q[1, 3], k[1, 4], v[1, 5], d[1, 6] = (np.inf if other == "infinite" else largest,) * 4
    d[1, 7] = largest
    assert all(map(same_bits, gradients(slice(2), 20), alone))
    k[0, 20:], v[0, 20:], of_weights[0, :, 20:] = largest, -largest, largest
    assert all(map(same_bits, gradients(slice(2), 30), alone))


@TYPES
def test_what_overflows_on_its_way_does_not_depend_on_later_keys(dtype):
    """Nor on other rows: each has its own power of two."""
    rng, largest, power = np.random.default_rng(0), np.finfo(dtype).max, int(np.finfo(dtype).maxexp)
    q, k, v, d = (rng.standard_normal((1, 30, 6)).astype(dtype) for _ in "qkvd")
    k, v, d = np.ldexp(k, power // 2), np.ldexp(v, power - 28), np.ldexp(d, -20)
    given = {"causal": True, "scale": 0.5 ** (power // 2)}
    before = fastattn.attention_vjp(q, k, v, **given)[1](d).query
    assert np.isfinite(before[:, :20]).all() and before[:, 1:].all()
    k[:, 20:], v[:, 20:], d[:, 20:], q[:, 20:] = largest, -largest, largest, largest
    after = fastattn.attention_vjp(q, k, v, **given)[1](d).query
    assert same_bits(after[:, :20], before[:, :20])


@TYPES
def test_a_vector_of_the_largest_numbers_makes_no_nan(dtype):
    """Of scores so far apart that one key has all of the weight, and gradients are zeros."""
    q, k, v, d = np.random.default_rng(0).standard_normal((4, 9, 1)).astype(dtype)
    score = scores.Additive(np.full(1, np.finfo(dtype).max / 2, dtype))
    for normalizer in ("softmax", "sparsemax"):
        found = fastattn.attention_vjp(q, k, v, score=score, normalizer=normalizer)[1](d)
        assert not found.query.any() and not found.key.any(), normalizer


@TYPES
def test_small_values_keep_what_they_have_where_sums_overflow(dtype):
    """Of what cancels in the end; what comes back is large, values are not."""
    rng, power = np.random.default_rng(0), int(np.finfo(dtype).maxexp) - 3
    q, v, d = (np.ldexp(rng.standard_normal((9, 6)), e).astype(dtype) for e in (0, -20, -2))
    backward = fastattn.attention_vjp(q * dtype(2.0**-30), np.full((9, 6), dtype(2.0**30)), v)[1]
    assert same_bits(backward(np.ldexp(d, power)).query, np.ldexp(backward(d).query, power))


@TYPES
def test_rows_beside_one_that_overflows_keep_what_they_have(dtype):
    """Values near the smallest number, beside one near the largest that they may not read."""
    rng, power = np.random.default_rng(0), int(np.finfo(dtype).maxexp)
    q, k, v, d = (rng.standard_normal((9, 6)).astype(dtype) for _ in "qkvd")
    v, k[:2], d[0] = np.ldexp(v, -power * 5 // 8), np.ldexp(k[:2], -20), np.ldexp(d[0], 10)
    v[0] = np.sign(d[0]) * np.finfo(dtype).max
    mask = np.ones((9, 9), bool)
    mask[0, 2:] = mask[1:, 0] = False
    found = fastattn.attention_vjp(q, k, v, mask=mask)[1](d).query
    assert np.isfinite(found[0]).all() and found.all()
    v[0] = 0
    assert same_bits(found[1:], fastattn.attention_vjp(q, k, v, mask=mask)[1](d).query[1:])


@TYPES
def test_products_of_keys_and_values_near_the_largest_that_cancel(dtype):
    rng, power = np.random.default_rng(0), int(np.finfo(dtype).maxexp)
    v, d = (rng.standard_normal((9, 6)).astype(dtype) for _ in "vd")
    k, v, d = np.full((9, 6), 0.5 ** (6 - power), dtype), np.ldexp(v, power - 6), np.ldexp(d, 26 - power)
    found = fastattn.attention_vjp(np.zeros_like(k), k, v)[1](d).query
    assert np.isfinite(found).all()


@TYPES
@pytest.mark.parametrize("beside", ["a NaN", "a sum that overflows"])
def test_rows_that_are_finite_are_not_computed_once_more(dtype, beside):
    """With exponentials times less, of which those near the smallest number would lose bits."""
    far = -math.log(np.finfo(dtype).tiny) - 1
    q, k = np.ones((2, 1), dtype), np.array([[0], [-far], [-far - 0.3]], dtype)
    v = np.array([[0, 0], [1.1, 2.3], [3.7, -1.3]], dtype)
    alone = fastattn.attention(q[:1], k, v, scale=1.0)
    assert alone.all()
    if beside == "a NaN":
        q[1] = np.nan
    else:
        q[1] = 0
        k, v = np.concatenate([k, [[-4 * far]] * 2]).astype(dtype), np.concatenate([v, [[np.finfo(dtype).max] * 2] * 2])
    assert same_bits(fastattn.attention(q, k, v.astype(dtype), scale=1.0)[0], alone[0])
