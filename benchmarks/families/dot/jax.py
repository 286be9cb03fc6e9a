"""JAX's attention, and the formula."""

from typing import Any

import jax
import jax.numpy as jnp

from ...case import Arrays, Case, Run
from ..attention.jax import collect, runs

__all__ = ["collect", "prepare"]
PRECISIONS = ("float32", "bfloat16")


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    causal = case.options.get("causal", False)

    def library(query: Any, key: Any, value: Any) -> Any:
        return jax.nn.dot_product_attention(query, key, value, is_causal=causal)

    def formula(query: Any, key: Any, value: Any) -> Any:
        scores = (query * query.shape[-1] ** -0.5) @ key.swapaxes(-1, -2)
        if causal:
            scores = jnp.where(jnp.tri(*scores.shape[-2:], dtype=bool), scores, -jnp.inf)
        return jax.nn.softmax(scores, -1) @ value

    return runs(case, data, {"library": library, "formula": formula})
