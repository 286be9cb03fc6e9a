"""What a layer's backward pass is given is checked before a kernel reads it: shape, dtype, structure, calls."""

import numpy as np
import pytest

import fastattn
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
    dropout_vjp,
)
from fastattn.losses import cross_entropy_vjp
from fastattn.seq2seq.models.tied import TiedEmbedding


def rng():
    return np.random.default_rng(0)


X = np.ones((2, 5, 3), np.float32)
H = np.ones((2, 4), np.float32)
IDS = np.array([[1, 2, 2], [0, 1, 1]])


def stack():
    return Stacked([GRU(3, 4, rng=rng()), LSTM(4, 4, rng=rng())])


def pair():
    return Bidirectional(LSTM(3, 4, rng=rng()), LSTM(3, 4, reverse=True, rng=rng()))


# What makes a backward pass, and gradients that are right, by name: arrays, or pairs of arrays.
WAYS = {
    "linear": (lambda: Linear(3, 4, rng=rng()).vjp(X)[-1], {"dy": (2, 5, 4)}),
    "linear backward": (lambda: Linear(3, 4, rng=rng()).backward(X), {"dy": (2, 5, 4)}),
    "embedding": (lambda: Embedding(4, 3, rng=rng()).vjp(IDS)[-1], {"dy": (2, 3, 3)}),
    "tied": (lambda: TiedEmbedding(Linear(3, 4, rng=rng()).w).vjp(IDS)[-1], {"dy": (2, 3, 3)}),
    "layer norm": (lambda: LayerNorm(3).vjp(X)[-1], {"dy": (2, 5, 3)}),
    "feed forward": (lambda: FeedForward(3, 7, rng=rng()).vjp(X)[-1], {"dy": (2, 5, 3)}),
    "feed forward, dropped": (
        lambda: FeedForward(3, 7, rng=rng()).vjp(X, rate=0.5, seed=1)[-1],
        {"dy": (2, 5, 3)},
    ),
    "dropout": (lambda: dropout_vjp(X, 0.5, 1)[-1], {"dy": (2, 5, 3)}),
    "dropout of nothing": (lambda: dropout_vjp(X, 0.0, 1)[-1], {"dy": (2, 5, 3)}),
    "gru cell": (lambda: GRUCell(3, 4, rng=rng()).vjp(X[:, 0], H)[-1], {"dh": (2, 4)}),
    "gru": (lambda: GRU(3, 4, rng=rng()).vjp(X, H)[-1], {"dy": (2, 5, 4), "dh_last": (2, 4)}),
    "gru, lengths": (
        lambda: GRU(3, 4, rng=rng()).vjp(X, H, np.array([2, 5]))[-1],
        {"dy": (2, 5, 4), "dh_last": (2, 4)},
    ),
    "lstm cell": (lambda: LSTMCell(3, 4, rng=rng()).vjp(X[:, 0], (H, H))[-1], {"d_after": [(2, 4), (2, 4)]}),
    "lstm": (lambda: LSTM(3, 4, rng=rng()).vjp(X, (H, H))[-1], {"dy": (2, 5, 4), "d_state": [(2, 4), (2, 4)]}),
    "bidirectional": (lambda: pair().vjp(X)[-1], {"dy": (2, 5, 8), "d_state": [(2, 8), (2, 8)]}),
    "stacked": (lambda: stack().vjp(X)[-1], {"dy": (2, 5, 4), "d_states": [(2, 4), [(2, 4), (2, 4)]]}),
}


def right(shape):
    return tuple(map(right, shape)) if isinstance(shape, list) else np.ones(shape, np.float32)


def wrong_ones(shape):
    """Arrays that are not of this shape and float32, each with what is wrong with it."""
    if isinstance(shape, list):
        good = right(shape)
        yield from ((wrong, what) for wrong, what in wrong_ones(shape[0]) if wrong is not None)
        yield good[:1], "too few parts"
        yield (*good, good[0]), "too many parts"
        for number, part in enumerate(shape):
            for wrong, what in wrong_ones(part):
                yield (*good[:number], wrong, *good[number + 1 :]), f"part {number}: {what}"
        return
    yield np.ones(shape), "float64"
    yield np.ones(shape, np.int32), "integers"
    yield np.ones(shape, complex), "complex"
    yield np.ones((*shape, 1), np.float32), "an axis more"
    yield np.ones(shape[1:], np.float32), "an axis less"
    yield np.ones((1, *shape[1:]), np.float32), "one sample"
    for axis in range(len(shape)):
        for change in (-1, 1):
            other = [n + change * (i == axis) for i, n in enumerate(shape)]
            yield np.ones(other, np.float32), f"another size along axis {axis}"
    yield np.float32(1), "a number"
    yield "text", "text"


CALLS = [
    (name, argument, number)
    for name, (_, shapes) in WAYS.items()
    for argument, shape in shapes.items()
    for number in range(len(list(wrong_ones(shape))))
]


@pytest.mark.parametrize(("name", "argument", "number"), CALLS)
def test_a_gradient_that_does_not_fit_is_refused(name, argument, number):
    make, shapes = WAYS[name]
    wrong, what = list(wrong_ones(shapes[argument]))[number]
    given = {other: right(shape) for other, shape in shapes.items()}
    backward = make()
    with pytest.raises((fastattn.ShapeError, fastattn.DTypeError), match="Hint: "):
        backward(*{**given, argument: wrong}.values())
        pytest.fail(what)
    backward(*given.values())  # what was refused has used nothing up


@pytest.mark.parametrize("name", WAYS)
def test_gradients_of_any_layout_give_the_same_bits(name):
    make, shapes = WAYS[name]

    def changed(value):
        if isinstance(value, tuple):
            return tuple(map(changed, value))
        odd = np.zeros((*value.shape, 2), value.dtype.newbyteorder())[..., 0]
        odd[...] = value
        return odd

    def flat(found):
        if found is None:
            return []
        return [found] if isinstance(found, np.ndarray) else [array for part in found for array in flat(part)]

    given = [right(shape) for shape in shapes.values()]
    for a, b in zip(flat(make()(*given)), flat(make()(*map(changed, given))), strict=True):
        assert a.dtype == b.dtype.newbyteorder("=") and (a == b).all()


ONCE = {
    "cross entropy": lambda: cross_entropy_vjp(X, Linear(3, 4, rng=rng()), np.zeros((2, 5), int))[-1],
    "gru": lambda: WAYS["gru"][0](),
    "lstm": lambda: WAYS["lstm"][0](),
}


@pytest.mark.parametrize("name", ONCE)
def test_what_is_used_up_is_not_used_twice(name):
    backward = ONCE[name]()
    argument = 1.0 if name == "cross entropy" else np.ones((2, 5, 4), np.float32)
    backward(argument)
    with pytest.raises(fastattn.ArgumentError, match=r"backward: expected one call, got a second one"):
        backward(argument)


def test_a_factor_of_the_loss_is_a_number():
    backward = ONCE["cross entropy"]()
    for wrong in ("1", None, np.ones(2)):
        with pytest.raises(fastattn.DTypeError, match=r"^scale: expected a number"):
            backward(wrong)
    assert backward(2).shape == X.shape


def test_a_layer_with_another_parameter_adds_to_the_one_that_was_used():
    layer = Embedding(50, 3, rng=rng())
    y, backward = layer.vjp(np.array([49]))
    used, layer.w = layer.w, Embedding(1, 1, rng=rng()).w
    backward(np.ones_like(y))
    assert used.gradient[49].all() and not layer.w.gradient.any()
