"""The normalizers that there are, by name, those of plugins too."""

from typing import Any

from fastattn.errors import ArgumentError, DTypeError, describe
from fastattn.normalizers.base import Normalizer
from fastattn.plugin import making, manager
from fastattn.plugin.records import NormalizerRecord

__all__ = ["create", "names", "record"]

_HERE = "fastattn.normalizers"

_BUILT_IN = (
    NormalizerRecord("softmax", f"{_HERE}.softmax:Softmax", "exp(z_j) / sum_k exp(z_k)"),
    NormalizerRecord(
        "sparsemax", f"{_HERE}.sparsemax:Sparsemax", "[z_j - t]+", "Martins, Astudillo 2016 (arXiv:1602.02068), eq. 2"
    ),
    NormalizerRecord(
        "entmax15", f"{_HERE}.entmax15:Entmax15", "[z_j / 2 - t]+ ^2",
        "Peters, Niculae, Martins 2019 (arXiv:1905.05702), eq. 3",
    ),
    NormalizerRecord(
        "entmax", f"{_HERE}.entmax:Entmax", "[(alpha - 1) z_j - t]+ ^(1 / (alpha - 1))",
        "Peters, Niculae, Martins 2019 (arXiv:1905.05702), eq. 3", ({"alpha": 1.3}, {"alpha": 1.5}),
    ),
)  # fmt: skip


def fastattn_normalizers() -> tuple[NormalizerRecord, ...]:
    """Return our own normalizers, by the hook that plugins have."""
    return _BUILT_IN


def names() -> tuple[str, ...]:
    """Return the names of all normalizers, those of plugins too."""
    return manager.known_names("normalizers")


def record(name: Any) -> NormalizerRecord:
    """Return the record of a normalizer, or raise an ArgumentError that names what is closest."""
    if not isinstance(name, str):
        hint = "see fastattn.normalizers.names()."
        raise DTypeError(describe("name", "the name of a normalizer", type(name).__name__, hint))
    found = manager.find("normalizers", name)
    if found is None:
        hint = manager.current().advice("normalizers", name, names())
        expected = f"one of {', '.join(names())}, or an object of fastattn.normalizers"
        raise ArgumentError(describe("normalizer", expected, repr(name), hint))
    assert isinstance(found, NormalizerRecord)
    return found


def create(name: str, **given: Any) -> Normalizer:
    """Make a normalizer.

    Parameters
    ----------
    name : str
        One of `fastattn.normalizers.names()`; ``plugin:name`` says whose, where there are several.
    **given
        Its options, as its class takes them.

    Returns
    -------
    Normalizer

    Examples
    --------
    >>> import fastattn
    >>> fastattn.normalizers.create("sparsemax")
    Sparsemax()
    """
    made: Normalizer = making.make(record(name), given, Normalizer)
    return made
