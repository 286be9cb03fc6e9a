"""Is a contestant's result right? Only then does it get a number."""

from dataclasses import dataclass, field

import numpy as np

from ..case import Arrays
from ..reference import Reference

# Errors are counted in units of eps * magnitude (see reference.py). Correct float32 code stays near 1. What fails: a
# context that is off by 1e-4 of itself, a gradient by 1e-3, where cancellation makes the unit large next to the value.
FORWARD_GATE = 4.0
BACKWARD_GATE = 8.0
EPS = float(np.finfo(np.float32).eps)
# Narrower operands are judged by the root of the mean squared error over that of the values. Numbers rounded to
# bfloat16 are 2^-9.4 off, to int8 with a scale for a row or a column of normal numbers 2^-6.7; independent errors of
# terms add up like the terms. The gates are 5 such errors of bfloat16 (forward), 11 (gradients), and 3 of int8.
NARROW_GATES = {"bfloat16": (2.0**-7, 2.0**-6), "int8": (2.0**-5, 2.0**-5)}


@dataclass(frozen=True)
class Verdict:
    """``ok``, the error of each output (units of rounding; of narrow operands relative), and in words what is wrong."""

    ok: bool
    errors: dict[str, float]
    reason: str = ""
    gates: dict[str, float] = field(default_factory=dict)


def gate(name: str, reference: Reference) -> float:
    """What an output's error may be; of narrow operands it grows with the root of the steps of a gradient."""
    backward = name.startswith("d_")
    if reference.precision in NARROW_GATES:
        return NARROW_GATES[reference.precision][backward] * (reference.steps if backward else 1) ** 0.5
    return BACKWARD_GATE if backward else FORWARD_GATE


def judge(result: Arrays, reference: Reference) -> Verdict:
    """Compare every output with the reference; one missing, of another type or too far off makes the result wrong."""
    errors: dict[str, float] = {}
    faults: list[str] = []
    gates = {name: gate(name, reference) for name in reference.values}
    for name, right in reference.values.items():
        got = result.get(name)
        if got is None:
            faults.append(f"{name} is missing")
        elif got.shape != right.shape:
            faults.append(f"{name} has shape {got.shape}, expected {right.shape}")
        elif got.dtype != np.float32:
            faults.append(f"{name} has dtype {got.dtype}, expected float32")
        elif not np.isfinite(got).all():
            faults.append(f"{name} is not finite")
        elif reference.precision in NARROW_GATES:
            if not reference.magnitudes[name].any():
                continue  # choices, such as tokens, of which narrow operands may make others that are as good
            size = float(np.square(right).mean())
            errors[name] = float(np.sqrt(np.square(got - right).mean() / size)) if size else float(np.abs(got).max())
            if errors[name] > gates[name]:
                faults.append(f"{name} is off by {errors[name]:.2%} of its size, allowed {gates[name]:.2%}")
        else:
            unit = EPS * reference.magnitudes[name] + np.finfo(np.float64).tiny
            errors[name] = float((np.abs(got - right) / unit).max(initial=0.0))
            if errors[name] > gates[name]:
                faults.append(f"{name} is off by {errors[name]:.3g} units of rounding, allowed {gates[name]:g}")
    return Verdict(not faults, errors, "; ".join(faults), gates)
