"""CTranslate2, an engine for inference in C++: beam search with the weights of the case.

Its model is the one that its converter makes of Marian, written here by hand: special tokens have our ids, and the
token that pads is left out. It adds no bias to the embeddings, starts from a zero embedding, and gets its positions
from a table, ours.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

import ctranslate2
import numpy as np
from ctranslate2.specs import common_spec, transformer_spec

from ...case import TRAIN, Arrays, Case, Run
from ..training.ours import collect
from .inputs import BOS, EOS, SPECIAL
from .reference import sinusoids

__all__ = ["collect", "prepare"]
PRECISIONS = ("float32", "bfloat16", "int8")


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    """A search; it cannot train."""
    return {} if case.direction == TRAIN else {"": Search(case, data)}


def _specification(case: Case, data: Arrays) -> Any:
    V, D, layers = (case.sizes[name] for name in ("V", "D", "N"))
    spec = transformer_spec.TransformerSpec.from_config(
        (layers, layers), case.sizes["H"], pre_norm=False, activation=common_spec.Activation.RELU
    )

    def linear(target: Any, name: str) -> None:
        target.weight, target.bias = np.ascontiguousarray(data[f"{name}.w"].T), data[f"{name}.b"]

    def norm(target: Any, name: str) -> None:
        target.gamma, target.beta = data[f"{name}.norm.gain"], data[f"{name}.norm.offset"]

    embeddings = np.ascontiguousarray(data["projection.w"].T[: V - 1])
    positions = sinusoids(max(case.sizes["S"], case.sizes["T"]) + 1, D).astype(np.float32)
    for stack in ("encoder", "decoder"):
        part = getattr(spec, stack)
        table = part.embeddings[0] if stack == "encoder" else part.embeddings
        table.weight, part.position_encodings.encodings, part.scale_embeddings = embeddings, positions, D**0.5
        for number, layer in enumerate(part.layer):
            name = f"{stack}.{number}"
            linear(layer.self_attention.linear[0], f"{name}.attention.project")
            linear(layer.self_attention.linear[1], f"{name}.attention.output")
            norm(layer.self_attention.layer_norm, f"{name}.attended")
            if stack == "decoder":
                for i, kind in enumerate(("query", "project", "output")):
                    linear(layer.attention.linear[i], f"{name}.cross.{kind}")
                norm(layer.attention.layer_norm, f"{name}.crossed")
            linear(layer.ffn.linear_0, f"{name}.network.inner")
            linear(layer.ffn.linear_1, f"{name}.network.outer")
            norm(layer.ffn.layer_norm, f"{name}.fed")
    spec.decoder.projection.weight, spec.decoder.projection.bias = embeddings, data["projection.b"][: V - 1]
    spec.decoder.start_from_zero_embedding = True
    words = _words(V)
    spec.register_source_vocabulary(words)
    spec.register_target_vocabulary(words)
    spec.config.bos_token, spec.config.decoder_start_token = words[BOS], words[BOS]
    spec.config.eos_token, spec.config.unk_token = words[EOS], words[SPECIAL - 1]
    return spec


def _words(size: int) -> list[str]:
    return ["<pad>", "<s>", "</s>", "<unk>", *map(str, range(SPECIAL, size - 1))]


class Search:
    """From source tokens to the best sentence of each, by `translate_batch`."""

    def __init__(self, case: Case, data: Arrays) -> None:
        spec = _specification(case, data)
        spec.validate()
        spec.optimize(quantization=None)
        with tempfile.TemporaryDirectory() as folder:
            spec.save(folder)
            self.translator = ctranslate2.Translator(
                folder,
                device="cpu",
                compute_type=case.precision,
                inter_threads=1,
                intra_threads=int(os.environ.get("OMP_NUM_THREADS", "1")),
            )
        words = _words(case.sizes["V"])
        self.ids = {word: i for i, word in enumerate(words)}
        self.source = [[words[i] for i in sentence] for sentence in data["source"]]
        self.options = {
            "beam_size": case.sizes["K"], "max_decoding_length": case.sizes["T"], "length_penalty": 0.0,
            "return_scores": True, "max_batch_size": 0,
        }  # fmt: skip

    def __call__(self) -> Search:
        self.found = self.translator.translate_batch(self.source, **self.options)
        return self

    def examine(self) -> Arrays:
        tokens = [[self.ids[word] for word in one.hypotheses[0]] for one in self.found]
        return {
            "tokens": np.array(tokens, np.float32),
            "score": np.array([one.scores[0] for one in self.found], np.float32),
        }
