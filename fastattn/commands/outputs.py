"""Files that commands write: never one that they read."""

import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from fastattn.errors import ConfigError, describe_file

__all__ = ["check_output", "files_of_run"]


def check_output(output: Path, *inputs: str | os.PathLike[str] | None) -> None:
    """Raise unless an output is another file than each of the inputs, by whatever names these are known.

    Parameters
    ----------
    output : path
    inputs : path or None
        Files, folders of models, or "-" for the standard input.

    Raises
    ------
    ConfigError
        In one line.
    """
    try:
        written = os.stat(output)
    except (OSError, ValueError):  # there is nothing yet that could be lost
        return
    if not stat.S_ISREG(written.st_mode):
        return
    for place in inputs:
        for path in () if place is None else files_of_run(Path(place)) if os.path.isdir(place) else (place,):
            read = _stat(path)
            if read is not None and os.path.samestat(written, read):
                name = "the standard input" if path == "-" else str(path)
                raise ConfigError(describe_file(output, f"is read by this command ({name})", "write to another file."))


def files_of_run(folder: Path) -> Iterable[Path]:
    """Return the files that a run keeps in its folder, or a checkpoint in its own."""
    if (folder / "manifest.json").exists():
        return folder.iterdir()
    own = [folder / name for name in ("best", "latest", "log.jsonl", "lock")]
    return [*own, *folder.glob("checkpoint-*/*")]


def _stat(path: str | os.PathLike[str]) -> os.stat_result | None:
    try:
        return os.fstat(sys.stdin.fileno()) if path == "-" else os.stat(path)
    except (OSError, ValueError, AttributeError):  # closed, no file, or nothing there
        return None
