"""The attention of a decoder as its configuration names it: `score`, or a table `mechanism` of a name and options."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastattn import normalizers, variants
from fastattn.errors import (
    ArgumentError,
    ConfigError,
    FastattnError,
    UnsupportedError,
    describe,
    describe_file,
    within,
)
from fastattn.plugin import making
from fastattn.seq2seq.models.weight_losses import weight_losses
from fastattn.variants import Variant

__all__ = ["check_attention", "make"]

# Options that the decoder decides.
_OWN = ("query_width", "memory_width", "value_width", "output_width", "rng", "dtype")


def check_attention(config: Any) -> None:
    """Raise unless a configuration names one attention, and options that it has."""
    if config.mechanism is None:
        try:
            variants.record(config.score)
        except FastattnError as error:
            raise ConfigError(within("model.score", error)) from None
    else:
        _check(config.mechanism)
    for loss in weight_losses(config):
        if "heads" in variants.options(_table(config)["name"]):
            problem = f"expected 0 with several heads, whose weights are (B, T, H, S), got {getattr(config, loss)}"
            raise ConfigError(describe_file(f"model.{loss}", problem, "choose a mechanism with one head."))
    default = type(config).score
    if config.mechanism is not None and config.score != default:
        problem = f"expected {default!r} with a mechanism, got {config.score!r}"
        raise ConfigError(describe_file("model.score", problem, "leave score out: the mechanism has its own."))


def _table(config: Any) -> Mapping[str, Any]:
    """Return the name of a configuration's attention, with its options."""
    return {"name": config.score} if config.mechanism is None else config.mechanism


def _check(table: Mapping[str, Any]) -> None:
    """Raise unless a table of the configuration names a variant and options that it has."""
    if "name" not in table:
        raise ArgumentError(describe("mechanism", "a name", "none", 'write name = "location_sensitive", say.'))
    variants.check_normalized(table["name"], table)
    if "normalizer" in table:
        normalizers.read(table["normalizer"])
    making.check(variants.record(table["name"]), [name for name in table if name != "name"], _OWN, "mechanism.")


def make(
    config: Any, *, query: int, memory: int, width: int, longest: int | None = None, rng: np.random.Generator,
    dtype: Any,
) -> Variant[Any]:  # fmt: skip
    """Return the variant that a configuration names.

    Parameters
    ----------
    config : dataclass
        With `score` and `mechanism`.
    query, memory : int
        Widths; contexts that are no sums of the memory's rows are made as wide as the memory.
    width : int
        Of the layer between query and key, for those that have one and no default for it.
    longest : int, optional
        The most positions of the memory, for a `score` that has a weight for each.
    """
    table = _table(config)
    options = {key: value for key, value in table.items() if key != "name"}
    known = variants.options(table["name"])
    if "width" in known and "width" not in options and known["width"].default is known["width"].empty:
        options["width"] = width
    if config.mechanism is None and longest is not None and "longest" in known:
        options["longest"] = longest
    if "output_width" in known:
        options["output_width"] = memory
    if not getattr(variants.record(table["name"]).load(), "loops", True):
        hint = "its memory grows with the queries; use it on its own."
        raise UnsupportedError(describe("mechanism.name", "a variant for a decoder's loop", repr(table["name"]), hint))
    return variants.create(table["name"], query_width=query, memory_width=memory, rng=rng, dtype=dtype, **options)
