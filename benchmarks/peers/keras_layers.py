"""Keras ``AdditiveAttention`` and ``Attention``, on the JAX backend under ``jit`` or on the torch backend."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ..cases import Case
from ..inputs import Arrays
from .base import Run, input_names, name_outputs

NAME = "Keras"


def load(threads: int) -> Keras:
    return Keras(threads)


class Keras:
    """The layers take ``[query, value, key]`` and have one weight, ``scale``: the vector v, or 1/sqrt(D).

    They know no heads, so dot attention gets batch and heads folded into one axis, which costs nothing.
    """

    name = NAME

    def __init__(self, threads: int) -> None:
        os.environ.setdefault("KERAS_BACKEND", "jax")
        import keras

        self.backend = keras.backend.backend()
        if self.backend not in ("jax", "torch"):
            raise RuntimeError(f"Keras runs on {self.backend} here; set KERAS_BACKEND to jax or torch")
        if self.backend == "torch":
            import torch

            torch.set_num_threads(threads)
        self.version = f"{keras.__version__} on {self.backend}"

    def prepare(self, case: Case, data: Arrays) -> dict[str, Run]:
        if case.family not in ("additive", "dot"):
            return {}
        flat = {name: _fold(array) for name, array in data.items()}
        layer = _layer(case, flat)
        return {"": (_bind_jax if self.backend == "jax" else _bind_torch)(case, flat, layer)}

    def collect(self, case: Case, result: Any) -> dict[str, np.ndarray]:
        arrays = name_outputs(case, tuple(np.asarray(array) for array in result))
        if case.family == "dot":
            size = case.sizes
            arrays = {name: array.reshape(size["B"], size["H"], *array.shape[1:]) for name, array in arrays.items()}
        return arrays


def _fold(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, *array.shape[2:]) if array.ndim == 4 else array


def _layer(case: Case, flat: Arrays) -> Any:
    import keras

    if case.family == "additive":
        layer = keras.layers.AdditiveAttention(dtype="float32")
        scale = flat["v"]
    else:
        layer = keras.layers.Attention(use_scale=True, score_mode="dot", dtype="float32")
        scale = np.float32(flat["query"].shape[-1] ** -0.5)
    layer.build([flat[name].shape for name in ("query", "value", "key")])
    layer.scale.assign(scale)
    return layer


def _bind_jax(case: Case, flat: Arrays, layer: Any) -> Run:
    import jax

    count = len(input_names(case))

    def forward(query: Any, key: Any, value: Any, scale: Any) -> Any:
        context, _ = layer.stateless_call([scale], [], [query, value, key], use_causal_mask=case.causal)
        return context

    def both(query: Any, key: Any, value: Any, scale: Any, d_context: Any) -> Any:
        context, pull = jax.vjp(forward, query, key, value, scale)
        return (context, *pull(d_context)[:count])

    names = ("query", "key", "value")
    arrays = [jax.numpy.asarray(flat[name]) for name in names] + [layer.scale.value]
    if case.backward:
        arrays.append(jax.numpy.asarray(flat["d_context"]))
    compiled = jax.jit(both if case.backward else lambda *inputs: (forward(*inputs),))
    return lambda: jax.block_until_ready(compiled(*arrays))


def _bind_torch(case: Case, flat: Arrays, layer: Any) -> Run:
    import torch

    query, key, value = (torch.from_numpy(flat[name].copy()) for name in ("query", "key", "value"))
    if not case.backward:

        def forward() -> Any:
            with torch.no_grad():
                return (layer([query, value, key], use_causal_mask=case.causal),)

        return forward
    d_context = torch.from_numpy(flat["d_context"].copy())
    inputs = [tensor.requires_grad_() for tensor in (query, key, value)]
    if case.family == "additive":
        inputs.append(layer.scale.value)

    def both() -> Any:
        context = layer([query, value, key], use_causal_mask=case.causal)
        return (context.detach(), *torch.autograd.grad(context, inputs, d_context))

    return both
