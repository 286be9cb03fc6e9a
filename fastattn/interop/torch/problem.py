"""One attention problem of tensors: what of it is no tensor, and its two passes on the tensors' own memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastattn import normalizers, scores
from fastattn._relative import RelativeBias
from fastattn.attention import Residuals, attention_backward, attention_forward
from fastattn.errors import ArgumentError, describe
from fastattn.interop.torch.tensors import array, check_types, follow_threads, half_array, tensor

__all__ = ["Made", "Operands", "Problem"]

Outputs = tuple[Any, ...]  # tensors, arrays of two numbers a row, and None for what there is not


class Operands(NamedTuple):
    """All tensors that go in; `parameters` are those of the score, and behind them those of the normalizer."""

    query: Tensor
    key: Tensor
    value: Tensor
    bias: Tensor | None
    mask: Tensor | None
    key_lengths: Tensor | None
    seed: Tensor | None
    parameters: Sequence[Tensor]


class Made(NamedTuple):
    """How a score or a normalizer is made of tensors: its name, what makes it, or itself; the names of those parameters
    that are tensors; and what else it is made with."""

    maker: Any
    names: tuple[str, ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, argument: str, given: Any) -> tuple["Made", tuple[Tensor, ...]]:
        """Return how to make what was given, a name, an object, or a mapping of a name and parameters; and these."""
        if not isinstance(given, Mapping):
            return cls(given), ()
        if "name" not in given:
            hint = "pass {'name': ..., ...}, with its parameters under their names."
            raise ArgumentError(describe(argument, "a mapping with a name", f"one of {', '.join(given)}", hint))
        tensors = {name: one for name, one in given.items() if isinstance(one, Tensor)}
        settings = tuple((name, one) for name, one in given.items() if name not in tensors and name != "name")
        return cls(given["name"], tuple(tensors), settings), tuple(tensors.values())

    def make(self, create: Callable[..., Any], tensors: Iterator[Tensor]) -> Any:
        """Return the object, or the name of one without parameters; its tensors are the next ones."""
        if not self.names and not self.settings and not callable(self.maker):
            return self.maker
        given = {name: array(name, one) for name, one in zip(self.names, tensors)} | dict(self.settings)
        return self.maker(**given) if callable(self.maker) else create(self.maker, **given)


_SCALED_DOT, _SOFTMAX = Made("scaled_dot"), Made("softmax")  # what a call without either has


class Problem(NamedTuple):
    """What of a call is no tensor."""

    score: Made = _SCALED_DOT
    normalizer: Made = _SOFTMAX
    causal: str | bool | None = None
    window: tuple[int | None, int | None] | None = None
    scale: float | None = None
    dropout: float = 0.0
    return_weights: bool = False
    return_lse: bool = False
    score_mod: Made | None = None  # functions of users, with the tensors that they captured
    mask_mod: Made | None = None
    relative: bool = False  # whether the bias is the numbers of a `RelativeBias`

    @property
    def is_plain(self) -> bool:
        """Whether it is of scaled products and softmax, without dropout or functions."""
        return self[:2] == (_SCALED_DOT, _SOFTMAX) and self[5] == 0 and self[8:10] == (None, None)

    def forward(self, given: Operands) -> Outputs:
        """Return context, weights, lse, and arrays of the maxima and sums of rows; None where there is none.

        Last come context and weights as the backward pass needs them: the same, or, of bfloat16, not yet rounded.
        """
        arrays, options = self._arguments(given)
        query, key, value = arrays
        output: Any
        output, residuals = attention_forward(
            query, key, value, return_weights=self.return_weights, return_lse=self.return_lse, **options
        )
        lse = output.lse if self.return_lse else None
        context, row_max, row_sum, weights = residuals
        exact = tensor(context), tensor(weights)
        if query.dtype == context.dtype:
            return *exact, tensor(lse), row_max, row_sum, *exact
        several = self.return_weights or self.return_lse
        found = output[:2] if several else (output, None)
        return *map(tensor, found), tensor(lse), row_max, row_sum, *exact

    def backward(self, given: Operands, saved: Outputs, d: Outputs, bias_gradient: bool) -> Outputs:
        """Return the gradients of query, key, value, bias and all parameters from those of context, weights and lse.

        `saved` are context, weights, and arrays of the maxima and sums of rows.
        """
        arrays, options = self._arguments(given)
        kept: list[Any] = [None if one is None else array("saved", one) for one in saved[:2]]
        context, weights = kept
        row_max, row_sum = saved[2:]
        read = half_array if given.query.dtype is torch.bfloat16 else array
        d_context, d_weights = (None if one is None else read("gradient", one) for one in d[:2])
        d_lse = None if d[2] is None else array("gradient", d[2])
        residuals = Residuals(context, row_max, row_sum, weights)
        query, key, value = arrays
        found = attention_backward(
            query, key, value, residuals, d_context, d_weights=d_weights, d_lse=d_lse, bias_gradient=bias_gradient,
            **options,
        )  # fmt: skip
        parameters: list[Any] = [found.score[name] for name in self.score.names]
        parameters += [found.normalizer[name] for name in self.normalizer.names]
        if self.score_mod is not None:
            parameters += [found.score.get(name) for name in self.score_mod.names]
        parameters += [None] * (len(given.parameters) - len(parameters))
        made = (found.query, found.key, found.value, found.bias, *parameters)
        return tuple(map(tensor, made))

    def _arguments(self, given: Operands) -> tuple[list[Any], dict[str, Any]]:
        follow_threads()
        query, key, value, bias, mask, key_lengths, seed, parameters = given
        if not query.dtype == key.dtype == value.dtype:
            check_types(given)
        read = half_array if query.dtype is torch.bfloat16 else array
        arrays = [read("query", query), read("key", key), read("value", value)]
        score, normalizer, causal, window, scale, dropout, *_ = self
        options: dict[str, Any] = {}
        left = iter(parameters)
        if score is not _SCALED_DOT:
            options["score"] = score.make(scores.create, left)
        if normalizer is not _SOFTMAX:
            options["normalizer"] = normalizer.make(normalizers.create, left)
        if self.score_mod is not None:
            options["score_mod"] = self.score_mod.make(scores.create, left)
        if self.mask_mod is not None:
            options["mask"] = self.mask_mod.make(scores.create, left)
        if causal is not None:
            options["causal"] = causal
        if window is not None:
            options["window"] = window
        if scale is not None:
            options["scale"] = scale
        if bias is not None:
            read = array if bias.dtype is torch.float32 else read
            options["bias"] = RelativeBias(read("bias", bias)) if self.relative else read("bias", bias)
        if mask is not None:
            options["mask"] = array("mask", mask)
        if key_lengths is not None:
            options["key_lengths"] = array("key_lengths", key_lengths)
        if dropout:
            options["dropout"] = dropout
            options["seed"] = None if seed is None else array("seed", seed)
        return arrays, options
