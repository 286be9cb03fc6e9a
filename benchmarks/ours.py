"""fastattn as a contestant, through its public names only."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import ours_bahdanau, ours_steps, ours_transformer
from .cases import Case
from .inputs import Arrays
from .peers.base import Run, name_outputs

NAME = "fastattn"


def load(threads: int) -> FastAttn:
    """Import fastattn; ImportError when it is not built."""
    return FastAttn(threads)


class FastAttn:
    name = NAME

    def __init__(self, threads: int) -> None:
        from fastattn import __version__, set_num_threads

        set_num_threads(threads)
        self.version = __version__

    def prepare(self, case: Case, data: Arrays) -> dict[str, Run]:
        import fastattn
        from fastattn import linear, scores

        if case.family == "bahdanau":
            return ours_bahdanau.prepare(case, data)
        if case.family == "transformer":
            return ours_transformer.prepare(case, data)
        if case.family == "steps":
            return ours_steps.prepare(case, data)
        if case.family == "gemm":
            packed = linear.PackedWeights(data["w"])
            x = data["x"]
            return {"": lambda: packed.matmul(x)}
        if case.family in ("gru", "lstm"):
            return {"": _recurrent(case, data)}
        query, key, value = data["query"], data["key"], data["value"]
        options: dict[str, Any] = {"causal": True} if case.causal else {}
        if case.family == "additive":
            options["score"] = scores.Additive(data["v"])
        if case.family == "sparse":
            options["normalizer"] = case.normalizer
        if not case.backward:
            return {"": lambda: fastattn.attention(query, key, value, **options)}
        d_context = data["d_context"]

        def both() -> Any:
            context, backward = fastattn.attention_vjp(query, key, value, **options)
            return context, backward(d_context)

        return {"": both}

    def collect(self, case: Case, result: Any) -> dict[str, np.ndarray]:
        if case.family in ("bahdanau", "transformer"):
            return result.examine()
        if case.family == "steps":
            return ours_steps.collect(case, result)
        if not case.backward or case.family in ("gru", "lstm"):
            return name_outputs(case, result)
        context, gradients = result
        outputs = [context, gradients.query, gradients.key, gradients.value]
        if case.family == "additive":
            outputs.append(gradients.score["v"])
        return name_outputs(case, outputs)


def _recurrent(case: Case, data: Arrays) -> Run:
    from fastattn import layers

    layer = {"gru": layers.GRU, "lstm": layers.LSTM}[case.family](
        case.sizes["D"], case.sizes["H"], rng=np.random.default_rng(0)
    )
    parameters = layer.parameters()
    for name, parameter in parameters.items():
        parameter.assign(data[name])
    x = data["x"]
    if not case.backward:
        return lambda: layer.forward(x)[0]

    def both() -> Any:
        for parameter in parameters.values():
            parameter.gradient.fill(0)
        y, _, backward = layer.vjp(x)
        d_x, _ = backward(data["d_y"])
        return (y, d_x, *(parameter.gradient for parameter in parameters.values()))

    return both
