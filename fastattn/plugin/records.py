"""What a provider, fastattn itself included, says about one thing that it provides.

A record is looked at whenever things are listed, so it costs nothing to make: a factory may be the text
``"package.module:name"``, and the module is imported when the factory is first needed.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastattn.errors import PluginError, describe_file
from fastattn.plugin.foreign import contained, said

__all__ = ["NormalizerRecord", "Record", "ScoreRecord", "VariantRecord"]


@dataclass(frozen=True)
class Record:
    """A name, and how to make what it stands for.

    Attributes
    ----------
    name : str
        By which users ask for it: lower case, words joined by underscores.
    factory : callable or str
        Called with the user's options by keyword; or where it is, as ``"package.module:name"``.
    summary : str
        One line, the formula if there is room.
    paper : str
        Where it was published, with the equation.
    examples : tuple of mappings
        Sets of options with which `fastattn.testing`, ``fastattn check`` and ``fastattn bench`` make it; one without
        options by default. A value that is a function is called with ``(rng, query_width, memory_width, dtype)``.
    reference : callable or str, optional
        The formula in plain NumPy, float64, for the conformance kit to compare with: `fastattn.testing.check_variant`
        and `check_score` say what it takes.

    Examples
    --------
    >>> from fastattn.plugin.records import VariantRecord
    >>> record = VariantRecord("ratio", "fractions:Fraction", "A quotient of integers.")
    >>> record.load()(2, 4)
    Fraction(1, 2)
    """

    name: str
    factory: Callable[..., Any] | str
    summary: str = ""
    paper: str = ""
    examples: tuple[Mapping[str, Any], ...] = ()
    reference: Callable[..., Any] | str | None = None

    def load(self) -> Callable[..., Any]:
        """Return the factory itself, importing its module if it was named by a text.

        Raises
        ------
        PluginError
            If the text is no place, its module cannot be imported, or it has no such name.
        """
        return self._find(self.factory)

    def formula(self) -> Callable[..., Any] | None:
        """Return the reference itself, or None if there is none; raises as `load` does."""
        return None if self.reference is None else self._find(self.reference)

    def _find(self, place: Callable[..., Any] | str) -> Callable[..., Any]:
        if not isinstance(place, str):
            return place
        module, _, name = place.partition(":")
        if not module or not name:
            hint = "write it as package.module:name."
            raise PluginError(describe_file(self.name, f"{place!r} does not say where the factory is", hint))
        try:
            found = contained(lambda: getattr(importlib.import_module(module), name))
        except Exception as error:
            problem = f"{place} cannot be imported: {said(error)}"
            hint = "repair or remove the package that provides it."
            raise PluginError(describe_file(self.name, problem, hint)) from error
        if not callable(found):
            raise PluginError(describe_file(self.name, f"{place} cannot be called", "name a class or function."))
        factory: Callable[..., Any] = found
        return factory


@dataclass(frozen=True)
class ScoreRecord(Record):
    """A score function: the factory returns a `fastattn.scores.Score`."""


@dataclass(frozen=True)
class NormalizerRecord(Record):
    """A normalizer: the factory returns what turns rows of scores into weights."""


@dataclass(frozen=True)
class VariantRecord(Record):
    """An attention mechanism: the factory returns a `fastattn.variants.Variant`."""
