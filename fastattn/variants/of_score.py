"""The variant of a score: softmax attention by it, its parameters trained."""

import inspect
from dataclasses import replace
from typing import Any

import numpy as np

from fastattn._arrays import float_dtype
from fastattn._numbers import check_size
from fastattn.errors import UnsupportedError, describe
from fastattn.plugin.making import make
from fastattn.plugin.records import ScoreRecord, VariantRecord
from fastattn.scores import Score
from fastattn.variants.protocol.checks import NormalizerLike
from fastattn.variants.soft import Soft

__all__ = ["SoftOf", "of_score"]

_GIVEN = ("query_width", "key_width", "rng", "dtype")


class SoftOf:
    """What makes `Soft` of the score of a record, with the options of the score's ``drawn``."""

    def __init__(self, record: ScoreRecord) -> None:
        self.record = record

    @property
    def __signature__(self) -> inspect.Signature:
        score = self.record.load()
        parameters = inspect.signature(getattr(score, "drawn", score)).parameters
        own = inspect.signature(type(self).__call__).parameters
        options = [p for name, p in parameters.items() if name not in _GIVEN]
        if not hasattr(score, "drawn"):
            options = [p for p in options if p.default is not p.empty]
        options = [p.replace(kind=p.KEYWORD_ONLY) for p in options if p.kind is not p.VAR_KEYWORD]
        known = {name: p for name, p in own.items() if name not in ("self", "options")}
        if "rng" in parameters:
            known["rng"] = known["rng"].replace(default=inspect.Parameter.empty)
        return inspect.Signature([known["query_width"], known["memory_width"], *options, *list(known.values())[2:]])

    def __call__(
        self,
        *,
        query_width: int,
        memory_width: int,
        scale: float | None = None,
        normalizer: NormalizerLike = "softmax",
        rng: np.random.Generator | None = None,
        dtype: Any = np.float32,
        **options: Any,
    ) -> Soft:
        check_size("query_width", query_width, 0)
        check_size("memory_width", memory_width, 0)
        dtype = float_dtype(dtype)
        score: Any = self.record.load()
        if not hasattr(score, "drawn"):
            needed = [n for n, p in inspect.signature(score).parameters.items() if p.default is p.empty]
            if needed:
                hint = "its class needs a method drawn(query_width, key_width, *, rng, dtype), which draws parameters."
                expected = f"a score that says where its {', '.join(needed)} begins"
                raise UnsupportedError(describe(self.record.name, expected, "one without drawn()", hint))
            drawn = self.record
        else:
            drawn = replace(self.record, factory=score.drawn)
            options |= {"query_width": memory_width if score.one_width else query_width, "key_width": memory_width}
            if "rng" in inspect.signature(score.drawn).parameters:
                options |= {"rng": rng, "dtype": dtype}
        made = make(drawn, options, Score)
        widths: Any = {"query_width": query_width, "memory_width": memory_width}
        return Soft(made, **widths, scale=scale, normalizer=normalizer, rng=rng, dtype=dtype)


def of_score(record: ScoreRecord) -> VariantRecord:
    """Return the record of the variant of a score."""
    return VariantRecord(record.name, SoftOf(record), record.summary, record.paper)
