"""Every gradient: against the twin on all cases, and against central differences of the forward pass on small ones."""

import dataclasses

import numpy as np
import pytest
from cases import CASES, SMALL, library_score, make
from checks import check_gradients

import fastattn

ALL_PARTS = ("d_context", "d_weights", "d_lse")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradients(case):
    check_gradients(case)


@pytest.mark.parametrize("case", [c for c in CASES if c.tk <= 70 and c.tq <= 70], ids=lambda case: case.name)
def test_gradients_of_all_three_outputs(case):
    check_gradients(case, ALL_PARTS)


@pytest.mark.parametrize("part", ["d_weights", "d_lse"])
@pytest.mark.parametrize("name", ["scaled_dot-everything", "additive-everything", "cosine-3d", "additive-31-keys"])
def test_gradients_of_one_output_alone(name, part):
    check_gradients(next(c for c in CASES if c.name == name), (part,))


def _loss(problem, arrays):
    parameters = {name[2:]: x for name, x in arrays.items() if name.startswith("p.")}
    spec = dataclasses.replace(problem.score, parameters=parameters)
    rest = {**problem.rest, "score": library_score(spec)}
    if "bias" in rest:
        rest["bias"] = arrays["bias"]
    out = fastattn.attention(
        arrays["query"], arrays["key"], arrays["value"], **rest, return_weights=True, return_lse=True
    )
    lse = np.where(np.isfinite(out.lse), out.lse * problem.d_lse, 0.0)
    return float((out.context * problem.d_context).sum() + (out.weights * problem.d_weights).sum() + lse.sum())


def _central(problem, arrays, name, step=1e-5):
    """d loss / d arrays[name]; the error is about step^2 = 1e-10 from the third derivative plus eps / step = 2e-11."""
    gradient = np.zeros(arrays[name].shape)
    for at in np.ndindex(gradient.shape):
        ends = []
        for sign in (1, -1):
            moved = arrays[name].copy()
            moved[at] += sign * step
            ends.append(_loss(problem, {**arrays, name: moved}))
        gradient[at] = (ends[0] - ends[1]) / (2 * step)
    return gradient


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_gradients_against_central_differences(case):
    problem = make(case)
    arrays = {"query": problem.query, "key": problem.key, "value": problem.value}
    arrays.update({f"p.{name}": p for name, p in problem.score.parameters.items()})
    if "bias" in problem.rest:
        arrays["bias"] = problem.rest["bias"]
    rest = {**problem.rest, "score": library_score(problem.score)}
    _, backward = fastattn.attention_vjp(*problem.arrays, **rest, return_weights=True, return_lse=True)
    gradients = backward(problem.d_context, d_weights=problem.d_weights, d_lse=problem.d_lse)
    found = {"query": gradients.query, "key": gradients.key, "value": gradients.value, "bias": gradients.bias}
    found.update({f"p.{name}": g for name, g in gradients.score.items()})
    for name in arrays:
        expected = _central(problem, arrays, name)
        # 1e-7 of the largest entry: a hundred times the differences' own error, a tenth of the 1e-6 usually asked.
        assert np.abs(found[name] - expected).max(initial=0) <= 1e-7 * (1 + np.abs(expected).max(initial=0)), name


def test_backward_twice_gives_the_same_and_linear_answers():
    problem = make(next(c for c in CASES if c.name == "scaled_dot-everything"))
    rest = {**problem.rest, "score": library_score(problem.score)}
    _, backward = fastattn.attention_vjp(*problem.arrays, **rest)
    first, again = backward(problem.d_context), backward(problem.d_context)
    double = backward(2 * problem.d_context)
    for a, b, c in zip(first[:3], again[:3], double[:3]):
        assert a.tobytes() == b.tobytes() and np.array_equal(2 * a, c)


def test_backward_of_nothing_is_zero():
    problem = make(next(c for c in CASES if c.name == "additive-everything"))
    rest = {**problem.rest, "score": library_score(problem.score)}
    _, backward = fastattn.attention_vjp(*problem.arrays, **rest)
    gradients = backward(np.zeros_like(problem.d_context))
    for x in (*gradients[:4], *gradients.score.values()):
        assert not x.any()
