"""A compact part of the case table, forward and backward, at the level that FASTATTN_ISA forces: a script."""

import sys

import numpy as np
from cases import CASES, SPARSE
from checks import check_forward, check_gradients, same_bits
from variant_cases import CASES as VARIANTS
from variant_cases import derivative, label, make

import fastattn
from fastattn.testing import check_score

EVERY = 3


def check_variant(case):
    """Contexts of a variant against the twin, and its gradients along one direction against a difference of it.

    Single elements of gradients are compared at the level that the suite runs at.
    """
    problem = make(case, keys=21)
    context, _ = case.expected(problem)
    output, backward = problem.variant.vjp(problem.queries, problem.prepare())
    rng = np.random.default_rng(0)
    d_context = rng.normal(size=output.shape)
    gradients = backward(d_context)
    assert np.allclose(output, context, rtol=1e-12, atol=1e-13), "contexts"
    for name, gradient in zip(("queries", "memory"), gradients):
        direction = rng.normal(size=gradient.shape)
        measured = derivative(lambda: (case.expected(problem)[0] * d_context).sum(), getattr(problem, name), direction)
        assert np.isclose((gradient * direction).sum(), measured, rtol=1e-6, atol=1e-6), name
    single = make(case, np.float32, keys=21)
    output = single.variant.forward(single.queries, single.prepare())
    assert np.allclose(output, case.expected(single)[0], rtol=1e-4, atol=1e-5), "contexts in float32"


@fastattn.score_mod
def softened(score, b, h, i, j, slopes, cap):
    return cap * np.tanh((score - slopes[h] * abs(i - j)) / cap)


@fastattn.pairwise_score
def weighted(q, k, w):
    return -w * np.log1p(np.square(q - k))


def check_functions():
    """User-written scores pass the kit, and a mask function has the bits of its array."""
    drawn = {
        "slopes": lambda rng, query, key, dtype: np.array([0.1], dtype),
        "cap": lambda rng, query, key, dtype: np.array(2.0, dtype),
    }
    certificates = [
        check_score(softened, options=drawn),
        check_score(weighted, options={"w": lambda rng, query, key, dtype: rng.uniform(0.5, 1, query).astype(dtype)}),
    ]
    assert all(one.passed and not one.failed for one in certificates), certificates
    q, k = (np.random.default_rng(0).normal(size=(1, n, 9)).astype(np.float32) for n in (70, 200))
    near = np.abs(np.arange(70)[:, None] - np.arange(200)) <= 66
    function = fastattn.mask_mod(lambda b, h, i, j: abs(i - j) <= 66)
    assert same_bits(*(fastattn.attention(q, k, k, mask=mask) for mask in (near, function)))


def main():
    wanted = sys.argv[1]
    level = fastattn.show_config(as_dict=True)["level"]
    assert level == wanted, f"level {level}, expected {wanted}"
    chosen = {case.name: case for case in CASES[::EVERY]}
    chosen.update({case.name: case for case in CASES if "everything" in case.name or "spread" in case.name})
    chosen.update({case.name: case for case in SPARSE[:: 2 * EVERY]})
    failures = []
    for case in chosen.values():
        for check in (check_forward, check_gradients):
            try:
                check(case)
            except AssertionError as error:
                failures.append(f"{case.name} {check.__name__}: {error}")
    try:
        check_functions()
    except AssertionError as error:
        failures.append(f"functions: {error}")
    for case in VARIANTS:
        try:
            check_variant(case)
        except AssertionError as error:
            failures.append(f"{label(case)}: {error}")
    print("\n".join(failures) or f"{len(chosen)} cases")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
