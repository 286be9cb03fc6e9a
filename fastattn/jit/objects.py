"""Compiled functions by their text: in memory, in a folder, or made now.

What the folder keeps is used only if it was made of the same text, by the same versions, for the same processor.
"""

import hashlib
import importlib.metadata
import os
import threading
from functools import cache
from pathlib import Path
from typing import Any

from fastattn._kernels import kept
from fastattn._version import __version__

__all__ = ["address"]

_lock = threading.RLock()
_addresses: dict[tuple[str, str], int] = {}


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
    code = kept.read(f"{key}.o")
    if code is None:
        from fastattn.jit.compiling import object_code

        code = object_code(text, name, symbol, machine)
        kept.write(f"{key}.o", code)
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
