"""Functions of users on scores, and as masks: what attention needs of them, and what the kernels read."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastattn._kernels import core
from fastattn.errors import ArgumentError, UnsupportedError, describe
from fastattn.scores.base import Score, kernel_functions
from fastattn.scores.modified import Modified

if TYPE_CHECKING:
    from fastattn.jit import MaskFunction, ScoreModifier

__all__ = [
    "apart",
    "as_mask",
    "as_modifier",
    "check_modified",
    "is_function",
    "kernel_mask",
    "kernel_modifier",
]


def as_modifier(score_mod: object) -> "ScoreModifier":
    """Return a function on scores with its parameters, also of a plain function, or raise."""
    from fastattn.jit import as_score_mod  # loaded at first use

    return as_score_mod(score_mod)


def as_mask(mask: object) -> "MaskFunction":
    """Return a mask function with its parameters, also of a plain function, or raise."""
    from fastattn.jit import as_mask_mod

    return as_mask_mod(mask)


def apart(score: Score, score_mod: Any) -> tuple[Score, Any]:
    """Return a score as the kernels know it, and the function on scores that it has or that is given, or None."""
    if isinstance(score, Modified):
        if score_mod is not None:
            hint = "write one function that does what both do."
            raise ArgumentError(describe("score_mod", "None for a score that has a function", "a function", hint))
        score_mod = score.bound()
        score = score.inner
    return (score, None) if score_mod is None else (score.whole(), score_mod)


def is_function(mask: object) -> bool:
    """Whether a mask is a function, and not to become an array."""
    return type(mask) is not np.ndarray and (callable(mask) or hasattr(mask, "block_map"))


def check_modified(score: Score, modifier: "ScoreModifier", added: bool) -> None:
    """Raise where a modifier would not see all of a score, or its parameters have names that the score's have."""
    if added:
        hint = "use a score that a kernel computes; of a memory, pass score_mod= to prepare()."
        raise UnsupportedError(describe("score_mod", f"None with the score {score.name}", "a function", hint))
    if both := sorted(set(score.parameters) & set(modifier.parameters)):
        hint = "gradients come back under these names; give the function's parameters others."
        raise ArgumentError(describe("score_mod", "parameters of names that the score has not", both, hint))


def kernel_modifier(
    modifier: "ScoreModifier", dtype: np.dtype[Any], shape: tuple[int, ...], differentiate: bool
) -> core.KernelFunctions:
    """Return what kernels read of a modifier of scores (..., Tq, Tk), forward and, if wanted, backward."""
    found = modifier.compiled(dtype, *_four_axes(shape))
    if differentiate and found.sloped:
        return core.KernelFunctions(
            dtype, found.forward, 0, found.parameters, found.gradients, found, found.sloped
        )
    return kernel_functions(found, dtype, differentiate)


def kernel_mask(mask: "MaskFunction", shape: tuple[int, ...]) -> core.KernelMask:
    """Return what kernels read of a mask function of scores of this shape."""
    sizes = _four_axes(shape)
    found = mask.compiled(*sizes)
    return core.KernelMask(
        core.KernelFunctions(None, found.forward, 0, found.parameters, (), found), mask.block_map(*sizes)
    )


def _four_axes(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return (..., Tq, Tk) as (B, H, Tq, Tk)."""
    return shape[0] if len(shape) > 2 else 1, shape[1] if len(shape) == 4 else 1, shape[-2], shape[-1]
