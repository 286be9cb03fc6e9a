"""Raw scores of every kind and their gradients, on query (B, H, Tq, Dq) and key (B, H, Tk, Dk).

A score is described by anything that has `name`, `parameters` and, where they apply, `activation` and `softcap`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import scores_additive, scores_product
from .shapes import Array


@dataclass(frozen=True)
class ScoreSpec:
    """What the twin needs to know of a score.

    One that has no twin here brings its own: formula and formula_vjp, and its default scale.
    """

    name: str
    parameters: dict[str, Array] = field(default_factory=dict)
    activation: str = "tanh"
    softcap: float | None = None
    scale: float | None = None
    formula: Callable[..., Array] | None = None
    formula_vjp: Callable[..., tuple[Array, Array, dict[str, Array]]] | None = None


def describe(score: Any) -> ScoreSpec:
    """A ScoreSpec in float64 from a name or from an object with the attributes of a score."""
    if isinstance(score, str):
        return ScoreSpec(score)
    parameters = {name: np.asarray(value, np.float64) for name, value in (score.parameters or {}).items()}
    activation = getattr(score, "activation", None) or "tanh"
    own = (getattr(score, name, None) for name in ("softcap", "scale", "formula", "formula_vjp"))
    return ScoreSpec(score.name, parameters, activation, *own)


def default_scale(spec: ScoreSpec, width: int) -> float:
    """The score's own, or 1/sqrt(Dk) for scaled_dot, 1 for every other score."""
    if spec.scale is not None:
        return spec.scale
    return 1.0 / np.sqrt(width) if spec.name == "scaled_dot" and width else 1.0


def raw_scores(spec: ScoreSpec, query: Array, key: Array) -> Array:
    """Scores before scale, softcap and bias: (B, H, Tq, Tk)."""
    if spec.formula is not None and spec.formula_vjp is not None:
        return spec.formula(spec.parameters, query, key, 1.0)
    if spec.name in ("additive", "concat"):
        return scores_additive.forward(spec, query, key)
    return scores_product.forward(spec, query, key)


def raw_scores_vjp(
    spec: ScoreSpec, query: Array, key: Array, d_raw: Array, allowed: Array
) -> tuple[Array, Array, dict[str, Array]]:
    """Gradients of query, key and parameters; d_raw is read only where allowed."""
    if spec.formula_vjp is not None:
        return spec.formula_vjp(spec.parameters, query, key, 1.0, np.where(allowed, d_raw, 0.0))
    if spec.name in ("additive", "concat"):
        return scores_additive.backward(spec, query, key, d_raw, allowed)
    return scores_product.backward(spec, query, key, d_raw, allowed)
