"""The recipes of docs/recurrent.md: trained recurrent models of two packages, in layers of fastattn.

States are mappings of names to arrays, as the packages' modules have them; neither package is needed here.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastattn import attention, attention_vjp
from fastattn.interop.states import load_states
from fastattn.layers import LSTM, Bidirectional, Embedding, Layer, Linear, Parameter, Stacked
from fastattn.losses import cross_entropy_vjp
from fastattn.optim import Adam
from fastattn.scores import Additive

States = Mapping[str, Any]


class Trained(Layer):
    """A model with `gradients`."""

    def gradients(self, ids: Any, wanted: Any) -> float:
        """Return the mean cross-entropy, and add its gradients to those of the parameters."""
        raise NotImplementedError

    def step(self, optimizer: Adam, ids: Any, wanted: Any) -> float:
        """Return the mean cross-entropy, and train by it once."""
        loss = self.gradients(ids, wanted)
        optimizer.step()
        return loss


class Diacritizer(Trained):
    """arabic-diacritizer: three LSTMs of two directions, and additive attention of all letters to all letters."""

    def __init__(self, states: States) -> None:
        rng = np.random.default_rng(0)
        self.table, self.classes = Embedding(54, 128, rng=rng), Linear(512, 15, rng=rng)
        self.lstms = Stacked(
            [
                Bidirectional(LSTM(width, 256, rng=rng), LSTM(width, 256, reverse=True, rng=rng))
                for width in (128, 512, 512)
            ]
        )
        for layer, prefix in ((self.table, "embedding."), (self.lstms, "lstm."), (self.classes, "classifier.")):
            load_states(layer, states, prefix)
        v, w, u = (np.asarray(states[f"attention.{name}.weight"]) for name in "vWU")
        self.v, self.w_query, self.w_key = Parameter(v[0]), Parameter(w.T), Parameter(u.T)
        self._make_score()

    @staticmethod
    def random() -> "Diacritizer":
        """Return one of random weights: what it computes is of no use, and takes what the trained one takes."""
        rng, states = np.random.default_rng(0), {"embedding.weight": (54, 128), "attention.v.weight": (1, 512)}
        states |= {"classifier.weight": (15, 512), "classifier.bias": (15,)}
        states |= {f"attention.{name}.weight": (512, 512) for name in "WU"}
        for layer, width in enumerate((128, 512, 512)):
            for end in (f"l{layer}", f"l{layer}_reverse"):
                states |= {f"lstm.weight_ih_{end}": (1024, width), f"lstm.weight_hh_{end}": (1024, 256)}
                states |= {f"lstm.bias_{one}_{end}": (1024,) for one in ("ih", "hh")}
        return Diacritizer({name: rng.normal(0, 0.05, shape).astype(np.float32) for name, shape in states.items()})

    def _make_score(self) -> None:
        self.score = Additive(self.v.value, self.w_query.value, self.w_key.value)

    def logits(self, ids: Any) -> Any:
        """For ids (B, T), return (B, T, 15)."""
        h, _ = self.lstms.forward(self.table.forward(ids))
        return self.classes.forward(attention(h, h, h, score=self.score))

    def gradients(self, ids: Any, wanted: Any) -> float:
        x, table_backward = self.table.vjp(ids)
        h, _, lstms_backward = self.lstms.vjp(x)
        y, attention_backward = attention_vjp(h, h, h, score=self.score)
        loss, count, loss_backward = cross_entropy_vjp(y, self.classes, wanted)
        found = attention_backward(loss_backward(1 / count))
        for name, gradient in found.score.items():
            getattr(self, name).accumulate(gradient)
        dx, _ = lstms_backward(found.query + found.key + found.value)
        table_backward(dx)
        return float(loss / count)

    def step(self, optimizer: Adam, ids: Any, wanted: Any) -> float:
        loss = super().step(optimizer, ids, wanted)
        self._make_score()
        return loss


class Pronouncer(Trained):
    """g2p-fa: an LSTM that reads a word, and one that goes on from its states and writes sounds, one a step."""

    def __init__(self, states: States) -> None:
        rng = np.random.default_rng(0)
        self.letters, self.sounds = Embedding(41, 40, rng=rng), Embedding(33, 40, rng=rng)
        self.encoder = Stacked([LSTM(40, 256, rng=rng), LSTM(256, 256, rng=rng)])
        self.decoder = Stacked([LSTM(40, 256, rng=rng), LSTM(256, 256, rng=rng)])
        self.output = Linear(256, 33, rng=rng)
        for layer, prefix in (
            (self.letters, "encoder.embedding."), (self.encoder, "encoder.rnn."), (self.sounds, "decoder.embedding."),
            (self.decoder, "decoder.rnn."), (self.output, "decoder.fc_out."),
        ):  # fmt: skip
            load_states(layer, states, prefix)

    def write(self, ids: Any, steps: int) -> Any:
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

    def gradients(self, ids: Any, wanted: Any) -> float:
        # At each step of sounds (B, S) the right ones are known so far; 0 is padding.
        x, letters_backward = self.letters.vjp(ids)
        _, states, encoder_backward = self.encoder.vjp(x)
        x, sounds_backward = self.sounds.vjp(wanted[:, :-1])
        y, _, decoder_backward = self.decoder.vjp(x, states)
        loss, count, loss_backward = cross_entropy_vjp(y, self.output, wanted[:, 1:], ignore=0)
        dx, d_states = decoder_backward(loss_backward(1 / count))
        sounds_backward(dx)
        dx, _ = encoder_backward(None, d_states)
        letters_backward(dx)
        return float(loss / count)


def words(count: int, longest: int = 12) -> Any:
    """Return random words as g2p-fa has them: a first sign, 1 to `longest` letters, a last sign, padding up to 30."""
    rng, found = np.random.default_rng(0), np.zeros((count, 30), np.int64)
    for word in found:
        length = int(rng.integers(1, longest + 1))
        word[: length + 2] = [1, *rng.integers(3, 41, length), 2]
    return found
