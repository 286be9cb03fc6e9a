"""The answers of the tests' twin, float64, by what says the same as a function: a bias, a softcap, a mask."""

from dataclasses import replace
from typing import Any

import numpy as np

from ...case import Arrays, Case
from ...reference import Reference
from ..attention.inputs import cases
from .inputs import CAP, WIDTH

import checks  # isort: skip


def compute(case: Case, data: Arrays) -> Reference:
    """One sample and head at a time; gradients of parameters are summed."""
    data = {name: array.astype(np.float64) for name, array in data.items()}
    B, H, Tq, Tk, D = case.sizes.values()
    function = case.options["function"]
    kind = {"score": "additive", "given": ""} if function == "additive" else {"score": "scaled_dot"}
    plain: Any = cases.make(cases.AttentionCase(case.name, (), tq=Tq, tk=Tk, dk=D, dv=D, da=D, **kind), cotangents=())
    far = np.abs(np.arange(Tq)[:, None] - np.arange(Tk))
    spec = replace(
        plain.score,
        parameters={name: data[name] for name in plain.score.parameters},
        softcap=CAP if function == "softcap" else None,
    )
    shapes = {name: data[name.removeprefix("d_")].shape for name in case.outputs[1:]}
    shapes["context"] = data["query"].shape
    values, sizes = ({name: np.zeros(shape) for name, shape in shapes.items()} for _ in range(2))
    for at in np.ndindex(B, H):
        rest: dict[str, Any] = {"mask": far <= WIDTH} if function == "window" else {}
        if function == "alibi":
            rest["bias"] = -data["slopes"][at[1]] * far
        one = replace(plain, score=spec, rest=rest, **{name: data[name][at] for name in ("query", "key", "value")})
        found = checks.twin(one, data["d_context"][at] if case.backward else None)
        for whole, part, sign in zip((values, sizes), found, (-1, 1)):
            for name, array in whole.items():
                if name == "d_slopes":
                    array[at[1]] += sign * (part["d_bias"] * far).sum()
                else:
                    array[... if name == "d_v" else at] += part[name]
    return Reference(values, sizes)
