r"""
The feed-forward score: sigmoid, tanh, relu
===========================================

Attention began with a score that is a small feed-forward network: one hidden layer, and one number out of it (Bahdanau,
Cho, Bengio 2015, appendix A.1.2),

.. math::
   e_{ij} = v \cdot a(q_i W_q + k_j W_k + b), \qquad a \in \{\tanh, \sigma, \mathrm{relu}\}

The paper has tanh and no bias. What do the other two change?
"""

# %%
# By hand, and in one call
# ------------------------
# As three array operations the hidden layer is an array of (queries, keys, width). The kernels compute the same tile by
# tile, and store neither it nor the scores.

import matplotlib.pyplot as plt
import numpy as np

import fastattn
from fastattn import viz
from fastattn.layers import Layer, Linear
from fastattn.losses import cross_entropy_vjp
from fastattn.optim import Adam

ACTIVATIONS = {"sigmoid": lambda x: 1 / (1 + np.exp(-x)), "tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}


def by_hand(query, key, v, w_query, w_key, b, activation):
    hidden = ACTIVATIONS[activation]((query @ w_query)[:, None] + key @ w_key + b)  # (Tq, Tk, width)
    e = np.exp(hidden @ v)
    return e / e.sum(axis=1, keepdims=True) @ key


rng = np.random.default_rng(0)
query, key = rng.normal(size=(5, 6)), rng.normal(size=(9, 4))
v, w_query, w_key, b = (rng.normal(size=shape) for shape in (16, (6, 16), (4, 16), 16))
for activation in ACTIVATIONS:
    score = fastattn.scores.Additive(v, w_query, w_key, b, activation)
    context = fastattn.attention(query, key, key, score=score)
    difference = np.abs(context - by_hand(query, key, v, w_query, w_key, b, activation)).max()
    print(f"{activation:8} largest difference {difference:.0e}")

# %%
# Three shapes
# ------------
# One hidden unit adds a step to the score (sigmoid, tanh) or a ramp (relu), where query and key together pass a
# threshold. Sigmoid and tanh are the same function but for a scale and a shift,
# :math:`\tanh x = 2 \sigma(2 x) - 1`; the shift moves all scores of a query alike, which a softmax does not see. So
# these two can say the same, and differ in how they learn: at 0 the slope of sigmoid is a quarter of that of tanh.

x = np.linspace(-4, 4, 200)
_, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for name, function in ACTIVATIONS.items():
    left.plot(x, function(x), label=name)
    right.plot(x, np.gradient(function(x), x), label=name)
left.set(title="activation", ylim=(-1.2, 2.2))
right.set(title="its slope")
left.legend()
plt.show()

# %%
# A task for a network
# --------------------
# The memory holds ten numbers from 0 to 1, each with a label; the question is a number, and the answer is the label of
# the *nearest* one. A product of query and key grows with the key and cannot be largest in the middle: here the score
# must be a hill over the key whose top moves with the query, and the hidden units have to build it of steps or ramps.


def samples(rng, batch):
    numbers, labels = rng.permuted(np.tile(np.arange(10), (batch, 1)), axis=1) / 9, rng.integers(8, size=(batch, 10))
    at = rng.integers(10, size=(batch, 8))
    asked = np.take_along_axis(numbers, at, axis=1) + rng.uniform(-0.04, 0.04, (batch, 8))
    memory = np.concatenate([numbers[..., None], np.eye(8)[labels]], axis=-1)
    return memory.astype(np.float32), asked[..., None].astype(np.float32), np.take_along_axis(labels, at, axis=1)


class Nearest(Layer):
    """Attention straight from what is given: keys are the numbers, values the labels."""

    def __init__(self, mechanism, **options):
        rng = np.random.default_rng(0)
        self.attention = fastattn.create(mechanism, query_width=1, memory_width=1, rng=rng, **options)
        self.answer = Linear(8, 8, rng=rng)

    def forward(self, memory, asked, **options):
        prepared = self.attention.prepare(memory[..., :1], values=memory[..., 1:])
        return self.attention.forward(asked, prepared, **options)

    def learn(self, memory, asked, answers):
        prepared = self.attention.prepare(memory[..., :1], values=memory[..., 1:])
        context, attention_backward = self.attention.vjp(asked, prepared)
        loss, count, answer_backward = cross_entropy_vjp(context, self.answer, answers)
        attention_backward(answer_backward(1 / count))
        return loss / count

    def right(self, memory, asked, answers):
        return (self.answer.forward(self.forward(memory, asked)).argmax(axis=-1) == answers).mean()


def fit(mechanism, steps=600, **options):
    rng, model = np.random.default_rng(1), Nearest(mechanism, **options)
    optimizer, losses = Adam(model.parameters(), rate=0.03), []
    for _ in range(steps):
        losses.append(model.learn(*samples(rng, 64)))
        optimizer.step()
    return model, losses, model.right(*samples(np.random.default_rng(2), 500))


product = fit("general")[2]
print(f"a product of query and key: {product:.1%} of the answers right")

# %%
# By width and activation
# -----------------------
# Two hidden units are too few for a hill that moves; from four on all three activations build one:

widths, fitted = (2, 4, 8, 16, 32), {}
print("width   ", *(f"{width:6}" for width in widths))
for activation in ACTIVATIONS:
    for width in widths:
        fitted[activation, width] = fit("additive", width=width, activation=activation, bias=True)
    print(f"{activation:8}", *(f"{fitted[activation, width][2]:6.1%}" for width in widths))

# %%
# How they get there, at width 16; a mean of 20 steps:

_, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
for activation in ACTIVATIONS:
    losses = np.array(fitted[activation, 16][1]).reshape(-1, 20).mean(axis=1)
    axes.plot(np.arange(len(losses)) * 20, losses, label=activation)
axes.set(xlabel="steps of training", ylabel="loss", ylim=(0, None))
axes.legend()
plt.show()

# %%
# And what they have built: weights of 41 keys from 0 to 1, a row for each query. A ridge along the diagonal is what was
# wanted.

grid = np.linspace(0, 1, 41, dtype=np.float32)[:, None]
_, panels = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
for axes, activation in zip(panels, ACTIVATIONS):
    attention = fitted[activation, 16][0].attention
    weights = attention.forward(grid[None], attention.prepare(grid[None]), return_weights=True).weights[0]
    axes.imshow(weights, cmap="cividis", vmin=0, origin="lower", extent=(0, 1, 0, 1))
    axes.set(title=activation, xlabel="key")
panels[0].set_ylabel("query")
plt.show()

# %%
# One sample of the task, at width 16:

memory, asked, _ = samples(np.random.default_rng(3), 1)
columns, rows = ([f"{number:.2f}" for number in numbers] for numbers in (memory[0, :, 0], asked[0, :, 0]))
_, panels = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
for axes, activation in zip(panels, ACTIVATIONS):
    weights = fitted[activation, 16][0].forward(memory, asked, return_weights=True).weights[0]
    viz.heatmap(weights, columns, rows, title=activation, ax=axes, numbers=False)
plt.show()

# %%
# Which one
# ---------
# * *tanh*, unless there is a reason: it is the published one, and what it computes is bounded and centred.
# * *sigmoid* says the same more slowly; it is there for models that were trained with it.
# * *relu* needs no exponentials, so that it is the cheapest, and its scores are not bounded.
#
# An activation that is not among them is a score of one's own: :doc:`plot_write_a_plugin`.
