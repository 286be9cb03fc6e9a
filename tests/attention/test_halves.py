"""Attention of arrays in half types: numbers, gradients, bits, and what is refused.

How far results may lie from the float64 twin of the rounded inputs. Outputs: 2 u A + 4 eps A (1 + S) with u = 2^-8 of
bfloat16 or 2^-11 of float16, eps of float32, A the sum of the terms' absolute values: rounding the result, and each
weight where products take weights of the type. Gradients: the same for each product on the way, so 4 u of the
gradient's unit (`bounds`), which has absolute values for all terms.
"""

from dataclasses import replace

import numpy as np
import pytest
from cases import CASES, make, options, twin_options
from checks import same_bits, units_of

import fastattn
from fastattn import _reference
from fastattn.errors import DTypeError, FastattnError

ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 arrays are those of ml_dtypes")

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT16 = np.dtype(np.float16)
UNIT = {BFLOAT16: 2.0**-8, FLOAT16: 2.0**-11}
EPS = float(np.finfo(np.float32).eps)
SMALLEST = {BFLOAT16: 2.0**-126, FLOAT16: 2.0**-24}  # as in float32, or the spacing of the type


def rounded(problem, dtype):
    """The problem with numbers that the type holds, in float32; the bias and the score's parameters stay."""
    named = {name: getattr(problem, name).astype(dtype).astype(np.float32) for name in ("query", "key", "value")}
    cotangents = {
        name: getattr(problem, name).astype(dtype).astype(np.float32)
        for name in ("d_context", "d_weights")
        if getattr(problem, name) is not None
    }
    return replace(problem, **named, **cotangents)


def halves(problem, dtype):
    """Query, key and value of a rounded problem in the type."""
    return tuple(x.astype(dtype) for x in problem.arrays)


def excess(found, exact, unit, dtype, factor, lost=0):
    """The largest error over what is allowed: 1 is at the limit. `lost`: of terms that are too small."""
    found, exact = found.astype(np.float64), np.asarray(exact, np.float64)
    room = factor * UNIT[dtype] * unit + 4 * EPS * unit + SMALLEST[dtype] + lost
    with np.errstate(invalid="ignore"):
        same = (found == exact) | (np.isnan(found) & np.isnan(exact))
        error = np.where(same, 0.0, np.abs(found - exact))
    return float(np.max(np.where(np.isnan(error), np.inf, error) / room, initial=0.0))


def check_forward(case, dtype):
    """Context, weights and lse of a case."""
    problem = rounded(make(case), dtype)
    softmax = case.normalizer == "softmax"
    given = {"return_weights": True, "return_lse": softmax}
    output = fastattn.attention(*halves(problem, dtype), **options(problem), **given)
    exact = _reference.attention(*problem.arrays, **twin_options(problem))
    units = units_of(problem).forward()
    assert output.context.dtype == dtype and output.weights.dtype == dtype
    assert excess(output.context, exact[0], units[0], dtype, 2) <= 1
    assert excess(output.weights, exact[1], units[1], dtype, 2) <= 1
    if softmax:
        assert output.lse.dtype == np.float32
        finite = np.isfinite(exact[2])
        assert (np.isneginf(output.lse) == ~finite).all()
        error = np.abs(output.lse - np.where(finite, exact[2], 0))[finite]
        assert (error <= 4 * EPS * units[2][finite]).all()


def check_gradients(case, dtype, parts=("d_context",)):
    """All gradients of a case."""
    problem = rounded(make(case), dtype)
    given = {name: getattr(problem, name) for name in parts}
    wants = {"return_weights": "d_weights" in parts, "return_lse": "d_lse" in parts}
    _, backward = fastattn.attention_vjp(*halves(problem, dtype), **options(problem), **wants)
    stored = {name: x if name == "d_lse" else x.astype(dtype) for name, x in given.items()}
    found = backward(**stored)
    exact = _reference.attention_vjp(*problem.arrays, **twin_options(problem), **given)
    units = units_of(problem).backward(**given)
    for name in ("query", "key", "value"):
        assert getattr(found, name).dtype == dtype, name
        assert excess(getattr(found, name), getattr(exact, name), getattr(units, name), dtype, 4) <= 1, name
    for name, gradient in found.score.items():
        assert gradient.dtype == np.float32, name
        assert excess(gradient, exact.score[name], units.score[name], dtype, 4) <= 1, name
    if exact.bias is not None:
        assert found.bias.dtype == np.float32
        assert excess(found.bias, exact.bias, units.bias, dtype, 4) <= 1


FLOAT32 = [case for case in CASES if case.dtype == "float32"]
PRODUCTS = [case for case in FLOAT32 if case.score in ("dot", "scaled_dot") and case.normalizer == "softmax"]
OTHERS = [case for case in FLOAT32 if case not in PRODUCTS and case.name.endswith(("-3d", "-grouped", "everything"))]
FEW = [case for case in PRODUCTS if case.name in ("scaled_dot-3d", "scaled_dot-grouped", "scaled_dot-mask-6x70")]
BY_TYPE = [(case, BFLOAT16) for case in (*PRODUCTS, *OTHERS)] + [(case, FLOAT16) for case in (*FEW, *OTHERS[::3])]


def name(given):
    return given.name if hasattr(given, "name") else None


@pytest.mark.parametrize(("case", "dtype"), BY_TYPE, ids=name)
def test_forward(case, dtype):
    check_forward(case, dtype)


@pytest.mark.parametrize(("case", "dtype"), BY_TYPE, ids=name)
def test_gradients(case, dtype):
    check_gradients(case, dtype)


@pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT16], ids=name)
@pytest.mark.parametrize("case", FEW, ids=name)
def test_gradients_of_all_three_outputs(case, dtype):
    check_gradients(case, dtype, ("d_context", "d_weights", "d_lse"))


def arrays(dtype, *shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT16], ids=name)
def test_out_is_filled_and_returned(dtype):
    q, k, v = arrays(dtype, (2, 5, 8), (2, 9, 8), (2, 9, 6))
    expected = fastattn.attention(q, k, v)
    out = np.zeros((2, 5, 12), dtype)[..., ::2]
    assert fastattn.attention(q, k, v, out=out) is out and same_bits([out], [expected])
    with pytest.raises(FastattnError, match="out"):
        fastattn.attention(q, k, v, out=np.empty((2, 5, 6), np.float32))
    square = v[:, :5].copy()
    with pytest.raises(FastattnError, match="overlaps"):
        fastattn.attention(q, k, square[:, [0, 1, 2, 3, 4, 0, 1, 2, 3]], bias=None, out=q[..., :6])


@pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT16], ids=name)
def test_the_two_functions_without_state_have_the_bits_of_one(dtype):
    q, k, v, d = arrays(dtype, (2, 5, 8), (2, 9, 8), (2, 9, 6), (2, 5, 6))
    output, backward = fastattn.attention_vjp(q, k, v, return_weights=True)
    again, residuals = fastattn.attention_forward(q, k, v, return_weights=True)
    assert residuals.context.dtype == residuals.row_sum.dtype == residuals.weights.dtype == np.float32
    found = fastattn.attention_backward(q, k, v, residuals, d, d_weights=output.weights)
    assert same_bits([*output[:2], *backward(d, d_weights=output.weights)[:3]], [*again[:2], *found[:3]])


@pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT16], ids=name)
def test_the_gradient_of_a_bias_has_its_type(dtype):
    q, k, v, d, bias = arrays(dtype, (2, 5, 8), (2, 9, 8), (2, 9, 6), (2, 5, 6), (5, 9))
    context, backward = fastattn.attention_vjp(q, k, v, bias=bias)
    wide, wide_backward = fastattn.attention_vjp(q, k, v, bias=bias.astype(np.float32))
    narrow, exact = backward(d).bias, wide_backward(d).bias
    assert same_bits([context], [wide])
    assert narrow.dtype == dtype and exact.dtype == np.float32 and same_bits([narrow], [exact.astype(dtype)])


@pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT16], ids=name)
@pytest.mark.parametrize("case", FEW, ids=name)
def test_the_same_bits_in_any_batch_and_layout(case, dtype):
    problem = rounded(make(case), dtype)
    rest = {key: value for key, value in options(problem).items() if key != "mask"}
    q, k, v = halves(problem, dtype)
    d = problem.d_context.astype(dtype)

    def every(q, k, v, d, **more):
        context, backward = fastattn.attention_vjp(q, k, v, **rest, **more)
        return [context, *backward(d)[:3]]

    whole = every(q, k, v, d)
    strided = [np.repeat(x, 2, axis=-2)[..., ::2, :] for x in (q, k, v, d)]
    assert same_bits(every(*strided), whole)
    alone = every(*(x[1:2] for x in (q, k, v, d)))
    assert same_bits(alone, [x[1:2] for x in whole])
    padded = [np.concatenate([x, np.full_like(x, np.nan)], axis=-2) for x in (k, v)]
    longer = every(q, *padded, d, key_lengths=np.full(len(q), k.shape[-2]))
    assert same_bits([longer[0], longer[1], *(x[..., : k.shape[-2], :] for x in longer[2:])], whole)


def test_numbers_beyond_float16_become_infinite_and_others_stay():
    q, k, v, d = arrays(FLOAT16, (2, 4), (3, 4), (3, 2), (2, 2))
    big = np.full((3, 2), 60000, FLOAT16)
    assert same_bits([fastattn.attention(q, k, big)], [np.full((2, 2), 60000, FLOAT16)])
    _, backward = fastattn.attention_vjp(q * FLOAT16.type(0), k, v * FLOAT16.type(9000))
    gradients = backward(d * FLOAT16.type(9000))
    assert np.isinf(gradients.query).any() and np.isfinite(gradients.value).all()


@pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT16], ids=name)
def test_types_do_not_mix(dtype):
    q, k, v, d = arrays(dtype, (5, 8), (9, 8), (9, 6), (5, 6))
    _, backward = fastattn.attention_vjp(q, k, v)
    for wrong in (
        lambda: fastattn.attention(q, k.astype(np.float32), v),
        lambda: fastattn.attention(q, k, v, bias=np.zeros((5, 9))),
        lambda: fastattn.attention(q, k, v, score=fastattn.scores.General(np.zeros((8, 8)))),
        lambda: backward(d.astype(np.float32)),
    ):
        with pytest.raises(DTypeError, match="Hint"):
            wrong()


@pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT16], ids=name)
def test_a_memory_has_the_bits_of_attention(dtype):
    q, k, v, more, bias = arrays(dtype, (3, 4, 2, 8), (3, 2, 9, 8), (3, 2, 9, 6), (3, 2, 2, 8), (9,))
    memory = fastattn.prepare(k, v)
    assert f"{dtype}" in repr(memory)
    expected = fastattn.attention(q, k, v, bias=bias, return_weights=True, return_lse=True)
    found = memory.attend(q, bias=bias, return_weights=True, return_lse=True)
    assert found.context.dtype == dtype and same_bits(list(found), list(expected))
    out = np.empty_like(expected.context)
    assert memory.attend(q, bias=bias, out=out) is out and same_bits([out], [expected.context])
    rows = [2, 2, 0, 0]
    beams = memory.select(rows).attend(q[rows][..., :1, :], return_weights=True)
    assert same_bits(
        list(beams[:2]), list(fastattn.attention(q[rows][..., :1, :], k[rows], v[rows], return_weights=True)[:2])
    )
    longer = memory.extended(more, more[..., :6])
    keys, values = np.concatenate([k, more], axis=2), np.concatenate([v, more[..., :6]], axis=2)
    assert same_bits([longer.attend(q)], [fastattn.attention(q, keys, values)])
    with pytest.raises(DTypeError, match="the dtype of the memory"):
        memory.attend(q.astype(np.float32))


LARGEST = float(np.finfo(np.float32).max) * (1 - 2.0**-8)  # nearly that of bfloat16
WILD = [2.0**-130, 2.0**-70, 2.0**50, 2.0**62, LARGEST]  # what a matrix unit loses, or would overflow with


@pytest.mark.parametrize("size", WILD)
@pytest.mark.parametrize("where", ["query", "key", "value", "d_context"])
def test_numbers_near_the_ends_of_the_type(where, size):
    """Some numbers of one row of one array; the others are small enough that nothing of the exact result overflows."""
    problem = rounded(make(next(c for c in CASES if c.name == "scaled_dot-3d")), BFLOAT16)
    found = {name: getattr(problem, name).copy() for name in ("query", "key", "value", "d_context")}
    found[where][:, 1::3, ::2] = np.float32(size) * np.sign(found[where][:, 1::3, ::2])
    if size > 1:
        for other in {"query": ("key",), "key": ("query",), "value": ("d_context",), "d_context": ("value",)}[where]:
            found[other] = found[other] * np.float32(2.0**-10 / size)
    found = {name: x.astype(BFLOAT16).astype(np.float32) for name, x in found.items()}
    problem = replace(problem, **found)
    exact = _reference.attention(*problem.arrays, **twin_options(problem))
    context, backward = fastattn.attention_vjp(*halves(problem, BFLOAT16), **options(problem))
    assert excess(context, exact[0], units_of(problem).forward()[0], BFLOAT16, 2) <= 1
    given = {"d_context": problem.d_context}
    gradients = backward(problem.d_context.astype(BFLOAT16))
    twin = _reference.attention_vjp(*problem.arrays, **twin_options(problem), **given)
    units = units_of(problem).backward(**given)
    for name in ("query", "key", "value"):
        with np.errstate(over="ignore"):
            expected = getattr(twin, name).astype(np.float32).astype(BFLOAT16).astype(np.float64)
        assert excess(getattr(gradients, name), expected, getattr(units, name), BFLOAT16, 4) <= 1, name


@pytest.mark.parametrize(
    "exponents",
    [(40, -40, -57, -57), (20, -20, -55, -55), (0, 0, -60, -60), (-70, 60, -70, 45), (45, -70, 45, -70),
     (-130, 0, -130, 60), (-61, -61, -61, -61)],
    ids=str,
)  # fmt: skip
def test_small_numbers_of_several_arrays(exponents):
    """Of query, key, value and d_context, and a key whose weights are small: gradients of scores below 2^-126 are lost,
    and nothing else, however large what they are multiplied by."""
    arrays = np.random.default_rng(0).standard_normal((4, 2, 40, 16))
    arrays[0][..., 0], arrays[1][..., 0], arrays[1][:, 7, 0] = 8, 0, -7
    stored = [np.ldexp(x, e).astype(np.float32).astype(BFLOAT16) for x, e in zip(arrays, exponents, strict=True)]
    q, k, v, d = (x.astype(np.float32) for x in stored)
    problem = replace(make(next(c for c in CASES if c.name == "scaled_dot-3d")), query=q, key=k, value=v, d_context=d)
    found = fastattn.attention_vjp(*stored[:3])[1](stored[3])
    exact = _reference.attention_vjp(q, k, v, d_context=d)
    units = units_of(problem).backward(d_context=d)
    tiny = 2.0**-126
    lost = {
        "query": tiny * np.abs(k).sum(axis=1, keepdims=True, dtype=float) + 40 * tiny,
        "key": tiny * np.abs(q).sum(axis=1, keepdims=True, dtype=float) + 40 * tiny,
        "value": 40 * tiny,
    }
    for name, room in lost.items():
        got, right, unit = (getattr(given, name) for given in (found, exact, units))
        assert excess(got, right, unit, BFLOAT16, 4, room) <= 1, name


@pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT16], ids=name)
def test_gradients_of_values_with_a_mean(dtype):
    """Of a rounded context each gradient of scores would err by its rounding, and those of many rows sum."""
    arrays = np.random.default_rng(0).standard_normal((4, 2, 400, 32))
    arrays[2] += 4
    q, k, v, d = (x.astype(np.float32).astype(dtype) for x in arrays)
    found = fastattn.attention_vjp(q, k, v)[1](d)
    exact = _reference.attention_vjp(*(x.astype(np.float64) for x in (q, k, v)), d_context=d.astype(np.float64))
    for name in ("query", "key"):
        right = getattr(exact, name)
        error = np.sqrt(np.mean((getattr(found, name).astype(np.float64) - right) ** 2) / np.mean(right**2))
        assert error < UNIT[dtype], name


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, LARGEST, 2.0**-130])
@pytest.mark.parametrize("limit", ["mask", "causal", "lengths"])
def test_what_one_row_may_not_read_changes_none_of_its_bits(limit, bad):
    """Keys and values that are masked for one query of a tile and not for its neighbour."""
    q, k, v, d = arrays(BFLOAT16, (2, 2, 40, 24), (2, 2, 40, 24), (2, 2, 40, 20), (2, 2, 40, 20))
    rest = {"mask": np.ones((40, 40), bool)} if limit == "mask" else {}
    if limit == "mask":
        rest["mask"][:20, [5, 17, 33]] = False
    reached = slice(20) if limit == "mask" else slice(17)  # rows that read none of the keys that change
    changed = [5, 17, 33] if limit == "mask" else [17, 33] if limit == "causal" else list(range(30, 40))
    if limit == "causal":
        rest["causal"] = "top_left"
    if limit == "lengths":
        rest["key_lengths"], reached = [30, 30], slice(40)

    def every(k, v):
        output, backward = fastattn.attention_vjp(q, k, v, **rest, return_lse=True)
        gradients = backward(d)
        kept = [i for i in range(40) if i not in changed]
        rows = [x[..., reached, :] for x in (output.context, output.lse[..., None], gradients.query)]
        return [*rows, *([x[..., kept, :] for x in gradients[1:3]] if limit == "lengths" else [])], output, gradients

    before = every(k, v)[0]
    for which in (0, 1):
        pair = [k.copy(), v.copy()]
        pair[which][..., changed, :] = bad
        after, output, gradients = every(*pair)
        assert same_bits(after, before)
        if limit == "lengths":
            assert not gradients.key[..., 30:, :].astype(np.float32).any()
        elif np.isnan(bad):
            assert np.isnan(output.context[..., 39, :].astype(np.float32)).all()
            untouched = [j for j in range(17) if j not in changed]
            if which == 0:
                assert np.isnan(gradients.query[..., 39, :].astype(np.float32)).all()
            assert np.isfinite(gradients.query[..., reached, :].astype(np.float32)).all() and untouched


def one_nan(x):
    """Which NaN a sum of two is depends on their order, which is the compiler's."""
    return np.where(np.isnan(x.astype(np.float32)), x.dtype.type(np.nan), x)


@pytest.mark.parametrize("bad", [np.nan, np.inf, *WILD], ids=str)
@pytest.mark.parametrize("where", ["query", "key", "value", "a value", "the last values"])
def test_few_rows_have_the_bits_of_many_whatever_they_hold(where, bad):
    """Scores of few rows are made the other way round, contexts where no value of 128 keys is out of range; before they
    are rounded, too."""
    arguments = dict(zip(("query", "key", "value"), arrays(BFLOAT16, (2, 40, 64), (2, 290, 64), (2, 290, 96))))
    if where in arguments:
        arguments[where][:, 1::7, ::3] = bad
    else:
        arguments["value"][:, {"a value": 200, "the last values": slice(289, 290)}[where], 70] = bad
    mask = np.random.default_rng(0).random((2, 40, 290)) < 0.9

    def results(rows):
        given = {**arguments, "query": arguments["query"][:, rows], "mask": mask[:, rows]}
        outputs, residuals = fastattn.attention_forward(**given, return_weights=True, return_lse=True)
        again = fastattn.attention(**given, return_weights=True, return_lse=True)
        found, again = ([one_nan(x) for x in given] for given in ([*outputs, residuals.context], again))
        assert same_bits(again, found[:3])
        return found

    whole = results(slice(None))
    for rows in (slice(0, 1), slice(1, 2), slice(3, 7), slice(4, 12), slice(6, 17)):
        assert same_bits(results(rows), [x[:, rows] for x in whole])


@pytest.mark.parametrize("rise", [5, 80])
@pytest.mark.parametrize("rows", [1, 40, 70])
def test_larger_scores_of_later_keys_make_earlier_weights_smaller(rows, rise):
    """By a part of a power of two in each 32 keys, and by 2^16."""
    q, k, v = arrays(BFLOAT16, (2, rows, 64), (2, 500, 64), (2, 500, 32))
    q, k = (x.astype(np.float32) for x in (q, k))
    q[..., :8], k[..., :8] = 2, np.linspace(0, rise, 500, dtype=np.float32)[:, None]
    q, k = (x.astype(BFLOAT16) for x in (q, k))
    exact = _reference.attention(q, k, v)[0]
    sizes = _reference.attention(q, k, np.abs(v))[0]
    assert excess(fastattn.attention(q, k, v), exact, sizes, BFLOAT16, 2) <= 1


@pytest.mark.parametrize("rows", [1, 40])
def test_scores_whose_partial_sums_overflow_are_summed_once_more(rows):
    """Even and odd columns are summed apart on the unit: products of 2^124, and those that cancel them."""
    q, k, v = arrays(BFLOAT16, (2, rows, 64), (2, 150, 64), (2, 150, 32))
    k = (k.astype(np.float32) * np.float32(2.0**-62)).astype(BFLOAT16)
    q[:] = 2.0**62
    k[:, ::9, ::2], k[:, ::9, 1::2] = 2.0**62, -(2.0**62)
    exact = _reference.attention(q, k, v)[0]
    assert excess(fastattn.attention(q, k, v), exact, np.abs(exact) + 0.1, BFLOAT16, 2) <= 1


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("exponent", [13, 16, 24, 40, 90, 124])
@pytest.mark.parametrize("sign", [1, -1])
def test_huge_scores_give_means(rows, exponent, sign):
    """One key takes all, or two that are equal, also where all scores are far below zero; gradients are finite."""
    rng, half = np.random.default_rng(0), exponent // 2
    q = np.full((1, rows, 1), 2.0**half, np.float32).astype(BFLOAT16)
    k = (sign * rng.choice(np.arange(129, 250, dtype=np.float32), 600, replace=True)[None, :, None] / 256).astype(
        BFLOAT16
    )
    k = (k.astype(np.float32) * np.float32(2.0 ** (exponent - half))).astype(BFLOAT16)
    v, d = arrays(BFLOAT16, (1, 600, 32), (1, rows, 32))
    output, backward = fastattn.attention_vjp(q, k, v, return_lse=True)
    exact = _reference.attention(q, k, v)[0]
    best = k[0, :, 0] == k.max()
    np.testing.assert_allclose(exact[0, 0], v[0, best].astype(float).mean(axis=0), rtol=1e-6)
    assert excess(output.context, exact, np.abs(exact) + 0.1, BFLOAT16, 2) <= 1
    largest = float(q[0, 0, 0]) * float(k.max())
    np.testing.assert_allclose(output.lse, largest + np.log(best.sum()), rtol=1e-6)
    gradients = backward(d)
    right = np.where(best[:, None], d.astype(float).sum(axis=1) / best.sum(), 0)
    assert excess(gradients.value[0], right, np.abs(right) + rows * 2.0**-8, BFLOAT16, 4) <= 1
    assert all(np.isfinite(x.astype(np.float32)).all() for x in gradients[:2])


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("small", ["query", "key"])
def test_subnormal_numbers_meet_large_ones(rows, small):
    """Of which the unit would make scores of zero."""
    q, k, v = arrays(BFLOAT16, (2, rows, 24), (2, 150, 24), (2, 150, 32))
    tiny, large = (q, k) if small == "query" else (k, q)
    tiny[:] = (tiny.astype(np.float32).clip(-1.9, 1.9) * np.float32(2.0**-127)).astype(BFLOAT16)
    large[:] = (large.astype(np.float32) * np.float32(2.0**122)).astype(BFLOAT16)
    tiny[..., 4:] = 0
    exact, sizes = (_reference.attention(q, k, x, scale=8.0)[0] for x in (v, np.abs(v)))
    flat = v.astype(float).mean(axis=1, keepdims=True) + np.zeros_like(exact)
    assert excess(flat, exact, sizes, BFLOAT16, 2) > 3  # what there would be without such scores
    assert excess(fastattn.attention(q, k, v, scale=8.0), exact, sizes, BFLOAT16, 2) <= 1


def test_a_nan_in_a_query_reaches_its_row_alone():
    q, k, v = arrays(BFLOAT16, (2, 40, 24), (2, 70, 24), (2, 70, 20))
    before = fastattn.attention(q, k, v)
    q[:, 7, 3] = np.nan
    after = fastattn.attention(q, k, v)
    rows = [i for i in range(40) if i != 7]
    assert same_bits([after[:, rows]], [before[:, rows]]) and np.isnan(after[:, 7].astype(np.float32)).all()


@pytest.mark.parametrize("rows", [1, 40])
def test_weights_that_are_all_rounded_to_one_side_stay_within_the_gate(rows):
    """300 weights that grow by 0.99 u when they are rounded, the one that counts becomes 0.99 u less, and the context
    is rounded by 0.9 u: were it divided by the sum of rounded weights, it would be at 1.41 of the gate."""
    scale = float(np.float32(2.756939))
    k = np.full((1, 302, 1), -0.25, BFLOAT16)
    k[0, :2, 0] = 0, -3.015625
    v = np.zeros((1, 302, 1), BFLOAT16)
    for size in (1.28125, 1.3046875):
        v[0, 1] = size
        q = np.ones((1, rows, 1), BFLOAT16)
        exact = _reference.attention(q, k, v, scale=scale)[0]
        context = fastattn.attention_vjp(q, k, v, scale=scale)[0]
        assert same_bits([context], [fastattn.attention(q, k, v, scale=scale)])
        assert excess(context, exact, exact, BFLOAT16, 2) <= 1


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("weight, far, near", [(-111, 117, 1), (-102, 53, -82), (-122, 72, -98)])
def test_large_values_count_with_weights_as_small(rows, weight, far, near):
    """A value of 2^far with a weight of 2^weight, beside one of 2^near that has nearly all."""
    k = np.zeros((1, 40, 1), BFLOAT16)
    k[0, :, 0] = -1000
    k[0, :2, 0] = 0, weight
    v = np.zeros((1, 40, 3), BFLOAT16)
    v[0, 0], v[0, 1] = 2.0**near, 2.0**far
    q = np.ones((1, rows, 1), BFLOAT16)
    scale = float(np.float32(np.log(2)))
    exact = _reference.attention(q, k, v, scale=scale)[0]
    context, residuals = fastattn.attention_forward(q, k, v, scale=scale)
    assert excess(context, exact, exact, BFLOAT16, 2) <= 1 and excess(residuals.context, exact, exact, BFLOAT16, 2) <= 1


def test_constant_values_come_out_as_they_went_in():
    """Before they are rounded: what the backward pass has is divided by the sum of rounded weights."""
    q, k = arrays(BFLOAT16, (3, 40, 24), (3, 300, 24))
    v = np.full((3, 300, 33), 3.140625, BFLOAT16)
    context, residuals = fastattn.attention_forward(q, k, v)
    assert (context == v[:, :40]).all()
    assert np.abs(residuals.context / np.float32(3.140625) - 1).max() < 2.0**-20  # before it was rounded, too


@pytest.mark.parametrize("wide", [(40, 72), (64, 64)], ids=str)
@pytest.mark.parametrize("key_heads", [2, 4])
def test_rows_of_any_task_have_the_same_bits(key_heads, wide):
    """A row alone, in a block, against more keys than a block has, and on one thread or two."""
    of_key, of_value = (1, key_heads, 700, wide[0]), (1, key_heads, 700, wide[1])
    q, k, v, d = arrays(BFLOAT16, (1, 4, 70, wide[0]), of_key, of_value, (1, 4, 70, wide[1]))
    whole, lse = fastattn.attention(q, k, v, return_lse=True)[::2]
    apart = np.full((*k.shape[:-1], k.shape[-1] + 24), np.nan, BFLOAT16)  # rows have neighbours that are not theirs
    apart[..., : k.shape[-1]] = k
    for rows in (slice(0, 1), slice(5, 10), slice(3, 20), slice(31, 64)):
        part = fastattn.attention(q[:, :, rows], apart[..., : k.shape[-1]], v, return_lse=True)
        assert same_bits([part.context, part.lse], [whole[:, :, rows], lse[:, :, rows]])
    mask = np.random.default_rng(0).random((1, 1, 70, 700)) < 0.9  # which leaves rows as rows
    masked = fastattn.attention(q, k, v, mask=mask)
    for rows in (slice(0, 1), slice(5, 10), slice(31, 64)):
        part = fastattn.attention(q[:, :, rows], k, v, mask=mask[:, :, rows])
        assert same_bits([part], [masked[:, :, rows]])
    threads = fastattn.get_num_threads()
    found = []
    try:
        for count in (1, 2, 5):
            fastattn.set_num_threads(count)
            context, backward = fastattn.attention_vjp(q, k, v)
            found.append([context, *backward(d)[:3]])
    finally:
        fastattn.set_num_threads(threads)
    assert all(same_bits(one, found[0]) for one in found) and same_bits([found[0][0]], [whole])


@pytest.mark.parametrize("limit", ["none", "causal", "window", "lengths"])
@pytest.mark.parametrize("what", ["as they are", "large scores", "far values", "an infinite key"])
def test_many_rows_have_the_bits_of_few_whatever_comes_late(what, limit):
    """As columns, until there is something in them or in a later chunk of keys that is not for tiles of columns."""
    widths = (64, 96) if what == "as they are" else (40, 33)
    q, k, v = arrays(BFLOAT16, (2, 75, widths[0]), (2, 1300, widths[0]), (2, 1300, widths[1]))
    if what == "large scores":
        q[:, 5::16, 3] = 2.0**12
        k[0, 500, 3] = k[1, 20, 3] = 2.0**9
    elif what == "far values":
        v[:, 1200, 7], v[:, 1201, 8] = 2.0**-100, 2.0**90
    elif what == "an infinite key":
        k[:, 1100, 3] = np.inf
    options = {
        "none": {},
        "causal": {"causal": "bottom_right"},
        "window": {"window": (300, 500), "causal": None},
        "lengths": {"key_lengths": np.array([1290, 5])},
    }[limit]

    def results(rows, **options):
        found, residuals = fastattn.attention_forward(q[:, rows], k, v, return_lse=True, **options)
        plain = fastattn.attention(q[:, rows], k, v, **options)
        return [one_nan(x) for x in (plain, found.context, found.lse, residuals.context)]

    whole = results(slice(None), **options)
    assert same_bits(whole[:1], whole[1:2])
    if limit == "causal":  # the last rows of fewer are those of many
        for few in (1, 5, 16, 17, 40):
            assert same_bits(results(slice(75 - few, 75), **options), [x[:, 75 - few :] for x in whole])
    elif limit == "window":
        assert same_bits(results(slice(0, 9), **options), [x[:, :9] for x in whole])
    else:
        for rows in (slice(0, 1), slice(5, 6), slice(3, 12), slice(20, 36), slice(2, 21), slice(37, 70)):
            assert same_bits(results(rows, **options), [x[:, rows] for x in whole])


@pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT16], ids=name)
@pytest.mark.parametrize("case", FEW, ids=name)
def test_gradients_of_lse_alone(case, dtype):
    check_gradients(case, dtype, ("d_lse",))


def test_parameters_of_another_type_are_refused_by_what_they_should_be():
    """The query is not of float32, so that "the dtype of query" would be no advice."""
    x, w = np.ones((2, 3), np.float16), np.ones((3, 3), np.float16)
    for call in (
        lambda w: fastattn.attention(x, x, x, score=fastattn.scores.General(w)),
        lambda w: fastattn.prepare(x, x, score=fastattn.scores.General(w)),
    ):
        with pytest.raises(fastattn.DTypeError, match=r"float32 for a query of float16, got float64"):
            call(np.ones((3, 3)))
        call(w.astype(np.float32))
