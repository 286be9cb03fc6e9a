"""Modules of PyTorch: beside PyTorch's own, with its states, and by name."""

import copy
import pickle
import threading

import numpy as np
import pytest
import variant_cases

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch import nn  # noqa: E402

import fastattn  # noqa: E402
from fastattn import errors  # noqa: E402
from fastattn.interop import torch as ours  # noqa: E402

F64 = {"dtype": torch.float64}


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator, **F64).requires_grad_()


PADDING = torch.arange(7) >= torch.tensor([[7], [4]])
HEADS = {
    "self": ({}, {}),
    "no bias": ({"bias": False}, {}),
    "other widths": ({"kdim": 6, "vdim": 5}, {}),
    "batch first": ({"batch_first": True}, {}),
    "padding": ({"batch_first": True}, {"key_padding_mask": PADDING}),
    "a mask": ({}, {"attn_mask": torch.rand(7, 7, generator=torch.Generator().manual_seed(1)) > 0.8}),
    "a float mask": ({}, {"attn_mask": draw(7, 7)}),
    "a mask of heads": ({"batch_first": True}, {"attn_mask": draw(8, 7, 7)}),
    "causal": ({}, {"attn_mask": torch.ones(7, 7, dtype=torch.bool).triu(1), "is_causal": True}),
    "weights of heads": ({}, {"average_attn_weights": False}),
    "no weights": ({}, {"need_weights": False}),
    "added keys": ({"add_bias_kv": True, "add_zero_attn": True, "batch_first": True}, {"key_padding_mask": PADDING}),
}


@pytest.mark.parametrize("name", HEADS)
def test_multihead_attention_is_pytorchs(name):
    options, given = HEADS[name]
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(8, 4, **options, **F64)
    module = ours.MultiheadAttention(8, 4, **options, **F64)
    module.load_state_dict(theirs.state_dict())
    shape = (2, 7) if options.get("batch_first") else (7, 2)
    x = [draw(*shape, 8)] * 3 if name != "other widths" else [draw(*shape, width) for width in (8, 6, 5)]
    results = []
    for one in (module, theirs):
        output, weights = one(*x, **given)
        loss = output.square().sum() + (0 if weights is None else weights.pow(3).sum())
        trained = [part for part in (*x, *given.values(), *one.parameters()) if getattr(part, "requires_grad", False)]
        results.append((output, weights, torch.autograd.grad(loss, trained)))
    (output, weights, gradients), (their_output, their_weights, their_gradients) = results
    torch.testing.assert_close(output, their_output)
    assert (weights is None) == (their_weights is None)
    if weights is not None:
        torch.testing.assert_close(weights, their_weights)
    for one, other in zip(gradients, their_gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_multihead_attention_of_one_sample():
    torch.manual_seed(0)
    module = ours.MultiheadAttention(8, 4, **F64)
    x = draw(7, 8)
    output, weights = module(x, x, x)
    expected, of_weights = nn.MultiheadAttention.forward(module, x, x, x)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(weights, of_weights)


def test_multihead_attention_of_a_sample_has_its_bits_in_any_batch():
    torch.manual_seed(0)
    module = ours.MultiheadAttention(32, 4, batch_first=True)
    x = torch.randn(9, 17, 32)
    whole = module(x, x, x)[0]
    for i in range(9):
        assert torch.equal(module(x[i : i + 1], x[i : i + 1], x[i : i + 1])[0][0], whole[i])


def plain_scores(module, query, memory):
    if isinstance(module, ours.AdditiveAttention):
        act = getattr(torch, module.activation)
        return act(module.query(query)[:, :, None] + module.key(memory)[:, None]) @ module.v
    if module.score == "concat":
        pairs = torch.cat([
            query[:, :, None].expand(-1, -1, memory.shape[1], -1), memory[:, None].expand(-1, query.shape[1], -1, -1)
        ], -1)  # fmt: skip
        return torch.tanh(pairs @ module.w) @ module.v
    return (query if module.score == "dot" else query @ module.w) @ memory.mT


OVER_MEMORY = {
    "additive": lambda: ours.AdditiveAttention(6, 5, 7, bias=True, **F64),
    "additive, relu": lambda: ours.AdditiveAttention(6, 5, 7, activation="relu", **F64),
    "general": lambda: ours.LuongAttention(6, 5, **F64),
    "dot": lambda: ours.LuongAttention(5, 5, score="dot", **F64),
    "concat": lambda: ours.LuongAttention(6, 5, score="concat", output_width=4, **F64),
}


@pytest.mark.parametrize("name", OVER_MEMORY)
def test_attention_over_a_memory(name):
    torch.manual_seed(0)
    module = OVER_MEMORY[name]()
    query, memory = draw(2, 4, 5 if name == "dot" else 6), draw(2, 7, 5)
    lengths = torch.tensor([7, 4])
    context, weights = module(query, memory, key_lengths=lengths, return_weights=True)
    scores = plain_scores(module, query, memory).masked_fill(PADDING[:, None], -torch.inf)
    expected = scores.softmax(-1)
    plain = expected @ memory
    if getattr(module, "output", None) is not None:
        plain = torch.tanh(module.output(torch.cat([plain, query], -1)))
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(context, plain)
    trained = (query, memory, *module.parameters())
    found, wanted = (torch.autograd.grad(one.square().sum() + w.pow(3).sum(), trained)
                     for one, w in ((context, weights), (plain, expected)))  # fmt: skip
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)
    step, step_weights = module(query[:, 1], memory, mask=~PADDING, return_weights=True)
    assert torch.equal(step, context[:, 1]) and torch.equal(step_weights, weights[:, 1])


def test_a_wrong_score_is_refused():
    with pytest.raises(errors.ArgumentError, match="general"):
        ours.LuongAttention(4, 4, score="genral")
    with pytest.raises(errors.ShapeError, match="unsqueeze"):
        ours.LuongAttention(4, 4)(torch.ones(4), torch.ones(2, 3, 4))
    with pytest.raises(errors.ArgumentError, match=r"torch\.float32"):
        ours.variant("dot", query_width=4, memory_width=4, dtype=torch.float16)


HEADED, QUERIES = ours.MultiheadAttention(8, 2, batch_first=True), torch.ones(2, 5, 8)
X = (QUERIES,) * 3
LOOK = ours.variant("bahdanau", query_width=8, memory_width=8, width=6)
WRONG = {
    "padding of other keys": (
        lambda: HEADED(*X, PADDING), errors.ShapeError, "expected shape (2, 5), got shape (2, 7)",
    ),
    "padding of no samples": (lambda: HEADED(*X, PADDING[0, :5]), errors.ShapeError, "key_padding_mask: "),
    "padding of one sample": (
        lambda: HEADED(*(QUERIES[0],) * 3, PADDING[:, :5]), errors.ShapeError, "expected shape (5,)",
    ),
    "a mask of other keys": (lambda: HEADED(*X, attn_mask=PADDING), errors.ShapeError, "(5, 5) or (4, 5, 5)"),
    "a mask that is an array": (lambda: HEADED(*X, attn_mask=np.ones((5, 5))), errors.DTypeError, "attn_mask: "),
    "one axis": (lambda: HEADED(*(QUERIES[0, 0],) * 3), errors.ShapeError, "unsqueeze(0)"),
    "samples of one alone": (lambda: HEADED(QUERIES, QUERIES[0], QUERIES), errors.ShapeError, "(2, 5, 8), (5, 8), "),
    "arrays": (lambda: HEADED(QUERIES, QUERIES.numpy(), QUERIES), errors.DTypeError, "torch.as_tensor(key)"),
    "no memory": (lambda: ours.LuongAttention(8, 8)(QUERIES, None), errors.DTypeError, "memory: expected a tensor"),
    "a list of lengths": (lambda: LOOK(QUERIES, QUERIES, [3, 2]), errors.DTypeError, "torch.as_tensor(lengths)"),
    "doubles": (lambda: LOOK(QUERIES, QUERIES.double()), errors.DTypeError, "memory: expected torch.float32"),
    "a module of doubles": (
        lambda: copy.deepcopy(LOOK).double()(QUERIES, QUERIES), errors.DTypeError, "variant(name, dtype=...)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_of_modules_have_an_error_with_a_hint(name):
    call, error, words = WRONG[name]
    with pytest.raises(error) as found:
        call()
    assert "Hint: " in str(found.value) and words in str(found.value), found.value


def test_inside_of_pytorchs_encoder_a_switch_makes_it_call_ours(monkeypatch):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    layer.self_attn, called = ours.MultiheadAttention(8, 2, batch_first=True), []
    layer.eval()
    own = ours.MultiheadAttention.forward
    monkeypatch.setattr(
        ours.MultiheadAttention, "forward", lambda *given, **more: called.append(1) or own(*given, **more)
    )
    with torch.no_grad():
        expected = layer(QUERIES)
        assert not called
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            torch.testing.assert_close(layer(QUERIES), expected)
        finally:
            torch.backends.mha.set_fastpath_enabled(True)
    assert called


HALF = {
    "multihead": lambda: ours.MultiheadAttention(8, 4, batch_first=True, add_bias_kv=True),
    "additive": lambda: ours.AdditiveAttention(8, 8, 7, bias=True),
    "general": lambda: ours.LuongAttention(8, 8, output_width=8),
    "dot": lambda: ours.LuongAttention(8, 8, score="dot"),
    "concat": lambda: ours.LuongAttention(8, 8, score="concat"),
    "a variant": lambda: ours.variant("bahdanau", query_width=8, memory_width=8, width=6),
}


def half_results(module, x, memory, bias, d):
    """Outputs and all gradients."""
    if isinstance(module, nn.MultiheadAttention):
        found, inputs = module(x, x, x, attn_mask=bias), (x, bias)
    else:
        found, inputs = module(x, memory, return_weights=True), (x, memory)
    context, weights = found[0], found[1]
    trained = (*inputs, *module.parameters())
    more = torch.ones_like(weights) / 8
    return context, weights, *torch.autograd.grad((context, weights), trained, (d.to(context.dtype), more))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", HALF)
def test_modules_of_half_types_compute_in_float32_and_round_once(name, dtype):
    torch.manual_seed(0)
    module = HALF[name]().to(dtype)
    given = [torch.randn(*shape).to(dtype).requires_grad_() for shape in ((2, 4, 8), (2, 7, 8), (4, 4))]
    d = torch.randn(2, 4, 8).to(dtype)
    found = half_results(module, *given, d)
    module = copy.deepcopy(module).float()
    expected = half_results(module, *(one.detach().float().requires_grad_() for one in given), d)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype and torch.equal(one, other.to(dtype))
    with torch.no_grad():  # as under autocast: half inputs, parameters of float32
        inputs = [given[0]] * 3 if isinstance(module, nn.MultiheadAttention) else given[:2]
        outputs = [module(*several) for several in (inputs, [one.float() for one in inputs])]
        mixed, right = (one[0] if isinstance(one, tuple) else one for one in outputs)
    assert mixed.dtype == dtype and torch.equal(mixed, right.to(dtype))


AUTOCAST = {
    "scaled_dot_product_attention": (lambda x: nn.functional.scaled_dot_product_attention(x, x, x, BIAS),
                                     lambda x: ours.scaled_dot_product_attention(x, x, x, BIAS)),
    "multihead": (lambda x: THEIRS(x, x, x)[0], lambda x: HEADED(x, x, x)[0]),
    "multihead, weights": (lambda x: THEIRS(x, x, x)[1], lambda x: HEADED(x, x, x)[1]),
    "attention": (lambda x: nn.functional.scaled_dot_product_attention(x, x, x), lambda x: ours.attention(x, x, x)),
    "flex": (lambda x: nn.functional.scaled_dot_product_attention(*(x[None],) * 3),
             lambda x: ours.flex_attention(*(x[None],) * 3)),
}  # fmt: skip
BIAS = torch.linspace(-1, 1, 25).reshape(5, 5).requires_grad_()
THEIRS = nn.MultiheadAttention(8, 2, batch_first=True)


@pytest.mark.parametrize("low", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", AUTOCAST)
def test_results_under_autocast_have_the_type_of_pytorchs(name, low):
    theirs, call = AUTOCAST[name]
    HEADED.load_state_dict(THEIRS.state_dict())
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        if dtype == torch.float64 and name != "attention":  # which PyTorch's refuse beside parameters of float32
            continue
        x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=low):
            found, expected = call(x), theirs(x)
            assert torch.is_autocast_enabled("cpu")
        assert found.dtype == expected.dtype == (torch.float64 if dtype == torch.float64 else low)
        torch.testing.assert_close(found, expected, rtol=0, atol=8 * torch.finfo(low).eps)
        d, other = (torch.autograd.grad(one.double().square().sum(), x)[0] for one in (found, expected))
        assert d.dtype == dtype
        torch.testing.assert_close(d, other, rtol=0, atol=64 * torch.finfo(low).eps)


@pytest.mark.parametrize("name", HALF)
def test_modules_compute_under_autocast_what_they_do_of_halves(name):
    torch.manual_seed(0)
    module, x = HALF[name](), torch.randn(2, 4, 8)
    inputs = (x,) * (3 if isinstance(module, nn.MultiheadAttention) else 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module(*inputs)
        torch._dynamo.reset()
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")(*inputs)
    for one, other in zip((found, compiled), (module(*(one.bfloat16() for one in inputs)),) * 2):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


FIRST = {case.record.name: case.options for case in reversed(variant_cases.CASES)}  # of each name
VARIANTS = {
    **FIRST,
    "multihead": {"heads": 2},
    "location_sensitive": {"width": 6, "filters": 2, "filter_size": 3},
    "coverage": {"width": 6, "fertility": 2.0},
}
DRAWN = ("hard", "monotonic", "mocha")  # with what is random in training, or has no derivative


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_has_its_own_results_and_gradients(name):
    torch.manual_seed(1)
    options = {"query_width": 6, **VARIANTS[name]}
    module = ours.variant(name, memory_width=6, dtype=torch.float64, **options)
    query, memory, lengths = draw(2, 4, options["query_width"]), draw(2, 7, 6), torch.tensor([7, 4])
    own = copy.deepcopy(module.mechanism)
    assert dict(module.named_parameters()).keys() == own.parameters().keys()
    output = module(query, memory, lengths, return_weights=True)
    made, backward = own.vjp(
        query.detach().numpy(), own.prepare(memory.detach().numpy(), lengths.numpy()), return_weights=True
    )
    assert np.array_equal(output.context.detach(), made.context) and np.array_equal(
        output.weights.detach(), made.weights
    )
    (output.context.sum() + output.weights.square().sum()).backward()
    d_query, d_memory = backward(np.ones_like(made.context), 2 * made.weights)
    assert np.array_equal(query.grad, d_query) and np.array_equal(memory.grad, d_memory)
    for key, one in module.named_parameters():
        assert np.array_equal(one.grad, own.parameters()[key].gradient)
    if name in DRAWN:
        return
    module.zero_grad()
    assert torch.autograd.gradcheck(lambda *x: module(*x, lengths), (query, memory), nondet_tol=0, fast_mode=True)


def test_a_variant_follows_its_parameters():
    module = ours.variant("general", query_width=3, memory_width=3)
    x = torch.randn(1, 2, 3)
    seen = [module(x, x)]

    def differs():
        seen.append(module(x, x))
        return not torch.equal(seen[-1], seen[-2])

    for mode in (True, False):
        module.train(mode)
        optimizer = torch.optim.SGD(module.parameters(), 0.5)  # anew: what is assigned is another parameter
        module(x, x).square().sum().backward()
        optimizer.step()
        assert differs()
        assert not differs()
        module.load_state_dict({"w": torch.randn(3, 3)})
        assert differs()
        module.load_state_dict({"w": torch.randn(3, 3)}, assign=True)
        assert differs()
    module.w.data.add_(1)
    module.eval()
    assert differs()
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(x, x), module(x, x))
    optimizer = torch.optim.SGD(module.parameters(), 0.5)
    found = module(x, x).square().sum()
    found.backward(retain_graph=True)
    first = module.w.grad.clone()
    found.backward(retain_graph=True)
    assert torch.equal(module.w.grad, 2 * first)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        found.backward()


def test_other_tensors_in_the_place_of_parameters_are_looked_at():
    module, x = ours.variant("general", query_width=64, memory_width=64).eval(), torch.randn(1, 5, 64)
    for weights in torch.randn(20, 64, 64):
        w = weights.clone()  # which often lies where the one before was
        expected = ours.attention(x, x, x, score={"name": "general", "w": w})
        assert torch.equal(torch.func.functional_call(module, {"w": w}, (x, x)), expected)
        del w


OURS = {"_AttentionBackward", "_PlainBackward"}


def test_pytorchs_function_is_swapped_inside_of_a_block_alone():
    q = draw(1, 2, 3, 4)
    q32 = q.detach().float().requires_grad_()
    torch.manual_seed(0)
    module = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    own = nn.functional.scaled_dot_product_attention
    bits = [own(q32, q32, q32), module(q32[0])]
    with ours.use():
        swapped = nn.functional.scaled_dot_product_attention(q32, q32, q32)
        layer = module(q32[0])
        with pytest.raises(ValueError, match="inside"), ours.use():
            raise ValueError("inside")
        assert swapped.grad_fn.name() in OURS
        assert names_of(layer.grad_fn) & OURS
        found, used = [], threading.Thread(target=lambda: found.append(own(q32, q32, q32).grad_fn.name()))
        used.start()
        used.join()
    assert nn.functional.scaled_dot_product_attention is own
    for one in (own(q32, q32, q32), module(q32[0])):
        assert not names_of(one.grad_fn) & OURS
    assert found[0] not in OURS
    torch.testing.assert_close([swapped, layer], bits)


def names_of(node):
    """Names of all nodes of a graph."""
    found = {node.name()}
    for other, _ in node.next_functions:
        if other is not None:
            found |= names_of(other)
    return found


def test_a_plugins_variant_is_a_module_too():
    def make(query_width, memory_width, *, size=4, dtype=np.float32, rng):
        return fastattn.create(
            "bahdanau", query_width=query_width, memory_width=memory_width, width=size, dtype=dtype, rng=rng
        )

    fastattn.variants.register(fastattn.plugin.VariantRecord("mine_for_torch", make), replace=True)
    given = {"query_width": 3, "memory_width": 3, "dtype": torch.float64}
    module, right = ours.variant("mine_for_torch", size=5, **given), ours.variant("bahdanau", width=5, **given)
    right.load_state_dict(module.state_dict())
    x = draw(1, 2, 3)
    found, expected = module(x, x), right(x, x)
    assert torch.equal(found, expected)
    parts = (
        torch.autograd.grad(one.sum(), list(made.parameters())) for one, made in ((found, module), (expected, right))
    )
    assert all(map(torch.equal, *parts))


def test_a_plugins_score_is_a_module_too():
    class Shifted(fastattn.scores.Dot):
        name = "shifted"

    record = fastattn.plugin.ScoreRecord("shifted_for_torch", Shifted)
    fastattn.scores.register(record, replace=True)
    x = draw(1, 2, 3)
    module = ours.variant("shifted_for_torch", query_width=3, memory_width=3, dtype=torch.float64)
    torch.testing.assert_close(module(x, x), (x @ x.mT).softmax(-1) @ x)
