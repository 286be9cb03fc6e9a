"""NumPy: the textbook formula and its hand-written gradient."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .. import recurrent, sparse
from ..cases import Case
from ..inputs import Arrays
from .base import Run, name_outputs

NAME = "NumPy"
# "blocks" forms the (Tq, Tk, Da) intermediate of additive attention for as many samples at a time as fit these many
# bytes; "whole" forms it for the batch, as the formula reads.
BLOCK_BYTES = 16 << 20


def load(threads: int) -> NumPy:
    return NumPy()


class NumPy:
    """Threads are those of the BLAS, pinned by environment variables before NumPy is imported."""

    name = NAME
    version = np.__version__

    def prepare(self, case: Case, data: Arrays) -> dict[str, Run]:
        if case.family in ("bahdanau", "steps", "transformer"):
            return {}
        if case.family == "gemm":
            return {"": lambda: data["x"] @ data["w"]}
        if case.family in ("gru", "lstm"):
            return {"": lambda: tuple(recurrent.compute(case.family, data).values())}
        if case.family == "additive":
            whole = data["query"].shape[0]
            step = max(1, BLOCK_BYTES // (data["query"].shape[1] * data["key"].size // whole * 4))
            spellings = {"whole": whole, "blocks": step} if step < whole else {"whole": whole}
            return {name: partial(_additive, **data, step=step) for name, step in spellings.items()}
        if case.family == "sparse":
            return {"sort": partial(sparse.attend, **data, normalizer=case.normalizer)}
        query = data["query"]
        future = ~np.tri(query.shape[-2], data["key"].shape[-2], dtype=bool) if case.causal else None
        return {"": lambda: _dot(**data, future=future)}

    def collect(self, case: Case, result: Any) -> dict[str, np.ndarray]:
        return name_outputs(case, result)


def _softmax_in_place(scores: np.ndarray) -> np.ndarray:
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def _softmax_gradient(weights: np.ndarray, d_weights: np.ndarray) -> np.ndarray:
    d_weights -= (weights * d_weights).sum(axis=-1, keepdims=True)
    d_weights *= weights
    return d_weights


def _dot(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    d_context: np.ndarray | None = None,
    future: np.ndarray | None = None,
) -> Any:
    scale = np.float32(query.shape[-1] ** -0.5)
    scores = (query * scale) @ key.swapaxes(-1, -2)
    if future is not None:
        np.putmask(scores, np.broadcast_to(future, scores.shape), np.float32(-np.inf))
    weights = _softmax_in_place(scores)
    context = weights @ value
    if d_context is None:
        return context
    d_scores = _softmax_gradient(weights, d_context @ value.swapaxes(-1, -2))
    d_scores *= scale
    return context, d_scores @ key, d_scores.swapaxes(-1, -2) @ query, weights.swapaxes(-1, -2) @ d_context


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
        weights = _softmax_in_place(hidden @ v)
        context = weights @ value[at]
        if d_context is None:
            parts.append((context,))
            continue
        d_scores = _softmax_gradient(weights.copy(), d_context[at] @ value[at].swapaxes(-1, -2))
        d_v += d_scores.reshape(-1) @ hidden.reshape(-1, v.size)
        hidden *= hidden
        np.subtract(np.float32(1), hidden, out=hidden)
        hidden *= d_scores[..., None]
        d_value = weights.swapaxes(-1, -2) @ d_context[at]
        parts.append((context, hidden.sum(axis=2) * v, hidden.sum(axis=1) * v, d_value))
    if d_context is None:
        return np.concatenate([part[0] for part in parts])
    return (*(np.concatenate(column) for column in zip(*parts, strict=True)), d_v)
