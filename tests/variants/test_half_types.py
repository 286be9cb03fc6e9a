"""Variants with arrays of half types."""

import numpy as np
import pytest
from checks import narrow_and_wide, same_rounded
from variant_cases import CASES, label, make

HALVES = [np.dtype(np.float16), np.dtype(pytest.importorskip("ml_dtypes").bfloat16)]


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=label)
def test_variants(case, half):
    """The memory, queries and gradients of a half type; contexts, weights and gradients come back in it."""
    problem = make(case, np.float32, masked=False)
    variant = problem.variant
    narrow = [x.astype(half) for x in (problem.memory, problem.queries)]
    d, wide_d = narrow_and_wide(half, *variant.forward(problem.queries, problem.prepare()).shape)
    results = []
    for (memory, queries), d_context in ((narrow, d), ([x.astype(np.float32) for x in narrow], wide_d)):
        prepared = variant.prepare(memory, problem.lengths)
        output, backward = variant.vjp(queries, prepared, return_weights=True)
        gradients = backward(d_context)
        context, weights, _ = variant.step(queries[:, 0], prepared, variant.start(prepared))
        results.append((tuple(output)[:2], gradients, context, weights, variant.forward(queries, prepared)))
    assert same_rounded(*results, half)
