"""Functions of rows as normalizers: values, gradients, bits, and what they meet among the other options."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from cases import BY_NAME, AttentionCase, make, options
from checks import same_bits

import fastattn
from fastattn import jit
from fastattn.errors import ArgumentError, DTypeError, UnsupportedError
from fastattn.normalizers import Rowwise
from fastattn.plugin import NormalizerRecord
from fastattn.variants.soft import Soft

CASES = (
    "scaled_dot-2d", "scaled_dot-grouped", "scaled_dot-everything", "scaled_dot-softcap", "additive-everything",
    "l1-everything", "scaled_dot-causal-long", "scaled_dot-window-far", "scaled_dot-lengths-4d",
    "scaled_dot-mask-2x3x6x70", "scaled_dot-bias-2x3x6x70", "scaled_dot-bias-1x3x6x1", "scaled_dot-dropout-array",
    "dot-513-keys", "dot-1100-keys", "scaled_dot-no-tk", "scaled_dot-no-tq", "scaled_dot-no-batch",
)  # fmt: skip
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@fastattn.row_function
def softmax(s, b, h, i, j):
    e = np.exp(s - s.max())
    return e / e.sum()


@fastattn.row_function(check=True)
def with_sink(s, b, h, i, j, sink, hotter):
    """Softmax with a learned sink for each head and a learned temperature."""
    scaled = s * hotter
    top = np.maximum(np.max(scaled), sink[h])
    e = np.exp(scaled - top)
    return e / (np.exp(sink[h] - top) + np.sum(e))


@fastattn.row_function(check=True)
def above_the_mean(s, b, h, i, j, slope, gain):
    """The square of what is above the mean of a row, with a weight for each key, by the spread of the row."""
    x = np.maximum(s - s.mean() + slope[h] * 0.3, 0) ** 2 * gain[j]
    return x / (x.sum() + (s.max() - s.min()) + 0.1)


def bound(name, dtype, heads, keys):
    if name == "softmax":
        return softmax()
    row = np.linspace(-0.4, 0.9, heads).astype(dtype)
    if name == "with_sink":
        return with_sink(sink=row, hotter=np.array(1.3, dtype))
    return above_the_mean(slope=row, gain=np.linspace(0.5, 1.5, keys).astype(dtype))


def named(name, dtype):
    return make(dataclasses.replace(BY_NAME[name], dtype=dtype))


def random(dtype="float32", **fields):
    shape = {"batch": (3, 4), "key_heads": 2, "tq": 50, "tk": 130, "dk": 16, "dv": 9}
    return make(AttentionCase("rows", **{**shape, **fields}, dtype=dtype))


def everything(problem, **given):
    rest = {**options(problem), **given}
    out, backward = fastattn.attention_vjp(*problem.arrays, **rest, return_weights=True)
    d = backward(problem.d_context, d_weights=problem.d_weights)
    found = {"context": out.context, "weights": out.weights, "query": d.query, "key": d.key, "value": d.value}
    found |= {} if d.bias is None else {"bias": d.bias}
    return found | d.score | d.normalizer


def require(found, wanted, part):
    assert found.keys() == wanted.keys()
    for name, x in found.items():
        right = np.asarray(wanted[name])
        assert x.shape == right.shape, name
        assert np.abs(x - right).max(initial=0) <= part * max(1, np.abs(right).max(initial=0)), name


@dtypes
@pytest.mark.parametrize("name", CASES)
def test_a_softmax_of_a_user_is_softmax(name, dtype):
    problem = named(name, dtype)
    found = everything(problem, normalizer=softmax())
    assert all(x.dtype == dtype for x in found.values())
    require(found, everything(problem), 1e-12 if dtype == "float64" else 2e-5)


def expected(p, function):
    """What a function makes of scaled dot products, and the gradients, in NumPy and float64."""
    group = p.query.shape[1] // p.key.shape[1]
    q, k, v = (np.asarray(x, np.float64) for x in p.arrays)
    k, v = (x.repeat(group, axis=1) for x in (k, v))
    scale = q.shape[-1] ** -0.5
    s = scale * np.einsum("bhqd,bhkd->bhqk", q, k)
    s = np.where(np.asarray(p.rest.get("mask", True)), s, -np.inf)
    places = np.ogrid[tuple(slice(n) for n in (*s.shape[:3], 1))][:3]
    weights = function.evaluate(s, *places)
    d_weights = p.d_weights + np.einsum("bhqd,bhkd->bhqk", p.d_context.astype(np.float64), v)
    d, totals = function.evaluate_vjp(s, d_weights, *places)
    d_key = scale * np.einsum("bhqk,bhqd->bhkd", d, q)
    d_value = np.einsum("bhqk,bhqd->bhkd", weights, p.d_context.astype(np.float64))
    summed = [x.reshape(x.shape[0], -1, group, *x.shape[2:]).sum(axis=2) for x in (d_key, d_value)]
    return {
        "context": weights @ v, "weights": weights, "query": scale * d @ k, "key": summed[0], "value": summed[1],
        **totals,
    }  # fmt: skip


@dtypes
@pytest.mark.parametrize("name", ["with_sink", "above_the_mean"])
def test_values_and_gradients(name, dtype):
    problem = random(dtype, mask=(3, 4, 50, 130))
    problem.rest["mask"][0, 1, 7] = False  # of a row that may attend to nothing
    function = bound(name, dtype, 4, 130)
    found, wanted = everything(problem, normalizer=function), expected(problem, function)
    require(found, wanted, 1e-11 if dtype == "float64" else 3e-5)
    assert not found["context"][0, 1, 7].any() and not found["weights"][0, 1, 7].any()


@pytest.mark.parametrize("name", ["with_sink", "above_the_mean"])
def test_gradients_of_parameters_against_central_differences(name):
    problem = random("float64", batch=(1, 2), key_heads=2, tq=3, tk=7)
    function = bound(name, "float64", 2, 7)

    def loss(other):
        out = fastattn.attention(*problem.arrays, normalizer=other, return_weights=True)
        return (out.context * problem.d_context).sum() + (out.weights * problem.d_weights).sum()

    found = everything(problem, normalizer=function)
    for parameter, array in function.parameters.items():
        for place in np.ndindex(array.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = array.copy()
                moved[place] += step
                ends.append(loss(function.replaced(parameter, moved)))
            assert abs(found[parameter][place] - (ends[0] - ends[1]) / 2e-6) <= 1e-7, (parameter, place)


@dtypes
@pytest.mark.parametrize("name", ["softmax", "above_the_mean"])
def test_any_number_of_threads_and_any_batch_give_the_same_bits(name, dtype):
    problem = random(dtype, key_lengths=(130, 40, 77))
    rest = {"normalizer": bound(name, dtype, 4, 130)}
    fastattn.set_num_threads(1)
    first = everything(problem, **rest)
    for threads in (2, 5):
        fastattn.set_num_threads(threads)
        assert all(same_bits(x, first[part]) for part, x in everything(problem, **rest).items()), threads
    one = {n: getattr(problem, n)[2:] for n in ("query", "key", "value", "d_context", "d_weights")}
    alone = everything(dataclasses.replace(problem, **one), **rest, key_lengths=[77])
    parts = ("context", "weights", "query", "key", "value")
    assert all(same_bits(first[part][2:], alone[part]) for part in parts)
    strided = dataclasses.replace(problem, query=np.asfortranarray(problem.query), key=problem.key[..., ::-1, :].copy())
    strided = dataclasses.replace(strided, key=strided.key[..., ::-1, :])
    assert all(same_bits(x, first[part]) for part, x in everything(strided, **rest).items())


@dtypes
@pytest.mark.parametrize("keys", [60, 130, 513])
def test_padding_changes_nothing_and_is_not_read(keys, dtype):
    problem = random(dtype, batch=(1, 2), tk=keys)
    rest = {"normalizer": bound("with_sink", dtype, 2, keys), "window": (40, 500), "causal": None}
    plain = everything(problem, **rest)
    width = ((0, 0), (0, 0), (0, 77), (0, 0))
    padded = dataclasses.replace(
        problem,
        key=np.pad(problem.key, width, constant_values=np.nan),
        value=np.pad(problem.value, width, constant_values=np.inf),
        d_weights=np.pad(problem.d_weights, ((0, 0),) * 3 + ((0, 77),), constant_values=np.nan),
    )
    found = everything(padded, **rest, key_lengths=[keys])
    for part in ("context", "query", "sink", "hotter"):
        assert same_bits(plain[part], found[part]), part
    for part in ("key", "value"):
        assert same_bits(plain[part], found[part][:, :, :keys]) and not found[part][:, :, keys:].any()


def test_what_is_masked_may_be_anything():
    problem = random()
    mask = np.arange(130) % 4 != 1
    rest = {"normalizer": bound("above_the_mean", "float32", 4, 130), "mask": mask}
    plain = everything(problem, **rest)
    poisoned = dataclasses.replace(problem, key=problem.key.copy(), value=problem.value.copy())
    poisoned.key[:, :, ~mask], poisoned.value[:, :, ~mask] = np.nan, np.inf
    assert all(same_bits(x, plain[part]) for part, x in everything(poisoned, **rest).items())


def test_nan_reaches_the_rows_that_read_it():
    problem = random(batch=(2,), key_heads=None)
    whole = everything(problem, normalizer=softmax())
    problem.query[1, 3] = np.nan
    found = everything(problem, normalizer=softmax())
    assert np.isnan(found["context"][1, 3]).all() and np.isnan(found["query"][1, 3]).all()
    rows = [*range(3), *range(4, 50)]
    assert same_bits(found["context"][1][rows], whole["context"][1][rows])
    assert same_bits(found["query"][1][rows], whole["query"][1][rows])
    assert all(same_bits(found[part][0], whole[part][0]) for part in ("context", "query", "key", "value"))


def test_a_value_whose_weight_is_0_is_not_read():
    problem = random(batch=(1,), key_heads=None, tq=8)
    weights = everything(problem, normalizer=lambda s, b, h, i, j: np.maximum(s, 0))["weights"]
    problem.value[0, 5] = np.inf
    found = everything(problem, normalizer=lambda s, b, h, i, j: np.maximum(s, 0))
    assert np.array_equal(np.isfinite(found["context"][0]).all(axis=-1), weights[0, :, 5] == 0)


def test_scores_of_any_size_and_a_tiny_sum():
    """A sum near the least number divides as well as another; the maximum keeps exponentials in range."""
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(4, 8)).astype(np.float32) * 1e15, rng.normal(size=(70, 8)).astype(np.float32) * 1e15
    weights = fastattn.attention(query, key, key, normalizer=softmax(), return_weights=True).weights
    assert np.array_equal(weights, np.eye(70, dtype=np.float32)[(query @ key.T).argmax(axis=1)])
    tiny = fastattn.row_function(lambda s, b, h, i, j: np.exp(s - 85) / np.sum(np.exp(s - 85)))()
    query, key = np.zeros((2, 8), np.float32), np.ones((70, 8), np.float32)
    weights = fastattn.attention(query, key, key, normalizer=tiny, return_weights=True).weights
    np.testing.assert_allclose(weights, 1 / 70, rtol=3e-5)


@dtypes
@pytest.mark.parametrize("keys", [3, 17, 70])
def test_a_row_without_keys_beside_others(keys, dtype):
    """Padding on the left leaves first rows of a causal call none: nothing of theirs reaches what others are given."""
    problem = random(dtype, batch=(2, 2), key_heads=None, tq=keys, tk=keys, dk=9, dv=5)
    mask = np.arange(keys) >= 2
    for causal, window in (("top_left", None), (None, (1, 0)), (None, (0, 3))):
        rest = {"mask": mask, "causal": causal, "window": window}
        found, wanted = (everything(problem, normalizer=one, **rest) for one in (softmax(), "softmax"))
        for name in ("context", "query", "key", "value"):
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-3, atol=1e-4, err_msg=name)


@dtypes
def test_weights_too_small_for_a_normal_number(dtype):
    """They count as 0 beside the row's largest: gradients are those of softmax, and a row of nothing else is kept."""
    problem = random(dtype, batch=(1, 1), key_heads=None, tq=60, tk=400, dk=9, dv=5)
    far = np.abs(np.arange(60)[:, None] - np.arange(400)).astype(dtype)
    bias = -np.dtype(dtype).type(2 if dtype == "float32" else 9) * far
    found, wanted = everything(problem, normalizer=softmax(), bias=bias), everything(problem, bias=bias)
    require(found, wanted, 1e-12 if dtype == "float64" else 2e-5)
    within = 59 + (47 if dtype == "float32" else 80)  # weights of the nearest query are subnormal here
    assert found["weights"][0, 0, 59, within] > 0 and (problem.d_weights[0, 0, :, within] != 0).all()
    assert (found["value"][0, 0, within] == 0).all()
    scale = np.finfo(dtype).tiny * 4
    whole = everything(problem, normalizer=lambda s, b, h, i, j: np.maximum(s, 0))["context"]
    small = everything(problem, normalizer=lambda s, b, h, i, j: np.maximum(s, 0) * scale)["context"]
    np.testing.assert_allclose(small / scale, whole, atol=1e-4 * np.abs(whole).max())


def test_a_maximum_that_several_keys_have_is_theirs_alike():
    function = fastattn.row_function(lambda s, b, h, i, j: s * 0 + s.max())()
    s = np.array([[1.0, 3.0, 3.0, -np.inf, 3.0, 0.0]])
    d, _ = function.evaluate_vjp(s, np.ones((1, 6)))
    np.testing.assert_allclose(d, [[0, 5 / 3, 5 / 3, 0, 5 / 3, 0]])


def test_a_memory_steps_and_a_variant_have_the_bits_of_attention():
    problem = random()
    function = softmax()
    whole = fastattn.attention(*problem.arrays, normalizer=function)
    memory = fastattn.prepare(problem.key, problem.value)
    assert same_bits(memory.attend(problem.query, normalizer=function), whole)
    for i in (0, 31, 49):
        assert same_bits(memory.attend(problem.query[:, :, i : i + 1], normalizer=function), whole[:, :, i : i + 1])
    beams = memory.select(np.array([0, 0, 2]))
    assert same_bits(beams.attend(problem.query, normalizer=function), whole[[0, 0, 2]] if False else
                     fastattn.attention(problem.query, problem.key[[0, 0, 2]], problem.value[[0, 0, 2]],
                                        normalizer=function))  # fmt: skip
    p = random(batch=(3,), key_heads=None, tq=4, tk=20, dk=17, dv=17, key_lengths=(20, 3, 11))
    variant = Soft("dot", query_width=17, memory_width=17, normalizer=softmax)
    prepared = variant.prepare(p.key, lengths=p.rest["key_lengths"])
    context, _, backward = variant.attend_vjp(p.query, prepared, variant.start(prepared), False)
    wanted = everything(dataclasses.replace(p, value=p.key), score="dot", normalizer=function)
    assert same_bits(context, wanted["context"])
    backward(p.d_context, None)
    state = variant.start(prepared)
    for i in range(4):
        context_i, _, state, step = variant.step_vjp(p.query[:, i], prepared, state)
        assert same_bits(context_i, context[:, i])
        step(p.d_context[:, i])


def test_a_modifier_and_a_mask_function_go_beside_it():
    problem = random("float64")
    rest = {
        "score_mod": lambda score, b, h, i, j: np.tanh(score) - 0.1 * abs(i - j),
        "mask": fastattn.mask_mod(lambda b, h, i, j: (i + j) % 3 > 0)(),
    }
    require(everything(problem, **rest, normalizer=softmax()), everything(problem, **rest), 1e-12)


def test_a_function_a_decorated_one_and_an_object_are_alike():
    problem = random(batch=(1,), key_heads=None)
    found = [
        fastattn.attention(*problem.arrays, normalizer=one)
        for one in (softmax, softmax(), Rowwise(softmax()), softmax.function, pickle.loads(pickle.dumps(softmax())),
                    copy.deepcopy(Rowwise(softmax())))
    ]  # fmt: skip
    assert all(same_bits(one, found[0]) for one in found)
    record = NormalizerRecord("softmax_of_a_test", lambda: Rowwise(softmax()), "exp(z_j) / sum_k exp(z_k)")
    fastattn.normalizers.register(record)
    try:
        assert same_bits(fastattn.attention(*problem.arrays, normalizer="softmax_of_a_test"), found[0])
    finally:
        del fastattn.normalizers.registry.REGISTRY._own[record.name]


def test_many_rows_are_summed_in_turns():
    """More rows than a turn has, so that sums of keys and values are kept apart and put together."""
    problem = random(batch=(1,), key_heads=None, tq=1700, tk=66, dk=4, dv=3)
    require(everything(problem, normalizer=softmax()), everything(problem), 2e-5)


WRONG = {
    "a score_mod": (lambda: fastattn.score_mod(lambda s, b, h, i, j: s)(), DTypeError, "row_function"),
    "too few arguments": (lambda: lambda s: s, ArgumentError, "def f"),
    "a branch": (lambda: lambda s, b, h, i, j: s if s > 0 else 0, UnsupportedError, "np.where"),
    "a sort": (lambda: lambda s, b, h, i, j: np.sort(s), UnsupportedError, "np.sort"),
    "an axis": (lambda: lambda s, b, h, i, j: np.sum(s, axis=-1), UnsupportedError, "without options"),
    "a look-up that leaves": (
        lambda: fastattn.row_function(lambda s, b, h, i, j, t: s * t[j])(t=np.ones(5)), ArgumentError, "0 to 129",
    ),
    "an lse": (lambda: softmax(), UnsupportedError, "lse"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_refused(name):
    make_one, error, message = WRONG[name]
    problem = random(batch=(1,), key_heads=None)
    with pytest.raises(error, match=message):
        fastattn.attention(*problem.arrays, normalizer=make_one(), return_lse=name == "an lse")


def test_only_rows_are_reduced():
    for reduce in (np.sum, lambda s: s.max(), np.mean, np.min):
        with pytest.raises(UnsupportedError, match="row_function"):
            jit.as_score_mod(lambda s, b, h, i, j, reduce=reduce: reduce(s)) if False else fastattn.score_mod(
                lambda s, b, h, i, j: reduce(s)  # noqa: B023
            )()


def test_a_wrong_derivative_is_found(monkeypatch):
    """`check=True` compares with differences: here with those of a function that was spoilt."""
    function = above_the_mean(slope=np.zeros(1), gain=np.ones(6))
    evaluate = type(function).evaluate
    monkeypatch.setattr(type(function), "evaluate", lambda self, s, *places: evaluate(self, 1.01 * s, *places))
    with pytest.raises(ArgumentError, match="by differences"):
        function.compiled(np.float64, 1, 1, 1, 6)
