"""The encoder-decoder of Bahdanau, Cho and Bengio 2015, the first with attention."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn import linear
from fastattn.attention import Memory, prepare
from fastattn.errors import ConfigError, describe_file
from fastattn.functional import tanh
from fastattn.layers import GRU, Bidirectional, Embedding, Linear, Parameter
from fastattn.scores import Additive
from fastattn.seq2seq.models import mechanism
from fastattn.seq2seq.models.lookback import Lookback
from fastattn.seq2seq.models.maxout import maxout, maxout_vjp
from fastattn.seq2seq.models.model import Model, Pairs, State, check_sentences, dropping, known, register
from fastattn.seq2seq.models.recurrence import GRURecord, GRUStep
from fastattn.seq2seq.models.tied import TiedEmbedding
from fastattn.seq2seq.models.weight_losses import check_weight_losses, has_weight_losses, weight_losses_vjp
from fastattn.seq2seq.schema import Section, setting, share, size
from fastattn.variants import AttentionState, Prepared, Variant

__all__ = ["Bahdanau", "BahdanauConfig"]

Array = NDArray[Any]


@dataclass(frozen=True)
class BahdanauConfig(Section, section="model"):
    """Settings of `Bahdanau`; sizes by default as in the paper's appendix A.2.3.

    Attributes
    ----------
    embedding : int
        Width E of source and target embeddings.
    hidden : int
        Width H of the decoder's state, and of the encoder's in each direction.
    attention : int
        Width of the layer between query and key, and score.
    readout : str
        "maxout": the published output layer; "linear": state, context and embedding straight to the vocabulary.
    readout_width : int
        Outputs L of the maxout layer.
    reset : str
        "before": the reset gate acts on the state, as published; "after": on its product, as in cuDNN.
    conditional : bool
        Whether a GRU of its own takes in the last word before the state queries; not in the paper, see `Bahdanau`.
    dropout : float
        Share of the elements of embeddings and output features dropped in training; the paper has none.
    context_dropout : float
        The same of the encoder's states that the attention reads.
    readout_dropout : float, optional
        The same of output features, where it differs from `dropout`.
    tied : bool
        Whether target embeddings are the columns of the output matrix W_o (Press and Wolf 2017), for a maxout readout
        as wide as embeddings; the paper's are not.
    label_smoothing : float
        Share of the target's probability that training spreads over the vocabulary; the paper has none.
    coverage_loss : float
        Weight of the loss of See et al. 2017, equation 12, for attending again to what was attended to, summed over
        target positions; for a mechanism whose weights are (B, S), above all "coverage".
    doubly_stochastic_loss : float
        Weight, lambda, of the loss of Xu et al. 2015, equation 14, for source positions whose weights do not sum to 1
        over all target positions; for such a mechanism too, above all "gated_additive".
    mechanism : mapping, optional
        Another attention than the paper's: the ``name`` of a variant (`fastattn.variants.names`) and its options. Its
        widths are the decoder's; `attention` is its ``width`` where it needs one.
    """

    kind: str = setting("bahdanau", choices=("bahdanau",))
    embedding: int = size(620)
    hidden: int = size(1000)
    attention: int = size(1000)
    readout: str = setting("maxout", choices=("maxout", "linear"))
    readout_width: int = size(500)
    reset: str = setting("before", choices=("before", "after"))
    conditional: bool = False
    dropout: float = share(0.0)
    context_dropout: float = share(0.0)
    readout_dropout: float | None = share(None)
    tied: bool = False
    label_smoothing: float = share(0.0)
    coverage_loss: float = setting(0.0, least=0)
    doubly_stochastic_loss: float = setting(0.0, least=0)
    mechanism: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weight_losses(self)
        if self.tied and (self.readout != "maxout" or self.readout_width != self.embedding):
            problem = f"needs readout 'maxout' and readout_width {self.embedding}, that of embeddings"
            got = f"{problem}, got {self.readout!r} and {self.readout_width}"
            raise ConfigError(describe_file("model.tied", got, "change these, or leave tied away."))
        if self.mechanism is not None:
            mechanism.check(self.mechanism)


@dataclass(frozen=True)
class BahdanauState(State):
    """The decoder's state (B, H), the source that it looks back at, and what its attention carries along."""

    hidden: Array
    memory: Memory | Prepared
    attention: AttentionState | None = None


@register
class Bahdanau(Model):
    """Bidirectional GRU encoder; GRU decoder that attends with its previous state.

    ::

        h_j = [forward GRU; backward GRU](E_x x_j)                   s_0 = tanh(h_1 backward W_s + b_s)
        weights_ij = softmax_j(v . tanh(s_{i-1} W_a + h_j U_a))      c_i = sum_j weights_ij h_j
        s_i = GRU(s_{i-1}; E y_{i-1}, c_i)
        maxout:  t_i = max over pairs of (s_{i-1} U_o + E y_{i-1} V_o + c_i C_o),   p(y_i) = softmax(t_i W_o)
        linear:  p(y_i) = softmax([s_i; c_i; E y_{i-1}] W_o)

    With `conditional` (Sennrich et al. 2017, section 4), the query knows the last word, and the maxout layer s_i::

        s'_i = GRU_1(s_{i-1}; E y_{i-1}),   weights_i from s'_i,   s_i = GRU_2(s'_i; c_i)

    Parameters
    ----------
    config : BahdanauConfig
    source_size, target_size : int
        Sizes of the vocabularies.
    rng : numpy.random.Generator
        Of the start; the layers' own, not the paper's.
    dtype : dtype

    Notes
    -----
    Since a context is a weighted sum, ``c_i C = sum_j weights_ij (h_j C)``: the memory's values are the encoder's
    states multiplied by the matrices that act on contexts, once a batch. With R = 2 L for maxout and 2 H for linear
    readouts, a step of the loop over time needs, in multiply-adds for each sentence,

        H A (query) + 3 H H (the state's part of the gates; twice if conditional) + S (A + 3 H + R) (attention)

    and back the same products again. Outside of it, once for all steps or source positions: the GRU's input from
    embeddings, keys and values, the output layer, the loss, and all gradients of weights, keys and values.

    The paper leaves biases out of its formulas; here gates, s_0, maxout and W_o have them, the attention has none.

    References
    ----------
    Bahdanau, Cho, Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate", ICLR 2015,
    arXiv:1409.0473: section 3, appendices A.1.1, A.1.2 and A.2.
    Sennrich et al., "Nematus: a Toolkit for Neural Machine Translation", EACL 2017, arXiv:1703.04357.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.seq2seq.models.bahdanau import Bahdanau, BahdanauConfig
    >>> config = BahdanauConfig(embedding=8, hidden=16, attention=16, readout_width=8)
    >>> model = Bahdanau(config, 10, 12, rng=np.random.default_rng(0))
    >>> state = model.encode(np.array([[4, 5, 2]]), np.array([3]))
    >>> log_probabilities, state, weights = model.step(np.array([1]), state)
    >>> log_probabilities.shape, weights.shape
    ((1, 12), (1, 3))
    """

    kind = "bahdanau"
    settings = BahdanauConfig

    def __init__(
        self,
        config: BahdanauConfig,
        source_size: int,
        target_size: int,
        *,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        E, H, A = config.embedding, config.hidden, config.attention
        more: Any = {"rng": rng, "dtype": dtype}
        self.config = config
        self.maxout = config.readout == "maxout"
        wide = 2 * config.readout_width if self.maxout else 0
        self.source_embedding = Embedding(source_size, E, deviation=E**-0.5, **more)
        directions = [GRU(E, H, reset=config.reset, reverse=reverse, **more) for reverse in (False, True)]
        self.encoder = Bidirectional(*directions)
        self.bridge = Linear(H, H, **more)
        if not config.tied:
            self.target_embedding: Any = Embedding(target_size, E, deviation=E**-0.5, **more)
        self.mechanism: Variant | None = None
        if config.mechanism is not None:
            self.mechanism = mechanism.make(config.mechanism, H, 2 * H, A, **more)
        else:
            self.query = Linear(H, A, bias=False, **more)
            self.key = Linear(2 * H, A, bias=False, **more)
            self.v = Parameter((rng.uniform(-1, 1, A) * (3 / A) ** 0.5).astype(dtype))
        # Columns of the gates, then those of the maxout layer.
        self.from_target = Linear(E, 3 * H + wide, **more)
        self.from_context = Linear(2 * H, 3 * H + wide, bias=False, **more)
        self.cell = GRUStep(H, reset=config.reset, **more)
        if config.conditional:
            self.first_cell = GRUStep(H, reset=config.reset, **more)
        if self.maxout:
            self.from_state = Linear(H, wide, bias=False, **more)
        self.projection = Linear(config.readout_width if self.maxout else 3 * H + E, target_size, **more)
        if config.tied:
            self.target_embedding = TiedEmbedding(self.projection.w)

    def encode(self, source: Array, source_lengths: Array) -> BahdanauState:
        """Return the state before the first target token."""
        check_sentences("source", source, source_lengths)
        x = self.source_embedding.forward(known(source, source_lengths))
        states, last = self.encoder.forward(x, None, source_lengths)
        hidden = tanh(self.bridge.forward(last[:, self.config.hidden :]))
        if self.mechanism is not None:
            prepared = mechanism.prepare_mechanism(self.mechanism, states, self._values, np.asarray(source_lengths))
            return BahdanauState(hidden, prepared, self.mechanism.start_search(prepared))
        score = Additive(self.v.value)
        memory = prepare(self.key.forward(states), self._values(states), score=score, key_lengths=source_lengths)
        return BahdanauState(hidden, memory)

    def advance(self, tokens: Array, state: BahdanauState) -> tuple[Array, BahdanauState, Array | None]:
        """Return features (B, F) after `tokens`, the next state, and weights (B, S)."""
        gates = 3 * self.config.hidden
        y = self.target_embedding.forward(tokens)
        part = self.from_target.forward(y)
        before = state.hidden
        if self.config.conditional:
            before = self.first_cell.forward(part[:, :gates].copy(), before)
        context, weights, attention = self._attend(before, state)
        if self.config.conditional:
            read = hidden = self.cell.forward(context[:, :gates].copy(), before)
        else:
            read, hidden = before, self.cell.forward(part[:, :gates] + context[:, :gates], before)
        if self.maxout:
            x = maxout(self.from_state.forward(read) + part[:, gates:] + context[:, gates:])
        else:
            x = np.concatenate([hidden, context[:, gates:], y], axis=-1)
        return x, BahdanauState(hidden, state.memory, attention), weights

    def _attend(self, query: Array, state: BahdanauState) -> tuple[Array, Array | None, AttentionState | None]:
        """Return what the context passes through, the weights and the attention's next state."""
        if isinstance(state.memory, Memory):
            output: Any = state.memory.attend(self.query.forward(query)[:, None], return_weights=True)
            return output.context[:, 0], output.weights[:, 0], None
        assert self.mechanism is not None and state.attention is not None
        context, weights, attention = self.mechanism.step(query, state.memory, state.attention)
        return context if self.mechanism.sums_values else self._values(context), weights, attention

    def features(self, batch: Pairs, inputs: Array, *, weights: bool | str = False) -> tuple[Array, Array | None]:
        """Return features (B, T, F), and weights (B, T, S) or None."""
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

    def _values(self, states: Array) -> Array:
        """The memory's values: what contexts are multiplied by, and for a linear readout the contexts themselves."""
        values = self.from_context.forward(states)
        return values if self.maxout else np.concatenate([values, states], axis=-1)

    def _values_vjp(self, states: Array, d_values: Array) -> Array:
        """Return the gradient of states from that of their values, and add to that of the matrix."""
        wide = self.from_context.w.value.shape[1]
        linear.weight_gradient(states, d_values[..., :wide], self.from_context.w.gradient)
        d_states = self.from_context.w.packed().matmul_transposed(d_values[..., :wide])
        return d_states if self.maxout else d_states + d_values[..., wide:]

    def _run(
        self, batch: Pairs, inputs: Array, seeds: Array | None
    ) -> tuple[Array, Callable[[Array], None], Lookback | mechanism.MechanismLoop]:
        H, drop = self.config.hidden, dropping(self.config.dropout, seeds)
        gates, steps = 3 * H, inputs.shape[1]
        lengths = np.asarray(batch.source_lengths)
        embedded, embedding_back = self.source_embedding.vjp(known(batch.source, lengths))
        embedded, undrop_source = drop(embedded, 0)
        states, last, encoder_back = self.encoder.vjp(embedded, None, lengths)
        states, undrop_states = dropping(self.config.context_dropout, seeds)(states, 3)
        bridge, bridge_back = self.bridge.vjp(last[:, H:])
        first = tanh(bridge)
        loop, memory_back = self._loop(states, lengths, steps, seeds)

        y, target_back = self.target_embedding.vjp(inputs)
        y, undrop_target = drop(y, 1)
        part, part_back = self.from_target.vjp(y)
        record = GRURecord(self.cell, first, steps)
        words = GRURecord(self.first_cell, first, steps) if self.config.conditional else None
        x = np.empty((*inputs.shape, self.projection.w.value.shape[0]), y.dtype)
        kept = np.empty((*inputs.shape, part.shape[-1] - gates), y.dtype) if self.maxout else x[..., H : 3 * H]
        hidden = first
        for t in range(steps):
            if words is not None:
                hidden = words.forward(t, part[:, t, :gates], state=hidden)
            context = loop.forward(t, hidden if self.mechanism is not None else self.query.forward(hidden))
            kept[:, t] = context[:, gates:]
            if words is not None:
                hidden = record.forward(t, context[:, :gates], state=hidden)
            else:
                hidden = record.forward(t, part[:, t, :gates], context[:, :gates])
            if not self.maxout:
                x[:, t, :H] = hidden

        if self.maxout:
            read = record.before.transpose(1, 0, 2) if words is None else record.states[:, 1:]
            wide, from_state_back = self.from_state.vjp(np.ascontiguousarray(read))
            wide += part[..., gates:]
            wide += kept
            x = maxout(wide)
        else:
            x[..., 3 * H :] = y
        rate = self.config.readout_dropout
        x, undrop_features = dropping(self.config.dropout if rate is None else rate, seeds)(x, 2)

        def backward(dx: Array) -> None:
            dx = undrop_features(dx)
            if self.maxout:
                d_wide = maxout_vjp(wide, dx)
                loop.d_context[..., gates:] = d_wide
                d_read = from_state_back(d_wide)
                d_before, d_after = (d_read, None) if words is None else (None, d_read)
            else:
                loop.d_context[..., gates:] = dx[..., H : 3 * H]
                d_before, d_after = None, dx[..., :H]
            d_queries: list[Array] = []
            dh = np.zeros_like(first)
            for t in reversed(range(steps)):
                if d_after is not None:
                    dh += d_after[:, t]
                dh = record.backward(t, dh)
                loop.d_context[:, t, :gates] = record.d_x[:, t]
                if isinstance(loop, Lookback):
                    d_queries.append(loop.backward(t)[0])
                    dh += self.query.w.packed().matmul_transposed(d_queries[-1])
                else:
                    dh += loop.backward(t)
                if words is not None:
                    dh = words.backward(t, dh)
                if d_before is not None:
                    dh += d_before[:, t]
            record.finish()
            if d_queries:
                linear.weight_gradient(record.before, np.stack(d_queries[::-1]), self.query.w.gradient)
            d_part = loop.d_context[..., : part.shape[-1]]
            if words is not None:
                words.finish()
                d_part = np.concatenate([words.d_x, d_part[..., gates:]], axis=-1)
            dy = part_back(d_part)
            if not self.maxout:
                dy += dx[..., 3 * H :]
            target_back(undrop_target(dy))

            d_states = undrop_states(memory_back())
            d_last = np.zeros_like(last)
            d_last[:, H:] = bridge_back(dh * (1 - first * first))
            embedding_back(undrop_source(encoder_back(d_states, d_last)[0]))

        return x, backward, loop

    def _loop(
        self, states: Array, lengths: Array, steps: int, seeds: Array | None
    ) -> tuple[Lookback | mechanism.MechanismLoop, Callable[[], Array]]:
        """Return the attention over the states, and the function to their gradient after all steps back."""
        if self.mechanism is not None:
            wide = self.from_context.w.value.shape[1] + (0 if self.maxout else states.shape[-1])
            loop = mechanism.MechanismLoop(
                self.mechanism, states, lengths, steps, self._values, self._values_vjp, wide, seeds
            )
            return loop, loop.finish
        keys, keys_back = self.key.vjp(states)
        lookback = Lookback(keys, self._values(states), lengths, steps, Additive(self.v.value))

        def finish() -> Array:
            gradients = lookback.finish()
            self.v.accumulate(gradients.score["v"])
            # In this order, and not by `_values_vjp`, so that sums of three keep their bits.
            d_states = keys_back(gradients.key)
            wide = self.from_context.w.value.shape[1]
            linear.weight_gradient(states, gradients.value[..., :wide], self.from_context.w.gradient)
            d_states += self.from_context.w.packed().matmul_transposed(gradients.value[..., :wide])
            if not self.maxout:
                d_states += gradients.value[..., wide:]
            return d_states

        return lookback, finish
