"""JAX under ``jit``, forward or forward and vector-Jacobian product in one compiled function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..cases import Case
from ..inputs import Arrays
from .base import Run, input_names, name_outputs

NAME = "JAX jit"


def load(threads: int) -> Jax:
    return Jax()


def _formulas(case: Case) -> dict[str, Callable[..., Any]]:
    import jax
    import jax.numpy as jnp

    def additive_matmul(query: Any, key: Any, value: Any, v: Any) -> Any:
        scores = jnp.tanh(query[:, :, None, :] + key[:, None, :, :]) @ v
        return jax.nn.softmax(scores, -1) @ value

    def additive_sum(query: Any, key: Any, value: Any, v: Any) -> Any:
        scores = (jnp.tanh(query[:, :, None, :] + key[:, None, :, :]) * v).sum(-1)
        return jax.nn.softmax(scores, -1) @ value

    def library(query: Any, key: Any, value: Any) -> Any:
        return jax.nn.dot_product_attention(query, key, value, is_causal=case.causal)

    def formula(query: Any, key: Any, value: Any) -> Any:
        scores = (query * query.shape[-1] ** -0.5) @ key.swapaxes(-1, -2)
        if case.causal:
            scores = jnp.where(jnp.tri(*scores.shape[-2:], dtype=bool), scores, -jnp.inf)
        return jax.nn.softmax(scores, -1) @ value

    if case.family == "additive":
        return {"matmul": additive_matmul, "sum": additive_sum}
    return {"library": library, "formula": formula}


class Jax:
    """Threads follow the process's affinity and ``XLA_FLAGS``, both set before JAX is imported."""

    name = NAME

    def __init__(self) -> None:
        import jax

        self.version = jax.__version__

    def prepare(self, case: Case, data: Arrays) -> dict[str, Run]:
        if case.family not in ("additive", "dot"):
            return {}
        return {spelling: _bind(case, data, spelling, function) for spelling, function in _formulas(case).items()}

    def collect(self, case: Case, result: Any) -> dict[str, np.ndarray]:
        arrays, swapped = result
        return name_outputs(case, tuple(np.asarray(array).swapaxes(1, 2) if swapped else array for array in arrays))


def _bind(case: Case, data: Arrays, spelling: str, function: Callable[..., Any]) -> Run:
    import jax

    # jax.nn.dot_product_attention wants (B, T, H, D): it gets its own layout, transposed outside the timed part.
    swapped = spelling == "library"
    names = (*input_names(case), "d_context") if case.backward else input_names(case)
    arrays = [jax.numpy.asarray(data[name].swapaxes(1, 2) if swapped else data[name]) for name in names]

    def both(*inputs: Any) -> Any:
        context, pull = jax.vjp(function, *inputs[:-1])
        return (context, *pull(inputs[-1]))

    def forward(*inputs: Any) -> Any:
        return (function(*inputs),)

    compiled = jax.jit(both if case.backward else forward)

    def run() -> Any:
        return jax.block_until_ready(compiled(*arrays)), swapped

    return run
