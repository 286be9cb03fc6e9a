"""JAX's product under ``jit``."""

import jax

from ...case import Arrays, Case, Run
from ...case import named as collect

__all__ = ["collect", "prepare"]
PRECISIONS = ("float32", "bfloat16")


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    x, w = (jax.numpy.asarray(data[name], dtype=case.precision) for name in ("x", "w"))
    compiled = jax.jit(jax.numpy.matmul)
    return {"": lambda: jax.block_until_ready(compiled(x, w))}
