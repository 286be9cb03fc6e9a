"""
Every mechanism on one page
===========================

fastattn makes each attention mechanism of the literature by name. Here every one of them is trained, each in a second
or two, on a small task that suits it, and draws its map: a row for each question, a column for each position of the
memory, a colour for the weight. All tasks share one model and one loop, so that what differs is the mechanism alone.
"""

# %%
# One model, one loop
# -------------------
# A task gives a memory and questions, both as rows of numbers, and the answers as numbers of classes. The model maps
# memory and questions to one width, attends, and reads the answer from the context and the question. ``vjp`` returns
# what a layer makes and its backward pass; these are called in reverse order.

import time
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

import fastattn
from fastattn import viz
from fastattn.layers import Layer, Linear
from fastattn.losses import cross_entropy_vjp
from fastattn.optim import Adam

WIDTH, CLASSES = 32, 48


class Batch(NamedTuple):
    memory: np.ndarray  # (B, S, ...)
    asked: np.ndarray  # (B, T, ...)
    answers: np.ndarray  # (B, T), -1 where nothing is asked
    columns: list[str]  # what the first sample's map is labelled with
    rows: list[str]
    lengths: np.ndarray | None = None


class Model(Layer):
    def __init__(self, task, mechanism, options):
        rng = np.random.default_rng(0)
        example = task(rng, 1)
        asked = example.asked.shape[-1]
        width = WIDTH if asked else 0  # pooling has no query
        self.read = Linear(example.memory.shape[-1], WIDTH, rng=rng)
        self.ask = Linear(asked, width, rng=rng)
        self.attention = fastattn.create(mechanism, query_width=width, memory_width=WIDTH, rng=rng, **options)
        self.answer = Linear(WIDTH + asked, CLASSES, rng=rng)

    def learn(self, batch, seeds):
        memory, read_backward = self.read.vjp(batch.memory)
        queries, ask_backward = self.ask.vjp(batch.asked)
        prepared = self.attention.prepare(memory, batch.lengths)
        state = self.attention.start(prepared, seeds=seeds) if self.attention.takes_seeds else None
        context, attention_backward = self.attention.vjp(queries, prepared, state=state)
        features = np.concatenate([context, batch.asked], axis=-1)
        _, count, answer_backward = cross_entropy_vjp(features, self.answer, batch.answers)
        d_features = answer_backward(1 / count)
        d_queries, d_memory = attention_backward(d_features[..., :WIDTH])
        ask_backward(d_queries)
        read_backward(d_memory)

    def test(self, batch):
        prepared = self.attention.prepare(self.read.forward(batch.memory), batch.lengths)
        queries, state = self.ask.forward(batch.asked), self.attention.start_search(prepared)
        found = self.attention.forward(queries, prepared, state=state, return_weights=True)
        logits = self.answer.forward(np.concatenate([found.context, batch.asked], axis=-1))
        right = (logits.argmax(axis=-1) == batch.answers)[batch.answers >= 0]
        return right.mean(), found.weights[0]


table = []


def learn(task, **mechanisms):
    """Train each mechanism on the task, test it on samples that it has not seen, and draw its map of one of them."""
    across = min(len(mechanisms), 3)
    down = -(-len(mechanisms) // across)
    example = task(np.random.default_rng(0), 1)
    above = 0.8 + 0.1 * max(map(len, example.columns))
    size = across * (0.28 * len(example.columns) + 0.8), down * (0.28 * len(example.rows) + above)
    _, axes = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (name, options) in zip(axes.flat, mechanisms.items()):
        began, rng = time.perf_counter(), np.random.default_rng(1)
        model = Model(task, name, options)
        optimizer = Adam(model.parameters(), rate=0.01)
        for _ in range(300):
            model.learn(task(rng, 32), rng.integers(2**31, size=32))
            optimizer.step()
        unseen = task(rng, 200)
        share, weights = model.test(unseen)
        table.append((name, task.__name__, share, time.perf_counter() - began))
        length = weights.shape[-1] if unseen.lengths is None else unseen.lengths[0]
        ax.set_axis_on()
        viz.heatmap(weights[..., :length], unseen.columns, unseen.rows, ax=ax, title=name, numbers=False)


def hot(numbers, count):
    """Return rows of zeros with a one in the place of each number."""
    return np.eye(count, dtype=np.float32)[numbers]


def places(batch, count):
    """Return the number of each position, the same for all samples."""
    return np.broadcast_to(hot(np.arange(count), count), (batch, count, count))


def joined(*parts):
    return np.concatenate(parts, axis=-1, dtype=np.float32)


def earlier(answers, begin):
    """Return what was said before each answer: what a decoder asks with."""
    return np.concatenate([np.full((len(answers), 1), begin), answers[:, :-1]], axis=1)


# %%
# Looking something up
# --------------------
# The memory holds eight letters, each with a digit; a letter asks for its digit. Any score can do that:
#
# * ``dot``: queries and keys live in one space already; nothing to train, nothing faster.
# * ``scaled_dot``: the same for wide vectors, whose products would push the softmax to its ends. The default.
# * ``cosine``: where lengths of vectors mean nothing, as of embeddings from elsewhere; ``scale`` is its sharpness.
# * ``general``: queries and keys of two different spaces; a matrix takes one to the other.
# * ``additive``: a small network in place of a product; learns more of a score at narrow widths, and costs more.
# * ``concat``: the same network as Luong et al. wrote it, for comparing with their paper.
# * ``normed_additive``: ``additive`` whose size is learnt apart from its direction, for long trainings.
# * ``linear``: a weight for each feature of query, key or their product; the cheapest trained score, easy to read.

LETTERS = "abcdefghijkl"


def letters_of(rng, batch, count):
    return rng.permuted(np.tile(np.arange(12), (batch, 1)), axis=1)[:, :count]


def lookup(rng, batch):
    letters, digits, at = letters_of(rng, batch, 8), rng.integers(10, size=(batch, 8)), rng.integers(8, size=(batch, 6))
    asked = np.take_along_axis(letters, at, axis=1)
    return Batch(
        joined(hot(letters, 12), hot(digits, 10)),
        hot(asked, 12),
        np.take_along_axis(digits, at, axis=1),
        [f"{LETTERS[a]}{d}" for a, d in zip(letters[0], digits[0])],
        [LETTERS[a] for a in asked[0]],
    )


learn(
    lookup,
    dot={},
    scaled_dot={},
    cosine={"scale": 10.0},
    general={},
    additive={"width": 32},
    concat={"width": 32},
    normed_additive={"width": 32},
    linear={"terms": ("x*y",)},
)

# %%
# What is near
# ------------
# Eight points of a plane, each with a digit; a point beside one of them asks for its digit. Scores of distances:
#
# * ``l2``: like answers like, as in kernel regression; the nearest key wins whatever its length.
# * ``gaussian``: the same with a width that is trained: how far "near" reaches (Nadaraya and Watson 1964).
# * ``l1``: the same where one feature that is far off should count for no more than it does.


def nearest(rng, batch):
    at = rng.permuted(np.tile(np.arange(16), (batch, 1)), axis=1)[:, :8]
    points, digits = np.stack([at % 4, at // 4], axis=-1), rng.integers(10, size=(batch, 8))
    which = rng.integers(8, size=(batch, 6))
    asked = np.take_along_axis(points, which[..., None], axis=1) + rng.uniform(-0.3, 0.3, (batch, 6, 2))
    return Batch(
        joined(points, hot(digits, 10)),
        asked.astype(np.float32),
        np.take_along_axis(digits, which, axis=1),
        [f"{x},{y}" for x, y in points[0]],
        [f"{x:.1f},{y:.1f}" for x, y in asked[0]],
    )


learn(nearest, l2={}, gaussian={}, l1={})

# %%
# By place
# --------
# Ten letters backwards. The question is the number of the step, and nothing else:
#
# * ``location``: the place follows from the query alone, whatever is there; for memories of bounded length.
# * ``local_p``: predicts a place and looks around it; for long memories where one region matters at a time.


def by_place(rng, batch, order):
    letters = rng.integers(12, size=(batch, 10))
    return Batch(
        joined(hot(letters, 12), places(batch, 10)),
        places(batch, 10),
        letters[:, order],
        [LETTERS[a] for a in letters[0]],
        [str(t) for t in range(10)],
    )


def reverse(rng, batch):
    return by_place(rng, batch, np.arange(10)[::-1])


learn(reverse, location={"longest": 10}, local_p={"window": 4})

# %%
# Ten letters, each pair of neighbours swapped:
#
# * ``local_m``: a window that moves on by one position a step; for what stays nearly in order, as with a script of
#   the same language.


def swap(rng, batch):
    return by_place(rng, batch, np.arange(10) ^ 1)


learn(swap, local_m={"window": 2})

# %%
# Writing
# -------
# From here on the question is what was said before, as in a decoder. Dates are written out:
#
# * ``bahdanau``: the first attention of all; the safe choice for a recurrent decoder that attends before its step.

MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
SIGNS = sorted({*"0123456789- .", *"".join(MONTHS)})


def dates(rng, batch):
    days = [str(day) for day in np.datetime64("1950-01-01") + rng.integers(36500, size=batch)]
    written = [f"{day[8:]} {MONTHS[int(day[5:7]) - 1]} {day[:4]}" for day in days]
    source, answers = (np.array([[SIGNS.index(sign) for sign in text] for text in texts]) for texts in (days, written))
    return Batch(
        joined(hot(source, len(SIGNS)), places(batch, 10)),
        joined(hot(earlier(answers, SIGNS.index(".")), len(SIGNS)), places(batch, 11)),
        answers,
        list(days[0]),
        list(written[0]),
    )


learn(dates, bahdanau={"width": 32})

# %%
# English becomes Indonesian, which puts a noun before what is said of it, and has no articles:
#
# * ``luong``: attends after the decoder's step, with a choice of scores; for decoders that ask all queries at once.

ENGLISH = "black white green small old young cat dog mouse house river table sees has hears the a".split()
INDONESIAN = "hitam putih hijau kecil tua muda kucing anjing tikus rumah sungai meja melihat memiliki mendengar".split()


def words(rng, batch):
    adjective, noun = rng.integers(0, 6, (batch, 2)), rng.integers(6, 12, (batch, 2))
    verb, article = rng.integers(12, 15, batch), rng.integers(15, 17, (batch, 2))
    columns = article[:, 0], adjective[:, 0], noun[:, 0], verb, article[:, 1], adjective[:, 1], noun[:, 1]
    source = np.stack(columns, axis=1)
    answers = source[:, [2, 1, 3, 6, 5]]
    return Batch(
        joined(hot(source, 17), places(batch, 7)),
        joined(hot(earlier(answers, 15), 17), places(batch, 5)),
        answers,
        [ENGLISH[word] for word in source[0]],
        [INDONESIAN[word] for word in answers[0]],
    )


learn(words, luong={"score": "concat", "width": 32})

# %%
# Nothing twice, nothing left out
# -------------------------------
# Eight digits, some of them equal, in ascending order: what was read already must be known.
#
# * ``coverage``: the sum of earlier weights is part of the score; for summaries that repeat themselves.
# * ``neural_coverage``: a small state at each position, which learns what to remember of earlier visits; for
#   translation, where a word may need several.


def sort(rng, batch):
    digits = rng.integers(10, size=(batch, 8))
    answers = np.sort(digits, axis=1)
    rows = [str(d) for d in answers[0]]
    return Batch(hot(digits, 10), hot(earlier(answers, 10), 11), answers, [str(d) for d in digits[0]], rows)


learn(sort, coverage={"width": 32}, neural_coverage={"width": 32, "coverage_width": 4})

# %%
# Speech
# ------
# A word of six letters is spoken: each letter lasts two or three frames, with noise. Positions have no numbers here.
#
# * ``location_sensitive``: sees where it looked last, and moves on from there; for speech and other long memories of
#   much the same.
# * ``monotonic``: never goes back, and reads each key once: decoding is linear in time, and can begin before the end.
# * ``mocha``: the same with a softmax over the last keys before the stop; for where one frame says too little.


def spoken(rng, batch):
    letters = rng.integers(1, 12, size=(batch, 6)).cumsum(axis=1) % 12  # no letter twice in a row
    lasts = rng.integers(2, 4, size=(batch, 6))
    lengths = lasts.sum(axis=1)
    frames = np.zeros((batch, lengths.max()), int)
    for row, word, last in zip(frames, letters, lasts):
        row[: last.sum()] = np.repeat(word, last)
    heard = hot(frames, 12) + rng.normal(scale=0.1, size=(*frames.shape, 12)).astype(np.float32)
    columns = [LETTERS[a] for a in frames[0, : lengths[0]]]
    return Batch(heard, hot(earlier(letters, 12), 13), letters, columns, [LETTERS[a] for a in letters[0]], lengths)


learn(
    spoken,
    location_sensitive={"width": 32, "filters": 8, "filter_size": 7, "window": 4},
    monotonic={"width": 32, "offset": -1.0},
    mocha={"width": 32, "chunk": 2, "offset": -1.0},
)

# %%
# Two places at once
# ------------------
# Two letters ask for both of their digits together. One softmax can look at two places, but cannot tell which is
# which; two can:
#
# * ``multihead``: several scaled products side by side, each with keys and values of its own; Transformers are made
#   of it.
# * ``additive_multihead``: the same by additive scores, for narrow heads.


def pairs(rng, batch):
    letters, digits = letters_of(rng, batch, 8), rng.integers(4, size=(batch, 8))
    at = rng.integers(8, size=(batch, 2, 6))
    asked = [np.take_along_axis(letters, at[:, i], axis=1) for i in (0, 1)]
    first, second = (np.take_along_axis(digits, at[:, i], axis=1) for i in (0, 1))
    return Batch(
        joined(hot(letters, 12), hot(digits, 4)),
        joined(hot(asked[0], 12), hot(asked[1], 12)),
        4 * first + second,
        [f"{LETTERS[a]}{d}" for a, d in zip(letters[0], digits[0])],
        [LETTERS[a] + LETTERS[b] for a, b in zip(asked[0][0], asked[1][0])],
    )


learn(pairs, multihead={"heads": 2}, additive_multihead={"heads": 2, "width": 16})

# %%
# A sequence that looks at itself
# -------------------------------
# Six letters, and the same six again: what comes next? Each position is a letter and the one before it.
#
# * ``causal_self_attention``: every position is query and memory, and sees none after it; for language models.


def repeat(rng, batch):
    letters = np.tile(letters_of(rng, batch, 6), 2)
    known = joined(hot(letters, 12), hot(earlier(letters, 12), 13))[:, :-1]
    answers = np.where(np.arange(11) < 5, -1, letters[:, 1:])
    shown = [LETTERS[a] for a in letters[0, :-1]]
    return Batch(np.empty((batch, 0, 25), np.float32), known, answers, shown, shown)


learn(repeat, causal_self_attention={"heads": 2})

# %%
# Drawings
# --------
# Four shapes lie somewhere on a board of four by four cells, each in a colour. A shape asks for its colour:
#
# * ``hard``: looks at one cell, and learns by chance and reward; where reading costs, or one place must be named.

SHAPES, COLOURS = "disc box star ring".split(), "red blue green grey".split()


def board(rng, batch):
    """Return a memory of the cells, the colour of each shape, and labels of the first board."""
    at = rng.permuted(np.tile(np.arange(16), (batch, 1)), axis=1)[:, :4]
    colours = rng.integers(4, size=(batch, 4))
    cells, labels = np.zeros((batch, 16, 8), np.float32), ["-"] * 16
    for shape in range(4):
        cells[np.arange(batch), at[:, shape], shape] = 1
        cells[np.arange(batch), at[:, shape], 4 + colours[:, shape]] = 1
        labels[at[0, shape]] = f"{COLOURS[colours[0, shape]]} {SHAPES[shape]}"
    return joined(cells, places(batch, 16)), colours, labels


def drawing(rng, batch):
    memory, colours, labels = board(rng, batch)
    asked = rng.integers(4, size=(batch, 4))
    rows = [SHAPES[shape] for shape in asked[0]]
    return Batch(memory, hot(asked, 4), np.take_along_axis(colours, asked, axis=1), labels, rows)


learn(drawing, hard={"width": 32})

# %%
# Some questions are not about the drawing: "box or ring" needs no look.
#
# * ``gated_additive``: a gate closes the context where the query knows already; for captions, whose small words
#   follow from the words before.


def caption(rng, batch):
    memory, colours, labels = board(rng, batch)
    asked = rng.integers(8, size=(batch, 6))
    answers = np.where(asked < 4, np.take_along_axis(colours, asked % 4, axis=1), asked)
    rows = [[*SHAPES, "the", "a", "of", "on"][word] for word in asked[0]]
    return Batch(memory, hot(asked, 8), answers, labels, rows)


learn(caption, gated_additive={"width": 32})

# %%
# The colour of the star is all that is ever wanted:
#
# * ``pooling``: no query at all; turns a sequence or a picture into one vector, for a classifier.


def star(rng, batch):
    memory, colours, labels = board(rng, batch)
    return Batch(memory, np.empty((batch, 1, 0), np.float32), colours[:, 2:3], labels, ["star?"])


learn(star, pooling={"width": 32})

# %%
# All of them
# -----------

for name, task, share, seconds in table:
    print(f"{name:22} {task:8} {share:7.1%} right  {seconds:4.1f} s")
left_out = set(fastattn.variants.names()) - {row[0] for row in table}
print(f"{len(table)} mechanisms; not on this page: {', '.join(sorted(left_out)) or 'none'}")
plt.show()
