"""Where a run begins: at parameters drawn by its seed, or at those of a model that was trained on other data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastattn.errors import ConfigError, FastattnError, describe_file, within
from fastattn.seq2seq.config import Config
from fastattn.seq2seq.models.model import Model
from fastattn.seq2seq.models.registry import build
from fastattn.seq2seq.runs.sizes import Blank
from fastattn.seq2seq.schema import shown
from fastattn.seq2seq.text.vocabulary import SPECIAL, UNK, Vocabulary
from fastattn.seq2seq.translate import Translator

__all__ = ["begin_from", "new_model"]

Sides = tuple[Vocabulary, Vocabulary]


def new_model(config: Config, sides: Sides) -> Model:
    """Return a model whose parameters are drawn by the seed of the training."""
    try:
        return build(config.model, len(sides[0]), len(sides[1]), config.training.seed)
    except FastattnError as error:
        raise ConfigError(within("model", error)) from error


def begin_from(model: Model, sides: Sides, before: Translator, folder: Path) -> dict[str, Any]:
    """Give a new model the parameters of one that was trained, token by token where they are of tokens.

    Parameters
    ----------
    model : Model
        Keeps what it has for tokens that the other model does not know.
    sides : pair of Vocabulary
        Of the new model's sources and targets.
    before : Translator
        The trained model, and its vocabularies.
    folder : Path
        Where it is from, for messages.

    Returns
    -------
    dict
        For the log: the folder, and for each side the tokens that are kept and new, the special ones left out.

    Raises
    ------
    ConfigError
        By the name of the setting, if the models are of another architecture. What acts in training alone, dropout,
        smoothing and losses of the attention weights, may differ.
    """
    _check(model.config, before.model.config, folder)
    kept = []
    for vocabulary, own in zip(sides, (before.source_vocabulary, before.target_vocabulary)):
        special = np.arange(len(SPECIAL))
        known = [n for n in range(len(SPECIAL), len(vocabulary)) if vocabulary.tokens[n] in own]
        former = own.encode(vocabulary.tokens[n] for n in known)
        kept.append((np.array([*special, *known]), np.array([*special, *former])))
    old = before.model.parameters()
    for (name, parameter), axes in zip(model.parameters().items(), _token_axes(model.config)):
        here, there = [[np.arange(size) for size in parameter.value.shape] for _ in range(2)]
        for axis, side in axes.items():
            here[axis], there[axis] = kept[side]
        with parameter.edit() as value:
            value[np.ix_(*here)] = old[name].value[np.ix_(*there)]
    counts = {
        side: {"kept": len(tokens) - len(SPECIAL), "new": len(vocabulary) - len(tokens)}
        for side, vocabulary, (tokens, _) in zip(("source", "target"), sides, kept)
    }
    return {"init_from": str(folder), **counts}


def _token_axes(config: Any) -> Iterator[dict[int, int]]:
    """Yield for each parameter which of its axes are tokens of the sources (0) or the targets (1).

    Models of every kind, those of plugins too, are asked what grows with a vocabulary.
    """
    n = UNK + 1
    try:
        shapes = [_shapes(config, *sizes) for sizes in ((n, n + 1), (n + 2, n + 1), (n, n + 3))]
    except FastattnError:  # one vocabulary for both sides: of either, as they are the same
        shapes = [_shapes(config, *sizes) for sizes in ((n, n), (n + 1, n + 1), (n, n))]
    for plain, *others in zip(*shapes):
        sides = list(enumerate(others))
        yield {axis: side for side, other in sides for axis, size in enumerate(plain) if other[axis] != size}


def _shapes(config: Any, source: int, target: int) -> list[tuple[int, ...]]:
    return [parameter.value.shape for parameter in build(config, source, target, Blank(2**62)).parameters().values()]


def _check(config: Any, before: Any, folder: Path) -> None:
    """Raise unless two configurations of models are of one architecture."""
    for key in ("kind", *vars(config)):
        own, former = getattr(config, key), getattr(before, key, None)
        if own != former and not key.endswith(("dropout", "_loss", "label_smoothing")):
            problem = f"{shown(own)}, and the model in {folder} has {shown(former)}"
            raise ConfigError(describe_file(f"model.{key}", problem, "give the settings of the model to begin from."))
