"""Scores with a function of yours on them: where a score is given, trained or named, so is the function."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from fastattn.errors import ArgumentError, describe
from fastattn.scores.base import KERNEL_NONE, ByName, Held, Score
from fastattn.scores.wrapped import Wrapped

if TYPE_CHECKING:
    from fastattn.jit import ScoreModifier

__all__ = ["Modified"]


class Modified(Wrapped):
    """``f(scale * score(q_i, k_j), b, h, i, j, parameters)``.

    Parameters
    ----------
    inner : str, Score or pairwise function
        Whose softcap, if it has one, comes before the function.
    function : function on scores
        What `fastattn.score_mod` made of a function, with its parameters; or a function without parameters.

    Notes
    -----
    ``attention(..., score=Modified(score, f))`` is ``attention(..., score=score, score_mod=f)``, with gradients of the
    parameters of both. In a variant, also of a decoder, these are trained, and i is the number of the step. A class
    derived from it is a score with a name where a record says so; one with a method `drawn` is a variant too.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> from fastattn.scores import Modified
    >>> @fastattn.score_mod
    ... def nearby(score, b, h, i, j, slope):
    ...     return score - slope * abs(i - j)
    >>> from fastattn.variants.soft import Soft
    >>> score = Modified("dot", nearby(slope=np.ones((), np.float32)))
    >>> variant = Soft(score, query_width=4, memory_width=4)
    >>> prepared = variant.prepare(np.eye(4, dtype=np.float32)[None])
    >>> variant.forward(np.zeros((1, 2, 4), np.float32), prepared).argmax(axis=-1)
    array([[0, 1]])
    """

    kernel = KERNEL_NONE

    def __init__(self, inner: Any, function: Any) -> None:
        from fastattn.jit import as_score_mod  # loaded at first use
        from fastattn.scores.registry import resolve  # made of all files of this folder

        inner, self.function = resolve(inner), as_score_mod(function)
        super().__init__(softcap=inner.softcap)
        if isinstance(inner, Modified):
            hint = "write one function that does what both do."
            raise ArgumentError(describe("inner", "a score without a function", repr(inner), hint))
        own = {name: self.function.parameters[name].copy() for name in self.function.trained}
        if both := sorted({*inner.parameters, *inner.plain().parameters} & set(self.function.parameters)):
            hint = "gradients come back under these names; give the function's parameters others."
            raise ArgumentError(describe("function", "parameters of names that the score has not", both, hint))
        self.inner, self.name, self.one_width = inner, type(self).name or inner.name, inner.one_width
        self.trained_names = inner.trained_names
        self.parameters = {**inner.parameters, **own}

    def bound(self) -> "ScoreModifier":
        """Return the function with its parameters as they are now."""
        return self.function.following({name: self.parameters[name] for name in self.function.trained})

    def placed(self, first: int) -> "Modified":
        """Return the same of queries whose place i begins at `first`."""
        return Modified(self.inner, self.bound().placed(first))

    def hold(self, held: Mapping[str, Held]) -> Self:
        other = super().hold(held)
        own = self.function.trained
        other.inner = self.inner.hold({name: one for name, one in held.items() if name not in own})
        return other

    def keep(self, key_width: int) -> Score:
        return Modified(self.inner.keep(key_width), self.bound())

    def plain(self) -> Score:
        return Modified(self.inner.plain(), self.bound())

    def plain_gradients(self, d: ByName) -> ByName:
        own = {name: d[name] for name in self.function.trained}
        return {**self.inner.plain_gradients({name: x for name, x in d.items() if name not in own}), **own}
