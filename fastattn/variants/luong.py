"""The global attention of Luong, Pham and Manning 2015 under one name, its score an option."""

from typing import Any

import numpy as np

from fastattn.errors import ArgumentError, describe, did_you_mean
from fastattn.variants.additive import Concat
from fastattn.variants.dot import Dot, General, Location
from fastattn.variants.protocol.checks import NormalizerLike
from fastattn.variants.soft import Soft

__all__ = ["luong"]

_SCORES: dict[str, Any] = {"dot": Dot, "general": General, "concat": Concat, "location": Location}


def luong(
    *,
    query_width: int,
    memory_width: int,
    score: str = "general",
    width: int | None = None,
    longest: int = 200,
    normalizer: NormalizerLike = "softmax",
    rng: np.random.Generator,
    dtype: Any = np.float32,
) -> Soft:
    """Return the attention of section 3.1: ``a_t(s) = softmax_s(score(h_t, h_s))`` (equation 7).

    The query is the state after the step; the attentional vector of equation 5 and input feeding (section 3.3) are the
    decoder's.

    Parameters
    ----------
    query_width, memory_width : int
    score : {"dot", "general", "concat", "location"}
        See `Dot`, `General`, `Concat` and `Location`.
    width : int, optional
        For "concat"; by default the query's.
    longest : int
        For "location".
    normalizer : str, mapping or Normalizer
        As of `Soft`; softmax in the paper.
    rng, dtype
    """
    if str(score) not in _SCORES:  # also what cannot be hashed, or compares by element
        hint = did_you_mean(score, _SCORES, "'general' did best in the paper.")
        raise ArgumentError(describe("score", f"one of {', '.join(_SCORES)}", repr(score), hint))
    options: dict[str, Any] = {"normalizer": normalizer}
    if score == "concat":
        options["width"] = query_width if width is None else width
    elif width is not None:
        hint = "only 'concat' has a layer between."
        raise ArgumentError(describe("width", f"None with score {score!r}", width, hint))
    if score == "location":
        options["longest"] = longest
    made: Soft = _SCORES[score](query_width=query_width, memory_width=memory_width, rng=rng, dtype=dtype, **options)
    return made
