"""The checks that one case goes through, forward and backward; tests/csrc/test_levels.py runs them level by level."""

import numpy as np
from bounds import ADDITIVE_BACKWARD_GATE, BACKWARD_GATE, FORWARD_GATE, Units, worst
from bounds_sparse import SparseUnits
from cases import make, options, twin_options

import fastattn
from fastattn import _reference


def require(name, result, twin, unit, dtype, gate):
    """Fail unless result is within its gate of the twin."""
    assert result.dtype == dtype, f"{name} is {result.dtype}, expected {dtype}"
    measured = worst(result, twin, unit, dtype)
    assert measured <= gate, f"{name}: C = {measured:.3g}, gate {gate}"


def check_forward(case):
    """Context, weights and lse against the twin, and the bare context against the full call bit for bit."""
    problem = make(case)
    sparse = case.normalizer != "softmax"
    full = fastattn.attention(*problem.arrays, **options(problem), return_weights=True, return_lse=not sparse)
    twin = _reference.attention(*problem.arrays, **twin_options(problem))
    units = (SparseUnits if sparse else Units)(problem).forward()
    for name, result, expected, unit in zip(("context", "weights", "lse"), full, twin, units):
        if name == "lse" and sparse:
            assert result is None
            continue
        require(name, result, expected, unit, case.dtype, FORWARD_GATE)
    assert same_bits(fastattn.attention(*problem.arrays, **options(problem)), full.context)


def check_gradients(case, parts=("d_context",)):
    """Every gradient against the twin, for the cotangents named in parts."""
    problem = make(case)
    units = (Units if case.normalizer == "softmax" else SparseUnits)(problem)
    cotangents = units.cotangents({name: getattr(problem, name) for name in parts})
    _, backward = fastattn.attention_vjp(
        *problem.arrays, **options(problem), return_weights="d_weights" in parts, return_lse="d_lse" in parts
    )
    gradients = backward(**cotangents)
    twin = _reference.attention_vjp(*problem.arrays, **twin_options(problem), **cotangents)
    units = units.backward(**cotangents)
    score_gate = ADDITIVE_BACKWARD_GATE if case.score in ("additive", "concat") else BACKWARD_GATE
    for name, gate in (("query", score_gate), ("key", score_gate), ("value", BACKWARD_GATE)):
        require(f"d_{name}", *(getattr(g, name) for g in (gradients, twin, units)), case.dtype, gate)
    assert (gradients.bias is None) == (case.bias is None)
    if case.bias is not None:
        require("d_bias", gradients.bias, twin.bias, units.bias, case.dtype, BACKWARD_GATE)
    assert dict(gradients.score).keys() == twin.score.keys()
    for name in twin.score:
        require(f"d_{name}", gradients.score[name], twin.score[name], units.score[name], case.dtype, score_gate)


def flatten(result):
    """All arrays of an output or of gradients, in order."""
    if result is None:
        return []
    if isinstance(result, np.ndarray):
        return [result]
    if isinstance(result, dict):
        return [result[name] for name in sorted(result)]
    return [x for part in result for x in flatten(part)]


def same_bits(left, right):
    """True when two results have the same shapes, dtypes and bits."""
    left, right = flatten(left), flatten(right)
    return len(left) == len(right) and all(
        a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in zip(left, right)
    )


def run_all(query, key, value, d_context, score, **rest):
    """Everything that a problem has to give, as one flat list of arrays: outputs, then gradients."""
    out, backward = fastattn.attention_vjp(query, key, value, score=score, return_weights=True, return_lse=True, **rest)
    return flatten(out) + flatten(backward(d_context))
