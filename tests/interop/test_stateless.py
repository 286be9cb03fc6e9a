"""`attention_forward` and `attention_backward`: the bits of `attention_vjp`, and no state between them."""

import numpy as np
import pytest
from cases import CASES, make, options
from checks import same_bits

import fastattn
from fastattn.positions import RelativeBias

NAMES = ["scaled_dot-everything", "additive-everything", "cosine-3d", "additive-31-keys"]
SOME = [case for case in CASES if case.name in NAMES] + [
    next(case for case in CASES if case.score == score) for score in ("general", "concat", "location", "l1")
]


def listed(gradients):
    """All arrays of a `Gradients`."""
    parts = (*gradients[:4], *gradients.score.values(), *gradients.normalizer.values())
    return [part for part in parts if part is not None]


def both(p, given, d, **asked):
    """What `attention_vjp` gives, and what the two halves give, each with copies of everything."""
    output, backward = fastattn.attention_vjp(*p.arrays, **given, **asked)
    found, residuals = fastattn.attention_forward(*(x.copy() for x in p.arrays), **given, **asked)
    residuals = fastattn.Residuals(*(None if x is None else x.copy() for x in residuals))
    gradients = fastattn.attention_backward(*(x.copy() for x in p.arrays), residuals, **d, **given)
    return (output, backward(**d)), (found, gradients)


@pytest.mark.parametrize("case", SOME, ids=lambda case: case.name)
def test_the_halves_have_the_bits_of_the_whole(case):
    p = make(case)
    d = {name: getattr(p, name) for name in ("d_context", "d_weights", "d_lse")}
    (output, expected), (found, gradients) = both(p, options(p), d, return_weights=True, return_lse=True)
    assert same_bits(output, found)
    assert gradients.score.keys() == expected.score.keys()
    assert same_bits(listed(expected), listed(gradients))


@pytest.mark.parametrize("normalizer", ["sparsemax", fastattn.normalizers.Entmax(1.3)], ids=str)
def test_the_halves_of_sparse_weights(normalizer):
    p = make(SOME[0])
    given = {**options(p), "normalizer": normalizer}
    (output, expected), (found, gradients) = both(p, given, {"d_context": p.d_context})
    assert same_bits([output], [found]) and same_bits(listed(expected), listed(gradients))


def test_residuals_are_two_numbers_a_row_and_the_context_itself():
    q = np.ones((2, 3, 5, 4), np.float32)
    context, residuals = fastattn.attention_forward(q, q, q)
    assert residuals.context is context and residuals.weights is None
    assert residuals.row_max.shape == residuals.row_sum.shape == (2, 3, 5)
    assert not any(np.shares_memory(part, q) for part in residuals[:3])


def test_gradients_near_the_largest_number_are_found_once_more():
    q = np.ones((3, 4), np.float32)
    v = np.full((3, 4), 1e30, np.float32)
    d = np.full((3, 4), 1e20, np.float32)
    _, backward = fastattn.attention_vjp(q, q, v)
    _, residuals = fastattn.attention_forward(q, q, v)
    assert same_bits(listed(backward(d)), listed(fastattn.attention_backward(q, q, v, residuals, d)))


@pytest.mark.parametrize("bias", [np.ones((5, 5), np.float32), RelativeBias(np.ones(9, np.float32))], ids=type)
@pytest.mark.parametrize("score", ["dot", fastattn.scores.Location(np.ones((4, 5), np.float32))], ids=str)
def test_a_gradient_of_the_bias_is_made_where_it_is_asked_for(bias, score):
    q = np.random.default_rng(0).normal(size=(1, 5, 4)).astype(np.float32)
    context, residuals = fastattn.attention_forward(q, q, q, bias=bias, score=score)
    found, less = (
        fastattn.attention_backward(q, q, q, residuals, context, bias=bias, score=score, bias_gradient=wanted)
        for wanted in (True, False)
    )
    assert found.bias is not None and less.bias is None
    assert same_bits(found[:3], less[:3]) and same_bits(listed(found)[4:], listed(less)[3:])
