r"""
Write a plugin
==============

A score of your own in thirty lines, checked against everything that the library promises, and trained in the default
encoder-decoder. As an example: cosines with a sharpness that is learnt (Liu et al. 2022, arXiv:2111.09883, equation 2),

.. math::
   e_{ij} = s \, \frac{q_i \cdot k_j}{|q_i| \, |k_j|}

It needs ``pip install 'fastattn[seq2seq,viz]'``, and no network.
"""

# %%
# A package in one command
# ------------------------
# In a shell it is ``fastattn new-plugin sharp_cosine``. What is written can be installed, tested and published as it
# stands, with a formula to be changed into yours:

import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import fastattn
from fastattn import linear, seq2seq, viz
from fastattn.plugin import ScoreRecord
from fastattn.scores import Score
from fastattn.testing import check_score

with tempfile.TemporaryDirectory() as folder:
    command = [sys.executable, "-m", "fastattn", "new-plugin", "sharp_cosine", "--folder", folder]
    subprocess.run(command, check=True, capture_output=True)
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file():
            print(path.relative_to(folder))
    written = Path(folder, "fastattn-sharp-cosine", "fastattn_sharp_cosine", "__init__.py").read_text()
print()
print(written)

# %%
# Your formula
# ------------
# A score says what it makes of queries and of keys before a kernel takes their dot products, and what the gradients of
# that are. Tiles, threads, masks, softmax and sums are the kernel's. So there are three pairs to write: forward and
# backward of a query, forward and backward of a key, and the gradient of the parameter.


def unit(x):
    """Return vectors of length 1, and the inverse of the lengths that they had; zero vectors stay."""
    length = np.sqrt(np.einsum("...d,...d->...", x, x))[..., None]
    inverse = np.divide(1, length, out=np.zeros_like(length), where=length != 0)
    return x * inverse, inverse


class SharpCosine(Score):
    """``score_ij = s q_i . k_j / (|q_i| |k_j|)``, s learnt."""

    name = "sharp_cosine"

    def __init__(self, s):
        super().__init__()
        self.parameters = {"s": np.asarray(s)}

    @classmethod
    def drawn(cls, query_width, key_width, *, rng, dtype=np.float32):
        """Where training begins."""
        return cls(rng.uniform(4, 6, 1).astype(dtype))

    def project_query(self, query):
        return self.parameters["s"] * unit(query)[0]

    def query_vjp(self, query, d_projected):
        return self.parameters["s"] * d_projected * unit(query)[1]

    def query_gradients(self, query, d_projected):
        return {"s": linear.row_sum(linear.row_sum(unit(query)[0] * d_projected)[:, None])}

    def project_key(self, key):
        return unit(key)[0]

    def key_vjp(self, key, d_projected):
        return d_projected * unit(key)[1]


def formula(parameters, query, key, scale):
    """The same in plain NumPy, for the kit to compare with."""
    lengths = np.linalg.norm(query, axis=-1)[..., None] * np.linalg.norm(key, axis=-1)[..., None, :]
    return parameters["s"] * (query @ key.swapaxes(-1, -2)) / np.where(lengths == 0, 1, lengths)


def record(score):
    example = {"s": lambda rng, query, key, dtype: rng.uniform(1, 3, 1).astype(dtype)}
    return ScoreRecord("sharp_cosine", score, "s cos(q, k)", "Liu et al. 2022", (example,), formula)


# %%
# The kit finds the mistake
# -------------------------
# Forward it works. But is that the gradient of a unit vector? The conformance kit, which our own scores pass too,
# compares with central differences. In a shell it is ``fastattn check sharp_cosine``.

first = check_score(record(SharpCosine))
print(*(line for line in str(first).splitlines() if "ok" not in line.split()[:1]), sep="\n")

# %%
# A change of a vector along itself does not change its direction, so that this part of the gradient has to go:
# :math:`dx = (dy - y \, (y \cdot dy)) / |x|`. And where a key is masked its gradient is zero, while the key itself may
# be anything, also NaN; what was not read is left out.


def unit_vjp(x, d):
    read = np.where(d == 0, 0, x)
    y, inverse = unit(read)
    return (d - y * np.einsum("...d,...d->...", y, d)[..., None]) * inverse


class Corrected(SharpCosine):
    __doc__ = SharpCosine.__doc__

    def query_vjp(self, query, d_projected):
        return self.parameters["s"] * unit_vjp(query, d_projected)

    def key_vjp(self, key, d_projected):
        return unit_vjp(key, d_projected)


certificate = check_score(record(Corrected))
print(certificate)

# %%
# In a package ``pip install`` makes it known everywhere; in a program of one's own this line does:

fastattn.scores.register(record(Corrected))

# %%
# Now it is a score like any other, in ``attention``, ``prepare`` and ``create``, with its gradients:

rng = np.random.default_rng(0)
query, memory = rng.normal(size=(2, 3, 8)), rng.normal(size=(2, 7, 8))
score = fastattn.scores.create("sharp_cosine", s=np.array([5.0]))
context, backward = fastattn.attention_vjp(query, memory, memory, score=score)
print(context.shape, {name: gradient.shape for name, gradient in backward(np.ones_like(context)).score.items()})

# %%
# Trained in the default model
# ----------------------------
# The encoder-decoder of Bahdanau et al. takes any score by name. The task: say some letters backwards. In a
# configuration file it is the line ``score = "sharp_cosine"`` of the section ``[model]``.


def letters(count, rng):
    return [" ".join(rng.choice(list("abcdefghij"), size=rng.integers(3, 9))) for _ in range(count)]


def fit(score):
    config = seq2seq.Config(
        model=seq2seq.BahdanauConfig(score=score, hidden=48, attention=48, embedding=24, readout_width=24),
        training=seq2seq.TrainingConfig(epochs=0, max_steps=300, tokens_per_batch=512, rate=0.015, clip=5.0, seed=1),
    )
    pairs = [(text, text[::-1]) for text in letters(8000, np.random.default_rng(1))]
    with tempfile.TemporaryDirectory() as folder:
        seq2seq.train(config, folder, pairs=pairs, quiet=True)
        return seq2seq.load(folder)


new, translators, shares = letters(200, np.random.default_rng(2)), {}, {}
for score in ("additive", "sharp_cosine"):
    translators[score] = fit(score)
    said = translators[score].translate(new)
    shares[score] = np.mean([answer == text[::-1] for answer, text in zip(said, new)])
    print(f"{score:12} {shares[score]:.1%} of 200 new words backwards without a mistake")
sharpness = translators["sharp_cosine"].model.parameters()["mechanism.s"].value
print(f"s has become {sharpness[0]:.1f}")

# %%
# What both look at:

text = "a f d c h b e"
_, panels = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for axes, (score, translator) in zip(panels, translators.items()):
    found = translator.align(text)
    viz.heatmap(found.map(), found.source_tokens, found.tokens, title=score, ax=axes)
plt.show()

# %%
# More
# ----
# Mechanisms that differ by more than their score, normalizers, positions and whole encoder-decoders are plugins too,
# and loops can be Numba's or Cython's: ``fastattn new-plugin my_attention --kind numba``, or ``--kind cython``.
