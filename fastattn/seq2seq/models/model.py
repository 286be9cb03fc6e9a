"""What every encoder-decoder is."""

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np

from fastattn import _reprs
from fastattn._allocator import in_kept_memory
from fastattn._arrays import Array, as_array, index_array, row_array
from fastattn._numbers import number_in
from fastattn.attention import Memory
from fastattn.errors import ArgumentError, ShapeError, describe
from fastattn.layers import Layer, Linear
from fastattn.losses import cross_entropy, cross_entropy_vjp, log_softmax
from fastattn.seq2seq.models.randomness import uniform
from fastattn.seq2seq.models.sentences import (
    IGNORED,
    BatchLike,
    check_batch,
    check_seeds,
    check_sentences,
    decoder_inputs,
    dropping,
    length_mask,
    padded,
    targets_of,
)
from fastattn.variants.protocol.state import selected

# What every file of a model needs, from one place.
__all__ = [
    "BatchLike",
    "Longest",
    "Model",
    "State",
    "check_sentences",
    "check_tokens",
    "decoder_inputs",
    "dropping",
    "padded",
]

_ROWS = 256  # rows of the vocabulary's width that `teacher_forcing` holds at once


@dataclasses.dataclass(frozen=True)
class State:
    """Where the decoding of a batch of sentences stands: a model's arrays, batch first, and its memories."""

    def __init_subclass__(cls) -> None:
        cls.__repr__ = _reprs.fields  # type: ignore[method-assign]  # before a dataclass has one that prints arrays

    @property
    def batch(self) -> int | None:
        """The number of sentences, or None, if no field says it."""
        return next((len(value) for value in vars(self).values() if isinstance(value, np.ndarray)), None)

    def select(self, rows: Array) -> Self:
        """Return the state whose batch entry i is this one's entry ``rows[i]``; memories are not copied."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        index = row_array(rows, self.batch)
        changes = {name: selected(value, index) for name, value in values.items()}
        return dataclasses.replace(self, **changes)

    def stored(self, storage: object) -> Self:
        """Return the state with its memories of keys and values kept in another element type, see `Memory.stored`."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return dataclasses.replace(self, **{name: _stored(value, storage) for name, value in values.items()})


def _stored(value: Any, storage: object) -> Any:
    if isinstance(value, tuple):
        return tuple(_stored(item, storage) for item in value)
    return value.stored(storage) if isinstance(value, (Memory, State)) else value


@dataclasses.dataclass(frozen=True)
class Longest:
    """How long the sentences are that a model has positions for.

    Attributes
    ----------
    source, target : int or None
        Most tokens, the end included; None: any number.
    key : str
        Of the setting that says so, in the section ``[model]``.
    """

    source: int | None = None
    target: int | None = None
    key: str = ""


def check_tokens(tokens: object, state: Any) -> Array:
    """Return the tokens of a step as an array, or raise unless there is one for each sentence."""
    array = as_array("tokens", tokens)
    batch = getattr(state, "batch", None)
    if array.ndim != 1 or batch not in (None, len(array)):
        expected = "one token for each sentence" + ("" if batch is None else f", shape ({batch},)")
        hint = "pass BOS, or what was chosen, for each."
        raise ShapeError(describe("tokens", expected, f"shape {array.shape}", hint))
    return array


class Model(Layer):
    """Base class of encoder-decoders: from a decoder's features to losses, probabilities and scheduled sampling.

    A model computes for every target position a vector of features, from the source and the target ids before it;
    `projection` and a softmax make it a distribution over the target vocabulary. It implements `features`,
    `features_vjp`, `encode` and `advance`. One whose distribution is no softmax of features has `loss`, `loss_vjp`,
    `teacher_forcing` and `step` of its own in place of the first two and `advance`.

    Attributes
    ----------
    config : dataclass
        What the model was made from.
    projection : Linear
        From features to the target vocabulary.
    attends : bool
        Whether its steps give attention weights.
    caches : bool
        Whether its states hold keys and values as objects `Memory`, which a search can keep in a narrower type.
    """

    attends: ClassVar[bool] = True
    caches: ClassVar[bool] = False
    config: Any
    projection: Linear

    def longest(self) -> Longest:
        """Return how long sentences may be; for most models, of any length."""
        mechanism = getattr(self, "mechanism", None)
        most = None if mechanism is None else mechanism.longest
        return Longest() if most is None else Longest(source=most, key="mechanism.longest")

    @abstractmethod
    def features(self, batch: BatchLike, inputs: Array, *, weights: bool | str = False) -> tuple[Array, Array | None]:
        """Return features (B, T, F) with the decoder fed `inputs` (B, T), and attention weights (B, T, ...) or None.

        `weights` is as for `teacher_forcing`.
        """

    @abstractmethod
    def features_vjp(self, batch: BatchLike, inputs: Array, seeds: Array) -> tuple[Array, Callable[[Array], None]]:
        """Return features with dropout by `seeds`, and the function from their gradient, which adds to parameters'."""

    @abstractmethod
    def encode(self, source: Array, source_lengths: Array) -> State:
        """Return the state before the first target token.

        Parameters
        ----------
        source : int array, shape (B, S)
        source_lengths : int array, shape (B,)
        """

    @abstractmethod
    def advance(self, tokens: Array, state: Any) -> tuple[Array, Any, Array | None]:
        """Return features (B, F) after `tokens`, the next state, and the attention weights or None."""

    def step(self, tokens: Array, state: Any) -> tuple[Array, Any, Array | None]:
        """Feed one token to each sentence.

        Parameters
        ----------
        tokens : int array, shape (B,)
            `BOS` at first, then what was chosen.
        state : State
            Not changed.

        Returns
        -------
        log_probabilities : array, shape (B, V)
            Of the next token; the same bits as `teacher_forcing` gives.
        state : State
        weights : array, shape (B, S) or (B, H, S), or None
            What the decoder attended to.
        """
        tokens = check_tokens(tokens, state)
        x, state, weights = self.advance(tokens, state)
        return log_softmax(self.projection.forward(x)), state, weights

    def loss(self, batch: BatchLike) -> tuple[float, int]:
        """Return minus the log-probability of all target tokens, teacher-forced, and their number.

        Parameters
        ----------
        batch : Batch

        Returns
        -------
        loss : float
            Without dropout or label smoothing, so that ``exp(loss / count)`` is the perplexity.
        count : int
        """
        batch = check_batch(batch)
        x, _ = self.features(batch, decoder_inputs(batch))
        return cross_entropy(x, self.projection, targets_of(batch), ignore=IGNORED)

    @in_kept_memory
    def loss_vjp(
        self, batch: BatchLike, *, seeds: Array, sampling: float = 0.0
    ) -> tuple[float, int, Callable[[float], None]]:
        """Return the training loss, the number of target tokens, and the function that adds the gradients.

        Parameters
        ----------
        batch : Batch
        seeds : uint64 array, shape (B,)
            Every random decision about a sentence is a function of its seed.
        sampling : float
            Probability with which the decoder is fed its own most probable token in place of the target's (scheduled
            sampling, Bengio et al. 2015). These tokens are found by a first pass of single steps without dropout.

        Returns
        -------
        loss : float
            With the configuration's label smoothing.
        count : int
        backward : callable
            ``backward(scale)`` adds the gradients of ``scale * loss`` to the parameters'. May be called once.
        """
        batch, inputs, seeds = self.training_inputs(batch, seeds, sampling)
        return self.loss_of_features(batch, *self.features_vjp(batch, inputs, seeds))

    def training_inputs(self, batch: BatchLike, seeds: Array, sampling: float) -> tuple[BatchLike, Array, Array]:
        """Return the batch copied, what `loss_vjp` feeds the decoder, (B, T), and the seeds as uint64, or raise."""
        batch = check_batch(batch)
        seeds = check_seeds(seeds, len(batch.source))
        sampling = number_in("sampling", sampling, "0 is teacher forcing.", least=0, most=1)
        return batch, self.sampled(batch, seeds, sampling) if sampling else decoder_inputs(batch), seeds

    def loss_of_features(
        self, batch: BatchLike, x: Array, features_backward: Callable[[Array], None]
    ) -> tuple[float, int, Callable[[float], None]]:
        """Return what `loss_vjp` returns from features and their backward pass."""
        loss, count, loss_backward = cross_entropy_vjp(
            x, self.projection, targets_of(batch), smoothing=self.config.label_smoothing, ignore=IGNORED
        )

        @in_kept_memory
        def backward(scale: float = 1.0) -> None:
            features_backward(loss_backward(scale))

        return loss, count, backward

    def sampled(self, batch: BatchLike, seeds: Array, sampling: float) -> Array:
        """Return decoder inputs (B, T) in which a share `sampling` of target tokens is the model's own choice."""
        inputs = decoder_inputs(batch).copy()
        state = self.encode(batch.source, batch.source_lengths)
        for t in range(1, inputs.shape[1]):
            log_probabilities, state, _ = self.step(inputs[:, t - 1], state)
            own = uniform(seeds, t) < sampling
            own &= t < np.asarray(batch.target_lengths)
            inputs[own, t] = log_probabilities.argmax(axis=-1)[own]
        return inputs

    def teacher_forcing(self, batch: BatchLike, *, weights: bool | str = True) -> tuple[Array, Array | None]:
        """Return the log-probability of every target token, and what was attended to.

        Parameters
        ----------
        batch : Batch
        weights : bool or "layers"
            Whether to return the attention weights, those that `step` gives, or "layers": of every decoder layer, if
            the model has several that attend.

        Returns
        -------
        log_probabilities : array, shape (B, T)
            0 beyond a target's length.
        weights : array, shape (B, T, S), (B, T, H, S) or (B, T, L, H, S), or None
            0 beyond either length.
        """
        batch = check_batch(batch)
        if not isinstance(weights, (bool, np.bool_)) and str(weights) != "layers":
            raise ArgumentError(describe("weights", 'True, False or "layers"', repr(weights), "True suits most uses."))
        targets = index_array("target", targets_of(batch).reshape(-1), self.projection.w.value.shape[1], IGNORED)
        x, attended = self.features(batch, decoder_inputs(batch), weights=weights)
        at = np.flatnonzero(targets != IGNORED)
        rows = x.reshape(len(targets), x.shape[-1])
        result = np.zeros(len(targets), x.dtype)
        for first in range(0, len(at), _ROWS):
            block = at[first : first + _ROWS]
            result[block] = log_softmax(self.projection.forward(rows[block]))[np.arange(len(block)), targets[block]]
        if attended is not None:
            attended[~length_mask(batch.target, batch.target_lengths)] = 0
        return result.reshape(batch.target.shape), attended

    def _facts(self) -> Mapping[str, object]:
        return vars(self.config)

    def __repr__(self) -> str:
        sizes = {name: value for name, value in self._facts().items() if type(value) is int}
        return _reprs.words(self, _reprs.shapes(self.parameters()), **sizes)
