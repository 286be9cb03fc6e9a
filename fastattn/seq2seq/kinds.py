"""The kinds of encoder-decoders by name, and how one is made from its configuration."""

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fastattn.errors import ArgumentError, describe, did_you_mean
from fastattn.seq2seq.vocabulary import UNK

if TYPE_CHECKING:
    from fastattn.seq2seq.model import Model

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


def find(kind: str) -> "type[Model]":
    """Return the class of a kind, or raise."""
    if kind in _KINDS:
        return _KINDS[kind]
    raise ArgumentError(describe("kind", f"one of {', '.join(kinds())}", repr(kind), did_you_mean(kind, _KINDS)))


def _check_settings(config: Any) -> None:
    """Raise unless integers (sizes) are from 1 up, and floats (shares) in [0, 1), or factors from 0 up."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, int) and not isinstance(value, bool) and value < 1:
            raise ArgumentError(describe(field.name, "at least 1", value, f"the default is {field.default}."))
        most, expected = (np.inf, "a number from 0 up") if "factor" in field.metadata else (1, "a share in [0, 1)")
        if isinstance(value, float) and not 0 <= value < most:
            raise ArgumentError(describe(field.name, expected, value, f"the default is {field.default}."))


def build(
    config: Any, source_vocabulary_size: int, target_vocabulary_size: int, seed: int, dtype: Any = np.float32
) -> "Model":
    """Return a new model.

    Parameters
    ----------
    config : dataclass
        The settings of a model, with its `kind`.
    source_vocabulary_size, target_vocabulary_size : int
        The special ids included.
    seed : int
        Of the parameters' start.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    Model

    Raises
    ------
    ArgumentError
        If there is no such kind, or a setting cannot be honoured.
    """
    for name, size in (("source", source_vocabulary_size), ("target", target_vocabulary_size)):
        if size <= UNK:
            hint = "ids 0 to 3 are those of padding, begin, end and unknown."
            raise ArgumentError(describe(f"{name}_vocabulary_size", "more than 3", size, hint))
    cls: Any = find(config.kind)
    _check_settings(config)
    rng = np.random.default_rng(seed)
    model: Model = cls(config, source_vocabulary_size, target_vocabulary_size, rng=rng, dtype=dtype)
    return model
