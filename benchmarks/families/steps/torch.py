"""Decoder steps of attention mechanisms written plainly in PyTorch; compiled, a step is one graph."""

from typing import Any

import torch
from torch.nn import functional

from ...case import Arrays, Case, Run
from ..attention.torch import arrays, call
from .inputs import CHUNK, HEADS
from .reference import differentiated, examine


def _scores(case: Case, p: dict[str, Any], query: Any, fixed: dict[str, Any], state: dict[str, Any]) -> Any:
    """Scores of a step, and the factor of its weights or None."""
    mechanism, memory, places = case.options["mechanism"], p["memory"], fixed["places"]
    if mechanism in ("general", "local_m", "local_p"):
        scores = (memory @ (query @ p["w" if mechanism == "general" else "align.w"])[..., None])[..., 0]
        if mechanism == "general":
            return scores, None
        if mechanism == "local_m":
            return scores.masked_fill((places - state["at"]).abs() > case.sizes["N"], -torch.inf), None
        centre = fixed["lengths"][:, None] * torch.sigmoid(torch.tanh(query @ p["position.w"]) @ p["v_p"])
        away = places - centre
        scores = scores.masked_fill(away.abs() > case.sizes["N"], -torch.inf)
        return scores, torch.exp(-2 * (away / case.sizes["N"]) ** 2)
    if mechanism == "cosine":
        return (fixed["keys"] @ functional.normalize(query, dim=-1)[..., None])[..., 0], None
    if mechanism == "l2":
        return -torch.cdist(query[:, None], memory).square()[:, 0] * memory.shape[-1] ** -0.5, None
    if mechanism == "linear":
        of_query, _, of_both = p["w"].chunk(3)
        return fixed["keys"] + (query @ of_query)[:, None] + (memory @ (query * of_both)[..., None])[..., 0], None
    inner = (query @ p["query.w"])[:, None] + fixed["keys"]
    if mechanism == "coverage":
        inner = inner + state["total"][..., None] * p["u"]
    if mechanism == "location_sensitive":
        filters = p["filters"]
        features = functional.conv1d(state["weights"][:, None], filters[:, None], padding=filters.shape[1] // 2)
        inner = inner + features.mT @ p["u"]
    return torch.tanh(inner) @ p["v"], None


def _soft(case: Case, p: dict[str, Any], query: Any, fixed: dict[str, Any], state: dict[str, Any]) -> Any:
    scores, factor = _scores(case, p, query, fixed, state)
    weights = torch.softmax(scores.masked_fill(fixed["outside"], -torch.inf), -1)
    weights = weights if factor is None else weights * factor
    after = {"weights": weights, "total": state["total"] + weights, "at": state["at"] + 1}
    return (weights[:, None] @ p["memory"])[:, 0], after


def _monotonic(case: Case, p: dict[str, Any], query: Any, fixed: dict[str, Any], state: dict[str, Any]) -> Any:
    v = p["align.g"] * p["align.v"] / p["align.v"].norm()
    energy = torch.tanh((query @ p["align.query.w"])[:, None] + fixed["keys"]) @ v + p["r"]
    stops = torch.sigmoid(energy).masked_fill(fixed["outside"], 0)
    # As the paper's appendix has it: a cumulative sum divided by a cumulative product that is clipped from below.
    passed = torch.exp(torch.cumsum(torch.log((1 - stops).clamp(1e-10, 1)), -1)).roll(1, -1)
    passed = torch.cat([torch.ones_like(passed[:, :1]), passed[:, 1:]], -1)
    weights = stops * passed * torch.cumsum(state["weights"] / passed.clamp(1e-10, 1), -1)
    after = {**state, "weights": weights}
    if case.options["mechanism"] == "mocha":
        inner = (query @ p["chunk_align.query.w"])[:, None] + fixed["chunk_keys"]
        scores = (torch.tanh(inner) @ p["chunk_align.v"]).masked_fill(fixed["outside"], -torch.inf)
        powers = torch.exp(scores - scores.amax(-1, keepdim=True))
        width = CHUNK - 1
        sums = functional.pad(powers, (width, 0)).unfold(-1, CHUNK, 1).sum(-1)
        shares = functional.pad(weights / sums.clamp(1e-10), (0, width)).unfold(-1, CHUNK, 1).sum(-1)
        weights = powers * shares
    return (weights[:, None] @ p["memory"])[:, 0], after


def _heads(case: Case, p: dict[str, Any], query: Any, fixed: dict[str, Any], state: dict[str, Any]) -> Any:
    asked = _split((query @ p["query.w"])[:, None])
    inside = ~fixed["outside"][:, None, None]
    context = functional.scaled_dot_product_attention(asked, fixed["keys"], fixed["values"], attn_mask=inside)
    return context.reshape(query.shape) @ p["output.w"], state


def _split(rows: Any) -> Any:
    return rows.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def _keys(case: Case, p: dict[str, Any]) -> dict[str, Any]:
    """What is made of the memory once."""
    mechanism, memory = case.options["mechanism"], p["memory"]
    if mechanism in ("bahdanau", "location_sensitive", "coverage"):
        return {"keys": memory @ p["key.w"]}
    if mechanism == "cosine":
        return {"keys": functional.normalize(memory, dim=-1)}
    if mechanism == "linear":
        return {"keys": memory @ p["w"].chunk(3)[1]}
    if mechanism == "multihead":
        return {"keys": _split(memory @ p["key.w"]), "values": _split(memory @ p["value.w"])}
    if mechanism == "monotonic":
        return {"keys": memory @ p["align.key.w"]}
    if mechanism == "mocha":
        return {"keys": memory @ p["align.key.w"], "chunk_keys": memory @ p["chunk_align.key.w"]}
    return {}


def prepare(case: Case, data: Arrays, compiled: bool = False) -> dict[str, Run]:
    """All steps, and all steps with every gradient."""
    p = {name: torch.from_numpy(data[name].copy()) for name in differentiated(case)}
    lengths, places = torch.from_numpy(data["lengths"]), torch.arange(case.sizes["S"])
    given = {"lengths": lengths, "places": places, "outside": places >= lengths[:, None]}
    B, S, mechanism = case.sizes["B"], case.sizes["S"], case.options["mechanism"]
    weights, at = torch.zeros(B, S), torch.zeros((), dtype=torch.int64)
    if mechanism in ("monotonic", "mocha"):
        weights[:, 0] = 1
    attend = {"monotonic": _monotonic, "mocha": _monotonic, "multihead": _heads}.get(mechanism, _soft)

    def step(query: Any, fixed: dict[str, Any], state: dict[str, Any]) -> Any:
        return attend(case, p, query, fixed, state)

    run_step = torch.compile(step, dynamic=False) if compiled else step

    def forward() -> Any:
        fixed, found = given | _keys(case, p), []
        state = {"weights": weights, "total": torch.zeros(B, S), "at": at}
        for t in range(case.sizes["T"]):
            context, state = run_step(p["queries"][:, t], fixed, state)
            found.append(context)
        return torch.stack(found, 1)

    return {"": call(case, forward, (), list(p.values()), data.get("d_context"))}


def prepare_compiled(case: Case, data: Arrays) -> dict[str, Run]:
    torch.compiler.reset()
    return prepare(case, data, True)


def collect(case: Case, result: Any) -> Arrays:
    """What is compared of a result."""
    context, *gradients = arrays(result)
    return examine(case, context, dict(zip(differentiated(case), gradients)))
