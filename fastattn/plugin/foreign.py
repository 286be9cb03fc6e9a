"""Running code of others: whatever it raises is an `Exception` outside of it, unless somebody pressed Ctrl-C."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

from fastattn._printing import one_line
from fastattn.errors import PluginError

__all__ = ["contained", "said"]

Result = TypeVar("Result")


def contained(run: Callable[[], Result]) -> Result:
    """Call a function of a plugin, or import one.

    Raises
    ------
    Exception
        What it raises. What is no Exception, such as a SystemExit, becomes a PluginError: an import must not end the
        program. So does a KeyboardInterrupt that the plugin raises itself; that of a Ctrl-C stays what it is.
    """
    with _ctrl_c() as pressed:
        try:
            return run()
        except Exception:
            raise
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and pressed:
                raise
            raise PluginError(said(error)) from error


def said(error: BaseException) -> str:
    """Return in one line what an exception of a plugin says, even if it cannot be asked."""
    kind = type(error).__name__
    try:
        text = str(error)
    except Exception:
        text = "its text cannot be made"
    return one_line(text if isinstance(error, PluginError) else f"{kind}: {text}")


@contextlib.contextmanager
def _ctrl_c() -> Iterator[list[int]]:
    """Yield a list that gets an entry when Ctrl-C is pressed, which acts as it did before.

    Only the main thread handles signals: in any other one, no KeyboardInterrupt comes from outside.
    """
    import signal  # which takes a while, and no name of ours needs

    pressed: list[int] = []
    before: Any = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield pressed
        return

    def note(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        if signal.getsignal(signal.SIGINT) is note:  # else the plugin has put one of its own there
            signal.signal(signal.SIGINT, before)
