"""What a run shows: one bar on a terminal or in a notebook, plain lines on stderr anywhere else, or nothing at all."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastattn._optional import need
from fastattn._printing import say, show, visible

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
        self._label, self._quiet, self._notebook = label, quiet, _in_notebook()
        self._bar: Any = None
        self._loss = self._measured = ""  # what stands behind the bar: of the last steps, and of the last validation

    def begin(self, done: int, total: int) -> None:
        """Show the bar, with `done` steps done before, and about `total` in the whole run."""
        if not self._quiet and (self._notebook or _on_terminal()):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that a notebook without ipywidgets has a bar of letters
                tqdm = need("tqdm.auto", "seq2seq", "the progress bar")
            # Some terminals, of containers and build servers, say that they have no columns and no rows.
            wide: dict[str, Any] = {"dynamic_ncols": True}
            size: dict[str, Any] = wide if self._notebook or _has_size() else {"ncols": 80, "nrows": 24}
            with self._unless_broken():
                self._bar = tqdm.tqdm(
                    total=total, initial=done, desc=visible(self._label) or None, unit="step",
                    file=sys.stdout if self._notebook else sys.stderr, **size,
                )  # fmt: skip

    def advance(self, loss: float) -> None:
        """Count one step; the bar shows its loss, the mean of the last ones."""
        if self._bar is not None:
            self._loss = f"loss {_number(loss)}"
            with self._unless_broken():
                self._bar.set_postfix_str(self._loss + self._measured, refresh=False)
                self._bar.update()

    def show(self, **values: Any) -> None:
        """Show the figures of a logged step, where there is no bar."""
        if self._bar is None:
            self.line(_text(values))

    def measured(self, step: int, values: Mapping[str, float], metric: str, best: bool) -> None:
        """Show what a validation came to, on the bar the value of the metric alone."""
        if self._bar is not None:
            self._measured = f", {visible(_text({metric: values[metric]}))}{' (best)' if best else ''}"
            with self._unless_broken():
                self._bar.set_postfix_str(self._loss + self._measured)
        else:
            figures = "  ".join(f"{key.replace('_', ' ')} {number:.4g}" for key, number in values.items())
            self.line(f"step {step}  {figures}{'  best so far' if best else ''}")

    def line(self, text: str) -> None:
        """Show one line that stays."""
        if self._quiet:
            return
        text = f"{self._label}: {text}" if self._label else text
        if self._bar is not None:
            with self._unless_broken():
                self._bar.write(visible(text), file=sys.stdout if self._notebook else sys.stderr)
        else:
            (show if self._notebook else say)(text)

    def lines(self, texts: Iterable[str]) -> None:
        """Show some such lines."""
        for text in texts:
            self.line(text)

    def close(self) -> None:
        """End the bar, which stays."""
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


def _in_notebook() -> bool:
    """Whether the kernel of a notebook runs this, which is what tqdm.auto asks."""
    try:
        shell = sys.modules["IPython"].get_ipython()
        return shell is not None and "IPKernelApp" in shell.config
    except Exception:  # not loaded, or an object of the program's own
        return False


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
