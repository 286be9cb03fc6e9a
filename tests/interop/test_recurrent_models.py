"""Trained recurrent models of packages, by the recipe of docs/recurrent.md: their own outputs on 1000 inputs."""

import random

import numpy as np
import pytest

from fastattn import attention, attention_vjp
from fastattn.interop.states import load_states
from fastattn.layers import LSTM, Bidirectional, Embedding, Linear, Stacked
from fastattn.losses import cross_entropy_vjp
from fastattn.scores import Additive

RNG = np.random.default_rng(0)


class Diacritizer:
    """Three BiLSTMs and additive self-attention over them."""

    def __init__(self, states):
        self.table, self.classes = Embedding(54, 128, rng=RNG), Linear(512, 15, rng=RNG)
        self.lstms = Stacked(
            [
                Bidirectional(LSTM(width, 256, rng=RNG), LSTM(width, 256, reverse=True, rng=RNG))
                for width in (128, 512, 512)
            ]
        )
        for layer, prefix in ((self.table, "embedding."), (self.lstms, "lstm."), (self.classes, "classifier.")):
            load_states(layer, states, prefix)
        arrays = {name: np.asarray(states[f"attention.{name}.weight"]) for name in "WUv"}
        self.score = Additive(arrays["v"][0].copy(), arrays["W"].T.copy(), arrays["U"].T.copy())

    def logits(self, ids):
        """For ids (B, T), (B, T, 15)."""
        h, _ = self.lstms.forward(self.table.forward(ids))
        return self.classes.forward(attention(h, h, h, score=self.score))

    def gradients(self, ids, labels):
        """Of the mean cross-entropy, of the score's parameters and of what comes before it."""
        x, table_backward = self.table.vjp(ids)
        h, _, lstms_backward = self.lstms.vjp(x)
        y, attention_backward = attention_vjp(h, h, h, score=self.score)
        _, count, loss_backward = cross_entropy_vjp(y, self.classes, labels)
        found = attention_backward(loss_backward(1 / count))
        dx, _ = lstms_backward(found.query + found.key + found.value)
        table_backward(dx)
        return found.score


@pytest.fixture(scope="module")
def diacritizer():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    package = pytest.importorskip("diacritize", reason="arabic-diacritizer is not installed")
    model = pytest.importorskip("diacritize.baseline.model")
    theirs = model.BiLSTMDiacritizer.from_pretrained()
    del package
    return torch, theirs, Diacritizer(theirs.state_dict())


def texts(count, tokens, longest, seed):
    """Random ids of tokens, in groups of one length, so that no padding is read by code that does not mask it."""
    rng = np.random.default_rng(seed)
    for _ in range(count // 20):
        yield rng.integers(4, tokens, (20, int(rng.integers(1, longest))))


def test_arabic_diacritizer_gives_its_own_labels_on_1000_texts(diacritizer):
    torch, theirs, ours = diacritizer
    for ids in texts(1000, 54, 60, seed=1):
        with torch.no_grad():
            expected = theirs(torch.from_numpy(ids)).numpy()
        found = ours.logits(ids)
        assert np.abs(found - expected).max() < 1e-3  # theirs is 3e-4 from its own float64
        top = np.sort(expected, axis=-1)
        clear = top[..., -1] - top[..., -2] > 2e-3  # where rounding cannot decide
        assert (found.argmax(-1) == expected.argmax(-1))[clear].all()


def test_gradients_of_arabic_diacritizer_are_those_of_autograd(diacritizer):
    torch, theirs, ours = diacritizer
    ids = next(texts(20, 54, 60, seed=2))
    labels = np.random.default_rng(3).integers(0, 15, ids.shape)
    theirs.zero_grad()
    loss = torch.nn.functional.cross_entropy(
        theirs(torch.from_numpy(ids)).flatten(0, 1), torch.from_numpy(labels).flatten()
    )
    loss.backward()
    score = ours.gradients(ids, labels)
    own = {name: parameter.grad.numpy() for name, parameter in theirs.named_parameters()}
    first, last = ours.lstms.layers[0].forward_layer, ours.lstms.layers[2].backward_layer
    for name, found in (
        ("attention.W.weight", score["w_query"].T), ("attention.U.weight", score["w_key"].T),
        ("attention.v.weight", score["v"][None]), ("classifier.weight", ours.classes.w.gradient.T),
        ("lstm.weight_ih_l0", first.w_input.gradient.T), ("lstm.weight_hh_l2_reverse", last.w_hidden.gradient.T),
        ("lstm.bias_ih_l0", first.b.gradient), ("embedding.weight", ours.table.w.gradient),
    ):  # fmt: skip
        scale = np.abs(own[name]).max()
        assert np.abs(found - own[name]).max() < 1e-4 * scale + 1e-7, name


class Pronouncer:
    """An LSTM that reads a word, and one that goes on from its states and writes sounds, one a step."""

    def __init__(self, states):
        self.letters, self.sounds = Embedding(41, 40, rng=RNG), Embedding(33, 40, rng=RNG)
        self.encoder = Stacked([LSTM(40, 256, rng=RNG), LSTM(256, 256, rng=RNG)])
        self.decoder = Stacked([LSTM(40, 256, rng=RNG), LSTM(256, 256, rng=RNG)])
        self.output = Linear(256, 33, rng=RNG)
        for layer, prefix in (
            (self.letters, "encoder.embedding."), (self.encoder, "encoder.rnn."), (self.sounds, "decoder.embedding."),
            (self.decoder, "decoder.rnn."), (self.output, "decoder.fc_out."),
        ):  # fmt: skip
            load_states(layer, states, prefix)

    def write(self, ids, steps):
        """Return the most probable sounds (B, steps) for words (B, T)."""
        _, states = self.encoder.forward(self.letters.forward(ids))
        last, written = np.full(len(ids), 1), []
        for _ in range(steps):
            x = self.sounds.forward(last)
            states = list(states)
            for number, layer in enumerate(self.decoder.layers):
                states[number] = layer.cell.forward(x, states[number])
                x = states[number][0]
            last = self.output.forward(x).argmax(-1)
            written.append(last)
        return np.stack(written, axis=1)


def test_g2p_fa_writes_its_own_sounds_for_1000_words():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    package = pytest.importorskip("g2p_fa", reason="g2p-fa is not installed")
    theirs = package.G2P_Fa().model.eval()
    ours = Pronouncer(theirs.state_dict())
    rng = random.Random(0)
    words = np.zeros((1000, 30), np.int64)
    for word in words:
        length = rng.randint(1, 12)
        word[: length + 2] = [1, *(rng.randint(3, 40) for _ in range(length)), 2]
    with torch.no_grad():
        expected = theirs(torch.from_numpy(words.T.copy()), torch.ones(30, 1000, dtype=torch.long), 0)
    expected = expected[1:].argmax(-1).numpy().T
    assert (ours.write(words, 29) == expected).all()
