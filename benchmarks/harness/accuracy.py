"""Is a contestant's result right? Only then does it get a number."""

from dataclasses import dataclass

import numpy as np

from ..case import Arrays
from ..reference import Reference

# Errors are counted in units of eps * magnitude (see reference.py). Correct float32 code stays near 1. What fails: a
# context that is off by 1e-4 of itself, a gradient by 1e-3, where cancellation makes the unit large next to the value.
FORWARD_GATE = 4.0
BACKWARD_GATE = 8.0
EPS = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Verdict:
    """``ok``, the error of each output in units of rounding, and in words what is wrong."""

    ok: bool
    errors: dict[str, float]
    reason: str = ""


def judge(result: Arrays, reference: Reference) -> Verdict:
    """Compare every output with the reference; one missing, of another type or too far off makes the result wrong."""
    errors: dict[str, float] = {}
    faults: list[str] = []
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
        else:
            unit = EPS * reference.magnitudes[name] + np.finfo(np.float64).tiny
            errors[name] = float((np.abs(got - right) / unit).max(initial=0.0))
            gate = BACKWARD_GATE if name.startswith("d_") else FORWARD_GATE
            if errors[name] > gate:
                faults.append(f"{name} is off by {errors[name]:.3g} units of rounding, allowed {gate:g}")
    return Verdict(not faults, errors, "; ".join(faults))
