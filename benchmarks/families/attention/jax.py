"""Formulas in JAX under ``jit``, forward or forward and vector-Jacobian product in one compiled function."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ...case import Arrays, Case, Run, named


def runs(case: Case, data: Arrays, formulas: Mapping[str, Callable[..., Any]]) -> dict[str, Run]:
    """Calls by spelling; a formula takes the inputs of the case in their order."""
    return {spelling: _bind(case, data, spelling, function) for spelling, function in formulas.items()}


def collect(case: Case, result: Any) -> Arrays:
    arrays, swapped = result
    return named(case, tuple(np.asarray(array).swapaxes(1, 2) if swapped else array for array in arrays))


def _bind(case: Case, data: Arrays, spelling: str, function: Callable[..., Any]) -> Run:
    # jax.nn.dot_product_attention wants (B, T, H, D): it gets its own layout, transposed outside the timed part.
    swapped = spelling == "library"
    names = (*case.results[1:], "d_context") if case.backward else case.results[1:]
    arrays = [
        jax.numpy.asarray(data[name].swapaxes(1, 2) if swapped else data[name], dtype=case.precision) for name in names
    ]

    def both(*inputs: Any) -> Any:
        context, pull = jax.vjp(function, *inputs[:-1])
        return (context, *pull(inputs[-1]))

    def forward(*inputs: Any) -> Any:
        return (function(*inputs),)

    compiled = jax.jit(both if case.backward else forward)

    def run() -> Any:
        return jax.block_until_ready(compiled(*arrays)), swapped

    return run
