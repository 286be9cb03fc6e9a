"""An account of the lines of a text: how many were kept, and which were left out for what reason."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fastattn._numbers import check_flag
from fastattn._printing import visible
from fastattn.errors import TextError, describe_file

__all__ = ["Account", "Report"]

_SHOWN = 8  # ranges of line numbers in a message


@dataclass(frozen=True)
class Report:
    """What became of the lines of a text.

    Attributes
    ----------
    name : str
        Of the file or files.
    lines : int
        How many there are; of two files, as many as the longer one has.
    kept : int
    skipped : dict of str to tuple of int
        Reason, and the numbers of the lines, from 1 on, ascending; each line once.

    Examples
    --------
    >>> from fastattn.seq2seq.runs.report import Report
    >>> print(Report("pairs.tsv", 9, 5, {"source is empty": (2, 3, 4), "source is not UTF-8": (8,)}))
    pairs.tsv: 5 of 9 lines kept
    pairs.tsv: source is empty: 3 lines: 2-4
    pairs.tsv: source is not UTF-8: 1 line: 8
    """

    name: str
    lines: int
    kept: int
    skipped: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        name = visible(self.name)
        head = f"{name}: {self.kept} of {_lines(self.lines)} kept"
        rest = (
            f"{name}: {reason}: {_lines(len(numbers))}: {_ranges(numbers)}" for reason, numbers in self.skipped.items()
        )
        return "\n".join([head, *rest])

    def check(self) -> None:
        """Raise a TextError, in one line, if a line was left out."""
        if self.skipped:
            found = "; ".join(f"{reason}: {_lines(len(n))}: {_ranges(n)}" for reason, n in self.skipped.items())
            hint = "correct or remove these lines; training leaves them out unless data.strict is true."
            raise TextError(describe_file(self.name, found, hint))


class Account:
    """Counts lines, and notes why some are left out; its report is made of that."""

    def __init__(self, name: str, before: Report | None = None) -> None:
        self.name = name
        self.lines = before.lines if before else 0
        self.skipped = {reason: list(numbers) for reason, numbers in before.skipped.items()} if before else {}
        # Lines that name columns, which are neither kept nor left out.
        self.heads = before.lines - before.kept - sum(map(len, self.skipped.values())) if before else 0

    def note(self, reason: str, number: int | None = None) -> bool:
        """Count the next line, or look again at one that was counted; return whether it is kept."""
        if number is None:
            self.lines += 1
        if reason:
            self.skipped.setdefault(reason, []).append(self.lines if number is None else number)
        return not reason

    def note_head(self) -> None:
        """Count a line that names columns."""
        self.lines += 1
        self.heads += 1

    def report(self, strict: bool) -> Report:
        """Return the report so far; with `strict` it must be one without skipped lines."""
        skipped = {reason: tuple(sorted(numbers)) for reason, numbers in self.skipped.items()}
        report = Report(self.name, self.lines, self.lines - self.heads - sum(map(len, skipped.values())), skipped)
        if check_flag("strict", strict):
            report.check()
        return report


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count} lines"


def _ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as text: 1-3, 7."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    shown = [f"{first}-{last}" if last > first else f"{first}" for first, last in ranges[:_SHOWN]]
    return ", ".join(shown + (["..."] if len(ranges) > _SHOWN else []))
