"""The Transformer of Vaswani et al. 2017."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fastattn._arrays import Array
from fastattn._kernels import core
from fastattn.attention import Memory
from fastattn.errors import ArgumentError, ConfigError, describe, describe_file
from fastattn.layers import Embedding, FeedForward, Layer, LayerNorm, Linear
from fastattn.layers.activations import Activation
from fastattn.positions import Positions, create
from fastattn.seq2seq.models.model import (
    BatchLike,
    Longest,
    Model,
    State,
    check_sentences,
    decoder_inputs,
    dropping,
    padded,
)
from fastattn.seq2seq.models.multihead import CrossAttention, SelfAttention
from fastattn.seq2seq.models.randomness import Place, derive
from fastattn.seq2seq.models.sentences import check_batch, length_mask
from fastattn.seq2seq.models.tied import TiedEmbedding
from fastattn.seq2seq.schema import Section, share, size

__all__ = ["Transformer", "TransformerConfig"]

ENCODED = 320  # positions that are encoded at once: what a layer makes of them stays in the caches
Back = Callable[[Array], Array]
Drop = Callable[[Array, int], tuple[Array, Back]]


@dataclass(frozen=True)
class TransformerConfig(Section, section="model"):
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
    positions : str
        "sinusoidal", as published, or "learned": added to embeddings. In self-attention alone: "rotary"; "alibi"; "t5",
        with one table for all layers of the encoder, and one for the decoder's (`fastattn.positions`).
    longest : int
        With learned positions, how many there are, of a source as of a target.
    scaled : bool
        Whether embeddings are multiplied by the square root of D, as published.
    norm_embedding : bool
        Whether embeddings with their positions are normalized before the first layer, as BART does.
    activation : str
        Of the feed-forward networks: "relu", as published, "gelu" or "swish" (`fastattn.layers.FeedForward`).
    tied : str
        Which embeddings are columns of the output matrix: "none"; "target"; "all", as published, for which source and
        target must have one vocabulary.
    dropout : float
        Share of the elements of embeddings and sublayers' outputs dropped in training.
    attention_dropout : float
        Share of the attention weights dropped in training.
    label_smoothing : float
    """

    kind: Literal["transformer"] = "transformer"
    width: int = size(512)
    heads: int = size(8)
    inner: int = size(2048)
    encoder_layers: int = size(6, most=1000)
    decoder_layers: int = size(6, most=1000)
    norm: Literal["post", "pre"] = "post"
    bias: bool = False
    positions: Literal["sinusoidal", "learned", "rotary", "alibi", "t5"] = "sinusoidal"
    longest: int = size(1024)
    scaled: bool = True
    norm_embedding: bool = False
    activation: Activation = "relu"
    tied: Literal["none", "target", "all"] = "target"
    dropout: float = share(0.1)
    attention_dropout: float = share(0.0)
    label_smoothing: float = share(0.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            problem = f"expected a divisor of width {self.width}, got {self.heads}"
            raise ConfigError(describe_file("model.heads", problem, "give another number of heads, or another width."))


def _added(x: Array, y: Array) -> Array:
    """Add x to y, which nobody else has, by all threads: a pass over less memory than a new sum."""
    core.add_scaled(x, 1.0, y)
    return y


class _Sublayer(Layer):
    """``norm(x + drop(f(x)))``, or with pre-norm ``x + drop(f(norm(x)))``."""

    def __init__(self, width: int, pre: bool, dtype: Any) -> None:
        self.norm, self.pre = LayerNorm(width, dtype=dtype), pre

    def step(self, x: Array, f: Callable[[Array], Array]) -> Array:
        """Return the result for x (..., D)."""
        return _added(x, f(self.norm.forward(x))) if self.pre else self.norm._forward_sum(x, f(x))

    def vjp(self, x: Array, f: Callable[[Array], tuple[Array, Back]], drop: Drop, place: int) -> tuple[Array, Back]:
        """Return the result for x (B, T, D), and the function from its gradient to that of x."""
        inner, norm_back = self.norm.vjp(x) if self.pre else (x, None)
        y, f_back = f(inner)
        y, undrop = drop(y, place)
        y = _added(x, y)
        if norm_back is not None:
            before = norm_back
            return y, lambda dy: _added(dy, before(f_back(undrop(dy))))
        y, after = self.norm.vjp(y)

        def backward(dy: Array) -> Array:
            dy = after(dy)
            return _added(dy, f_back(undrop(dy)))

        return y, backward


class _EncoderLayer(Layer):
    def __init__(self, config: TransformerConfig, rng: np.random.Generator, dtype: Any) -> None:
        D, pre = config.width, config.norm == "pre"
        self.attention = SelfAttention(D, config.heads, bias=config.bias, rng=rng, dtype=dtype)
        self.attended = _Sublayer(D, pre, dtype)
        self.network = FeedForward(D, config.inner, activation=config.activation, rng=rng, dtype=dtype)
        self.fed = _Sublayer(D, pre, dtype)

    def vjp(self, x: Array, drop: Drop, place: int, options: dict[str, Any]) -> tuple[Array, Back]:
        x, attended_back = self.attended.vjp(x, lambda x: self.attention.vjp(x, **options), drop, place)
        x, fed_back = self.fed.vjp(x, self.network.vjp, drop, place + 1)
        return x, lambda dx: attended_back(fed_back(dx))

    def forward(self, x: Array, options: dict[str, Any]) -> Array:
        x = self.attended.step(x, lambda x: self.attention.vjp(x, **options)[0])
        return self.fed.step(x, self.network.forward)


class _DecoderLayer(Layer):
    def __init__(self, config: TransformerConfig, rng: np.random.Generator, dtype: Any) -> None:
        D, pre = config.width, config.norm == "pre"
        more: Any = {"bias": config.bias, "rng": rng, "dtype": dtype}
        self.attention = SelfAttention(D, config.heads, **more)
        self.attended = _Sublayer(D, pre, dtype)
        self.cross = CrossAttention(D, config.heads, **more)
        self.crossed = _Sublayer(D, pre, dtype)
        self.network = FeedForward(D, config.inner, activation=config.activation, rng=rng, dtype=dtype)
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
        self, x: Array, past: Memory, memory: Memory, positions: Positions, return_weights: bool
    ) -> tuple[Array, Memory, Array | None]:
        kept: dict[str, Any] = {}

        def own(x: Array) -> Array:
            y, kept["past"] = self.attention.step(x, past, positions)
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


class Transformer(Model):
    """Stacks of self-attention and feed-forward networks; the decoder's layers also attend to the encoder's output.

    ::

        embed(x)_p = sqrt(D) E x_p + sinusoids(p)      or as `TransformerConfig` says
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
    are those of the last decoder layer's attention to the source, of each head; `teacher_forcing` gives all layers',
    `self_attention` those of either side to itself.

    References
    ----------
    Vaswani et al., "Attention Is All You Need", NeurIPS 2017, arXiv:1706.03762: section 3, equations 1 and 2.
    Other positions: Su et al. 2021 (arXiv:2104.09864), Press et al. 2022 (arXiv:2108.12409), Raffel et al. 2020
    (arXiv:1910.10683), Gehring et al. 2017 (arXiv:1705.03122).
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

    caches = True

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
        tied = TiedEmbedding(self.projection.w)

        def embedding(size: int, *ties: str) -> Any:
            return tied if config.tied in ties else Embedding(size, D, deviation=D**-0.5, rng=rng, dtype=dtype)

        self.source_embedding = embedding(source_size, "all")
        self.target_embedding = embedding(target_size, "all", "target")
        self.encoder = [_EncoderLayer(config, rng, dtype) for _ in range(config.encoder_layers)]
        self.decoder = [_DecoderLayer(config, rng, dtype) for _ in range(config.decoder_layers)]
        if config.norm == "pre":
            self.encoder_norm, self.decoder_norm = LayerNorm(D, dtype=dtype), LayerNorm(D, dtype=dtype)
        self.source_norm, self.target_norm = (
            LayerNorm(D, dtype=dtype) if config.norm_embedding else None for _ in range(2)
        )
        sizes: Any = {"width": D, "heads": config.heads, "head_width": D // config.heads, "rng": rng, "dtype": dtype}
        positions = {"name": config.positions, **({"longest": config.longest} if config.positions == "learned" else {})}
        self.source_positions = create(positions, bidirectional=True, **sizes)
        self.target_positions = create(positions, bidirectional=False, **sizes)

    def longest(self) -> Longest:
        """Return how long sentences may be: with learned positions, as long as these go."""
        if self.config.positions != "learned":
            return Longest()
        return Longest(self.config.longest, self.config.longest, "longest")

    def _scale(self, dtype: "np.dtype[Any]") -> Any:
        """Return what embeddings are multiplied by."""
        return dtype.type(math.sqrt(self.config.width) if self.config.scaled else 1)

    def _embed(
        self, table: Any, positions: Positions, norm: LayerNorm | None, ids: Array, drop: Drop, place: int
    ) -> tuple[Array, Callable[[Array], None]]:
        y, table_back = table.vjp(ids)
        scale = self._scale(y.dtype)
        x, norm_back = positions.add(y * scale), None
        if norm is not None:
            x, norm_back = norm.vjp(x)
        x, undrop = drop(x, place)

        def backward(dx: Array) -> None:
            dx = undrop(dx)
            dx = dx if norm_back is None else norm_back(dx)
            positions.add_vjp(dx)
            table_back(dx * scale)

        return x, backward

    def _encoder_vjp(
        self, ids: Array, lengths: Array, seeds: Array | None, kept: list[Array] | None = None
    ) -> tuple[Array, Callable[[Array], None]]:
        drop = dropping(self.config.dropout, seeds)
        table, positions, norm = self.source_embedding, self.source_positions, self.source_norm
        x, embed_back = self._embed(table, positions, norm, padded(ids, lengths), drop, Place.SOURCE)
        backs = []
        for number, layer in enumerate(self.encoder):
            options = {
                "positions": self.source_positions, "key_lengths": lengths, "kept": kept,
                **self._attention_dropout(seeds, Place.ENCODER_WEIGHTS + number),
            }  # fmt: skip
            x, back = layer.vjp(x, drop, Place.ENCODER_SUBLAYERS + 4 * number, options)
            backs.append(back)
        if self.config.norm == "pre":
            x, back = self.encoder_norm.vjp(x)
            backs.append(back)

        def backward(dx: Array) -> None:
            for back in reversed(backs):
                dx = back(dx)
            embed_back(dx)

        return x, backward

    def _encoded(self, ids: Array, lengths: Array) -> Array:
        """Return what `_encoder_vjp` does, of which nothing is kept: a layer has the memory of the one before."""
        count = max(1, ENCODED // max(1, ids.shape[1]))
        if len(ids) > count:
            some = [slice(first, first + count) for first in range(0, len(ids), count)]
            return np.concatenate([self._encoded(ids[part], lengths[part]) for part in some])
        table, positions, norm = self.source_embedding, self.source_positions, self.source_norm
        x, _ = self._embed(table, positions, norm, padded(ids, lengths), dropping(0, None), Place.SOURCE)
        options = {"positions": positions, "key_lengths": lengths}
        for layer in self.encoder:
            x = layer.forward(x, options)
        return self.encoder_norm.forward(x) if self.config.norm == "pre" else x

    def _attention_dropout(self, seeds: Array | None, place: int) -> dict[str, Any]:
        rate = self.config.attention_dropout
        return {} if seeds is None or not rate else {"dropout": rate, "seed": derive(seeds, place)}

    def encode(self, source: Array, source_lengths: Array) -> TransformerState:
        """Return the state before the first target token."""
        check_sentences("source", source, source_lengths)
        x = self._encoded(source, np.asarray(source_lengths))
        memories = tuple(layer.cross.prepare(x, source_lengths) for layer in self.decoder)
        return TransformerState(0, tuple(layer.attention.start(len(x)) for layer in self.decoder), memories)

    def advance(self, tokens: Array, state: TransformerState) -> tuple[Array, TransformerState, Array | None]:
        """Return features (B, D) after `tokens`, the next state, and weights (B, H, S)."""
        x = self.target_embedding.forward(tokens)
        x = self.target_positions.add((x * self._scale(x.dtype))[:, None], state.position)[:, 0]
        if self.target_norm is not None:
            x = self.target_norm.forward(x)
        past, weights = [], None
        for number, layer in enumerate(self.decoder):
            last = number == len(self.decoder) - 1
            x, memory, weights = layer.step(x, state.past[number], state.memories[number], self.target_positions, last)
            past.append(memory)
        if self.config.norm == "pre":
            x = self.decoder_norm.forward(x)
        return x, TransformerState(state.position + 1, tuple(past), state.memories), weights

    def features(self, batch: BatchLike, inputs: Array, *, weights: bool | str = False) -> tuple[Array, Array | None]:
        """Return features (B, T, D), and weights (B, T, H, S), or with "layers" (B, T, L, H, S), or None."""
        x, attended, _ = self._run(batch, inputs, None, weights)
        if not attended:
            return x, None
        by_position = [layer.transpose(0, 2, 1, 3) for layer in attended]
        return x, np.stack(by_position, axis=2) if weights == "layers" else np.ascontiguousarray(by_position[-1])

    def features_vjp(self, batch: BatchLike, inputs: Array, seeds: Array) -> tuple[Array, Callable[[Array], None]]:
        """Return features with dropout, and the function from their gradient, which adds to parameters'."""
        x, _, backward = self._run(batch, inputs, seeds, False)
        return x, backward

    def self_attention(self, batch: BatchLike) -> tuple[Array, Array]:
        """Return what the positions of each side attend to on their own side, with the decoder fed the targets.

        Parameters
        ----------
        batch : Batch

        Returns
        -------
        encoder : array, shape (B, L, H, S, S)
            Weights of every encoder layer and head; 0 beyond a source's length.
        decoder : array, shape (B, L, H, T, T)
            The same of the decoder, whose positions attend to themselves and those before. Row t is where target t is
            computed, column t is the token that is fed there: `BOS`, then the targets.
        """
        batch = check_batch(batch)
        kept: tuple[list[Array], list[Array]] = [], []
        self._run(batch, decoder_inputs(batch), None, False, kept)
        encoder, decoder = (np.stack(layers, axis=1) for layers in kept)
        encoder *= length_mask(batch.source, batch.source_lengths)[:, None, None, :, None]
        decoder *= length_mask(batch.target, batch.target_lengths)[:, None, None, :, None]
        return encoder, decoder

    def _run(
        self,
        batch: BatchLike,
        inputs: Array,
        seeds: Array | None,
        return_weights: bool | str,
        kept: tuple[list[Array] | None, list[Array] | None] = (None, None),
    ) -> tuple[Array, list[Array], Callable[[Array], None]]:
        drop, lengths = dropping(self.config.dropout, seeds), np.asarray(batch.source_lengths)
        memory, encoder_back = self._encoder_vjp(batch.source, lengths, seeds, kept[0])
        table, positions, norm = self.target_embedding, self.target_positions, self.target_norm
        x, embed_back = self._embed(table, positions, norm, inputs, drop, Place.TARGET)
        backs: list[Callable[[Array], tuple[Array, Array]]] = []
        attended: list[Array] = []
        for number, layer in enumerate(self.decoder):
            own = {
                "positions": self.target_positions, "causal": "top_left", "kept": kept[1],
                **self._attention_dropout(seeds, Place.DECODER_WEIGHTS + 2 * number),
            }  # fmt: skip
            other = {"key_lengths": lengths, **self._attention_dropout(seeds, Place.DECODER_WEIGHTS + 2 * number + 1)}
            wanted = return_weights == "layers" or (bool(return_weights) and number == len(self.decoder) - 1)
            x, weights, back = layer.vjp(x, memory, drop, Place.DECODER_SUBLAYERS + 4 * number, own, other, wanted)
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
                _added(d_layer, d_memory)
            embed_back(dx)
            encoder_back(d_memory)

        return x, attended, backward


def _check(config: TransformerConfig, source_size: int, target_size: int) -> None:
    if config.tied == "all" and source_size != target_size:
        hint = 'share one vocabulary, or use tied="target".'
        raise ArgumentError(
            describe("tied", "one vocabulary for source and target", f"{source_size} and {target_size} ids", hint)
        )
