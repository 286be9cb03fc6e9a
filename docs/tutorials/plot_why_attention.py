r"""
Why attention
=============

A network that turns one sequence into another has two halves. The *encoder* reads the source :math:`x_1 \ldots x_S`
and makes a state for each position, :math:`h_1 \ldots h_S`. The *decoder* writes the target :math:`y_1, y_2, \ldots`,
one symbol a step, each from the symbol before and from its own state :math:`s_t`. What passes from one half to the
other? At first it was one vector:

.. math::
   c = h_S, \qquad s_t = f(s_{t-1}, y_{t-1}, c)

That vector has as many numbers for a sequence of forty symbols as for one of four. This page shows what comes of it,
first on tasks that a child can do, then on words. Then it takes apart, line by line, the two remedies with which
attention began: that of Bahdanau, Cho and Bengio (2015) and that of Luong, Pham and Manning (2015).

It needs ``pip install 'fastattn[quickstart]'``, and no network.
"""

import tempfile
import time

import matplotlib.pyplot as plt
import numpy as np

import fastattn
from fastattn import viz
from fastattn.seq2seq import (
    BOS,
    EOS,
    BahdanauConfig,
    ChoConfig,
    Config,
    InferenceConfig,
    LuongConfig,
    TrainingConfig,
    VocabularyConfig,
    encode,
    load,
    metrics,
    train,
)
from fastattn.seq2seq.text.pronunciation import load_dictionary

# %%
# Two tasks that are nothing but memory
# -------------------------------------
# *Copy*: say the letters that you were given. *Reverse*: say them backwards. Nothing has to be understood, so that all
# errors are errors of memory. Sequences to learn from have up to twelve letters, drawn from twenty.


def letters(count, shortest, longest, rng):
    """Return random sequences of letters, separated by spaces."""
    lengths = rng.integers(shortest, longest, size=count, endpoint=True)
    return [" ".join(rng.choice(list("abcdefghijklmnopqrst"), size=length)) for length in lengths]


def copy(text):
    return text


def reverse(text):
    return " ".join(reversed(text.split()))


rng = np.random.default_rng(0)
to_learn = letters(20_000, 1, 12, rng)
to_test = {length: letters(100, length, length, rng) for length in range(1, 20, 2)}
print(copy(to_learn[0]), "|", reverse(to_learn[0]))

# %%
# Two models
# ----------
# Both read with one recurrent network from left to right and another from right to left, and write with a third. They
# have the same sizes, see the same pairs in the same order, and learn for the same number of steps. The one is that of
# Cho et al. (2014), whose decoder has one fixed vector. The other is that of Bahdanau et al. (2015), whose decoder
# looks at all states of the encoder again at every step. Everything else is equal.


def models(width, embedding):
    """Return the settings of a model without attention and of one with it."""
    sizes = {"hidden": width, "embedding": embedding, "readout_width": embedding, "reset": "after"}
    return {
        "one fixed vector": ChoConfig(bidirectional=True, **sizes),
        "attention": BahdanauConfig(attention=width, **sizes),
    }


def fit(model, pairs, steps, rate, **vocabulary):
    """Train a model on pairs of texts, and return it with its vocabularies."""
    config = Config(
        model=model,
        vocabulary=VocabularyConfig(**vocabulary),
        training=TrainingConfig(
            epochs=0, max_steps=steps, tokens_per_batch=768, rate=rate, schedule="inverse_sqrt", warmup=60, clip=5.0
        ),
        inference=InferenceConfig(beam=1, max_length=30),
    )
    with tempfile.TemporaryDirectory() as folder:
        train(config, folder, pairs=pairs, quiet=True)
        return load(folder)


def error_rate(translator, pairs):
    """Return the percentage of symbols that are wrong: edits for each symbol of the nearest right answer."""
    outputs = translator.translate(source for source, _ in pairs)
    answers = [[answer.split() for answer in right] for _, right in pairs]
    return metrics.count_errors([output.split() for output in outputs], answers).rate


translators, errors = {}, {}
for task in (copy, reverse):
    for name, model in models(width=48, embedding=32).items():
        fitted = fit(model, [(text, task(text)) for text in to_learn], steps=250, rate=0.015)
        translators[task.__name__, name] = fitted
        errors[task.__name__, name] = [
            error_rate(fitted, [(text, [task(text)]) for text in texts]) for texts in to_test.values()
        ]

# %%
# The same with words: how English is pronounced
# ----------------------------------------------
# Toys may be said to be made for the argument, so here is a task of daily life. The CMU Pronouncing Dictionary says
# for some 120 000 English words, letter by letter, how they sound. The models learn from most of them, and are tested
# on words that they have never seen. A word may have several right pronunciations; the nearest one counts.

dictionary = load_dictionary()
spelled = [(word, sounds[0]) for word, sounds in dictionary.train.items()]
word_lengths = [(1, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 20)]
unseen = [
    [(word, sounds) for word, sounds in dictionary.test.items() if shortest <= len(word) <= longest][::3]
    for shortest, longest in word_lengths
]
for name, model in models(width=64, embedding=32).items():
    fitted = fit(model, spelled, steps=300, rate=0.01, source="char", target="word")
    translators["pronounce", name] = fitted
    errors["pronounce", name] = [error_rate(fitted, pairs) for pairs in unseen]

# %%
# What a fixed vector forgets
# ---------------------------
# Errors by the length of the source. The dotted line is the longest sequence that copying and reversing were learnt
# from.

of_words = {(low + high) / 2: f"{low}-{high}" for low, high in word_lengths}
of_letters = {length: str(length) for length in to_test}
ticks = {"copy": of_letters, "reverse": of_letters, "pronounce": of_words}
figure, panels = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True, layout="constrained")
for axes, (task, values) in zip(panels, ticks.items()):
    for name, line in (("one fixed vector", "s--"), ("attention", "o-")):
        axes.plot(list(values), errors[task, name], line, label=name)
    axes.set(title=task, xlabel="letters in the source", ylim=(-2, 80))
    axes.set_xticks(list(values), values.values())
    if task != "pronounce":
        axes.axvline(12, color="grey", linestyle=":")
panels[0].set_ylabel("wrong symbols, percent")
panels[0].legend()

# %%
# The same in numbers:

for task, values in ticks.items():
    print(f"{task:9}  {'letters':16}", *(f"{label:>5}" for label in values.values()))
    for name in ("one fixed vector", "attention"):
        print(f"{'':9}  {name:16}", *(f"{wrong:5.1f}" for wrong in errors[task, name]))

# %%
# One vector does well while there is little to remember, and then runs out of room: each letter of twenty is
# :math:`\log_2 20 \approx 4.3` bits, and all of them have to be told apart in the same few numbers. Wider vectors and
# longer training move the point where it fails; they do not remove it. With attention the memory grows with the source,
# as there is one state for each letter, and the decoder fetches the one that it needs.
#
# It even goes on beyond the lengths that it has learnt from, though less and less well: what it has learnt is how to
# find the next letter, and not what a whole sequence looks like.
#
# Which letter it fetches can be seen. A row of these maps is a step of the decoder, a column is a letter of the source,
# and bright cells are large weights: copying walks along the diagonal, reversing along the other one.

text = "k i n d r e a d"
figure, panels = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
for axes, task in zip(panels, (copy, reverse)):
    found = translators[task.__name__, "attention"].align(text)
    viz.heatmap(found.map(), found.source_tokens, found.tokens, title=task.__name__, ax=axes)

# %%
# Bahdanau's attention in six steps
# ---------------------------------
# Now the same from the inside, on the model that has learnt to pronounce. These are its parameters, arrays of NumPy by
# their names. Nothing else of the model is used below, but for the encoder, which is not what is new.

bahdanau = translators["pronounce", "attention"]
w = {name: parameter.value for name, parameter in bahdanau.model.parameters().items()}
print(w["mechanism.query.w"].shape, w["mechanism.key.w"].shape, w["mechanism.v"].shape)

# %%
# Three functions, as textbooks have them. The gated recurrent unit is the decoder's :math:`f`:
#
# .. math::
#    r, z = \sigma(x_{rz} + s U_{rz}), \qquad n = \tanh(x_n + r \odot s U_n), \qquad s' = (1 - z) \odot n + z \odot s


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(x, s, u, b):
    xr, xz, xn = np.split(x, 3)
    ur, uz, un = np.split(s @ u + b, 3)
    z = sigmoid(xz + uz)
    return (1 - z) * np.tanh(xn + sigmoid(xr + ur) * un) + z * s


# %%
# And the six steps. Steps 2 to 4 are the attention:
#
# .. math::
#    e_{tj} = v \cdot \tanh(s_{t-1} W_a + h_j U_a), \qquad
#    \alpha_{tj} = \frac{\exp e_{tj}}{\sum_k \exp e_{tk}}, \qquad
#    c_t = \sum_j \alpha_{tj} h_j
#
# The score :math:`e_{tj}` says how well what the decoder is about to do fits what stands around position :math:`j`. The
# softmax makes weights of scores: none is negative, and together they are 1. The context :math:`c_t` is the mean of
# the states with these weights, another one at every step; that is all the difference from a fixed vector :math:`c`.
# Since all of this has a derivative, it is learnt with everything else: nobody says which letter belongs to which
# sound.


def say_bahdanau(word):
    """Pronounce a word, the likeliest sound at each step; return ids, weights, states and the encoder's states."""
    ids = encode(bahdanau.source_vocabulary, word)[None]
    # 1. Encoder states: h (S, 2 H), both directions side by side. The first state of the decoder is made of the last
    #    one of the encoder that reads from right to left.
    h = bahdanau.model.encoder.forward(bahdanau.model.source_embedding.forward(ids))[0][0]
    s = np.tanh(h[0, h.shape[1] // 2 :] @ w["bridge.w"] + w["bridge.b"])
    y, said, maps, states = BOS, [], [], []
    while y != EOS and len(said) < 30:
        before = s
        # 2. Scores: how well each of them fits the decoder's state.
        scores = np.tanh(s @ w["mechanism.query.w"] + h @ w["mechanism.key.w"]) @ w["mechanism.v"]
        # 3. Softmax: weights that sum to one.
        weights = softmax(scores)
        # 4. Context: the encoder states, weighted.
        context = weights @ h
        # 5. Decoder step: from the old state, the last sound and the context to the new state.
        x = w["target_embedding.w"][y] @ w["from_target.w"] + w["from_target.b"] + context @ w["from_context.w"]
        s = gru(x[: 3 * s.size], s, w["cell.w_hidden"], w["cell.b"])
        # 6. Output: probabilities of all sounds, through a layer that keeps the larger of each two neighbours.
        pairs = (before @ w["from_state.w"] + x[3 * s.size :]).reshape(-1, 2)
        y = int(softmax(pairs.max(axis=1) @ w["projection.w"] + w["projection.b"]).argmax())
        said, maps, states = [*said, y], [*maps, weights], [*states, before]
    return said, np.array(maps), np.array(states), h


# %%
# Try them on the longest word of nine to twelve letters that this model says right without having learnt it. The
# library says the same, with one call for all of it:

candidates = dict(unseen[3] + unseen[4])
spoken = zip(candidates, bahdanau.translate(list(candidates)))
word = max((word for word, sounds in spoken if sounds in candidates[word]), key=len)
said, maps, states, h = say_bahdanau(word)
found = bahdanau.align(word)
print(word, "by hand: ", " ".join(bahdanau.target_vocabulary.decode(said[:-1])))
print(word, "in a call:", found.text)
bahdanau_difference = np.abs(maps - found.weights).max()
print(f"largest difference of a weight: {bahdanau_difference:.1e}")

# %%
# Steps 2 to 4 are also a call of their own. ``fastattn.attention`` takes any queries, keys and values, here the states
# of the decoder and, twice, those of the encoder:

score = fastattn.scores.Additive(w["mechanism.v"], w["mechanism.query.w"], w["mechanism.key.w"])
output = fastattn.attention(states, h, h, score=score, return_weights=True)
call_difference = np.abs(output.weights - maps).max()
print(f"{output.context.shape} contexts, largest difference of a weight: {call_difference:.1e}")

# %%
# The numbers are the same but for rounding; the work is not. For a batch of 32 sentences of 50 words each, NumPy makes
# an array of 32 x 50 x 50 x 256 numbers, and passes over it three times. The call stores nothing of that size: it takes
# a block of queries and a block of keys at a time, and is done with them before it takes the next.

query, memory = (rng.normal(size=(32, 50, 256)).astype(np.float32) for _ in range(2))
w_query, w_key = (rng.normal(size=(256, 256), scale=1 / 16).astype(np.float32) for _ in range(2))
v = rng.normal(size=256).astype(np.float32)


def by_hand():
    scores = np.tanh((query @ w_query)[:, :, None] + (memory @ w_key)[:, None]) @ v
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True)) @ memory


def in_a_call():
    return fastattn.attention(query, memory, memory, score=fastattn.scores.Additive(v, w_query, w_key))


seconds = {}
for way in (by_hand, in_a_call):
    started = time.perf_counter()
    contexts = [way() for _ in range(3)]
    seconds[way.__name__] = (time.perf_counter() - started) / 3
batch_difference = np.abs(by_hand() - in_a_call()).max()
print(f"by hand {1000 * seconds['by_hand']:.0f} ms, in a call {1000 * seconds['in_a_call']:.0f} ms")
print(f"that is {seconds['by_hand'] / seconds['in_a_call']:.1f} times as fast; difference {batch_difference:.1e}")

# %%
# What it looks at
# ----------------
# The row of a sound has its weight where the letters stand that are pronounced so. Where several letters are one
# sound, one row spans them, or some letters get no row at all. Colours go up to the largest weight of this map.

figure, axes = plt.subplots(figsize=(6.5, 5.5), layout="constrained")
viz.heatmap(maps, found.source_tokens, found.tokens, title="Bahdanau: " + word, vmax=maps.max(), ax=axes)

# %%
# Luong's attention in seven steps
# --------------------------------
# Luong, Pham and Manning turned the order around. The decoder first takes its step, and then looks at the source with
# the state that it has *now*; what it finds goes to the output. The score became simpler too, a product in place of a
# small network. Their "general" score has one matrix:
#
# .. math::
#    e_{tj} = s_t W \cdot h_j, \qquad a_t = \tanh(c_t W_c + s_t W_s), \qquad p(y_t) = \mathrm{softmax}(a_t W_o + b)
#
# The *attentional vector* :math:`a_t` joins what was looked up with what was known. It is also fed to the next step, so
# that the decoder knows what it has looked at already (*input feeding*). Encoder and decoder are LSTMs, which have a
# second state :math:`m` that is changed by gates alone:
#
# .. math::
#    m' = \sigma(x_f) \odot m + \sigma(x_i) \odot \tanh(x_g), \qquad s' = \sigma(x_o) \odot \tanh(m')

luong = fit(
    LuongConfig(hidden=96, embedding=32, layers=1, dropout=0.0),
    spelled, steps=300, rate=0.01, source="char", target="word",
)  # fmt: skip
w = {name: parameter.value for name, parameter in luong.model.parameters().items()}


def lstm(x, m):
    i, f, g, o = np.split(x, 4)
    m = sigmoid(f) * m + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(m), m


def say_luong(word):
    """Pronounce a word, the likeliest sound at each step; return ids and weights."""
    ids = encode(luong.source_vocabulary, word)[None]
    # 1. Encoder states: h (S, H); the decoder starts from the last one.
    states, last = luong.model.encoder.forward(luong.model.source_embedding.forward(ids))
    h, (s, m), a = states[0], (part[0] for part in last[0]), np.zeros(states.shape[-1], np.float32)
    y, said, maps = BOS, [], []
    while y != EOS and len(said) < 30:
        # 2. Decoder step: from the old states, the last sound and the last attentional vector.
        x = w["target_embedding.w"][y] @ w["decoder.inputs.0.w"] + w["decoder.inputs.0.b"] + a @ w["decoder.feed.w"]
        s, m = lstm(x + s @ w["decoder.cells.0.w_hidden"], m)
        # 3. Scores, with the new state.
        scores = h @ (s @ w["mechanism.w"])
        # 4. Softmax.
        weights = softmax(scores)
        # 5. Context.
        context = weights @ h
        # 6. Attentional vector.
        a = np.tanh(context @ w["from_context.w"] + s @ w["decoder.from_state.w"])
        # 7. Output.
        y = int(softmax(a @ w["projection.w"] + w["projection.b"]).argmax())
        said, maps = [*said, y], [*maps, weights]
    return said, np.array(maps)


bahdanau_largest = maps.max(axis=1).mean()
said, maps = say_luong(word)
found = luong.align(word)
print(word, "by hand: ", " ".join(luong.target_vocabulary.decode(said[:-1])))
print(word, "in a call:", found.text)
luong_difference = np.abs(maps - found.weights).max()
print(f"largest difference of a weight: {luong_difference:.1e}")
luong_errors = [error_rate(luong, pairs) for pairs in unseen]
print("errors on unseen words, by length:", ", ".join(f"{wrong:.1f} %" for wrong in luong_errors))

# %%

figure, axes = plt.subplots(figsize=(6.5, 5.5), layout="constrained")
viz.heatmap(maps, found.source_tokens, found.tokens, title="Luong: " + word, ax=axes)

# %%
# Which of the two maps is the sharper one? On average a row has on its first letter, of the two models:

luong_largest = maps.max(axis=1).mean()
print(f"Bahdanau {bahdanau_largest:.2f}, Luong {luong_largest:.2f}")

# %%
# A product of two vectors may be as large as it likes, and large differences of scores make a softmax choose. The
# other score is a sum of :math:`v_i \tanh(\cdot)`, which is never beyond :math:`\pm \sum_i |v_i|`. Besides,
# Bahdanau's encoder reads in both directions, so that the states of neighbours know of each other's letters, and any of
# them will do.
#
# Where to go from here
# ---------------------
# - Another score, or another mechanism, is one word: ``BahdanauConfig(score="general")``, or
#   ``score="location_sensitive"``; ``fastattn.variants.names()`` lists all.
# - ``fastattn quickstart`` trains the two models of this page for longer, and says your words.
# - ``fastattn.attention_vjp`` is the call with its gradients, for models of your own.

plt.show()
