"""The encoder-decoder of Luong, Pham and Manning 2015 with global attention, or any other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn import linear
from fastattn.attention import Memory, prepare
from fastattn.errors import ConfigError, ShapeError, describe, describe_file
from fastattn.functional import tanh
from fastattn.layers import LSTM, Embedding, Linear, Parameter, Stacked
from fastattn.scores import Additive, Score
from fastattn.seq2seq.models import mechanism
from fastattn.seq2seq.models.lookback import Lookback
from fastattn.seq2seq.models.luong_decoder import AtOnce, StepByStep
from fastattn.seq2seq.models.model import Longest, Model, Pairs, State, check_sentences, dropping, known, register
from fastattn.seq2seq.models.randomness import derive
from fastattn.seq2seq.models.recurrence_lstm import LSTMStep
from fastattn.seq2seq.models.weight_losses import check_weight_losses, has_weight_losses, weight_losses_vjp
from fastattn.seq2seq.schema import Section, setting, share, size
from fastattn.variants import AttentionState, Prepared, Variant

__all__ = ["Luong", "LuongConfig"]

Array = NDArray[Any]
_SCORES = ("dot", "general", "concat", "location")


@dataclass(frozen=True)
class LuongConfig(Section, section="model"):
    """Settings of `Luong`; sizes by default as in the paper's section 4.1.

    Attributes
    ----------
    embedding, hidden : int
        Widths E of embeddings and H of a layer's h and c, and of the attentional vector.
    layers : int
        LSTM layers of the encoder, and of the decoder.
    score : str
        "dot", "general", "concat" or "location"; not with a mechanism.
    input_feeding : bool
        Whether the attentional vector is an input of the next step.
    longest_source : int
        For "location", which has a weight for each position: the most source tokens.
    dropout : float
        Share of the elements of embeddings, outputs of layers and output features dropped in training.
    label_smoothing : float
        Share of the target's probability that training spreads over the vocabulary; the paper has none.
    coverage_loss, doubly_stochastic_loss : float
        Weights of losses of attention weights, as of `BahdanauConfig`.
    mechanism : mapping, optional
        Another attention than by these scores: the ``name`` of a variant (`fastattn.variants.names`) and its options.
        Its widths are the decoder's; `hidden` is its ``width`` where it needs one.
    """

    kind: str = setting("luong", choices=("luong",))
    embedding: int = size(1000)
    hidden: int = size(1000)
    layers: int = size(4, most=1000)
    score: str = setting("general", choices=_SCORES)
    input_feeding: bool = True
    longest_source: int = size(200)
    dropout: float = share(0.2)
    label_smoothing: float = share(0.0)
    coverage_loss: float = setting(0.0, least=0)
    doubly_stochastic_loss: float = setting(0.0, least=0)
    mechanism: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weight_losses(self)
        if self.mechanism is None:
            return
        mechanism.check(self.mechanism)
        if self.score != LuongConfig.score:
            hint = 'leave score away: the mechanism has its own, which "luong" takes as an option.'
            problem = f"expected {LuongConfig.score!r} with a mechanism, got {self.score!r}"
            raise ConfigError(describe_file("model.score", problem, hint))


@dataclass(frozen=True)
class LuongState(State):
    """For each layer h and c, the attentional vector (B, H each), the source, and what attention carries along."""

    layers: tuple[tuple[Array, Array], ...]
    attentional: Array
    memory: Memory | Prepared
    location: linear.PackedWeights | None = None
    attention: AttentionState | None = None


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
    output layer, the loss, and all gradients of weights, keys and values. Without input feeding training has no such
    loop: a layer walks all steps in one call, and attention has all queries at once; a mechanism goes step by step.

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
            with layer.b.edit() as value:  # forget gates start open
                value[H : 2 * H] = 1
        self.cells = [LSTMStep(H, **more) for _ in widths]
        self.feed = Linear(H, 4 * H, bias=False, **more) if config.input_feeding else None
        self.mechanism: Variant | None = None
        if config.mechanism is not None:
            self.mechanism, score = mechanism.make(config.mechanism, H, H, H, **more), ""
        self.key = Linear(H, H, bias=False, **more) if score in ("general", "concat") else None
        self.query = Linear(H, H, bias=False, **more) if score == "concat" else None
        if score == "concat":
            self.v = Parameter((rng.uniform(-1, 1, H) * (3 / H) ** 0.5).astype(dtype))
        if score == "location":
            self.location = Parameter((rng.uniform(-1, 1, (H, config.longest_source)) * (3 / H) ** 0.5).astype(dtype))
        self.from_context = Linear(H, H, bias=False, **more)
        self.from_state = Linear(H, H, bias=False, **more)
        self.projection = Linear(H, target_size, **more)

    def longest(self) -> Longest:
        """Return how long sentences may be: a location score has a column for each position of the source."""
        if self.config.score != "location":
            return super().longest()
        return Longest(source=self.config.longest_source, key="longest_source")

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
        nothing = np.zeros_like(last[0][0])
        if self.mechanism is not None:
            values, lengths = self.from_context.forward, np.asarray(source_lengths)
            prepared = mechanism.prepare_mechanism(self.mechanism, states, values, lengths)
            return LuongState(last, nothing, prepared, attention=self.mechanism.start_search(prepared))
        memory = prepare(
            self._keys(states), self.from_context.forward(states), score=self._score(), key_lengths=source_lengths
        )
        return LuongState(last, nothing, memory, self._location(source.shape[1]))

    def advance(self, tokens: Array, state: LuongState) -> tuple[Array, LuongState, Array | None]:
        """Return features (B, H) after `tokens`, the next state, and weights (B, S)."""
        x = self.inputs[0].forward(self.target_embedding.forward(tokens))
        if self.feed is not None:
            x = x + self.feed.forward(state.attentional)
        after: list[tuple[Array, Array]] = []
        for number, (cell, (h, c)) in enumerate(zip(self.cells, state.layers)):
            after.append(cell.forward(self.inputs[number].forward(after[-1][0]) if number else x, h, c))
        h = after[-1][0]
        context, weights, attention = self._attend(h, state)
        attentional = tanh(context + self.from_state.forward(h))
        return attentional, LuongState(tuple(after), attentional, state.memory, state.location, attention), weights

    def _attend(self, h: Array, state: LuongState) -> tuple[Array, Array | None, AttentionState | None]:
        """Return what the context passes through, the weights and the attention's next state."""
        if isinstance(state.memory, Memory):
            query, bias = self.ask(h, state.location)
            output: Any = state.memory.attend(
                query[:, None], bias=None if bias is None else bias[:, None], return_weights=True
            )
            return output.context[:, 0], output.weights[:, 0], None
        assert self.mechanism is not None and state.attention is not None
        context, weights, attention = self.mechanism.step(h, state.memory, state.attention)
        return context if self.mechanism.sums_values else self.from_context.forward(context), weights, attention

    def ask(self, h: Array, location: linear.PackedWeights | None) -> tuple[Array, Array | None]:
        """Return the queries of states (..., H), and for the location score their scores instead."""
        if location is not None:
            return h[..., :0], location.matmul(h)
        return (h if self.query is None else self.query.forward(h)), None

    def features(self, batch: Pairs, inputs: Array, *, weights: bool | str = False) -> tuple[Array, Array | None]:
        """Return features (B, T, H), and weights (B, T, S) or None."""
        x, _, loop = self._run(batch, inputs, None)
        if not weights:
            return x, None
        if isinstance(loop, mechanism.MechanismLoop):
            return x, loop.weights()
        return x, np.ascontiguousarray(loop.weights.transpose(1, 0, 2))

    def features_vjp(self, batch: Pairs, inputs: Array, seeds: Array) -> tuple[Array, Callable[[Array], None]]:
        """Return features with dropout, and the function from their gradient, which adds to parameters'."""
        return self._run(batch, inputs, seeds)[:2]

    def loss_vjp(
        self, batch: Pairs, *, seeds: Array, sampling: float = 0.0
    ) -> tuple[float, int, Callable[[float], None]]:
        """As `Model.loss_vjp`, with the losses of weights that the configuration asks for."""
        if not has_weight_losses(self.config):
            return super().loss_vjp(batch, seeds=seeds, sampling=sampling)
        return weight_losses_vjp(self, batch, seeds=seeds, sampling=sampling)

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
    ) -> tuple[Array, Callable[[Array], None], Lookback | mechanism.MechanismLoop]:
        drop = dropping(self.config.dropout, seeds)
        states, last, encoder_back = self._encode_vjp(batch, seeds)
        location = None if self.mechanism is not None else self._location(states.shape[1])
        loop = self._loop(states, np.asarray(batch.source_lengths), inputs.shape[1], location is not None, seeds)
        y, target_back = self.target_embedding.vjp(inputs)
        y, undrop_target = drop(y, 1)
        part, part_back = self.inputs[0].vjp(y)
        way = AtOnce if self.feed is None and self.mechanism is None else StepByStep
        decoder = way(self, loop, last, location, drop, seeds is not None and self.config.dropout > 0)
        x, undrop_features = drop(decoder.forward(part), 2)

        def backward(dx: Array) -> None:
            d_part, d_last = decoder.backward(undrop_features(dx))
            target_back(undrop_target(part_back(d_part)))
            encoder_back(self._memory_gradients(states, loop), d_last)

        return x, backward, loop

    def _loop(
        self, states: Array, lengths: Array, steps: int, located: bool, seeds: Array | None
    ) -> Lookback | mechanism.MechanismLoop:
        """Return the attention over the states."""
        values = self.from_context.forward
        if self.mechanism is None:
            return Lookback(self._keys(states), values(states), lengths, steps, self._score(), located)
        width = self.config.hidden
        return mechanism.MechanismLoop(self.mechanism, states, lengths, steps, values, self._values_vjp, width, seeds)

    def _values_vjp(self, states: Array, d_values: Array) -> Array:
        """Return the gradient of states from that of their values, and add to that of the matrix."""
        linear.weight_gradient(states, d_values, self.from_context.w.gradient)
        return self.from_context.w.packed().matmul_transposed(d_values)

    def _memory_gradients(self, states: Array, loop: Lookback | mechanism.MechanismLoop) -> Array:
        """Add the gradients of what keys and values are made by; return that of the encoder's states."""
        if isinstance(loop, mechanism.MechanismLoop):
            return loop.finish()
        gradients = loop.finish()
        d_states = self._values_vjp(states, gradients.value)
        if self.config.score == "concat":
            self.v.accumulate(gradients.score["v"])
        if self.key is not None:
            linear.weight_gradient(states, gradients.key, self.key.w.gradient)
            d_states += self.key.w.packed().matmul_transposed(gradients.key)
        elif self.config.score == "dot":
            d_states += gradients.key
        return d_states
