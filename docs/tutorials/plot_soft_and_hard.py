r"""
Soft and hard
=============

Soft attention reads the whole memory, each position with its weight :math:`p_j`, and hands on the mean
:math:`c = \sum_j p_j m_j`. Hard attention reads one position, :math:`s \sim p`, and hands on :math:`c = m_s` (Xu et al.
2015). The mean has a derivative; a choice has none. So soft attention is trained like everything else, and for hard
attention there are three ways around: a *straight-through* gradient, *REINFORCE*, and the *exact* likelihood. Between
the two stand sparse normalizers, whose weights are zero nearly everywhere.

All five are trained here on one task.
"""

# %%
# The task
# --------
# Twelve cells, each with a letter and a digit; a letter asks for its digit. One cell holds the answer, and the other
# eleven are noise.

import matplotlib.pyplot as plt
import numpy as np

import fastattn
from fastattn import viz
from fastattn.layers import Layer, Linear
from fastattn.losses import cross_entropy_vjp, log_softmax, marginal_likelihood_vjp, token_losses
from fastattn.optim import Adam
from fastattn.variants.hard import MovingBaseline, reinforce

LETTERS, WIDTH, BATCH, STEPS = "abcdefghijkl", 32, 64, 400


def samples(rng, batch):
    """Return memory (B, 12, 22), questions (B, 4, 12) and answers (B, 4) as numbers, and labels of the first."""
    letters = rng.permuted(np.tile(np.arange(12), (batch, 1)), axis=1)
    digits, at = rng.integers(10, size=(batch, 12)), rng.integers(12, size=(batch, 4))
    asked = np.take_along_axis(letters, at, axis=1)
    one = np.eye(12, dtype=np.float32)
    memory = np.concatenate([one[letters], one[digits][..., :10]], axis=-1)
    labels = [f"{LETTERS[a]}{d}" for a, d in zip(letters[0], digits[0])], [LETTERS[a] for a in asked[0]]
    return memory, one[asked], np.take_along_axis(digits, at, axis=1), labels


class Model(Layer):
    """Memory and questions through a matrix each, attention, and the answer from the context."""

    def __init__(self, mechanism, **options):
        rng = np.random.default_rng(0)
        self.read, self.ask = Linear(22, WIDTH, rng=rng), Linear(12, WIDTH, rng=rng)
        widths = {"query_width": WIDTH, "memory_width": WIDTH, "width": WIDTH}
        self.attention = fastattn.create(mechanism, **widths, rng=rng, **options)
        self.answer = Linear(WIDTH, 10, rng=rng)

    def inputs(self, memory, asked):
        """Return queries and the prepared memory, and the function that takes their gradients back."""
        memory, read_backward = self.read.vjp(memory)
        queries, ask_backward = self.ask.vjp(asked)

        def backward(d_queries, d_memory):
            ask_backward(d_queries)
            read_backward(d_memory)

        return queries, self.attention.prepare(memory), backward

    def test(self, memory, asked, answers):
        """Return the share of right answers, with the weights as they are and with the likeliest position alone."""
        queries, prepared = self.ask.forward(asked), self.attention.prepare(self.read.forward(memory))
        found = self.attention.forward(queries, prepared, return_weights=True)
        best = found.weights.argmax(axis=-1)
        contexts = found.context, np.take_along_axis(prepared.memory, best[..., None], axis=1)
        shares = [(self.answer.forward(c).argmax(axis=-1) == answers).mean() for c in contexts]
        return *shares, found.weights


# %%
# Soft
# ----
# Forward, loss, backward. With ``normalizer="sparsemax"`` the same function trains sparse attention.


def soft(model, memory, asked, answers, rng):
    queries, prepared, inputs_backward = model.inputs(memory, asked)
    context, attention_backward = model.attention.vjp(queries, prepared)
    _, count, answer_backward = cross_entropy_vjp(context, model.answer, answers)
    inputs_backward(*attention_backward(answer_backward(1 / count)))


# %%
# Straight through
# ----------------
# With seeds, ``hard`` draws: to each logarithm of a weight noise of Gumbel's distribution is added, and the largest
# sum wins. In the backward pass the choice is taken for a softmax of these sums, which it nearly is (Jang, Gu, Poole
# 2017). The gradient is biased, and everything else stays as it was.


def straight_through(model, memory, asked, answers, rng):
    queries, prepared, inputs_backward = model.inputs(memory, asked)
    state = model.attention.start(prepared, seeds=rng.integers(2**31, size=BATCH))
    context, attention_backward = model.attention.vjp(queries, prepared, state=state)
    _, count, answer_backward = cross_entropy_vjp(context, model.answer, answers)
    inputs_backward(*attention_backward(answer_backward(1 / count)))


# %%
# REINFORCE
# ---------
# What went well is made likelier: the gradient of :math:`\log p(s)` times the reward, here the log-likelihood of the
# answers. It is right on average, and noisy; the mean reward so far is taken off to make it less so, and a little
# entropy is rewarded so that the search does not end too soon. What has to go back is in the state of the steps.


def by_reward(model, memory, asked, answers, rng):
    queries, prepared, inputs_backward = model.inputs(memory, asked)
    state = model.attention.start(prepared, seeds=rng.integers(2**31, size=BATCH))
    contexts, backwards = [], []
    for t in range(queries.shape[1]):
        context, _, state, backward = model.attention.step_vjp(queries[:, t], prepared, state)
        contexts.append(context)
        backwards.append(backward)
    context = np.stack(contexts, axis=1)
    rewards = -token_losses(context, model.answer, answers).sum(axis=1).astype(np.float32)
    _, count, answer_backward = cross_entropy_vjp(context, model.answer, answers)
    d_context, d_queries = answer_backward(1 / count), np.empty_like(queries)
    d_state = reinforce(state, model.baseline.advantage(rewards) / count, entropy=0.1 / count)
    for t in reversed(range(queries.shape[1])):
        d_queries[:, t], d_state = backwards[t](d_context[:, t], None, d_state)
    inputs_backward(d_queries, model.attention.finish(prepared))


# %%
# Exact
# -----
# The memory is short, so the likelihood of an answer can be summed over all choices, :math:`p(y) = \sum_j p_j\,
# p(y | m_j)`, and has a derivative (Wu, Shapiro, Cotterell 2018). The mean is now outside: of predictions, one for each
# position, and not of what is read. The price is one prediction for each position of the memory.


def exact(model, memory, asked, answers, rng):
    queries, prepared, inputs_backward = model.inputs(memory, asked)
    output, attention_backward = model.attention.vjp(queries, prepared, return_weights=True)
    logits, answer_backward = model.answer.vjp(prepared.memory)
    predicted = log_softmax(logits)  # (B, S, digits)
    said = np.eye(10, dtype=np.float32)[answers]  # (B, T, digits)
    total, likelihood_backward = marginal_likelihood_vjp(output.weights, said @ predicted.swapaxes(1, 2))
    d_weights, d_likelihoods = likelihood_backward(np.full_like(total, -1 / total.size))
    d_predicted = d_likelihoods.swapaxes(1, 2) @ said
    d_logits = d_predicted - np.exp(predicted) * d_predicted.sum(axis=-1, keepdims=True)
    d_queries, d_memory = attention_backward(None, d_weights)
    inputs_backward(d_queries, d_memory + answer_backward(d_logits))


# %%
# Five models
# -----------
# Same sizes, same start, same samples. The table says how many of 800 new questions are answered right with the
# weights that the mechanism has, and how many when the likeliest position is read alone: whoever wants one position in
# the end should train for one. The last column counts the positions that are read for a question.

ways = {
    "soft": (soft, Model("additive")),
    "sparse": (soft, Model("additive", normalizer="sparsemax")),
    "straight through": (straight_through, Model("hard")),
    "reward": (by_reward, Model("hard", training="reinforce")),
    "exact": (exact, Model("additive")),
}
unseen = samples(np.random.default_rng(2), 200)
curves, maps = {name: [] for name in ways}, {}
for name, (learn, model) in ways.items():
    rng, optimizer, model.baseline = np.random.default_rng(1), Adam(model.parameters(), rate=0.005), MovingBaseline()
    for step in range(STEPS + 1):
        if step % 20 == 0:
            whole, one, weights = model.test(*unseen[:3])
            curves[name].append(100 * one)
        if step == 60:
            maps[name] = weights[0]
        learn(model, *samples(rng, BATCH)[:3], rng)
        optimizer.step()
    reads = (weights > 0.001).sum(axis=-1).mean()
    print(f"{name:16}  {whole:6.1%} right  {one:6.1%} right by one position  reads {reads:4.1f}")

# %%
# How they learn: the share that one position answers right, over the steps of training.

_, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
for name, curve in curves.items():
    axes.plot(np.arange(len(curve)) * 20, curve, label=name)
axes.set(xlabel="steps of training", ylabel="right by one position, percent")
axes.legend()
plt.show()

# %%
# What they look at for the same four questions after 60 steps, when not all of them know yet where the answer is. In
# the end all maps are as that of the exact one:

columns, rows = unseen[3]
_, panels = plt.subplots(2, 3, figsize=(11, 4.4), layout="constrained")
panels.flat[-1].set_axis_off()
for axes, name in zip(panels.flat, ways):
    viz.heatmap(maps[name], columns, rows, title=name, ax=axes, numbers=False)
plt.show()

# %%
# When to take which
# ------------------
# * *Soft*, unless there is a reason: nothing is drawn, and the gradient is exact.
# * *Sparse*, where reading should be narrow and training easy: weights are zero, not small, and it is still soft.
# * *Straight through*, where one position must be read and no reward is at hand.
# * *Reward*, where what counts is not differentiable at all, such as the score of a whole sentence.
# * *Exact*, where the memory is short enough for a prediction from each position: hard attention that trains as
#   calmly as soft attention does. In an encoder-decoder it is ``kind = "wu"``.
