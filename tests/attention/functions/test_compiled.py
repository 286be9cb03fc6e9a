"""Functions of Python, compiled, in attention: values and gradients against the twin with what they are in NumPy."""

import compiled_scores as scores
import numpy as np
import pytest
from cases import AttentionCase, make, twin_options

import fastattn
from fastattn import _reference
from fastattn._reference.attention import Modifier

BOUND = {one.name: one for one in scores.bound()}
# A parameter by head, one number, a look-up of two indices, and of a sample and a key; a kink at what is masked.
NAMES = ("alibi", "softcap", "relative", "key_gate", "elsewhere")
SHAPE = {"batch": (scores.B, scores.H), "tq": scores.TQ, "tk": scores.TK, "dk": 9, "dv": 5, "key_lengths": (70, 33)}

LEAST = 2.0**10  # weights below twice the smallest normal number are 0 in gradients


@pytest.mark.parametrize("normalizer", ["softmax", "sparsemax"])
@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients(name, normalizer):
    problem = make(AttentionCase("compiled", **SHAPE, normalizer=normalizer))
    bound = BOUND[name]
    context, backward = fastattn.attention_vjp(*problem.arrays, **problem.rest, score_mod=bound)
    found = backward(problem.d_context)
    rest = {**twin_options(problem), "score_mod": Modifier(bound.evaluate, bound.evaluate_vjp)}
    right = _reference.attention_vjp(*problem.arrays, **rest, d_context=problem.d_context)
    pairs = [(context, _reference.attention(*problem.arrays, **rest)[0])]
    pairs += [(getattr(found, part), getattr(right, part)) for part in ("query", "key", "value")]
    assert found.score.keys() == right.score.keys() == set(bound.trained)
    pairs += [(found.score[parameter], right.score[parameter]) for parameter in found.score]
    for x, wanted in pairs:
        assert np.abs(x - wanted).max() <= 2e-5 * max(1, np.abs(wanted).max())


def test_a_score_that_is_not_used_gets_no_gradient():
    """A value that is NaN makes the gradients of all scores NaN, of those that nobody reads, too."""
    first = fastattn.score_mod(lambda score, b, h, i, j: np.where(j == 0, 1.0, 2 * score))
    problem = make(AttentionCase("compiled", **{**SHAPE, "key_lengths": None}))
    problem.value[:, :, 5] = np.nan
    _, backward = fastattn.attention_vjp(*problem.arrays, score_mod=first())
    d_key = backward(problem.d_context).key
    assert (d_key[:, :, 0] == 0).all() and np.isnan(d_key[:, :, 1:]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_too_small_for_a_normal_number(dtype):
    """Distances of ALiBi take weights through the subnormal numbers to 0: gradients are those of larger ones."""
    shape = {"batch": (1, 1), "tq": 200, "tk": 1000, "dk": 9, "dv": 5, "dtype": dtype}
    problem = make(AttentionCase("far", **shape))
    slope = 0.5 if dtype == "float32" else 4.0
    far = np.abs(np.arange(200)[:, None] - np.arange(1000))
    bias = (-slope * far).astype(dtype)
    _, backward = fastattn.attention_vjp(*problem.arrays, score_mod=scores.alibi(slopes=np.array([slope], dtype)))
    found = backward(problem.d_context)
    right = _reference.attention_vjp(*problem.arrays, **twin_options(problem), bias=bias, d_context=problem.d_context)
    close = 3e-5 if dtype == "float32" else 1e-12
    for part in ("query", "key", "value"):
        x, wanted = getattr(found, part), getattr(right, part)
        most = np.abs(wanted).max(axis=-1, keepdims=True)
        assert (np.abs(x - wanted) <= 30 * close * most + LEAST * np.finfo(dtype).tiny).all(), part
    wanted = -(right.bias * far).sum()
    assert abs(found.score["slopes"][0] - wanted) <= close * abs(wanted) * 100
    weights = np.abs(found.value[0, 0]).max(axis=-1)
    assert (weights[:190] > 0.01).all() and (weights[600:] == 0).all()
