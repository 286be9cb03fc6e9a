"""What a run shows on stderr: a bar on a terminal, plain lines anywhere else, nothing when it is to be quiet."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from fastattn._printing import say, visible
from fastattn.seq2seq._optional import need

__all__ = ["Progress"]


class Progress:
    """Progress of a run.

    Parameters
    ----------
    label : str
        Stands in front of the bar and of every line.
    quiet : bool
        Show nothing.
    """

    def __init__(self, *, label: str = "", quiet: bool = False) -> None:
        self._label, self._quiet = label, quiet
        self._bar: Any = None

    def begin(self, done: int, total: int) -> None:
        """Show the bar, with `done` steps done before, and about `total` in the whole run."""
        if not self._quiet and _on_terminal():
            tqdm = need("tqdm", "seq2seq", "the progress bar")
            # Some terminals, of containers and build servers, say that they have no columns and no rows.
            size: dict[str, Any] = {"dynamic_ncols": True} if _has_size() else {"ncols": 80, "nrows": 24}
            with self._unless_broken():
                self._bar = tqdm.tqdm(
                    total=total, initial=done, desc=visible(self._label) or None, unit="step", leave=False,
                    file=sys.stderr, **size,
                )  # fmt: skip

    def advance(self) -> None:
        """Count one step."""
        if self._bar is not None:
            with self._unless_broken():
                self._bar.update()

    def show(self, **values: Any) -> None:
        """Show the figures of a logged step."""
        if self._bar is not None:
            with self._unless_broken():
                self._bar.set_postfix_str(visible(_text(values)))
        else:
            self.line(_text(values))

    def line(self, text: str) -> None:
        """Show one line that stays."""
        if self._quiet:
            return
        text = f"{self._label}: {text}" if self._label else text
        if self._bar is not None:
            with self._unless_broken():
                self._bar.write(visible(text), file=sys.stderr)
        else:
            say(text)

    def lines(self, texts: Iterable[str]) -> None:
        """Show some such lines."""
        for text in texts:
            self.line(text)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            with self._unless_broken():
                self._bar.close()

    @contextlib.contextmanager
    def _unless_broken(self) -> Iterator[None]:
        """Go on without a bar, whatever its writing raises: training matters more."""
        try:
            yield
        except Exception:
            if self._bar is not None:
                self._bar.disable = True  # or its end would try to write as well
            self._bar = None


def _on_terminal() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except Exception:  # closed, or somebody's own object
        return False


def _has_size() -> bool:
    try:
        return min(os.get_terminal_size(sys.stderr.fileno())) > 1
    except (OSError, ValueError, AttributeError):
        return False


def _text(values: dict[str, Any]) -> str:
    return "  ".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in values.items())


def _number(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
