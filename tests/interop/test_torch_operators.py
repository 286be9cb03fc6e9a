"""What compilers, exporters and transformations of PyTorch make of attention."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from fastattn.interop import torch as ours  # noqa: E402
from fastattn.interop.torch import operators, projections  # noqa: E402
from fastattn.interop.torch.problem import Made, Problem  # noqa: E402


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
    "sparse": (Problem(normalizer=Made("sparsemax"), return_weights=True), (None, MASK, None, None), []),
}


WITHOUT_GRADIENTS = ("test_schema", "test_faketensor")  # of operators that compute gradients, which have none


@pytest.mark.parametrize("name", PROBLEMS)
def test_operators_are_what_they_say(name):
    problem, more, parameters = PROBLEMS[name]
    inputs = (Q, K, V, *more, parameters, operators.encode(problem))
    torch.library.opcheck(operators._forward, inputs)
    saved = operators._forward(*inputs)
    d = [None if one.ndim == 5 else torch.ones_like(one) for one in saved[:3]]
    backward = (*inputs[:-1], [*saved[:2], *saved[3:]], *d, more[0] is not None, inputs[-1])
    torch.library.opcheck(operators._backward, backward, test_utils=WITHOUT_GRADIENTS)
    assert operators.decode(operators.encode(problem)) == problem


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


SLOPES = draw(4)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # PyTorch's own
@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("name", ["flex", "variant"])
def test_a_break_of_the_graph_is_one_and_no_error(name, dynamic):
    torch.manual_seed(0)
    if name == "flex":
        call, x, given = ours.flex_attention, Q, (lambda score, b, h, i, j: score * SLOPES[h],)
        leaves = (Q, SLOPES)
    else:
        call, x, given = ours.variant("bahdanau", query_width=8, memory_width=8, width=6), draw(2, 5, 8).float(), ()
        leaves = tuple(call.parameters())

    def inside(x):
        return call(x * 2, *(x,) * (2 if given else 1), *given) + 1

    torch._dynamo.reset()
    alone = torch.compile(call, dynamic=dynamic, backend="aot_eager")
    found = alone(x * 2, *(x,) * (2 if given else 1), *given) + 1, torch.compile(inside, backend="aot_eager")(x)
    expected = inside(x)
    for one in found:
        torch.testing.assert_close(one, expected)
        gradients = (torch.autograd.grad(loss.square().sum(), leaves, retain_graph=True) for loss in (one, expected))
        torch.testing.assert_close(*gradients)


def test_a_model_is_exported():
    torch.manual_seed(0)
    model, x = Model().eval(), torch.randn(2, 5, 8)
    program = torch.export.export(model, (x,))
    assert "fastattn.attention" in str(program.graph)
    torch.testing.assert_close(program.module()(x), model(x))


BIAS = draw(5, 7, seed=8)


@pytest.mark.parametrize("axes", [2, 3, 4])
@pytest.mark.parametrize("option", ["none", "bias", "mask of entries", "score"])
def test_vmap_is_one_call_after_another(axes, option):
    lead = (2, 2)[: axes - 2]
    q, k, v = draw(3, *lead, 5, 8), draw(3, *lead, 7, 8, seed=1), draw(*lead, 7, 6, seed=2)
    masks = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(3)) < 0.7
    w = draw(3, 8, 8, seed=5)

    def attend(q, k, mask, w, bias):
        given = {
            "none": {}, "bias": {"bias": bias}, "mask of entries": {"mask": mask},
            "score": {"score": {"name": "general", "w": w}},
        }[option]  # fmt: skip
        found = ours.attention(q, k, v, return_weights=True, **given)
        return found.context.square().sum() + found.weights.pow(3).sum()

    every, dims = (q, k, masks, w, BIAS), (0, 0, 0, 0, None)
    alone = [[*(one[i] for one in every[:4]), BIAS] for i in range(3)]
    found = torch.func.vmap(attend, dims)(*every)
    torch.testing.assert_close(found, torch.stack([attend(*one) for one in alone]))
    argnums = (0, 1, *{"score": [3], "bias": [4]}.get(option, []))
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
