"""Attention in PyTorch: what its own functions give, gradients beside finite differences, and autograd's checks."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch.nn import functional as F  # noqa: E402
from torch.nn.attention.bias import causal_lower_right  # noqa: E402

import fastattn  # noqa: E402
from fastattn import errors  # noqa: E402
from fastattn._kernels import core  # noqa: E402
from fastattn.interop import torch as ours  # noqa: E402


def draw(*shape, dtype=torch.float64, grad=True, seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, dtype=dtype, generator=generator).requires_grad_(grad)


def allowed(*shape):
    """A bool mask whose first row allows nothing."""
    found = torch.rand(*shape, generator=torch.Generator().manual_seed(3)) < 0.7
    found[..., 0, :] = False
    return found


# Of query, key and value; then what else is given.
SDPA = {
    "2-D": (((5, 8), (7, 8), (7, 6)), {}),
    "3-D": (((3, 5, 8), (3, 7, 8), (3, 7, 8)), {}),
    "4-D": (((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 3)), {}),
    "5-D": (((2, 3, 4, 5, 8), (2, 3, 4, 7, 8), (2, 3, 4, 7, 8)), {"attn_mask": allowed(3, 1, 5, 7)}),
    "scale": (((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 8)), {"scale": 0.3}),
    "causal": (((2, 4, 7, 8), (2, 4, 7, 8), (2, 4, 7, 8)), {"is_causal": True}),
    "causal, fewer queries": (((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 8)), {"is_causal": True}),
    "causal to the end": (((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 8)), {"attn_mask": causal_lower_right(5, 7)}),
    "grouped": (((2, 4, 5, 8), (2, 2, 7, 8), (2, 2, 7, 8)), {"enable_gqa": True}),
    "grouped, 3-D": (((4, 5, 8), (2, 7, 8), (2, 7, 8)), {"enable_gqa": True}),
    "one head of keys": (((2, 4, 5, 8), (2, 1, 7, 8), (2, 1, 7, 8)), {}),
    "one sample of keys": (((2, 4, 5, 8), (1, 4, 7, 8), (4, 7, 8)), {}),
    "one query for all": (((1, 1, 5, 8), (2, 4, 7, 8), (2, 4, 7, 8)), {}),
    "mask": (((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 8)), {"attn_mask": allowed(2, 1, 5, 7)}),
    "mask of 2-D": (((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 8)), {"attn_mask": allowed(5, 7)}),
    "mask, 3-D": (((3, 5, 8), (3, 7, 8), (3, 7, 8)), {"attn_mask": allowed(3, 5, 7)}),
    "bias": (((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 8)), {"attn_mask": draw(1, 4, 5, 7)}),
    "bias, frozen": (((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 8)), {"attn_mask": draw(2, 4, 5, 7, grad=False)}),
    "no keys": (((2, 4, 5, 8), (2, 4, 0, 8), (2, 4, 0, 8)), {}),
    "no samples": (((0, 4, 5, 8), (0, 4, 7, 8), (0, 4, 7, 8)), {}),
}


def gradients(output, inputs):
    trained = [one for one in inputs if isinstance(one, torch.Tensor) and one.requires_grad]
    return torch.autograd.grad((output * torch.cos(output.detach() + 1)).sum(), trained, allow_unused=True)


@pytest.mark.parametrize("name", SDPA)
def test_sdpa_is_pytorchs(name):
    shapes, given = SDPA[name]
    inputs = [draw(*shape, seed=i) for i, shape in enumerate(shapes)]
    found, wanted = (f(*inputs, **given) for f in (ours.scaled_dot_product_attention, F.scaled_dot_product_attention))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)
    every = [*inputs, *given.values()]
    for one, other in zip(gradients(found, every), gradients(wanted, every), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


def test_a_mask_and_causality_together():
    q = draw(1, 2, 6, 8)
    mask = allowed(1, 1, 6, 6)
    both = mask & torch.ones(6, 6, dtype=torch.bool).tril()
    found = ours.scaled_dot_product_attention(q, q, q, mask, is_causal=True)
    torch.testing.assert_close(found, F.scaled_dot_product_attention(q, q, q, both))


W = {name: draw(*shape, seed=9) for name, shape in {"wq": (8, 6), "wk": (8, 6), "v": (6,), "w": (8, 8)}.items()}
ADDITIVE = {"name": "additive", "v": W["v"], "w_query": W["wq"], "w_key": W["wk"]}


@fastattn.score_mod
def capped(score, b, h, i, j, cap, table):
    return cap * np.tanh(score / cap) + table[h, i]


@fastattn.mask_mod
def near(b, h, i, j, width):
    return (abs(i - j) <= width[h]) | (j == 0)


CAPPED = {"name": capped, "cap": torch.tensor(2.0, dtype=torch.float64, requires_grad=True), "table": draw(2, 5)}
WIDTHS = torch.tensor([1, 3])
ALPHA = torch.tensor([1.3, 1.7], dtype=torch.float64, requires_grad=True)
OPTIONS = {
    "plain": {},
    "causal": {"causal": "bottom_right"},
    "window": {"window": (2, 1), "scale": 0.4},
    "lengths": {"key_lengths": torch.tensor([4, 0])},
    "mask": {"mask": allowed(1, 1, 5, 7)},
    "bias": {"bias": draw(2, 1, 7)},
    "dropout": {"dropout": 0.4, "seed": 5},
    "dropout by samples": {"dropout": 0.4, "seed": torch.tensor([5, 6])},
    "additive": {"score": ADDITIVE},
    "additive, relu, capped": {"score": {**ADDITIVE, "activation": "sigmoid", "softcap": 2.0}},
    "general": {"score": {"name": "general", "w": W["w"]}},
    "cosine": {"score": "cosine", "scale": 3.0},
    "location": {"score": {"name": "location", "w": draw(8, 7)}},
    "functions": {"score_mod": CAPPED, "mask": {"name": near, "width": WIDTHS}},
    "functions, bound": {"mask": near(width=WIDTHS.numpy()), "score_mod": capped(cap=2.0, table=np.ones((2, 5)))},
    "functions, a score": {"score_mod": CAPPED, "score": ADDITIVE, "normalizer": {"name": "entmax", "alpha": ALPHA}},
    "a plain function": {"mask": lambda b, h, i, j: i >= j, "score_mod": lambda score, b, h, i, j: score * (h + 1)},
    "a score's class": {"score": {"name": fastattn.scores.General, "w": W["w"]}},
    "entmax": {"normalizer": {"name": "entmax", "alpha": ALPHA}},
    "sparsemax": {"normalizer": "sparsemax"},
}


def tensors_of(given):
    for one in given.values():
        if isinstance(one, torch.Tensor) and one.requires_grad:
            yield one
        elif isinstance(one, dict):
            yield from tensors_of(one)


@pytest.mark.parametrize("name", OPTIONS)
def test_gradients_are_those_of_differences_and_of_one_run_alone(name):
    given, lse = OPTIONS[name], "normalizer" not in OPTIONS[name]
    inputs = (draw(2, 2, 5, 8), draw(2, 2, 7, 8, seed=1), draw(2, 2, 7, 3, seed=2))

    def attend(*tensors):
        left = iter(tensors[3:])

        def put(table):
            return {
                key: next(left) if isinstance(one, torch.Tensor) and one.requires_grad
                else put(one) if isinstance(one, dict) else one
                for key, one in table.items()
            }  # fmt: skip

        found = ours.attention(*tensors[:3], return_weights=True, return_lse=lse, **put(given))
        return tuple(one if one is None else torch.where(one.isfinite(), one, 0) for one in found if one is not None)

    every = (*inputs, *tensors_of(given))
    assert torch.autograd.gradcheck(attend, every, nondet_tol=0, fast_mode=True, atol=1e-4)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_bits_are_those_of_arrays(name):
    def arrays(given):
        if isinstance(given, dict):
            return {key: arrays(one) for key, one in given.items()}
        return given.detach().numpy() if isinstance(given, torch.Tensor) else given

    given = arrays(OPTIONS[name])
    creators = {"score": fastattn.scores.create, "normalizer": fastattn.normalizers.create}
    for part, create in {**creators, "score_mod": None, "mask": None}.items():
        if isinstance(given.get(part), dict):
            maker, parameters = given[part]["name"], {key: x for key, x in given[part].items() if key != "name"}
            given[part] = maker(**parameters) if callable(maker) else create(maker, **parameters)
    inputs = (draw(2, 2, 5, 8), draw(2, 2, 7, 8, seed=1), draw(2, 2, 7, 3, seed=2))
    context, backward = fastattn.attention_vjp(*(one.detach().numpy() for one in inputs), **given)
    expected = backward(np.cos(context))
    found = ours.attention(*inputs, **OPTIONS[name])
    assert found.detach().numpy().tobytes() == context.tobytes()
    every = (*inputs, *tensors_of(OPTIONS[name]))
    made = torch.autograd.grad(found, every, torch.from_numpy(np.cos(context)))
    bias = [expected.bias] if expected.bias is not None else []
    mappings = [OPTIONS[name].get(part, {}) for part in ("score_mod", "score")]
    names = [key for one in mappings if isinstance(one, dict) for key in one if key in expected.score]
    wanted = (*expected[:3], *bias, *(expected.score[key] for key in names), *expected.normalizer.values())
    for one, other in zip(made, wanted, strict=True):
        assert one.numpy().tobytes() == other.tobytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(11,), (2, 11)], ids=str)
def test_a_relative_bias_is_that_of_arrays_and_trained(shape, dtype):
    inputs = [draw(2, 2, n, 8, dtype=dtype, seed=n) for n in (5, 7, 7)] + [draw(*shape, dtype=dtype)]
    *arrays, values = (one.detach().numpy() for one in inputs)
    context, backward = fastattn.attention_vjp(*arrays, bias=fastattn.positions.RelativeBias(values), window=(3, 2))
    found = ours.attention(*inputs[:3], bias=ours.RelativeBias(inputs[3]), window=(3, 2))
    assert found.detach().numpy().tobytes() == context.tobytes()
    d = np.cos(context)
    made = torch.autograd.grad(found, inputs, torch.from_numpy(d))
    for one, other in zip(made, backward(d)[:4], strict=True):
        assert one.numpy().tobytes() == other.tobytes()
    fixed = ours.attention(*inputs[:3], bias=fastattn.positions.RelativeBias(values), window=(3, 2))
    assert torch.equal(fixed, found)
    for one, other in zip(torch.autograd.grad(fixed, inputs[:3], torch.from_numpy(d)), made):
        assert torch.equal(one, other)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("relative", [False, True])
def test_a_bias_of_half_types_may_be_float32(half, relative):
    query, values = draw(2, 2, 6, 16, dtype=torch.float32).detach().to(half), draw(2, 11, dtype=torch.float32)
    bias = values.detach()[:, (torch.arange(6) - torch.arange(6)[:, None]) + 5].requires_grad_()
    given = ours.RelativeBias(values) if relative else bias
    found = ours.attention(*(query,) * 3, bias=given)
    expected = ours.attention(*(query.float(),) * 3, bias=given)
    torch.testing.assert_close(found, expected.to(half), rtol=0, atol=4 * torch.finfo(half).eps)
    one, other = (torch.autograd.grad(x.float().square().sum(), values if relative else bias)[0]
                  for x in (found, expected))  # fmt: skip
    assert one.dtype == torch.float32
    torch.testing.assert_close(one, other, rtol=0, atol=16 * torch.finfo(half).eps)
    if relative:
        narrow = values.detach().to(half).requires_grad_()
        ours.attention(*(query,) * 3, bias=ours.RelativeBias(narrow)).sum().backward()
        assert narrow.grad.dtype == half


# Of query, key and value, and what is done to each.
PLAIN = {
    "2-D": (((5, 8), (7, 8), (7, 6)), None),
    "3-D": (((3, 5, 8), (3, 7, 8), (3, 7, 8)), None),
    "4-D": (((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 3)), None),
    "one number": (((1, 1, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1)), None),
    "no width": (((2, 5, 0), (2, 7, 0), (2, 7, 3)), None),
    "no keys": (((2, 4, 5, 8), (2, 4, 0, 8), (2, 4, 0, 8)), None),
    "no queries": (((2, 4, 0, 8), (2, 4, 7, 8), (2, 4, 7, 8)), None),
    "heads third": (((2, 5, 4, 8), (2, 7, 4, 8), (2, 7, 4, 8)), lambda x: x.transpose(1, 2)),
    "features first": (((2, 8, 5), (2, 8, 7), (2, 8, 7)), lambda x: x.transpose(1, 2)),
    "one sample for all": (((1, 5, 8), (1, 7, 8), (1, 7, 8)), lambda x: x.expand(3, -1, -1)),
    "large": (((2, 2, 90, 64), (2, 2, 90, 64), (2, 2, 90, 64)), None),
}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", PLAIN)
def test_plain_calls_have_the_bits_of_arrays(name, dtype, causal):
    shapes, change = PLAIN[name]
    inputs = [draw(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes)]
    given = inputs if change is None else [change(one).detach().requires_grad_() for one in inputs]
    context, backward = fastattn.attention_vjp(
        *(one.detach().numpy() for one in given), causal="top_left" if causal else None
    )
    with torch.no_grad():
        assert ours.scaled_dot_product_attention(*given, is_causal=causal).numpy().tobytes() == context.tobytes()
    found = ours.scaled_dot_product_attention(*given, is_causal=causal)
    assert found.detach().numpy().tobytes() == context.tobytes()
    made = torch.autograd.grad(found, given, torch.from_numpy(np.cos(context)))
    for one, other in zip(made, backward(np.cos(context))[:3], strict=True):
        assert one.numpy().tobytes() == other.tobytes()


def test_memory_is_read_in_place_and_not_written():
    q = draw(1, 2, 30, 8, grad=False).transpose(-2, -3)
    before = q.clone()
    found = ours.scaled_dot_product_attention(q, q, q)
    assert torch.equal(q, before)
    assert torch.equal(found, ours.scaled_dot_product_attention(*(q.contiguous(),) * 3))


BOTH = (ours.scaled_dot_product_attention, ours.attention)  # of which the first has a short way for plain calls


@pytest.mark.parametrize("attend", BOTH)
def test_what_was_changed_in_place_is_noticed(attend):
    for number, name in itertools.product(range(3), ("tensor", "view")):
        inputs = [draw(2, 2, 4, 8, seed=i) * 1.0 for i in range(3)]
        found = attend(*inputs)
        with torch.no_grad():
            (inputs[number] if name == "tensor" else inputs[number][0]).add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            found.sum().backward()
    inputs = [draw(2, 2, 4, 8, seed=i) for i in range(3)]
    found = attend(*inputs)
    changed = found * 2
    with torch.no_grad():
        found.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        changed.sum().backward()


@pytest.mark.parametrize("attend", BOTH)
def test_a_tensor_that_left_a_transformation_has_none_of_its_graph(attend):
    left, x = [], draw(2, 5, 8)

    def keep(x):
        left.append(x * 2)
        return left[0].sum()

    torch.func.grad(keep)(x.detach())
    attend(x, left[0], left[0]).sum().backward()
    (expected,) = torch.autograd.grad(attend(x, *(2 * x.detach(),) * 2).sum(), x)
    assert torch.equal(x.grad, expected)


@pytest.mark.parametrize("attend", BOTH)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # PyTorch's own, in forward mode
def test_a_tangent_is_not_dropped(attend):
    q = draw(1, 3, 4, grad=False)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(q, torch.ones_like(q))
        with pytest.raises((NotImplementedError, RuntimeError)):
            attend(dual, q, q)


def test_a_graph_is_run_twice_when_it_is_kept():
    q = draw(1, 3, 4)
    found = ours.scaled_dot_product_attention(q, q, q).sum()
    first, second = (torch.autograd.grad(found, q, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_seeds_of_64_bits_are_those_of_arrays():
    q = draw(2, 2, 5, 8, grad=False)
    for seed in (-1, 2**63, 2**64 - 1):
        found = ours.attention(q, q, q, dropout=0.5, seed=seed).numpy()
        np.testing.assert_array_equal(found, fastattn.attention(*[q.numpy()] * 3, dropout=0.5, seed=seed))


def test_dropout_follows_the_generator():
    q = draw(2, 2, 5, 8, grad=False)
    torch.manual_seed(3)
    first = ours.scaled_dot_product_attention(q, q, q, dropout_p=0.5)
    second = ours.scaled_dot_product_attention(q, q, q, dropout_p=0.5)
    torch.manual_seed(3)
    assert torch.equal(first, ours.scaled_dot_product_attention(q, q, q, dropout_p=0.5))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("axes", [2, 3, 4, 5])
def test_dropout_of_all_weights_is_pytorchs(axes):
    given = [draw(*(2, 3, 2, 4, 4)[5 - axes :]) for _ in range(3)]
    both = [one.scaled_dot_product_attention(*given, dropout_p=1.0) for one in (ours, F)]
    assert torch.equal(*both)
    assert all(map(torch.equal, *(torch.autograd.grad(one.sum(), given) for one in both)))
    if axes < 5:
        found = ours.attention(*given, dropout=1.0, return_weights=True)
        assert torch.equal(found.context, both[0])
        assert torch.equal(found.weights, ours.attention(*given, return_weights=True).weights)


def test_a_bias_that_nobody_trains_has_no_gradient_made(monkeypatch):
    from fastattn.interop.torch import problem

    asked = []

    def backward(*arguments, bias_gradient, **options):
        asked.append(bias_gradient)
        return fastattn.attention_backward(*arguments, bias_gradient=bias_gradient, **options)

    monkeypatch.setattr(problem, "attention_backward", backward)
    for trained in (True, False):
        q = draw(1, 3, 4)
        ours.scaled_dot_product_attention(q, q, q, draw(3, 3, grad=trained)).sum().backward()
    assert asked == [True, False]


def test_threads_are_pytorchs():
    before = torch.get_num_threads(), fastattn.get_num_threads()
    q = draw(1, 3, 4, grad=False)
    try:
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            ours.scaled_dot_product_attention(q, q, q)
            assert fastattn.get_num_threads() == threads
    finally:
        torch.set_num_threads(before[0])
        fastattn.set_num_threads(before[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_are_computed_with_in_float32_and_rounded_once(dtype):
    half = [draw(2, 3, 4, 8, dtype=torch.float32, seed=n).detach().to(dtype).requires_grad_() for n in range(3)]
    half.append(draw(3, 4, 4, dtype=torch.float32).detach().to(dtype).requires_grad_())
    wide = [one.detach().float().requires_grad_() for one in half]
    found, right = (
        ours.attention(*given[:3], bias=given[3], causal="top_left", dropout=0.5, seed=1) for given in (half, wide)
    )
    assert found.dtype == dtype and torch.equal(found, right.to(dtype))
    d = draw(2, 3, 4, 8, dtype=torch.float32, seed=7).detach().to(dtype)
    for one, other in zip(torch.autograd.grad(found, half, d), torch.autograd.grad(right, wide, d.float())):
        assert one.dtype == dtype and torch.equal(one, other.to(dtype))
    output = ours.attention(
        *half[:3], return_weights=True, return_lse=True, score={"name": "additive", "v": half[0][0, 0, 0]}
    )
    assert output.weights.dtype == dtype and output.lse.dtype == torch.float32
    with ours.use():
        mine = F.scaled_dot_product_attention(*half[:3])
    theirs = F.scaled_dot_product_attention(*half[:3])  # which rounds in between
    torch.testing.assert_close(mine, theirs, rtol=0, atol=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("shape", [(2, 3, 40, 16), (3, 33, 8), (2, 1, 64)], ids=str)
@pytest.mark.parametrize("biased", [False, True])
def test_bfloat16_is_what_the_core_makes_of_it(shape, biased):
    """On a matrix unit too: the bits of arrays, forward and backward, of any strides."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    wide = [draw(*shape, dtype=torch.float32, seed=n).detach().bfloat16() for n in range(4)]
    wide[1] = wide[1].transpose(-1, -2).contiguous().transpose(-1, -2)
    *tensors, d = wide
    options = {}
    if biased:
        options = {"bias": draw(shape[-2], shape[-2], dtype=torch.float32, seed=5).detach().bfloat16()}
    arrays = [one.float().numpy().astype(ml_dtypes.bfloat16) for one in (*tensors, d, *options.values())]
    core_options = {"causal": True, "return_weights": True, **({"bias": arrays[4]} if biased else {})}
    right, backward = fastattn.attention_vjp(*arrays[:3], **core_options)
    wanted = backward(arrays[3])
    inputs = [one.requires_grad_() for one in (*tensors, *options.values())]
    found = ours.attention(*inputs[:3], causal=True, return_weights=True, return_lse=True, **options)
    assert found.context.dtype == found.weights.dtype == torch.bfloat16 and found.lse.dtype == torch.float32
    gradients = torch.autograd.grad(found.context, inputs, d, retain_graph=True)
    with torch.no_grad():
        plain = ours.attention(*inputs[:3], causal=True, **options)
    right = [right.context, right.context, right.weights, *wanted[: len(gradients)]]
    for one, other in zip([found.context, plain, found.weights, *gradients], right, strict=True):
        assert one.dtype == torch.bfloat16 and np.array_equal(one.detach().view(torch.int16), other.view(np.int16))
    if core.tiles():  # elsewhere copies were computed with
        with torch.no_grad():
            inputs[2].add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            found.context.sum().backward()


X = draw(2, 3, 4, 8, dtype=torch.float32, grad=False)
WRONG = {
    "half": (lambda: ours.attention(X.half(), X, X), errors.DTypeError, "query.float()"),
    "half keys": (lambda: ours.attention(X, X.half(), X), errors.DTypeError, "pass tensor.to(torch.float32)."),
    "half a bias": (
        lambda: ours.attention(X, X, X, bias=X.new_zeros(1).bfloat16()), errors.DTypeError, "pass tensor.float()"
    ),
    "another device": (lambda: ours.attention(X, X.to("meta"), X), errors.UnsupportedError, "pass tensor.cpu()"),
    "sparse": (lambda: ours.attention(X.to_sparse(), X, X), errors.UnsupportedError, "pass tensor.to_dense()"),
    "distances that are an array": (
        lambda: ours.attention(X, X, X, bias=ours.RelativeBias(np.ones(7, np.float32))), errors.DTypeError, "as_tensor",
    ),
    "too few distances": (
        lambda: ours.attention(X, X, X, bias=ours.RelativeBias(torch.ones(5))), errors.ShapeError, "-(Tq - 1) to Tk",
    ),
    "integers": (lambda: ours.attention(X.long(), X, X), errors.DTypeError, "pass tensor.float()"),
    "complex numbers": (lambda: ours.attention(X, X.cfloat(), X), errors.DTypeError, "key: "),
    "eight bits": (lambda: ours.attention(*[X.to(torch.float8_e4m3fn)] * 3), errors.DTypeError, "pass tensor.float()"),
    "nested": (
        lambda: ours.scaled_dot_product_attention(*[torch.nested.nested_tensor([X[0], X[1]], layout=torch.jagged)] * 3),
        errors.UnsupportedError, "to_padded_tensor",
    ),
    "a word for a seed": (lambda: ours.attention(X, X, X, dropout=0.5, seed="x"), errors.DTypeError, "an int"),
    "a seed beyond 64 bits": (lambda: ours.attention(X, X, X, dropout=0.5, seed=2**64), errors.DTypeError, "an int"),
    "a float mask": (lambda: ours.attention(X, X, X, mask=X), errors.DTypeError, "bias="),
    "a mask of integers": (
        lambda: ours.scaled_dot_product_attention(X, X, X, torch.ones(4, 4).long()), errors.DTypeError, "bool tensor",
    ),
    "causal twice": (
        lambda: ours.scaled_dot_product_attention(X, X, X, causal_lower_right(4, 4), is_causal=True),
        errors.ArgumentError, "leave is_causal out",
    ),
    "other heads": (
        lambda: ours.scaled_dot_product_attention(X.repeat(1, 2, 1, 1), X, X), errors.ShapeError, "enable_gqa=True",
    ),
    "heads that do not divide": (
        lambda: ours.scaled_dot_product_attention(X, X[:, :2], X[:, :2], enable_gqa=True),
        errors.ShapeError, "multiple",
    ),
    "other samples": (
        lambda: ours.scaled_dot_product_attention(X.repeat(2, 1, 1, 1), X, X), errors.ShapeError, "use size 1",
    ),
    "other widths": (lambda: ours.scaled_dot_product_attention(X, X[..., :1], X), errors.ShapeError, "General"),
    "other types": (lambda: ours.scaled_dot_product_attention(X, X.double(), X), errors.DTypeError, "torch.float32)."),
    "other types of values": (lambda: ours.attention(X, X, X.double()), errors.DTypeError, "value: "),
    "fewer values": (lambda: ours.scaled_dot_product_attention(X, X, X[..., :1, :]), errors.ShapeError, "key has"),
    "integers alone": (lambda: ours.scaled_dot_product_attention(*(X.long(),) * 3), errors.DTypeError, "query: "),
    "one axis": (lambda: ours.scaled_dot_product_attention(X[0, 0, 0], X, X), errors.ShapeError, "unsqueeze"),
    "a probability beyond 1": (
        lambda: ours.scaled_dot_product_attention(X, X, X, dropout_p=1.1), errors.ArgumentError, "pass 0.0 for none",
    ),
    "a word for a probability": (
        lambda: ours.scaled_dot_product_attention(X, X, X, dropout_p="x"), errors.DTypeError, "pass 0.0 for none",
    ),
    "a mask for a modifier": (
        lambda: ours.attention(X, X, X, score_mod={"name": near, "width": WIDTHS}), errors.DTypeError,
        "fastattn.score_mod",
    ),
    "a plain function with tensors": (
        lambda: ours.attention(X, X, X, mask={"name": lambda b, h, i, j, w: j < w, "w": WIDTHS[0]}), errors.DTypeError,
        "decorate it with fastattn.mask_mod",
    ),
    "a number for a modifier": (lambda: ours.attention(X, X, X, score_mod=3), errors.DTypeError, "fastattn.score_mod"),
    "a parameter too few": (
        lambda: ours.attention(X, X, X, mask=near), errors.ArgumentError, "near(width=...)",
    ),
    "a score without a name": (lambda: ours.attention(X, X, X, score={"v": X}), errors.ArgumentError, "'name'"),
    "no such score": (lambda: ours.attention(X, X, X, score="dto"), errors.ArgumentError, "dot"),
}  # fmt: skip


@pytest.mark.parametrize("attend", [ours.scaled_dot_product_attention, ours.attention, ours.flex_attention])
@pytest.mark.parametrize("wrong", [X.numpy(), X.tolist(), None, 3], ids=lambda one: type(one).__name__)
def test_what_is_no_tensor_is_said_to_be_none(attend, wrong):
    for place, name in enumerate(("query", "key", "value")):
        given = [X] * 3
        given[place] = wrong
        with pytest.raises(errors.DTypeError, match=rf"{name}: expected a tensor, got {type(wrong).__name__}"):
            attend(*given)


@pytest.mark.parametrize("name", ["mask", "bias", "key_lengths", "attn_mask"])
def test_options_that_are_no_tensors_are_named(name):
    attend = ours.scaled_dot_product_attention if name == "attn_mask" else ours.attention
    for wrong in (np.ones((4, 4), np.float32), [1, 2], 3):
        with pytest.raises(errors.DTypeError, match=rf"{name}: (?s:.*)torch.as_tensor\({name}\)"):
            attend(X, X, X, **{name: wrong})


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_have_an_error_with_a_hint(name):
    call, error, hint = WRONG[name]
    with pytest.raises(error) as found:
        call()
    assert "Hint: " in str(found.value) and hint in str(found.value), found.value
    assert "probability" not in name or str(found.value).startswith("dropout_p: ")
