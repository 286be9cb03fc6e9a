"""What is known of a run before its data are read: how large its model is, and what cannot work later."""

import dataclasses
import os

from fastattn import linear
from fastattn._kernels import core
from fastattn.errors import ConfigError, FastattnError, describe_file, within
from fastattn.seq2seq.config import Config, DataConfig
from fastattn.seq2seq.models.model import Model
from fastattn.seq2seq.models.registry import build
from fastattn.seq2seq.runs.sizes import Blank, OversizeError, memory, shown
from fastattn.seq2seq.sections import PATHS
from fastattn.seq2seq.text.vocabulary import UNK

__all__ = ["check_inference", "prospect", "size_of", "takes_time"]

_AT_ONCE = 1 << 24  # bytes of text that are read in about a second


def prospect(config: Config) -> list[str]:
    """Return what there is to say, in lines.

    Raises
    ------
    ConfigError
        If the model cannot be made, has no room in the machine's memory, or no positions for what it is to learn.
    """
    room = memory() // _bytes(config)
    # Smaller vocabularies than any; two that are not shared are no one vocabulary.
    sizes = UNK + 1, UNK + 1 if config.vocabulary.shared else UNK + 2
    try:
        model = build(config.model, *sizes, Blank(room))
    except OversizeError:
        problem = f"more than {shown(room)} parameters, for which this machine's {shown(memory(), 'B')} are not enough"
        raise ConfigError(describe_file("model", problem, "give it smaller sizes.")) from None
    except FastattnError as error:
        raise ConfigError(within("model", error)) from error
    check_inference(model, config)
    longest, most = model.longest(), config.training.max_length
    for side, positions in (("source", longest.source), ("target", longest.target)):
        if positions is not None and positions <= most:
            problem = f"{positions} positions are too few for a {side} of training.max_length {most} and its end"
            hint = f"give at least {most + 1}, or lower training.max_length."
            raise ConfigError(describe_file(f"model.{longest.key}", problem, hint))
    plain = all(getattr(config.model, field.name) == field.default for field in dataclasses.fields(config.model))
    as_published = ", in the sizes of the paper, as [model] has no others" if plain else ""
    lines = [f"model: {config.model.kind}{as_published}: {size_of(model, config)}, besides those of the vocabularies"]
    if config.training.precision == "bfloat16" and not linear.has_unit():
        level = core.build_info()["level"]
        lines.append(f'training.precision: "bfloat16" is "float32" here: the level {level} has no matrix unit')
    if longest.target is not None and config.inference.max_length > longest.target:
        problem = f"inference.max_length: {config.inference.max_length} is more than model.{longest.key}"
        lines.append(f"{problem}: translations have at most {longest.target} tokens")
    return lines


def check_inference(model: Model, config: Config) -> None:
    """Raise a ConfigError if a model cannot be used as the section ``[inference]`` says."""
    if config.inference.coverage_penalty and not model.attends:
        problem = f"kind {config.model.kind!r} has no attention, whose coverage it could be of"
        raise ConfigError(describe_file("inference.coverage_penalty", problem, "leave it out."))
    if config.inference.cache != "float32" and not model.caches:
        problem = f"kind {config.model.kind!r} keeps no keys and values of the tokens before, as Transformers do"
        raise ConfigError(describe_file("inference.cache", problem, "leave it out."))


def size_of(model: Model, config: Config) -> str:
    """Return how many parameters a model has, and how many bytes they are, by themselves and in training."""
    count = sum(parameter.value.size for parameter in model.parameters().values())
    return f"{shown(count)} parameters ({shown(4 * count, 'B')}, {shown(_bytes(config) * count, 'B')} in training)"


def takes_time(data: DataConfig) -> bool:
    """Whether reading the data takes more than a moment; where it does not, what is wrong with them is said alone."""
    places = [place for place in map(data.__getattribute__, PATHS) if place]
    sizes = [0 if place == "-" or not os.path.isfile(place) else os.path.getsize(place) for place in places]
    return "-" in places or sum(sizes) > _AT_ONCE


def _bytes(config: Config) -> int:
    """Return how many bytes training holds for a parameter: itself, its gradient, two moments, perhaps an average."""
    return 20 if config.training.average else 16
