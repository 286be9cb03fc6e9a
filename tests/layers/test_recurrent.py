"""Recurrent layers: the twin, central differences, lengths, and one step against all steps bit for bit."""

import numpy as np
import pytest
from checks import same_bits

import fastattn
from fastattn import _reference
from fastattn.layers import GRU, LSTM, Bidirectional, Stacked
from fastattn.testing.arrays import assigned

KINDS = ["after", "before", "lstm"]
SHAPES = {"small": (3, 5, 4, 6), "odd": (7, 4, 9, 33), "two panels": (5, 3, 20, 70), "one sample": (1, 6, 8, 128)}
kinds = pytest.mark.parametrize("kind", KINDS)
reverses = pytest.mark.parametrize("reverse", [False, True], ids=["ahead", "reverse"])
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def build(kind, inputs, hidden, reverse=False, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "lstm":
        layer = LSTM(inputs, hidden, reverse=reverse, rng=rng, dtype=dtype)
        with layer.b.edit() as value:
            value += rng.uniform(-0.5, 0.5, layer.b.value.shape).astype(dtype)
        return layer
    return GRU(inputs, hidden, reset=kind, reverse=reverse, rng=rng, dtype=dtype)


def draw(layer, batch, steps, seed=1):
    """Inputs, first state and the gradients of the results, of which the state's are pairs for an LSTM."""
    rng = np.random.default_rng(seed)
    dtype, width = layer.w_input.value.dtype, layer.cell.hidden

    def normal(*shape):
        return rng.standard_normal(shape).astype(dtype)

    def state():
        return (normal(batch, width), normal(batch, width)) if isinstance(layer, LSTM) else normal(batch, width)

    return normal(batch, steps, layer.cell.inputs), state(), normal(batch, steps, width), state()


def ragged(batch, steps):
    return np.array([steps - i % (steps + 1) for i in range(batch)])


def twin(layer, x, state, lengths, dy=None, d_state=None):
    values = {name: p.value for name, p in layer.parameters().items()}
    if isinstance(layer, LSTM):
        if dy is None:
            return _reference.lstm(values, x, state, lengths, layer.reverse)
        return _reference.lstm_vjp(values, x, state, lengths, layer.reverse, dy, d_state)
    rest = lengths, layer.cell.reset, layer.reverse
    if dy is None:
        return _reference.gru(values, x, state, *rest)
    return _reference.gru_vjp(values, x, state, *rest, dy, d_state)


def flat(result):
    if isinstance(result, np.ndarray):
        return [result]
    return [a for part in (result.values() if isinstance(result, dict) else result) for a in flat(part)]


def run(layer, x, state, lengths, dy, d_state):
    """Outputs, last state, gradients of inputs and state, gradients of the parameters: one flat list."""
    for p in layer.parameters().values():
        p.gradient[...] = 0
    y, last, backward = layer.vjp(x, state, lengths)
    gradients = backward(dy, d_state)
    return flat([y, last, gradients, [p.gradient.copy() for p in layer.parameters().values()]])


def close(found, exact, dtype, room):
    for a, b in zip(flat(found), flat(exact), strict=True):
        assert a.dtype == dtype and a.shape == b.shape
        size = np.abs(b).max(initial=0.0) + 1e-30
        assert (np.abs(a - b) <= room * np.finfo(dtype).eps * size).all(), np.abs(a - b).max() / size


@dtypes
@kinds
@reverses
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_lengths", [False, True], ids=["full", "ragged"])
def test_everything_against_the_twin(shape, kind, reverse, dtype, with_lengths):
    batch, steps, inputs, hidden = SHAPES[shape]
    layer = build(kind, inputs, hidden, reverse, dtype)
    x, state, dy, d_state = draw(layer, batch, steps)
    lengths = ragged(batch, steps) if with_lengths else None
    found = run(layer, x, state, lengths, dy, d_state)
    exact = [*flat(twin(layer, x, state, lengths)), *flat(twin(layer, x, state, lengths, dy, d_state))]
    # Sums over (H + D) products and over the steps; 20 times their usual error.
    close(found, exact, dtype, 60.0)
    assert same_bits(flat(layer.forward(x, state, lengths)), found[: len(flat(layer.forward(x, state, lengths)))])


@kinds
@reverses
def test_gradients_against_central_differences(kind, reverse):
    layer = build(kind, 3, 4, reverse, np.float64)
    x, state, dy, d_state = draw(layer, 2, 3)
    lengths = np.array([3, 2])

    def loss():
        y, last = layer.forward(x, state, lengths)
        return sum(float((a * b).sum()) for a, b in zip(flat([y, last]), flat([dy, d_state])))

    gradients = run(layer, x, state, lengths, dy, d_state)[len(flat([dy, d_state])) :]
    parameters = list(layer.parameters().values())
    values, loss = assigned(dict(enumerate(parameters)), loss)
    for array, gradient in zip(flat([x, state, list(values.values())]), gradients, strict=True):
        for at in np.ndindex(array.shape):
            ends, kept, step = [], array[at], 1e-5
            for sign in (1, -1):
                array[at] = kept + sign * step
                ends.append(loss())
            array[at] = kept
            assert abs((ends[0] - ends[1]) / (2 * step) - gradient[at]) < 1e-8


@kinds
@reverses
def test_padding_is_never_read(kind, reverse):
    layer = build(kind, 5, 40, reverse)
    x, state, dy, d_state = draw(layer, 6, 7)
    lengths = ragged(6, 7)
    expected = run(layer, x, state, lengths, dy, d_state)
    assert all(np.isfinite(a).all() for a in expected)
    for b, length in enumerate(lengths):
        x[b, length:] = np.nan
        dy[b, length:] = np.nan
        assert (expected[0][b, length:] == 0).all()
    found = run(layer, x, state, lengths, dy, d_state)
    assert same_bits(found, expected)
    # Another padded size, and no lengths at all for a sample of full length.
    longer = [np.concatenate([a, np.full((6, 3, a.shape[2]), np.nan, a.dtype)], axis=1) for a in (x, dy)]
    more = run(layer, longer[0], state, lengths, longer[1], d_state)
    n = len(flat([dy, d_state]))
    assert same_bits(more[0][:, :7], expected[0]) and same_bits(more[n][:, :7], expected[n])
    assert same_bits([*more[1:n], *more[n + 1 :]], [*expected[1:n], *expected[n + 1 :]])


@dtypes
@kinds
def test_step_by_step_is_all_at_once(kind, dtype):
    layer = build(kind, 9, 70, dtype=dtype)
    x, state, dy, _ = draw(layer, 5, 4)
    y, last, backward = layer.vjp(x, state)
    current, backwards = state, []
    for t in range(4):
        after = layer.cell.forward(x[:, t], current)
        current, backward_one = layer.cell.vjp(x[:, t], current)
        assert same_bits(flat(after), flat(current))
        backwards.append(backward_one)
        assert same_bits(flat(current)[0], y[:, t])
    assert same_bits(flat(current), flat(last))
    dx, d_first = backward(dy)
    d = [np.zeros_like(a) for a in flat(state)]
    for t in reversed(range(4)):
        d[0] = d[0] + dy[:, t]
        dx_t, d_state = backwards[t](tuple(d) if kind == "lstm" else d[0])
        d = flat(d_state)
        assert same_bits(dx_t, dx[:, t])
    assert same_bits(d, flat(d_first))


@kinds
@reverses
def test_a_sample_has_the_same_bits_in_any_batch(kind, reverse):
    layer = build(kind, 12, 72, reverse)
    x, state, dy, d_state = draw(layer, 14, 5)
    lengths = ragged(14, 5)
    n = len(flat([dy, d_state]))

    def pick(s, rows):
        return tuple(a[rows] for a in s) if isinstance(s, tuple) else s[rows]

    everything = run(layer, x, state, lengths, dy, d_state)[: 2 * n]
    for rows in ([3], [0, 13], [13, 2, 2, 9, 4, 1, 0]):
        part = run(layer, x[rows], pick(state, rows), lengths[rows], dy[rows], pick(d_state, rows))[: 2 * n]
        assert same_bits(part, [a[rows] for a in everything])
    shorter = run(layer, x[1:2, :4], pick(state, [1]), None, dy[1:2, :4], pick(d_state, [1]))[: 2 * n]
    assert same_bits(shorter[0], everything[0][1:2, :4]) and same_bits(shorter[1:n], [a[1:2] for a in everything[1:n]])


@kinds
def test_any_number_of_threads_gives_the_same_bits(kind):
    layer = build(kind, 40, 130)
    x, state, dy, _ = draw(layer, 26, 5)
    before = fastattn.get_num_threads()
    try:
        for lengths in (None, ragged(26, 5)):
            for rows in (1, 5, 26):
                some = flat(state)
                first = tuple(a[:rows] for a in some) if kind == "lstm" else some[0][:rows]
                args = x[:rows], first, None if lengths is None else lengths[:rows], dy[:rows], None
                fastattn.set_num_threads(1)
                expected = run(layer, *args)
                for threads in (2, 3, 8, 16):
                    fastattn.set_num_threads(threads)
                    assert same_bits(run(layer, *args), expected), (rows, threads)
    finally:
        fastattn.set_num_threads(before)


@kinds
def test_layouts_change_no_bit(kind):
    layer = build(kind, 6, 10)
    x, state, dy, d_state = draw(layer, 3, 4)
    expected = run(layer, x, state, None, dy, d_state)
    swapped = [a.astype(a.dtype.newbyteorder()) for a in (x, dy)]
    for a, b in ((np.asfortranarray(x), np.asfortranarray(dy)), (x[::-1].copy()[::-1], dy), swapped):
        a.flags.writeable = False
        assert same_bits(run(layer, a, state, None, b, d_state), expected)


@kinds
def test_absent_states_and_gradients_are_zeros(kind):
    layer = build(kind, 3, 4)
    x, state, dy, d_state = draw(layer, 2, 3)
    zeros = tuple(np.zeros_like(a) for a in state) if kind == "lstm" else np.zeros_like(state)
    assert same_bits(run(layer, x, None, None, dy, None), run(layer, x, zeros, None, dy, zeros))
    assert same_bits(run(layer, x, state, None, None, d_state), run(layer, x, state, None, np.zeros_like(dy), d_state))


@kinds
@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
def test_zero_sizes(kind, shape):
    layer = build(kind, 3, 4)
    x, state, dy, d_state = draw(layer, *shape)
    for lengths in (None, np.zeros(shape[0], int)):
        found = run(layer, x, state, lengths, dy, d_state)
        n = len(flat([dy, d_state]))
        assert found[0].shape == dy.shape and found[n].shape == x.shape
        assert same_bits(found[1:n], flat(state)) and same_bits(found[n + 1 : 2 * n], flat(d_state))
        assert all((a == 0).all() for a in found[2 * n :])


@kinds
def test_inputs_are_not_written(kind):
    layer = build(kind, 3, 4)
    drawn = draw(layer, 2, 3)
    kept = [a.copy() for a in flat(drawn)]
    x, state, dy, d_state = drawn
    y, last, backward = layer.vjp(x, state)
    y_kept = [a.copy() for a in flat([y, last])]
    backward(dy, d_state)
    assert same_bits(flat(drawn), kept) and same_bits(flat([y, last]), y_kept)


@kinds
def test_backward_runs_once(kind):
    layer = build(kind, 3, 4)
    x, state, dy, _ = draw(layer, 2, 3)
    *_, backward = layer.vjp(x, state)
    backward(dy)
    with pytest.raises(fastattn.ArgumentError, match="Hint: "):
        backward(dy)


def test_weights_are_packed_anew_after_a_change():
    layer = build("after", 3, 4)
    x, state, *_ = draw(layer, 2, 3)
    layer.forward(x, state)
    for p in layer.parameters().values():
        with p.edit() as value:
            value *= 2
    fresh = build("after", 3, 4)
    for p, q in zip(fresh.parameters().values(), layer.parameters().values()):
        p.assign(q.value)
    assert same_bits(layer.forward(x, state), fresh.forward(x, state))


def test_names_of_parameters():
    rng = np.random.default_rng(0)
    assert list(GRU(2, 3, rng=rng).parameters()) == ["w_input", "w_hidden", "b_input", "b_hidden"]
    both = Bidirectional(LSTM(2, 3, rng=rng), LSTM(2, 3, reverse=True, rng=rng))
    assert list(both.parameters()) == [
        f"{side}_layer.{name}" for side in ("forward", "backward") for name in ("w_input", "w_hidden", "b")
    ]
    assert "layers.1.b_hidden" in Stacked([GRU(2, 3, rng=rng), GRU(3, 3, rng=rng)]).parameters()


@kinds
def test_two_directions_are_two_layers(kind):
    ahead, back = build(kind, 5, 6), build(kind, 5, 4, reverse=True, seed=3)
    layer = Bidirectional(ahead, back)
    (x, s1, dy1, d1), (_, s2, dy2, d2) = draw(ahead, 3, 4), draw(back, 3, 4, seed=2)
    lengths = np.array([4, 2, 1])

    def join(a, b):
        joined = tuple(np.concatenate(pair, axis=-1) for pair in zip(flat(a), flat(b)))
        return joined if kind == "lstm" else joined[0]

    one, two = run(ahead, x, s1, lengths, dy1, d1), run(back, x, s2, lengths, dy2, d2)
    found = run(layer, x, join(s1, s2), lengths, np.concatenate([dy1, dy2], axis=-1), join(d1, d2))
    n = len(flat([dy1, d1]))
    expected = [np.concatenate([a, b], axis=-1) for a, b in zip(one[:n], two[:n])]
    expected.append(one[n] + two[n])
    expected += [np.concatenate([a, b], axis=-1) for a, b in zip(one[n + 1 : 2 * n], two[n + 1 : 2 * n])]
    assert same_bits(found, [*expected, *one[2 * n :], *two[2 * n :]])
    assert same_bits(flat(layer.forward(x, join(s1, s2), lengths)), expected[:n])
    with pytest.raises(fastattn.ArgumentError, match="Hint: "):
        Bidirectional(back, ahead)


@kinds
def test_stacked_layers_pass_their_outputs_on(kind):
    first, second = build(kind, 5, 6), build(kind, 6, 4, seed=3)
    layer = Stacked([first, second])
    (x, s1, _, d1), (_, s2, dy, d2) = draw(first, 3, 4), draw(second, 3, 4, seed=2)
    lengths = np.array([4, 2, 0])
    y1, last1 = first.forward(x, s1, lengths)
    y2, last2 = second.forward(y1, s2, lengths)
    y, states = layer.forward(x, [s1, s2], lengths)
    assert same_bits(flat([y, states]), flat([y2, last1, last2]))
    found = run(layer, x, [s1, s2], lengths, dy, [d1, d2])
    upper = run(second, y1, s2, lengths, dy, d2)
    n = len(flat([dy, d2]))
    lower = run(first, x, s1, lengths, upper[n], d1)
    assert same_bits(found[2 * n - 1 : 2 * n], lower[n : n + 1])
    assert same_bits(found[-len(upper[2 * n :]) :], upper[2 * n :])


def test_dropout_between_stacked_layers():
    layer = Stacked([build("after", 3, 4, dtype=np.float64), build("lstm", 4, 3, dtype=np.float64)], dropout=0.4)
    x, _, _, _ = draw(layer.layers[0], 4, 3)
    dy, seeds = np.random.default_rng(5).standard_normal((4, 3, 3)), np.arange(4, dtype=np.uint64)
    y, _, backward = layer.vjp(x, seeds=seeds)
    dx, _ = backward(dy)
    assert not same_bits(y, layer.forward(x)[0])
    assert same_bits(layer.vjp(x[2:], seeds=seeds[2:])[0], y[2:])
    step, direction = 1e-6, np.random.default_rng(6).standard_normal(x.shape)
    ends = [float((layer.vjp(x + sign * step * direction, seeds=seeds)[0] * dy).sum()) for sign in (1, -1)]
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float((dx * direction).sum()), rel=1e-6)
    with pytest.raises(fastattn.ArgumentError, match="Hint: "):
        layer.vjp(x)


def test_no_memory(run_python):
    code = """
import numpy as np
from fastattn.layers import GRU
layer, x = GRU(3, 4, rng=np.random.default_rng(0)), np.zeros((2, 3, 3), np.float32)
try:
    layer.forward(x)
except MemoryError:
    print("raised", layer.forward(x)[0].shape)
"""
    assert run_python("-c", code, FASTATTN_TEST_FAIL_ALLOC="1").stdout == "raised (2, 3, 4)\n"


WRONG = {
    "another width": (lambda g, x: g.forward(x[..., :2]), fastattn.ShapeError),
    "a matrix": (lambda g, x: g.forward(x[0]), fastattn.ShapeError),
    "another dtype": (lambda g, x: g.forward(x.astype(np.float64)), fastattn.DTypeError),
    "state of another width": (lambda g, x: g.forward(x, np.zeros((2, 3), np.float32)), fastattn.ShapeError),
    "state of another dtype": (lambda g, x: g.forward(x, np.zeros((2, 4))), fastattn.DTypeError),
    "too few lengths": (lambda g, x: g.forward(x, lengths=np.array([1])), fastattn.ShapeError),
    "too long": (lambda g, x: g.forward(x, lengths=np.array([1, 4])), fastattn.ArgumentError),
    "negative lengths": (lambda g, x: g.forward(x, lengths=np.array([1, -1])), fastattn.ArgumentError),
    "lengths of floats": (lambda g, x: g.forward(x, lengths=np.array([1.0, 2.0])), fastattn.DTypeError),
    "dy of another shape": (lambda g, x: g.vjp(x)[2](np.zeros((2, 3, 3), np.float32)), fastattn.ShapeError),
    "a step of sequences": (lambda g, x: g.cell.forward(x, np.zeros((2, 4), np.float32)), fastattn.ShapeError),
    "no such reset": (lambda g, x: GRU(3, 4, reset="no", rng=np.random.default_rng(0)), fastattn.ArgumentError),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls(name):
    call, error = WRONG[name]
    with pytest.raises(error, match="Hint: "):
        call(build("after", 3, 4), np.zeros((2, 3, 3), np.float32))
