"""Torch's float64 autograd of plainly written formulas: a witness of contexts, weights and every gradient."""

import numpy as np
import pytest
from variant_cases import CASES, label, make

import fastattn
from fastattn.positions import sinusoids

torch = pytest.importorskip("torch", reason="torch is the witness, and not installed")


def soft_scores(name, p, q, m, options):
    if "bridge" in p:  # queries of another width than keys
        q = q @ p["bridge"]
    if name == "l1":
        return -options.get("scale", m.shape[-1] ** -0.5) * (q[:, :, None] - m[:, None]).abs().sum(-1)
    if name == "gaussian":
        return -options.get("scale", 1.0) * (q[:, :, None] - m[:, None]).square().sum(-1) / (2 * p["s"] ** 2)
    if name in ("dot", "scaled_dot", "cosine"):
        if name == "cosine":
            q, m = (torch.nn.functional.normalize(x, dim=-1) for x in (q, m))
        scale = options.get("scale", q.shape[-1] ** -0.5 if name == "scaled_dot" else 1.0)
        return scale * q @ m.mT
    if name == "l2":
        return (
            -options.get("scale", q.shape[-1] ** -0.5)
            * torch.cdist(q, m, compute_mode="donot_use_mm_for_euclid_dist") ** 2
        )
    if name == "linear":
        x, y = q[:, :, None].expand(-1, -1, m.shape[1], -1), m[:, None].expand(-1, q.shape[1], -1, -1)
        terms = {"x": x, "y": y}
        if "terms" in options:
            terms |= {"x*y": x * y, "x+y": x + y, "x-y": x - y, "x/y": x / y}
        inner = torch.cat([terms[term] for term in options.get("terms", ("x", "y"))], -1) @ p["w"] + p["b"]
        return torch.tanh(inner) if options.get("activation") == "tanh" else inner
    if name == "general":
        return q @ p["w"] @ m.mT
    if name == "location":
        return (q @ p["w"])[..., : m.shape[1]]
    v = p["v"]
    if name == "pooling":
        m = torch.tanh(m @ p["key.w"] + p["key.b"]) if "key.w" in p else m
        return (m @ v)[:, None].expand(-1, q.shape[1], -1)
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


def gated_additive(name, p, q, m, values, allowed, options):
    context, weights = soft("additive", p, q, m, values, allowed, options)
    return context / (1 + torch.exp(-(q @ p["gate.w"] + p["gate.b"]))), weights


def by_steps(q, allowed, values, score, normalize=lambda e: e.softmax(-1)):
    """Contexts and weights where scores depend on the weights of earlier steps: score(t, weights so far)."""
    weights = []
    for t in range(q.shape[1]):
        weights.append(normalize(score(t, weights).masked_fill(~allowed, -torch.inf)))
    joined = torch.stack(weights, dim=1)
    return joined @ values, joined


def rotary(x, layout="interleaved", part=None, base=1e4):
    n = part or x.shape[-1]
    angle = torch.arange(x.shape[-2], dtype=x.dtype)[:, None] * base ** (-torch.arange(0, n, 2, dtype=x.dtype) / n)
    turned = x[..., :n].unflatten(-1, (-1, 2) if layout == "interleaved" else (2, -1))
    turned = turned if layout == "interleaved" else turned.mT
    turned = torch.view_as_real(torch.view_as_complex(turned.contiguous()) * torch.polar(torch.ones_like(angle), angle))
    turned = (turned if layout == "interleaved" else turned.mT).flatten(-2)
    return torch.cat([turned, x[..., n:]], -1)


def distances(p, heads, apart, name, buckets=0, farthest=0, bidirectional=True):
    if name == "alibi":
        slopes = {3: [2.0**-4, 2.0**-8, 2.0**-2]}[heads]
        return -torch.tensor(slopes, dtype=torch.float64)[:, None, None] * apart.abs()
    each = buckets // 2 if bidirectional else buckets
    n = apart.abs() if bidirectional else (-apart).clamp(min=0)
    exact = each // 2
    large = exact + ((n / exact).clamp(min=1).log() / np.log(farthest / exact) * (each - exact) + 1e-12).long()
    bucket = torch.where(n < exact, n, large.clamp(max=each - 1)) + (apart > 0) * each * bidirectional
    return p["positions.table"][bucket].permute(2, 0, 1)


def multihead(name, p, q, m, values, allowed, options):
    heads, settings = options["heads"], options.get("positions") or "none"
    settings = dict(settings) if isinstance(settings, dict) else {"name": settings}
    kind = settings.pop("name")
    apart = torch.arange(m.shape[1]) - torch.arange(q.shape[1])[:, None]
    if kind in ("learned", "sinusoidal"):
        rows = p["positions.rows.w"] if kind == "learned" else torch.tensor(sinusoids(0, 60, q.shape[-1]))
        values = values + rows[: m.shape[1]] if values is m else values
        q, m = q + rows[: q.shape[1]], m + rows[: m.shape[1]]
    left, right = options.get("window") or (None, None)
    near = (apart >= -(99 if left is None else left)) & (apart <= (99 if right is None else right))
    allowed = allowed[:, None] & (near | (torch.arange(m.shape[1]) < options.get("sinks", 0)))
    q, k, v = (x @ p[f"{n}.w"] + p.get(f"{n}.b", 0) for n, x in (("query", q), ("key", m), ("value", values)))
    d = q.shape[-1] // heads
    q, k, v = (x.unflatten(-1, (-1, d)).transpose(1, 2) for x in (q, k, v))
    k, v = (x.repeat_interleave(heads // x.shape[1], dim=1) for x in (k, v))
    if kind == "rotary":
        q, k = rotary(q, **settings), rotary(k, **settings)
    added = distances(p, heads, apart, kind, **settings) if kind in ("alibi", "t5") else 0
    if kind == "shaw":
        clip = settings["clip"]
        row = apart.clamp(-clip, clip) + clip
        added = torch.einsum("bhtd,tsd->bhts", q, p["positions.key"][row]) / d**0.5
    weights = (q @ k.mT / d**0.5 + added).masked_fill(~allowed[:, None], -torch.inf).softmax(-1)
    weights = weights.nan_to_num()  # a row without keys
    context = weights @ v
    if "positions.value" in p:
        context = context + torch.einsum("bhts,tsd->bhtd", weights, p["positions.value"][row])
    return context.transpose(1, 2).flatten(2) @ p["output.w"] + p.get("output.b", 0), weights


def additive_multihead(name, p, q, m, values, allowed, options):
    heads, contexts, weights = options["heads"], [], []
    parts = (values @ p["value.w"] + p.get("value.b", 0)).chunk(heads, -1)
    for head in range(heads):
        own = {key.removeprefix(f"heads.{head}."): x for key, x in p.items()}
        context, found = soft("additive", own, q, m, parts[head], allowed, options)
        contexts.append(context)
        weights.append(found)
    return torch.cat(contexts, -1) @ p["output.w"] + p.get("output.b", 0), torch.stack(weights, 1)


def local_p(name, p, q, m, values, allowed, options, lengths=None):
    inside = {key.removeprefix("align."): value for key, value in p.items()}
    scores = soft_scores(options["score"], inside, q, m, {})
    position = torch.arange(q.shape[1], dtype=q.dtype)[None, :, None]
    if name == "local_p":
        position = lengths[:, None, None] * torch.sigmoid(torch.tanh(q @ p["position.w"]) @ p["v_p"])
    apart = torch.arange(m.shape[1]) - position
    near = allowed[:, None] & (apart.abs() <= options["window"])
    weights = scores.masked_fill(~near, -torch.inf).softmax(-1).masked_fill(~near.any(-1, keepdim=True), 0)
    if name == "local_p":
        weights = weights * torch.exp(-(apart**2) / (2 * (options["window"] / 2) ** 2))
    return weights @ values, weights


local_m = local_p


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


def neural_coverage(name, p, q, m, values, allowed, options):
    d = options["coverage_width"]
    # Torch's own cell, whose reset gate acts on the product, is no witness of the published one.
    w = [p["gates"][:, :d], p["gates"][:, d:], p["candidate"]]
    before = torch.zeros(*m.shape[:2], d, dtype=q.dtype)

    def score(t, weights):
        nonlocal before
        if weights:
            s = q[:, t - 1, None].expand(-1, m.shape[1], -1)
            inputs = torch.cat([weights[-1][..., None], m, s], -1)
            matrix = torch.cat([p["weight_gates"], p["memory_gates.w"], p["query_gates.w"]])
            r_x, z_x, n_x = (inputs @ matrix + p["memory_gates.b"]).chunk(3, -1)
            r, z = torch.sigmoid(r_x + before @ w[0]), torch.sigmoid(z_x + before @ w[1])
            before = torch.lerp(torch.tanh(n_x + (r * before) @ w[2]), before, z)
        inner = (q[:, t] @ p["query.w"])[:, None] + m @ p["key.w"] + before @ p["u"]
        return torch.tanh(inner) @ p["v"]

    return by_steps(q, allowed, values, score)


def monotonic(name, p, q, m, values, allowed, options):
    def energies(part):
        v = p[f"{part}.v"]
        if f"{part}.g" in p:
            v = p[f"{part}.g"] * v / v.norm()
        inner = (q @ p[f"{part}.query.w"])[:, :, None] + (m @ p[f"{part}.key.w"] + p[f"{part}.key.b"])[:, None]
        return torch.tanh(inner) @ v

    stop = torch.sigmoid(energies("align") + p["r"]).masked_fill(~allowed[:, None], 0.0)
    alpha = torch.zeros(allowed.shape, dtype=q.dtype)
    alpha[:, 0] = 1
    weights = []
    for t in range(q.shape[1]):
        columns, passed = [], torch.zeros(len(q), dtype=q.dtype)
        for j in range(m.shape[1]):
            columns.append(stop[:, t, j] * (passed + alpha[:, j]))
            passed = (1 - stop[:, t, j]) * (passed + alpha[:, j])
        alpha = torch.stack(columns, dim=-1)
        weights.append(alpha)
    weights = torch.stack(weights, dim=1)
    if name == "mocha":
        ends = torch.arange(m.shape[1])[:, None]
        inside = (ends >= ends.T) & (ends - ends.T < options["chunk"])
        u = energies("chunk_align")[:, :, None].masked_fill(~(inside & allowed[:, None])[:, None], -torch.inf)
        shares = u.softmax(-1).masked_fill(~allowed[:, None, :, None], 0.0)
        weights = (weights[..., None, :] @ shares)[..., 0, :]
    return weights @ values, weights


mocha = monotonic


def hard(name, p, q, m, values, allowed, options):
    inside = {key.removeprefix("align."): value for key, value in p.items()}
    scores = soft_scores(options.get("score", "additive"), inside, q, m, {}).masked_fill(~allowed[:, None], -torch.inf)
    weights = torch.nn.functional.one_hot(scores.argmax(-1), m.shape[1]).to(q.dtype)
    return weights @ values, weights


def plain(case, problem, p, q, m, values, allowed):
    if "normalizer" in case.options:
        pytest.skip("the twin is the witness of sparse weights")
    name, options = case.record.name, dict(case.options)
    if name == "luong":
        name = options.pop("score")
    if name == "local_p":
        return local_p(name, p, q, m, values, allowed, options, torch.tensor(problem.lengths))
    return globals().get(name, soft)(name, p, q, m, values, allowed, options)


@pytest.mark.parametrize("case", CASES, ids=label)
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
    context, weights = plain(
        case, problem, given, leaves["queries"], leaves["memory"], summed, torch.tensor(problem.allowed)
    )
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


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("apart", [False, True])
def test_parameters_of_torch_are_taken(bias, apart):
    widths = {"kdim": 6, "vdim": 4} if apart else {}
    layer = torch.nn.MultiheadAttention(8, 2, bias=bias, batch_first=True, dtype=torch.float64, **widths)
    dm, dv = widths.get("kdim", 8), widths.get("vdim", 8)
    variant = fastattn.create("multihead", query_width=8, memory_width=dm, value_width=dv, heads=2, bias=bias,
                              rng=np.random.default_rng(0), dtype=np.float64)  # fmt: skip
    variant.load_torch({name: x.numpy() for name, x in layer.state_dict().items()})
    rng = np.random.default_rng(1)
    q, m, v = (rng.normal(size=(3, n, d)) for n, d in ((4, 8), (5, dm), (5, dv)))
    context, weights = layer(*map(torch.tensor, (q, m, v)), average_attn_weights=False)
    output = variant.forward(q, variant.prepare(m, values=v), return_weights=True)
    np.testing.assert_allclose(output.context, context.detach().numpy(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(output.weights, weights.detach().numpy(), rtol=1e-12, atol=1e-13)


def test_causal_self_attention_is_torchs_with_a_mask():
    layer = torch.nn.MultiheadAttention(6, 3, batch_first=True, dtype=torch.float64)
    variant = fastattn.create("causal_self_attention", query_width=6, memory_width=6, heads=3,
                              rng=np.random.default_rng(0), dtype=np.float64)  # fmt: skip
    variant.load_torch({name: x.numpy() for name, x in layer.state_dict().items()})
    x = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    later = torch.ones(5, 5, dtype=torch.bool).triu(1)
    context, weights = layer(x, x, x, attn_mask=later, average_attn_weights=False)
    d_context, d_weights = torch.randn_like(context), torch.randn_like(weights)
    ((context * d_context).sum() + (weights * d_weights).sum()).backward()
    ours = x.detach().numpy()
    output, backward = variant.vjp(ours[:, 2:], variant.prepare(ours[:, :2]), return_weights=True)
    np.testing.assert_allclose(output.context, context.detach().numpy()[:, 2:], rtol=1e-11, atol=1e-12)
    output, backward = variant.vjp(ours, variant.prepare(ours[:, :0]), return_weights=True)
    np.testing.assert_allclose(output.weights, weights.detach().numpy(), rtol=1e-11, atol=1e-12)
    d_queries, d_memory = backward(d_context.numpy(), d_weights.numpy())
    np.testing.assert_allclose(d_queries, x.grad.numpy(), rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(variant.key.w.gradient.T, layer.in_proj_weight.grad.numpy()[6:12], rtol=1e-9, atol=1e-11)
    assert d_memory.shape == (2, 0, 6)
