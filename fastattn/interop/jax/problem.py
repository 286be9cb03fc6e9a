"""One attention problem of arrays: what of it is no array, as a text that a compiled program carries, and its passes.

An array here is one of NumPy's over memory of XLA. A leading axis more than the four is that of ``jax.vmap``; where
every sample has all operands of its own, it is part of the batch, else samples are computed one after the other.
"""

import functools
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastattn import normalizers, scores
from fastattn._arrays import Array
from fastattn.attention import AttentionOutput, Residuals, attention_backward, attention_forward

__all__ = ["OPERANDS", "Problem"]

OPERANDS = ("query", "key", "value", "bias", "mask", "key_lengths", "seed")  # before the parameters; some are left out


_PLAIN = tuple((("name", name),) for name in ("dot", "scaled_dot"))  # scores without parameters or settings
_FARTHEST = 2**53  # keys on one side of a window, as many as any array has


class Problem(NamedTuple):
    """What of a call is no array.

    `score` and `normalizer` are names, and what else they are made with but arrays; `score_names` and
    `normalizer_names` are the parameters that are arrays. `operands` are those of `OPERANDS` that there are. With
    `heads_third`, arrays are (B, T, H, D); else (B, H, T, D).
    """

    score: tuple[tuple[str, Any], ...] = (("name", "scaled_dot"),)
    score_names: tuple[str, ...] = ()
    normalizer: tuple[tuple[str, Any], ...] = (("name", "softmax"),)
    normalizer_names: tuple[str, ...] = ()
    operands: tuple[str, ...] = OPERANDS[:3]
    causal: str | bool | None = None
    window: tuple[int | None, int | None] | None = None
    scale: float | None = None
    dropout: float = 0.0
    weights: bool = False
    lse: bool = False
    heads_third: bool = False

    @property
    def rows(self) -> bool:
        """Whether the forward pass leaves two numbers a row."""
        return dict(self.normalizer)["name"] == "softmax"

    def text(self) -> str:
        """Return this as a text, from which `Problem.of` makes it."""
        return json.dumps(self)

    def numbers(self, width: int) -> dict[str, Any]:
        """Return what compiled handlers read of a plain call of queries of this width, or nothing of any other."""
        others = {*self.operands} - {*OPERANDS[:3], "mask", "key_lengths"}
        if others or self.weights or self.score not in _PLAIN or not self.rows:
            return {}
        sides = self.window or (None, None)
        left, right = (-1 if side is None else min(side, _FARTHEST) for side in sides)
        flags = {
            "left": left, "right": right, "causal": (None, "top_left", "bottom_right").index(self.causal),
            "lse": self.lse, "heads_third": self.heads_third, "mask": "mask" in self.operands,
            "key_lengths": "key_lengths" in self.operands,
        }  # fmt: skip
        scale = _maker(scores, self.score[0][1])().default_scale(width) if self.scale is None else self.scale
        return {"scale": np.float64(scale), **{flag: np.int64(value) for flag, value in flags.items()}}

    @classmethod
    @functools.lru_cache(256)
    def of(cls, text: str) -> "Problem":
        """Return the problem of a text."""
        return cls(*map(_frozen, json.loads(text)))

    def forward(self, given: Sequence[Array], out: Sequence[Array]) -> None:
        """Write context, weights, lse, maxima and sums of rows to `out`: those of them that there are."""
        for operands, found in self._samples(given, out):
            arrays, options = self._arguments(operands)
            context, *rest = found
            output, residuals = attention_forward(
                *arrays, return_weights=self.weights, return_lse=self.lse, out=self._ours(context), **options
            )
            made = [output.weights, output.lse] if isinstance(output, AttentionOutput) else []
            for target, array in zip(rest, (x for x in (*made, *residuals[1:3]) if x is not None), strict=True):
                target[...] = array

    def backward(self, given: Sequence[Array], out: Sequence[Array]) -> None:
        """Write the gradients of query, key, value, bias and all parameters to `out`: those of them that there are.

        `given` are the operands, then what the forward pass wrote, then the gradients of context, weights and lse.
        """
        count = len(self.operands) + len(self.score_names) + len(self.normalizer_names)
        for every, found in self._samples(given, out):
            (query, key, value), options = self._arguments(every[:count])
            context, *rest = every[count:]
            weights = rest.pop(0) if self.weights else None
            if self.lse:
                rest.pop(0)
            row_max, row_sum = (rest.pop(0), rest.pop(0)) if self.rows else (None, None)
            d_context = rest.pop(0)
            d_weights = rest.pop(0) if self.weights else None
            d_lse = rest.pop(0) if self.lse else None
            residuals = Residuals(self._ours(context), row_max, row_sum, weights)
            gradients = attention_backward(
                query, key, value, residuals, self._ours(d_context), d_weights=d_weights, d_lse=d_lse, **options
            )
            made = [gradients.query, gradients.key, gradients.value]
            for target, array in zip(found, made):
                self._ours(target)[...] = array
            rest = [gradients.bias] if "bias" in self.operands else []
            rest += [gradients.score[name] for name in self.score_names]
            rest += [gradients.normalizer[name] for name in self.normalizer_names]
            for target, array in zip(found[3:], rest, strict=True):
                target[...] = array

    def _ours(self, array: Array) -> Array:
        """Return (B, T, H, D) as (B, H, T, D), or back."""
        return array.swapaxes(1, 2) if self.heads_third else array

    def _arguments(self, operands: Sequence[Array]) -> tuple[list[Array], dict[str, Any]]:
        """Return query, key and value, and the options, as `fastattn.attention` takes them."""
        named = dict(zip(self.operands, operands))
        arrays = [self._ours(named.pop(name)) for name in OPERANDS[:3]]
        parameters = operands[len(self.operands) :]
        of_score = dict(zip(self.score_names, parameters))
        of_normalizer = dict(zip(self.normalizer_names, parameters[len(of_score) :]))
        options: dict[str, Any] = {
            **named,
            "score": _made(scores, self.score, of_score),
            "normalizer": _made(normalizers, self.normalizer, of_normalizer),
            "causal": self.causal,
            "window": self.window,
            "scale": self.scale,
            "dropout": self.dropout,
        }
        if "seed" in options:
            options["seed"] = _seed(options["seed"])
        return arrays, options

    def _samples(self, given: Sequence[Array], out: Sequence[Array]) -> Any:
        """Yield operands and outputs without leading axes: all at once, or those of each sample of a vmap."""
        lead = given[0].shape[:-4]
        count = math.prod(lead)
        if not lead:
            return [(given, out)]
        given, out = ([x.reshape(count, *x.shape[len(lead) :]) for x in arrays] for arrays in (given, out))
        batch, shared = given[0].shape[1], self.score_names or self.normalizer_names
        if not shared and "seed" not in self.operands and all(x.shape[1] == batch for x in (*given, *out)):
            merged = [[x.reshape(count * batch, *x.shape[2:]) for x in arrays] for arrays in (given, out)]
            return [tuple(merged)]
        return [([x[i] for x in given], [x[i] for x in out]) for i in range(count)]


def _made(family: Any, settings: tuple[tuple[str, Any], ...], arrays: dict[str, Array]) -> Any:
    """Return a score or normalizer; by its name alone if that says all."""
    given = dict(settings)
    name = given.pop("name")
    return _maker(family, name)(**given, **arrays) if given or arrays else name


@functools.cache
def _maker(family: Any, name: str) -> Any:
    return family.registry.record(name).load()  # `create` asks plugins each time, for 200 us


def _seed(words: Array) -> Any:
    """Return seeds of two 32-bit words each: one, or one for each sample."""
    wide = words.astype(np.uint64)
    seeds = (wide[..., 0] << np.uint64(32)) | wide[..., 1]
    return seeds if seeds.ndim else int(seeds)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
