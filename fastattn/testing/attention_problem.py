"""A score function or a normalizer under test, and the calls of attention that checks give it."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from fastattn.attention import attention, attention_vjp, prepare
from fastattn.normalizers.base import Normalizer
from fastattn.scores.base import Score
from fastattn.testing.arrays import Array
from fastattn.testing.subject import Problem, Subject

__all__ = ["AttentionProblem", "AttentionSubject"]


@dataclasses.dataclass
class AttentionProblem(Problem):
    """A call of attention of which parts are hidden."""

    inputs = ("query", "key", "value", "lengths", "mask")

    score: Score | str
    normalizer: Normalizer | str
    query: Array
    key: Array
    value: Array
    lengths: Array
    mask: Array

    @property
    def parameters(self) -> dict[str, Array]:
        """Those of what is under test, by name."""
        found: dict[str, Array] = {}
        for part in (self.score, self.normalizer):
            found |= {} if isinstance(part, str) else part.parameters
        return found

    @property
    def inside(self) -> Array:
        """Which keys each query may read, (B, Tq, Tk)."""
        within: Array = np.arange(self.key.shape[1]) < self.lengths[:, None]
        return self.mask & within[:, None]

    @property
    def hidden(self) -> Array:
        """Keys that no query of their sample may read, (B, Tk)."""
        return np.asarray(~self.inside.any(axis=1))

    def call(self, *arrays: Array, **options: Any) -> Any:
        """Return context and weights of other arrays."""
        return attention(*arrays, score=self.score, normalizer=self.normalizer, return_weights=True, **options)

    def forward(self) -> Any:
        """Return context, weights and, of softmax, lse."""
        options = {"key_lengths": self.lengths, "mask": self.mask, "return_lse": isinstance(self.normalizer, str)}
        return self.call(self.query, self.key, self.value, **options)

    def gradients(self, d_context: Array, d_weights: Array) -> dict[str, Array]:
        """Return all gradients by name."""
        _, back = attention_vjp(
            self.query, self.key, self.value, score=self.score, normalizer=self.normalizer, key_lengths=self.lengths,
            mask=self.mask, return_weights=True,
        )  # fmt: skip
        found = back(d_context, d_weights=d_weights)
        arrays = {"query": found.query, "key": found.key, "value": found.value}
        return {**arrays, **found.score, **found.normalizer}

    def prepare(self) -> Any:
        """Return the memory, prepared; it knows no mask."""
        return prepare(self.key, self.value, score=self.score, key_lengths=self.lengths)

    def attend(self, memory: Any, query: Array) -> Any:
        """Return context and weights of a prepared memory."""
        return memory.attend(query, normalizer=self.normalizer, return_weights=True)


class AttentionSubject(Subject):
    """A score function or a normalizer with one set of options."""

    widths = (5, 5)
    several: ClassVar[dict[str, int]] = {"batch": 5, "rows": 40, "keys": 70}

    def parts(self, query: int, key: int, dtype: Any, seed: int) -> tuple[Score | str, Normalizer | str]:
        """Return score function and normalizer, of which one is new and the other a name."""
        raise NotImplementedError

    def problem(
        self,
        dtype: Any = np.float32,
        *,
        batch: int = 3,
        rows: int = 4,
        keys: int = 11,
        seed: int = 0,
        size: float = 1.0,
        widths: tuple[int, int] | None = None,
    ) -> AttentionProblem:
        """Return a problem with a mask and lengths, of other widths if some are given."""
        rng = np.random.default_rng(seed)
        query, key = self.widths if widths is None else widths
        parts = self.parts(query, key, np.dtype(dtype), seed)
        q, k, v = [
            (rng.normal(size=(batch, n, d)) * size).astype(dtype) for n, d in ((rows, query), (keys, key), (keys, 3))
        ]
        lengths = rng.integers(1, keys + 1, batch)
        lengths[0] = keys
        mask = rng.random((batch, rows, keys)) < 0.8
        mask[:, :, 0] = True
        return AttentionProblem(*parts, q, k, v, lengths, mask)
