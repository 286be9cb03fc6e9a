"""Positions: each mechanism against its paper's formula, and attention with it, by steps, at once and back."""

import numpy as np
import pytest
from checks import same_bits
from variant_cases import parameters

import fastattn
from fastattn import positions
from fastattn._reference import positions as twins
from fastattn.errors import ArgumentError, DTypeError, FastattnError, ShapeError
from fastattn.positions import Alibi, Learned, RelativeBias, RelativeBuckets, Rotary
from fastattn.testing.arrays import differences

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def draw(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.fixture
def any_threads():
    before = fastattn.get_num_threads()

    def each(compute):
        found = []
        for number in (1, 2, 3, 16):
            fastattn.set_num_threads(number)
            found.append(compute())
        return found

    yield each
    fastattn.set_num_threads(before)


# ---- A bias of distances ------------------------------------------------------------------------------------------


@DTYPES
@pytest.mark.parametrize("normalizer", ["softmax", "entmax15"])
@pytest.mark.parametrize("options", [{}, {"causal": "bottom_right", "window": (20, 3)}, {"key_lengths": [131, 40]}])
def test_a_relative_bias_is_the_array_that_it_stands_for(dtype, normalizer, options, any_threads):
    q, k, v = draw(2, 4, 70, 16, dtype=dtype), draw(2, 2, 131, 16, dtype=dtype), draw(2, 2, 131, 5, dtype=dtype)
    bias = RelativeBias(draw(4, 200, dtype=dtype))
    whole = np.ascontiguousarray(bias.array(70, 131))
    assert whole[3, 4, 9] == bias.values[3, 9 - 4 + 69]
    options = {**options, "normalizer": normalizer}
    context, backward = fastattn.attention_vjp(q, k, v, bias=bias, **options)
    other, other_backward = fastattn.attention_vjp(q, k, v, bias=whole, **options)
    d = draw(*context.shape, dtype=dtype, seed=1)
    found, wanted = backward(d), other_backward(d)
    assert same_bits((context, *found[:3]), (other, *wanted[:3]))
    summed = np.zeros(bias.values.shape)
    for i in range(70):
        summed[:, 69 - i : 200 - i] += wanted.bias[:, i]
    room = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(found.bias, summed, rtol=room, atol=room)
    assert all(same_bits(bits, found.bias) for bits in any_threads(lambda: backward(d).bias))
    fixed = fastattn.attention_vjp(q, k, v, bias=RelativeBias(bias.values, trained=False), **options)[1](d)
    assert fixed.bias is None and same_bits(fixed[:3], found[:3])
    memory = fastattn.prepare(k, v, key_lengths=options.pop("key_lengths", None))
    assert same_bits(memory.attend(q, bias=bias, **options), context)


def test_a_relative_bias_of_one_head_is_that_of_all_and_a_location_score_takes_one():
    q, k, v = draw(2, 3, 5, 4, dtype=np.float64), draw(2, 3, 7, 4, dtype=np.float64), draw(2, 3, 7, 4, dtype=np.float64)
    values = draw(11, dtype=np.float64)
    d = draw(2, 3, 5, 4, dtype=np.float64, seed=2)
    every = fastattn.attention_vjp(q, k, v, bias=RelativeBias(np.tile(values, (3, 1))))[1](d).bias
    for given in (values, values[None]):
        found = fastattn.attention_vjp(q, k, v, bias=RelativeBias(given))[1](d).bias
        np.testing.assert_allclose(found.reshape(-1), every.sum(0), rtol=1e-12, atol=1e-13)
    score = fastattn.scores.Location(draw(4, 9, dtype=np.float64))

    def loss():
        return (fastattn.attention(q, k, v, score=score, bias=RelativeBias(values)) * d).sum()

    found = fastattn.attention_vjp(q, k, v, score=score, bias=RelativeBias(values))[1](d).bias
    np.testing.assert_allclose(found, differences(loss, values), rtol=1e-6, atol=1e-8)


def test_a_relative_bias_that_does_not_fit_is_refused():
    x = draw(1, 2, 3, 4)
    with pytest.raises(ShapeError, match="5 distances"):
        fastattn.attention(x, x, x, bias=RelativeBias(draw(2, 6)))
    with pytest.raises(ShapeError, match="broadcasts"):
        fastattn.attention(x, x, x, bias=RelativeBias(draw(3, 5)))
    with pytest.raises(DTypeError, match="float32"):
        fastattn.attention(x, x, x, bias=RelativeBias(draw(2, 5, dtype=np.float64)))
    with pytest.raises(ShapeError, match="values"):
        RelativeBias(draw(2, 2, 5))
    assert fastattn.attention(x[:, :, :0], x, x, bias=RelativeBias(draw(2, 2))).shape == (1, 2, 0, 4)


# ---- Formulas -----------------------------------------------------------------------------------------------------


@DTYPES
@pytest.mark.parametrize("layout", ["interleaved", "half"])
@pytest.mark.parametrize(("width", "part", "base"), [(8, None, 1e4), (10, 6, 50.0), (64, None, 1e4), (6, 0, 1e4)])
def test_rotary_is_the_published_rotation(dtype, layout, width, part, base, any_threads):
    rotary = Rotary(width, part=part, base=base, layout=layout, dtype=dtype)
    x = draw(3, 2, 75, width, dtype=dtype)
    found = rotary.turn(x, 5)
    wanted = twins.rotated(x.astype(np.float64), 5, part, base, layout)
    np.testing.assert_allclose(found, wanted, rtol=4 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(rotary.turn_vjp(found, 5), x, rtol=0, atol=16 * np.finfo(dtype).eps)
    assert part != 0 or same_bits(found.copy(), x)
    for t in (0, 40, 74):
        assert same_bits(
            np.ascontiguousarray(rotary.turn(x[1:2, :, t : t + 1], 5 + t)), found[1:2, :, t : t + 1].copy()
        )
    assert same_bits(rotary.turn(np.asfortranarray(x), 5).copy(), found.copy())
    assert all(same_bits(bits, found.copy()) for bits in any_threads(lambda: rotary.turn(x, 5).copy()))


@DTYPES
@pytest.mark.parametrize("width", [2, 4, 8, 12, 64])
def test_layouts_of_rotary_differ_by_the_order_of_features(dtype, width):
    x = draw(1, 2, 9, width, dtype=dtype)
    order = [*range(0, width, 2), *range(1, width, 2)]
    half = Rotary(width, layout="half", dtype=dtype).turn(x[..., order])
    assert same_bits(half.copy(), Rotary(width, dtype=dtype).turn(x)[..., order].copy())


def test_alibi_slopes_are_those_of_the_paper():
    assert positions.alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    np.testing.assert_allclose(positions.alibi_slopes(16)[:2], [2**-0.5, 2**-1.0], rtol=1e-15)
    for heads in range(1, 40):
        np.testing.assert_allclose(positions.alibi_slopes(heads), twins.slopes(heads), rtol=1e-14)
    bias = Alibi(3, dtype=np.float64).bias(4, 3, 9).array(3, 9)
    np.testing.assert_allclose(bias, twins.bias("alibi", {}, 3, 4, 3, 9), rtol=1e-15)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("buckets", "farthest"), [(32, 128), (8, 20), (6, 9), (64, 1000), (4, 5)])
def test_buckets_are_those_of_the_published_code(buckets, farthest, bidirectional):
    apart = np.arange(-1100, 1101)
    wanted = [twins.bucket(int(d), buckets, farthest, bidirectional) for d in apart]
    found = positions.relative_buckets(apart, buckets, farthest, bidirectional)
    assert found.tolist() == wanted
    assert set(found) == set(range(buckets)) - ({buckets // 2} if bidirectional else set())


def test_the_table_of_buckets_is_shared_by_distances():
    scheme = RelativeBuckets(3, rng=np.random.default_rng(0), dtype=np.float64)
    given = {"positions.table": scheme.table.value}
    np.testing.assert_array_equal(scheme.bias(2, 4, 200).array(4, 200), twins.bias("t5", given, 3, 2, 4, 200))
    d_bias = draw(3, 203, dtype=np.float64)
    scheme.bias_vjp(d_bias, 2, 4, 200)
    of = [twins.bucket(r - 5) for r in range(203)]
    wanted = np.zeros((32, 3))
    for r, number in enumerate(of):
        wanted[number] += d_bias[:, r]
    np.testing.assert_allclose(scheme.table.gradient, wanted, rtol=1e-13, atol=1e-13)


def test_sinusoids_have_the_same_bits_in_any_table():
    table = positions.sinusoids(0, 300, 7)
    np.testing.assert_allclose(table, [twins.sinusoidal(p, 7) for p in range(300)], rtol=1e-11, atol=1e-12)
    assert same_bits(positions.sinusoids(290, 10, 7), table[290:])
    scheme = positions.Sinusoidal(7, dtype=np.float64)
    assert same_bits(scheme.add(np.zeros((1, 5, 7)), 200)[0], table[200:205])
    assert same_bits(scheme.add(np.zeros((1, 300, 7)))[0], table)


def test_sums_by_distance_are_those_of_each_row():
    scheme = positions.RelativeVectors(4, clip=3, rng=np.random.default_rng(0), dtype=np.float64)
    x = draw(2, 3, 6, 15, dtype=np.float64)
    for first in (0, 5, 40):
        found, wanted = scheme.sum_by_distance(x, first), np.zeros((2, 3, 6, 7))
        for i in range(6):
            for j in range(15):
                wanted[..., i, 3 + max(-3, min(3, j - first - i))] += x[..., i, j]
        np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-14)
        wide = np.concatenate([x, np.zeros((2, 3, 6, 30))], axis=-1)
        assert same_bits(scheme.sum_by_distance(wide, first), found)
        given = draw(2, 3, 6, 7, dtype=np.float64)
        np.testing.assert_allclose((scheme.spread(given, first, 15) * x).sum(), (given * found).sum(), rtol=1e-12)


# ---- Attention of positions to those before them ------------------------------------------------------------------

CAUSAL = [
    {"positions": "alibi"},
    {"positions": "rotary", "key_heads": 2},
    {"positions": {"name": "rotary", "layout": "half", "part": 2}, "window": 3},
    {"positions": {"name": "t5", "buckets": 6, "farthest": 9}},
    {"positions": "sinusoidal"},
    {"positions": {"name": "learned", "longest": 100}},
    {"positions": {"name": "shaw", "clip": 3}, "key_heads": 2},
    {"positions": {"name": "shaw", "clip": 1, "values": False}, "window": 5, "sinks": 1},
    {"window": 4},
    {"window": 2, "sinks": 2, "positions": "alibi"},
    {"window": 0, "sinks": 1},
    {"normalizer": "entmax15", "positions": {"name": "t5", "buckets": 6, "farthest": 9}},
    {"normalizer": "sparsemax", "positions": "rotary", "window": 4},
]
every_causal = pytest.mark.parametrize("options", CAUSAL, ids=str)


def causal(options, dtype=np.float64):
    variant = fastattn.create(
        "causal_self_attention", query_width=8, memory_width=8, heads=4, dtype=dtype, rng=np.random.default_rng(0),
        **options,
    )  # fmt: skip
    for parameter in variant.parameters().values():
        with parameter.edit() as value:
            value += draw(*parameter.value.shape, dtype=dtype, seed=len(parameter.value)) * 0.3
    return variant


def twin_of_causal(options, given, x, before):
    memory, queries = np.split(x, [before], axis=1)
    allowed = np.ones(memory.shape[:2], bool)
    formula = fastattn.variants.record("causal_self_attention").formula()
    return formula(given, queries, memory, memory, allowed, heads=4, **options)


@DTYPES
@every_causal
@pytest.mark.parametrize("before", [0, 3])
def test_causal_attention_by_steps_and_at_once_is_the_twin(options, dtype, before, any_threads):
    variant = causal(options, dtype)
    x = draw(3, 12, 8, dtype=dtype)
    prepared = variant.prepare(x[:, :before])
    whole = variant.forward(x[:, before:], prepared, return_weights=True)
    wanted = twin_of_causal(options, parameters(variant), x.astype(np.float64), before)
    room = 300 * np.finfo(dtype).eps
    np.testing.assert_allclose(whole.weights, wanted[1], rtol=room, atol=room)
    np.testing.assert_allclose(whole.context, wanted[0], rtol=room, atol=10 * room)
    assert same_bits(variant.forward(x[:, before:], prepared), whole.context)
    assert same_bits(variant.vjp(x[:, before:], prepared, return_weights=True)[0][:2], whole[:2])
    state, earlier = variant.start(prepared), None
    for t in range(12 - before):
        earlier = state
        context, weights, state = variant.step(x[:, before + t], prepared, state)
        assert same_bits(context, np.ascontiguousarray(whole.context[:, t]))
        assert same_bits(weights, np.ascontiguousarray(whole.weights[:, :, t, : before + t + 1]))
    rows = np.array([2, 2, 0])
    again = variant.step(x[rows, -1], prepared.select(rows), earlier.select(rows))
    assert same_bits(again[:2], (context[rows], weights[rows]))
    half, state = x[:, before : before + 4], variant.start(prepared)
    for t in range(4):
        state = variant.step(half[:, t], prepared, state)[2]
    rest = variant.forward(x[:, before + 4 :], prepared, state=state)
    assert same_bits(rest, np.ascontiguousarray(whole.context[:, 4:]))
    alone = variant.forward(x[1:2, before:], variant.prepare(x[1:2, :before]), return_weights=True)
    assert same_bits(alone[:2], (whole.context[1:2], whole.weights[1:2]))
    found = any_threads(lambda: variant.forward(x[:, before:], prepared))
    assert all(same_bits(bits, whole.context) for bits in found)


@every_causal
def test_gradients_of_causal_attention_are_central_differences_of_the_twin(options):
    variant = causal(options)
    x = draw(2, 5, 8, dtype=np.float64, seed=4)
    before = 2
    prepared = variant.prepare(x[:, :before])
    output, backward = variant.vjp(x[:, before:], prepared, return_weights=True)
    d_context, d_weights = draw(*output.context.shape, dtype=np.float64), draw(*output.weights.shape, dtype=np.float64)
    d_queries, d_memory = backward(d_context, d_weights)
    given = parameters(variant)

    def loss():
        context, weights = twin_of_causal(options, given, x, before)
        return (context * d_context).sum() + (weights * d_weights).sum()

    measured = differences(loss, x)
    np.testing.assert_allclose(d_memory, measured[:, :before], rtol=2e-6, atol=2e-7)
    np.testing.assert_allclose(d_queries, measured[:, before:], rtol=2e-6, atol=2e-7)
    for name, parameter in variant.parameters().items():
        array = given[name][:8] if name == "positions.rows.w" else given[name]
        gradient = parameter.gradient[:8] if name == "positions.rows.w" else parameter.gradient
        np.testing.assert_allclose(gradient, differences(loss, array), rtol=2e-6, atol=2e-7, err_msg=name)


def by_steps(variant, x, prepared, state, d_context, d_weights):
    """Gradients of queries by steps; those of weights are cut to the keys of each step."""
    backwards, keys = [], []
    for t in range(x.shape[1]):
        _, weights, state, backward = variant.step_vjp(x[:, t], prepared, state)
        backwards.append(backward)
        keys.append(weights.shape[-1])
    d_queries, d_state = np.empty_like(x), None
    for t in reversed(range(x.shape[1])):
        d_queries[:, t], d_state = backwards[t](d_context[:, t], d_weights[:, :, t, : keys[t]], d_state)
    return d_queries


def gradients_of(variant):
    return {name: parameter.gradient.copy() for name, parameter in variant.parameters().items()}


def assert_close(found, wanted):
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-9, atol=1e-11, err_msg=name)


@every_causal
@pytest.mark.parametrize("before", [0, 3])
def test_going_back_step_by_step_gives_the_gradients_of_causal_attention(options, before):
    variant, again = causal(options), causal(options)
    x = draw(2, 9, 8, dtype=np.float64)
    prepared = variant.prepare(x[:, :before])
    output, backward = variant.vjp(x[:, before:], prepared, return_weights=True)
    d_context, d_weights = draw(*output.context.shape, dtype=np.float64), draw(*output.weights.shape, dtype=np.float64)
    d_queries, d_memory = backward(d_context, d_weights)
    prepared = again.prepare(x[:, :before])
    found = by_steps(again, x[:, before:], prepared, again.start(prepared), d_context, d_weights)
    np.testing.assert_allclose(found, d_queries, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(again.finish(prepared), d_memory, rtol=1e-10, atol=1e-12)
    assert not prepared.tape
    assert_close(gradients_of(again), gradients_of(variant))


@pytest.mark.parametrize("name", ["rotary", "alibi", "t5", "learned", "shaw"])
def test_steps_that_begin_anywhere_and_twice_go_back_as_all_at_once(name):
    sizes = {"query_width": 8, "memory_width": 8, "heads": 2, "positions": name, "dtype": np.float64}
    variant, again = (fastattn.create("multihead", **sizes, rng=np.random.default_rng(0)) for _ in range(2))
    x, memory = draw(2, 5, 8, dtype=np.float64), draw(2, 7, 8, dtype=np.float64, seed=1)
    d_context, d_weights = draw(2, 5, 8, dtype=np.float64, seed=2), draw(2, 2, 5, 7, dtype=np.float64, seed=3)
    prepared = variant.prepare(memory)
    state = variant.step(x[:, 1], prepared, variant.step(x[:, 0], prepared, variant.start(prepared))[2])[2]
    d_memory = 0
    for part, begin in ((slice(2, 5), state), (slice(0, 5), None)):
        _, backward = variant.vjp(x[:, part], prepared, state=begin, return_weights=True)
        d_memory = d_memory + backward(d_context[:, part], d_weights[:, :, part])[1]
    prepared = again.prepare(memory)
    for part, begin in ((slice(2, 5), state), (slice(0, 5), again.start(prepared))):
        by_steps(again, x[:, part], prepared, begin, d_context[:, part], d_weights[:, :, part])
    np.testing.assert_allclose(again.finish(prepared), d_memory, rtol=1e-10, atol=1e-12)
    assert_close(gradients_of(again), gradients_of(variant))


@pytest.mark.parametrize("shift", [1, 50])
@pytest.mark.parametrize("name", ["rotary", "alibi", "t5"])
def test_relative_mechanisms_see_differences_of_positions_alone(name, shift):
    scheme = positions.create(name, width=8, heads=2, head_width=4, rng=np.random.default_rng(0), dtype=np.float64)
    q, k = draw(1, 2, 3, 4, dtype=np.float64), draw(1, 2, 3, 4, dtype=np.float64, seed=1)
    near, far = (scheme.turn(q, at) @ scheme.turn(k, at).swapaxes(-1, -2) for at in (0, shift))
    np.testing.assert_allclose(far, near, rtol=1e-11, atol=1e-12)
    bias = scheme.bias(shift, 3, 3 + shift)
    if bias is not None:
        np.testing.assert_array_equal(bias.array(3, 3 + shift)[..., shift:], scheme.bias(0, 3, 3).array(3, 3))


# ---- What is refused ----------------------------------------------------------------------------------------------

SIZES = {"query_width": 8, "memory_width": 8, "heads": 2, "rng": np.random.default_rng(0)}


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ArgumentError, "one of alibi", lambda: fastattn.create("multihead", positions="rotari", **SIZES)),
        (ArgumentError, "an option of 'rotary'",
         lambda: fastattn.create("multihead", positions={"name": "rotary", "bases": 3}, **SIZES)),
        (DTypeError, "a name, a mapping", lambda: fastattn.create("multihead", positions=3, **SIZES)),
        (ArgumentError, "even number", lambda: Rotary(5)),
        (ArgumentError, "layout", lambda: Rotary(4, layout="other")),
        (ArgumentError, "a finite number above 0", lambda: Rotary(4, base=0)),
        (ShapeError, "width and dtype", lambda: Rotary(4).turn(draw(1, 2, 3, 6))),
        (ShapeError, "float32 of shape", lambda: Rotary(4).turn(draw(1, 2, 3, 4, dtype=np.float64))),
        (ArgumentError, "longest", lambda: Learned(4, longest=3, rng=np.random.default_rng(0)).add(draw(1, 4, 4))),
        (ArgumentError, "buckets", lambda: RelativeBuckets(2, buckets=7, rng=np.random.default_rng(0))),
        (ArgumentError, "0 without a window", lambda: fastattn.create("multihead", sinks=2, **SIZES)),
        (ArgumentError, "numbers from 0", lambda: fastattn.create("multihead", window=(1, -1), **SIZES)),
        (ArgumentError, "a pair", lambda: fastattn.create("multihead", window=3, **SIZES)),
        (DTypeError, "window", lambda: fastattn.create("causal_self_attention", window=(1, 0), **SIZES)),
        (DTypeError, "sinks", lambda: fastattn.create("multihead", window=(1, 1), sinks=1.5, **SIZES)),
        (ArgumentError, "clip", lambda: positions.RelativeVectors(4, clip=0, rng=np.random.default_rng(0))),
        (ShapeError, "memory_width",
         lambda: fastattn.create("multihead", positions="learned", **{**SIZES, "memory_width": 6})),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(error, words, call):
    with pytest.raises(error, match=words) as caught:
        call()
    assert isinstance(caught.value, FastattnError) and "\nHint: " in str(caught.value)


@pytest.mark.parametrize("wrong", [draw(2, 3, 4), draw(4), None, "x"], ids=["three axes", "one axis", "None", "text"])
def test_axes_of_relative_vectors(wrong):
    scheme = positions.RelativeVectors(4, clip=2, rng=np.random.default_rng(0))
    for call in (
        lambda: scheme.scores(wrong, 0, 5), lambda: scheme.scores_vjp(wrong, 0), lambda: scheme.sums(wrong, 0),
        lambda: scheme.sums_vjp(wrong, 0, 5), lambda: scheme.sum_by_distance(wrong),
    ):  # fmt: skip
        with pytest.raises((ShapeError, DTypeError), match="\nHint: "):
            call()
