"""The checks that one case goes through, forward and backward; tests/csrc/test_levels.py runs them level by level."""

import numpy as np
from bounds import BACKWARD_GATE, FORWARD_GATE, PRODUCT_GATE, Units, worst
from bounds_sparse import SparseUnits
from cases import make, options, twin_options

import fastattn
from fastattn import _reference


def units_of(problem):
    """The units of error of a problem."""
    return (Units if problem.case.normalizer == "softmax" else SparseUnits)(problem)


def score_gate(case):
    """The gate of the gradients of query, key and the score's parameters."""
    products = case.score in ("additive", "concat") or case.normalizer != "softmax"
    return PRODUCT_GATE if products else BACKWARD_GATE


def twin(problem, d_context=None):
    """Outputs and, with d_context, gradients by the twin, and their units of error, both by name.

    Units are such that `FORWARD_GATE` and `BACKWARD_GATE` hold for all. A row whose gradient may jump has any.
    """
    units, names = units_of(problem), ("context", "weights", "lse")
    values = dict(zip(names, _reference.attention(*problem.arrays, **twin_options(problem))))
    sizes = dict(zip(names, units.forward()))
    if d_context is not None:
        gradients = _reference.attention_vjp(*problem.arrays, **twin_options(problem), d_context=d_context)
        unit = units.backward(d_context, np.where(units.jumps, 1e30, 0.0))
        share = score_gate(problem.case) / BACKWARD_GATE
        for found, x, factor in ((values, gradients, 1), (sizes, unit, share)):
            parts = {"query": x.query, "key": x.key, **x.score}
            found |= {"d_value": x.value, **{f"d_{name}": factor * array for name, array in parts.items()}}
            if x.bias is not None:
                found["d_bias"] = x.bias
    return values, sizes


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
    right = _reference.attention(*problem.arrays, **twin_options(problem))
    units = units_of(problem).forward()
    for name, result, expected, unit in zip(("context", "weights", "lse"), full, right, units):
        if name == "lse" and sparse:
            assert result is None
            continue
        require(name, result, expected, unit, case.dtype, FORWARD_GATE)
    assert same_bits(fastattn.attention(*problem.arrays, **options(problem)), full.context)


def check_gradients(case, parts=("d_context",)):
    """Every gradient against the twin, for the cotangents named in parts."""
    problem = make(case)
    units = units_of(problem)
    cotangents = units.cotangents({name: getattr(problem, name) for name in parts})
    _, backward = fastattn.attention_vjp(
        *problem.arrays, **options(problem), return_weights="d_weights" in parts, return_lse="d_lse" in parts
    )
    gradients = backward(**cotangents)
    right = _reference.attention_vjp(*problem.arrays, **twin_options(problem), **cotangents)
    units = units.backward(**cotangents)
    of_score = score_gate(case)
    for name, gate in (("query", of_score), ("key", of_score), ("value", BACKWARD_GATE)):
        require(f"d_{name}", *(getattr(g, name) for g in (gradients, right, units)), case.dtype, gate)
    assert (gradients.bias is None) == (case.bias is None)
    if case.bias is not None:
        require("d_bias", gradients.bias, right.bias, units.bias, case.dtype, BACKWARD_GATE)
    assert dict(gradients.score).keys() == right.score.keys()
    for name in right.score:
        require(f"d_{name}", gradients.score[name], right.score[name], units.score[name], case.dtype, of_score)


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


def narrow_and_wide(half, *shape):
    """Numbers of a half type, and the same in float32."""
    numbers = np.random.default_rng(list(shape)).standard_normal(shape).astype(half)
    return numbers, numbers.astype(np.float32)


def same_rounded(found, expected, half):
    """Whether arrays, or all in tuples, are those of float32, rounded; what is neither is not compared."""
    if isinstance(expected, tuple):
        return type(found) is type(expected) and all(
            same_rounded(*pair, half) for pair in zip(found, expected, strict=True)
        )
    if not isinstance(expected, np.ndarray):
        return type(found) is type(expected)
    return found.dtype == half and same_bits(found.view(np.uint16), expected.astype(half).view(np.uint16))
