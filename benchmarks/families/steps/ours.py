"""Decoder steps of attention mechanisms by `fastattn.create`."""

from typing import Any

import numpy as np

from ...case import Arrays, Case, Run
from .inputs import CHUNK, HEADS, shapes
from .reference import examine


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    """All steps, and all steps with every gradient."""
    import fastattn

    sizes, mechanism = case.sizes, case.options["mechanism"]
    width = {"width": sizes["W"]}
    options: dict[str, Any] = {
        "bahdanau": width,
        "coverage": width,
        "location_sensitive": {**width, "filters": sizes["C"], "filter_size": sizes["K"]},
        "monotonic": width,
        "mocha": {**width, "chunk": CHUNK},
        "local_m": {"window": sizes["N"]},
        "local_p": {"window": sizes["N"]},
        "linear": {"terms": ("x", "y", "x*y")},
        "multihead": {"heads": HEADS},
    }.get(mechanism, {})
    rng = np.random.default_rng(0)
    variant = fastattn.create(mechanism, query_width=sizes["D"], memory_width=sizes["D"], rng=rng, **options)
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
