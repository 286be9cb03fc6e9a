"""What papers and other libraries call what is here, so that an error can answer such a name."""

from collections.abc import Mapping

__all__ = ["FAMILIES", "LAYERS", "MECHANISMS", "SCORES", "advice", "missing"]

_HEADS = "fastattn.create('multihead', ...)"
_SOFT = "fastattn.create('bahdanau', ...) or fastattn.create('luong', ...), which attend to the whole memory"

# By the name without its underscores, hyphens, case, and the word "attention".
MECHANISMS: Mapping[str, str] = {
    "": "fastattn.attention(query, key, value)",
    "crossmultihead": _HEADS,
    "cross": _HEADS,
    "dotproduct": "fastattn.attention(query, key, value, score='dot')",
    "flash": "fastattn.attention(query, key, value)",
    "global": _SOFT,
    "gqa": "fastattn.create('multihead', key_heads=..., ...)",
    "groupquery": "fastattn.create('multihead', key_heads=..., ...)",
    "groupedquery": "fastattn.create('multihead', key_heads=..., ...)",
    "local": "fastattn.create('local_m', ...) or fastattn.create('local_p', ...)",
    "mha": _HEADS,
    "multihead": _HEADS,
    "multiplicative": "fastattn.create('general', ...)",
    "multiquery": "fastattn.create('multihead', key_heads=1, ...)",
    "scaleddotproduct": "fastattn.attention(query, key, value)",
    "sdpa": "fastattn.attention(query, key, value)",
    "self": f"fastattn.create('causal_self_attention', ...), or {_HEADS} with the queries as its memory",
    "soft": _SOFT,
    "stochastic": "fastattn.create('hard', ...)",
    **{name: f"fastattn.create({name!r}, ...)" for name in ("additive", "bahdanau", "hard", "luong", "monotonic")},
}
SCORES: Mapping[str, str] = {
    "bahdanau": "fastattn.scores.Additive",
    "bilinear": "fastattn.scores.General",
    "dotproduct": "fastattn.scores.Dot",
    "feedforward": "fastattn.scores.Additive",
    "luong": "fastattn.scores.Dot, fastattn.scores.General or fastattn.scores.Concat",
    "mlp": "fastattn.scores.Additive",
    "multiplicative": "fastattn.scores.General",
    "scaleddotproduct": "fastattn.scores.ScaledDot",
}
LAYERS: Mapping[str, str] = {
    "bilstm": "fastattn.layers.Bidirectional",
    "dense": "fastattn.layers.Linear",
    "layernormalization": "fastattn.layers.LayerNorm",
    "rnn": "fastattn.layers.GRU or fastattn.layers.LSTM",
    "simplernn": "fastattn.layers.GRU or fastattn.layers.LSTM",
    **MECHANISMS,
}
FAMILIES = {"scores": SCORES, "variants": MECHANISMS}


def advice(name: object, table: Mapping[str, str]) -> str:
    """Return what to use where a name of other libraries was said, or nothing.

    Examples
    --------
    >>> from fastattn._known_as import MECHANISMS, advice
    >>> advice("MultiHeadAttention", MECHANISMS)
    "use fastattn.create('multihead', ...)."
    """
    plain = str(name).lower().replace("_", "").replace("-", "").replace(" ", "").removesuffix("layer")
    found = table.get(plain.removesuffix("attention").removesuffix("score"))
    return f"use {found}." if found else ""


def missing(module: str, name: str, table: Mapping[str, str]) -> AttributeError:
    """Return the error of a module without such an attribute."""
    hint = advice(name, table)
    return AttributeError(f"module {module!r} has no attribute {name!r}" + (f".\nHint: {hint}" if hint else ""))
