"""The formula in JAX; both ways to form the scores."""

from typing import Any

import jax
import jax.numpy as jnp

from ...case import Arrays, Case, Run
from ..attention.jax import collect, runs

__all__ = ["collect", "prepare"]
PRECISIONS = ("float32", "bfloat16")


def _matmul(query: Any, key: Any, value: Any, v: Any) -> Any:
    scores = jnp.tanh(query[:, :, None, :] + key[:, None, :, :]) @ v
    return jax.nn.softmax(scores, -1) @ value


def _sum(query: Any, key: Any, value: Any, v: Any) -> Any:
    scores = (jnp.tanh(query[:, :, None, :] + key[:, None, :, :]) * v).sum(-1)
    return jax.nn.softmax(scores, -1) @ value


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    return runs(case, data, {"matmul": _matmul, "sum": _sum})
