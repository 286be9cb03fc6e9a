"""Parameters and sentences."""

from collections.abc import Mapping

import numpy as np

from ...case import Arrays, Case

BOS, EOS, SPECIAL = 1, 2, 4
NEVER = -1e4


def shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """Shapes of all parameters by name."""
    V, D, inner, layers = (case.sizes[name] for name in ("V", "D", "F", "N"))
    found: dict[str, tuple[int, ...]] = {"projection.w": (D, V), "projection.b": (V,)}

    def linear(name: str, inputs: int, outputs: int) -> None:
        found[f"{name}.w"], found[f"{name}.b"] = (inputs, outputs), (outputs,)

    def norm(name: str) -> None:
        found[f"{name}.norm.gain"] = found[f"{name}.norm.offset"] = (D,)

    for stack in ("encoder", "decoder"):
        for layer in (f"{stack}.{number}" for number in range(layers)):
            linear(f"{layer}.attention.project", D, 3 * D)
            linear(f"{layer}.attention.output", D, D)
            norm(f"{layer}.attended")
            if stack == "decoder":
                linear(f"{layer}.cross.query", D, D)
                linear(f"{layer}.cross.project", D, 2 * D)
                linear(f"{layer}.cross.output", D, D)
                norm(f"{layer}.crossed")
            linear(f"{layer}.network.inner", D, inner)
            linear(f"{layer}.network.outer", inner, D)
            norm(f"{layer}.fed")
    return found


def make(case: Case, rng: np.random.Generator) -> Arrays:
    """Parameters, with `source` (B, S) and `target` (B, T)."""
    B, V, D = (case.sizes[name] for name in ("B", "V", "D"))
    data = {}
    for name, shape in shapes(case).items():
        fan = D if name == "projection.w" else shape[0] if len(shape) > 1 else 100
        data[name] = rng.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(fan))
        if name.endswith("gain"):
            data[name] += 1
    never = [*range(SPECIAL - 1), V - 1]
    data["projection.w"][:, BOS] = 0
    data["projection.b"][:] = 0
    data["projection.b"][never] = NEVER
    data["source"] = rng.integers(SPECIAL, V - 1, (B, case.sizes["S"]))
    data["target"] = rng.integers(SPECIAL, V - 1, (B, case.sizes["T"]))
    return data


def fed(data: Mapping[str, np.ndarray]) -> np.ndarray:
    """What a teacher-forced decoder is fed."""
    target = data["target"]
    return np.concatenate([np.full((len(target), 1), BOS), target[:, :-1]], axis=1)
