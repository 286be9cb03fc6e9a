"""Queries, memory, lengths and the parameters of a mechanism."""

from typing import Any

import numpy as np

from ...case import Arrays, Case

CHUNK = 2  # of "mocha"
HEADS = 4  # of "multihead"


def shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """Parameters of a mechanism by their names in fastattn."""
    D, W = case.sizes["D"], case.sizes["W"]
    additive = {"query.w": (D, W), "key.w": (D, W), "v": (W,)}
    monotonic = {f"align.{name}": shape for name, shape in additive.items()} | {"align.g": (1,), "r": (1,)}
    return {
        "bahdanau": additive,
        "location_sensitive": additive | {"u": (case.sizes["C"], W), "filters": (case.sizes["C"], case.sizes["K"])},
        "coverage": additive | {"u": (1, W)},
        "monotonic": monotonic,
        "mocha": monotonic | {f"chunk_align.{name}": shape for name, shape in additive.items()},
        "local_m": {"align.w": (D, D)},
        "local_p": {"align.w": (D, D), "position.w": (D, D), "v_p": (D, 1)},
        "general": {"w": (D, D)},
        "cosine": {},
        "l2": {},
        "linear": {"w": (3 * D,)},
        "multihead": {f"{name}.w": (D, D) for name in ("query", "key", "value", "output")},
    }[case.options["mechanism"]]


def described(case: Case) -> Any:
    """The mechanism as the conformance kit knows it: `fastattn.testing.variant_subject.VariantSubject`."""
    from fastattn import variants
    from fastattn.testing.variant_subject import VariantSubject

    sizes, mechanism = case.sizes, case.options["mechanism"]
    width = {"width": sizes["W"]}
    options: dict[str, Any] = {
        "bahdanau": width,
        "coverage": width,
        "location_sensitive": {**width, "filters": sizes["C"], "filter_size": sizes["K"]},
        "monotonic": width,
        "mocha": {**width, "chunk": CHUNK},
        "local_m": {"window": sizes["N"]},
        "local_p": {"window": sizes["N"]},
        "linear": {"terms": ("x", "y", "x*y")},
        "multihead": {"heads": HEADS},
    }.get(mechanism, {})
    widths = {"query_width": sizes["D"], "memory_width": sizes["D"]}
    return VariantSubject(variants.record(mechanism), {**options, **widths})


def make(case: Case, rng: np.random.Generator) -> Arrays:
    """Normal queries (B, T, D) and memory (B, S, D), lengths from two thirds of S up, and parameters."""
    B, S, T, D = (case.sizes[key] for key in "BSTD")
    data = {
        "queries": rng.standard_normal((B, T, D), dtype=np.float32),
        "memory": rng.standard_normal((B, S, D), dtype=np.float32),
    }
    for name, shape in shapes(case).items():
        # Bilinear scores are then about as large as the others: those of plain normal queries would be in the twenties.
        power = -1.0 if name in ("w", "align.w") and len(shape) == 2 else -0.5
        spread = np.float32(shape[-1 if name == "filters" else 0] ** power)
        data[name] = spread * rng.standard_normal(shape, dtype=np.float32)
    if "r" in data:  # of monotonic attention; where stops are likelier PyTorch's plain formula is wrong
        data["r"][...], data["align.g"][...] = -4, 1
    if case.backward:
        data["d_context"] = rng.standard_normal((B, T, D), dtype=np.float32)
    data["lengths"] = np.full(B, S)
    data["lengths"][1:] -= rng.integers(0, S // 3 + 1, B - 1)
    return data
