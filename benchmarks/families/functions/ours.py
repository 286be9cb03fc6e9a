"""The functions as a user writes them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn import mask_mod, pairwise_score, score_mod

from ...case import Arrays, Case, Run
from ..attention.ours import collect, run
from .inputs import CAP, WIDTH

__all__ = ["collect", "prepare"]


@score_mod
def alibi(score: Any, b: Any, h: Any, i: Any, j: Any, slopes: Any) -> Any:
    return score - slopes[h] * abs(i - j)


@score_mod
def softcap(score: Any, b: Any, h: Any, i: Any, j: Any, cap: Any) -> Any:
    return cap * np.tanh(score / cap)


@mask_mod
def window(b: Any, h: Any, i: Any, j: Any, width: Any) -> Any:
    return abs(i - j) <= width


@pairwise_score
def additive(q: Any, k: Any, v: Any) -> Any:
    return v * np.tanh(q + k)


OPTIONS: dict[str, Callable[[Arrays], dict[str, Any]]] = {
    "alibi": lambda data: {"score_mod": alibi(slopes=data["slopes"])},
    "softcap": lambda data: {"score_mod": softcap(cap=CAP)},
    "window": lambda data: {"mask": window(width=WIDTH)},
    "additive": lambda data: {"score": additive(v=data["v"])},
}


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    return run(case, data, **OPTIONS[case.options["function"]](data))
