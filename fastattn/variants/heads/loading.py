"""Parameters of other libraries' multi-head attention: methods of `MultiHead`."""

import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastattn._arrays import Array, wide_array
from fastattn._strings import items
from fastattn.errors import ArgumentError, ShapeError, describe
from fastattn.layers import Layer, Linear

__all__ = ["load_keras", "load_torch"]


def load_torch(self: Layer, state: Any) -> None:
    """Take the parameters of a ``torch.nn.MultiheadAttention``.

    Parameters
    ----------
    state : mapping of str to array
        Its ``state_dict()``, with ``in_proj_weight`` or ``q_proj_weight``, ``k_proj_weight``, ``v_proj_weight``,
        ``out_proj.weight``, and the biases ``in_proj_bias`` and ``out_proj.bias``; tensors on the CPU without gradient,
        or arrays, of half types too.

    Raises
    ------
    ArgumentError
        If one of these is missing, or another is there: ``bias_k`` and ``bias_v`` of ``add_bias_kv=True`` have no place
        here. ``add_zero_attn=True``, of which a state tells nothing, is not computed either.
    ShapeError
        If one is of another shape.
    """
    hint = "pass the state_dict() of a torch.nn.MultiheadAttention that has add_bias_kv=False."
    if not isinstance(state, Mapping):
        raise ArgumentError(describe("state", "a mapping of names to arrays", type(state).__name__, hint))
    left = dict(state)

    def take(name: str) -> Array:
        if name not in left:
            raise ArgumentError(describe("state", f"an entry {name!r}", reprlib.repr(list(state)), hint))
        return wide_array(f"state[{name!r}]", left.pop(name))

    parts = {"output": take("out_proj.weight").T}
    if "in_proj_weight" in left:
        rows = np.array_split(take("in_proj_weight"), 3)
        parts |= zip(("query", "key", "value"), (part.T for part in rows))
    else:
        parts |= {name: take(f"{name[0]}_proj_weight").T for name in ("query", "key", "value")}
    biases = {}
    if "in_proj_bias" in left:
        biases = dict(zip(("query", "key", "value"), np.array_split(take("in_proj_bias"), 3)))
        biases["output"] = take("out_proj.bias")
    if left:
        raise ArgumentError(describe("state", "no entries besides these", reprlib.repr(list(left)), hint))
    _load(self, parts, biases)


def load_keras(self: Layer, weights: Any) -> None:
    """Take the parameters of a Keras `MultiHeadAttention` or `GroupQueryAttention`.

    Parameters
    ----------
    weights : sequence of array
        Its ``get_weights()``: kernels (D, H, d), each followed by its bias (H, d), of query, key, value, and of the
        output (H, d, D) and (D,).
    """
    names = ("query", "key", "value", "output")
    hint = "pass the layer's get_weights()."
    weights = list(items("weights", "4 arrays, or 8 with biases", weights, hint))
    if len(weights) not in (4, 8):
        raise ArgumentError(describe("weights", "4 arrays, or 8 with biases", len(weights), hint))
    each = len(weights) // 4
    arrays = [wide_array(f"weights[{i}]", array) for i, array in enumerate(weights)]
    parts = {name: arrays[i * each] for i, name in enumerate(names)}
    parts = {
        name: x.reshape(-1, x.shape[-1]) if name == "output" else x.reshape(len(x), -1) for name, x in parts.items()
    }
    _load(self, parts, {name: arrays[i * 2 + 1].reshape(-1) for i, name in enumerate(names)} if each == 2 else {})


def _load(layer: Layer, parts: dict[str, Array], biases: dict[str, Array]) -> None:
    pairs = []
    for name, array in parts.items():
        linear: Linear = getattr(layer, name)
        pairs.append((f"{name}.w", linear.w, array))
        if (linear.b is None) != (name not in biases):
            got = "biases" if biases else "none"
            hint = f"make the variant with bias={linear.b is None}."
            raise ArgumentError(describe("bias", f"biases as the layer has ({linear.b is not None})", got, hint))
        if linear.b is not None:
            pairs.append((f"{name}.b", linear.b, biases[name]))
    for name, parameter, array in pairs:
        if parameter.value.shape != array.shape:
            hint = "make the variant with the widths and heads of that layer."
            raise ShapeError(describe(name, f"shape {parameter.value.shape}", f"shape {array.shape}", hint))
    for _, parameter, array in pairs:
        parameter.assign(array)
