r"""
Attention without a query
=========================

Introductions to attention by Keras often begin with a layer that asks nothing. It scores each state of a recurrent
network by one ``Dense(1)``, takes the softmax over time, and returns the weighted sum of the states, for a classifier
to read:

.. math::
   \alpha = \mathrm{softmax}_j(v \cdot h_j), \qquad c = \sum_j \alpha_j h_j

Here it is one line, ``fastattn.create("pooling", memory_width=..., width=None)``.
"""

# %%
# By hand, and in one call
# ------------------------
# Without a random generator ``v`` starts at zero, so that all states weigh the same and training begins with their
# mean. The bias of ``Dense(1)`` is left out: it moves all scores alike, which no softmax sees.

import matplotlib.pyplot as plt
import numpy as np

import fastattn
from fastattn import viz
from fastattn.layers import GRU, Embedding, Layer, Linear
from fastattn.losses import cross_entropy_vjp
from fastattn.optim import Adam

layer = fastattn.create("pooling", memory_width=6, width=None, rng=np.random.default_rng(0))
states, lengths = np.random.default_rng(1).normal(size=(2, 9, 6)).astype(np.float32), np.array([9, 5])
context = layer.pool(layer.prepare(states, lengths))


def by_hand(states, v):
    e = np.exp(states @ v)
    return (e / e.sum()) @ states


v = layer.parameters()["v"].value
difference = max(np.abs(by_hand(h[:n], v) - c).max() for h, n, c in zip(states, lengths, context))
print(f"contexts {context.shape}, largest difference {difference:.0e}")

# %%
# ``pool_vjp`` returns the backward pass too; it gives the gradient of the states, and adds to that of ``v``:

context, backward = layer.pool_vjp(layer.prepare(states, lengths))
d_states = backward(np.ones_like(context))
print(f"gradients {d_states.shape} of the states and {layer.parameters()['v'].gradient.shape} of v")

# %%
# A needle in a sentence
# ----------------------
# Sentences of 10 to 60 words; one of them is *about*, and the class of the sentence is the word behind it. The same
# words stand everywhere else too, where they mean nothing. A recurrent network reads the sentence. What does the
# classifier read of it: the last state, the mean of all states, or their pool?

WORDS = "about tea sun rain wind snow night sea fire bread song".split()


def sentences(rng, batch):
    lengths = rng.integers(10, 61, size=batch)
    words, at = rng.integers(1, len(WORDS), size=(batch, lengths.max())), rng.integers(lengths - 1)
    words[np.arange(batch), at] = 0
    return words, lengths, words[np.arange(batch), at + 1]


class Classifier(Layer):
    def __init__(self, read):
        rng = np.random.default_rng(0)
        self.read, self.embedding, self.network = read, Embedding(len(WORDS), 16, rng=rng), GRU(16, 24, rng=rng)
        self.pooling = fastattn.create("pooling", memory_width=24, width=None)
        self.answer = Linear(24, len(WORDS), rng=rng)

    def summary(self, states, lengths):
        """Return one vector of all states, and its backward pass."""
        batch = np.arange(len(states))
        if self.read == "pool":
            return self.pooling.pool_vjp(self.pooling.prepare(states, lengths))
        inside = (np.arange(states.shape[1]) < lengths[:, None])[..., None] / lengths[:, None, None]
        if self.read == "last":
            inside[...] = 0
            inside[batch, lengths - 1] = 1
        inside = inside.astype(np.float32)
        return (inside * states).sum(axis=1), lambda d: inside * d[:, None]

    def learn(self, words, lengths, classes):
        vectors, embedding_backward = self.embedding.vjp(words)
        states, _, network_backward = self.network.vjp(vectors, lengths=lengths)
        summary, summary_backward = self.summary(states, lengths)
        loss, count, answer_backward = cross_entropy_vjp(summary, self.answer, classes)
        embedding_backward(network_backward(summary_backward(answer_backward(1 / count)))[0])
        return loss / count

    def states(self, words, lengths):
        return self.network.forward(self.embedding.forward(words), lengths=lengths)[0]

    def right(self, words, lengths, classes):
        summary, _ = self.summary(self.states(words, lengths), lengths)
        return self.answer.forward(summary).argmax(axis=-1) == classes


unseen, models, shares = sentences(np.random.default_rng(2), 1000), {}, {}
_, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
for read in ("last", "mean", "pool"):
    rng, model, losses = np.random.default_rng(1), Classifier(read), []
    optimizer = Adam(model.parameters(), rate=0.005)
    for step in range(1, 401):
        losses.append(model.learn(*sentences(rng, 64)))
        optimizer.step()
        if step in (100, 400):
            right = model.right(*unseen)
            short, long = right[unseen[1] < 25].mean(), right[unseen[1] > 45].mean()
            shares[read, step] = right.mean()
            print(f"{read}, {step} steps: {short:6.1%} of sentences below 25 words, {long:6.1%} of those above 45")
    models[read] = model
    axes.plot(np.arange(40) * 10, np.reshape(losses, (-1, 10)).mean(axis=1), label=read)
axes.set(xlabel="steps of training", ylabel="loss", ylim=(0, None))
axes.legend()
plt.show()

# %%
# For the last state the network has to learn to carry the word to the end, which takes longest; the mean dilutes it by
# all other words, the more the longer the sentence. The pool takes the state that matters out of however many there
# are: it learns first, and it says where.
#
# Where it looks
# --------------
# Weights of eight short sentences, one a row, and where the word stands that they are about:

words, lengths, classes = sentences(np.random.default_rng(3), 200)
some = np.flatnonzero(lengths <= 16)[:8]
words, lengths, classes = words[some, :16], lengths[some], classes[some]
pooling = models["pool"].pooling
prepared = pooling.prepare(models["pool"].states(words, lengths), lengths)
found = pooling.pool(prepared, return_weights=True)
labels = [f"{WORDS[c]} at {int((row == 0).argmax()) + 1}" for row, c in zip(words, classes)]
_, axes = plt.subplots(figsize=(7, 4), layout="constrained")
viz.heatmap(found.weights, [str(place) for place in range(16)], labels, ax=axes, numbers=False)
plt.show()

# %%
# With a width there is a hidden layer between, :math:`v \cdot \tanh(W h_j + b)`, as in hierarchical attention networks
# (Yang et al. 2016): ``fastattn.create("pooling", memory_width=24, width=16, rng=rng)``. All else stays as it is.
