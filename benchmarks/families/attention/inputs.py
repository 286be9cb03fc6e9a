"""Query, key and value of an attention call, and the gradient of its context."""

import numpy as np

from ...case import Arrays, Case


def with_heads(case: Case, rng: np.random.Generator) -> Arrays:
    """Standard normal query, key and value (B, H, T, D)."""
    B, H, Tq, Tk, D = case.sizes.values()
    rows = {"query": Tq, "key": Tk, "value": Tk}
    data = {name: rng.standard_normal((B, H, count, D), dtype=np.float32) for name, count in rows.items()}
    return with_cotangent(case, rng, data)


def with_cotangent(case: Case, rng: np.random.Generator, data: Arrays) -> Arrays:
    """The same arrays, and ``d_context`` for a case with gradients."""
    if case.backward:
        shape = (*data["query"].shape[:-1], data["value"].shape[-1])
        data["d_context"] = rng.standard_normal(shape, dtype=np.float32)
    return data
