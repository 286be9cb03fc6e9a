"""From the text of a function to object code, by Numba; importing this imports it."""

import linecache
from typing import Any

import llvmlite.binding as llvm

__all__ = ["object_code", "optimized"]


def object_code(text: str, name: str, symbol: str, machine: Any) -> bytes:
    """Return the object code of the function `name` that a text defines, under the name `symbol`."""
    return bytes(machine.emit_object(optimized(text, name, symbol, machine)))


def optimized(text: str, name: str, symbol: str, machine: Any) -> Any:
    """Return LLVM's module of the function.

    Numba leaves the function and a wrapper for errors that it might raise. Ours raise none, which shows once one is
    part of the other: what is left needs neither Python nor Numba where it runs.
    """
    file = f"<fastattn {symbol}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    known: dict[str, Any] = {"__name__": f"fastattn.jit.{symbol}"}
    exec(compile(text, file, "exec"), known)
    made = known[name]
    module = llvm.parse_assembly(made.inspect_llvm())
    for function in module.functions:
        if not function.is_declaration and function.name != made.native_name:
            function.linkage = "internal"
    module.get_function(made.native_name).name = symbol
    builder = llvm.create_pass_builder(machine, llvm.PipelineTuningOptions(speed_level=1))
    builder.getModulePassManager().run(module, builder)
    foreign = [f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")]
    if foreign:  # loading it would end the process
        raise RuntimeError(f"{name} needs {', '.join(foreign)}")
    return module
