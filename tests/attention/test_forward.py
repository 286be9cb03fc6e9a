"""Context, weights and log-sum-exp of every case against the float64 twin."""

import numpy as np
import pytest
from cases import CASES, SCORES, make, options
from checks import check_forward, same_bits

import fastattn
from fastattn import _reference


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_forward(case):
    check_forward(case)


@pytest.mark.parametrize("case", [c for c in CASES if c.name in ("dot-17-keys", "additive-3d", "scaled_dot-4d")])
def test_out_is_filled_and_returned(case):
    problem = make(case)
    expected = fastattn.attention(*problem.arrays, **options(problem))
    out = np.full_like(expected, np.nan)
    assert fastattn.attention(*problem.arrays, **options(problem), out=out) is out
    assert same_bits(out, expected)


def test_fields_not_asked_for_are_none():
    problem = make(next(c for c in CASES if c.name == "scaled_dot-3d"))
    bare = fastattn.attention(*problem.arrays)
    assert isinstance(bare, np.ndarray)
    with_lse = fastattn.attention(*problem.arrays, return_lse=True)
    assert with_lse.weights is None and with_lse.lse is not None
    with_weights = fastattn.attention(*problem.arrays, return_weights=True)
    assert with_weights.lse is None and with_weights.weights is not None
    assert same_bits([bare], [with_lse.context]) and same_bits([bare], [with_weights.context])
    assert isinstance(with_lse, fastattn.AttentionOutput)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_weights_sum_to_one(dtype):
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, n, 16)).astype(dtype) for n in (9, 1000, 1000))
    weights = fastattn.attention(q, k, v, return_weights=True).weights
    assert np.abs(weights.astype(np.float64).sum(-1) - 1).max() <= 4 * np.finfo(dtype).eps


@pytest.mark.parametrize("score", SCORES)
def test_a_scale_of_zero_weighs_all_keys_alike(score):
    problem = make(next(c for c in CASES if c.name == f"{score}-3d"))
    weights = fastattn.attention(*problem.arrays, **{**options(problem), "scale": 0}, return_weights=True).weights
    assert np.abs(weights - 1 / problem.case.tk).max() <= 2 * np.finfo(np.float32).eps


@pytest.mark.parametrize("one_sided", [False, True])
@pytest.mark.parametrize("spread", [0.001, 0.05, 1.0, 5.0])
@pytest.mark.parametrize("da", [16, 128, 512])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_additive_scores_are_no_worse_than_the_direct_float32_evaluation(activation, da, spread, one_sided):
    """Over one key, lse is the score. Direct: each activation rounded to float32, the products added in order."""
    rng = np.random.default_rng(da)
    q, k = ((rng.standard_normal((n, da)) * spread).astype(np.float32) for n in (300, 1))
    v = (1 + 0.1 * rng.random(da) if one_sided else rng.standard_normal(da)).astype(np.float32)
    score = fastattn.scores.Additive(v, activation=activation)
    ours = fastattn.attention(q, k, k, score=score, return_lse=True).lse
    x = q.astype(np.float64) + k
    act = _reference.tanh if activation == "tanh" else _reference.sigmoid
    exact = act(x) @ v.astype(np.float64)
    direct = np.cumsum(act((q + k).astype(np.float64)).astype(np.float32) * v, axis=-1, dtype=np.float32)[:, -1]
    error, allowed = (np.sqrt(np.mean((found - exact) ** 2)) for found in (ours, direct))
    # The direct activation is rounded from float64 here; one of 3 ulp has up to six times that error in each term.
    assert error <= 3 * allowed


def _memory_options():
    rng = np.random.default_rng(8)
    q, k, v = (rng.standard_normal((3, n, 8)).astype(np.float32) for n in (4, 21, 21))
    return q, k, v, np.array([21, 5, 0]), rng.random((3, 1, 21)) < 0.7


@pytest.mark.parametrize("score", ["scaled_dot", "cosine", "additive"])
def test_a_prepared_memory_attends_with_the_same_bits(score):
    q, k, v, lengths, mask = _memory_options()
    if score == "additive":
        rng = np.random.default_rng(9)
        parts = [rng.standard_normal(s).astype(np.float32) for s in ((6,), (8, 6), (8, 6))]
        score = fastattn.scores.Additive(*parts)
    memory = fastattn.prepare(k, v, score=score, key_lengths=lengths, mask=mask)
    expected = fastattn.attention(q, k, v, score=score, key_lengths=lengths, mask=mask)
    assert same_bits(memory.attend(q), expected)
    order = np.array([2, 0, 0, 1])
    assert same_bits(memory.select(order).attend(q[order]), expected[order])


def test_an_appended_memory_attends_with_the_same_bits():
    q, k, v, _, _ = _memory_options()
    memory = fastattn.prepare(k[:, :3], v[:, :3])
    for start, stop in ((3, 4), (4, 5), (5, 21)):
        grown = memory.append(k[:, start:stop], v[:, start:stop])
        memory = memory if grown is None else grown
        assert same_bits(memory.attend(q), fastattn.attention(q, k[:, :stop], v[:, :stop]))
