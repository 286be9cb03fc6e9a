"""Embeddings that begin with vectors that somebody else has trained."""

from typing import Any

from fastattn.errors import ConfigError, describe_file
from fastattn.seq2seq.config import Config
from fastattn.seq2seq.models.model import Model
from fastattn.seq2seq.models.tied import TiedEmbedding
from fastattn.seq2seq.text.vectors import read_vectors
from fastattn.seq2seq.text.vocabulary import SPECIAL, Vocabulary

__all__ = ["start_embeddings"]


def start_embeddings(model: Model, config: Config, vocabularies: tuple[Vocabulary, Vocabulary]) -> list[str]:
    """Put vectors from the files that the configuration names into a new model's embeddings; return what to say.

    Other tokens keep the start that the model gave them.

    Raises
    ------
    ConfigError
        If the model has no embedding of that side, or one for both sides and both are named.
    TextError
        As `read_vectors` does.
    """
    said: list[str] = []
    layers: list[Any] = []
    for side, vocabulary in zip(("source", "target"), vocabularies):
        if not (place := getattr(config.data, f"{side}_embeddings")):
            continue
        key = f"data.{side}_embeddings"
        layer: Any = getattr(model, f"{side}_embedding", None)
        if layer is None:
            problem = f"a model of kind {config.model.kind!r} has no {side} embedding"
            raise ConfigError(describe_file(key, problem, "leave it out."))
        if any(layer is other for other in layers):
            hint = "name vectors for one of them, of both languages."
            raise ConfigError(describe_file(key, "sources and targets have one embedding", hint))
        layers.append(layer)
        tied = isinstance(layer, TiedEmbedding)
        setting = "width" if hasattr(config.model, "width") else "embedding"
        ids, rows = read_vectors(place, vocabulary, layer.w.value.shape[0 if tied else 1], f"model.{setting}")
        with layer.w.edit() as table:
            (table.T if tied else table)[ids] = rows
        count, own = len(ids), len(vocabulary) - len(SPECIAL)
        said.append(f"{place}: vectors of {count} of {own} {side} tokens ({100 * count / own:.1f} %)")
    return said
