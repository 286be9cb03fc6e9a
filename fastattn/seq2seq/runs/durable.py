"""Folders of files that are there whole or not at all, whatever happens while they are written.

A folder is written under another name, every file and the folder itself are forced to the disk, and then it is
renamed, which is atomic. ``manifest.json`` in it has the size and the SHA-256 of every file, and its own checksum, so
that damage done later is noticed.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from fastattn.errors import CheckpointError, describe_file
from fastattn.seq2seq.strict_json import parse_json

__all__ = [
    "FORMAT",
    "DamagedError",
    "NewerError",
    "checksum",
    "explained",
    "lock",
    "read_folder",
    "remove_folder",
    "write_file",
    "write_folder",
    "write_text",
]

FORMAT = 1  # of the manifest and of what the files mean; raised when older versions could not read them

_MANIFEST = "manifest.json"
_LARGEST_MANIFEST = 1 << 20  # bytes
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_BINARY = getattr(os, "O_BINARY", 0)  # of Windows
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)  # a pipe must not block


class DamagedError(CheckpointError):
    """A folder is not as it was written."""


class NewerError(CheckpointError):
    """A folder was written by a version of fastattn that this one does not understand."""


def write_folder(folder: Path, files: Mapping[str, bytes], about: Mapping[str, Any]) -> None:
    """Write a folder whole or not at all; one of the same name is replaced.

    Parameters
    ----------
    folder : Path
        Its parent exists.
    files : mapping of str to bytes
    about : mapping
        JSON values for the manifest.

    Raises
    ------
    CheckpointError
        If the disk is full, the parent is read-only, ...; nothing is left behind.

    Notes
    -----
    Names with ``.tmp`` are unfinished. For a moment while a folder is replaced, the former one is called ``.old``.
    """
    unfinished, old = folder.with_name(folder.name + ".tmp"), folder.with_name(folder.name + ".old")
    size = sum(map(len, files.values()))
    with explained(folder, size):
        remove_folder(unfinished)
        try:
            os.mkdir(unfinished)
            for name, data in files.items():
                _write_file(unfinished / name, data)
            _write_file(unfinished / _MANIFEST, _manifest(files, about))
            _sync_folder(unfinished)
            if os.path.lexists(folder):
                remove_folder(old)
                os.rename(folder, old)
            os.rename(unfinished, folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            if not os.path.lexists(folder) and os.path.lexists(old):
                os.rename(old, folder)
            raise
        _sync_folder(folder.parent)
        remove_folder(old)


def read_folder(folder: Path, skip: Collection[str] = ()) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the files of a folder and what its manifest says, after all have been compared with the manifest.

    Parameters
    ----------
    folder : Path
    skip : collection of str
        Files that are not needed: neither read nor compared.

    Raises
    ------
    DamagedError
        If a file is missing or is not the one that was written.
    NewerError
        If the format is newer than this version's.
    """
    manifest = _read_manifest(folder)
    files = {}
    for name, (size, digest) in manifest.pop("files").items():
        if name in skip:
            continue
        data = _read_file(folder / name, size)
        if hashlib.sha256(data).hexdigest() != digest:
            raise DamagedError(describe_file(folder / name, "its bytes have changed since it was written", _BACKUP))
        files[name] = data
    return files, manifest


def checksum(folder: Path) -> str:
    """Return the SHA-256 of a folder's manifest, which has those of all its files, and what is said about them."""
    return _checksum(_read_manifest(folder))


def remove_folder(folder: Path) -> None:
    """Remove a folder and what is in it, if it exists; it is renamed first, so that no half of it bears its name."""
    if not folder.name.endswith(".tmp"):
        unfinished = folder.with_name(folder.name + ".tmp")
        if os.path.lexists(folder):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(unfinished)
            os.rename(folder, unfinished)
        folder = unfinished
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all; one of the same name is replaced."""
    write_file(path, text.encode())


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; one of the same name is replaced."""
    unfinished = path.with_name(path.name + ".tmp")
    with explained(path, len(data)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
        _write_file(unfinished, data)
        os.replace(unfinished, path)
        _sync_folder(path.parent)


_BACKUP = "restore it from a copy, or use another checkpoint."


def _manifest(files: Mapping[str, bytes], about: Mapping[str, Any]) -> bytes:
    content = {
        **about,
        "format": FORMAT,
        "files": {name: [len(data), hashlib.sha256(data).hexdigest()] for name, data in files.items()},
    }
    return (json.dumps({**content, "checksum": _checksum(content)}, indent=1) + "\n").encode()


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    damaged = DamagedError(describe_file(path, "is not a manifest as it was written", _BACKUP))
    try:
        manifest = parse_json(_read_file(path, None))
        if manifest.pop("checksum") != _checksum(manifest):
            raise damaged
        if manifest["format"] > FORMAT:
            problem = f"format {manifest['format']}, and this fastattn knows formats up to {FORMAT}"
            raise NewerError(describe_file(path, problem, "install a newer fastattn."))
        for name, (size, digest) in manifest["files"].items():
            if not (_NAME.fullmatch(name) and isinstance(size, int) and isinstance(digest, str)):
                raise damaged
    except (ValueError, TypeError, KeyError, AttributeError):
        raise damaged from None
    return dict(manifest)


def _write_file(path: Path, data: bytes) -> None:
    # 0o666: the user's umask decides who may read it, as for any other file.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest[: 1 << 26]) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_file(path: Path, size: int | None) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | _AT_ONCE | _BINARY)
        try:
            found = os.fstat(descriptor)
            # Compared before anything is read, so that no file makes this allocate more than it has.
            right = found.st_size == size if size is not None else found.st_size <= _LARGEST_MANIFEST
            if not (stat.S_ISREG(found.st_mode) and right):
                expected = f"a file of {size} bytes" if size is not None else "a small file"
                raise DamagedError(describe_file(path, f"expected {expected}, got {found.st_size} bytes", _BACKUP))
            with open(descriptor, "rb", closefd=False) as file:
                return file.read()
        finally:
            os.close(descriptor)
    except OSError as error:
        problem = "is missing" if error.errno == errno.ENOENT else f"cannot be read: {_reason(error)}"
        raise DamagedError(describe_file(path, problem, _BACKUP)) from None


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows opens no folders, and keeps names by itself
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(descriptor: int) -> None:
    """Lock a file for this process until it is closed, however that ends; raise an OSError if another one has it."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        import msvcrt

        system: Any = msvcrt
        system.locking(descriptor, system.LK_NBLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


@contextlib.contextmanager
def explained(path: Path, size: int) -> Iterator[None]:
    """Turn a fault of the file system, while `size` bytes are written, into one line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = f"free {size / 1e6:.1f} MB or more and go on; what was saved before is intact."
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            hint = "choose a folder that you may write to; what was saved before is intact."
        else:
            hint = "check the disk; what was saved before is intact."
        raise CheckpointError(describe_file(path, f"cannot be saved: {_reason(error)}", hint)) from error
