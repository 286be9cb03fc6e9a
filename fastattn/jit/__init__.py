"""Scores, their modifiers, masks and normalizers that are Python functions of yours, compiled into the kernels.

`score_mod`, `mask_mod`, `pairwise_score` and `row_function` are decorators. A function is called once with symbols,
which give a graph of what it computes; the graph gives its derivatives, and both become compiled code, by Numba, which
is loaded when the first function is compiled. Importing this loads neither.

Numbers in compiled functions have errors of at most 4 units in the last place, sines and cosines up to 10**6, and
powers with other exponents than integers at most as many as the logarithm of the result, float64.
"""

from fastattn.jit.bound import MaskFunction, PairwiseFunction, ScoreModifier
from fastattn.jit.decorators import (
    Function,
    as_mask_mod,
    as_pairwise_score,
    as_row_function,
    as_score_mod,
    mask_mod,
    pairwise_score,
    row_function,
    score_mod,
)
from fastattn.jit.row_function import RowFunction

__all__ = [
    "Function",
    "MaskFunction",
    "PairwiseFunction",
    "RowFunction",
    "ScoreModifier",
    "as_mask_mod",
    "as_pairwise_score",
    "as_row_function",
    "as_score_mod",
    "mask_mod",
    "pairwise_score",
    "row_function",
    "score_mod",
]
