"""What a provider, fastattn itself included, says about one thing that it provides.

A record is looked at whenever things are listed, so it costs nothing to make: a factory may be the text
``"package.module:name"``, and the module is imported when the factory is first needed.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fastattn.errors import PluginError, describe_file
from fastattn.plugin.foreign import contained, said

__all__ = [
    "FAMILIES",
    "ModelRecord",
    "NormalizerRecord",
    "PositionsRecord",
    "Record",
    "ScoreRecord",
    "VariantRecord",
]


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
        The formula in plain NumPy, float64, for the conformance kit to compare with: `fastattn.testing.check_variant`,
        `check_score` and `check_normalizer` say what it takes.

    Examples
    --------
    >>> from fastattn.plugin.records import VariantRecord
    >>> record = VariantRecord("ratio", "fractions:Fraction", "A quotient of integers.")
    >>> record.load()(2, 4)
    Fraction(1, 2)
    """

    # The words of a family: its name, that of one of it, of the argument that names one, and where its registry is.
    family: ClassVar[str] = ""
    noun: ClassVar[str] = ""
    argument: ClassVar[str] = "name"
    home: ClassVar[str] = ""

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
            If the text is not a place, its module cannot be imported, or it has no such name.
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


class ScoreRecord(Record):
    """A score function: the factory returns a `fastattn.scores.Score`."""

    family = "scores"
    home = "fastattn.scores.registry"
    noun = "score function"
    argument = "score"


class NormalizerRecord(Record):
    """A normalizer: the factory returns what turns rows of scores into weights."""

    family = "normalizers"
    home = "fastattn.normalizers.registry"
    noun = "normalizer"
    argument = "normalizer"


class VariantRecord(Record):
    """An attention mechanism: the factory returns a `fastattn.variants.Variant`."""

    family = "variants"
    home = "fastattn.variants.registry"
    noun = "variant"


class PositionsRecord(Record):
    """A mechanism of positions: the factory returns a `fastattn.positions.Positions`."""

    family = "positions"
    home = "fastattn.positions.registry"
    noun = "mechanism of positions"
    argument = "positions"


@dataclass(frozen=True)
class ModelRecord(Record):
    """An encoder-decoder: the factory returns a `fastattn.seq2seq.Model`.

    Attributes
    ----------
    settings : type or str
        The frozen dataclass of the section ``[model]``, or where it is, as ``"package.module:name"``; its field `kind`
        is the name by default.
    """

    family = "models"
    home = "fastattn.seq2seq.models.registry"
    noun = "model"
    argument = "kind"

    settings: type | str = ""

    def section(self) -> type:
        """Return the dataclass of the settings; raises as `load` does."""
        found: Any = self._find(self.settings)
        return found


FAMILIES: dict[str, type[Record]] = {
    kind.family: kind for kind in (ScoreRecord, NormalizerRecord, VariantRecord, PositionsRecord, ModelRecord)
}
