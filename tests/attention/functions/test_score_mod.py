"""Functions on scores and mask functions: values, gradients, bits, and what they meet among the other options."""

import dataclasses

import numpy as np
import pytest
from cases import BY_NAME, AttentionCase, make, options, twin_options
from checks import same_bits
from outside.modifiers import NearByHand, holes, shaped, twin

import fastattn
from fastattn import _reference
from fastattn.errors import ArgumentError, UnsupportedError

CASES = (
    "scaled_dot-2d", "scaled_dot-4d", "scaled_dot-grouped", "scaled_dot-everything", "scaled_dot-softcap",
    "additive-grouped", "additive-everything", "dot-softcap", "cosine-everything", "general-grouped",
    "scaled_dot-causal-long", "scaled_dot-window-far", "scaled_dot-lengths-4d", "scaled_dot-causal-bottom-right-90",
    "scaled_dot-mask-2x3x6x70", "scaled_dot-bias-2x3x6x70", "scaled_dot-bias-1x3x6x1", "scaled_dot-dropout-array",
    "dot-513-keys", "l1-everything", "scaled_dot-no-tk", "scaled_dot-no-tq", "scaled_dot-no-batch", "dot-1100-keys",
)  # fmt: skip
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
kinds = pytest.mark.parametrize("kind", ["shaped", "holes", "holes with slopes"])
normalizers = pytest.mark.parametrize("normalizer", ["softmax", "sparsemax", "entmax15"])


OUTPUTS = ("context", "weights", "lse")


def sizes(query):
    """Heads and batch entries of a query."""
    return (query.shape[1] if query.ndim == 4 else 1), (query.shape[0] if query.ndim > 2 else 1)


def modifier_for(kind, query):
    return shaped(query.dtype, *sizes(query)) if kind == "shaped" else holes("slopes" in kind)


def named(name, dtype, normalizer="softmax"):
    return make(dataclasses.replace(BY_NAME[name], dtype=dtype, normalizer=normalizer))


def everything(problem, **given):
    """All outputs and gradients, by name."""
    sparse = problem.case.normalizer != "softmax"
    rest = {**options(problem), **given}
    out, backward = fastattn.attention_vjp(*problem.arrays, **rest, return_weights=True, return_lse=not sparse)
    lse = {} if sparse else {"d_lse": np.where(np.isfinite(out.lse), problem.d_lse, 0).astype(problem.case.dtype)}
    d = backward(problem.d_context, d_weights=problem.d_weights, **lse)
    found = {"context": out.context, "weights": out.weights, **({} if sparse else {"lse": out.lse})}
    found |= {"d_query": d.query, "d_key": d.key, "d_value": d.value, **({} if d.bias is None else {"d_bias": d.bias})}
    return found | {f"d_{name}": x for name, x in d.score.items()}


def expected(problem, **given):
    rest = {**twin_options(problem), **given}
    out = _reference.attention(*problem.arrays, **rest)
    lse = None if problem.case.normalizer != "softmax" else np.where(np.isfinite(out[2]), problem.d_lse, 0)
    d = _reference.attention_vjp(
        *problem.arrays, **rest, d_context=problem.d_context, d_weights=problem.d_weights, d_lse=lse
    )
    found = dict(zip(("context", "weights", "lse"), out))
    found |= {"d_query": d.query, "d_key": d.key, "d_value": d.value, "d_bias": d.bias}
    return found | {f"d_{name}": x for name, x in d.score.items()}


def require(found, right, dtype):
    """All within what rounding explains: a sum of up to 1100 products, the largest of which sets the scale."""
    part = 2e-11 if dtype == "float64" else 3e-5
    for name, x in found.items():
        wanted = np.asarray(right[name])
        assert x.dtype == dtype and x.shape == wanted.shape, name
        both = np.isfinite(wanted)
        assert np.array_equal(np.isfinite(x), both), name
        largest = max(1, np.abs(wanted[both]).max(initial=0))
        assert np.abs(x[both] - wanted[both]).max(initial=0) <= part * largest, name


@dtypes
@kinds
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name, kind, dtype):
    problem = named(name, dtype)
    modifier = modifier_for(kind, problem.query)
    require(everything(problem, score_mod=modifier), expected(problem, score_mod=twin(modifier)), dtype)


@kinds
@pytest.mark.parametrize("normalizer", ["sparsemax", "entmax15"])
@pytest.mark.parametrize("name", ["scaled_dot-everything", "additive-grouped", "scaled_dot-causal-long"])
def test_values_and_gradients_with_sparse_weights(name, normalizer, kind):
    problem = named(name, "float64", normalizer)
    modifier = modifier_for(kind, problem.query)
    require(everything(problem, score_mod=modifier), expected(problem, score_mod=twin(modifier)), "float64")


@dtypes
@normalizers
@pytest.mark.parametrize("width", [0, 3, 70, 5000])
@pytest.mark.parametrize(
    "name", ["scaled_dot-grouped", "scaled_dot-everything", "scaled_dot-causal-long", "dot-513-keys"]
)
def test_a_mask_function_has_the_bits_of_its_array(name, width, normalizer, dtype):
    problem = named(name, dtype, normalizer)
    function = NearByHand(width)
    heads, batch = sizes(problem.query)
    shape = (batch, heads, problem.query.shape[-2], problem.key.shape[-2])
    array = function.array(shape).reshape(*problem.query.shape[:-1], shape[3])
    both = problem.rest.get("mask", True) & array
    by_array, by_function = everything(problem, mask=both), everything(problem, mask=function)
    if "mask" in problem.rest:
        del by_function
        context = fastattn.attention(*problem.arrays, **{**options(problem), "mask": both})
        memory = fastattn.prepare(
            problem.key, problem.value, score=options(problem)["score"], mask=problem.rest["mask"],
            key_lengths=problem.rest.get("key_lengths"),
        )  # fmt: skip
        rest = {k: v for k, v in options(problem).items() if k not in ("mask", "score", "key_lengths")}
        assert same_bits(memory.attend(problem.query, mask=function, **rest), context)
        return
    assert by_array.keys() == by_function.keys()
    for key, x in by_array.items():
        assert same_bits(x, by_function[key]), key


@pytest.mark.parametrize("normalizer", ["softmax", "sparsemax"])
def test_blocks_that_are_skipped_are_not_asked(normalizer):
    """Of blocks of which none or all pairs count, the function is not called: it says the other thing of them."""
    problem = make(AttentionCase("blocks", batch=(1,), tq=200, tk=1300, dtype="float32", normalizer=normalizer))
    rows, columns = np.ogrid[:4, :21]
    blocks = np.where((rows + columns) % 3 == 0, 1, 0)

    class Turned(NearByHand):
        def block_map(self, *shape):
            return blocks[None, None]

    array = np.repeat(np.repeat(blocks == 1, 64, axis=0), 64, axis=1)[:200, :1300]
    by_array, by_function = everything(problem, mask=array), everything(problem, mask=Turned(-1))
    assert all(same_bits(x, by_function[name]) for name, x in by_array.items())
    poisoned = dataclasses.replace(problem, value=problem.value.copy())
    poisoned.value[:, 64:128] = np.nan  # read by rows 128..191 alone
    context = fastattn.attention(*poisoned.arrays, **options(poisoned), mask=Turned(-1))
    rows = set(np.isnan(context).any(axis=-1).nonzero()[1].tolist())
    assert rows and rows <= set(range(128, 192))  # with sparse weights not every row reads every key


def random(dtype="float32", **fields):
    shape = {"batch": (3, 4), "key_heads": 2, "tq": 50, "tk": 130, "dk": 16, "dv": 9}
    return make(AttentionCase("modified-bits", **{**shape, **fields}, dtype=dtype))


@dtypes
@normalizers
def test_any_number_of_threads_gives_the_same_bits(normalizer, dtype):
    problem = random(dtype, normalizer=normalizer)
    modifier = shaped(problem.query.dtype, 4, 3)
    fastattn.set_num_threads(1)
    first = everything(problem, score_mod=modifier, mask=NearByHand(60))
    for threads in (2, 3, 8):
        fastattn.set_num_threads(threads)
        again = everything(problem, score_mod=modifier, mask=NearByHand(60))
        assert all(same_bits(x, again[name]) for name, x in first.items()), threads


@normalizers
def test_a_sample_alone_has_the_bits_it_has_in_a_batch(normalizer):
    problem = random(normalizer=normalizer)
    modifier = shaped(problem.query.dtype, 4, 3)
    whole = everything(problem, score_mod=modifier)
    for b in range(3):
        alone = dataclasses.replace(
            problem,
            **{n: getattr(problem, n)[b : b + 1] for n in ("query", "key", "value", "d_context", "d_weights", "d_lse")},
        )
        one = shaped(problem.query.dtype, 4, 3)
        one.fixed = (modifier.fixed[0][b : b + 1],)
        found = everything(alone, score_mod=one)
        for name in ("context", "weights", "d_query", "d_key", "d_value"):
            assert same_bits(whole[name][b : b + 1], found[name]), name


def test_padding_and_strides_change_nothing():
    problem = random()
    modifier = shaped(problem.query.dtype, 4, 3)
    plain = everything(problem, score_mod=modifier)
    width = ((0, 0), (0, 0), (0, 77), (0, 0))
    padded = dataclasses.replace(
        problem,
        key=np.pad(problem.key, width, constant_values=np.nan),
        value=np.pad(problem.value, width, constant_values=np.inf),
        d_weights=np.pad(problem.d_weights, ((0, 0),) * 3 + ((0, 77),), constant_values=np.nan),
    )
    found = everything(padded, score_mod=modifier, key_lengths=np.full(3, 130))
    for name in ("context", "d_query", "d_slope", "d_cap"):
        assert same_bits(plain[name], found[name]), name
    strided = dataclasses.replace(
        problem, query=np.asfortranarray(problem.query), key=problem.key[..., ::-1, :].copy()[..., ::-1, :]
    )
    again = everything(strided, score_mod=modifier)
    assert all(same_bits(x, again[name]) for name, x in plain.items())


@kinds
@normalizers
def test_what_is_masked_may_be_anything(kind, normalizer):
    problem = random(normalizer=normalizer)
    modifier = modifier_for(kind, problem.query)
    mask = np.arange(130) % 4 != 1
    plain = everything(problem, score_mod=modifier, mask=mask)
    poisoned = dataclasses.replace(problem, key=problem.key.copy(), value=problem.value.copy())
    poisoned.key[:, :, ~mask], poisoned.value[:, :, ~mask] = np.nan, np.inf
    found = everything(poisoned, score_mod=modifier, mask=mask)
    for name, x in plain.items():
        assert same_bits(x, found[name]), name


def test_holes_of_a_modifier_are_those_of_a_mask():
    problem = random()
    poisoned = dataclasses.replace(problem, value=problem.value.copy())
    h, i, j = np.ogrid[:4, :50, :130]
    mask = (i + 2 * j + h) % 3 != 0
    whole = everything(problem, mask=mask, scale=0.5)
    poisoned.value[:, :, 0] = np.nan
    query, context = np.s_[:, 0, ::3], fastattn.attention(*poisoned.arrays, score_mod=holes(), scale=0.25)
    assert same_bits(context[query], whole["context"][query])  # whose rows do not read key 0
    for slopes in (False, True):
        found = everything(problem, score_mod=holes(slopes), scale=0.25)
        assert all(same_bits(found[name], whole[name]) for name in ("context", "weights", "d_value"))


def test_a_memory_has_the_bits_of_attention():
    problem = random()
    modifier, near = shaped(problem.query.dtype, 4, 3), NearByHand(40)
    modifier.inputs = frozenset("b")
    whole = fastattn.attention(*problem.arrays, score_mod=modifier, mask=near)
    memory = fastattn.prepare(problem.key, problem.value, score_mod=modifier, mask=near)
    assert same_bits(memory.attend(problem.query), whole)
    with pytest.raises(UnsupportedError, match="functions of b"):
        memory.select(np.array([0, 0]))
    with pytest.raises(ArgumentError, match="one"):
        memory.attend(problem.query, score_mod=modifier)
    bare = fastattn.prepare(problem.key, problem.value)
    assert same_bits(bare.attend(problem.query, score_mod=modifier, mask=near), whole)
    beams = bare.select(np.array([0, 0, 2]))
    query = np.ascontiguousarray(problem.query[:, :, :1])
    rows = [0, 0, 2]
    wanted = fastattn.attention(query, problem.key[rows], problem.value[rows], score_mod=modifier)
    assert same_bits(beams.attend(query, score_mod=modifier), wanted)


def test_scores_that_no_kernel_makes_are_refused():
    problem = make(AttentionCase("l2", batch=(2,), dk=8, score="scaled_dot"))
    with pytest.raises(UnsupportedError, match="score_mod"):
        by_place = fastattn.scores.Location(np.eye(8, 40, dtype="f4"))
        fastattn.attention(*problem.arrays, score=by_place, score_mod=holes())
    with pytest.raises(UnsupportedError, match="score_mod"):
        fastattn.prepare(problem.key, problem.value, score="l2").attend(problem.query, score_mod=holes())
    general = fastattn.scores.General(np.eye(8, dtype=np.float32))
    clash = shaped(np.dtype(np.float32), 1, 2)
    clash.arrays = {"w": clash.arrays["slope"], "cap": clash.arrays["cap"]}
    with pytest.raises(ArgumentError, match="names"):
        fastattn.attention(*problem.arrays, score=general, score_mod=clash)


@pytest.mark.parametrize("name", ["l2", "gaussian"])
def test_a_distance_is_whole_where_a_function_sees_it(name):
    shape = {"batch": (2, 2), "tq": 6, "tk": 21, "dk": 5, "dv": 4, "key_lengths": (21, 9)}
    problem = make(AttentionCase("distance", **shape, dtype="float64"))
    problem.key[1, :, 9:] = np.nan
    modifier = shaped(problem.query.dtype, 2, 2)

    def by(s):
        return fastattn.scores.create("gaussian", s=np.array([s])) if name == "gaussian" else fastattn.scores.L2()

    scale = 1 / (2 * 1.3**2) if name == "gaussian" else 5**-0.5
    found = everything(problem, score=by(1.3), score_mod=modifier)
    plain = everything(problem, score=lambda q, k: -((q - k) ** 2), scale=scale, score_mod=modifier)
    for key, x in plain.items():
        np.testing.assert_allclose(found[key], x, rtol=0, atol=1e-12 * max(1, np.abs(x).max()), err_msg=key)
    if name == "gaussian":

        def loss(s):
            d = problem.d_context, problem.d_weights, problem.d_lse
            out = everything(problem, score=by(s), score_mod=modifier)
            return sum((one * out[key]).sum() for key, one in zip(OUTPUTS, d))

        np.testing.assert_allclose(found["d_s"], (loss(1.3 + 1e-6) - loss(1.3 - 1e-6)) / 2e-6, rtol=1e-7)
    memory = fastattn.prepare(problem.key, problem.value, score=by(1.3), score_mod=modifier, **problem.rest)
    assert same_bits(memory.attend(problem.query), found["context"])


def test_gradients_that_overflow_on_their_way():
    """Values so large that products with what comes back overflow: gradients are those of smaller ones, scaled."""
    problem = make(AttentionCase("large", batch=(1,), tq=9, tk=40, dtype="float32"))
    modifier = shaped(np.dtype(np.float32))

    def gradients(power):
        value = np.ldexp(problem.value, power)
        value[0, ::2] *= -1
        _, backward = fastattn.attention_vjp(problem.query * 2**-6, problem.key, value, score_mod=modifier)
        return backward(np.ldexp(problem.d_context, 2 * power // 3) * 2**-4)

    small, large = gradients(0), gradients(72)
    assert np.array_equal(np.ldexp(small.query, 120), large.query) and np.isfinite(large.query).all()
    for name, gradient in small.score.items():
        assert np.array_equal(np.ldexp(gradient, 120), large.score[name])


def test_backward_twice_gives_the_same():
    problem = random()
    _, backward = fastattn.attention_vjp(*problem.arrays, score_mod=shaped(problem.query.dtype, 4, 3))
    first = backward(problem.d_context).score
    assert all(same_bits(x, backward(problem.d_context).score[name]) for name, x in first.items())


def test_tasks_share_the_sums_of_large_parameters():
    """Four tasks of three million sums each are more than is kept: two heads share theirs, whatever the threads."""
    problem = random(batch=(2, 2), key_heads=2, tq=9, tk=70)
    modifier, wide = (shaped(problem.query.dtype, 2, 2) for _ in range(2))
    wide.arrays = {"slope": np.resize(modifier.arrays["slope"], 3_000_000), "cap": modifier.arrays["cap"]}
    few = everything(problem, score_mod=modifier)
    for threads in (1, 2):
        fastattn.set_num_threads(threads)
        many = everything(problem, score_mod=wide)
        assert same_bits(many["d_query"], few["d_query"]) and not many["d_slope"][2:].any()
        np.testing.assert_allclose(many["d_slope"][:2], few["d_slope"], rtol=1e-6)
        np.testing.assert_allclose(many["d_cap"], few["d_cap"], rtol=1e-6)
