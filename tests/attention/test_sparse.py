"""Attention with sparse normalizers: against the float64 twin, central differences, and the promises of the kernels."""

import dataclasses

import numpy as np
import pytest
from cases import SPARSE, SPARSE_SMALL, AttentionCase, library_score, make
from checks import check_forward, check_gradients, same_bits
from sparse_problems import everything, families, problem, sparse

import fastattn
from fastattn import _reference, normalizers
from fastattn._reference.scores import ScoreSpec

# Twin and differences


@pytest.mark.parametrize("case", SPARSE, ids=lambda case: case.name)
def test_forward(case):
    check_forward(case)


@pytest.mark.parametrize("case", SPARSE, ids=lambda case: case.name)
def test_gradients(case):
    check_gradients(case)


@pytest.mark.parametrize("case", [c for c in SPARSE if c.tk <= 70 and c.tq <= 70], ids=lambda case: case.name)
def test_gradients_of_context_and_weights(case):
    check_gradients(case, ("d_context", "d_weights"))


def _loss(p, arrays):
    parameters = {name[2:]: x for name, x in arrays.items() if name.startswith("p.")}
    spec = ScoreSpec(p.score.name, parameters, p.score.activation, p.score.softcap)
    rest = {**p.rest, "score": library_score(spec)}
    if "bias" in rest:
        rest["bias"] = arrays["bias"]
    if "alpha" in arrays:
        rest["normalizer"] = normalizers.Entmax(arrays["alpha"])
    out = fastattn.attention(arrays["query"], arrays["key"], arrays["value"], **rest, return_weights=True)
    return float((out.context * p.d_context).sum() + (out.weights * p.d_weights).sum())


@pytest.mark.parametrize("case", SPARSE_SMALL, ids=lambda case: case.name)
def test_gradients_against_central_differences(case):
    p = make(case)
    arrays = {"query": p.query, "key": p.key, "value": p.value}
    arrays.update({f"p.{name}": x for name, x in p.score.parameters.items()})
    if "bias" in p.rest:
        arrays["bias"] = p.rest["bias"]
    rest = {**p.rest, "score": library_score(p.score)}
    _, backward = fastattn.attention_vjp(*p.arrays, **rest, return_weights=True)
    gradients = backward(p.d_context, d_weights=p.d_weights)
    found = {"query": gradients.query, "key": gradients.key, "value": gradients.value, "bias": gradients.bias}
    found.update({f"p.{name}": x for name, x in gradients.score.items()})
    if case.normalizer == "entmax":
        arrays["alpha"], found["alpha"] = np.array(case.alpha), gradients.normalizer["alpha"]
    # 1.3-entmax bends at p = 0 like y^(7/3): over a step of 1e-5 and weights of that size the error is below 1e-6.
    room = 1e-7 if case.normalizer == "sparsemax" else 2e-6
    for name, array in arrays.items():
        expected = np.zeros(array.shape)
        for at in np.ndindex(array.shape):
            ends = []
            for sign in (1, -1):
                moved = array.copy()
                moved[at] += sign * 1e-5
                ends.append(_loss(p, {**arrays, name: moved}))
            expected[at] = (ends[0] - ends[1]) / 2e-5
        assert np.abs(found[name] - expected).max(initial=0) <= room * (1 + np.abs(expected).max(initial=0)), name


@pytest.mark.parametrize("alpha", [1.0, 1.0001, 1.01, 1.25, 1.5, 1.75, 2.0, (1.0, 1.5, 1.9, 2.0)])
def test_the_gradient_of_alpha_is_that_of_the_twin(alpha):
    """The twin's form cancels as alpha goes to 1: it loses eps / (alpha - 1)^2."""
    p = make(AttentionCase("of-alpha", batch=(3, 4), tq=6, tk=33, dtype="float64"))
    normalizer = normalizers.Entmax(alpha=alpha)
    _, backward = fastattn.attention_vjp(*p.arrays, normalizer=normalizer)
    found = backward(p.d_context).normalizer["alpha"]
    expected = _reference.attention_vjp(*p.arrays, normalizer=normalizer, d_context=p.d_context).normalizer["alpha"]
    least = min((a - 1 for a in np.ravel(alpha) if a > 1), default=1)
    assert found.shape == np.shape(alpha)
    assert np.abs(found - expected).max() <= (1e-12 + 1e-15 / least**2) * (1 + np.abs(expected).max())


def test_alpha_of_one_is_softmax_and_of_two_is_sparsemax():
    p = problem("sparsemax", dtype="float64")
    soft = fastattn.attention(*p.arrays)
    assert np.abs(fastattn.attention(*p.arrays, normalizer=normalizers.Entmax(1.0)) - soft).max() <= 1e-14
    assert same_bits(everything(p)[:5], everything(p, normalizer=normalizers.Entmax(2.0))[:5])
    assert same_bits(everything(p, normalizer="entmax15"), everything(p, normalizer=normalizers.Entmax(1.5))[:5])
    assert same_bits(everything(p, normalizer="softmax"), everything(p, normalizer=normalizers.Softmax()))


@sparse
def test_gradients_of_alpha_and_parameters_come_back_in_their_dtype(name):
    p = problem(name)
    _, backward = fastattn.attention_vjp(*p.arrays, normalizer=normalizers.Entmax(np.float32(1.25)))
    assert backward(p.d_context).normalizer["alpha"].dtype == np.float32
    _, backward = fastattn.attention_vjp(*p.arrays, normalizer=name)
    assert sorted(backward(p.d_context).normalizer) == (["alpha"] if name == "entmax" else [])


# Semantics


@sparse
@families
def test_rows_that_may_attend_to_nothing_are_zero(name, score):
    p = problem(name, score)
    mask = np.ones((5, 7, 41), bool)
    mask[1, 2] = mask[3, :] = False
    context, weights, d_query, d_key, d_value = everything(p, mask=mask)[:5]
    for x in (context, weights, d_query):
        assert not x[1, 2].any() and not x[3].any() and not np.signbit(x[3]).any()
        assert np.isfinite(x).all()
    assert not d_key[3].any() and not d_value[3].any()


@sparse
@families
def test_what_is_masked_is_never_read(name, score):
    p = problem(name, score)
    mask = np.random.default_rng(3).random((5, 1, 41)) < 0.6
    expected = everything(p, mask=mask)
    for poison in (np.nan, np.inf):
        key, value = p.key.copy(), p.value.copy()
        key[~mask[:, 0]] = value[~mask[:, 0]] = poison
        assert same_bits(expected, everything(dataclasses.replace(p, key=key, value=value), mask=mask))


@sparse
@families
def test_what_has_no_weight_is_not_read(name, score):
    p = problem(name, score, tq=1, tk=300)
    expected = everything(dataclasses.replace(p, query=p.query * 3))
    unused = expected[1][:, 0] == 0
    assert unused.mean() > 0.05
    value = np.where(unused[..., None], np.float32(np.nan), p.value)
    found = everything(dataclasses.replace(p, query=p.query * 3, value=value))
    assert same_bits(expected, found)


@sparse
def test_nan_in_a_score_reaches_exactly_its_rows(name):
    p = problem(name, tq=3)
    plain = everything(p)
    query = p.query.copy()
    query[2, 1, 4] = np.nan
    context, weights, d_query = everything(dataclasses.replace(p, query=query))[:3]
    hit = np.zeros((5, 3), bool)
    hit[2, 1] = True
    assert np.isnan(context[hit]).all() and np.isnan(weights[hit]).all() and np.isnan(d_query[hit]).all()
    assert same_bits(plain[0][~hit], context[~hit]) and same_bits(plain[1][~hit], weights[~hit])


@sparse
def test_huge_scores_give_finite_results(name):
    big = np.finfo(np.float32).max
    bias = np.array([[big, -big, 0, big]], np.float32)
    q, kv = np.zeros((1, 4), np.float32), np.eye(4, dtype=np.float32)
    weights = fastattn.attention(q, kv, kv, bias=bias, normalizer=name, return_weights=True).weights
    assert np.allclose(weights, [[0.5, 0, 0, 0.5]], atol=1e-6)


@sparse
def test_an_lse_is_refused(name):
    p = problem(name)
    with pytest.raises(fastattn.UnsupportedError, match=r"(?s)return_lse.*Hint"):
        fastattn.attention(*p.arrays, normalizer=name, return_lse=True)
    with pytest.raises(fastattn.UnsupportedError, match="return_lse"):
        fastattn.prepare(*p.arrays[1:]).attend(p.query, normalizer=name, return_lse=True)
    _, backward = fastattn.attention_vjp(*p.arrays, normalizer=name)
    with pytest.raises(fastattn.UnsupportedError, match=r"(?s)d_lse.*Hint"):
        backward(p.d_context, d_lse=p.d_lse)


@pytest.mark.parametrize(
    ("alpha", "error"),
    [(0.9, ValueError), (2.1, ValueError), (np.nan, ValueError), ("x", TypeError), (np.ones((2, 2)), ValueError)],
)
def test_a_wrong_alpha_is_refused(alpha, error):
    with pytest.raises(error, match=r"(?s)alpha.*Hint"):
        normalizers.Entmax(alpha=alpha)


def test_alphas_of_another_number_of_heads_are_refused():
    p = problem("entmax")
    with pytest.raises(fastattn.ShapeError, match="alpha"):
        fastattn.attention(*p.arrays, normalizer=normalizers.Entmax((1.5, 1.5)))


def test_normalizers_are_frozen_and_equal_by_kind():
    assert normalizers.Sparsemax() == normalizers.resolve("sparsemax")
    with pytest.raises(dataclasses.FrozenInstanceError):
        normalizers.Entmax().alpha = 2.0
    given = np.array([1.5])
    kept = normalizers.Entmax(given)
    given[0] = 7
    assert kept.alpha[0] == 1.5
