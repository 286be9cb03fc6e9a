"""Second derivatives, which there are none of: whoever asks for one has an error, and never another number."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from fastattn.interop import torch as ours  # noqa: E402

F64 = {"dtype": torch.float64}
MODULES = {
    "additive": lambda: ours.AdditiveAttention(8, 8, 5, bias=True, **F64),
    "general": lambda: ours.LuongAttention(8, 8, output_width=3, **F64),
    "concat": lambda: ours.LuongAttention(8, 8, score="concat", **F64),
    "bahdanau": lambda: ours.variant("bahdanau", query_width=8, memory_width=8, width=6, **F64),
    "a multihead variant": lambda: ours.variant("multihead", query_width=8, memory_width=8, heads=2, **F64),
}
FUNCTIONS = {
    "plain": lambda x: ours.scaled_dot_product_attention(x, x, x),
    "causal, masked": lambda x: ours.scaled_dot_product_attention(
        x, x, x, torch.ones(5, 5, dtype=torch.bool), is_causal=True
    ),
    "a bias": lambda x: ours.scaled_dot_product_attention(*x.detach(), x[0, :, :5]),
    "attention": lambda x: ours.attention(x, x, x, normalizer="sparsemax"),
    "of half types": lambda x: ours.attention(*(x.bfloat16(),) * 3),
    "weights": lambda x: ours.attention(x, x, x, return_weights=True).weights.square(),
    "a score": lambda x: ours.attention(*x.detach()[:, None].expand(3, -1, -1, -1), score={
        "name": "additive", "v": x[0, 0]
    }),
    "flex": lambda x: ours.flex_attention(*(x[None],) * 3, lambda score, b, h, i, j: score * x[h, i, 0]),
    "in a block": lambda x: in_block(x),
}  # fmt: skip
ENTRIES = [*FUNCTIONS, "multihead", *MODULES]


def in_block(x):
    with ours.use():
        return torch.nn.functional.scaled_dot_product_attention(x, x, x)


@pytest.fixture(params=ENTRIES)
def entry(request):
    torch.manual_seed(0)
    if request.param == "multihead":
        module = ours.MultiheadAttention(8, 2, batch_first=True, **F64)
        return lambda x: module(x, x, x)[0].sum()
    if request.param in MODULES:
        module = MODULES[request.param]()
        return lambda x: module(x, x).sum()
    return lambda x: FUNCTIONS[request.param](x).sum()


def draw():
    return torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1), **F64).requires_grad_()


TWICE = {
    "of a sum": lambda loss, x: loss(x),  # whose gradient, all ones, requires none itself
    "of squares": lambda loss, x: loss(x).square(),
}


@pytest.mark.parametrize("how", TWICE)
def test_a_loss_with_a_gradient_in_it_is_refused(entry, how):
    x = draw()
    (first,) = torch.autograd.grad(TWICE[how](entry, x), x, create_graph=True)
    x.pow(3).sum().backward()  # and what has none of it is not
    loss = x.pow(3).sum() + first.square().sum()
    with pytest.raises(RuntimeError, match="differentiate twice"):
        loss.backward()


@pytest.mark.parametrize("product", ["hvp", "vhp"])
def test_products_with_the_hessian_are_refused(entry, product):
    with pytest.raises(RuntimeError, match="differentiate twice"):
        getattr(torch.autograd.functional, product)(entry, draw(), torch.ones(3, 5, 8, **F64))


def test_transformations_of_one_another_are_refused(entry):
    with pytest.raises(RuntimeError):
        torch.func.grad(lambda x: torch.func.grad(entry)(x).sum())(draw().detach())


@pytest.mark.parametrize("name", MODULES)
def test_parameters_have_none_either(name):
    torch.manual_seed(0)
    module, x = MODULES[name](), draw().detach()
    parameters = list(module.parameters())
    first = torch.autograd.grad(module(x, x).sum(), parameters, create_graph=True, materialize_grads=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        sum(one.square().sum() for one in first).backward()
