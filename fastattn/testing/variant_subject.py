"""A variant under test: how it is made, and the problems that checks give it."""

import dataclasses
import inspect
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from fastattn import normalizers
from fastattn.errors import ShapeError
from fastattn.plugin.making import accepts, make
from fastattn.testing.arrays import Array, fill
from fastattn.testing.subject import Problem, Subject
from fastattn.variants.protocol.variant import Prepared, Variant
from fastattn.variants.soft import Soft

__all__ = ["VariantProblem", "VariantSubject"]


@dataclasses.dataclass
class VariantProblem(Problem):
    """A variant, a memory of which parts are hidden, and queries."""

    inputs = ("queries", "memory", "lengths", "mask", "values")

    variant: Variant[Any]
    queries: Array
    memory: Array
    lengths: Array
    mask: Array | None
    values: Array | None

    @property
    def allowed(self) -> Array:
        """Which positions may be attended to, (B, S)."""
        inside = np.arange(self.memory.shape[1]) < self.lengths[:, None]
        return inside if self.mask is None else inside & self.mask

    def prepare(self) -> Prepared:
        """Return the memory, prepared anew."""
        return self.variant.prepare(self.memory, self.lengths, self.mask, values=self.values)

    def forward(self) -> Any:
        """Return contexts and weights, all at once."""
        return self.variant.forward(self.queries, self.prepare(), return_weights=True)

    def steps(self) -> tuple[Array, Array]:
        """Return contexts and weights, step by step."""
        prepared = self.prepare()
        state, found = self.variant.start(prepared), []
        for t in range(self.queries.shape[1]):
            context, weights, state = self.variant.step(self.queries[:, t], prepared, state)
            assert weights is not None, "a step returned no weights"
            found.append((context, weights))
        return np.stack([c for c, _ in found], axis=1), np.stack([w for _, w in found], axis=-2)

    def everything(self, d_context: Array, d_weights: Array) -> dict[str, Any]:
        """Return all results, by what they are."""
        return {**super().everything(d_context, d_weights), "steps": self.steps()}

    def gradients(self, d_context: Array | None, d_weights: Array | None) -> dict[str, Array]:
        """Return all gradients by `vjp`, by name."""
        self.forget()
        _, backward = self.variant.vjp(self.queries, self.prepare(), return_weights=True)
        return self.named(*backward(d_context, d_weights))

    def step_gradients(self, d_context: Array, d_weights: Array) -> dict[str, Array]:
        """Return all gradients by `step_vjp` and `finish`, by name."""
        self.forget()
        prepared = self.prepare()
        state, backs = self.variant.start(prepared), []
        for t in range(self.queries.shape[1]):
            _, _, state, back = self.variant.step_vjp(self.queries[:, t], prepared, state)
            backs.append(back)
        d_queries, d_state = np.empty_like(self.queries), None
        for t in reversed(range(len(backs))):
            d_queries[:, t], d_state = backs[t](d_context[:, t], d_weights[..., t, :], d_state)
        d_memory = self.variant.finish(prepared)
        assert not prepared.tape, "what steps left for finish is still there"
        return self.named(d_queries, d_memory)

    def named(self, d_queries: Array, d_memory: Any) -> dict[str, Array]:
        """Return gradients by the names of what they are of."""
        found = {"queries": d_queries}
        if self.values is None:
            found["memory"] = d_memory
        else:
            found["memory"], found["values"] = d_memory
        return {**found, **{n: p.gradient.copy() for n, p in self.variant.parameters().items()}}

    def forget(self) -> None:
        """Set the gradients of the parameters to zero."""
        for parameter in self.variant.parameters().values():
            parameter.gradient[...] = 0


def _scores(variant: Soft, parameters: Mapping[str, Array], query: Array, key: Array, given: Any) -> Any:
    """Return the scores (B, Tq, S) of a score's variant by the score's formula, with options by name, or None."""
    score: Any = variant.score
    named = {name: parameters[score.trained_names.get(name, name)] for name in variant.trained}
    if "bridge" in named:
        query = query @ named["bridge"]
        score = score.inner
    if score.formula is None:
        return None
    known = set(inspect.signature(score.formula).parameters) - {"scale"}
    scores: Array = score.formula(named, query, key, variant.scale, **{n: v for n, v in given.items() if n in known})
    return scores if given.get("softcap") is None else given["softcap"] * np.tanh(scores / given["softcap"])


class VariantSubject(Subject):
    """A variant with one set of options; a ``query_width`` or ``memory_width`` among them holds in place of 5 and 6.

    With a ``value_width`` among them all its problems have values.
    Its reference is ``reference(parameters, queries, memory, values, allowed, **options) -> (contexts, weights)`` in
    float64, where parameters are arrays by name and allowed is (B, S). Values are the memory itself unless a memory has
    values of its own. One that names ``lengths`` gets these too.
    """

    kind = "variant"
    several: ClassVar[dict[str, int]] = {"batch": 5, "steps": 8, "keys": 40}

    @cached_property
    def widths(self) -> tuple[int, int]:
        """The first of some pairs of widths that the variant takes."""
        own = self.options.get("query_width"), self.options.get("memory_width")
        error: Exception | None = None
        for query, memory in ((5, 6), (6, 6)):
            pair = query if own[0] is None else own[0], memory if own[1] is None else own[1]
            try:
                self.make(*pair, np.dtype(np.float64), 0)
            except ShapeError as refused:
                error = refused
            else:
                return pair
        assert error is not None
        raise error

    def make(self, query: int, memory: int, dtype: Any, seed: int) -> Variant[Any]:
        """Return a new variant."""
        rng = np.random.default_rng(seed)
        given: dict[str, Any] = {"query_width": query, "memory_width": memory, "dtype": dtype}
        if accepts(self.record, "rng"):
            given["rng"] = rng
        made: Variant[Any] = make(self.record, {**given, **fill(self.options, rng, query, memory, dtype)}, Variant)
        return made

    def problem(
        self,
        dtype: Any = np.float32,
        *,
        batch: int = 3,
        steps: int = 4,
        keys: int = 11,
        masked: bool = True,
        valued: bool = False,
        seed: int = 0,
        size: float = 1.0,
        widths: tuple[int, int] | None = None,
    ) -> VariantProblem:
        """Return a problem whose parameters are all away from zero, of other widths if some are given."""
        query, memory = self.widths if widths is None else widths
        rng = np.random.default_rng(seed)
        variant = self.make(query, memory, np.dtype(dtype), seed)
        for parameter in variant.parameters().values():
            with parameter.edit() as value:
                value += rng.normal(size=parameter.value.shape) * 0.3
        lengths = rng.integers(1, keys + 1, batch)
        lengths[0] = keys
        mask = None
        if masked:
            mask = rng.random((batch, keys)) < 0.8
            mask[:, 0] = True
        arrays = [(rng.normal(size=(batch, n, d)) * size).astype(dtype) for n, d in ((steps, query), (keys, memory))]
        wide = self.options.get("value_width", 4 if valued else None)
        values = None if wide is None else rng.normal(size=(batch, keys, wide)).astype(dtype)
        return VariantProblem(variant, arrays[0], arrays[1], lengths, mask, values)

    def expected(self, p: VariantProblem, parameters: Mapping[str, Array] | None = None) -> tuple[Array, Array] | None:
        """Return contexts and weights of a problem by the formula, in float64; None if there is no formula.

        That is the reference; without one, the formulas of the variant's score and normalizer.
        """
        if parameters is None:
            parameters = {n: parameter.value.astype(np.float64) for n, parameter in p.variant.parameters().items()}
        options = {
            n: v for n, v in self.options.items() if n not in ("query_width", "memory_width") and not callable(v)
        }
        inside = p.allowed[..., None]
        memory = np.where(inside, p.memory, 0).astype(np.float64)
        values = memory if p.values is None else np.where(inside, p.values, 0).astype(np.float64)
        queries = p.queries.astype(np.float64)
        if self.reference is not None:
            if "lengths" in inspect.signature(self.reference).parameters:
                options["lengths"] = p.lengths
            contexts, weights = self.reference(parameters, queries, memory, values, p.allowed, **options)
            return contexts, weights
        normalizer = options.pop("normalizer", "softmax")
        settings = dict(normalizer) if isinstance(normalizer, Mapping) else {"name": normalizer}
        if type(p.variant) is not Soft or not isinstance(settings["name"], str):
            return None
        normalize = normalizers.record(settings.pop("name")).formula()
        scores = _scores(p.variant, parameters, queries, memory, options)
        if scores is None or normalize is None:
            return None
        weights = normalize(np.where(p.allowed[:, None], scores, -np.inf), **settings)
        return weights @ values, weights
