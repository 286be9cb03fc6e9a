"""A compact part of the case table, forward and backward, at the level that FASTATTN_ISA forces: a script."""

import sys

import numpy as np
from cases import CASES, SPARSE
from checks import check_forward, check_gradients
from variant_cases import CASES as VARIANTS
from variant_cases import derivative, label, make

import fastattn

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
    for case in VARIANTS:
        try:
            check_variant(case)
        except AssertionError as error:
            failures.append(f"{label(case)}: {error}")
    print("\n".join(failures) or f"{len(chosen)} cases")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
