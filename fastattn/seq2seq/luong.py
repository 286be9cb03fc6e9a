"""The encoder-decoder of Luong, Pham and Manning 2015 with global attention."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn import linear
from fastattn.errors import ArgumentError, ShapeError, describe
from fastattn.functional import tanh
from fastattn.layers import LSTM, Embedding, Linear, Parameter, Stacked
from fastattn.memory import Memory, prepare
from fastattn.scores import Additive, Score
from fastattn.seq2seq.lookback import Lookback
from fastattn.seq2seq.model import Model, Pairs, State, check_sentences, dropping, known, register
from fastattn.seq2seq.randomness import derive
from fastattn.seq2seq.recurrence import LSTMRecord, LSTMStep

__all__ = ["Luong", "LuongConfig"]

Array = NDArray[Any]
_SCORES = ("dot", "general", "concat", "location")


@dataclass(frozen=True)
class LuongConfig:
    """Settings of `Luong`; sizes by default as in the paper's section 4.1.

    Attributes
    ----------
    embedding, hidden : int
        Widths E of embeddings and H of a layer's h and c, and of the attentional vector.
    layers : int
        LSTM layers of the encoder, and of the decoder.
    score : str
        "dot", "general", "concat" or "location".
    input_feeding : bool
        Whether the attentional vector is an input of the next step.
    longest_source : int
        For "location", which has a weight for each position: the most source tokens.
    dropout : float
        Share of the elements of embeddings, outputs of layers and output features dropped in training.
    label_smoothing : float
        Share of the target's probability that training spreads over the vocabulary; the paper has none.
    """

    kind: str = "luong"
    embedding: int = 1000
    hidden: int = 1000
    layers: int = 4
    score: str = "general"
    input_feeding: bool = True
    longest_source: int = 200
    dropout: float = 0.2
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class LuongState(State):
    """For each layer h and c, the attentional vector (B, H each), and the source that is looked back at."""

    layers: tuple[tuple[Array, Array], ...]
    attentional: Array
    memory: Memory
    location: linear.PackedWeights | None


@register
class Luong(Model):
    """Stacked LSTMs; the decoder attends with its present state.

    ::

        h_t = LSTMs(h_{t-1}; [E y_{t-1}; a_{t-1}])     a_{t-1} with input feeding only
        score(h_t, m_s) = h_t . m_s  |  h_t W m_s  |  v . tanh(h_t W_q + m_s W_m)  |  (h_t W)_s
        c_t = sum_s softmax_s(score(h_t, m_s)) m_s
        a_t = tanh(c_t W_c + h_t W_h)                  p(y_t) = softmax(a_t W_o + b)

    with m the states of the encoder's last layer; the decoder starts from the last h and c of each of its layers.

    Parameters
    ----------
    config : LuongConfig
    source_size, target_size : int
    rng : numpy.random.Generator
    dtype : dtype

    Notes
    -----
    ``c_t W_c`` is the weighted sum of ``m_s W_c``, and ``h_t W m_s`` a dot product with ``W m_s``: both products are
    made once a batch. A step of the loop over time needs, in multiply-adds for each sentence,

        4 H H (state) for each layer, 4 H H (input) for each but the first, and for that with input feeding
        H H (attentional vector), H H (query, "concat" only) or H S ("location"), and 2 S H (attention)

    and back the same products again. Outside of it: the first layer's input from embeddings, keys and values, the
    output layer, the loss, and all gradients of weights, keys and values.

    References
    ----------
    Luong, Pham, Manning, "Effective Approaches to Attention-based Neural Machine Translation", EMNLP 2015,
    arXiv:1508.04025: sections 3, 3.1 and 3.3, equations 5 to 8.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.seq2seq import LuongConfig, build
    >>> model = build(LuongConfig(embedding=8, hidden=16, layers=2, score="concat"), 10, 12, seed=0)
    >>> log_probabilities, state, weights = model.step(np.array([1]), model.encode(np.array([[4, 2]]), np.array([2])))
    >>> log_probabilities.shape, weights.shape
    ((1, 12), (1, 2))
    """

    kind = "luong"
    settings = LuongConfig

    def __init__(
        self,
        config: LuongConfig,
        source_size: int,
        target_size: int,
        *,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        if config.score not in _SCORES:
            hint = "'general' did best in the paper."
            raise ArgumentError(describe("score", f"one of {', '.join(_SCORES)}", repr(config.score), hint))
        if config.layers < 1:
            raise ArgumentError(describe("layers", "at least 1", config.layers, "the paper has 4."))
        E, H, score = config.embedding, config.hidden, config.score
        more: Any = {"rng": rng, "dtype": dtype}
        self.config = config
        self.source_embedding = Embedding(source_size, E, deviation=E**-0.5, **more)
        widths = [E, *[H] * (config.layers - 1)]
        self.encoder = Stacked([LSTM(width, H, **more) for width in widths], dropout=config.dropout)
        self.target_embedding = Embedding(target_size, E, deviation=E**-0.5, **more)
        # What each layer's gates get besides the state's part: of the first from embedding and attentional vector.
        self.inputs = [Linear(width, 4 * H, **more) for width in widths]
        for layer in self.inputs:
            assert layer.b is not None
            layer.b.value[H : 2 * H] = 1  # forget gates start open
        self.cells = [LSTMStep(H, **more) for _ in widths]
        self.feed = Linear(H, 4 * H, bias=False, **more) if config.input_feeding else None
        self.key = Linear(H, H, bias=False, **more) if score in ("general", "concat") else None
        self.query = Linear(H, H, bias=False, **more) if score == "concat" else None
        if score == "concat":
            self.v = Parameter((rng.uniform(-1, 1, H) * (3 / H) ** 0.5).astype(dtype))
        if score == "location":
            self.location = Parameter((rng.uniform(-1, 1, (H, config.longest_source)) * (3 / H) ** 0.5).astype(dtype))
        self.from_context = Linear(H, H, bias=False, **more)
        self.from_state = Linear(H, H, bias=False, **more)
        self.projection = Linear(H, target_size, **more)

    def _score(self) -> str | Score:
        return Additive(self.v.value) if self.config.score == "concat" else "dot"

    def _keys(self, states: Array) -> Array:
        if self.config.score == "location":
            return states[..., :0]
        return states if self.key is None else self.key.forward(states)

    def _location(self, keys: int) -> linear.PackedWeights | None:
        """The columns of the location score's matrix that belong to source positions."""
        if self.config.score != "location":
            return None
        if keys > self.config.longest_source:
            hint = "raise longest_source, or shorten the sources."
            raise ShapeError(describe("source", f"at most {self.config.longest_source} positions", keys, hint))
        return linear.PackedWeights(self.location.value[:, :keys])

    def encode(self, source: Array, source_lengths: Array) -> LuongState:
        """Return the state before the first target token."""
        check_sentences("source", source, source_lengths)
        x = self.source_embedding.forward(known(source, source_lengths))
        states, last = self.encoder.forward(x, None, source_lengths)
        memory = prepare(
            self._keys(states), self.from_context.forward(states), score=self._score(), key_lengths=source_lengths
        )
        return LuongState(last, np.zeros_like(last[0][0]), memory, self._location(source.shape[1]))

    def advance(self, tokens: Array, state: LuongState) -> tuple[Array, LuongState, Array]:
        """Return features (B, H) after `tokens`, the next state, and weights (B, S)."""
        x = self.inputs[0].forward(self.target_embedding.forward(tokens))
        if self.feed is not None:
            x = x + self.feed.forward(state.attentional)
        after: list[tuple[Array, Array]] = []
        for number, (cell, (h, c)) in enumerate(zip(self.cells, state.layers)):
            after.append(cell.forward(self.inputs[number].forward(after[-1][0]) if number else x, h, c))
        h = after[-1][0]
        query, bias = self._query(h, state.location)
        output: Any = state.memory.attend(
            query[:, None], bias=None if bias is None else bias[:, None], return_weights=True
        )
        attentional = tanh(output.context[:, 0] + self.from_state.forward(h))
        return attentional, LuongState(tuple(after), attentional, state.memory, state.location), output.weights[:, 0]

    def _query(self, h: Array, location: linear.PackedWeights | None) -> tuple[Array, Array | None]:
        if location is not None:
            return h[:, :0], location.matmul(h)
        return (h if self.query is None else self.query.forward(h)), None

    def features(self, batch: Pairs, inputs: Array, *, weights: bool | str = False) -> tuple[Array, Array | None]:
        """Return features (B, T, H), and weights (B, T, S) or None."""
        x, _, loop = self._run(batch, inputs, None)
        return x, np.ascontiguousarray(loop.weights.transpose(1, 0, 2)) if weights else None

    def features_vjp(self, batch: Pairs, inputs: Array, seeds: Array) -> tuple[Array, Callable[[Array], None]]:
        """Return features with dropout, and the function from their gradient, which adds to parameters'."""
        return self._run(batch, inputs, seeds)[:2]

    def _encode_vjp(self, batch: Pairs, seeds: Array | None) -> tuple[Array, Any, Callable[[Array, Any], None]]:
        drop, lengths = dropping(self.config.dropout, seeds), np.asarray(batch.source_lengths)
        x, embedding_back = self.source_embedding.vjp(known(batch.source, lengths))
        x, undrop = drop(x, 0)
        if seeds is None:
            states, last = self.encoder.forward(x, None, lengths)
            return states, last, lambda d_states, d_last: None
        states, last, encoder_back = self.encoder.vjp(x, None, lengths, seeds=derive(seeds, 3))

        def backward(d_states: Array, d_last: Any) -> None:
            embedding_back(undrop(encoder_back(d_states, d_last)[0]))

        return states, last, backward

    def _run(
        self, batch: Pairs, inputs: Array, seeds: Array | None
    ) -> tuple[Array, Callable[[Array], None], Lookback]:
        drop = dropping(self.config.dropout, seeds)
        steps, top = inputs.shape[1], self.config.layers - 1
        states, last, encoder_back = self._encode_vjp(batch, seeds)
        keys, location = self._keys(states), self._location(states.shape[1])
        values = self.from_context.forward(states)
        loop = Lookback(keys, values, np.asarray(batch.source_lengths), steps, self._score(), location is not None)
        y, target_back = self.target_embedding.vjp(inputs)
        y, undrop_target = drop(y, 1)
        part, part_back = self.inputs[0].vjp(y)

        records = [LSTMRecord(cell, h, c, steps) for cell, (h, c) in zip(self.cells, last)]
        between = [np.empty_like(states, shape=(*inputs.shape, states.shape[-1])) for _ in range(top)]
        undrops: list[list[Callable[[Array], Array]]] = [[] for _ in range(top)]
        attentional = np.zeros_like(states, shape=(len(states), steps + 1, states.shape[-1]))
        # Seeds of a layer and step: below 2^32 steps no two places share any.
        for t in range(steps):
            fed = () if self.feed is None else (self.feed.forward(attentional[:, t]),)
            h = records[0].forward(t, part[:, t], *fed)
            for number in range(top):
                below, undrop = drop(h, (4 + number << 32) + t)
                between[number][:, t] = below
                undrops[number].append(undrop)
                h = records[number + 1].forward(t, self.inputs[number + 1].forward(below))
            query, bias = self._query(h, location)
            attentional[:, t + 1] = tanh(loop.forward(t, query, bias) + self.from_state.forward(h))
        x, undrop_features = drop(attentional[:, 1:], 2)

        def backward(dx: Array) -> None:
            dx = undrop_features(dx)
            d_sum = np.empty_like(dx)
            d_queries, d_scores = np.empty_like(loop.queries), np.empty_like(loop.weights.transpose(1, 0, 2))
            d_last = [[np.zeros_like(h), np.zeros_like(c)] for h, c in last]
            d_fed: Array | None = None
            for t in reversed(range(steps)):
                d_attentional = dx[:, t] if d_fed is None else dx[:, t] + d_fed
                d_sum[:, t] = d_attentional * (1 - attentional[:, t + 1] ** 2)
                loop.d_context[:, t] = d_sum[:, t]
                d_queries[:, t], d_scores[:, t] = loop.backward(t)
                dh = self.from_state.w.packed().matmul_transposed(d_sum[:, t])
                if location is not None:
                    dh += location.matmul_transposed(d_scores[:, t])
                elif self.query is not None:
                    dh += self.query.w.packed().matmul_transposed(d_queries[:, t])
                else:
                    dh += d_queries[:, t]
                for number in reversed(range(top + 1)):
                    d_last[number] = [*records[number].backward(t, dh + d_last[number][0], d_last[number][1])]
                    below = records[number].d_x[:, t]
                    if number:
                        dh = undrops[number - 1][t](self.inputs[number].w.packed().matmul_transposed(below))
                    elif self.feed is not None:
                        d_fed = self.feed.w.packed().matmul_transposed(below)
            self._loop_gradients(records, between, attentional, d_sum, d_queries, d_scores)
            target_back(undrop_target(part_back(records[0].d_x)))
            encoder_back(self._memory_gradients(states, loop), [tuple(pair) for pair in d_last])

        return x, backward, loop

    def _loop_gradients(
        self,
        records: list[LSTMRecord],
        between: list[Array],
        attentional: Array,
        d_sum: Array,
        d_queries: Array,
        d_scores: Array,
    ) -> None:
        """Add the gradients of the weights inside of the loop, one product each over all steps."""
        for record in records:
            record.finish()
        for layer, x, record in zip(self.inputs[1:], between, records[1:]):
            assert layer.b is not None
            linear.weight_gradient(x, record.d_x, layer.w.gradient, sums=layer.b.gradient)
        h = records[-1].states[:, 1:]
        linear.weight_gradient(h, d_sum, self.from_state.w.gradient)
        if self.feed is not None:
            linear.weight_gradient(attentional[:, :-1], records[0].d_x, self.feed.w.gradient)
        if self.query is not None:
            linear.weight_gradient(h, d_queries, self.query.w.gradient)
        if self.config.score == "location":
            self.location.gradient[:, : d_scores.shape[-1]] += linear.weight_gradient(h, d_scores)

    def _memory_gradients(self, states: Array, loop: Lookback) -> Array:
        """Add the gradients of what keys and values are made by; return that of the encoder's states."""
        gradients = loop.finish()
        linear.weight_gradient(states, gradients.value, self.from_context.w.gradient)
        d_states = self.from_context.w.packed().matmul_transposed(gradients.value)
        if self.config.score == "concat":
            self.v.accumulate(gradients.score["v"])
        if self.key is not None:
            linear.weight_gradient(states, gradients.key, self.key.w.gradient)
            d_states += self.key.w.packed().matmul_transposed(gradients.key)
        elif self.config.score == "dot":
            d_states += gradients.key
        return d_states
