"""What compilers, exporters and transformations of PyTorch make of attention."""

import copy
import gc
from concurrent.futures import ThreadPoolExecutor

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402
from torch.nn.attention import flex_attention as flex  # noqa: E402

from fastattn import errors, normalizers, scores  # noqa: E402
from fastattn.interop import torch as ours  # noqa: E402
from fastattn.interop.torch import mechanisms, operators, projections  # noqa: E402
from fastattn.interop.torch.problem import Made, Problem  # noqa: E402
from fastattn.positions import Alibi  # noqa: E402


def draw(*shape, seed=0, grad=True):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_(grad)


Q, K, V = draw(2, 4, 5, 8), draw(2, 2, 7, 8, seed=1), draw(2, 2, 7, 3, seed=2)
MASK = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(3)) < 0.7
LENGTHS = torch.tensor([4, 7])
SEED = torch.tensor([1, 2])
ADDITIVE = Made("additive", ("v",), (("activation", "relu"),))
PROBLEMS = {
    "plain": (Problem(), (None,) * 4, []),
    "all": (
        Problem(causal="bottom_right", window=(3, None), scale=0.3, dropout=0.2, return_weights=True, return_lse=True),
        (draw(4, 5, 7), MASK, LENGTHS, SEED),
        [],
    ),
    "additive": (Problem(score=ADDITIVE), (None,) * 4, [draw(8)]),
    "relative": (Problem(relative=True, scale=0.3), (draw(4, 11), None, None, None), []),
    "sparse": (Problem(normalizer=Made("sparsemax"), return_weights=True), (None, MASK, None, None), []),
}


WITHOUT_GRADIENTS = ("test_schema", "test_faketensor")  # of operators that compute gradients, which have none


@pytest.mark.parametrize("name", PROBLEMS)
def test_operators_are_what_they_say(name):
    problem, more, parameters = PROBLEMS[name]
    text, held = operators.encode(problem)
    inputs = (Q, K, V, *more, parameters, text)
    torch.library.opcheck(operators._forward, inputs)
    saved = operators._forward(*inputs)
    d = [None if one.ndim == 5 else torch.ones_like(one) for one in saved[:3]]
    backward = (*inputs[:-1], [*saved[:2], *saved[3:]], *d, more[0] is not None, inputs[-1])
    torch.library.opcheck(operators._backward, backward, test_utils=WITHOUT_GRADIENTS)
    assert operators.decode(text) == problem and held is None


def test_projections_are_what_they_say():
    for bias in (draw(3), None):
        torch.library.opcheck(projections._product, (draw(2, 5, 8), draw(3, 8), bias))
    for wanted in ([True, True, True], [False, True, False], [True, False, True]):
        backward = (draw(2, 5, 3), draw(2, 5, 8), draw(3, 8), wanted)
        torch.library.opcheck(projections._backward, backward, test_utils=WITHOUT_GRADIENTS)


class Model(torch.nn.Module):
    """One of our modules of each kind, and attention as a function."""

    def __init__(self):
        super().__init__()
        self.heads = ours.MultiheadAttention(8, 2, batch_first=True)
        self.additive = ours.AdditiveAttention(8, 8, 6)
        self.luong = ours.LuongAttention(8, 8, score="concat", output_width=8)

    def forward(self, x):
        y, weights = self.heads(x, x, x)
        y = y + self.additive(x, y) + self.luong(y, x)
        z = y.unflatten(-1, (2, 4)).transpose(1, 2)
        z = ours.scaled_dot_product_attention(z, z, z, is_causal=True, dropout_p=0.0)
        return z.sum() + weights.square().sum()


def trained(model, call, x):
    model.zero_grad()
    loss = call(x)
    loss.backward()
    return loss.detach(), [one.grad.clone() for one in model.parameters()]


@pytest.mark.parametrize("dynamic", [None, True])
def test_a_compiled_relative_bias_is_trained(dynamic):
    table, fixed = draw(4, 11, seed=4), Alibi(4, dtype="float64").bias(0, 5, 7)

    def attend(table):
        return ours.attention(Q, K, V, bias=ours.RelativeBias(table * 2)) + ours.attention(Q, K, V, bias=fixed)

    torch._dynamo.reset()
    found, expected = torch.compile(attend, fullgraph=True, dynamic=dynamic, backend="aot_eager")(table), attend(table)
    assert torch.equal(found, expected)
    assert torch.equal(*(torch.autograd.grad(one.square().sum(), table)[0] for one in (found, expected)))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # PyTorch's own
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_model_is_the_eager_one(backend):
    torch.manual_seed(0)
    model, x = Model(), torch.randn(2, 5, 8)
    torch._dynamo.reset()
    loss, gradients = trained(model, model, x)
    found, compiled = trained(model, torch.compile(model, fullgraph=True, backend=backend), x)
    torch.testing.assert_close(found, loss)
    for one, other in zip(compiled, gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_shapes_may_change_in_a_compiled_model():
    torch.manual_seed(0)
    model = Model()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for samples, positions in ((2, 5), (3, 7), (2, 9)):
        x = torch.randn(samples, positions, 8)
        (loss, gradients), (found, others) = trained(model, model, x), trained(model, compiled, x)
        torch.testing.assert_close((found, others), (loss, gradients))


def scaled(x, scale, window, dropout, softcap):
    score = {"name": "additive", "v": x[0, 0, 0], "softcap": softcap}
    return ours.attention(x, x, x, score=score, window=(window, 1), dropout=dropout, seed=3) + (
        ours.scaled_dot_product_attention(x, x, x, scale=scale, is_causal=True)
    )


class Layer(torch.nn.Module):
    def __init__(self, *numbers):
        super().__init__()
        self.numbers = numbers

    def forward(self, x):
        return x + scaled(x, *self.numbers)


NUMBERS = ((0.3, 1, 0.0, 2.0), (0.4, 2, 0.2, 3.0))


@pytest.mark.parametrize("dynamic", [None, True])
def test_numbers_of_a_compiled_call_may_change(dynamic):
    torch._dynamo.reset()
    compiled, x = torch.compile(scaled, fullgraph=True, dynamic=dynamic, backend="aot_eager"), Q.detach()
    for numbers in NUMBERS:
        torch.testing.assert_close(compiled(x, *numbers), scaled(x, *numbers))
    layers = [Layer(*numbers) for numbers in NUMBERS]
    torch._dynamo.reset()
    expected = found = x
    for layer in layers:
        expected = layer(expected)
        found = torch.compile(layer, fullgraph=True, dynamic=dynamic, backend="aot_eager")(found)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("autocast", [False, True])
def test_half_types_are_compiled(autocast):
    x = Q.detach().float() if autocast else Q.detach().bfloat16()

    def attend(x):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            return ours.scaled_dot_product_attention(x, x, x) + ours.attention(x, x, x, causal=True)

    torch._dynamo.reset()
    found, expected = torch.compile(attend, fullgraph=True, backend="aot_eager")(x), attend(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=0, atol=0.03)  # which a matrix unit may have computed


SLOPES = draw(4)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # PyTorch's own
@pytest.mark.parametrize("dynamic", [None, True])
def test_a_break_of_the_graph_is_one_and_no_error(dynamic):
    def score_mod(score, b, h, i, j):
        return score * SLOPES[h]

    def inside(x):
        return ours.flex_attention(x * 2, x, x, score_mod) + 1

    torch._dynamo.reset()
    alone = torch.compile(ours.flex_attention, dynamic=dynamic, backend="aot_eager")
    found = alone(Q * 2, Q, Q, score_mod) + 1, torch.compile(inside, backend="aot_eager")(Q)
    expected, leaves = inside(Q), (Q, SLOPES)
    for one in found:
        torch.testing.assert_close(one, expected)
        gradients = (torch.autograd.grad(loss.square().sum(), leaves, retain_graph=True) for loss in (one, expected))
        torch.testing.assert_close(*gradients)


# Of widths 8 and 8.
VARIANTS = {
    "bahdanau": {"width": 6},
    "general": {},
    "dot of objects": {"normalizer": normalizers.create("entmax15")},
    "multihead": {"heads": 2, "head_width": 3, "output_width": 5},
    "causal_self_attention": {"heads": 2},
    "additive_multihead": {"heads": 2, "width": 6},
    "local_p": {"window": 2, "score": "general"},
    "location_sensitive": {"width": 6, "filters": 2, "filter_size": 3},
    "coverage": {"width": 6, "fertility": 2.0},
    "neural_coverage": {"width": 6, "coverage_width": 2},
    "mocha": {"width": 6, "chunk": 2},
}


class OverMemory(torch.nn.Module):
    """A variant between other operators."""

    def __init__(self, name, **options):
        super().__init__()
        name = name.split()[0]
        self.look = ours.variant(name, query_width=8, memory_width=8, dtype=torch.float64, **options)
        self.has_lengths = name != "causal_self_attention"

    def forward(self, x, memory, lengths):
        output = self.look(2 * x, memory, lengths if self.has_lengths else None, return_weights=True)
        return (self.look(x, memory) + output.context.cos()).square().sum() + output.weights.square().sum()


def over_memory(name):
    torch.manual_seed(0)
    return OverMemory(name, **VARIANTS[name]), draw(2, 5, 8), draw(2, 7, 8, seed=1), LENGTHS


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_compiled_variant_has_the_bits_of_the_eager_one(name, dynamic):
    model, *inputs = over_memory(name)
    leaves = (*inputs[:2], *model.parameters())
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    found, expected = compiled(*inputs), model(*inputs)
    assert torch.equal(found, expected)
    for one, other in zip(*(torch.autograd.grad(loss, leaves) for loss in (found, expected)), strict=True):
        assert torch.equal(one, other)


def test_other_variants_are_not_taken_for_one_another_in_a_compiled_model():
    _, *inputs = over_memory("bahdanau")
    torch._dynamo.reset()
    objects = [{"normalizer": normalizers.create(name)} for name in ("entmax15", "sparsemax")]
    for options in ({"scale": 0.2}, {"scale": 0.9}, *objects):
        model = OverMemory("dot", **options)
        for one in (model, copy.deepcopy(model)):
            assert torch.equal(torch.compile(one, fullgraph=True, backend="aot_eager")(*inputs), model(*inputs))


@pytest.mark.parametrize(("name", "setting"), [("local_p", "window"), ("mocha", "chunk")])
def test_a_compiled_variant_follows_its_settings(name, setting):
    model, *inputs = over_memory(name)
    torch._dynamo.reset()
    compiled, seen = torch.compile(model, fullgraph=True, backend="aot_eager"), []
    for number in (2, 3, 1, 3):
        setattr(model.look.mechanism, setting, number)
        seen.append(model(*inputs).detach())
        assert torch.equal(compiled(*inputs), seen[-1])
        assert torch.equal(torch.export.export(copy.deepcopy(model), tuple(inputs)).module()(*inputs), seen[-1])
    assert len(set(map(float, seen))) == 3


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_exported_and_transformed(name):
    model, x, memory, lengths = over_memory(name)
    x, memory = x.detach(), memory.detach()
    program = torch.export.export(model, (x, memory, lengths))
    assert "fastattn.variant" in str(program.graph)
    assert torch.equal(program.module()(x, memory, lengths), model(x, memory, lengths))
    parameters = dict(model.named_parameters())

    def loss(parameters, x, memory, lengths):
        return torch.func.functional_call(model, parameters, (x[None], memory[None], lengths[None]))

    found = torch.func.vmap(torch.func.grad(loss, (0, 1)), (None, 0, None, None))(parameters, x, memory[0], lengths[0])
    for i in range(len(x)):
        given = {key: one.detach().requires_grad_() for key, one in parameters.items()}, x[i].clone().requires_grad_()
        loss(*given, memory[0], lengths[0]).backward()
        assert torch.equal(found[1][i], given[1].grad)
        for key, one in given[0].items():
            assert torch.equal(found[0][key][i], one.grad)


@pytest.mark.parametrize("return_weights", [False, True])
@pytest.mark.parametrize("name", ["multihead", "causal_self_attention", "local_p"])
def test_operators_of_variants_are_what_they_say(name, return_weights):
    look, (x, memory, lengths) = over_memory(name)[0].look, over_memory(name)[1:]
    own = dict(look.named_parameters())
    alone = name == "causal_self_attention"
    more = (None,) * 3 if alone else (draw(2, 7, 8, seed=2), lengths, MASK[:, 0, 0])
    inputs = (x, memory, *more, [own[key].detach().requires_grad_() for key in look._names])
    torch.library.opcheck(mechanisms._forward, (*inputs, return_weights, look._text))
    context, weights = mechanisms._forward(*inputs, return_weights, look._text)
    d = torch.ones_like(context), torch.ones_like(weights) if return_weights else None
    backward = (*inputs, *d, return_weights, look._text)
    torch.library.opcheck(mechanisms._backward, backward, test_utils=WITHOUT_GRADIENTS)


def test_an_exported_variant_is_known_to_other_processes_unless_it_has_objects(monkeypatch):
    for name in ("bahdanau", "dot of objects"):
        model, *inputs = over_memory(name)
        program = torch.export.export(model, tuple(inputs))
        for kept in ("_KEPT", "_FREE"):  # as in another one
            monkeypatch.setattr(mechanisms, kept, {})
        if name == "bahdanau":
            assert torch.equal(program.module()(*inputs), model(*inputs))
            continue
        with pytest.raises(errors.UnsupportedError, match=r"Hint: export it there, or make the module by variant\("):
            program.module()(*inputs)


def test_few_mechanisms_are_kept_that_no_call_uses(monkeypatch):
    monkeypatch.setattr(mechanisms, "_FREE", {})
    monkeypatch.setattr(mechanisms, "_MOST", 3)
    models = [OverMemory("dot", scale=scale) for scale in range(1, 6)]
    _, *inputs = over_memory("bahdanau")
    for _ in range(2):
        for model in models:
            assert torch.equal(torch.func.grad(model)(*inputs), torch.autograd.grad(model(*inputs), inputs[0])[0])
        assert list(mechanisms._FREE) == [model.look._text for model in models[2:]]


def test_problems_with_objects_are_held_by_what_needs_them():
    """By what differentiates them, and by graphs; and not for as long as the process lives."""
    blocks = flex.create_block_mask(lambda b, h, i, j: i >= j, 1, 1, 5, 5, device="cpu")

    def attend(q):
        one = ours.attention(q, q, q, score=scores.Dot())
        return (one + ours.flex_attention(q, q, q, block_mask=blocks)).square().sum()

    gc.collect()
    q, before = Q.detach()[..., :5, :], len(operators._HELD)
    for call in (torch.func.grad(attend), torch.func.vmap(torch.func.grad(lambda q: attend(q[None])))):
        found = call(q)
        leaf = q.clone().requires_grad_()
        attend(leaf).backward()
        assert torch.equal(found, leaf.grad)
    _, pull = torch.func.vjp(attend, q)
    assert len(operators._HELD) >= before + 2
    assert torch.equal(pull(torch.ones((), dtype=q.dtype))[0], found)
    del pull
    gc.collect()
    assert len(operators._HELD) == before
    graph = make_fx(lambda q: ours.attention(q, q, q, score=scores.Dot()))(q)
    gc.collect()
    assert torch.equal(graph(q), ours.attention(q, q, q, score="dot"))


def test_threads_have_mechanisms_of_their_own():
    models = [OverMemory("bahdanau", width=6) for _ in range(2)]
    _, *inputs = over_memory("bahdanau")
    calls = [torch.func.grad(model) for model in models]
    expected = [call(*inputs) for call in calls]
    with ThreadPoolExecutor(2) as pool:
        for one, other in zip(pool.map(lambda i: calls[i % 2](*inputs), range(40)), expected * 20):
            assert torch.equal(one, other)


def test_a_model_is_exported():
    torch.manual_seed(0)
    model, x = Model().eval(), torch.randn(2, 5, 8)
    program = torch.export.export(model, (x,))
    assert "fastattn.attention" in str(program.graph)
    torch.testing.assert_close(program.module()(x), model(x))


BIAS = draw(5, 7, seed=8)


@pytest.mark.parametrize("axes", [2, 3, 4])
@pytest.mark.parametrize("option", ["none", "bias", "mask of entries", "score", "relative"])
def test_vmap_is_one_call_after_another(axes, option):
    lead = (2, 2)[: axes - 2]
    q, k, v = draw(3, *lead, 5, 8), draw(3, *lead, 7, 8, seed=1), draw(*lead, 7, 6, seed=2)
    masks = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(3)) < 0.7
    w = draw(3, 8, 8, seed=5)

    def attend(q, k, mask, w, bias):
        given = {
            "none": {}, "bias": {"bias": bias}, "mask of entries": {"mask": mask},
            "relative": {"bias": ours.RelativeBias(w.flatten()[:11])},
            "score": {"score": {"name": "general", "w": w}},
        }[option]  # fmt: skip
        found = ours.attention(q, k, v, return_weights=True, **given)
        return found.context.square().sum() + found.weights.pow(3).sum()

    every, dims = (q, k, masks, w, BIAS), (0, 0, 0, 0, None)
    alone = [[*(one[i] for one in every[:4]), BIAS] for i in range(3)]
    found = torch.func.vmap(attend, dims)(*every)
    torch.testing.assert_close(found, torch.stack([attend(*one) for one in alone]))
    argnums = (0, 1, *{"score": [3], "relative": [3], "bias": [4]}.get(option, []))
    found = torch.func.vmap(torch.func.grad(attend, argnums), dims)(*every)
    each = [torch.func.grad(attend, argnums)(*one) for one in alone]
    for one, parts in zip(found, zip(*each), strict=True):
        assert torch.equal(one, torch.stack(parts))


def test_gradients_of_each_sample():
    model = ours.AdditiveAttention(4, 4, 5, dtype=torch.float64)
    x = draw(3, 6, 4, grad=False)
    parameters = dict(model.named_parameters())

    def loss(parameters, x):
        return torch.func.functional_call(model, parameters, (x[None], x[None])).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
    for i in range(3):
        for name, one in torch.func.grad(loss)(parameters, x[i]).items():
            torch.testing.assert_close(found[name][i], one)
