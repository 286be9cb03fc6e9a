"""How far results with a sparse normalizer may lie from the float64 twin; the rest is in bounds.py.

Weights p = y^(1/e), y_j = 1 + e (z_j - max z - t), e = alpha - 1, have the slope s = y^(1/e - 1) in their score, and t
is a weighted mean of scores, so that p_j errs by s_j times twice the error of a score, eps (1 + S):
    unit(p) = (1 + S) (s~ + p)
s~ is s at y + r, r = 4 e eps (1 + S): a key that the twin leaves out may have such a small y.

Gradients dS_j = s_j (dP_j - delta), delta = sum_k s_k dP_k / sum_k s_k: s errs by its own slope,
    unit(s) = (1 + S) (s~ + |1/e - 1| e y~^(1/e - 2)),   y~ = y + r,
and with s' = unit(s) + s~, D_j the unit of dP_j, which bounds dP_j as well,
    unit(dS) = s' (D_j + sum_k s'_k D_k / sum_k s_k * sum_k s'_k / sum_k s_k).
Two units multiply here too: correct kernels stay below 0.05, and are held to 1.
For alpha > 1.5 s is steep or jumps where y = 0: rows with a key within 16 r of there are left out of gradients.
"""

import numpy as np
from bounds import Units

from fastattn._reference.shapes import to_four, to_pairs


class SparseUnits(Units):
    """The units of one problem with a sparse normalizer."""

    def __init__(self, problem):
        super().__init__(problem)
        run = self.run
        self.e = np.reshape(run.alpha, (1, -1, 1, 1)) - 1 if np.ndim(run.alpha) else np.float64(run.alpha) - 1
        scores = run.capped
        if "bias" in problem.rest:
            batch, pairs = problem.query.shape[:-2], run.allowed.shape[-2:]
            scores = scores + to_pairs(problem.rest["bias"].astype(np.float64), batch, *pairs)
        scores = np.where(run.allowed, scores, -np.inf)
        top = np.max(scores, axis=-1, initial=-np.inf, keepdims=True)
        largest = np.max(run.weights, axis=-1, initial=0.0, keepdims=True)
        with np.errstate(all="ignore"):
            y = np.where(run.allowed, largest**self.e + self.e * (scores - top), -np.inf)
            self.y = np.where(self.e == 0, np.where(run.weights > 0, 1.0, -np.inf), y)
            self.room = 4 * self.e * self.eps * self.growth
            moved = np.maximum(self.y + self.room, 0.0)
            power = np.where(self.e == 0, 0.0, 1 / np.where(self.e == 0, 1.0, self.e))
            slope = np.where(moved > 0, moved ** (power - 1), 0.0)
            bend = np.where(moved > 0, np.abs(power - 1) * self.e * moved ** (power - 2), 0.0)
        self.slope = np.where(self.e == 0, run.weights, slope)
        self.bend = np.where(self.e == 0, run.weights, bend)
        close = (np.abs(self.y) < 16 * self.room) & (self.e > 0.5)
        self.jumps = close.any(axis=-1, keepdims=True)

    def weight_units(self):
        return self.growth * (self.slope + self.run.weights)

    def score_units(self, d_weight, d_lse):
        assert d_lse is None
        reach = self.slope + self.growth * (self.slope + self.bend)
        with np.errstate(all="ignore"):
            slopes = np.where(self.run.weights > 0, self.slope, 0.0).sum(-1, keepdims=True)
            share = np.where(slopes > 0, reach.sum(-1, keepdims=True) / slopes, 0.0)
            mean = np.where(slopes > 0, (reach * d_weight).sum(-1, keepdims=True) / slopes, 0.0)
        return reach * (d_weight + mean * share)

    def cotangents(self, given):
        """The same with zeros for rows that have a key too close to its threshold."""
        keep = ~self.jumps
        assert keep.size == 0 or keep.mean() > 0.9
        return {name: (to_four(x) * keep).astype(x.dtype).reshape(x.shape) for name, x in given.items()}
