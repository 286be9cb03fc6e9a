"""The log of a training run: one JSON object a line, which a resumed run continues without gap or repetition."""

import json
import os
from pathlib import Path
from typing import Any, TextIO

__all__ = ["RunLog", "read_log"]


class RunLog:
    """A file of JSON lines, each with its ``step``.

    Parameters
    ----------
    path : Path
    step : int
        Lines of later steps are dropped: they were written after the checkpoint from which the run goes on. So is a
        last line that was cut off.

    Notes
    -----
    A line reaches the operating system before `write` returns, so that it survives the end of the process.
    """

    def __init__(self, path: Path, step: int) -> None:
        kept = [line for line in read_log(path) if line["step"] <= step] if path.exists() else []
        fresh = path.with_name(path.name + ".tmp")
        fresh.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        os.replace(fresh, path)
        self._file: TextIO = path.open("a", encoding="utf-8")

    def write(self, **values: Any) -> None:
        """Append one line."""
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


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
        except ValueError:
            break
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            break
        lines.append(line)
    return lines
