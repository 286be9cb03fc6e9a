"""The attention of two papers under their names, with the options that they have there."""

from typing import Any

import numpy as np

from fastattn.errors import ArgumentError, describe, did_you_mean
from fastattn.scores import Additive, record
from fastattn.variants.of_score import SoftOf
from fastattn.variants.protocol.checks import NormalizerLike
from fastattn.variants.soft import Soft

__all__ = ["bahdanau", "luong"]

_SCORES = ("general", "dot", "concat", "location")


def bahdanau(
    *,
    query_width: int,
    memory_width: int,
    width: int,
    normalizer: NormalizerLike = "softmax",
    rng: np.random.Generator,
    dtype: Any = np.float32,
) -> Soft:
    """Return the attention of Bahdanau, Cho and Bengio 2015, section 3.1: `Additive` as published.

    ``e_ij = v . tanh(W_a s_{i-1} + U_a h_j)``, ``alpha_ij = softmax_j(e_ij)`` (equation 6) and
    ``c_i = sum_j alpha_ij h_j`` (equation 5); the query is the state before the step. The
    paper's normalizer is softmax.
    """
    score = Additive.drawn(query_width, memory_width, width=width, rng=rng, dtype=dtype)
    return Soft(score, query_width=query_width, memory_width=memory_width, normalizer=normalizer, dtype=dtype)


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
    """Return the attention of Luong, Pham, Manning 2015, section 3.1: ``a_t(s) = softmax_s(score(h_t, h_s))`` (eq. 7).

    The query is the state after the step; the attentional vector of equation 5 and input feeding (section 3.3) are the
    decoder's.

    Parameters
    ----------
    query_width, memory_width : int
    score : {"dot", "general", "concat", "location"}
        See `fastattn.scores`; "general" did best in the paper.
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
    if width is not None and score != "concat":
        hint = "only 'concat' has a layer between."
        raise ArgumentError(describe("width", f"None with score {score!r}", width, hint))
    own = {"location": {"longest": longest}, "concat": {"width": query_width if width is None else width}}
    return SoftOf(record(str(score)))(
        query_width=query_width, memory_width=memory_width, normalizer=normalizer, rng=rng, dtype=dtype,
        **own.get(str(score), {}),
    )  # fmt: skip
