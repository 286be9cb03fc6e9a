"""The encoder-decoder of Sutskever, Vinyals and Le 2014: the last states of deep LSTMs hold the whole source."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fastattn._arrays import Array
from fastattn.layers import LSTM, Embedding, Linear, Stacked
from fastattn.seq2seq.models.model import BatchLike, Model, State, check_sentences, dropping, padded
from fastattn.seq2seq.models.randomness import Place, derive
from fastattn.seq2seq.schema import Section, share, size

__all__ = ["Sutskever", "SutskeverConfig"]


@dataclass(frozen=True)
class SutskeverConfig(Section, section="model"):
    """Settings of `Sutskever`; sizes by default as in the paper's section 3.4.

    Attributes
    ----------
    embedding, hidden : int
        Widths of embeddings and of a layer's h and c.
    layers : int
    reverse_source : bool
        Whether source tokens are read from last to first, the end token still last.
    dropout : float
        Share of the elements of embeddings, outputs of layers and output features dropped in training.
    label_smoothing : float
        Share of the target's probability that training spreads over the vocabulary.
    """

    kind: Literal["sutskever"] = "sutskever"
    embedding: int = size(1000)
    hidden: int = size(1000)
    layers: int = size(4, most=1000)
    reverse_source: bool = True
    dropout: float = share(0.0)
    label_smoothing: float = share(0.0)


@dataclass(frozen=True)
class SutskeverState(State):
    """For each layer h and c, (B, H) each."""

    layers: tuple[tuple[Array, Array], ...]


class Sutskever(Model):
    """Deep LSTM encoder whose last state starts a deep LSTM decoder.

    The fixed vector is h and c of all layers after the last source token. Reversing the source brings its first
    words near the target's first words. The decoder's loop depends on given tokens only, so that training has one
    matrix product a layer for all steps, besides those with the state.

    Parameters
    ----------
    config : SutskeverConfig
    source_size, target_size : int
    rng : numpy.random.Generator
    dtype : dtype

    References
    ----------
    Sutskever, Vinyals, Le, "Sequence to Sequence Learning with Neural Networks", NeurIPS 2014, arXiv:1409.3215.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.seq2seq import SutskeverConfig, build
    >>> model = build(SutskeverConfig(embedding=8, hidden=16, layers=2), 10, 12, seed=0)
    >>> log_probabilities, state, weights = model.step(np.array([1]), model.encode(np.array([[4, 2]]), np.array([2])))
    >>> log_probabilities.shape, weights
    ((1, 12), None)
    """

    attends = False

    def __init__(
        self,
        config: SutskeverConfig,
        source_size: int,
        target_size: int,
        *,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        E, H = config.embedding, config.hidden
        more: Any = {"rng": rng, "dtype": dtype}
        self.config = config
        self.source_embedding = Embedding(source_size, E, deviation=E**-0.5, **more)
        widths = [E, *[H] * (config.layers - 1)]
        self.encoder = Stacked([LSTM(width, H, **more) for width in widths], dropout=config.dropout)
        self.target_embedding = Embedding(target_size, E, deviation=E**-0.5, **more)
        self.decoder = Stacked([LSTM(width, H, **more) for width in widths], dropout=config.dropout)
        self.projection = Linear(H, target_size, **more)

    def _source(self, source: Array, lengths: Array) -> Array:
        ids = padded(source, lengths)
        if not self.config.reverse_source:
            return ids
        last = np.asarray(lengths)[:, None] - 1
        at = np.arange(ids.shape[1])
        return np.take_along_axis(ids, np.where(at < last, last - 1 - at, at), axis=1)

    def encode(self, source: Array, source_lengths: Array) -> SutskeverState:
        """Return the state before the first target token."""
        check_sentences("source", source, source_lengths)
        x = self.source_embedding.forward(self._source(source, source_lengths))
        return SutskeverState(self.encoder.forward(x, None, source_lengths)[1])

    def advance(self, tokens: Array, state: SutskeverState) -> tuple[Array, SutskeverState, None]:
        """Return features (B, H) after `tokens`, the next state, and no weights."""
        x, after = self.target_embedding.forward(tokens), []
        for layer, before in zip(self.decoder.layers, state.layers):
            after.append(layer.cell.forward(x, before))
            x = after[-1][0]
        return x, SutskeverState(tuple(after)), None

    def features(self, batch: BatchLike, inputs: Array, *, weights: bool | str = False) -> tuple[Array, None]:
        """Return features (B, T, H), and no weights."""
        state = self.encode(batch.source, batch.source_lengths)
        return self.decoder.forward(self.target_embedding.forward(inputs), state.layers)[0], None

    def features_vjp(self, batch: BatchLike, inputs: Array, seeds: Array) -> tuple[Array, Callable[[Array], None]]:
        """Return features with dropout, and the function from their gradient, which adds to parameters'."""
        drop = dropping(self.config.dropout, seeds)
        source, source_back = self.source_embedding.vjp(self._source(batch.source, batch.source_lengths))
        source, undrop_source = drop(source, Place.SOURCE)
        _, states, encoder_back = self.encoder.vjp(
            source, None, batch.source_lengths, seeds=derive(seeds, Place.STATES)
        )
        y, target_back = self.target_embedding.vjp(inputs)
        y, undrop_target = drop(y, Place.TARGET)
        x, _, decoder_back = self.decoder.vjp(y, states, seeds=derive(seeds, Place.DECODER))
        x, undrop_features = drop(x, Place.FEATURES)

        def backward(dx: Array) -> None:
            dy, d_states = decoder_back(undrop_features(dx))
            target_back(undrop_target(dy))
            source_back(undrop_source(encoder_back(None, d_states)[0]))

        return x, backward
