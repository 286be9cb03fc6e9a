"""What a run shows on stderr: a bar on a terminal, plain lines anywhere else, nothing when it is to be quiet."""

import sys
from typing import Any

from fastattn.seq2seq._optional import need

__all__ = ["Progress"]


class Progress:
    """Progress of a known number of steps.

    Parameters
    ----------
    total : int or None
        Steps of the whole run; None if not known.
    begin : int
        Steps done before.
    label : str
        Stands in front of the bar and of every line.
    quiet : bool
        Show nothing.
    """

    def __init__(self, total: int | None, begin: int = 0, *, label: str = "", quiet: bool = False) -> None:
        self._label, self._quiet, self._bar = label, quiet, None
        if not quiet and sys.stderr.isatty():
            tqdm = need("tqdm", "seq2seq", "the progress bar")
            self._bar = tqdm.tqdm(total=total, initial=begin, desc=label or None, unit="step", file=sys.stderr,
                                  dynamic_ncols=True, leave=False)  # fmt: skip

    def advance(self) -> None:
        """Count one step."""
        if self._bar is not None:
            self._bar.update()

    def show(self, **values: Any) -> None:
        """Show the figures of a logged step."""
        if self._bar is not None:
            self._bar.set_postfix_str(_text(values))
        else:
            self.line(_text(values))

    def line(self, text: str) -> None:
        """Show one line that stays."""
        if self._quiet:
            return
        text = f"{self._label}: {text}" if self._label else text
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()


def _text(values: dict[str, Any]) -> str:
    return "  ".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in values.items())


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1e4 else f"{value:.0f}" if isinstance(value, float) else str(value)
