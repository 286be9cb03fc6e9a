"""Compiled functions by their text: in memory, in a folder, or made now.

A folder keeps object code. What is found there is used only if the folder is the user's own and nobody else can write
to it, and if the file is whole and was made of the same text, by the same versions, for the same processor. Files are
put in place at once, so that two processes may write one at the same time.
"""

import contextlib
import hashlib
import importlib.metadata
import os
import stat
import tempfile
import threading
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from fastattn._version import __version__
from fastattn.errors import describe_file

__all__ = ["address"]

_MAGIC = b"fastattn object 1\n"
_lock = threading.RLock()
_addresses: dict[tuple[str, str], int] = {}
_warned: set[str] = set()


def _renew() -> None:
    """Let a forked child go on while a thread that it has not was loading a function."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def address(text: str, name: str) -> int:
    """Return the address of the function `name` that a text defines."""
    found = _addresses.get((text, name))
    if found is None:
        with _lock:
            found = _addresses.get((text, name))
            if found is None:
                found = _addresses[text, name] = _load(text, name)
    return found


def _load(text: str, name: str) -> int:
    machine, processor = _machine()
    made_of = (__version__, *_versions(), processor, name, text)
    key = hashlib.sha256("\0".join(made_of).encode()).hexdigest()
    symbol = f"fastattn_{key}"
    code = _read(key)
    if code is None:
        from fastattn.jit.compiling import object_code

        code = object_code(text, name, symbol, machine)
        _write(key, code)
    return _linked(code, symbol)


@cache
def _versions() -> tuple[str, ...]:
    """Return the versions of what object code is made by, and of the functions that texts import."""
    ours = Path(__file__).with_name("lowering.py").read_bytes()
    return *(importlib.metadata.version(name) for name in ("numba", "llvmlite")), hashlib.sha256(ours).hexdigest()


@cache
def _machine() -> tuple[Any, str]:
    """Return LLVM's machine for this processor, and the processor's name and features."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(cpu=cpu, features=features, opt=3, jit=True), f"{cpu} {features}"


@cache
def _engine() -> Any:
    """Return what holds all functions that were loaded, and stays."""
    import llvmlite.binding as llvm

    _machine()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    machine = target.create_target_machine(cpu=llvm.get_host_cpu_name(), opt=3, jit=True)
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


def _linked(code: bytes, symbol: str) -> int:
    import llvmlite.binding as llvm

    engine = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return int(engine.get_function_address(symbol))


# The folder.


def _folder() -> Path:
    given = os.environ.get("FASTATTN_CACHE_DIR")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fastattn"


def _once(place: object, problem: str) -> None:
    """Say, once for each problem, that functions stay in memory."""
    if problem not in _warned:
        _warned.add(problem)
        hint = "set FASTATTN_CACHE_DIR to a folder of yours; until then functions are compiled anew in each process."
        warnings.warn(describe_file(place, problem, hint), stacklevel=2)


def _own(folder: Path) -> bool:
    """Whether a folder is the user's and only the user can write to it: what is in it will be run."""
    if not hasattr(os, "getuid"):
        return True
    found = folder.stat()
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _read(key: str) -> bytes | None:
    """Return the object code of this key, or None where there is none that can be used."""
    try:
        folder = _folder()
        path = folder / f"{key}.o"
        if not path.exists() or not _own(folder):
            return None
        data = path.read_bytes()
    except (OSError, RuntimeError):  # there may be no home
        return None
    head, code = data[: len(_MAGIC) + 32], data[len(_MAGIC) + 32 :]
    return code if head == _MAGIC + _digest(key, code) else None


def _digest(key: str, code: bytes) -> bytes:
    return hashlib.sha256(key.encode() + code).digest()


def _write(key: str, code: bytes) -> None:
    """Put object code into the folder, or say why not."""
    try:
        folder = _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _own(folder):
            _once(folder, "others can write to this folder of compiled functions")
            return
        file, name = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(file, "wb") as out:
                out.write(_MAGIC + _digest(key, code) + code)
            os.replace(name, folder / f"{key}.o")
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except (OSError, RuntimeError) as error:
        place = getattr(error, "filename", None) or "the folder of compiled functions"
        _once(place, f"cannot be written ({getattr(error, 'strerror', None) or error})")
