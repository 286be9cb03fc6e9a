"""The encoder-decoders by name, those of plugins too, and how one is made from its configuration."""

from typing import Any

import numpy as np

from fastattn._numbers import check_choice, check_size
from fastattn.plugin.records import ModelRecord
from fastattn.plugin.registry import Registry
from fastattn.seq2seq.models.model import Model
from fastattn.seq2seq.text.vocabulary import UNK

__all__ = ["REGISTRY", "build", "kinds", "record", "records", "register"]


def _own(name: str, summary: str, paper: str) -> ModelRecord:
    place = f"fastattn.seq2seq.models.{name}:{name.capitalize()}"
    return ModelRecord(name, place, summary, paper, settings=f"{place}Config")


_OWN = (
    _own(
        "bahdanau", "a bidirectional GRU encoder, a GRU decoder that attends before each step",
        "Bahdanau, Cho, Bengio 2015 (arXiv:1409.0473)",
    ),
    _own("cho", "a GRU encoder whose last state each step of the decoder reads", "Cho et al. 2014 (arXiv:1406.1078)"),
    _own(
        "luong", "stacked LSTMs, attention after each step of the decoder",
        "Luong, Pham, Manning 2015 (arXiv:1508.04025)",
    ),
    _own(
        "sutskever", "deep LSTMs, the last states of the encoder start the decoder",
        "Sutskever, Vinyals, Le 2014 (arXiv:1409.3215)",
    ),
    _own("transformer", "attention alone", "Vaswani et al. 2017 (arXiv:1706.03762)"),
    _own("wu", "LSTMs, one source position for each target token", "Wu, Shapiro, Cotterell 2018 (arXiv:1808.10024)"),
)  # fmt: skip

REGISTRY = Registry(ModelRecord, Model, _OWN)  # type: ignore[type-abstract]
kinds = REGISTRY.names
record = REGISTRY.record
records = REGISTRY.records
register = REGISTRY.register


def build(
    config: Any,
    source_vocabulary_size: int,
    target_vocabulary_size: int,
    seed: int | np.random.Generator,
    dtype: Any = np.float32,
) -> Model:
    """Return a new model.

    Parameters
    ----------
    config : dataclass
        The settings of a model, with its `kind`.
    source_vocabulary_size, target_vocabulary_size : int
        The special ids included.
    seed : int or numpy.random.Generator
        Of the parameters' start.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    Model

    Raises
    ------
    ArgumentError
        If there is no such kind, or a setting cannot be honoured with these vocabularies.
    """
    for name, size in (("source", source_vocabulary_size), ("target", target_vocabulary_size)):
        check_size(f"{name}_vocabulary_size", size, least=UNK + 1)  # ids 0 to 3 are special
    check_choice("dtype", getattr(dtype, "__name__", str(dtype)), ("float32", "float64"))
    factory = record(getattr(config, "kind", config)).load()
    rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(check_size("seed", seed, least=0))
    made: Model = factory(config, source_vocabulary_size, target_vocabulary_size, rng=rng, dtype=dtype)
    return made
