"""Any attention variant in a decoder's loop over time, chosen by its name in the configuration."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn import variants
from fastattn.errors import ArgumentError, UnsupportedError, describe, did_you_mean
from fastattn.variants import AttentionState, Prepared, Variant
from fastattn.variants.protocol.checks import check_normalizer

__all__ = ["MechanismLoop", "make", "prepare_mechanism"]

Array = NDArray[Any]

# Options that the decoder decides.
_OWN = ("query_width", "memory_width", "value_width", "output_width", "rng", "dtype")


def check(table: Mapping[str, Any]) -> None:
    """Raise unless a table of the configuration names a variant and options that it has."""
    if "name" not in table:
        raise ArgumentError(describe("mechanism", "a name", "none", 'write name = "location_sensitive", say.'))
    known = variants.options(table["name"])
    variants.check_normalized(table["name"], table)
    if "normalizer" in table:
        check_normalizer(table["normalizer"])
    for option in table:
        if option != "name" and (option not in known or option in _OWN):
            own = [name for name in known if name not in _OWN]
            hint = f"leave it out: {option} is the decoder's." if option in _OWN else did_you_mean(option, own)
            expected = f"an option of {table['name']!r}: {', '.join(own)}"
            raise ArgumentError(describe(f"mechanism.{option}", expected, "another", hint))


def make(
    table: Mapping[str, Any], query: int, memory: int, width: int, rng: np.random.Generator, dtype: Any
) -> Variant:
    """Return the variant of a table, with the given width of its layer between where it has one and no own.

    The contexts of one that does not sum the memory's rows are made as wide as the memory.
    """
    check(table)
    options = {key: value for key, value in table.items() if key != "name"}
    known = variants.options(table["name"])
    if "width" in known and "width" not in options and (known["width"].default is known["width"].empty):
        options["width"] = width
    if "output_width" in known:
        options["output_width"] = memory
    if not getattr(variants.record(table["name"]).load(), "loops", True):
        hint = "its memory grows with the queries; use it on its own."
        raise UnsupportedError(describe("mechanism.name", "a variant for a decoder's loop", repr(table["name"]), hint))
    return variants.create(table["name"], query_width=query, memory_width=memory, rng=rng, dtype=dtype, **options)


def prepare_mechanism(variant: Variant, states: Array, values: Callable[[Array], Array], lengths: Array) -> Prepared:
    """Return the memory, with ``values(states)`` in place of contexts where these are sums of its rows."""
    return variant.prepare(states, lengths, values=values(states) if variant.sums_values else None)


class MechanismLoop:
    """A variant in training, step after step and then back, as `Lookback` is the additive score's.

    Parameters
    ----------
    variant : Variant
    states : array, shape (B, S, D)
        The memory.
    lengths : int array, shape (B,)
    steps : int
        Number T of steps to come.
    values : callable
        What contexts pass through, linear and row by row: (..., D) to (..., R).
    values_vjp : callable
        From d_values, (..., R), to the gradient of what they were made of; called with (x, d_values), and adds to the
        gradients of parameters.
    width : int
        R.
    seeds : uint64 array, shape (B,), optional
        Of what is random in training, for variants that take them.

    Attributes
    ----------
    d_context : array, shape (B, T, R)
        To be filled in before `backward`.
    d_weights : array, shape (B, T, S), optional
        The same, where a loss acts on the weights.
    """

    def __init__(
        self,
        variant: Variant,
        states: Array,
        lengths: Array,
        steps: int,
        values: Callable[[Array], Array],
        values_vjp: Callable[[Array, Array], Array],
        width: int,
        seeds: Array | None = None,
    ) -> None:
        self.variant, self._values, self._values_vjp, self._states = variant, values, values_vjp, states
        self._prepared = prepare_mechanism(variant, states, values, lengths)
        random: dict[str, Any] = {"seeds": seeds} if variant.takes_seeds and seeds is not None else {}
        self._state: AttentionState = variant.start(self._prepared, **random)
        self._d_state: Any = None
        self._steps: list[tuple[Array, Array, Any]] = []
        self.d_context = np.empty((len(states), steps, width), states.dtype)
        self.d_weights: Array | None = None

    def forward(self, t: int, query: Array) -> Array:
        """Return what the context of step t passes through, (B, R)."""
        context, weights, self._state, backward = self.variant.step_vjp(query, self._prepared, self._state)
        assert weights is not None
        self._steps.append((context, weights, backward))
        return context if self.variant.sums_values else self._values(context)

    def weights(self) -> Array:
        """Return the weights of all steps, (B, T, S) or (B, T, H, S)."""
        return np.stack([weights for _, weights, _ in self._steps], axis=1)

    def backward(self, t: int) -> Array:
        """Return the gradient of the query (B, D) of step t from ``d_context[:, t]``."""
        context, _, back = self._steps[t]
        d_context = self.d_context[:, t]
        if not self.variant.sums_values:
            d_context = self._values_vjp(context, d_context)
        d_query: Array
        d_weights = None if self.d_weights is None else self.d_weights[:, t]
        d_query, self._d_state = back(d_context, d_weights, self._d_state)
        return d_query

    def finish(self) -> Array:
        """Return the gradient of the memory, of its values' part too."""
        gradient = self.variant.finish(self._prepared)
        if isinstance(gradient, tuple):
            d_states, d_values = gradient
            return d_states + self._values_vjp(self._states, d_values)
        return gradient
