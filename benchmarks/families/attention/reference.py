"""The answers of the tests' twin, float64, one sample (and head) at a time, so that it fits any machine."""

from dataclasses import replace

import numpy as np

from ... import families
from ...case import Arrays, Case
from ...reference import Reference
from .inputs import cases

import checks  # isort: skip


def compute(case: Case, data: Arrays) -> Reference:
    """Outputs and their units of error; gradients of the score's parameters are summed over samples."""
    data = {name: array.astype(np.float64) for name, array in data.items()}
    batch = data["query"].shape[:-2]
    one = cases.make(replace(families.part(case.family, "inputs").described(case), batch=()), cotangents=())
    score = replace(one.score, parameters={name: data[name] for name in one.score.parameters})
    shapes = {name: data[name.removeprefix("d_")].shape for name in case.outputs[1:]}
    shapes["context"] = (*data["query"].shape[:-1], data["value"].shape[-1])
    values, sizes = ({name: np.zeros(shape) for name, shape in shapes.items()} for _ in range(2))
    for at in np.ndindex(batch):
        arrays = {name: data[name][at] for name in ("query", "key", "value")}
        found = checks.twin(replace(one, score=score, **arrays), data["d_context"][at] if case.backward else None)
        for whole, part in zip((values, sizes), found):
            for name, array in whole.items():
                array[... if name.removeprefix("d_") in score.parameters else at] += part[name]
    return Reference(values, sizes)
