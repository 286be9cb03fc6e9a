"""Steps of recurrent layers on a matrix unit or on its model, as FASTATTN_ISA forces: prints its level."""

import numpy as np
from tile_products import drawn, same

import fastattn
from fastattn import layers, linear
from fastattn.seq2seq.models.recurrence import GRUStep, LSTMStep, Record, Walk

KINDS = ["after", "before", "lstm"]
INPUTS = 9


def build(kind, hidden):
    rng = np.random.default_rng(hidden)
    if kind == "lstm":
        return layers.LSTM(INPUTS, hidden, rng=rng)
    return layers.GRU(INPUTS, hidden, reset=kind, rng=rng)


def state_of(rng, kind, batch, hidden):
    return tuple(drawn(rng, batch, hidden) for _ in range(2)) if kind == "lstm" else drawn(rng, batch, hidden)


def flat(results):
    if isinstance(results, np.ndarray):
        return [results]
    return [array for part in results for array in flat(part)]


def cut(values, at):
    """Some entries of an array, or of both arrays of a pair."""
    return tuple(value[at] for value in values) if isinstance(values, tuple) else values[at]


def run(layer, x, state, lengths, dy, d_state, precision="medium"):
    """y, last state, gradients of x and of the first state."""
    with fastattn.float32_precision(precision):
        y, last, backward = layer.vjp(x, state, lengths)
    return flat([y, last, backward(dy, d_state)])


def rounded(x):
    """To bfloat16, nearest, ties to even, in float64."""
    bits = np.float32(x).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32).astype(np.float64)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def step(cell, x, h, c, dh, dc):
    """A step and its backward step in float64, of which the products with inputs and states have rounded factors.

    What these factors are backward, in float32, the cell has left in its tape.
    """
    _, h_next, _, tape = cell.walk(x[:, None], h, c, None, False, True)
    reset = tape.aux.copy()  # GRU with reset before: r * h
    _, d_h, _ = cell.walk_back(tape, None, dh, dc)
    H, u, wide = cell.hidden, rounded(cell.w_hidden.value), np.float64(h)
    d = tape.gates
    if c is not None:
        i, f, g, o = np.split(rounded(x) @ rounded(cell.w_input.value) + cell.b.value + rounded(h) @ u, 4, axis=1)
        expected = sigmoid(o) * np.tanh(sigmoid(f) * c + sigmoid(i) * np.tanh(g))
        return h_next, expected, d_h, rounded(d) @ u.T
    products = rounded(x) @ rounded(cell.w_input.value) + cell.b_input.value
    inner = rounded(h) @ u + cell.b_hidden.value
    r, z = (sigmoid(products[:, at] + inner[:, at]) for at in (slice(0, H), slice(H, 2 * H)))
    if cell.reset == "after":
        n = np.tanh(products[:, 2 * H :] + r * inner[:, 2 * H :])
        d_inner = np.concatenate([d[:, : 2 * H], tape.aux], axis=1)
        return h_next, n + z * (wide - n), d_h, dh * z + rounded(d_inner) @ u.T
    n = np.tanh(products[:, 2 * H :] + cell.b_hidden.value[2 * H :] + rounded(reset) @ u[:, 2 * H :])
    through = rounded(d[:, 2 * H :]) @ u[:, 2 * H :].T
    return h_next, n + z * (wide - n), d_h, dh * z + through * r + rounded(d[:, : 2 * H]) @ u[:, : 2 * H].T


def accuracy(rng):
    """Products with states are float32 sums of products of rounded factors, forward and backward; so are long runs near
    those in float32."""
    for kind in KINDS:
        for hidden in (1, 17, 64, 130):
            cell, pair = build(kind, hidden).cell, kind == "lstm"
            x, h, c, dh, dc = (drawn(rng, 35, width) for width in (INPUTS, *[hidden] * 4))
            with fastattn.float32_precision("medium"):
                found, expected, d_found, d_expected = step(cell, x, h, c if pair else None, dh, dc if pair else None)
            for a, b in ((found, expected), (d_found, d_expected)):
                assert np.abs(a - b).max() < 3e-6 * np.abs(b).max(), (kind, hidden, np.abs(a - b).max())
    for kind in KINDS:
        layer, state, d_state = build(kind, 70), state_of(rng, kind, 6, 70), state_of(rng, kind, 6, 70)
        given = drawn(rng, 6, 12, INPUTS), state, None, drawn(rng, 6, 12, 70), d_state
        exact, *others = (run(layer, *given, word) for word in ("highest", "batched", "high", "medium"))
        for a, *less in zip(exact, *others, strict=True):
            errors = [np.abs(other - a).max() / np.abs(a).max() for other in less]
            assert 0 < errors[0] < 1e-6 < errors[1] < 3e-5 < 2e-4 < errors[2] < 2e-2, (kind, errors)


def rows(rng):
    """A sequence has the same bits alone and in any batch, at any number of threads, whatever padding is beside it."""
    for kind in KINDS:
        for hidden in (70, 128):
            layer, B, T = build(kind, hidden), 70, 5
            lengths = np.array([T - i % (T + 1) for i in range(B)])
            x, state, dy = drawn(rng, B, T, INPUTS), state_of(rng, kind, B, hidden), drawn(rng, B, T, hidden)
            d_state = state_of(rng, kind, B, hidden)
            for values in flat([state, d_state]):
                values[[5, 33, 60], 7], values[[0, 41], 9] = 2.0**-60, 2.0**80  # not for the unit
            whole = run(layer, x, state, lengths, dy, d_state)
            for threads in (3, 16, 1):
                fastattn.set_num_threads(threads)
                again = run(layer, x, state, lengths, dy, d_state)
                assert all(map(same, again, whole)), (kind, hidden, threads)
            for first, last in ((0, 1), (31, 34), (3, 20), (40, 70)):
                given = (x, state, lengths, dy, d_state)
                some = run(layer, *(cut(values, slice(first, last)) for values in given))
                assert all(map(same, some, (value[first:last] for value in whole))), (kind, hidden, first, last)


def numbers_for_the_plain_kernel(rng, precision, room):
    """Numbers that the unit cannot take: rows as in float32, and no bit of another row or unit changes. `room` is for
    gradients beside these."""
    least, most = np.finfo(np.float32).tiny, np.finfo(np.float32).max
    for kind in KINDS:
        B, H = 40, 70
        layer, x = build(kind, H), np.zeros((B, 1, INPUTS), np.float32)  # whose products are exact
        state, d_state, dy = state_of(rng, kind, B, H), state_of(rng, kind, B, H), drawn(rng, B, 1, H)
        whole = run(layer, x, state, None, dy, d_state, precision)
        for value in (np.inf, np.nan, most, np.float32(1e-45), -least, np.float32(2.0**-60), np.float32(2.0**80)):
            for of_state, of_gradient in (([3], []), ([], [3, 4, 38]), ([0, *range(5, 39)], [1])):
                h, dh = (values[0] if kind == "lstm" else values for values in (state, d_state))
                h, dh, dy2 = h.copy(), dh.copy(), dy.copy()
                h[of_state, 50] = value
                dh[of_gradient], dy2[of_gradient] = value, 0
                given = ((h, state[1]), (dh, d_state[1])) if kind == "lstm" else (h, dh)
                with np.errstate(all="ignore"):
                    found = run(layer, x, given[0], None, dy2, given[1], precision)
                    plain = run(layer, x, given[0], None, dy2, given[1], "highest")
                others = np.ones(B, bool)
                others[[*of_state, *of_gradient]] = False
                assert all(same(a[others], b[others]) for a, b in zip(found, whole, strict=True)), (kind, value)
                if kind != "before" or value != np.float32(1e-45):  # of which a gate r may leave zero
                    assert np.array_equal(found[0][of_state], plain[0][of_state], equal_nan=True), (kind, value)
                if 1e-40 < abs(value) < 1 and kind != "lstm":  # the gradient of c is of the usual size
                    a, b = (values[-1][of_gradient] for values in (found, plain))
                    assert (np.abs(a - b) <= room * np.abs(b).max(initial=0)).all(), (kind, value)  # as of gates
                for a, b in zip(found, plain, strict=True):
                    assert (np.isfinite(a) == np.isfinite(b)).all(), (kind, value)
    # Columns and rows of the matrix: other units keep their bits.
    for kind in KINDS:
        layer, gates = build(kind, H), 4 if kind == "lstm" else 3
        state, dy, d_state = state_of(rng, kind, B, H), drawn(rng, B, 1, H), None
        whole = run(layer, x, state, None, dy, d_state, precision)
        for value in (np.inf, least, np.float32(2.0**-50), np.float32(2.0**30)):
            with layer.w_hidden.edit() as w:
                kept = w[20, 5 :: H].copy()
                w[20, 5 :: H] = value
            assert len(kept) == gates
            with np.errstate(all="ignore"):
                found = run(layer, x, state, None, dy, d_state, precision)
                plain = run(layer, x, state, None, dy, d_state, "highest")
            with layer.w_hidden.edit() as w:
                w[20, 5 :: H] = kept
            units = np.arange(H) != 5
            if kind != "before":  # else r of one unit reaches all
                assert same(found[0][..., units], whole[0][..., units]), (kind, value)
                assert np.array_equal(found[0][..., 5], plain[0][..., 5], equal_nan=True), (kind, value)
            for a, b in zip(found, plain, strict=True):
                assert (np.isfinite(a) == np.isfinite(b)).all(), (kind, value)
                if np.isfinite(value):
                    assert np.abs(a - b).max() <= 2 * room * np.abs(b).max(), (kind, value)


def decoders(rng):
    """The size of a matrix decides, never the batch; the backward pass has the precision of the forward pass."""
    B, T, H = 3, 5, 40

    def forward(made, cell, x, h):
        first = (h, h) if cell.gates == 4 else (h,)
        if made is Walk:
            walk = Walk(cell, x.copy(), *first)
            return walk, walk.states
        record = Record(cell, T, *first)
        for t in range(T):
            record.forward(t, x[:, t])
        return record, record.states[:, 1:]

    def back(steps, dh):
        steps.cell.w_hidden.gradient = np.zeros_like(steps.cell.w_hidden.value)
        if isinstance(steps, Walk):
            state = steps.backward(dh)
        else:
            state = np.zeros_like(dh[:, 0]), np.zeros_like(dh[:, 0]) if steps.cell.gates == 4 else None
            for t in reversed(range(T)):
                state = steps.backward(t, state[0] + dh[:, t], state[1])
        steps.finish()
        return [*(part for part in state if part is not None), steps.cell.w_hidden.gradient.copy()]

    for made in (Record, Walk):
        for kind in KINDS:
            options = {"rng": rng, "dtype": np.float32}
            cell = LSTMStep(H, **options) if kind == "lstm" else GRUStep(H, reset=kind, **options)
            x, h, dh = drawn(rng, B, T, cell.gates * H), drawn(rng, B, H), drawn(rng, B, T, H)
            exact = forward(made, cell, x, h)[1]
            linear.LEAST_IN_MEDIUM = linear.LEAST_FOR_TILES = linear.LEAST_FOR_GRADIENT = 1
            with fastattn.float32_precision("batched"):  # of few sequences perhaps: not on the unit
                assert same(forward(made, cell, x, h)[1], exact), (made, kind)
            for least in (0, 1):
                linear.LEAST_IN_MEDIUM = linear.LEAST_FOR_TILES = linear.LEAST_FOR_GRADIENT = cell.gates * H * H + least
                with fastattn.float32_precision("medium"):
                    steps, states = forward(made, cell, x, h)
                    inside = back(steps, dh)
                    assert same(forward(made, cell, x[1:2], h[1:2])[1], states[1:2]), (made, kind, least)
                    steps, _ = forward(made, cell, x, h)
                outside = back(steps, dh)
                highest = back(forward(made, cell, x, h)[0], dh)
                assert same(states, exact) is (least == 1), (made, kind, least)
                for a, b, c in zip(outside, inside, highest, strict=True):
                    assert same(a, b) and same(a, c) is (least == 1), (made, kind, least)
                    assert np.abs(a - c).max() < 0.02 * np.abs(c).max(), (made, kind, least)


def main():
    linear.LEAST_FOR_TILES, linear.LEAST_FOR_GRADIENT = 1, 1 << 60
    for number, check in enumerate((accuracy, rows, decoders)):
        check(np.random.default_rng(number))
    for precision, room in (("medium", 0.01), ("high", 1e-4)):
        numbers_for_the_plain_kernel(np.random.default_rng(2), precision, room)
    print(fastattn.show_config(as_dict=True)["level"])


if __name__ == "__main__":
    main()
