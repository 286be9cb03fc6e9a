"""Each model against the formulas of its paper, written down again for one sentence in plain NumPy."""

import dataclasses
import functools
import math

import numpy as np
import pytest
from seq2seq_cases import CASES, SOURCE_SIZE, TARGET_SIZE, random_pairs

from fastattn._reference import positions, variants
from fastattn.seq2seq import BOS, build


def make(name):
    model = build(dataclasses.replace(CASES[name], dropout=0.0), SOURCE_SIZE, TARGET_SIZE, 2, np.float64)
    rng = np.random.default_rng(3)
    for parameter in model.parameters().values():
        with parameter.edit() as value:
            value += 0.3 * rng.normal(size=parameter.value.shape)
    return model, {name: parameter.value for name, parameter in model.parameters().items()}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gelu(x):
    return x * np.vectorize(lambda a: 0.5 * math.erfc(-a / math.sqrt(2)))(x)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def gru(x, h, u, c, reset, inside=0.0):
    """One step; x has the input's part of r, z, n."""
    n = len(h)
    r, z = sigmoid(x[:n] + h @ u[:, :n] + c[:n]), sigmoid(x[n : 2 * n] + h @ u[:, n : 2 * n] + c[n : 2 * n])
    u_n, c_n, x_n = u[:, 2 * n :], c[2 * n :], x[2 * n :]
    new = np.tanh(x_n + (r * h) @ u_n + c_n) if reset == "before" else np.tanh(x_n + r * (h @ u_n + c_n + inside))
    return z * h + (1 - z) * new


def lstm(x, h, c, u):
    i, f, g, o = np.split(x + h @ u, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_layer(p, path, xs, reset, reverse=False):
    h, states = np.zeros(len(p[f"{path}.w_hidden"])), []
    for x in xs[::-1] if reverse else xs:
        x = x @ p[f"{path}.w_input"] + p[f"{path}.b_input"]
        h = gru(x, h, p[f"{path}.w_hidden"], p[f"{path}.b_hidden"], reset)
        states.append(h)
    return np.array(states[::-1] if reverse else states), h


def lstm_layer(p, path, xs, h, c):
    states = []
    for x in xs:
        h, c = lstm(x @ p[f"{path}.w_input"] + p[f"{path}.b"], h, c, p[f"{path}.w_hidden"])
        states.append(h)
    return np.array(states), h, c


def maxout(x):
    return x.reshape(-1, 2).max(-1)


def attended(table, p, queries, h):
    """The context of the last of all queries so far, by the twin of a variant."""
    options = {key: value for key, value in table.items() if key != "name"}
    own = {name.removeprefix("mechanism."): value for name, value in p.items() if name.startswith("mechanism.")}
    twin = getattr(variants, table["name"], None) or functools.partial(variants.soft, table["name"])
    return twin(own, np.array(queries)[None], h[None], h[None], np.ones((1, len(h)), bool), **options)[0][0, -1]


def bahdanau(config, p, source, fed):
    H = config.hidden
    xs = p["source_embedding.w"][source]
    ahead, _ = gru_layer(p, "encoder.forward_layer", xs, config.reset)
    back, first = gru_layer(p, "encoder.backward_layer", xs, config.reset, reverse=True)
    h = np.concatenate([ahead, back], axis=-1)
    s, out, states = np.tanh(first @ p["bridge.w"] + p["bridge.b"]), [], []
    for token in fed:
        y = (p["projection.w"].T if config.tied else p["target_embedding.w"])[token]
        part = y @ p["from_target.w"] + p["from_target.b"]
        if config.conditional:
            s = gru(part[: 3 * H], s, p["first_cell.w_hidden"], p["first_cell.b"], config.reset)
            part[: 3 * H] = 0
        states.append(s)
        if config.mechanism is None:
            c = softmax(np.tanh(s @ p["mechanism.query.w"] + h @ p["mechanism.key.w"]) @ p["mechanism.v"]) @ h
        else:
            c = attended(config.mechanism, p, states, h)
        part += c @ p["from_context.w"]
        after = gru(part[: 3 * H], s, p["cell.w_hidden"], p["cell.b"], config.reset)
        if config.readout == "maxout":
            t = maxout((after if config.conditional else s) @ p["from_state.w"] + part[3 * H :])
        else:
            t = np.concatenate([after, c, y])
        s = after
        out.append(t)
    return np.array(out)


def cho(config, p, source, fed):
    H = config.hidden
    reset = "after" if config.reset == "after" else "before"
    xs = p["source_embedding.w"][source]
    if config.bidirectional:
        ahead = gru_layer(p, "encoder.forward_layer", xs, reset)[1]
        last = np.concatenate([ahead, gru_layer(p, "encoder.backward_layer", xs, reset, reverse=True)[1]])
    else:
        last = gru_layer(p, "encoder", xs, reset)[1]
    c = np.tanh(last @ p["summary.w"] + p["summary.b"])
    s, out = np.tanh(c @ p["bridge.w"] + p["bridge.b"]), []
    for token in fed:
        y = p["target_embedding.w"][token] @ p["from_target.w"] + p["from_target.b"]
        of_c = c @ p["from_vector.w"]
        if config.reset == "published":
            of_gates = np.concatenate([of_c[: 2 * H], np.zeros(H)])
            inside = of_c[2 * H : 3 * H]
            s = gru(y[: 3 * H] + of_gates, s, p["cell.w_hidden"], p["cell.b"], "after", inside)
        else:
            s = gru(y[: 3 * H] + of_c[: 3 * H], s, p["cell.w_hidden"], p["cell.b"], reset)
        out.append(maxout(s @ p["from_state.w"] + y[3 * H :] + of_c[3 * H :]))
    return np.array(out)


def sutskever(config, p, source, fed):
    order = [*source[:-1][::-1], source[-1]] if config.reverse_source else list(source)
    xs, ys = p["source_embedding.w"][order], p["target_embedding.w"][fed]
    for layer in range(config.layers):
        zero = np.zeros(config.hidden)
        xs, h, c = lstm_layer(p, f"encoder.layers.{layer}", xs, zero, zero)
        ys, _, _ = lstm_layer(p, f"decoder.layers.{layer}", ys, h, c)
    return ys


def luong(config, p, source, fed):
    xs, states = p["source_embedding.w"][source], []
    for layer in range(config.layers):
        zero = np.zeros(config.hidden)
        xs, h, c = lstm_layer(p, f"encoder.layers.{layer}", xs, zero, zero)
        states.append((h, c))
    a, out, asked = np.zeros(config.hidden), [], []
    for token in fed:
        x = p["target_embedding.w"][token] @ p["decoder.inputs.0.w"] + p["decoder.inputs.0.b"]
        if config.input_feeding:
            x = x + a @ p["decoder.feed.w"]
        for layer in range(config.layers):
            if layer:
                x = states[layer - 1][0] @ p[f"decoder.inputs.{layer}.w"] + p[f"decoder.inputs.{layer}.b"]
            states[layer] = lstm(x, *states[layer], p[f"decoder.cells.{layer}.w_hidden"])
        h = states[-1][0]
        asked.append(h)
        scores = {
            "dot": lambda h=h: xs @ h,
            "general": lambda h=h: h @ p["mechanism.w"] @ xs.T,
            "concat": lambda h=h: np.tanh(h @ p["mechanism.query.w"] + xs @ p["mechanism.key.w"]) @ p["mechanism.v"],
            "location": lambda h=h: (h @ p["mechanism.w"])[: len(xs)],
        }[config.score]
        c = softmax(scores()) @ xs if config.mechanism is None else attended(config.mechanism, p, asked, xs)
        a = np.tanh(c @ p["from_context.w"] + h @ p["decoder.from_state.w"])
        out.append(a)
    return np.array(out)


def wu(config, p, source, fed):
    """Probabilities: those of a mixture."""
    zero = np.zeros(config.hidden)
    xs = p["source_embedding.w"][source]
    sides = [
        lstm_layer(p, f"encoder.{side}_layer", rows, zero, zero)
        for side, rows in (("forward", xs), ("backward", xs[::-1]))
    ]
    states = np.concatenate([sides[0][0], sides[1][0][::-1]], axis=-1)
    c = np.concatenate([sides[0][2], sides[1][2]]) @ p["bridge.w"] + p["bridge.b"]
    h, out = np.tanh(c), []
    for token in fed:
        x = p["target_embedding.w"][token] @ p["from_target.w"] + p["from_target.b"]
        h, c = lstm(x, h, c, p["cell.w_hidden"])
        weights = softmax(h @ p["attention.w"] @ states.T)
        each = np.tanh(h @ p["from_state.w"] + states @ p["from_memory.w"] + p["from_memory.b"])
        out.append(weights @ softmax(each @ p["projection.w"] + p["projection.b"]))
    return np.array(out)


def transformer(config, p, source, fed, kept=None):
    D, heads, pre = config.width, config.heads, config.norm == "pre"
    d = D // heads

    def linear(path, x):
        return x @ p[f"{path}.w"] + p.get(f"{path}.b", 0.0)

    def norm(path, x):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * p[f"{path}.gain"] + p[f"{path}.offset"]

    def sublayer(path, x, f):
        return x + f(norm(path, x)) if pre else norm(path, x + f(x))

    def attend(path, query, key, value, causal, side=None):
        parts, kind = [], config.positions if side else None
        table = {"positions.table": p.get(f"{side}_positions.table")}
        settings = {"bidirectional": not causal} if kind == "t5" else {}
        bias = positions.bias(kind, table, heads, 0, len(query), len(key), **settings)
        for head in range(heads):
            q, k, v = (x[:, head * d : (head + 1) * d] for x in (query, key, value))
            if kind == "rotary":
                q, k = positions.rotated(q), positions.rotated(k)
            scores = q @ k.T / np.sqrt(d) + bias[head]
            if causal:
                scores[np.triu_indices(len(q), 1)] = -np.inf
            parts.append(softmax(scores) @ v)
            if kept is not None and side:
                kept[side].append(softmax(scores))
        return linear(f"{path}.output", np.concatenate(parts, axis=-1))

    def own(path, causal):
        side = "target" if causal else "source"
        return lambda x: attend(path, *np.split(linear(f"{path}.project", x), 3, axis=-1), causal, side)

    def across(path, memory):
        keys, values = np.split(linear(f"{path}.project", memory), 2, axis=-1)
        return lambda x: attend(path, linear(f"{path}.query", x), keys, values, False)

    def network(path):
        f = {"relu": lambda a: np.maximum(a, 0), "gelu": gelu, "swish": lambda a: a * sigmoid(a)}[config.activation]
        return lambda x: linear(f"{path}.outer", f(linear(f"{path}.inner", x)))

    def embed(side, ids):
        table = p[f"{side}_embedding.w"] if f"{side}_embedding.w" in p else p["projection.w"].T
        rows = {"positions.rows.w": p.get(f"{side}_positions.rows.w")}
        scale = np.sqrt(D) if config.scaled else 1
        x = positions.added(config.positions, rows, table[ids][None] * scale, 0)[0]
        return norm(f"{side}_norm", x) if config.norm_embedding else x

    x = embed("source", source)
    for n in range(config.encoder_layers):
        x = sublayer(f"encoder.{n}.attended.norm", x, own(f"encoder.{n}.attention", False))
        x = sublayer(f"encoder.{n}.fed.norm", x, network(f"encoder.{n}.network"))
    memory = norm("encoder_norm", x) if pre else x
    y = embed("target", fed)
    for n in range(config.decoder_layers):
        y = sublayer(f"decoder.{n}.attended.norm", y, own(f"decoder.{n}.attention", True))
        y = sublayer(f"decoder.{n}.crossed.norm", y, across(f"decoder.{n}.cross", memory))
        y = sublayer(f"decoder.{n}.fed.norm", y, network(f"decoder.{n}.network"))
    return norm("decoder_norm", y) if pre else y


PAPERS = {f.__name__: f for f in (bahdanau, cho, sutskever, luong, transformer, wu)}


@pytest.mark.parametrize("name", CASES)
def test_log_probabilities_are_those_of_the_papers_formulas(name):
    model, p = make(name)
    batch = random_pairs(5, 6)
    found, _ = model.teacher_forcing(batch)
    for b in range(5):
        one = batch.row(b)
        fed = np.array([BOS, *one.target[0, :-1]])
        probabilities = PAPERS[model.config.kind](model.config, p, one.source[0], fed)
        if model.config.kind != "wu":
            probabilities = softmax(probabilities @ p["projection.w"] + p["projection.b"])
        expected = np.log(probabilities[np.arange(len(fed)), one.target[0]])
        np.testing.assert_allclose(found[b, : len(fed)], expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("transformer")])
def test_weights_within_either_side_are_those_of_the_formulas(name):
    model, p = make(name)
    batch = random_pairs(3, 6)
    weights = dict(zip(("source", "target"), model.self_attention(batch)))
    for b in range(3):
        one, kept = batch.row(b), {"source": [], "target": []}
        transformer(model.config, p, one.source[0], np.array([BOS, *one.target[0, :-1]]), kept)
        for side, heads in kept.items():
            length = getattr(one, side).shape[1]
            assert not weights[side][b, ..., length:, :].any() and not weights[side][b, ..., length:].any()
            found = weights[side][b, ..., :length, :length].reshape(-1, length, length)
            np.testing.assert_allclose(found, heads, rtol=1e-9, atol=1e-12)
