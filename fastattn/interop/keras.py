"""Keras' attention layers, computed by fastattn on the CPU: on PyTorch, on JAX, and without gradients on NumPy.

`Attention`, `AdditiveAttention` and `MultiHeadAttention` are Keras' own layers, with their arguments, weights, masks
and configurations; only what lies between query, key, value and their contexts is ours. Nothing of size (Tq, Tk) is
made unless the scores are asked for. ``keras.models.clone_model`` puts these layers in the place of a model's:
docs/keras.md shows how.

A query that may attend to nothing has the context 0, where Keras has a mean of all values. Types narrower than float32
are widened for the kernels, and the results narrowed.
"""

import importlib
import math
from typing import Any, NamedTuple

from fastattn._optional import need
from fastattn.errors import UnsupportedError, describe

need("keras", "keras", "fastattn.interop.keras")

import keras  # noqa: E402
from keras import layers, ops  # noqa: E402

__all__ = ["AdditiveAttention", "Attention", "MultiHeadAttention"]

Tensor = Any
_ADAPTERS = {
    "torch": "fastattn.interop.torch",
    "jax": "fastattn.interop.jax",
    "numpy": "fastattn.attention",
}


class _Masks(NamedTuple):
    """A mask as Keras makes it, but for causality, which needs no array."""

    mask: Tensor
    causal: bool


class _OneHead(layers.Attention):
    """What is ours of the two layers without heads: scores, weights and contexts in one call."""

    def _score(self, query: Tensor, key: Tensor) -> tuple[Any, Tensor, Tensor]:
        """Return the score, and query and key as it takes them."""
        raise NotImplementedError

    def call(
        self,
        inputs: list[Tensor],
        mask: list[Tensor] | None = None,
        training: bool = False,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        """Return the contexts, and the weights if asked for, after dropout as in Keras."""
        self._validate_inputs(inputs=inputs, mask=mask)
        query, value = inputs[0], inputs[1]
        key = inputs[2] if len(inputs) > 2 else value
        of_query, of_value = (mask[0], mask[1]) if mask else (None, None)
        if of_value is not None:
            of_value = ops.cast(of_value, "bool")
            of_value = ops.expand_dims(of_value, -2) if len(of_value.shape) == 2 else of_value
        score, query, key = self._score(*map(ops.convert_to_tensor, (query, key)))
        value = ops.convert_to_tensor(value)
        dropped = bool(training) and self.dropout > 0
        width = value.shape[-1]
        if dropped and return_attention_scores:  # the contexts of unit vectors are the weights after dropout
            units = ops.eye(key.shape[-2], dtype=value.dtype)
            value = ops.concatenate([value, ops.broadcast_to(units, (*value.shape[:-1], key.shape[-2]))], axis=-1)
        context, weights = _attend(
            query,
            key,
            value,
            score=score,
            mask=of_value,
            causal="top_left" if use_causal_mask else None,
            return_weights=return_attention_scores and not dropped,
            generator=self.seed_generator if dropped else None,
            dropout=self.dropout,
        )
        if dropped and return_attention_scores:
            context, weights = context[..., :width], context[..., width:]
        if of_query is not None:
            context = ops.where(ops.expand_dims(of_query, axis=-1), context, 0)
        return (context, weights) if return_attention_scores else context


@keras.saving.register_keras_serializable(package="fastattn")
class Attention(_OneHead):
    """``keras.layers.Attention``: dot-product attention, or ``score_mode="concat"``.

    Parameters
    ----------
    use_scale, score_mode, dropout, seed, **kwargs
        As of Keras' layer.

    Notes
    -----
    ``score_mode="concat"`` is a number times the sum of tanh(q + k): additive attention without a vector.
    """

    def _score(self, query: Tensor, key: Tensor) -> tuple[Any, Tensor, Tensor]:
        scale = 1.0 if self.scale is None else ops.cast(self.scale, query.dtype)
        if self.score_mode == "dot":
            return "dot", query * scale, key
        weight = ops.cast(self.concat_score_weight, query.dtype)
        vector = ops.broadcast_to(weight, (query.shape[-1],))
        return {"name": "additive", "v": vector}, query * scale, key * scale


@keras.saving.register_keras_serializable(package="fastattn")
class AdditiveAttention(_OneHead, layers.AdditiveAttention):
    """``keras.layers.AdditiveAttention``: the score of Bahdanau et al. (2015) without projections.

    Parameters
    ----------
    use_scale, dropout, **kwargs
        As of Keras' layer.
    """

    def _score(self, query: Tensor, key: Tensor) -> tuple[Any, Tensor, Tensor]:
        vector = ops.ones((query.shape[-1],), query.dtype) if self.scale is None else ops.cast(self.scale, query.dtype)
        return {"name": "additive", "v": vector}, query, key


@keras.saving.register_keras_serializable(package="fastattn")
class MultiHeadAttention(layers.MultiHeadAttention):
    """``keras.layers.MultiHeadAttention``, with weights from the same fused pass.

    Parameters
    ----------
    num_heads, key_dim, **kwargs
        As of Keras' layer.
    """

    def _compute_attention_mask(self, *args: Any, use_causal_mask: bool = False, **kwargs: Any) -> Any:
        """Return the masks of a call; causality apart, where no window of Keras is added to it."""
        if self._sliding_window is not None:
            return super()._compute_attention_mask(*args, use_causal_mask=use_causal_mask, **kwargs)
        return _Masks(super()._compute_attention_mask(*args, use_causal_mask=False, **kwargs), use_causal_mask)

    def _compute_attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Any = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the contexts (B, T, N, H), and the weights before dropout if asked for."""
        if self._flash_attention and return_attention_scores:
            return super()._compute_attention(query, key, value, None, training, True)  # which says why not
        if isinstance(attention_mask, _Masks):
            attention_mask, use_causal_mask = attention_mask.mask, attention_mask.causal or use_causal_mask
        query, key, value = map(ops.convert_to_tensor, (query, key, value))
        layout = _Layout(self._attention_axes, query.shape, key.shape)
        if use_causal_mask and query.ndim > 4:  # causal along the first of several axes
            causal = self._compute_causal_mask(query, value)
            attention_mask = causal if attention_mask is None else ops.logical_and(attention_mask, causal)
            use_causal_mask = False
        context, weights = _attend(
            *map(layout.fold, (query, key, value)),
            score="dot",
            mask=layout.mask(attention_mask),
            causal="top_left" if use_causal_mask else None,
            scale=self._inverse_sqrt_key_dim,
            return_weights=return_attention_scores,
            generator=self._dropout_layer.seed_generator if training and self._dropout > 0 else None,
            dropout=self._dropout,
        )
        return layout.unfold(context), None if weights is None else ops.reshape(weights, layout.scores)


class _Layout:
    """Between Keras' (samples, positions, heads, features), where positions may have several axes, not all of them
    attended to, and (B, H, T, D)."""

    def __init__(self, axes: tuple[int, ...], query: tuple[int, ...], key: tuple[int, ...]) -> None:
        heads = len(query) - 2
        self.axes = axes
        self.batch = [i for i in range(heads) if i not in axes]
        self.order = [*self.batch, heads, *axes, heads + 1]
        self.rows = [query[i] for i in self.order[:-1]]
        self.scores = [*self.rows, *(key[i] for i in axes)]

    def fold(self, array: Tensor) -> Tensor:
        """Return projected queries, keys or values as (B, H, T, D)."""
        array = ops.transpose(array, self.order)
        if len(self.order) == 4:
            return array
        count = len(self.batch)
        return ops.reshape(array, (math.prod(array.shape[:count]), array.shape[count], -1, array.shape[-1]))

    def unfold(self, context: Tensor) -> Tensor:
        """Return contexts (B, H, T, D) as Keras has them."""
        context = ops.reshape(context, (*self.rows, context.shape[-1]))
        return ops.transpose(context, [self.order.index(i) for i in range(len(self.order))])

    def mask(self, mask: Tensor | None) -> Tensor | None:
        """Return a mask over Keras' scores, with or without heads, as one that broadcasts to (B, H, Tq, Tk)."""
        if mask is None:
            return None
        mask, count = ops.cast(mask, "bool"), len(self.axes)
        while len(mask.shape) < len(self.scores):
            mask = ops.expand_dims(mask, -2 * count - 1)
        if len(self.scores) == 4:
            return mask
        queries, keys = self.scores[-2 * count : -count], self.scores[-count:]
        mask = ops.broadcast_to(mask, self.scores)
        batch = math.prod(self.scores[: len(self.batch)])
        return ops.reshape(mask, (batch, self.rows[len(self.batch)], math.prod(queries), math.prod(keys)))


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    score: Any,
    mask: Tensor | None,
    causal: str | None,
    return_weights: bool,
    generator: Any,
    dropout: float,
    scale: float | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Return contexts and weights or None, of query's type, from the adapter of the backend; drop with a generator."""
    backend = keras.backend.backend()
    if backend not in _ADAPTERS:
        hint = 'set KERAS_BACKEND to "torch" or "jax", or keep the layers of Keras.'
        raise UnsupportedError(describe("backend", f"one of {', '.join(_ADAPTERS)}", backend, hint))
    dtype = keras.backend.standardize_dtype(query.dtype)
    wide = "float64" if dtype == "float64" else "float32"
    query, key, value = (ops.cast(x, wide) for x in (query, key, value))
    if not isinstance(score, str):
        score = {**score, "v": ops.cast(score["v"], wide)}
        if backend == "numpy":
            score = importlib.import_module("fastattn.scores").create(**score)
    options: dict[str, Any] = {}
    if generator is not None:
        options = {"dropout": dropout, "seed": _seed(backend, generator.next())}
    attention = importlib.import_module(_ADAPTERS[backend]).attention
    found = attention(
        query, key, value, score=score, mask=mask, causal=causal, scale=scale, return_weights=return_weights, **options
    )
    context, weights = (found.context, found.weights) if return_weights else (found, None)
    return ops.cast(context, dtype), None if weights is None else ops.cast(weights, dtype)


def _seed(backend: str, words: Tensor) -> Any:
    """Return the two words that a generator of Keras gives as the adapter takes a seed."""
    if backend == "jax":
        return words
    high, low = (int(word) for word in words)
    return (high << 31) ^ low
