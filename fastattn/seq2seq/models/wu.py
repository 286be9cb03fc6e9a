"""The encoder-decoder of Wu, Shapiro and Cotterell 2018: hard attention, trained by its exact likelihood."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fastattn import variants
from fastattn._allocator import in_kept_memory
from fastattn._arrays import Array
from fastattn._kernels import core
from fastattn.attention import AttentionOutput
from fastattn.functional import exp, tanh
from fastattn.layers import LSTM, Bidirectional, Embedding, Linear
from fastattn.losses import log_softmax, marginal_likelihood, marginal_likelihood_vjp
from fastattn.seq2seq.models.model import (
    BatchLike,
    Model,
    State,
    check_sentences,
    check_tokens,
    decoder_inputs,
    dropping,
    padded,
)
from fastattn.seq2seq.models.randomness import Place
from fastattn.seq2seq.models.recurrence import LSTMStep, Walk
from fastattn.seq2seq.models.sentences import check_batch, length_mask
from fastattn.seq2seq.schema import Section, share, size
from fastattn.variants import AttentionState, Prepared

__all__ = ["Wu", "WuConfig"]


@dataclass(frozen=True)
class WuConfig(Section, section="model"):
    """Settings of `Wu`; the default sizes are ours.

    Attributes
    ----------
    embedding, hidden : int
        Widths E of embeddings and H of one direction's states, and of the decoder's.
    readout_width : int
        Width F of the layer before the output.
    dropout : float
        Share of the elements of embeddings and of both sides' states dropped in training.
    """

    kind: Literal["wu"] = "wu"
    embedding: int = size(200)
    hidden: int = size(200)
    readout_width: int = size(200)
    dropout: float = share(0.2)


@dataclass(frozen=True)
class WuState(State):
    """The decoder's h and c (B, H), and the source that is looked back at."""

    hidden: Array
    cell: Array
    memory: Prepared


class Wu(Model):
    """Bidirectional LSTM; LSTM decoder; one source position for each target token, summed over in the likelihood.

    ::

        h_t = LSTM(h_{t-1}; E y_{t-1})                              without a context, so that steps are independent
        p(a_t = s) = softmax_s(h_t T m_s)
        p(y_t | a_t = s) = softmax(tanh(h_t V_h + m_s V_m + b) W + d)
        p(y_t) = sum_s p(a_t = s) p(y_t | a_t = s)

    with m_s both directions' states of position s; the first c is a linear map of the encoder's last, the first h its
    tanh. The sum over all sequences of positions is the product over t of these sums, so that training needs no
    samples. Soft attention would take the mean of the m_s instead.

    Parameters
    ----------
    config : WuConfig
    source_size, target_size : int
    rng : numpy.random.Generator
    dtype : dtype

    Notes
    -----
    The output layer is computed for every position of the source: B T S (2 F + 2 F V) operations, for alphabets of
    hundreds of signs rather than vocabularies of thousands; the backward pass computes it once more in place of keeping
    B T S (F + V) numbers. There is no label smoothing, as the target's distribution is a mixture.

    References
    ----------
    Wu, Shapiro, Cotterell, "Hard Non-Monotonic Attention for Character-Level Transduction", EMNLP 2018,
    arXiv:1808.10024: sections 2 and 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.seq2seq import WuConfig, build
    >>> model = build(WuConfig(embedding=8, hidden=16, readout_width=8), 10, 12, seed=0)
    >>> log_probabilities, state, weights = model.step(np.array([1]), model.encode(np.array([[4, 2]]), np.array([2])))
    >>> log_probabilities.shape, weights.shape
    ((1, 12), (1, 2))
    """

    def __init__(
        self,
        config: WuConfig,
        source_size: int,
        target_size: int,
        *,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        E, H, F = config.embedding, config.hidden, config.readout_width
        more: Any = {"rng": rng, "dtype": dtype}
        self.config = config
        self.source_embedding = Embedding(source_size, E, deviation=E**-0.5, **more)
        self.encoder = Bidirectional(LSTM(E, H, **more), LSTM(E, H, reverse=True, **more))
        self.bridge = Linear(2 * H, H, **more)
        self.target_embedding = Embedding(target_size, E, deviation=E**-0.5, **more)
        self.from_target = Linear(E, 4 * H, **more)
        assert self.from_target.b is not None
        with self.from_target.b.edit() as value:  # the forget gate starts open
            value[H : 2 * H] = 1
        self.cell = LSTMStep(H, **more)
        self.attention = variants.create("general", query_width=H, memory_width=2 * H, **more)
        self.from_state = Linear(H, F, bias=False, **more)
        self.from_memory = Linear(2 * H, F, **more)
        self.projection = Linear(F, target_size, **more)

    def encode(self, source: Array, source_lengths: Array) -> WuState:
        """Return the state before the first target token."""
        check_sentences("source", source, source_lengths)
        x = self.source_embedding.forward(padded(source, source_lengths))
        states, (_, last) = self.encoder.forward(x, None, source_lengths)
        cell = self.bridge.forward(last)
        memory = self.attention.prepare(states, source_lengths, values=self.from_memory.forward(states))
        return WuState(tanh(cell), cell, memory)

    def step(self, tokens: Array, state: WuState) -> tuple[Array, WuState, Array]:
        """Feed one token to each sentence; see `Model.step`. The mixture is taken over the whole vocabulary."""
        x = self.from_target.forward(self.target_embedding.forward(check_tokens(tokens, state)))
        hidden, cell = self.cell.forward(x, state.hidden, state.cell)
        memory = state.memory
        _, weights, _ = self.attention.step(hidden, memory, AttentionState())
        assert weights is not None
        rows, read = np.nonzero(weights)
        entries = rows if memory.rows is None else memory.rows[rows]
        features = tanh(memory.summed[entries, read] + self.from_state.forward(hidden)[rows])
        found = log_softmax(self.projection.forward(features))
        given = np.zeros((*weights.shape, found.shape[-1]), found.dtype)
        given[rows, read] = found
        return mixture(weights, given), WuState(hidden, cell, memory), weights

    def loss(self, batch: BatchLike) -> tuple[float, int]:
        """Return minus the log-probability of all target tokens, teacher-forced, and their number."""
        batch = check_batch(batch)
        run = _Run(self, batch, decoder_inputs(batch), None)
        found = marginal_likelihood(run.weights, run.likelihoods())
        return _total(found[length_mask(batch.target, batch.target_lengths)]), int(np.sum(batch.target_lengths))

    @in_kept_memory
    def loss_vjp(
        self, batch: BatchLike, *, seeds: Array, sampling: float = 0.0
    ) -> tuple[float, int, Callable[[float], None]]:
        """Return the training loss, the number of target tokens, and the function that adds the gradients."""
        batch, inputs, seeds = self.training_inputs(batch, seeds, sampling)
        run = _Run(self, batch, inputs, seeds)
        found, likelihood_back = marginal_likelihood_vjp(run.weights, run.likelihoods())
        counted = length_mask(batch.target, batch.target_lengths)

        @in_kept_memory
        def backward(scale: float = 1.0) -> None:
            d = np.where(counted, found.dtype.type(-scale), found.dtype.type(0))
            run.backward(*likelihood_back(d))

        return _total(found[counted]), int(counted.sum()), backward

    def teacher_forcing(self, batch: BatchLike, *, weights: bool | str = True) -> tuple[Array, Array | None]:
        """Return the log-probability of every target token, and the weights (B, T, S); see `Model.teacher_forcing`."""
        batch = check_batch(batch)
        run = _Run(self, batch, decoder_inputs(batch), None)
        (B, T, S), counted = run.weights.shape, length_mask(batch.target, batch.target_lengths)
        found = mixture(run.weights.reshape(B * T, S), run.likelihoods().reshape(B * T, S)).reshape(B, T)
        return np.where(counted, found, found.dtype.type(0)), np.where(counted[..., None], run.weights, 0)


def _total(log_likelihoods: Array) -> float:
    """Minus the sum, in float64, in order."""
    return float(-np.cumsum(log_likelihoods, dtype=np.float64)[-1])


def mixture(weights: Array, given: Array) -> Array:
    """Return ``log sum_s weights_s e^(given_s)``, (N, ...) of (N, S) and (N, S, ...), in ascending order of s.

    The bits of an element do not depend on the others; where a weight is 0 nothing is read.
    """
    some = (weights != 0).reshape(*weights.shape, *[1] * (given.ndim - 2))
    given = np.where(some, given, given.dtype.type(-np.inf))
    largest = given.max(axis=1)
    terms = weights.reshape(some.shape) * exp(np.where(some, given - largest[:, None], given))
    # The last of the running sums, unlike NumPy's sum, has one order whatever the padding.
    total = np.ascontiguousarray(np.cumsum(terms, axis=1)[:, -1])
    logs = np.empty_like(total)
    core.logarithm(total.reshape(len(total), -1), None, 0, logs.reshape(len(total), -1))
    result: Array = largest + logs
    return result


class _Run:
    """A batch through the model, and back.

    Attributes
    ----------
    weights : array, shape (B, T, S)
        p(a_t = s).
    """

    def __init__(self, model: Wu, batch: BatchLike, inputs: Array, seeds: Array | None) -> None:
        self.model, self.batch = model, batch
        drop, lengths = dropping(model.config.dropout, seeds), np.asarray(batch.source_lengths)
        x, self._source_back = model.source_embedding.vjp(padded(batch.source, lengths))
        x, self._undrop_source = drop(x, Place.SOURCE)
        states, (_, last), self._encoder_back = model.encoder.vjp(x, None, lengths)
        states, self._undrop_states = drop(states, Place.STATES)
        cell, self._bridge_back = model.bridge.vjp(last)
        self._first = tanh(cell)
        y, self._target_back = model.target_embedding.vjp(inputs)
        y, self._undrop_target = drop(y, Place.TARGET)
        part, self._part_back = model.from_target.vjp(y)
        self._walk = Walk(model.cell, part, self._first, cell)
        hidden, self._undrop_hidden = drop(self._walk.states, Place.FEATURES)
        self._memory, self._memory_back = model.from_memory.vjp(states)
        self._state, self._state_back = model.from_state.vjp(hidden)
        prepared = model.attention.prepare(states, lengths, values=self._memory)
        output, self._attention_back = model.attention.vjp(hidden, prepared, return_weights=True)
        assert isinstance(output, AttentionOutput) and output.weights is not None
        self.weights: Array = output.weights
        self._read = np.nonzero(length_mask(batch.source, lengths))  # samples and positions

    def _features(self, t: int) -> tuple[Array, Array, Array, Array]:
        """Samples, positions and targets of step t's pairs, and what the output layer gets of each (N, F)."""
        samples, positions = self._read
        here = np.asarray(self.batch.target_lengths)[samples] > t
        samples, positions = samples[here], positions[here]
        features = tanh(self._state[samples, t] + self._memory[samples, positions])
        return samples, positions, self.batch.target[samples, t], features

    def likelihoods(self) -> Array:
        """Return log p(y_t | a_t = s), (B, T, S)."""
        found = np.zeros(self.weights.shape, self.weights.dtype)
        for t in range(self.batch.target.shape[1]):
            samples, positions, targets, features = self._features(t)
            logs = log_softmax(self.model.projection.forward(features))
            found[samples, t, positions] = logs[np.arange(len(logs)), targets]
        return found

    def backward(self, d_weights: Array, d_likelihoods: Array) -> None:
        """Add the gradients of all parameters."""
        model = self.model
        d_state, d_memory = np.zeros_like(self._state), np.zeros_like(self._memory)
        for t in range(self.weights.shape[1]):
            samples, positions, targets, features = self._features(t)
            logits, projection_back = model.projection.vjp(features)
            d = d_likelihoods[samples, t, positions]
            d_logits = -d[:, None] * exp(log_softmax(logits))
            d_logits[np.arange(len(d)), targets] += d
            d_sum = np.zeros_like(self._memory)
            d_sum[samples, positions] = projection_back(d_logits) * (1 - features * features)
            d_memory += d_sum
            d_state[:, t] = d_sum.sum(axis=1)
        no_context = np.zeros_like(self._state)
        d_hidden, (d_states, _) = self._attention_back(no_context, d_weights)
        d_hidden += self._state_back(d_state)
        d_states = d_states + self._memory_back(d_memory)
        dh, dc = self._walk.backward(self._undrop_hidden(d_hidden))
        self._walk.finish()
        self._target_back(self._undrop_target(self._part_back(self._walk.d_x)))
        d_last = self._bridge_back(dc + dh * (1 - self._first * self._first))
        d_x, _ = self._encoder_back(self._undrop_states(d_states), (np.zeros_like(d_last), d_last))
        self._source_back(self._undrop_source(d_x))
