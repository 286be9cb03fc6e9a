"""How far a correct result may lie from the float64 twin: the unit of the accuracy gates.

A check is max |result - twin| / (eps * unit) <= C with C = 4 for outputs and C = 8 for gradients; eps is that of the
dtype. The units follow from first-order error analysis: replace every term of a sum by its absolute value (a dot
product in any order errs by a small multiple of eps times that), and carry the error of the scores through exp.

Scores. raw_ij errs by eps * S_ij, where S_ij is the score with absolute values: |q| . |k| for dot. For additive scores
the argument x = q w_query + k w_key + b errs by eps * X with X = |q| |w_query| + |k| |w_key| + |b|, hence the score by
eps * sum_d |v_d| (|act(x_d)| + |act'(x_d)| X_d). A score that brings its formula: the larger of its values for |q| and
|k| and for |q| and -|k|, of which one lets no term cancel another: sum_d |q_d| + |k_d| for L1. Scale multiplies S,
softcap does not enlarge it, bias adds |bias|.

Outputs. With S_i = max_j S_ij over the allowed keys, P_ij has the relative error eps (1 + S_i), so
    unit(weights) = P_ij (1 + S_i),   unit(context) = (1 + S_i) sum_j P_ij M_ij |v_j|,
    unit(lse) = 1 + S_i + |lse_i|         (score error, that of the logarithm, rounding of the result).

Gradients, with P' = P (1 + S):
    unit(d_value) = sum_i P'_ij M_ij |dO_i|,   unit(dP) = M_ij |dO_i| . |v_j| + |dW_ij|,
    unit(dS) = P'_ij (unit(dP_ij) + sum_k P_ik unit(dP_ik) + |dlse_i|)        (the difference may cancel)
    d_bias sums unit(dS). Softcap multiplies by f = 1 - t^2, t = tanh(raw / c), whose error is
    2 |t| (|t| + f S / c), so by f + 2 t^2 + 2 |t| f S / c.
    Every score then applies its own gradient formula with absolute values. act' is treated as f is:
    tanh: f + 2 t^2 + 2 |t| f X;  sigmoid, f = y (1 - y): f + y^2 + f X;  relu: 1, and no limit where |x| is within its
    own error of the kink, where either side is right.
A formula's gradients are taken as its scores are; slopes of L1 scores are signs of differences, which have no error.
In an additive score's own gradients two such units multiply, S and act', each a sum over Da terms whose errors do not
conspire: correct kernels stay below 0.15 of the product at every level, so they are held to 1 instead of 8.

The smallest normal number is added to every unit: kernels may flush weights below it to zero.
"""

from functools import cached_property

import numpy as np
from cases import twin_options

from fastattn._reference import Gradients
from fastattn._reference.attention import run_forward
from fastattn._reference.gemm import weight_gradient
from fastattn._reference.scores_additive import activate, preactivation, split_parameters
from fastattn._reference.scores_product import _units
from fastattn._reference.shapes import gather_heads, to_four, to_pairs, unbroadcast

FORWARD_GATE = 4.0
BACKWARD_GATE = 8.0
PRODUCT_GATE = 1.0  # where the unit is a product of two


def worst(result, twin, unit, dtype):
    """max |result - twin| / (eps * unit); equal values, equal infinities and NaN for NaN included, count as 0."""
    result, twin = np.asarray(result, np.float64), np.asarray(twin, np.float64)
    if result.shape != twin.shape:
        raise AssertionError(f"shape {result.shape}, expected {twin.shape}")
    info = np.finfo(dtype)
    with np.errstate(invalid="ignore"):
        error = np.where((result == twin) | (np.isnan(result) & np.isnan(twin)), 0.0, np.abs(result - twin))
    error = np.where(np.isnan(error), np.inf, error)
    room = float(info.eps) * np.where(np.isnan(unit), np.inf, unit) + float(info.tiny)
    return float(np.max(error / room, initial=0.0))


def _swap(x):
    return x.swapaxes(-1, -2)


class Units:
    """The units of one problem."""

    jumps = np.zeros((1, 1), bool)  # rows (..., Tq, 1) of which a rounding may change the whole gradient

    def __init__(self, problem):
        self.problem = problem
        self.run = run = run_forward(*problem.arrays, **twin_options(problem))
        self.eps = float(np.finfo(problem.case.dtype).eps)
        self.q, self.k, self.v = np.abs(run.query), np.abs(run.key), np.abs(run.value)
        self.parameters = {name: np.abs(p) for name, p in run.spec.parameters.items()}
        self.scores = self._score_sizes() * abs(run.scale)
        sizes = self.scores
        if "bias" in problem.rest:
            batch, pairs = problem.query.shape[:-2], run.allowed.shape[-2:]
            sizes = sizes + np.abs(to_pairs(problem.rest["bias"].astype(np.float64), batch, *pairs))
        largest = np.max(np.where(run.allowed, sizes, 0.0), axis=-1, initial=0.0, keepdims=True)
        self.growth = 1.0 + largest

    def _score_sizes(self):
        q, k, p, name = self.q, self.k, self.parameters, self.run.spec.name
        if name in ("dot", "scaled_dot"):
            return q @ _swap(k)
        if name == "general":
            return q @ p["w"] @ _swap(k)
        if name == "cosine":
            return _units(q)[0] @ _swap(_units(k)[0])
        if name == "location":
            return q @ p["w"][:, : k.shape[-2]]
        if self.run.spec.formula is not None:
            return np.maximum(*(np.abs(self.run.spec.formula(p, q, sign * k, 1.0)) for sign in (1, -1)))
        y, slope, argument, _ = self._additive
        return (np.abs(y) + slope * argument) @ p["v"]

    @cached_property
    def _additive(self):
        """act(x), the slope that carries errors of x, X, and the unit of act'."""
        spec = self.run.spec
        x = preactivation(spec, self.run.query, self.run.key)
        y, slope = activate(spec.activation, x)
        absolute = type(spec)(spec.name, self.parameters, spec.activation)
        argument = preactivation(absolute, self.q, self.k)
        if spec.activation == "relu":
            near = np.abs(x) <= 8 * self.eps * argument
            return y, np.ones_like(x), argument, 1.0 + near / self.eps
        if spec.activation == "sigmoid":
            return y, slope, argument, slope + y * y + slope * argument
        return y, slope, argument, slope + 2 * y * y + 2 * np.abs(y) * slope * argument

    def cotangents(self, given):
        """The cotangents for which gradients can be compared: all that are given."""
        return given

    def weight_units(self):
        """Units of the weights, before their shape is that of the problem."""
        return self.run.weights * self.growth

    def score_units(self, d_weight, d_lse):
        """Units of the gradients of the scores, from those of the weights."""
        run = self.run
        row = (run.weights * d_weight).sum(-1, keepdims=True)
        if d_lse is not None:
            row = row + np.abs(np.asarray(d_lse, np.float64).reshape(run.allowed.shape[:3]))[..., None]
        return self.weight_units() * (d_weight + row)

    def forward(self):
        """Units of (context, weights, lse)."""
        run, batch = self.run, self.problem.query.shape[:-2]
        weights = self.weight_units()
        context = np.where(run.allowed, weights * run.kept, 0.0) @ self.v
        lse = self.growth[..., 0] + np.abs(np.where(np.isinf(run.lse), 0.0, run.lse))
        return tuple(x.reshape(*batch, *x.shape[2:]) for x in (context, weights, lse))

    def backward(self, d_context=None, d_weights=None, d_lse=None):
        """Units of all gradients, as a Gradients."""
        run, problem = self.run, self.problem
        pairs = run.allowed.shape
        zero = np.zeros((*pairs[:3], self.v.shape[-1]))
        d_out = zero if d_context is None else np.abs(to_four(d_context))
        d_value = _swap(self.weight_units() * run.kept) @ d_out
        d_weight = run.kept * (d_out @ _swap(self.v))
        if d_weights is not None:
            d_weight = d_weight + np.abs(to_four(d_weights))
        d_score = np.where(run.allowed, self.score_units(d_weight, d_lse), 0.0)
        d_raw = d_score * abs(run.scale)
        cap = run.spec.softcap
        if cap is not None:
            t = np.abs(run.capped) / cap
            slope = 1 - t * t
            d_raw = d_raw * (slope + 2 * t * t + 2 * t * slope * self.scores / cap)
        d_query, d_key, parameters = self._score_gradients(d_raw)
        bias = problem.rest.get("bias")
        d_bias = None
        if bias is not None:
            d_bias = unbroadcast(d_score.reshape(*problem.query.shape[:-2], *pairs[2:]), bias.shape)
        heads = to_four(problem.key).shape[1]
        return Gradients(
            d_query.reshape(problem.query.shape),
            gather_heads(d_key, heads).reshape(problem.key.shape),
            gather_heads(d_value, heads).reshape(problem.value.shape),
            d_bias,
            parameters,
        )

    def _score_gradients(self, d_raw):
        q, k, p, name = self.q, self.k, self.parameters, self.run.spec.name
        if name in ("dot", "scaled_dot"):
            return d_raw @ k, _swap(d_raw) @ q, {}
        if name == "general":
            pulled = d_raw @ k
            return pulled @ p["w"].T, _swap(d_raw) @ (q @ p["w"]), {"w": weight_gradient(q, pulled)}
        if name == "cosine":
            (qu, q_length), (ku, k_length) = _units(q), _units(k)
            along = d_raw * (qu @ _swap(ku))
            d_query = (d_raw @ ku + along.sum(-1)[..., None] * qu) / q_length
            return d_query, (_swap(d_raw) @ qu + along.sum(-2)[..., None] * ku) / k_length, {}
        if name == "location":
            used = p["w"][:, : k.shape[-2]]
            d_w = np.zeros(p["w"].shape)
            d_w[:, : k.shape[-2]] = weight_gradient(q, d_raw)
            return d_raw @ used.T, np.zeros(k.shape), {"w": d_w}
        if self.run.spec.formula_vjp is not None:
            (d_query, d_key, of), other = (self.run.spec.formula_vjp(p, q, sign * k, 1.0, d_raw) for sign in (1, -1))
            d_query, d_key = (np.maximum(np.abs(a), np.abs(b)) for a, b in zip((d_query, d_key), other))
            return d_query, d_key, {name: np.maximum(np.abs(d), np.abs(other[2][name])) for name, d in of.items()}
        return self._additive_gradients(d_raw)

    def _additive_gradients(self, d_raw):
        spec = self.run.spec
        absolute = type(spec)(spec.name, self.parameters, spec.activation)
        v, w_query, w_key, b = split_parameters(absolute, self.q.shape[-1])
        y, slope, argument, derivative = self._additive
        axes = (0, 1, 2, 3)
        d_scores = d_raw[..., None]
        d_x = d_scores * v * derivative
        d_q, d_k = d_x.sum(-2), d_x.sum(-3)
        gradients = {"v": (d_scores * (np.abs(y) + slope * argument)).sum(axes)}
        parts = [weight_gradient(x, d) for x, d, w in ((self.q, d_q, w_query), (self.k, d_k, w_key)) if w is not None]
        if spec.name == "concat":
            gradients["w"] = np.concatenate(parts)
        else:
            names = [n for n, w in (("w_query", w_query), ("w_key", w_key)) if w is not None]
            gradients.update(zip(names, parts))
            if b is not None:
                gradients["b"] = d_x.sum(axes)
        d_query = d_q if w_query is None else d_q @ w_query.T
        return d_query, d_k if w_key is None else d_k @ w_key.T, gradients
