"""The kernel of decoder steps with each score that has no features: what attention gives of the same pairs."""

import numpy as np
import pytest

import fastattn
from fastattn._kernels import core
from fastattn.scores import resolve
from fastattn.scores.base import kernel_score


@pytest.mark.parametrize("width", [3, 16, 70])
@pytest.mark.parametrize("score", [name for name in core.SCORES if name not in ("additive", "pairwise")])
def test_steps_are_attention(score, width):
    rng = np.random.default_rng(width)
    query, key, value, d_context = (np.rint(rng.normal(size=(3, n, width))) for n in (4, 9, 9, 4))
    everything, record = np.zeros((3, 4), np.int64), kernel_score(resolve(score), query.dtype)
    steps = core.Steps(query, core.Keys(key, value), record, 0.3, everything, everything + 9)
    context, weights, total = np.empty_like(query), np.empty((3, 4, 9)), np.empty((3, 4))
    steps.forward(context, weights, weights, total)
    d_query, d_key = np.empty_like(query), np.zeros_like(key)
    steps.backward(d_context, None, d_query, None, None, d_key, None, None, None)
    wanted, backward = fastattn.attention_vjp(query, key, value, score=score, scale=0.3, return_weights=True)
    gradients = backward(d_context)
    found = (weights, wanted.weights), (context, wanted.context), (d_query, gradients.query), (d_key, gradients.key)
    for ours, theirs in found:
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)
