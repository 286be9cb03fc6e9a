"""Asking a loop to stop: Ctrl-C, SIGTERM and the closing of a terminal become a flag, looked at between two steps."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from fastattn import _reprs

__all__ = ["Stop", "Stopped", "stop_requests"]


class Stopped(KeyboardInterrupt):
    """A run was asked to stop, and did after saving where it was.

    Attributes
    ----------
    number : int
        The signal that asked; a shell expects the exit code 128 + number.
    """

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number

    def __reduce__(self) -> tuple[type, tuple[int, str]]:
        return type(self), (self.number, str(self))


class Stop:
    """Whether somebody asked the loop to stop.

    Attributes
    ----------
    number : int
        The signal, 0 before one came.
    """

    def __init__(self) -> None:
        self.number = 0

    def requested(self) -> bool:
        """Whether a signal came."""
        return bool(self.number)

    __repr__ = _reprs.attributes


@contextlib.contextmanager
def stop_requests() -> Iterator[Stop]:
    """Turn the first SIGINT, SIGTERM or SIGHUP within the block into a flag; the second one acts as it did before.

    Yields
    ------
    Stop

    Notes
    -----
    Only a program's main thread may handle signals; in any other the flag stays 0. A SIGHUP that is ignored, as under
    nohup, stays so.

    Examples
    --------
    >>> import signal
    >>> from fastattn.seq2seq.runs.signals import stop_requests
    >>> with stop_requests() as stop:
    ...     signal.raise_signal(signal.SIGINT)
    ...     print(stop.number == signal.SIGINT)
    True
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: dict[int, Any] = {}

    def restore() -> None:
        while before:
            number, handler = before.popitem()
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        stop.number = number
        restore()

    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    for number in (signal.SIGINT, signal.SIGTERM, *([hangup] if hangup else [])):
        if number == hangup and signal.getsignal(number) == signal.SIG_IGN:
            continue
        before[number] = signal.getsignal(number) or signal.SIG_DFL
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()
