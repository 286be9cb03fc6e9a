"""NumPy: the textbook formula and its hand-written gradient."""

from functools import partial
from typing import Any

import numpy as np

from ...case import Arrays, Case, Run
from ...case import named as collect
from ..attention.numpy import softmax_gradient, softmax_in_place

__all__ = ["collect", "prepare"]

# "blocks" forms the (Tq, Tk, Da) intermediate for as many samples at a time as fit these many bytes; "whole" forms it
# for the batch, as the formula reads.
BLOCK_BYTES = 16 << 20


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    whole = data["query"].shape[0]
    step = max(1, BLOCK_BYTES // (data["query"].shape[1] * data["key"].size // whole * 4))
    spellings = {"whole": whole, "blocks": step} if step < whole else {"whole": whole}
    return {name: partial(_additive, **data, step=step) for name, step in spellings.items()}


def _additive(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    v: np.ndarray,
    d_context: np.ndarray | None = None,
    *,
    step: int,
) -> Any:
    d_v = np.zeros_like(v)
    parts: list[tuple[np.ndarray, ...]] = []
    for start in range(0, query.shape[0], step):
        at = slice(start, start + step)
        hidden = query[at, :, None, :] + key[at, None, :, :]
        np.tanh(hidden, out=hidden)
        weights = softmax_in_place(hidden @ v)
        context = weights @ value[at]
        if d_context is None:
            parts.append((context,))
            continue
        d_scores = softmax_gradient(weights.copy(), d_context[at] @ value[at].swapaxes(-1, -2))
        d_v += d_scores.reshape(-1) @ hidden.reshape(-1, v.size)
        hidden *= hidden
        np.subtract(np.float32(1), hidden, out=hidden)
        hidden *= d_scores[..., None]
        d_value = weights.swapaxes(-1, -2) @ d_context[at]
        parts.append((context, hidden.sum(axis=2) * v, hidden.sum(axis=1) * v, d_value))
    if d_context is None:
        return np.concatenate([part[0] for part in parts])
    return (*(np.concatenate(column) for column in zip(*parts, strict=True)), d_v)
