"""Parameters and sentences; for a greedy step the previous state."""

import numpy as np

from ...case import TRAIN, Arrays, Case

DIRECTIONS = ("forward_layer", "backward_layer")


def shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """Shapes of all parameters by name."""
    V, E, H = (case.sizes[name] for name in ("V", "E", "H"))
    found: dict[str, tuple[int, ...]] = {"source_embedding.w": (V, E)}
    for side in DIRECTIONS:
        cell = {"w_input": (E, 3 * H), "w_hidden": (H, 3 * H), "b_input": (3 * H,), "b_hidden": (3 * H,)}
        found |= {f"encoder.{side}.{name}": shape for name, shape in cell.items()}
    found |= {"bridge.w": (H, H), "bridge.b": (H,), "target_embedding.w": (V, E)}
    found |= {"mechanism.query.w": (H, H), "mechanism.key.w": (2 * H, H), "mechanism.v": (H,)}
    found |= {"from_target.w": (E, 3 * H), "from_target.b": (3 * H,), "from_context.w": (2 * H, 3 * H)}
    found |= {"cell.w_hidden": (H, 3 * H), "cell.b": (3 * H,), "projection.w": (3 * H + E, V), "projection.b": (V,)}
    return found


def make(case: Case, rng: np.random.Generator) -> Arrays:
    """Parameters, with `source` (B, S) and `target` (B, T); for a greedy step the previous `state` (B, H)."""
    B, V, H = (case.sizes[name] for name in ("B", "V", "H"))
    data = {}
    for name, shape in shapes(case).items():
        fan = 1 if name.endswith("embedding.w") else shape[0] if len(shape) > 1 or name == "mechanism.v" else 100
        data[name] = rng.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(fan))
    data["source"] = rng.integers(4, V, (B, case.sizes["S"]))
    data["target"] = rng.integers(4, V, (B, case.sizes["T"]))
    if case.direction != TRAIN:
        data["state"] = np.tanh(rng.standard_normal((B, H), dtype=np.float32))
    return data
