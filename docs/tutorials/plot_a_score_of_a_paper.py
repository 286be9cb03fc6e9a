r"""
A paper's score, from the formula to a model
============================================

A score that fastattn does not have, out of a paper into an encoder-decoder that learns: five lines, no kernel and no
gradient by hand. As an example: the Fourier integral attention of FourierFormer (Nguyen et al. 2022, NeurIPS,
arXiv:2206.00206), which has in place of the exponential of a dot product a product over the features,

.. math::
   \alpha_{ij} \propto \prod_c \left( \frac{\sin(R_c (q_{ic} - k_{jc}))}{R_c (q_{ic} - k_{jc})} \right)^4

whose :math:`R` is trained: the width of the kernel in each direction, where a Gaussian would need a covariance.
It needs ``pip install 'fastattn[seq2seq,viz]'``, and no network.
"""

# %%
# The formula
# -----------
# A softmax gives these weights for the score :math:`e_{ij} = \sum_c \log \mathrm{sinc}^4(R_c (q_{ic} - k_{jc}))`: a sum
# over features of a function of one feature of query and key, which is what ``pairwise_score`` compiles into the
# kernels, with its derivative. Near 0 the quotient is taken by its series, and a millionth keeps the logarithm finite
# where the sine is 0.

import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import fastattn
from fastattn import seq2seq, viz
from fastattn.plugin import ScoreRecord
from fastattn.scores.pairwise import Pairwise
from fastattn.testing import check_score


@fastattn.pairwise_score
def fourier(q, k, r):
    x = r * (q - k)
    sinc = np.where(abs(x) < 0.1, 1 - x**2 / 6 + x**4 / 120, np.sin(x) / x)
    return np.log(sinc**4 + 1e-6)


rng = np.random.default_rng(0)
query, key, value = (rng.normal(size=(n, 8)) for n in (5, 9, 9))
r = np.full(8, 0.5)
context, backward = fastattn.attention_vjp(query, key, value, score=fourier(r=r))
print("the gradient of r:", backward(np.ones_like(context)).score["r"].round(3))

# %%
# The same by the formula of the paper, as an array of (queries, keys, features):


def by_hand(query, key, value, r):
    kernel = np.prod(np.sinc(r * (query[:, None] - key) / np.pi) ** 4, axis=-1)
    return kernel / kernel.sum(axis=1, keepdims=True) @ value


difference = np.abs(context - by_hand(query, key, value, r)).max()
print(f"largest difference {difference:.0e}")

# %%
# One feature, beside the Gaussian of the same width at the top. It has hills beside the large one, and places between
# them that get nothing:

apart = np.linspace(-8, 8, 400)
_, axes = plt.subplots(figsize=(7, 3), layout="constrained")
axes.plot(apart, np.sinc(apart / np.pi) ** 4, label="Fourier, R = 1")
axes.plot(apart, np.exp(-(apart**2) * 2 / 3), label="Gaussian")
axes.set(xlabel="query - key", ylabel="kernel", yscale="log", ylim=(1e-7, 2))
axes.legend()
plt.show()

# %%
# Is it right?
# ------------
# The conformance kit, which our own scores pass too, checks shapes, masks, padding, gradients against central
# differences, and that bits stay the same. ``reference`` is the score in plain NumPy.


def formula(parameters, query, key, scale):
    x = parameters["r"] * (query[:, :, None] - key[:, None])
    return np.log(np.sinc(x / np.pi) ** 4 + 1e-6).sum(axis=-1)


def drawn(rng, query_width, key_width, dtype):
    return rng.uniform(0.3, 0.6, key_width).astype(dtype)


certificate = check_score(fourier, options={"r": drawn}, reference=formula)
print(certificate)

# %%
# A name
# ------
# A class says where training begins, and a record gives it a name, by which scores, variants, decoders and
# configurations know it. Training begins with a small R, so that all keys are on the large hill: with 0.3 to 0.6 and
# the rate below it falls between the hills, where slopes are steep, and learns little. This cell may be run again.


class Fourier(Pairwise):
    """``score_ij = sum_c log(sinc(r_c (q_ic - k_jc))^4)``, r trained."""

    name = "fourier"

    def __init__(self, r):
        super().__init__(fourier(r=r))

    @classmethod
    def drawn(cls, query_width, key_width, *, rng, dtype=np.float32):
        return cls(rng.uniform(0.05, 0.15, key_width).astype(dtype))


fastattn.scores.register(ScoreRecord("fourier", Fourier, "sum of log sinc^4", "Nguyen et al. 2022 (arXiv:2206.00206)"))

# %%
# A model
# -------
# The encoder-decoder of Bahdanau et al. takes it by that name, from a configuration file as in a shell ``fastattn
# train``. Its queries are as wide as the decoder's state and its keys twice as wide as the encoder's: a trained matrix
# brings queries to that width. The task: say some letters backwards. The additive score of that model learns the same
# for comparison.

CONFIGURATION = """
[data]
train = "letters.tsv"

[model]
kind = "bahdanau"
score = "SCORE"
hidden = 48
attention = 48
embedding = 24
readout_width = 24

[training]
epochs = 0
max_steps = 300
tokens_per_batch = 512
rate = 0.015
clip = 5.0
seed = 1
log_every = 10
"""


def letters(count, rng):
    return [" ".join(rng.choice(list("abcdefghij"), size=rng.integers(3, 9))) for _ in range(count)]


def fit(score):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        pairs = (f"{text}\t{text[::-1]}\n" for text in letters(8000, np.random.default_rng(1)))
        (folder / "letters.tsv").write_text("".join(pairs))
        (folder / "train.toml").write_text(CONFIGURATION.replace("SCORE", score))
        seq2seq.train(folder / "train.toml", folder / "run", quiet=True)
        lines = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
        return seq2seq.load(folder / "run"), lines


new, translators, losses, shares = letters(200, np.random.default_rng(2)), {}, {}, {}
for score in ("additive", "fourier"):
    translators[score], losses[score] = fit(score)
    said = translators[score].translate(new)
    shares[score] = np.mean([answer == text[::-1] for answer, text in zip(said, new)])
    print(f"{score:9} {shares[score]:.1%} of 200 new words backwards without a mistake")
r = translators["fourier"].model.parameters()["mechanism.r"].value
print(f"R began between 0.05 and 0.15 and is now between {np.abs(r).min():.2f} and {np.abs(r).max():.2f}")

# %%
# How they learnt, and what both look at:

_, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for score, lines in losses.items():
    axes.plot(*zip(*((line["step"], line["loss"]) for line in lines if "loss" in line)), label=score)
axes.set(xlabel="steps of training", ylabel="loss", ylim=(0, None))
axes.legend()
plt.show()

text = "a f d c h b e"
_, panels = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for axes, (score, translator) in zip(panels, translators.items()):
    found = translator.align(text)
    viz.heatmap(found.map(), found.source_tokens, found.tokens, title=score, ax=axes)
plt.show()

# %%
# More
# ----
# ``fastattn new-plugin my_score --kind score`` writes such a score as a package, with its tests and a benchmark.
# Scores that are more than a sum over features are :doc:`plot_write_a_plugin`.
