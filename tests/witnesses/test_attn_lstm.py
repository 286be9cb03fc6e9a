"""ONNX Runtime's operator AttnLSTM: additive attention around an LSTM with input feeding, against ours, step by step.

The operator (domain com.microsoft) is the decoder of Bahdanau, Cho, Bengio 2015 as TensorFlow's `AttentionWrapper` has
it: ``h_t = lstm([x_t; a_(t-1)])``, ``context_t`` by additive attention with h_t as query, and ``a_t = context_t``, or
``[h_t; context_t] AW`` where an attention layer is given. It is written in C++ and shares no code with fastattn.
"""

import numpy as np
import pytest
from witnesses.onnx_models import evaluate

import fastattn
from fastattn.layers import Linear, LSTMCell

INPUTS = (
    "X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P", "QW", "MW", "V", "M", "memory_seq_lens", "AW",
)  # fmt: skip
STEPS, BATCH, KEYS, INPUT, HIDDEN, DEPTH, WIDTH, FED = 7, 4, 9, 5, 6, 8, 10, 7
# A step's longest chain of sums: gates, query, scores, context and attention layer. Products are of the order of 1, and
# gates and weights, below 1, pass on no more of an error than they get. Measured: 1.4e-6 of 4.8e-5.
ROOM = STEPS * (INPUT + DEPTH + 2 * HIDDEN + WIDTH + KEYS + DEPTH + HIDDEN) * np.finfo(np.float32).eps


class Decoder:
    """The same from our parts, with the parameters of one direction."""

    def __init__(self, name, feeds, direction):
        w, r, b = (feeds[key][direction] for key in ("W", "R", "B"))
        hidden, rng = r.shape[1], np.random.default_rng(0)

        def gates(rows):  # the operator's order is i, o, f, c, ours i, f, g, o; its rows are our columns
            i, o, f, g = np.split(rows, 4)
            return np.concatenate([i, f, g, o]).T

        self.cell = LSTMCell(w.shape[1], hidden, rng=rng)
        qw, mw, v = (feeds[key][direction] for key in ("QW", "MW", "V"))
        self.attention = fastattn.create(name, query_width=hidden, memory_width=len(mw), width=len(v), rng=rng)
        set_to(self.cell.w_input, gates(w))
        set_to(self.cell.w_hidden, gates(r))
        set_to(self.cell.b, gates(b[: 4 * hidden]) + gates(b[4 * hidden :]))
        set_to(self.attention.query.w, qw)
        set_to(self.attention.key.w, mw)
        set_to(self.attention.v, v)
        self.layer = None
        if feeds["AW"] is not None:
            aw = feeds["AW"][direction]
            self.layer = Linear(*aw.shape, bias=False, rng=rng)
            set_to(self.layer.w, aw)

    def run(self, x, lengths, h, c, memory, memory_lengths):
        """Outputs (T, B, H) and the last h and c; x is (T, B, D), and samples that have ended stay as they are."""
        prepared = self.attention.prepare(memory, lengths=memory_lengths)
        state, outputs = self.attention.start(prepared), []
        fed = np.zeros((len(h), self.cell.inputs - x.shape[-1]), np.float32)
        for t, x_t in enumerate(x):
            going = (t < lengths)[:, None]
            h_next, c_next = self.cell.forward(np.concatenate([x_t, fed], axis=-1), (h, c))
            context, _, state = self.attention.step(h_next, prepared, state)
            fed = context if self.layer is None else self.layer.forward(np.concatenate([h_next, context], axis=-1))
            h, c = np.where(going, h_next, h), np.where(going, c_next, c)
            outputs.append(np.where(going, h_next, 0))
        return np.stack(outputs), h, c


def set_to(parameter, value):
    assert parameter.value.shape == value.shape
    parameter.assign(value)


def problem(rng, directions, layer):
    """Random inputs of the operator; what lies behind a memory's length is large."""
    fed = FED if layer else DEPTH

    def normal(*shape, size=0.5):
        return (rng.standard_normal(shape) * size).astype(np.float32)

    feeds = dict.fromkeys(INPUTS) | {
        "X": normal(STEPS, BATCH, INPUT, size=1),
        "W": normal(directions, 4 * HIDDEN, INPUT + fed),
        "R": normal(directions, 4 * HIDDEN, HIDDEN),
        "B": normal(directions, 8 * HIDDEN),
        "sequence_lens": rng.integers(1, STEPS + 1, BATCH).astype(np.int32),
        "initial_h": normal(directions, BATCH, HIDDEN),
        "initial_c": normal(directions, BATCH, HIDDEN),
        "QW": normal(directions, HIDDEN, WIDTH),
        "MW": normal(directions, DEPTH, WIDTH),
        "V": normal(directions, WIDTH, size=1.5),
        "M": normal(BATCH, KEYS, DEPTH, size=1),
        "memory_seq_lens": rng.integers(1, KEYS + 1, BATCH).astype(np.int32),
        "AW": normal(directions, DEPTH + HIDDEN, fed) if layer else None,
    }
    feeds["sequence_lens"][0], feeds["memory_seq_lens"][1] = STEPS, KEYS
    for b, n in enumerate(feeds["memory_seq_lens"]):
        feeds["M"][b, n:] = 1e3
    return feeds


@pytest.mark.parametrize("name", ["additive", "bahdanau"])
@pytest.mark.parametrize("layer", [False, True], ids=["context", "attention layer"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_a_decoder_is_that_of_the_runtime(direction, layer, name):
    rng = np.random.default_rng(3)
    directions = 2 if direction == "bidirectional" else 1
    for _ in range(5):
        feeds = problem(rng, directions, layer)
        attributes = {"direction": direction, "hidden_size": HIDDEN}
        right = evaluate("AttnLSTM", feeds, ("Y", "Y_h", "Y_c"), **attributes)
        lengths = feeds["sequence_lens"].astype(int)
        for d in range(directions):
            backward = direction == "reverse" or d == 1
            x = turn(feeds["X"], lengths) if backward else feeds["X"]
            state = feeds["initial_h"][d], feeds["initial_c"][d]
            y, h, c = Decoder(name, feeds, d).run(x, lengths, *state, feeds["M"], feeds["memory_seq_lens"])
            y = turn(y, lengths) if backward else y
            for found, wanted in ((y, right[0][:, d]), (h, right[1][d]), (c, right[2][d])):
                np.testing.assert_allclose(found, wanted, rtol=0, atol=ROOM)


def turn(x, lengths):
    """Each sample's positions in reverse, those behind its length where they are."""
    x = x.copy()
    for b, n in enumerate(lengths):
        x[:n, b] = x[:n, b][::-1]
    return x
