"""Types of what attention is asked for, so that a type checker knows what it returns."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Union

from fastattn._arrays import Array
from fastattn._relative import RelativeBias
from fastattn.normalizers.base import Normalizer
from fastattn.scores.base import Score

if TYPE_CHECKING:
    from fastattn.jit import MaskFunction, PairwiseFunction, RowFunction, ScoreModifier

__all__ = ["Causal", "Mask", "MemoryOptions", "Modifier", "NormalizerLike", "Options", "ScoreLike"]

Causal = Literal["top_left", "bottom_right"] | bool | None


ScoreLike = Union[str, Score, "PairwiseFunction", Callable[..., Any]]
NormalizerLike = Union[str, Normalizer, "RowFunction", Callable[..., Any]]
Modifier = Union["ScoreModifier", Callable[..., Any]]
Mask = Union[Array, "MaskFunction", Callable[..., Any]]


class CommonOptions(TypedDict, total=False):
    """Options of attention that do not change what kind of thing it returns."""

    normalizer: NormalizerLike
    score_mod: Modifier | None
    mask: Mask | None
    causal: Causal
    window: tuple[int | None, int | None] | None
    bias: Array | RelativeBias | None
    scale: float | None
    dropout: float
    seed: int | Array | None
    out: Array | None


class MemoryOptions(CommonOptions, total=False):
    """The same of `Memory.attend`."""

    first: int


class Options(CommonOptions, total=False):
    """The same of `attention` and `attention_vjp`."""

    score: ScoreLike
    key_lengths: Array | None
