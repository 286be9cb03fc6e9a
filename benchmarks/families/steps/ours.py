"""Decoder steps of attention mechanisms by `fastattn.create`."""

from typing import Any

import numpy as np

from ...case import Arrays, Case, Run
from .inputs import described, shapes
from .reference import examine


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    """All steps, and all steps with every gradient."""
    variant = described(case).make(case.sizes["D"], case.sizes["D"], np.dtype(np.float32), 0)
    parameters = variant.parameters()
    for name, parameter in parameters.items():
        with parameter.edit() as value:  # the formulas have no biases
            value[...] = data.get(name, 0)
    queries, memory, lengths = data["queries"], data["memory"], data["lengths"]

    def forward() -> Any:
        prepared = variant.prepare(memory, lengths)
        state, found = variant.start(prepared), []
        for t in range(queries.shape[1]):
            context, _, state = variant.step(queries[:, t], prepared, state)
            found.append(context)
        return np.stack(found, axis=1), {}

    if not case.backward:
        return {"": forward}

    def both() -> Any:
        for parameter in parameters.values():
            parameter.gradient.fill(0)
        prepared = variant.prepare(memory, lengths)
        state, found, backs = variant.start(prepared), [], []
        for t in range(queries.shape[1]):
            context, _, state, back = variant.step_vjp(queries[:, t], prepared, state)
            found.append(context)
            backs.append(back)
        d_state, d_queries = None, np.empty_like(queries)
        for t in reversed(range(queries.shape[1])):
            d_queries[:, t], d_state = backs[t](data["d_context"][:, t], None, d_state)
        gradients = {name: parameters[name].gradient for name in shapes(case)}
        return np.stack(found, axis=1), {"queries": d_queries, "memory": variant.finish(prepared), **gradients}

    return {"": both}


def collect(case: Case, result: Any) -> Arrays:
    """What is compared of a result."""
    return examine(case, *result)
