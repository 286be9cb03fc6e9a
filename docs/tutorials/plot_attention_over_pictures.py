r"""
Attention over pictures
=======================

A picture becomes a memory when it is cut into cells, each with a vector of what is there: a convolutional network's
output is such a grid. Then a decoder that writes a caption looks at another place for each word (Xu et al. 2015), and
the weights of a word, put back into the grid, can be drawn over the picture.

Here the pictures are drawn by the program itself, and a network with one layer of convolution, attention, and one layer
for the words learns to say what is on them in seconds.
"""

# %%
# Pictures and captions
# ---------------------
# Three of five shapes, one in each third from left to right, at any height, light on a dark noisy ground. The caption
# says, also from left to right, what they are: "a ring, a cross, a box".

import matplotlib.pyplot as plt
import numpy as np

import fastattn
from fastattn import viz
from fastattn.grid import Grid
from fastattn.layers import Layer, Linear
from fastattn.losses import cross_entropy_vjp
from fastattn.optim import Adam
from fastattn.positions import Sinusoidal2D

DRAWN = {
    "box": ["########", "#......#", "#......#", "#......#", "#......#", "#......#", "#......#", "########"],
    "cross": ["##....##", ".##..##.", "..####..", "...##...", "...##...", "..####..", ".##..##.", "##....##"],
    "ring": ["..####..", ".##..##.", "##....##", "#......#", "#......#", "##....##", ".##..##.", "..####.."],
    "tee": ["########", "########", "...##...", "...##...", "...##...", "...##...", "...##...", "...##..."],
    "roof": ["...##...", "...##...", "..####..", "..#..#..", ".##..##.", ".#....#.", "##....##", "#......#"],
}
SHAPES = list(DRAWN)
BITMAPS = np.array([[[sign == "#" for sign in row] for row in rows] for rows in DRAWN.values()], np.float32)
WORDS = ["a", ",", *SHAPES]
HEIGHT, WIDTH, SIDE = 32, 48, 8


def pictures(rng, batch):
    """Return pictures (B, 32, 48) and captions (B, 8), numbers of words."""
    seen = rng.uniform(0, 0.35, (batch, HEIGHT, WIDTH)).astype(np.float32)
    kinds = rng.integers(len(SHAPES), size=(batch, 3))
    for picture, shapes in zip(seen, kinds):
        for third, shape in enumerate(shapes):
            top, left = rng.integers(HEIGHT - SIDE), 16 * third + rng.integers(16 - SIDE)
            picture[top : top + SIDE, left : left + SIDE] += 0.6 * BITMAPS[shape]
    captions = np.tile([0, 0, 1], (batch, 3))[:, :8]
    captions[:, 1::3] = kinds + 2
    return seen, captions


seen, captions = pictures(np.random.default_rng(0), 4)
_, panels = plt.subplots(1, 4, figsize=(11, 2.2), layout="constrained")
for axes, picture, caption in zip(panels, seen, captions):
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
    axes.set_title(" ".join(WORDS[word] for word in caption).replace(" ,", ","), fontsize=9)
    axes.set_axis_off()
plt.show()

# %%
# From pictures to a memory
# -------------------------
# A convolution is a matrix that acts on every window of the picture. Windows of 10 by 10 pixels, two apart, make 12
# rows of 20 cells. Pixels are taken to a mean near 0 and a spread near 1, from which a network learns sooner.
# ``Grid`` makes a memory (B, 240, 32) of features (B, 12, 20, 32) and maps of weights, also where the pictures of a
# batch have different sizes; ``Sinusoidal2D`` adds what row and what column a cell is in.

FEATURES, WINDOW, STRIDE = 32, 10, 2


def windows(pictures):
    pixels, size = (pictures - 0.2) * 4, (WINDOW, WINDOW)
    found = np.lib.stride_tricks.sliding_window_view(pixels, size, axis=(1, 2))[:, ::STRIDE, ::STRIDE]
    return found.reshape(*found.shape[:3], WINDOW * WINDOW)


print(windows(seen).shape)


class Captioner(Layer):
    """Each word from the word before, its number, and what attention finds."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.convolution = Linear(WINDOW * WINDOW, FEATURES, rng=rng)
        self.places = Sinusoidal2D(FEATURES)
        self.ask = Linear(len(WORDS) + 9, FEATURES, rng=rng)
        widths = {"query_width": FEATURES, "memory_width": FEATURES, "width": 32}
        self.attention = fastattn.create("gated_additive", **widths, rng=rng)
        self.inner, self.answer = Linear(FEATURES, FEATURES, rng=rng), Linear(FEATURES, len(WORDS), rng=rng)

    def questions(self, captions):
        before = np.concatenate([np.full((len(captions), 1), 1), captions[:, :-1]], axis=1)
        numbers = np.broadcast_to(np.eye(9)[: captions.shape[1]], (*captions.shape, 9))
        return np.concatenate([np.eye(len(WORDS))[before], numbers], axis=-1, dtype=np.float32)

    def learn(self, pictures, captions):
        features, convolution_backward = self.convolution.vjp(windows(pictures))
        grid = Grid(np.tile(features.shape[1:3], (len(pictures), 1)))
        memory = grid.flatten(self.places.add(np.maximum(features, 0)))
        queries, ask_backward = self.ask.vjp(self.questions(captions))
        prepared = self.attention.prepare(memory, grid.lengths)
        context, attention_backward = self.attention.vjp(queries, prepared)
        found, inner_backward = self.inner.vjp(context + queries)
        loss, count, answer_backward = cross_entropy_vjp(np.maximum(found, 0), self.answer, captions)
        d = inner_backward(answer_backward(1 / count) * (found > 0))
        d_queries, d_memory = attention_backward(d)
        ask_backward(d + d_queries)
        convolution_backward(grid.unflatten(d_memory) * (features > 0))
        return loss / count

    def say(self, pictures):
        """Return captions, the likeliest word at each step, and the map (B, 8, 12, 20) of each word."""
        features = np.maximum(self.convolution.forward(windows(pictures)), 0)
        grid = Grid(np.tile(features.shape[1:3], (len(pictures), 1)))
        prepared = self.attention.prepare(grid.flatten(self.places.add(features)), grid.lengths)
        said, weights, state = np.zeros((len(pictures), 0), int), [], self.attention.start(prepared)
        for t in range(8):
            asked = self.questions(np.concatenate([said, np.zeros((len(pictures), 1), int)], axis=1))[:, t]
            query = self.ask.forward(asked)
            context, found, state = self.attention.step(query, prepared, state)
            weights.append(found)
            logits = self.answer.forward(np.maximum(self.inner.forward(context + query), 0))
            said = np.concatenate([said, logits.argmax(axis=-1)[:, None]], axis=1)
        return said, grid.maps(np.stack(weights, axis=1))


# %%
# Training
# --------

rng, model, losses = np.random.default_rng(1), Captioner(), []
optimizer = Adam(model.parameters(), rate=0.004)
for _ in range(300):
    losses.append(model.learn(*pictures(rng, 32)))
    optimizer.step()
seen, captions = pictures(np.random.default_rng(2), 200)
said, maps = model.say(seen)
print(f"shapes of 200 new pictures: {(said == captions)[:, 1::3].mean():.1%} right")

_, axes = plt.subplots(figsize=(6, 3), layout="constrained")
axes.plot(np.reshape(losses, (-1, 10)).mean(axis=1))
axes.set(xlabel="ten steps of training", ylabel="loss", ylim=(0, None))
plt.show()

# %%
# Where each word looks
# ---------------------
# ``viz.overlay`` draws the map of each word over the picture. Nobody has said where the shapes are.


def draw(number):
    figure = plt.figure(figsize=(11, 3.4), layout="constrained")
    viz.overlay(seen[number].clip(0, 1), maps[number], [WORDS[word] for word in said[number]], columns=5, figure=figure)
    plt.show()


draw(0)

# %%
# Another one:

draw(1)

# %%
# The gate
# --------
# "a" and the comma follow from the words before; nothing needs to be looked at. ``gated_additive`` has a gate for
# that, :math:`\beta = \sigma(q \cdot w + b)`, by which the context is multiplied. This is what it has learnt:

gate = model.attention.gate
openings = 1 / (1 + np.exp(-gate.forward(model.ask.forward(model.questions(said[:1])))[0, :, 0]))
print("  ".join(f"{word} {opening:.2f}" for word, opening in zip([WORDS[word] for word in said[0]], openings)))
