"""What attention means at its edges: empty rows, poison behind masks, NaN, huge scores, -inf and finfo.min in bias."""

import ctypes
import dataclasses
import platform

import numpy as np
import pytest
from cases import BY_NAME, CASES, SCORES, AttentionCase, library_score, make, options
from checks import flatten, run_all, same_bits

import fastattn

DTYPES = ("float32", "float64")
WIDE = ("general", "additive", "concat", "location")


def problem(score, dtype="float32", **fields):
    """A problem with three samples, four queries and 21 keys."""
    wide = {"dq": 11} if score in WIDE else {}
    shape = {"batch": (3,), "tq": 4, "tk": 21, "dk": 9, "dv": 7}
    return make(AttentionCase(f"semantics-{score}", score=score, dtype=dtype, **{**shape, **wide, **fields}))


def everything(p, d_context=None, **rest):
    d_context = p.d_context if d_context is None else d_context
    return run_all(*p.arrays, d_context, library_score(p.score), **{**p.rest, **rest})


def poisoned(x, where, poison):
    x = x.copy()
    x[where] = poison
    return x


def is_plus_zero(x):
    return not x.any() and not np.signbit(x).any()


scores = pytest.mark.parametrize("score", SCORES)
dtypes = pytest.mark.parametrize("dtype", DTYPES)
poisons = pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf], ids=["nan", "inf", "-inf"])


# Empty rows


@dtypes
@scores
@pytest.mark.parametrize("how", ["mask", "key_lengths", "bias", "window", "causal", "no keys"])
def test_an_empty_row_gives_zeros_and_minus_infinity(score, dtype, how):
    p = problem(score, dtype, tk=0) if how == "no keys" else problem(score, dtype)
    rest, empty = {}, np.zeros((3, 4), bool)
    if how == "mask":
        rest["mask"] = np.ones((3, 4, 21), bool)
        rest["mask"][1, 2] = False
        empty[1, 2] = True
    elif how == "key_lengths":
        rest["key_lengths"] = np.array([21, 0, 5])
        empty[1] = True
    elif how == "bias":
        rest["bias"] = np.zeros((3, 4, 21), dtype)
        rest["bias"][2, 0] = -np.inf
        empty[2, 0] = True
    elif how == "window":
        rest.update(window=(0, 0), key_lengths=np.array([21, 2, 3]))
        empty[1, 2:] = empty[2, 3:] = True
    elif how == "causal":
        rest.update(causal="bottom_right", key_lengths=np.array([21, 2, 3]))
        empty[1, :2] = empty[2, :1] = True
    else:
        empty[:] = True
    out, backward = fastattn.attention_vjp(
        *p.arrays, score=library_score(p.score), return_weights=True, return_lse=True, **rest
    )
    assert is_plus_zero(out.context[empty]) and is_plus_zero(out.weights[empty])
    assert np.isneginf(out.lse[empty]).all() and np.isfinite(out.lse[~empty]).all()
    gradients = backward(p.d_context, d_weights=p.d_weights, d_lse=p.d_lse)
    assert not gradients.query[empty].any()
    assert all(np.isfinite(x).all() for x in flatten(gradients))
    whole = empty.all(axis=1)
    assert not gradients.key[whole].any() and not gradients.value[whole].any()


@scores
def test_no_gradient_flows_through_an_empty_row(score):
    p = problem(score)
    mask = np.ones((3, 4, 21), bool)
    mask[1, 2] = mask[0] = False
    clean = everything(p, mask=mask)
    changed = poisoned(p.d_context, (1, 2), np.nan)
    changed[0] = np.inf
    assert same_bits(clean, everything(p, changed, mask=mask))


@scores
def test_other_cotangents_of_an_empty_row_are_not_read(score):
    p = problem(score)
    mask = np.ones((3, 4, 21), bool)
    mask[1, 2] = False
    _, backward = fastattn.attention_vjp(
        *p.arrays, score=library_score(p.score), mask=mask, return_weights=True, return_lse=True
    )
    clean = backward(p.d_context, d_weights=p.d_weights, d_lse=p.d_lse)
    d_weights, d_lse = (poisoned(x, (1, 2), np.nan) for x in (p.d_weights, p.d_lse))
    assert same_bits(clean, backward(p.d_context, d_weights=d_weights, d_lse=d_lse))


# Masked values are never read


def mask_at(how, keys, dtype):
    """Options under which no query of sample 1 reads the given trailing keys."""
    if how == "mask":
        mask = np.ones((3, 1, 21), bool)
        mask[1, 0, keys] = False
        return {"mask": mask}
    if how == "bias":
        bias = np.zeros((3, 1, 21), dtype)
        bias[1, 0, keys] = -np.inf
        return {"bias": bias}
    if how == "key_lengths":
        return {"key_lengths": np.array([21, keys.start, 21])}
    if how == "causal":
        return {"causal": "top_left"}
    return {"window": (None, 0)}


@poisons
@scores
@pytest.mark.parametrize("how", ["mask", "key_lengths", "causal", "window", "bias"])
@pytest.mark.parametrize("which", ["key", "value", "both"])
def test_a_masked_key_or_value_is_never_read(score, poison, how, which):
    p = problem(score)
    keys = slice(16, 21)
    rest = mask_at(how, keys, "float32")
    clean = everything(p, **rest)
    key = poisoned(p.key, (1, keys), poison) if which != "value" else p.key
    value = poisoned(p.value, (1, keys), poison) if which != "key" else p.value
    dirty = everything(dataclasses.replace(p, key=key, value=value), **rest)
    assert same_bits(clean, dirty)


@pytest.mark.parametrize("tk", [16, 21, 64, 513, 600])
@dtypes
@scores
def test_a_key_masked_for_some_rows_only_reaches_none_of_them(score, dtype, tk):
    """Where a row may not read a poisoned key, its outputs keep their bits, whatever its neighbours read."""
    p = problem(score, dtype, tq=8, tk=tk)
    mask = np.random.default_rng(5).random((3, 8, tk)) < 0.8
    mask[:, 1::2, 3] = False
    mask[:, ::2, 3] = True
    clean = everything(p, mask=mask)
    for which in ("key", "value"):
        dirty = dataclasses.replace(p, **{which: poisoned(getattr(p, which), (slice(None), 3), np.nan)})
        found = everything(dirty, mask=mask)
        for before, after in zip(clean[:3], found[:3]):
            assert same_bits(before[:, 1::2], after[:, 1::2])
        # d_query of those rows depends on nothing else; location reads no key at all.
        assert same_bits(clean[3][:, 1::2], found[3][:, 1::2])
        if not (score == "location" and which == "key"):
            assert np.isnan(found[0][:, ::2]).all()


@poisons
@scores
def test_a_query_that_may_attend_to_nothing_is_never_read(score, poison):
    p = problem(score)
    mask = np.ones((3, 4, 21), bool)
    mask[1, 2] = False
    mask[2] = False
    clean = everything(p, mask=mask)
    query = poisoned(p.query, (1, 2), poison)
    query[2] = poison
    assert same_bits(clean, everything(dataclasses.replace(p, query=query), mask=mask))


@pytest.mark.parametrize("score", ["scaled_dot", "additive"])
def test_a_masked_bias_is_never_read(score):
    p = problem(score)
    mask = np.ones((3, 4, 21), bool)
    mask[1, 2, 5] = False
    bias = np.random.default_rng(3).standard_normal((3, 4, 21)).astype(np.float32)
    clean = everything(p, mask=mask, bias=bias)
    assert same_bits(clean, everything(p, mask=mask, bias=poisoned(bias, (1, 2, 5), np.nan)))


def test_poison_behind_a_grouped_head_stays_there():
    p = problem("scaled_dot", batch=(2, 4), key_heads=2)
    mask = np.ones((2, 4, 1, 21), bool)
    mask[0, 2:, :, 7] = False
    clean = everything(p, mask=mask)
    dirty = dataclasses.replace(p, key=poisoned(p.key, (0, 1, 7), np.inf), value=poisoned(p.value, (0, 1, 7), np.nan))
    assert same_bits(clean, everything(dirty, mask=mask))


# NaN and infinities that are read


@dtypes
@scores
def test_nan_in_a_query_reaches_exactly_its_row(score, dtype):
    p = problem(score, dtype)
    dirty = dataclasses.replace(p, query=poisoned(p.query, (1, 2, 0), np.nan))
    clean, found = everything(p), everything(dirty)
    touched = np.zeros((3, 4), bool)
    touched[1, 2] = True
    for before, after in zip(clean[:4], found[:4]):  # context, weights, lse, d_query
        assert np.isnan(after[touched]).all()
        assert same_bits(before[~touched], after[~touched])


@dtypes
@scores
def test_nan_in_a_key_reaches_exactly_the_rows_of_its_sample(score, dtype):
    p = problem(score, dtype)
    clean, found = everything(p), everything(dataclasses.replace(p, key=poisoned(p.key, (1, 20, 0), np.nan)))
    for before, after in zip(clean[:6], found[:6]):  # and d_key, d_value
        assert same_bits(before[[0, 2]], after[[0, 2]])
    if score != "location":
        assert all(np.isnan(x[1]).all() for x in found[:3])


@dtypes
def test_nan_in_a_value_reaches_exactly_its_column(dtype):
    p = problem("scaled_dot", dtype)
    clean, found = everything(p), everything(dataclasses.replace(p, value=poisoned(p.value, (1, 20, 3), np.nan)))
    assert np.isnan(found[0][1, :, 3]).all()
    untouched = np.ones(found[0].shape, bool)
    untouched[1, :, 3] = False
    assert same_bits(clean[0][untouched], found[0][untouched])
    assert same_bits(clean[1:3], found[1:3])


@pytest.mark.parametrize("causal", [None, "top_left"])
def test_nan_in_a_key_reaches_only_the_rows_that_may_read_it(causal):
    p = problem("dot", tq=21)
    clean = everything(p, causal=causal)
    found = everything(dataclasses.replace(p, key=poisoned(p.key, (0, 9, 4), np.nan)), causal=causal)
    first = 9 if causal else 0
    assert np.isnan(found[0][0, first:]).all()
    assert same_bits(clean[0][0, :first], found[0][0, :first])


# Extreme numbers


@pytest.mark.parametrize("size", [1e3, 1e9, 1e15, 1e18])
@pytest.mark.parametrize("score", ["dot", "scaled_dot", "cosine", "additive"])
def test_huge_finite_scores_give_finite_results(score, size):
    p = problem(score)
    arrays = [x * np.float32(size) for x in p.arrays[:2]]
    p = dataclasses.replace(p, query=arrays[0], key=arrays[1])
    if size == 1e18:  # products up to 1e36 times a sum of 9: still finite
        p = dataclasses.replace(p, query=np.clip(p.query, -1e18, 1e18), key=np.clip(p.key, -1e18, 1e18))
    found = everything(p)
    assert all(np.isfinite(x).all() for x in found[:3])
    assert np.allclose(found[1].sum(-1), 1, atol=1e-5)
    assert not any(np.isnan(x).any() for x in found[3:])


def test_scores_at_both_ends_of_the_range_give_finite_results():
    key = np.array([[3e38], [-3e38], [1.0]], np.float32)
    query, value = np.ones((1, 1), np.float32), np.eye(3, dtype=np.float32)
    out = fastattn.attention(query, key, value, score="dot", return_lse=True)
    assert np.array_equal(out.context, [[1, 0, 0]]) and out.lse[0] == np.float32(3e38)


@dtypes
def test_a_row_of_the_smallest_finite_bias_is_uniform(dtype):
    p = problem("scaled_dot", dtype)
    bias = np.zeros((4, 21), dtype)
    bias[1] = np.finfo(dtype).min
    out = fastattn.attention(*p.arrays, bias=bias, return_weights=True, return_lse=True)
    eps = np.finfo(dtype).eps
    # The scores, about 1, are far below the spacing of numbers at finfo.min.
    assert np.abs(out.weights[:, 1] - 1 / 21).max() <= 4 * eps
    assert np.abs(out.context[:, 1] - p.value.mean(axis=1)).max() <= 16 * eps
    assert np.isfinite(out.lse).all()


@dtypes
@scores
def test_minus_infinity_in_bias_masks(score, dtype):
    p = problem(score, dtype)
    mask = np.random.default_rng(2).random((3, 4, 21)) < 0.6
    bias = np.where(mask, 0, -np.inf).astype(dtype)
    assert same_bits(everything(p, mask=mask)[:6], (everything(p, bias=bias))[:6])


def test_minus_infinity_in_bias_stays_so_behind_a_softcap():
    p = problem("scaled_dot", softcap=2.0)
    bias = np.zeros((21,), np.float32)
    bias[5] = -np.inf
    out = fastattn.attention(*p.arrays, score=library_score(p.score), bias=bias, return_weights=True)
    assert is_plus_zero(out.weights[..., 5])


@pytest.mark.parametrize("of_user", [False, True])
@pytest.mark.parametrize("normalizer", ["softmax", "sparsemax"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_flat_softcap_hides_no_nan(dtype, normalizer, of_user):
    """All scores are at the cap, where its derivative is 0 in any type: 0 times NaN is NaN."""
    q, k, v = np.full((1, 3, 4), 100, dtype), np.full((1, 9, 4), 100, dtype), np.ones((1, 9, 2), dtype)
    if of_user:
        cap = {"score_mod": lambda s, b, h, i, j: np.tanh(s)}
    else:
        cap = {"score": fastattn.scores.ScaledDot(softcap=1.0)}
    d_context = np.ones((1, 3, 2), dtype)
    d_context[0, 1] = np.nan
    found = fastattn.attention_vjp(q, k, v, normalizer=normalizer, **cap)[1](d_context)
    assert np.isnan(found.query[0, 1]).all() and not found.query[0, [0, 2]].any()
    assert np.isnan(found.key).all()


def test_a_zero_vector_has_cosine_zero_and_no_gradient():
    p = problem("cosine")
    p.query[1, 2] = 0
    p.key[0, 3] = 0
    out, backward = fastattn.attention_vjp(*p.arrays, score="cosine", return_weights=True)
    assert np.abs(out.weights[1, 2] - 1 / 21).max() < 1e-7
    gradients = backward(p.d_context)
    assert not gradients.query[1, 2].any() and not gradients.key[0, 3].any()


# The caller's things are left alone


@pytest.mark.parametrize("name", [c.name for c in CASES if c.name.endswith("-everything")])
def test_inputs_are_never_written(name):
    p = make(BY_NAME[name])
    given = [*p.arrays, p.d_context, p.d_weights, p.d_lse, *p.score.parameters.values()]
    given += [x for x in p.rest.values() if isinstance(x, np.ndarray)]
    before = [x.tobytes() for x in given]
    for x in given:
        x.flags.writeable = False
    _, backward = fastattn.attention_vjp(*p.arrays, **options(p), return_weights=True, return_lse=True)
    backward(p.d_context, d_weights=p.d_weights, d_lse=p.d_lse)
    assert before == [x.tobytes() for x in given]


FLAGS = """
import ctypes, ctypes.util, numpy as np
libm = ctypes.CDLL(ctypes.util.find_library("m"))
def environment():
    saved = ctypes.create_string_buffer(64)
    assert libm.fegetenv(saved) == 0
    # The control words only: exception flags may change. x87 control word, then MXCSR at byte 28.
    control = int.from_bytes(saved.raw[28:32], "little")
    return saved.raw[:2], control & 0xFFC0
before = environment()
import fastattn
assert environment() == before, "import"
q = np.full((2, 70, 8), 1e-39, np.float32)
for score in ("dot", fastattn.scores.Additive(q[0, 0])):
    out, backward = fastattn.attention_vjp(q, q, q, score=score, causal=True)
    backward(q)
assert environment() == before, "calls"
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads the x86 control words")
def test_floating_point_modes_are_unchanged_after_import_and_calls(run_python):
    run_python("-c", FLAGS)


def test_subnormal_inputs_count():
    tiny = np.full((1, 4), 1e-40, np.float32)
    context = fastattn.attention(tiny, tiny, np.full((1, 3), 1e-40, np.float32))
    assert np.array_equal(context, np.full((1, 3), 1e-40, np.float32))
    assert ctypes.c_float(1e-40).value != 0


def test_a_normalizer_that_is_not_there_raises():
    p = problem("dot")
    with pytest.raises(fastattn.FastattnError, match="Hint:"):
        fastattn.attention(*p.arrays, normalizer="no such normalizer")


@pytest.mark.parametrize("zero", ["batch", "tq", "dv"])
@scores
def test_zero_sizes_give_empty_arrays(score, zero):
    p = problem(score, **{zero: (0,) if zero == "batch" else 0})
    found = everything(p)
    assert found[0].shape == (*p.query.shape[:-1], p.case.dv)
    assert found[3].shape == p.query.shape and found[4].shape == p.key.shape
    assert all(np.isfinite(x).all() for x in found[3:])


@scores
def test_keys_that_no_query_head_reads_have_zero_gradients(score):
    p = problem(score, batch=(2, 2))
    query, d_context = p.query[:, :0], p.d_context[:, :0]
    chosen = library_score(p.score)
    # Memory that is not zero by chance is handed out again.
    waste = [np.full(x.shape, np.nan, x.dtype) for x in (p.key, p.value) * 4]
    del waste
    found = run_all(query, p.key, p.value, d_context, chosen)
    assert found[3].shape == query.shape
    assert all(x.shape == y.shape and not x.any() for x, y in zip(found[4:6], (p.key, p.value)))
    assert not any(x.any() for x in found[6:])
