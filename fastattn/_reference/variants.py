"""Attention mechanisms from query to context, written as in their papers, one query after the other.

Each function takes the parameters by name, queries (B, T, Dq), the memory (B, S, Dm), what is summed (B, S, Dv) and
which positions may be read (B, S), and returns contexts (B, T, Dv) and weights (B, T, S) or (B, H, T, S).
"""

from typing import Any

import numpy as np

from . import positions as places
from .attention import alpha_of
from .elementwise import sigmoid
from .entmax import entmax_weights
from .shapes import Array

_ACTIVATIONS: dict[str, Any] = {"tanh": np.tanh, "sigmoid": sigmoid, "relu": lambda x: np.maximum(x, 0.0)}


def normalized(scores: Array, allowed: Array) -> Array:
    """Softmax over what is allowed; a row without anything is zero."""
    inside = np.where(allowed, scores, -np.inf)
    top = np.where(allowed.any(-1, keepdims=True), inside.max(-1, keepdims=True, initial=-np.inf), 0.0)
    e = np.where(allowed, np.exp(np.where(allowed, scores - top, 0.0)), 0.0)
    total = e.sum(-1, keepdims=True)
    return e / np.where(total == 0, 1.0, total)


def weighted(scores: Array, allowed: Array, normalizer: Any) -> Array:
    """Weights by a normalizer: its name, a mapping of name and settings, or an object."""
    if isinstance(normalizer, dict):
        alpha = normalizer.get("alpha", alpha_of(normalizer["name"]))
    else:
        alpha = alpha_of(normalizer)
    return normalized(scores, allowed) if alpha is None else entmax_weights(scores, allowed, alpha)


def soft_scores(name: str, p: dict[str, Array], q: Array, m: Array, **options: Any) -> Array:
    """Scores (B, S) of queries (B, Dq) and a memory (B, S, Dm) that the mechanisms below are made of."""
    if name == "dot":
        return np.einsum("bd,bsd->bs", q, m)
    if name == "general":
        return np.einsum("be,bse->bs", q @ p["w"], m)
    if name == "location":
        return (q @ p["w"])[:, : m.shape[1]]
    if name in ("additive", "concat", "bahdanau"):
        inner = (q @ p["query.w"])[:, None] + m @ p["key.w"] + p.get("key.b", 0.0)
        return _ACTIVATIONS[options.get("activation", "tanh")](inner) @ p["v"]
    if name == "pooling":
        return (np.tanh(m @ p["key.w"] + p["key.b"]) if "key.w" in p else m) @ p["v"]
    raise ValueError(f"no twin of {name!r}")


def soft(
    name: str, p: dict[str, Array], queries: Any, memory: Any, values: Any, allowed: Array, **options: Any
) -> tuple[Array, Array]:
    """Global soft attention."""
    q, m, v = _read(queries, memory, values, allowed)
    normalizer = options.pop("normalizer", "softmax")
    scores = [soft_scores(name, p, q[:, t], m, **options) for t in range(q.shape[1])]
    return _together([weighted(z, allowed, normalizer) for z in scores], v)


def pooling(
    p: dict[str, Array], queries: Any, memory: Any, values: Any, allowed: Array, **options: Any
) -> tuple[Array, Array]:
    """Yang et al. 2016, equations 5 to 7."""
    return soft("pooling", p, queries, memory, values, allowed, **options)


def bahdanau(
    p: dict[str, Array], queries: Any, memory: Any, values: Any, allowed: Array, **options: Any
) -> tuple[Array, Array]:
    """Bahdanau et al. 2015, equations 5 and 6."""
    return soft("bahdanau", p, queries, memory, values, allowed, **options)


def luong(
    p: dict[str, Array], queries: Any, memory: Any, values: Any, allowed: Array, *, score: str = "general",
    **options: Any,
) -> tuple[Array, Array]:  # fmt: skip
    """Luong et al. 2015, equation 7."""
    return soft(score, p, queries, memory, values, allowed, **options)


def gated_additive(
    p: dict[str, Array], queries: Any, memory: Any, values: Any, allowed: Array, **options: Any
) -> tuple[Array, Array]:
    """Xu et al. 2015, section 4.2.1."""
    context, weights = soft("additive", p, queries, memory, values, allowed, **options)
    return context * sigmoid(np.asarray(queries, np.float64) @ p["gate.w"] + p["gate.b"]), weights


def doubly_stochastic_loss(weights: Any, steps: Any, allowed: Array) -> Array:
    """Xu et al. 2015, the sum of equation 14: (B,) for weights (B, T, S)."""
    losses = []
    for w, count, read in zip(np.asarray(weights, np.float64), steps, allowed):
        losses.append(sum((1.0 - w[:count, i].sum()) ** 2 for i in np.flatnonzero(read)))
    return np.array(losses, np.float64)


def _read(queries: Any, memory: Any, values: Any, allowed: Array) -> tuple[Array, Array, Array]:
    m, v = (np.where(allowed[..., None], np.asarray(x, np.float64), 0.0) for x in (memory, values))
    return np.asarray(queries, np.float64), m, v


def _together(weights: list[Array], values: Array) -> tuple[Array, Array]:
    joined = np.stack(weights, axis=1)
    return np.einsum("bts,bsd->btd", joined, values), joined


def location_sensitive(
    p: dict[str, Array],
    queries: Any,
    memory: Any,
    values: Any,
    allowed: Array,
    *,
    smoothing: bool = False,
    sharpening: float = 1.0,
    window: int | None = None,
    cumulative: bool = False,
    initial: str = "zeros",
    **sizes: int,
) -> tuple[Array, Array]:
    """Chorowski et al. 2015, equations 8 and 9, and section 2.3."""
    q, m, v = _read(queries, memory, values, allowed)
    batch, keys = allowed.shape
    filters = p["filters"]
    left = filters.shape[1] // 2
    last = np.zeros((batch, keys))
    if initial == "uniform":
        last = allowed / np.maximum(allowed.sum(-1, keepdims=True), 1)
    history, weights = last, []
    for t in range(q.shape[1]):
        padded = np.pad(history, ((0, 0), (left, left)))
        f = np.stack([padded[:, j : j + filters.shape[1]] @ filters.T for j in range(keys)], axis=1)
        e = np.tanh((q[:, t] @ p["query.w"])[:, None] + m @ p["key.w"] + p["key.b"] + f @ p["u"]) @ p["v"]
        near = allowed
        if window is not None:
            middle = np.array([median_position(row) for row in last])[:, None]
            near = allowed & (np.abs(np.arange(keys) - middle) <= window)
        if smoothing:
            s = np.where(near, sigmoid(e), 0.0)
            last = s / np.maximum(s.sum(-1, keepdims=True), 1e-300)
        else:
            last = normalized(sharpening * e, near)
        history = history + last if cumulative else last
        weights.append(last)
    return _together(weights, v)


def median_position(weights: Array) -> int:
    """The first position at which half of all weight has been seen; 0 where there is none."""
    sums = np.cumsum(weights)
    return int(np.argmax(sums >= sums[-1] / 2))


def coverage(
    p: dict[str, Array],
    queries: Any,
    memory: Any,
    values: Any,
    allowed: Array,
    *,
    fertility: float | None = None,
    **sizes: int,
) -> tuple[Array, Array]:
    """See et al. 2017, equations 10 and 11; with fertility, Tu et al. 2016, section 3.1.1."""
    q, m, v = _read(queries, memory, values, allowed)
    needed = 1.0 if fertility is None else fertility * sigmoid((m @ p["fertility"])[..., 0])
    covered, weights = np.zeros(allowed.shape), []
    for t in range(q.shape[1]):
        inner = (q[:, t] @ p["query.w"])[:, None] + m @ p["key.w"] + p["key.b"] + covered[..., None] * p["u"][0]
        weights.append(normalized(np.tanh(inner) @ p["v"], allowed))
        covered = covered + weights[-1] / needed
    return _together(weights, v)


def neural_coverage(
    p: dict[str, Array], queries: Any, memory: Any, values: Any, allowed: Array, **sizes: int
) -> tuple[Array, Array]:
    """Tu et al. 2016, section 3.1.2, with a GRU."""
    q, m, v = _read(queries, memory, values, allowed)
    d = p["u"].shape[0]
    c, weights = np.zeros((*allowed.shape, d)), []
    for t in range(q.shape[1]):
        inner = (q[:, t] @ p["query.w"])[:, None] + m @ p["key.w"] + c @ p["u"]
        weights.append(normalized(np.tanh(inner) @ p["v"], allowed))
        x = weights[-1][..., None] * p["weight_gates"][0] + m @ p["memory_gates.w"] + p["memory_gates.b"]
        x = x + (q[:, t] @ p["query_gates.w"])[:, None]
        r, z = np.split(sigmoid(x[..., : 2 * d] + c @ p["gates"]), 2, axis=-1)
        n = np.tanh(x[..., 2 * d :] + (r * c) @ p["candidate"])
        c = (1 - z) * n + z * c
    return _together(weights, v)


def coverage_loss(weights: Any) -> Array:
    """See et al. 2017, equation 12, of every step: (B, T) for weights (B, T, S)."""
    w = np.asarray(weights, np.float64)
    covered = np.zeros((w.shape[0], w.shape[2]))
    losses = []
    for t in range(w.shape[1]):
        losses.append(np.minimum(w[:, t], covered).sum(-1))
        covered = covered + w[:, t]
    return np.stack(losses, axis=1)


def multihead(
    p: dict[str, Array],
    queries: Any,
    memory: Any,
    values: Any,
    allowed: Array,
    *,
    heads: int,
    key_heads: int | None = None,
    positions: Any = None,
    window: Any = None,
    sinks: int = 0,
    normalizer: Any = "softmax",
    first: int = 0,
    **sizes: Any,
) -> tuple[Array, Array]:
    """Vaswani et al. 2017, section 3.2.2, with groups of heads that share keys; the first query is at `first`."""
    settings = dict(positions) if isinstance(positions, dict) else {"name": positions}
    name = settings.pop("name")
    q, m, v = _read(queries, memory, values, allowed)
    if values is memory:
        v = places.added(name, p, v, 0)
    q, m = places.added(name, p, q, first), places.added(name, p, m, 0)
    known = {} if name in ("rotary", "shaw") else settings
    bias = places.bias(name, p, heads, first, q.shape[1], m.shape[1], **known)
    seen = places.seen(first, q.shape[1], m.shape[1], window, sinks) & allowed[:, None]
    each = heads // (key_heads or heads)
    projected = [x @ p[f"{name}.w"] + p.get(f"{name}.b", 0.0) for name, x in (("query", q), ("key", m), ("value", v))]
    width = projected[0].shape[-1] // heads
    contexts, weights = [], []
    for head in range(heads):
        at, shared = (slice(i * width, (i + 1) * width) for i in (head, head // each))
        query, key = projected[0][..., at], projected[1][..., shared]
        if name == "rotary":
            query, key = places.rotated(query, first, **settings), places.rotated(key, **settings)
        scores = np.einsum("btd,bsd->bts", query, key)
        if name == "shaw":
            scores = places.content(p, query, key, None, first)[0]
        scores = scores / np.sqrt(width) + bias[head]
        weights.append(weighted(scores, seen, normalizer))
        contexts.append(np.einsum("bts,bsd->btd", weights[-1], projected[2][..., shared]))
        if name == "shaw":
            contexts[-1] = contexts[-1] + places.content(p, query, key, weights[-1], first)[1]
    context = np.concatenate(contexts, axis=-1) @ p["output.w"] + p.get("output.b", 0.0)
    return context, np.stack(weights, axis=1)


def causal_self_attention(
    p: dict[str, Array], queries: Any, memory: Any, values: Any, allowed: Array, *, window: int | None = None,
    positions: Any = None, **options: Any,
) -> tuple[Array, Array]:  # fmt: skip
    """Vaswani et al. 2017, section 3.2.3: each query over the memory, the queries before it and itself.

    The memory is there as a whole, and summed itself: values and allowed are not read.
    """
    x, before = np.concatenate([memory, queries], axis=1), memory.shape[1]
    if isinstance(positions, dict) and positions["name"] == "t5":
        positions = {**positions, "bidirectional": False}
    if window is not None:
        options["window"] = (window, None)
    contexts, weights = [], []
    for t in range(before, x.shape[1]):
        seen = x[:, : t + 1]
        everything = np.ones(seen.shape[:2], bool)
        context, found = multihead(p, x[:, t : t + 1], seen, seen, everything, first=t, positions=positions, **options)
        contexts.append(context)
        weights.append(np.pad(found, ((0, 0), (0, 0), (0, 0), (0, x.shape[1] - t - 1))))
    return np.concatenate(contexts, axis=1), np.concatenate(weights, axis=2)


def additive_multihead(
    p: dict[str, Array],
    queries: Any,
    memory: Any,
    values: Any,
    allowed: Array,
    *,
    heads: int,
    activation: str = "tanh",
    normalizer: Any = "softmax",
    **sizes: Any,
) -> tuple[Array, Array]:
    """Vaswani et al. 2017, section 3.2.2, with the score of Bahdanau et al. 2015, A.1.2, in each head."""
    q, m, v = _read(queries, memory, values, allowed)
    v = v @ p["value.w"] + p.get("value.b", 0.0)
    width = v.shape[-1] // heads
    contexts, weights = [], []
    for head in range(heads):
        own = {name.removeprefix(f"heads.{head}."): x for name, x in p.items()}
        scores = [soft_scores("additive", own, q[:, t], m, activation=activation) for t in range(q.shape[1])]
        seen = np.broadcast_to(allowed[:, None], weights_shape(q, m))
        weights.append(weighted(np.stack(scores, axis=1), seen, normalizer))
        contexts.append(np.einsum("bts,bsd->btd", weights[-1], v[..., head * width : (head + 1) * width]))
    context = np.concatenate(contexts, axis=-1) @ p["output.w"] + p.get("output.b", 0.0)
    return context, np.stack(weights, axis=1)


def weights_shape(q: Array, m: Array) -> tuple[int, int, int]:
    """(B, T, S)."""
    return q.shape[0], q.shape[1], m.shape[1]


def local_m(
    p: dict[str, Array],
    queries: Any,
    memory: Any,
    values: Any,
    allowed: Array,
    *,
    window: int = 10,
    score: str = "general",
    predicted: bool = False,
    lengths: Any = None,
    **sizes: Any,
) -> tuple[Array, Array]:
    """Luong et al. 2015, section 3.2; `predicted`: equations 9 and 10, with lengths (B,)."""
    q, m, v = _read(queries, memory, values, allowed)
    inside = {name.removeprefix("align."): value for name, value in p.items()}
    at = np.arange(m.shape[1])
    weights = []
    for t in range(q.shape[1]):
        position = np.full((len(q), 1), float(t))
        if predicted:
            position = np.asarray(lengths)[:, None] * sigmoid(np.tanh(q[:, t] @ p["position.w"]) @ p["v_p"])
        near = allowed & (np.abs(at - position) <= window)
        align = normalized(soft_scores(score, inside, q[:, t], m), near)
        if predicted:
            align = align * np.exp(-((at - position) ** 2) / (2 * (window / 2) ** 2))
        weights.append(align)
    return _together(weights, v)


def local_p(*arguments: Any, lengths: Any, **options: Any) -> tuple[Array, Array]:
    """Luong et al. 2015, equations 9 and 10."""
    return local_m(*arguments, predicted=True, lengths=lengths, **options)
