"""The folder that keeps compiled code, of users' functions and of the kernels in Numba, for other processes.

What is found there is used only if the folder is the user's own and nobody else can write to it, and if the file is
whole and was written under the same name. Files are put in place at once, so that two processes may write one at the
same time.
"""

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
import warnings
from pathlib import Path

from fastattn.errors import describe_file

__all__ = ["folder", "read", "write"]

_MAGIC = b"fastattn object 1\n"
_warned: set[str] = set()


def folder() -> Path | None:
    """Return where compiled code is kept: `FASTATTN_CACHE_DIR`, else the user's cache; None: only in memory."""
    given = os.environ.get("FASTATTN_CACHE_DIR")
    if given is not None:
        return Path(given) if given else None
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME", "") or os.path.expanduser("~/.cache")
    return Path(base, "fastattn") if os.path.isabs(base) else None  # there may be no home


def read(name: str) -> bytes | None:
    """Return what is kept under a name, or None where there is nothing that can be used."""
    place = folder()
    if place is None:
        return None
    try:
        path = place / name
        if not path.exists() or not _own(place):
            return None
        data = path.read_bytes()
    except OSError:
        return None
    head, code = data[: len(_MAGIC) + 32], data[len(_MAGIC) + 32 :]
    return code if head == _MAGIC + _digest(name, code) else None


def write(name: str, code: bytes) -> None:
    """Keep code under a name, or say why not, once for each problem."""
    place = folder()
    if place is None:
        return
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _own(place):
            _once(place, "others can write to this folder of compiled functions")
            return
        file, new = tempfile.mkstemp(dir=place)
        try:
            with os.fdopen(file, "wb") as out:
                out.write(_MAGIC + _digest(name, code) + code)
            os.replace(new, place / name)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
    except OSError as error:
        _once(error.filename or place, f"cannot be written ({error.strerror or error})")


def _own(place: Path) -> bool:
    """Whether a folder is the user's and only the user can write to it: what is in it will be run."""
    if not hasattr(os, "getuid"):
        return True
    found = place.stat()
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _digest(name: str, code: bytes) -> bytes:
    return hashlib.sha256(name.encode() + code).digest()


def _once(place: object, problem: str) -> None:
    if problem not in _warned:
        _warned.add(problem)
        hint = "set FASTATTN_CACHE_DIR to a folder of yours; until then functions are compiled anew in each process."
        warnings.warn(describe_file(place, problem, hint), stacklevel=2)
