"""The Transformer of Vaswani et al. 2017."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn.errors import ArgumentError, describe
from fastattn.layers import Embedding, FeedForward, Layer, LayerNorm, Linear, Parameter
from fastattn.memory import Memory
from fastattn.seq2seq.model import Model, Pairs, State, check_sentences, dropping, known, register
from fastattn.seq2seq.multihead import CrossAttention, SelfAttention
from fastattn.seq2seq.randomness import derive

__all__ = ["Transformer", "TransformerConfig", "sinusoids"]

Array = NDArray[Any]
Back = Callable[[Array], Array]
Drop = Callable[[Array, int], tuple[Array, Back]]
_TIES = ("none", "target", "all")


@dataclass(frozen=True)
class TransformerConfig:
    """Settings of `Transformer`; by default the paper's base model, but for `tied`.

    Attributes
    ----------
    width : int
        Size D of all embeddings and states.
    heads : int
    inner : int
        Hidden width of the feed-forward networks.
    encoder_layers, decoder_layers : int
    norm : str
        "post": normalization after each residual sum, as published; "pre": of each sublayer's input, and once at the
        end of both stacks (Xiong et al. 2020).
    bias : bool
        Whether the attention's projections have biases.
    tied : str
        Which embeddings are columns of the output matrix: "none"; "target"; "all", as published, for which source and
        target must have one vocabulary.
    dropout : float
        Share of the elements of embeddings and sublayers' outputs dropped in training.
    attention_dropout : float
        Share of the attention weights dropped in training.
    label_smoothing : float
    """

    kind: str = "transformer"
    width: int = 512
    heads: int = 8
    inner: int = 2048
    encoder_layers: int = 6
    decoder_layers: int = 6
    norm: str = "post"
    bias: bool = False
    tied: str = "target"
    dropout: float = 0.1
    attention_dropout: float = 0.0
    label_smoothing: float = 0.1


def sinusoids(first: int, count: int, width: int) -> Array:
    """Return encodings of positions first.. as float64 (count, width).

    ``(p, 2 i)`` is ``sin(p / 10000^(2 i / width))`` and ``(p, 2 i + 1)`` the cosine of the same (Vaswani et al. 2017,
    section 3.5). Each element is computed on its own, so that a position has the same bits in any table.

    Examples
    --------
    >>> from fastattn.seq2seq.transformer import sinusoids
    >>> sinusoids(0, 2, 4).round(3)
    array([[0.   , 1.   , 0.   , 1.   ],
           [0.841, 0.54 , 0.01 , 1.   ]])
    """
    rates = [10000.0 ** (-(i - i % 2) / width) for i in range(width)]
    rows = [
        [math.cos(p * rate) if i % 2 else math.sin(p * rate) for i, rate in enumerate(rates)]
        for p in range(first, first + count)
    ]
    return np.array(rows, np.float64).reshape(count, width)


class _TiedEmbedding(Layer):
    """Embeddings that are the columns of the output matrix (Press and Wolf 2017)."""

    def __init__(self, w: Parameter) -> None:
        self.w = w

    def forward(self, ids: Array) -> Array:
        """Return (..., D)."""
        return np.ascontiguousarray(self.w.value.T[ids])

    def vjp(self, ids: Array) -> tuple[Array, Callable[[Array], None]]:
        """Return ``forward(ids)``, and the function that adds the gradient of its result to that of w."""

        def backward(dy: Array) -> None:
            there, at = np.unique(ids.reshape(-1), return_inverse=True)
            rows = np.zeros((len(there), dy.shape[-1]), dy.dtype)
            np.add.at(rows, at.reshape(-1), dy.reshape(-1, dy.shape[-1]))
            self.w.gradient[:, there] += rows.T

        return self.forward(ids), backward


class _Sublayer(Layer):
    """``norm(x + drop(f(x)))``, or with pre-norm ``x + drop(f(norm(x)))``."""

    def __init__(self, width: int, pre: bool, dtype: Any) -> None:
        self.norm, self.pre = LayerNorm(width, dtype=dtype), pre

    def step(self, x: Array, f: Callable[[Array], Array]) -> Array:
        """Return the result for positions x (B, D)."""
        return x + f(self.norm.forward(x)) if self.pre else self.norm.forward(x + f(x))

    def vjp(self, x: Array, f: Callable[[Array], tuple[Array, Back]], drop: Drop, place: int) -> tuple[Array, Back]:
        """Return the result for x (B, T, D), and the function from its gradient to that of x."""
        inner, norm_back = self.norm.vjp(x) if self.pre else (x, None)
        y, f_back = f(inner)
        y, undrop = drop(y, place)
        y = x + y
        if norm_back is not None:
            before = norm_back
            return y, lambda dy: dy + before(f_back(undrop(dy)))
        y, after = self.norm.vjp(y)

        def backward(dy: Array) -> Array:
            dy = after(dy)
            return dy + f_back(undrop(dy))

        return y, backward


class _EncoderLayer(Layer):
    def __init__(self, config: TransformerConfig, rng: np.random.Generator, dtype: Any) -> None:
        D, pre = config.width, config.norm == "pre"
        self.attention = SelfAttention(D, config.heads, bias=config.bias, rng=rng, dtype=dtype)
        self.attended = _Sublayer(D, pre, dtype)
        self.network = FeedForward(D, config.inner, rng=rng, dtype=dtype)
        self.fed = _Sublayer(D, pre, dtype)

    def vjp(self, x: Array, drop: Drop, place: int, options: dict[str, Any]) -> tuple[Array, Back]:
        x, attended_back = self.attended.vjp(x, lambda x: self.attention.vjp(x, **options), drop, place)
        x, fed_back = self.fed.vjp(x, self.network.vjp, drop, place + 1)
        return x, lambda dx: attended_back(fed_back(dx))


class _DecoderLayer(Layer):
    def __init__(self, config: TransformerConfig, rng: np.random.Generator, dtype: Any) -> None:
        D, pre = config.width, config.norm == "pre"
        more: Any = {"bias": config.bias, "rng": rng, "dtype": dtype}
        self.attention = SelfAttention(D, config.heads, **more)
        self.attended = _Sublayer(D, pre, dtype)
        self.cross = CrossAttention(D, config.heads, **more)
        self.crossed = _Sublayer(D, pre, dtype)
        self.network = FeedForward(D, config.inner, rng=rng, dtype=dtype)
        self.fed = _Sublayer(D, pre, dtype)

    def vjp(
        self,
        x: Array,
        memory: Array,
        drop: Drop,
        place: int,
        own: dict[str, Any],
        other: dict[str, Any],
        return_weights: bool,
    ) -> tuple[Array, Array | None, Callable[[Array], tuple[Array, Array]]]:
        kept: dict[str, Any] = {}

        def cross(x: Array) -> tuple[Array, Back]:
            y, kept["weights"], back = self.cross.vjp(x, memory, return_weights=return_weights, **other)

            def backward(dy: Array) -> Array:
                dx, kept["d_memory"] = back(dy)
                return dx

            return y, backward

        x, attended_back = self.attended.vjp(x, lambda x: self.attention.vjp(x, **own), drop, place)
        x, crossed_back = self.crossed.vjp(x, cross, drop, place + 1)
        x, fed_back = self.fed.vjp(x, self.network.vjp, drop, place + 2)

        def backward(dx: Array) -> tuple[Array, Array]:
            dx = attended_back(crossed_back(fed_back(dx)))
            return dx, kept["d_memory"]

        return x, kept["weights"], backward

    def step(
        self, x: Array, past: Memory, memory: Memory, return_weights: bool
    ) -> tuple[Array, Memory, Array | None]:
        kept: dict[str, Any] = {}

        def own(x: Array) -> Array:
            y, kept["past"] = self.attention.step(x, past)
            return y

        def cross(x: Array) -> Array:
            y, kept["weights"] = self.cross.step(x, memory, return_weights=return_weights)
            return y

        x = self.fed.step(self.crossed.step(self.attended.step(x, own), cross), self.network.forward)
        return x, kept["past"], kept["weights"]


@dataclass(frozen=True)
class TransformerState(State):
    """How many tokens were fed; for each decoder layer those tokens' keys and values, and the source's."""

    position: int
    past: tuple[Memory, ...]
    memories: tuple[Memory, ...]


@register
class Transformer(Model):
    """Stacks of self-attention and feed-forward networks; the decoder's layers also attend to the encoder's output.

    ::

        embed(x)_p = sqrt(D) E x_p + sinusoids(p)
        encoder layer:  self-attention, feed-forward
        decoder layer:  causal self-attention, attention to the encoder's output, feed-forward
        p(y_t) = softmax(decoder_t W_o + b)

    each sublayer within a residual sum and a layer normalization (`TransformerConfig.norm`).

    Parameters
    ----------
    config : TransformerConfig
    source_size, target_size : int
    rng : numpy.random.Generator
    dtype : dtype

    Notes
    -----
    Training computes all positions at once, in fused attention that stores no (T, S) array. Decoding computes one
    position a step against the keys and values of those before it, which are appended to, with the same bits. Weights
    are those of the last decoder layer's attention to the source, for each head; `forced` can give all layers'.

    References
    ----------
    Vaswani et al., "Attention Is All You Need", NeurIPS 2017, arXiv:1706.03762: section 3, equations 1 and 2.
    Xiong et al., "On Layer Normalization in the Transformer Architecture", ICML 2020, arXiv:2002.04745.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.seq2seq import TransformerConfig, build
    >>> config = TransformerConfig(width=8, heads=2, inner=16, encoder_layers=1, decoder_layers=1)
    >>> model = build(config, 10, 12, seed=0)
    >>> log_probabilities, state, weights = model.step(np.array([1]), model.encode(np.array([[4, 2]]), np.array([2])))
    >>> log_probabilities.shape, weights.shape
    ((1, 12), (1, 2, 2))
    """

    kind = "transformer"
    settings = TransformerConfig

    def __init__(
        self,
        config: TransformerConfig,
        source_size: int,
        target_size: int,
        *,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        _check(config, source_size, target_size)
        D = config.width
        self.config = config
        self.projection = Linear(D, target_size, rng=rng, dtype=dtype)
        tied = _TiedEmbedding(self.projection.w)

        def embedding(size: int, *ties: str) -> Any:
            return tied if config.tied in ties else Embedding(size, D, deviation=D**-0.5, rng=rng, dtype=dtype)

        self.source_embedding = embedding(source_size, "all")
        self.target_embedding = embedding(target_size, "all", "target")
        self.encoder = [_EncoderLayer(config, rng, dtype) for _ in range(config.encoder_layers)]
        self.decoder = [_DecoderLayer(config, rng, dtype) for _ in range(config.decoder_layers)]
        if config.norm == "pre":
            self.encoder_norm, self.decoder_norm = LayerNorm(D, dtype=dtype), LayerNorm(D, dtype=dtype)
        self._positions = sinusoids(0, 64, D).astype(dtype)

    def _position(self, first: int, count: int) -> Array:
        """Encodings of positions first to first + count - 1."""
        there = len(self._positions)
        if first + count > there:
            more = sinusoids(there, max(first + count - there, there), self.config.width)
            self._positions = np.concatenate([self._positions, more.astype(self._positions.dtype)])
        return self._positions[first : first + count]

    def _embed(self, table: Any, ids: Array, drop: Drop, place: int) -> tuple[Array, Callable[[Array], None]]:
        y, table_back = table.vjp(ids)
        scale = y.dtype.type(math.sqrt(self.config.width))
        x, undrop = drop(y * scale + self._position(0, ids.shape[1]), place)
        return x, lambda dx: table_back(undrop(dx) * scale)

    def _encoder_vjp(self, ids: Array, lengths: Array, seeds: Array | None) -> tuple[Array, Callable[[Array], None]]:
        drop = dropping(self.config.dropout, seeds)
        x, embed_back = self._embed(self.source_embedding, known(ids, lengths), drop, 0)
        backs = []
        for number, layer in enumerate(self.encoder):
            options = {"key_lengths": lengths, **self._attention_dropout(seeds, (1 << 20) + number)}
            x, back = layer.vjp(x, drop, (1 << 16) + 4 * number, options)
            backs.append(back)
        if self.config.norm == "pre":
            x, back = self.encoder_norm.vjp(x)
            backs.append(back)

        def backward(dx: Array) -> None:
            for back in reversed(backs):
                dx = back(dx)
            embed_back(dx)

        return x, backward

    def _attention_dropout(self, seeds: Array | None, place: int) -> dict[str, Any]:
        rate = self.config.attention_dropout
        return {} if seeds is None or not rate else {"dropout": rate, "seed": derive(seeds, place)}

    def encode(self, source: Array, source_lengths: Array) -> TransformerState:
        """Return the state before the first target token."""
        check_sentences("source", source, source_lengths)
        x, _ = self._encoder_vjp(source, np.asarray(source_lengths), None)
        memories = tuple(layer.cross.prepare(x, source_lengths) for layer in self.decoder)
        return TransformerState(0, tuple(layer.attention.start(len(x)) for layer in self.decoder), memories)

    def advance(self, tokens: Array, state: TransformerState) -> tuple[Array, TransformerState, Array | None]:
        """Return features (B, D) after `tokens`, the next state, and weights (B, H, S)."""
        x = self.target_embedding.forward(tokens)
        x = x * x.dtype.type(math.sqrt(self.config.width)) + self._position(state.position, 1)
        past, weights = [], None
        for number, layer in enumerate(self.decoder):
            last = number == len(self.decoder) - 1
            x, memory, weights = layer.step(x, state.past[number], state.memories[number], last)
            past.append(memory)
        if self.config.norm == "pre":
            x = self.decoder_norm.forward(x)
        return x, TransformerState(state.position + 1, tuple(past), state.memories), weights

    def features(self, batch: Pairs, inputs: Array, *, weights: bool | str = False) -> tuple[Array, Array | None]:
        """Return features (B, T, D), and weights (B, T, H, S), or with "layers" (B, T, L, H, S), or None."""
        x, attended, _ = self._run(batch, inputs, None, weights)
        if not attended:
            return x, None
        by_position = [layer.transpose(0, 2, 1, 3) for layer in attended]
        return x, np.stack(by_position, axis=2) if weights == "layers" else np.ascontiguousarray(by_position[-1])

    def features_vjp(self, batch: Pairs, inputs: Array, seeds: Array) -> tuple[Array, Callable[[Array], None]]:
        """Return features with dropout, and the function from their gradient, which adds to parameters'."""
        x, _, backward = self._run(batch, inputs, seeds, False)
        return x, backward

    def _run(
        self, batch: Pairs, inputs: Array, seeds: Array | None, return_weights: bool | str
    ) -> tuple[Array, list[Array], Callable[[Array], None]]:
        drop, lengths = dropping(self.config.dropout, seeds), np.asarray(batch.source_lengths)
        memory, encoder_back = self._encoder_vjp(batch.source, lengths, seeds)
        x, embed_back = self._embed(self.target_embedding, inputs, drop, 1)
        backs: list[Callable[[Array], tuple[Array, Array]]] = []
        attended: list[Array] = []
        for number, layer in enumerate(self.decoder):
            own = {"causal": "top_left", **self._attention_dropout(seeds, (2 << 20) + 2 * number)}
            other = {"key_lengths": lengths, **self._attention_dropout(seeds, (2 << 20) + 2 * number + 1)}
            wanted = return_weights == "layers" or (bool(return_weights) and number == len(self.decoder) - 1)
            x, weights, back = layer.vjp(x, memory, drop, (2 << 16) + 4 * number, own, other, wanted)
            backs.append(back)
            attended += [] if weights is None else [weights]
        norm_back = None
        if self.config.norm == "pre":
            x, norm_back = self.decoder_norm.vjp(x)

        def backward(dx: Array) -> None:
            if norm_back is not None:
                dx = norm_back(dx)
            d_memory = np.zeros_like(memory)
            for back in reversed(backs):
                dx, d_layer = back(dx)
                d_memory += d_layer
            embed_back(dx)
            encoder_back(d_memory)

        return x, attended, backward


def _check(config: TransformerConfig, source_size: int, target_size: int) -> None:
    for name, value, allowed in (("norm", config.norm, ("post", "pre")), ("tied", config.tied, _TIES)):
        if value not in allowed:
            expected = f"one of {', '.join(allowed)}"
            raise ArgumentError(describe(name, expected, repr(value), "see TransformerConfig."))
    if min(config.encoder_layers, config.decoder_layers) < 1:
        got = f"{config.encoder_layers} and {config.decoder_layers}"
        raise ArgumentError(describe("encoder_layers, decoder_layers", "at least 1", got, "the paper has 6."))
    if config.tied == "all" and source_size != target_size:
        hint = 'share one vocabulary, or use tied="target".'
        raise ArgumentError(
            describe("tied", "one vocabulary for source and target", f"{source_size} and {target_size} ids", hint)
        )
