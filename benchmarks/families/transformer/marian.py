"""Marian of the transformers library: `MarianMTModel` with the weights of the case, its own loss and its own search.

Marian's encodings have all sines before all cosines: its features are ours in another order, and so are the rows and
columns of its weights. Weights are transposed, since PyTorch keeps (outputs, inputs).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import MarianConfig, MarianMTModel

from ...case import TRAIN, Arrays, Case, Run
from ..training.torch import Training, collect
from .inputs import BOS, EOS, fed, shapes
from .reference import RATE

__all__ = ["collect", "prepare"]


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    """A training step, eager and compiled, or a search."""
    if case.direction != TRAIN:
        return {"": Search(case, data)}
    torch.compiler.reset()
    return {"eager": _training(case, data, False), "compiled": _training(case, data, True)}


def _training(case: Case, data: Arrays, compiled: bool) -> Training:
    model = build(case, data)
    source, target, inputs = (torch.from_numpy(ids) for ids in (data["source"], data["target"], fed(data)))

    def loss() -> Any:
        return model(input_ids=source, decoder_input_ids=inputs, labels=target, use_cache=False).loss

    return Training(
        list(_learnt(model).values()), torch.compile(loss, dynamic=False) if compiled else loss,
        lambda: copy(model, data), lambda: gradients(model, case), RATE,
    )  # fmt: skip


def order(width: int) -> np.ndarray:
    """Our feature for each of Marian's."""
    return np.concatenate([np.arange(0, width, 2), np.arange(1, width, 2)])


def build(case: Case, data: Arrays) -> Any:
    """The model, with the weights of the case."""
    V, D, heads, inner, layers = (case.sizes[name] for name in ("V", "D", "H", "F", "N"))
    model = MarianMTModel(
        MarianConfig(
            vocab_size=V, d_model=D, encoder_layers=layers, decoder_layers=layers, encoder_attention_heads=heads,
            decoder_attention_heads=heads, encoder_ffn_dim=inner, decoder_ffn_dim=inner, activation_function="relu",
            scale_embedding=True, dropout=0.0, max_position_embeddings=64, decoder_start_token_id=BOS,
            eos_token_id=EOS, forced_eos_token_id=None, pad_token_id=V - 1,
        )
    )  # fmt: skip
    copy(model, data)
    return model


# Of Marian's layers and ours, by name: what ours is, and which of the parts that ours joins.
_LAYERS = {
    "self_attn.q_proj": ("attention.project", 0),
    "self_attn.k_proj": ("attention.project", 1),
    "self_attn.v_proj": ("attention.project", 2),
    "self_attn.out_proj": ("attention.output", 0),
    "self_attn_layer_norm": ("attended.norm", 0),
    "encoder_attn.q_proj": ("cross.query", 0),
    "encoder_attn.k_proj": ("cross.project", 0),
    "encoder_attn.v_proj": ("cross.project", 1),
    "encoder_attn.out_proj": ("cross.output", 0),
    "encoder_attn_layer_norm": ("crossed.norm", 0),
    "fc1": ("network.inner", 0),
    "fc2": ("network.outer", 0),
    "final_layer_norm": ("fed.norm", 0),
}


def _place(name: str) -> tuple[str, int, bool, bool]:
    """Our parameter for Marian's, which of its parts, and whether its inputs and its outputs are features."""
    if name == "model.shared.weight":
        return "projection.w", 0, True, False
    _, stack, _, number, *layer, kind = name.split(".")
    ours, part = _LAYERS[".".join(layer)]
    if ours.endswith("norm"):
        return f"{stack}.{number}.{ours}.{'gain' if kind == 'weight' else 'offset'}", 0, False, True
    inputs = not ours.endswith(("attention.output", "cross.output", "outer"))
    outputs = ours.endswith(("attention.output", "cross.output", "outer"))
    return f"{stack}.{number}.{ours}.{'w' if kind == 'weight' else 'b'}", part, inputs, outputs


def _learnt(model: Any) -> dict[str, Any]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def copy(model: Any, data: Arrays) -> None:
    """Copy the weights of the case."""
    with torch.no_grad():
        for name, parameter in _learnt(model).items():
            ours, part, inputs, outputs = _place(name)
            size = parameter.shape[0]
            array = data[ours][..., part * size : (part + 1) * size]
            if inputs and array.ndim == 2:
                array = array[order(len(array))]
            if outputs:
                array = array[..., order(array.shape[-1])]
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(array.T)))
        model.final_logits_bias.copy_(torch.from_numpy(data["projection.b"])[None])


def gradients(model: Any, case: Case) -> Arrays:
    """Gradients by the names and in the layout of the case."""
    found = {f"d_{name}": np.empty(shape, np.float32) for name, shape in shapes(case).items()}
    del found["d_projection.b"]
    for name, parameter in _learnt(model).items():
        ours, part, inputs, outputs = _place(name)
        array = parameter.grad.numpy().T
        if inputs and array.ndim == 2:
            array = array[np.argsort(order(len(array)))]
        if outputs:
            array = array[..., np.argsort(order(array.shape[-1]))]
        size = array.shape[-1]
        found[f"d_{ours}"][..., part * size : (part + 1) * size] = array
    return found


class Search:
    """From source ids to the best sentence of each, by `generate`."""

    def __init__(self, case: Case, data: Arrays) -> None:
        self.model = build(case, data).eval()
        self.source = torch.from_numpy(data["source"])
        self.mask = torch.ones_like(self.source)
        self.options = {"num_beams": case.sizes["K"], "max_new_tokens": case.sizes["T"], "length_penalty": 0.0}

    def __call__(self) -> Search:
        with torch.no_grad():
            self.found = self.model.generate(
                self.source, attention_mask=self.mask, do_sample=False, early_stopping=False, use_cache=True,
                output_scores=True, return_dict_in_generate=True, **self.options,
            )  # fmt: skip
        return self

    def examine(self) -> Arrays:
        tokens = self.found.sequences[:, 1:].numpy()
        return {"tokens": tokens.astype(np.float32), "score": self.found.sequences_scores.numpy().copy()}
