"""The gradient of one query from kept weights, for a decoder's loop: that of all queries at once, and of the twin."""

import numpy as np
import pytest
from cases import OWN
from checks import same_bits

import fastattn
from fastattn._kernels import core
from fastattn._reference.query_gradient import query_gradient
from fastattn.scores import resolve
from fastattn.scores.base import kernel_score


def problem(dtype, batch=3, steps=4, keys=5, width=7, value_width=37, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, keys + 1, batch)
    sizes = [(batch, steps, width), (batch, keys, width), (batch, keys, value_width), (batch, steps, value_width)]
    query, key, value, d_context = (rng.normal(size=size).astype(dtype) for size in sizes)
    return query, key, value, d_context, lengths, rng.normal(size=width).astype(dtype)


def steps(score, query, key, value, d_context, lengths):
    """Gradients of queries and scores, one query a call, and the weights that they are made of."""
    score = resolve(score)
    options = {"key_lengths": lengths, "scale": 1, "return_weights": True}
    weights = fastattn.attention(query, key, value, score=score, **options).weights
    d_query, d_score = np.empty_like(query), np.empty_like(weights)
    for t in range(query.shape[1]):
        of_query, of_score = np.empty_like(query[:, t]), np.empty_like(weights[:, t])
        one = (np.ascontiguousarray(x[:, t]) for x in (query, weights, d_context))
        query_t, weights_t, d_context_t = one
        made = kernel_score(score, query.dtype)
        core.query_backward(query_t, core.Keys(key, value), made, 1.0, weights_t, d_context_t, of_query, of_score)
        d_query[:, t], d_score[:, t] = of_query, of_score
    return d_query, d_score, weights


@pytest.mark.parametrize("kind", ["dot", *OWN, "tanh", "sigmoid", "relu"])
def test_one_query_a_call_gives_what_all_at_once_give(kind):
    query, key, value, d_context, lengths, v = problem(np.float64, width=19, value_width=70)
    score = kind if kind in ("dot", *OWN) else fastattn.scores.Additive(v, activation=kind)
    _, backward = fastattn.attention_vjp(query, key, value, score=score, key_lengths=lengths, scale=1)
    d_query, _, _ = steps(score, query, key, value, d_context, lengths)
    np.testing.assert_allclose(d_query, backward(d_context).query, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("additive", [False, True])
@pytest.mark.parametrize(("keys", "width", "value_width"), [(1, 1, 1), (5, 16, 64), (9, 33, 131), (70, 8, 200)])
def test_gradients_of_a_step_are_those_of_the_twin(dtype, additive, keys, width, value_width):
    query, key, value, d_context, lengths, v = problem(dtype, 4, 2, keys, width, value_width)
    score = fastattn.scores.Additive(v) if additive else "dot"
    d_query, d_score, weights = steps(score, query, key, value, d_context, lengths)
    for t in range(query.shape[1]):
        vector = v if additive else None
        twin = query_gradient(query[:, t], key, value, weights[:, t], d_context[:, t], vector=vector)
        # dP sums Dv products of size 1, dS carries its error times P <= 1, d_query sums Tk of these times the slope.
        room = 8 * np.finfo(dtype).eps * (value_width + np.abs(d_score[:, t]).sum(-1, keepdims=True) + 1)
        assert (np.abs(d_score[:, t] - twin[1]) <= room).all()
        slopes = np.abs(v).max() if additive else np.abs(key).max()
        assert (np.abs(d_query[:, t] - twin[0]) <= room * slopes * keys).all()


@pytest.mark.parametrize("kind", ["dot", "additive", *OWN])
def test_bits_do_not_depend_on_batch_padding_or_threads(kind):
    query, key, value, d_context, lengths, v = problem(np.float32, batch=40, keys=30, width=80, value_width=130)
    score = fastattn.scores.Additive(v) if kind == "additive" else kind
    rows = np.arange(30) >= lengths[:, None]
    key[rows], value[rows] = np.nan, np.nan
    d_query, d_score, _ = steps(score, query, key, value, d_context, lengths)
    assert np.isfinite(d_query).all()
    for b in (0, 7, 39):
        one, n = slice(b, b + 1), lengths[b]
        alone = steps(score, query[one], key[one, :n], value[one, :n], d_context[one], lengths[one])
        assert same_bits(alone[0], d_query[one]) and same_bits(alone[1], d_score[one, :, :n].copy())
        assert (d_score[b, :, n:] == 0).all()
    threads = fastattn.get_num_threads()
    try:
        for n in (1, 3, 16):
            fastattn.set_num_threads(n)
            assert same_bits(steps(score, query, key, value, d_context, lengths)[:2], (d_query, d_score))
    finally:
        fastattn.set_num_threads(threads)
