"""Torch's float64 autograd of plainly written formulas: a witness of contexts, weights and every gradient."""

import numpy as np
import pytest
from variant_cases import CASES, make

torch = pytest.importorskip("torch", reason="torch is the witness, and not installed")


def soft_scores(name, p, q, m, options):
    if name in ("dot", "scaled_dot", "cosine"):
        if name == "cosine":
            q, m = (torch.nn.functional.normalize(x, dim=-1) for x in (q, m))
        scale = options.get("scale", q.shape[-1] ** -0.5 if name == "scaled_dot" else 1.0)
        return scale * q @ m.mT
    if name == "general":
        return q @ p["w"] @ m.mT
    if name == "location":
        return (q @ p["w"])[..., : m.shape[1]]
    v = p["v"]
    if name == "normed_additive":
        v = p["g"] * v / v.norm()
    inner = (q @ p["query.w"])[:, :, None] + (m @ p["key.w"])[:, None]
    if "key.b" in p:
        inner = inner + p["key.b"]
    return getattr(torch, options.get("activation", "tanh"))(inner) @ v


def soft(name, p, q, m, values, allowed, options):
    scores = soft_scores(name, p, q, m, options).masked_fill(~allowed[:, None], -torch.inf)
    weights = scores.softmax(-1)
    return weights @ values, weights


def by_steps(q, allowed, values, score, normalize=lambda e: e.softmax(-1)):
    """Contexts and weights where scores depend on the weights of earlier steps: score(t, weights so far)."""
    weights = []
    for t in range(q.shape[1]):
        weights.append(normalize(score(t, weights).masked_fill(~allowed, -torch.inf)))
    joined = torch.stack(weights, dim=1)
    return joined @ values, joined


def location_sensitive(name, p, q, m, values, allowed, options):
    if "window" in options:
        pytest.skip("the twin is the witness of windows")
    filters = p["filters"]
    start = torch.zeros(allowed.shape, dtype=q.dtype)
    if options.get("initial") == "uniform":
        start = allowed / allowed.sum(-1, keepdim=True).to(q.dtype)

    def score(t, weights):
        h = start + sum(weights) if options.get("cumulative") else (weights[-1] if weights else start)
        f = torch.nn.functional.conv1d(h[:, None], filters[:, None], padding=filters.shape[1] // 2).mT
        inner = (q[:, t] @ p["query.w"])[:, None] + m @ p["key.w"] + p["key.b"] + f @ p["u"]
        return torch.tanh(inner) @ p["v"]

    if options.get("smoothing"):
        return by_steps(q, allowed, values, score, lambda e: e.sigmoid() / e.sigmoid().sum(-1, keepdim=True))
    return by_steps(q, allowed, values, score)


def coverage(name, p, q, m, values, allowed, options):
    phi = options.get("fertility", 1.0)
    if "fertility" in p:
        phi = phi * torch.sigmoid(m @ p["fertility"])[..., 0]

    def score(t, weights):
        c = sum(weights) / phi if weights else torch.zeros_like(m[..., 0])
        inner = (q[:, t] @ p["query.w"])[:, None] + m @ p["key.w"] + p["key.b"] + c[..., None] * p["u"]
        return torch.tanh(inner) @ p["v"]

    return by_steps(q, allowed, values, score)


def plain(problem, p, q, m, values, allowed):
    name, options = problem.case.name, dict(problem.case.options)
    if name == "luong":
        name = options.pop("score")
    return globals().get(name, soft)(name, p, q, m, values, allowed, options)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("valued", [False, True])
def test_outputs_and_gradients_are_those_of_autograd(case, valued):
    problem = make(case, steps=5, keys=9, valued=valued, seed=7)
    variant = problem.variant
    output, backward = variant.vjp(problem.queries, problem.prepare(), return_weights=True)
    rng = np.random.default_rng(0)
    d_context, d_weights = (rng.normal(size=array.shape) for array in output[:2])
    d_queries, d_memory = backward(d_context, d_weights)
    leaves = {"queries": problem.queries, "memory": problem.memory, "values": problem.values}
    leaves = {name: torch.tensor(x, requires_grad=True) for name, x in leaves.items() if x is not None}
    given = {name: torch.tensor(x.value, requires_grad=True) for name, x in variant.parameters().items()}
    summed = leaves.get("values", leaves["memory"])
    context, weights = plain(problem, given, leaves["queries"], leaves["memory"], summed, torch.tensor(problem.allowed))
    np.testing.assert_allclose(output.context, context.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(output.weights, weights.detach().numpy(), rtol=1e-10, atol=1e-12)
    ((context * torch.tensor(d_context)).sum() + (weights * torch.tensor(d_weights)).sum()).backward()
    ours = {"queries": d_queries, "memory": d_memory[0] if valued else d_memory}
    if valued:
        ours["values"] = d_memory[1]
    ours |= {name: parameter.gradient for name, parameter in variant.parameters().items()}
    for name, leaf in {**leaves, **given}.items():
        wanted = np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy()
        np.testing.assert_allclose(ours[name], wanted, rtol=1e-9, atol=1e-11, err_msg=name)
