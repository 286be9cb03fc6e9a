"""Parameters of other libraries' multi-head attention: methods of `MultiHead`."""

import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np

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
        ``out_proj.weight``, and the biases ``in_proj_bias`` and ``out_proj.bias``; anything that NumPy takes.
    """
    parts: dict[str, Any] = {"output": np.asarray(_entry(state, "out_proj.weight")).T}
    if "in_proj_weight" in state:
        rows = np.asarray(state["in_proj_weight"])
        parts |= zip(("query", "key", "value"), (part.T for part in np.array_split(rows, 3)))
    else:
        parts |= {name: np.asarray(_entry(state, f"{name[0]}_proj_weight")).T for name in ("query", "key", "value")}
    biases: dict[str, Any] = {}
    if "in_proj_bias" in state:
        biases = dict(zip(("query", "key", "value"), np.array_split(np.asarray(state["in_proj_bias"]), 3)))
        biases["output"] = np.asarray(_entry(state, "out_proj.bias"))
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
    arrays = [np.asarray(array) for array in weights]
    parts = {name: arrays[i * each] for i, name in enumerate(names)}
    parts = {
        name: x.reshape(-1, x.shape[-1]) if name == "output" else x.reshape(len(x), -1) for name, x in parts.items()
    }
    _load(self, parts, {name: arrays[i * 2 + 1].reshape(-1) for i, name in enumerate(names)} if each == 2 else {})


def _entry(state: Any, name: str) -> Any:
    if not isinstance(state, Mapping) or name not in state:
        hint = "pass the state_dict() of a torch.nn.MultiheadAttention."
        got = reprlib.repr(list(state) if isinstance(state, Mapping) else state)
        raise ArgumentError(describe("state", f"an entry {name!r}", got, hint))
    return state[name]


def _load(layer: Layer, parts: dict[str, Any], biases: dict[str, Any]) -> None:
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
