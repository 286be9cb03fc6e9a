"""The kinds of encoder-decoders by name, and how one is made from its configuration."""

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fastattn.errors import ArgumentError, describe, did_you_mean
from fastattn.seq2seq.text.vocabulary import UNK
from fastattn.variants.protocol.checks import check_choice, check_size

if TYPE_CHECKING:
    from fastattn.seq2seq.models.model import Model

__all__ = ["build", "find", "kinds", "register"]

M = TypeVar("M", bound="type[Model]")

_KINDS: "dict[str, type[Model]]" = {}


def register(cls: M) -> M:
    """Class decorator: makes `build` find a model under its `kind`."""
    _KINDS[cls.kind] = cls
    return cls


def kinds() -> tuple[str, ...]:
    """Return the kinds of models that there are."""
    return tuple(sorted(_KINDS))


def find(kind: object) -> "type[Model]":
    """Return the class of a kind, or raise."""
    if isinstance(kind, str) and kind in _KINDS:
        return _KINDS[kind]
    raise ArgumentError(describe("kind", f"one of {', '.join(kinds())}", repr(kind), did_you_mean(kind, _KINDS)))


def build(
    config: Any,
    source_vocabulary_size: int,
    target_vocabulary_size: int,
    seed: int | np.random.Generator,
    dtype: Any = np.float32,
) -> "Model":
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
    cls: Any = find(getattr(config, "kind", config))
    rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(check_size("seed", seed, least=0))
    model: Model = cls(config, source_vocabulary_size, target_vocabulary_size, rng=rng, dtype=dtype)
    return model
