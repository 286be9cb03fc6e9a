"""The encoder-decoder of Bahdanau, Cho and Bengio 2015, the first with attention."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fastattn._arrays import Array
from fastattn.errors import ConfigError, describe_file
from fastattn.functional import tanh
from fastattn.layers import GRU, Bidirectional, Embedding, Linear
from fastattn.layers.recurrent.gru import Reset
from fastattn.seq2seq.models import mechanism
from fastattn.seq2seq.models.attending import Attending, AttentionLoop, Pass
from fastattn.seq2seq.models.maxout import maxout, maxout_vjp
from fastattn.seq2seq.models.model import BatchLike, State, check_sentences, dropping, padded
from fastattn.seq2seq.models.randomness import Place
from fastattn.seq2seq.models.recurrence import GRUStep, Record
from fastattn.seq2seq.models.tied import TiedEmbedding
from fastattn.seq2seq.schema import Section, setting, share, size
from fastattn.variants import AttentionState, Prepared

__all__ = ["Bahdanau", "BahdanauConfig"]


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
        Width of the layer between query and key, of a score or mechanism that needs one.
    readout : {"maxout", "linear"}
        "maxout": the published output layer; "linear": state, context and embedding straight to the vocabulary.
    readout_width : int
        Outputs L of the maxout layer.
    reset : {"before", "after"}
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
        target positions; for attention whose weights are (B, S), above all "coverage".
    doubly_stochastic_loss : float
        Weight, lambda, of the loss of Xu et al. 2015, equation 14, for source positions whose weights do not sum to 1
        over all target positions; for such attention too, above all "gated_additive".
    score : str
        "additive", the paper's, or any score or variant by its name (`fastattn.variants.names`).
    mechanism : mapping, optional
        In place of `score`: the ``name`` of a variant and its options. Its widths are the decoder's.
    """

    kind: Literal["bahdanau"] = "bahdanau"
    embedding: int = size(620)
    hidden: int = size(1000)
    attention: int = size(1000)
    readout: Literal["maxout", "linear"] = "maxout"
    readout_width: int = size(500)
    reset: Reset = "before"
    conditional: bool = False
    dropout: float = share(0.0)
    context_dropout: float = share(0.0)
    readout_dropout: float | None = share(None)
    tied: bool = False
    label_smoothing: float = share(0.0)
    coverage_loss: float = setting(0.0, least=0)
    doubly_stochastic_loss: float = setting(0.0, least=0)
    score: str = "additive"
    mechanism: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tied and (self.readout != "maxout" or self.readout_width != self.embedding):
            problem = f"needs readout 'maxout' and readout_width {self.embedding}, that of embeddings"
            got = f"{problem}, got {self.readout!r} and {self.readout_width}"
            raise ConfigError(describe_file("model.tied", got, "change these, or leave tied out."))
        mechanism.check_attention(self)


@dataclass(frozen=True)
class BahdanauState(State):
    """The decoder's state (B, H), the source that it looks back at, and what its attention carries along."""

    hidden: Array
    memory: Prepared
    attention: AttentionState


class Bahdanau(Attending):
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
        self.mechanism = mechanism.make(config, query=H, memory=2 * H, width=A, **more)
        # Columns of the gates, then those of the maxout layer.
        self.from_target = Linear(E, 3 * H + wide, **more)
        through = Linear if self.maxout else _WithInput
        self.from_context = through(2 * H, 3 * H + wide, bias=False, **more)
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
        x = self.source_embedding.forward(padded(source, source_lengths))
        states, last = self.encoder.forward(x, None, source_lengths)
        hidden = tanh(self.bridge.forward(last[:, self.config.hidden :]))
        return BahdanauState(hidden, *self.remember(states, source_lengths))

    def advance(self, tokens: Array, state: BahdanauState) -> tuple[Array, BahdanauState, Array | None]:
        """Return features (B, F) after `tokens`, the next state, and weights (B, S) or (B, H, S)."""
        gates = 3 * self.config.hidden
        y = self.target_embedding.forward(tokens)
        part = self.from_target.forward(y)
        before = state.hidden
        if self.config.conditional:
            before = self.first_cell.forward(part[:, :gates].copy(), before)
        context, weights, attention = self.attend(before, state.memory, state.attention)
        if self.config.conditional:
            read = hidden = self.cell.forward(context[:, :gates].copy(), before)
        else:
            read, hidden = before, self.cell.forward(part[:, :gates] + context[:, :gates], before)
        if self.maxout:
            x = maxout(self.from_state.forward(read) + part[:, gates:] + context[:, gates:])
        else:
            x = np.concatenate([hidden, context[:, gates:], y], axis=-1)
        return x, BahdanauState(hidden, state.memory, attention), weights

    def run(self, batch: BatchLike, inputs: Array, seeds: Array | None) -> Pass:
        """Compute features from decoder inputs (B, T), with dropout by seeds (B,) or without."""
        states, first, encoder_backward = self._encode_vjp(batch, seeds)
        attention = AttentionLoop(self.mechanism, self.from_context, states, np.asarray(batch.source_lengths), seeds)
        y, target_backward = self.target_embedding.vjp(inputs)
        y, undrop_target = dropping(self.config.dropout, seeds)(y, Place.TARGET)
        part, part_backward = self.from_target.vjp(y)
        decoder = _Decoder(self, attention, first)
        read, contexts = decoder.forward(part)
        x, readout_backward = (self._maxout_vjp if self.maxout else _joined_vjp)(read, contexts, part, y)
        rate = self.config.readout_dropout
        x, undrop_features = dropping(self.config.dropout if rate is None else rate, seeds)(x, Place.FEATURES)

        def backward(dx: Array) -> None:
            d_read, d_contexts, d_wide, d_y = readout_backward(undrop_features(dx))
            d_gates, d_first = decoder.backward(d_read, d_contexts)
            dy = part_backward(np.concatenate([d_gates, d_wide], axis=-1))
            target_backward(undrop_target(dy if d_y is None else dy + d_y))
            encoder_backward(attention.finish(), d_first)

        return Pass(x, backward, attention)

    def _encode_vjp(self, batch: BatchLike, seeds: Array | None) -> tuple[Array, Array, Callable[[Array, Array], None]]:
        """Return the encoder's states (B, S, 2 H), the decoder's first (B, H), and their backward pass."""
        lengths = np.asarray(batch.source_lengths)
        embedded, embedding_backward = self.source_embedding.vjp(padded(batch.source, lengths))
        embedded, undrop_source = dropping(self.config.dropout, seeds)(embedded, Place.SOURCE)
        states, last, encoder_backward = self.encoder.vjp(embedded, None, lengths)
        states, undrop_states = dropping(self.config.context_dropout, seeds)(states, Place.STATES)
        bridge, bridge_backward = self.bridge.vjp(last[:, self.config.hidden :])
        first = tanh(bridge)

        def backward(d_states: Array, d_first: Array) -> None:
            d_last = np.zeros_like(last)
            d_last[:, self.config.hidden :] = bridge_backward(d_first * (1 - first * first))
            embedding_backward(undrop_source(encoder_backward(undrop_states(d_states), d_last)[0]))

        return states, first, backward

    def _maxout_vjp(
        self, read: Array, contexts: Array, part: Array, y: Array
    ) -> tuple[Array, Callable[[Array], tuple[Array, Array, Array, None]]]:
        wide, from_state_backward = self.from_state.vjp(np.ascontiguousarray(read))
        wide += part[..., 3 * self.config.hidden :]
        wide += contexts

        def backward(dx: Array) -> tuple[Array, Array, Array, None]:
            d_wide = maxout_vjp(wide, dx)
            return from_state_backward(d_wide), d_wide, d_wide, None

        return maxout(wide), backward


class _WithInput(Linear):
    """``[x w; x]``."""

    def forward(self, x: Array) -> Array:
        return np.concatenate([super().forward(x), x], axis=-1)

    def backward(self, x: Array) -> Callable[[Array], Array]:
        product_backward, width = super().backward(x), self.w.value.shape[1]
        return lambda dy: product_backward(dy[..., :width]) + dy[..., width:]


def _joined_vjp(
    read: Array, contexts: Array, part: Array, y: Array
) -> tuple[Array, Callable[[Array], tuple[Array, Array, Array, Array]]]:
    ends = np.cumsum([x.shape[-1] for x in (read, contexts)])

    def backward(dx: Array) -> tuple[Array, Array, Array, Array]:
        d_read, d_contexts, d_y = np.split(dx, ends, axis=-1)
        return d_read, d_contexts, dx[..., :0], d_y

    return np.concatenate([read, contexts, y], axis=-1), backward


class _Decoder:
    """The loop over time, and back.

    Parameters
    ----------
    model : Bahdanau
    attention : AttentionLoop
    first : array, shape (B, H)
        The state before the first step.
    """

    def __init__(self, model: Bahdanau, attention: AttentionLoop, first: Array) -> None:
        self.model, self.attention, self.first = model, attention, first
        # Whether the readout reads the state after a step, and not the one before it.
        self.late = model.config.conditional or not model.maxout

    def forward(self, part: Array) -> tuple[Array, Array]:
        """Return the states (B, T, H) and contexts (B, T, R) that the readout reads.

        `part` (B, T, ...) begins with what embeddings give to the gates.
        """
        model, (batch, steps, _) = self.model, part.shape
        gates = 3 * model.config.hidden
        of_readout = 2 * (model.config.readout_width if model.maxout else model.config.hidden)
        self._cell = Record(model.cell, steps, self.first)
        self._words = Record(model.first_cell, steps, self.first) if model.config.conditional else None
        contexts = np.empty((batch, steps, of_readout), part.dtype)
        hidden = self.first
        for t in range(steps):
            if self._words is not None:
                hidden = self._words.forward(t, part[:, t, :gates], state=hidden)
            context = self.attention.step(hidden)
            contexts[:, t] = context[:, gates:]
            of_word = () if self._words is not None else (part[:, t, :gates],)
            hidden = self._cell.forward(t, *of_word, context[:, :gates], state=hidden)
        return self._cell.states[:, 1:] if self.late else self._cell.states[:, :-1], contexts

    def backward(self, d_read: Array, d_contexts: Array) -> tuple[Array, Array]:
        """Return the gradients of what embeddings give to the gates (B, T, 3 H), and of the first state."""
        cell, words = self._cell, self._words
        dh = np.zeros_like(self.first)
        for t in reversed(range(d_read.shape[1])):
            if self.late:
                dh += d_read[:, t]
            dh, _ = cell.backward(t, dh)
            dh += self.attention.step_backward(t, np.concatenate([cell.d_x[:, t], d_contexts[:, t]], axis=-1))
            if words is not None:
                dh, _ = words.backward(t, dh)
            if not self.late:
                dh += d_read[:, t]
        for record in (cell, words):
            if record is not None:
                record.finish()
        return (cell if words is None else words).d_x, dh
