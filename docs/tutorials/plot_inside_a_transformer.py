r"""
Look inside a Transformer
=========================

A Transformer (Vaswani et al. 2017) has no recurrent network: all that one position learns of the others it learns by
attention. Each of its layers attends with several *heads* at once, small attentions side by side, every one with
matrices of its own:

.. math::
   \mathrm{head}_i(x, m) = \mathrm{softmax}\!\left(\frac{x Q_i \, (m K_i)^T}{\sqrt{d}}\right) m V_i, \qquad
   y = [\mathrm{head}_1; \ldots; \mathrm{head}_H] \, W

It does so in three places: the encoder's positions look at each other, the decoder's positions look at those before
them, and the decoder looks at the encoder. This page trains a small one in seconds and looks at all its weights: which
call gives them, what the heads have learnt to do, and what happens without one of them.

It needs ``pip install 'fastattn[seq2seq,viz]'``, and no network.
"""

import tempfile

import matplotlib.pyplot as plt
import numpy as np

from fastattn import viz
from fastattn.seq2seq import Batch, Config, InferenceConfig, TrainingConfig, TransformerConfig, encode, load, train

# %%
# A task of which we know how it is done
# --------------------------------------
# Say letters backwards. To write letter :math:`t` one has to know how many are written already, and to fetch the letter
# at that distance from the end. So we know what to look for.

LAYERS, HEADS, LENGTH = 2, 4, 8


def letters(count, shortest, rng):
    """Return random sequences of letters, separated by spaces."""
    lengths = rng.integers(shortest, LENGTH, size=count, endpoint=True)
    return [" ".join(rng.choice(list("abcdefghij"), size=length)) for length in lengths]


def reverse(text):
    return " ".join(reversed(text.split()))


rng = np.random.default_rng(0)
config = Config(
    model=TransformerConfig(
        width=32, heads=HEADS, inner=64, encoder_layers=LAYERS, decoder_layers=LAYERS, norm="pre", dropout=0.0
    ),
    training=TrainingConfig(
        epochs=0, max_steps=700, tokens_per_batch=1024, rate=0.005, schedule="inverse_sqrt", warmup=140
    ),
    inference=InferenceConfig(beam=1, max_length=20),
)
with tempfile.TemporaryDirectory() as folder:
    train(config, folder, pairs=[(text, reverse(text)) for text in letters(20_000, 1, rng)], quiet=True)
    translator = load(folder)

unseen = letters(200, LENGTH, rng)


def accuracy():
    """Return the percentage of unseen sequences of the greatest length that are reversed without an error."""
    return 100 * np.mean([said == reverse(text) for text, said in zip(unseen, translator.translate(unseen))])


right = accuracy()
print(f"{right:.1f} % of unseen sequences of {LENGTH} letters are reversed without an error")

# %%
# Which call gives which weights
# ------------------------------
# - ``translator.align(source, target)`` gives what the last decoder layer looked at in the source, and with
#   ``layers=True`` what all of them did. ``.map()`` has the axes in the order of pictures: layer, head, target, source.
# - ``model.self_attention(batch)`` gives what the positions of the encoder looked at among themselves, and those of the
#   decoder.
# - ``fastattn.attention(query, key, value, return_weights=True)`` gives them for arrays of your own.
#
# Weights are made where they are asked for, and only there: training and search never store an array of that size.

text = "d e c a b f i g"
found = translator.align(text, reverse(text), layers=True)
across = found.map()


def batch_of(texts):
    """Return sequences of one length, and their reversals, as a batch of ids."""
    source = np.stack([encode(translator.source_vocabulary, text) for text in texts])
    target = np.stack([encode(translator.target_vocabulary, reverse(text)) for text in texts])
    lengths = np.full(len(texts), source.shape[1])
    return Batch(source, lengths, target, lengths, np.arange(len(texts)))


encoder, decoder = (weights[0] for weights in translator.model.self_attention(batch_of([text])))
print("layers, heads, rows, columns:", across.shape, encoder.shape, decoder.shape)

# %%
# The maps
# --------
# One row of panels for each layer, one panel for each head. First the decoder's look at the source. Reversing is the
# diagonal from the top right to the bottom left, and there it is, but not in all heads alike.


def draw(maps, columns, rows, title):
    """Draw maps (L, H, Tq, Tk)."""
    figure, panels = plt.subplots(LAYERS, HEADS, figsize=(12, 6.4), layout="constrained")
    for (layer, head), axes in np.ndenumerate(panels):
        name = f"layer {layer + 1}, head {head + 1}"
        viz.heatmap(maps[layer, head], columns, rows, title=name, numbers=False, ax=axes)
    figure.suptitle(title)


draw(across, found.source_tokens, found.tokens, "the decoder looks at the source")

# %%
# Next the encoder, whose positions look at all of each other. What they gather here is what the decoder finds there.

draw(encoder, found.source_tokens, found.source_tokens, "the encoder looks at itself")

# %%
# And the decoder. Row :math:`t` is where symbol :math:`t` of the target is computed; what was fed up to then is a mark
# for the beginning, and the symbols before. Above the diagonal all weights are zero: what is not written yet cannot be
# looked at.

draw(decoder, ["<s>", *found.tokens[:-1]], found.tokens, "the decoder looks at what it has written")

# %%
# What a head does
# ----------------
# One map of one text may be chance. So take the means over all unseen sequences, and ask how much of its weight a head
# has at places that have a name.

cross = np.stack([translator.align(text, reverse(text), layers=True).map() for text in unseen])
encoder, decoder = translator.model.self_attention(batch_of(unseen))
at = np.arange(LENGTH)
NAMES = {
    "decoder to source": (cross, {
        "the letter to write": LENGTH - 1 - at, "the one just written": LENGTH - at, "the end": LENGTH + 0 * at,
    }),
    "encoder": (encoder, {
        "itself": at, "the one before": at - 1, "the one after": at + 1, "the mirror image": LENGTH - 1 - at,
        "the end": LENGTH + 0 * at,
    }),
    "decoder": (decoder, {"the last one fed": at, "the one before": at - 1, "the beginning": 0 * at}),
}  # fmt: skip


def share(weights, columns):
    """Return the mean weight at column ``columns[t]`` of row t, where there is one, of each layer and head."""
    rows = np.flatnonzero(columns >= 0)
    return weights[:, :, :, rows, columns[rows]].mean(axis=(0, 3))


shares = {
    side: {name: share(weights, columns) for name, columns in places.items()}
    for side, (weights, places) in NAMES.items()
}
for side, places in shares.items():
    print(side)
    for layer in range(LAYERS):
        for head in range(HEADS):
            name = max(places, key=lambda name: places[name][layer, head])
            print(f"  layer {layer + 1}, head {head + 1}: {100 * places[name][layer, head]:3.0f} % on {name}")

# %%
# Without a head
# --------------
# A head that looks at the right place is not yet a head that matters: what it finds there may not be used, or another
# head may find it too. To know, switch it off. The rows of :math:`W` that a head's output meets are set to zero, and
# the model tries again.

without = np.empty((LAYERS, HEADS))
for layer in range(LAYERS):
    output = translator.model.parameters()[f"decoder.{layer}.cross.output.w"]
    whole = output.value.copy()
    for head, rows in enumerate(np.split(np.arange(len(whole)), HEADS)):
        with output.edit() as w:
            w[rows] = 0
        without[layer, head] = accuracy()
        output.assign(whole)

figure, axes = plt.subplots(figsize=(8, 3.4), layout="constrained")
names = [f"{layer + 1}.{head + 1}" for layer, head in np.ndindex(without.shape)]
axes.bar(names, without.ravel(), label="right without this head")
axes.plot(names, 100 * shares["decoder to source"]["the letter to write"].ravel(), "ko", label="weight on the letter")
axes.axhline(right, color="grey", linestyle=":", label="right with all heads")
axes.set(xlabel="layer.head of the decoder's attention to the source", ylabel="percent")
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
print(f"right with all heads {right:.1f} %, without the one that matters most {without.min():.1f} %")

# %%
# The dots say where a head looks, the bars what is left without it: a low bar is a head that is needed. The two say
# different things, and that is the lesson for larger models as well. A map shows what a head *could* read; only a
# change to the model shows what it uses.

plt.show()
