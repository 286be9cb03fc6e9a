"""What the kit hands back: one line for each check, in words, and as data."""

import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

from fastattn import _cards
from fastattn._version import __version__
from fastattn.errors import PluginError, UnsupportedError, describe_file

__all__ = ["Certificate", "Result", "run"]

_MARKS = {"passed": "ok", "failed": "FAILED", "expected": "known", "unsupported": "-"}


@dataclasses.dataclass(frozen=True)
class Result:
    """The outcome of one check.

    Attributes
    ----------
    name : str
        Of the check.
    status : {"passed", "failed", "expected", "unsupported"}
        expected: failed, and the author says why; unsupported: what is checked was refused with an
        `UnsupportedError`, or is left out by nature.
    detail : str
        What went wrong, was refused, or was found.
    """

    name: str
    status: str
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class Certificate:
    """What was checked, and how it went.

    Attributes
    ----------
    subject : str
    results : tuple of Result
    seconds : float
    """

    subject: str
    results: tuple[Result, ...]
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not any(result.status == "failed" for result in self.results)

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return tuple(result.name for result in self.results if result.status == "failed")

    def __getitem__(self, name: str) -> Result:
        return next(result for result in self.results if result.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {
            "subject": self.subject, "fastattn": __version__, "passed": self.passed, "seconds": round(self.seconds, 3),
            "results": [dataclasses.asdict(result) for result in self.results],
        }  # fmt: skip

    def require(self) -> "Certificate":
        """Return the certificate, or raise a PluginError that lists what failed."""
        if not self.passed:
            wrong = "; ".join(f"{r.name}: {r.detail}" for r in self.results if r.status == "failed")
            hint = "print(certificate) shows all checks."
            raise PluginError(describe_file(self.subject, f"does not conform: {wrong}", hint))
        return self

    def __str__(self) -> str:
        width = max([len(result.name) for result in self.results], default=0)
        lines = [self._title()]
        for result in self.results:
            lines.append(f"  {_MARKS[result.status]:<6}  {result.name:<{width}}  {result.detail}".rstrip())
        lines.append(f"  {self._total()}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Certificate({self.subject}: {self._total()})"

    def _repr_html_(self) -> str:
        """A card with a line for each check."""
        failed = _cards.Html(f'<span class="fastattn-failed">{_MARKS["failed"]}</span>')
        lines = ((failed if r.status == "failed" else _MARKS[r.status], r.name, r.detail) for r in self.results)
        checks = _cards.grid(["outcome", "check", "found"], lines)
        return _cards.card(self._title(), _cards.folded(self._total(), checks, opened=not self.passed))

    def _title(self) -> str:
        return f"{self.subject}, checked by fastattn {__version__}"

    def _total(self) -> str:
        counts = {status: sum(result.status == status for result in self.results) for status in _MARKS}
        parts = [f"{counts['passed']} of {len(self.results)} checks passed"]
        parts += [f"{counts[status]} {status}" for status in ("failed", "expected", "unsupported") if counts[status]]
        return f"{', '.join(parts)}; {self.seconds:.1f} s"


class Skipped(Exception):
    """A check does not concern the subject; the text says why."""


def run(
    subject: str,
    checks: Iterable[tuple[str, Callable[[], object]]],
    expected_failures: "dict[str, str] | None" = None,
) -> Certificate:
    """Run checks and certify what they found; a check returns a remark or None, and raises if it fails."""
    reasons = dict(expected_failures or {})
    results, begin = [], time.perf_counter()
    for name, check in checks:
        reason = reasons.pop(name, None)
        try:
            remark = check()
        except (UnsupportedError, Skipped) as error:
            results.append(Result(name, "unsupported", _one_line(error)))
        except Exception as error:
            said = (
                _one_line(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {_one_line(error)}"
            )
            results.append(Result(name, "expected" if reason else "failed", f"{reason}: {said}" if reason else said))
        else:
            if reason is not None:
                results.append(Result(name, "failed", f"passed, though it was to fail: {reason}"))
            else:
                results.append(Result(name, "passed", str(remark or "")))
    for name, reason in reasons.items():
        results.append(Result(name, "failed", f"was to fail ({reason}), but there is no such check"))
    return Certificate(subject, tuple(results), time.perf_counter() - begin)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 900 else f"{text[:897]}..."
