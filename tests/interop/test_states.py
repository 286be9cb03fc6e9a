"""States of PyTorch's modules in our layers: names, layouts, and what the modules themselves compute."""

import numpy as np
import pytest

import fastattn
from fastattn import errors
from fastattn.interop.states import load_states
from fastattn.layers import (
    GRU,
    LSTM,
    Bidirectional,
    Embedding,
    FeedForward,
    GRUCell,
    LayerNorm,
    Linear,
    LSTMCell,
    Stacked,
)

X = np.random.default_rng(1).normal(size=(3, 5, 4)).astype(np.float32)
RNG = np.random.default_rng(0)


def both(kind):
    def one(inputs):
        return Bidirectional(kind(inputs, 6, rng=RNG), kind(inputs, 6, reverse=True, rng=RNG))

    return Stacked([one(4), one(12)])


CASES = {
    "linear": (lambda nn: nn.Linear(4, 3), lambda: Linear(4, 3, rng=RNG)),
    "linear without bias": (lambda nn: nn.Linear(4, 3, bias=False), lambda: Linear(4, 3, bias=False, rng=RNG)),
    "norm": (lambda nn: nn.LayerNorm(4), lambda: LayerNorm(4)),
    "norm without bias": (lambda nn: nn.LayerNorm(4, bias=False), lambda: LayerNorm(4)),
    "lstm": (lambda nn: nn.LSTM(4, 6, batch_first=True), lambda: LSTM(4, 6, rng=RNG)),
    "lstm without bias": (
        lambda nn: nn.LSTM(4, 6, bias=False, batch_first=True), lambda: LSTM(4, 6, forget_bias=1.0, rng=RNG),
    ),
    "gru": (lambda nn: nn.GRU(4, 6, batch_first=True), lambda: GRU(4, 6, rng=RNG)),
    "two grus without bias": (
        lambda nn: nn.GRU(4, 6, 2, bias=False, batch_first=True, bidirectional=True), lambda: both(GRU),
    ),
    "two lstms of two directions": (
        lambda nn: nn.LSTM(4, 6, 2, batch_first=True, bidirectional=True), lambda: both(LSTM),
    ),
    "two grus of two directions": (lambda nn: nn.GRU(4, 6, 2, batch_first=True, bidirectional=True), lambda: both(GRU)),
}  # fmt: skip


def of(module, prefix="net."):
    """The states of a module under a prefix, among others."""
    return {**{prefix + name: state for name, state in module.state_dict().items()}, "other.weight": np.ones(1)}


@pytest.mark.parametrize("name", CASES)
def test_a_layer_computes_what_the_module_does(name):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs, ours = CASES[name][0](torch.nn), CASES[name][1]()
    load_states(ours, of(theirs), "net.")
    with torch.no_grad():
        expected = theirs(torch.from_numpy(X))
    found = ours.forward(X)
    expected, found = (one[0] if isinstance(one, tuple) else one for one in (expected, found))
    assert np.abs(found - expected.numpy()).max() < 1e-6


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_states_of_other_types(dtype):
    torch = pytest.importorskip("torch")
    pytest.importorskip("ml_dtypes")
    theirs = torch.nn.LSTM(4, 6, batch_first=True).to(getattr(torch, dtype))
    ours, again = LSTM(4, 6, rng=RNG), LSTM(4, 6, rng=RNG)
    load_states(ours, theirs.state_dict())
    load_states(again, {name: state.double().numpy() for name, state in theirs.state_dict().items()})
    for one, other in zip(ours.parameters().values(), again.parameters().values()):
        assert np.abs(one.value - other.value).max() < 1e-7
    theirs = torch.nn.MultiheadAttention(4, 2).to(getattr(torch, dtype))
    multihead = fastattn.create("multihead", query_width=4, memory_width=4, heads=2, rng=RNG)
    load_states(multihead, theirs.state_dict())
    right = theirs.out_proj.weight.detach().float().numpy().T
    assert np.array_equal(multihead.output.w.value, right)


def test_cells_and_tables():
    torch = pytest.importorskip("torch")
    h = np.zeros((3, 6), np.float32)
    for theirs, ours in (
        (torch.nn.LSTMCell(4, 6), LSTMCell(4, 6, rng=RNG)),
        (torch.nn.GRUCell(4, 6), GRUCell(4, 6, rng=RNG)),
    ):
        load_states(ours, theirs.state_dict())
        with torch.no_grad():
            expected = theirs(torch.from_numpy(X[:, 0]))
        found = ours.forward(X[:, 0], (h, h) if isinstance(ours, LSTMCell) else h)
        expected, found = (one[0] if isinstance(one, tuple) else one for one in (expected, found))
        assert np.abs(found - expected.numpy()).max() < 1e-6
    table = Embedding(7, 4, rng=RNG)
    theirs = torch.nn.Embedding(7, 4)
    load_states(table, theirs.state_dict())
    assert np.array_equal(table.w.value, theirs.weight.detach().numpy())


@pytest.mark.parametrize("bias", [True, False])
def test_multihead_attention(bias):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.MultiheadAttention(4, 2, bias=bias, batch_first=True)
    ours = fastattn.create("multihead", query_width=4, memory_width=4, heads=2, bias=bias, rng=RNG)
    load_states(ours, theirs.state_dict())
    x = torch.from_numpy(X)
    with torch.no_grad():
        expected, _ = theirs(x, x, x)
    found = ours.forward(X, ours.prepare(X))
    assert np.abs(found - expected.numpy()).max() < 1e-6


def test_multihead_attention_with_more_than_ours():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.MultiheadAttention(4, 2, add_bias_kv=True)
    ours = fastattn.create("multihead", query_width=4, memory_width=4, heads=2, rng=RNG)
    with pytest.raises(errors.ArgumentError, match=r"\['bias_k', 'bias_v'\]\.\n.*add_bias_kv=False"):
        load_states(ours, theirs.state_dict())


def test_what_does_not_fit_is_refused_and_nothing_is_changed():
    good = {"weight": np.ones((3, 4), np.float32), "bias": np.ones(3, np.float32)}
    layer = Linear(4, 3, rng=np.random.default_rng(2))
    before = layer.w.value.copy()
    for states, prefix, kind, message in (
        ({"wieght": good["weight"], "bias": good["bias"]}, "", errors.ArgumentError, "did you mean 'wieght'"),
        (good, "net.", errors.ArgumentError, "give the prefix of the module"),
        ({**good, "weight_g": good["bias"]}, "", errors.ArgumentError, r"none besides these, got \['weight_g'\]"),
        (
            {**good, "bias": np.ones(2, np.float32)},
            "",
            errors.ShapeError,
            "make the layer with the sizes of the module",
        ),
        ({"weight": good["weight"]}, "", errors.ArgumentError, "make the layer with bias=False"),
        ({**good, "bias": np.ones(3, np.int8)}, "", errors.DTypeError, r"states\['bias'\]: .*int8"),
        (layer, "", errors.DTypeError, r"got Linear\.\nHint: pass module\.state_dict\(\)"),
    ):
        with pytest.raises(kind, match=message):
            load_states(layer, states, prefix)
    assert np.array_equal(layer.w.value, before)
    with pytest.raises(errors.DTypeError, match="load the layers that it is made of"):
        load_states(FeedForward(4, 3, rng=RNG), good)
    gru = {"weight_ih_l0": np.ones((18, 4)), "weight_hh_l0": np.ones((18, 6))}
    with pytest.raises(errors.ArgumentError, match=r'make it with reset="after"'):
        load_states(GRU(4, 6, reset="before", rng=RNG), gru)
    with pytest.raises(errors.ArgumentError, match="states: expected bias_hh_l0"):
        load_states(GRU(4, 6, rng=RNG), {**gru, "bias_ih_l0": np.ones(18)})
