"""What is under test: a record with one set of options, from which checks make problems."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from fastattn.plugin.records import Record

__all__ = ["Subject"]


class Subject:
    """A record with one set of options.

    Parameters
    ----------
    record : Record
    options : mapping
        Functions among them draw a parameter, see `Record.examples`.
    reference : callable, optional
        The formula in float64, by default the record's.
    """

    kind: ClassVar[str] = ""

    def __init__(self, record: Record, options: Mapping[str, Any], reference: Callable[..., Any] | None = None) -> None:
        self.record, self.options = record, dict(options)
        self.reference = reference or record.formula()

    def __str__(self) -> str:
        shown = ", ".join(name if callable(value) else f"{name}={value!r}" for name, value in self.options.items())
        return f"{self.kind} {self.record.name!r}" + (f" with {shown}" if shown else "")
