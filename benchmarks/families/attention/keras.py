"""Keras' attention layers, on the JAX backend under ``jit`` or on the torch backend.

The layers take ``[query, value, key]`` and have one weight, ``scale``: the vector v, or 1/sqrt(D).
"""

from typing import Any

import keras
import numpy as np

from ...case import Arrays, Case, Run, named


def run(case: Case, data: Arrays, layer: Any, scale: Any) -> dict[str, Run]:
    """A call of a layer with this scale; its inputs have three axes."""
    layer.build([data[name].shape for name in ("query", "value", "key")])
    layer.scale.assign(scale)
    return {"": (_bind_jax if keras.backend.backend() == "jax" else _bind_torch)(case, data, layer)}


def collect(case: Case, result: Any) -> Arrays:
    return named(case, tuple(np.asarray(array) for array in result))


def _bind_jax(case: Case, data: Arrays, layer: Any) -> Run:
    import jax

    causal = case.options.get("causal", False)

    def forward(query: Any, key: Any, value: Any, scale: Any) -> Any:
        context, _ = layer.stateless_call([scale], [], [query, value, key], use_causal_mask=causal)
        return context

    def both(query: Any, key: Any, value: Any, scale: Any, d_context: Any) -> Any:
        context, pull = jax.vjp(forward, query, key, value, scale)
        return (context, *pull(d_context)[: len(case.results) - 1])

    arrays = [jax.numpy.asarray(data[name]) for name in ("query", "key", "value")] + [layer.scale.value]
    if case.backward:
        arrays.append(jax.numpy.asarray(data["d_context"]))
    compiled = jax.jit(both if case.backward else lambda *inputs: (forward(*inputs),))
    return lambda: jax.block_until_ready(compiled(*arrays))


def _bind_torch(case: Case, data: Arrays, layer: Any) -> Run:
    import torch

    from .torch import call

    query, key, value = (torch.from_numpy(data[name].copy()) for name in ("query", "key", "value"))
    wanted = [query, key, value, layer.scale.value][: len(case.results) - 1]
    causal = case.options.get("causal", False)
    run = call(case, lambda q, k, v: layer([q, v, k], use_causal_mask=causal), (query, key, value), wanted,
               data.get("d_context"))  # fmt: skip

    def detached() -> Any:
        found = run()
        return tuple(tensor.detach() for tensor in (found if case.backward else (found,)))

    return detached
