"""Pairwise scores: sums over features of compiled functions, and their gradients."""

import compiled_scores as scores
import numpy as np
import pytest

import fastattn
from fastattn import jit

WIDTH = 70
BOUND = {one.name: one for one in scores.pairwise(WIDTH)}


def problem(dtype, rows, keys, width=WIDTH):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, width)).astype(dtype), rng.normal(size=(keys, width)).astype(dtype)


def tile(bound, query, key, lanes):
    """Scores by one call, the keys in a panel of so many lanes."""
    compiled = bound.compiled(query.dtype, query.shape[1])
    panel = np.full((query.shape[1], lanes), np.nan, query.dtype)
    panel[:, : len(key)] = key.T
    found = np.full((len(query), lanes + 1), np.nan, query.dtype)
    query = np.ascontiguousarray(np.pad(query, ((0, 0), (0, 3))))
    scores.TILE(compiled.forward)(
        scores.address(query), query.shape[1], len(query), scores.address(panel), lanes, len(key), len(panel),
        scores.address(found), found.shape[1], compiled.parameters,
    )  # fmt: skip
    assert np.isnan(found[:, len(key) :]).all()
    return found[:, : len(key)]


def backward(bound, query, key, d):
    compiled = bound.compiled(query.dtype, query.shape[1])
    d_query, d_key = np.zeros_like(query), np.zeros_like(key)
    totals, pointers = scores.sums(compiled)
    scores.TILE_BACKWARD(compiled.backward)(
        scores.address(d), d.shape[1], scores.address(query), scores.address(key), query.shape[1], len(query),
        len(key), query.shape[1], scores.address(d_query), scores.address(d_key), compiled.parameters,
        scores.address(pointers),
    )  # fmt: skip
    return d_query, d_key, bound.gradients([one if one.size else None for one in totals])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", BOUND)
def test_values_and_gradients(name, dtype):
    if dtype == np.float64 and name != "additive":
        pytest.skip("float64 of one")
    bound, close = BOUND[name], 3e-6 if dtype == np.float32 else 1e-13
    query, key = problem(dtype, 5, 30)
    wanted = bound.evaluate(query, key)
    np.testing.assert_allclose(tile(bound, query, key, 64), wanted, rtol=0, atol=close * np.abs(wanted).max())
    d = np.random.default_rng(1).normal(size=(5, 30)).astype(dtype)
    d[::2, ::3] = 0
    unread = key.copy()
    d[:, 7], unread[7] = 0, np.nan
    found = backward(bound, query, unread, d)
    wanted = bound.evaluate_vjp(query, key, d)
    for one, other in zip(found[:2], wanted[:2]):
        np.testing.assert_allclose(one, other, rtol=0, atol=close * np.abs(other).max())
    for parameter, other in wanted[2].items():
        np.testing.assert_allclose(found[2][parameter], other, rtol=0, atol=close * np.abs(other).max())
    assert found[2].keys() == wanted[2].keys()


@pytest.mark.parametrize("name", ["additive", "l1"])
def test_a_score_has_the_same_bits_in_any_tile(name):
    bound = BOUND[name]
    query, key = problem(np.float32, 5, 64)
    whole = tile(bound, query, key, 64)
    for lanes in (16, 48, 63, 80, 128, 1):
        part = min(lanes, 64)
        assert tile(bound, query, key[:part], lanes).tobytes() == whole[:, :part].tobytes()
        assert tile(bound, query[2:3], key[: part // 2], lanes).tobytes() == whole[2:3, : part // 2].tobytes()


def test_parameters_have_one_number_for_each_feature():
    with pytest.raises(fastattn.ShapeError, match=r"expected shape \(8,\), got shape \(70,\)"):
        BOUND["l1"].compiled(np.float32, 8)
    with pytest.raises(fastattn.UnsupportedError, match="a number, or has one for each feature"):
        scores.l1(w=np.ones((2, 3)))
    with pytest.raises(fastattn.UnsupportedError, match="read at each feature"):
        fastattn.pairwise_score(lambda q, k, w: q * k * w[0])(w=np.ones(3))


def test_no_features_make_no_score():
    query = np.ones((2, 0), np.float32)
    bound = jit.as_pairwise_score(lambda q, k: q * k)
    assert bound.evaluate(query, query).tolist() == [[0, 0], [0, 0]]
    bound.compiled(np.float32, 0)


def test_the_authors_derivative_is_used_and_checked():
    def ones(q, k):
        return 1.0, -1.0

    made = fastattn.pairwise_score(lambda q, k: q - k, derivative=ones, check=True)()
    query, key = problem(np.float32, 2, 3)
    d_query, d_key, _ = backward(made, query, key, np.ones((2, 3), np.float32))
    assert (d_query == 3).all() and (d_key == -2).all()
    wrong = fastattn.pairwise_score(lambda q, k: q + k, derivative=ones, check=True)()
    with pytest.raises(fastattn.ArgumentError, match="with respect to k"):
        wrong.compiled(np.float32, 3)
    with pytest.raises(fastattn.UnsupportedError, match="1 derivatives"):
        fastattn.pairwise_score(lambda q, k: q + k, derivative=lambda q, k: 1.0)()
