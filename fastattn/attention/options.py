"""Types of what attention is asked for, so that a type checker knows what it returns."""

from typing import Literal, TypedDict

from fastattn._arrays import Array
from fastattn._relative import RelativeBias
from fastattn.normalizers.base import Normalizer
from fastattn.scores.base import Score

__all__ = ["Causal", "MemoryOptions", "Options"]

Causal = Literal["top_left", "bottom_right"] | bool | None


class MemoryOptions(TypedDict, total=False):
    """Options of `Memory.attend` that do not change what kind of thing it returns."""

    normalizer: str | Normalizer
    mask: Array | None
    causal: Causal
    window: tuple[int | None, int | None] | None
    bias: Array | RelativeBias | None
    scale: float | None
    dropout: float
    seed: int | Array | None
    out: Array | None


class Options(MemoryOptions, total=False):
    """The same of `attention` and `attention_vjp`."""

    score: str | Score
    key_lengths: Array | None
