"""The log of a training run: one JSON object a line, which a resumed run continues without gap or repetition."""

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from fastattn._printing import say
from fastattn.errors import describe_file

__all__ = ["RunLog", "read_log"]


class RunLog:
    """A file of JSON lines, each with its ``step``.

    Parameters
    ----------
    path : Path or None
        None: nothing is written.
    step : int
        Lines of later steps are dropped: they were written after the checkpoint from which the run goes on. So is a
        last line that was cut off.
    finished : bool
        Whether the run is over; if not, lines with ``final`` are dropped too: they are of an end that is none.

    Notes
    -----
    A line reaches the operating system before `write` returns, so that it survives the end of the process. A log that
    cannot be written is no reason to stop training: that is said once on the standard error stream.
    """

    def __init__(self, path: Path | None, step: int, finished: bool = True) -> None:
        self._path, self._silent = path, False
        self._kept: list[dict[str, Any]] = []
        self._file: BinaryIO | None = None
        if path is None:
            return
        try:
            lines = read_log(path) if path.exists() else []
            self._kept = [line for line in lines if line["step"] <= step and (finished or not line.get("final"))]
            fresh = path.with_name(path.name + ".tmp")
            fresh.write_bytes(b"".join(map(_line, self._kept)))
            os.replace(fresh, path)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            self._complain(error)

    def write(self, **values: Any) -> None:
        """Append one line."""
        if self._file is None:
            return
        line = _line(values)
        try:
            written = self._file.write(line)
            if written != len(line):  # no part of a line stays: it would hide those after it
                self._file.truncate(self._file.tell() - (written or 0))
                raise OSError(28, os.strerror(28))
        except OSError as error:
            self._complain(error)

    def write_once(self, **values: Any) -> None:
        """Append one line, unless the log had it before."""
        if json.loads(_line(values)) not in self._kept:
            self.write(**values)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _complain(self, error: OSError) -> None:
        if not self._silent:
            problem = f"cannot be written: {(error.strerror or str(error)).lower()}"
            say("fastattn: " + describe_file(self._path, problem, "training goes on; lines are missing from its log."))
        self._silent = True


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log; one that was cut off, because the process was killed, ends it.

    Parameters
    ----------
    path : Path

    Returns
    -------
    list of dict
    """
    lines: list[dict[str, Any]] = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            break
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            break
        lines.append(line)
    return lines


def _line(values: dict[str, Any]) -> bytes:
    return (json.dumps(values) + "\n").encode()
