"""How near kernels come to what this machine can do: ``python -m benchmarks.roofline``.

Measured first are the limits of one core: multiply-adds of float32, of bfloat16 and int8 on the matrix unit where there
is one, and reads from memory of several sizes. Then each kernel's operations per second, and its share of the lower of
two bounds: the unit's rate, and the rate of the memory that its weights are in. Bounds and kernels are measured in
turn, and the best of all rounds counts, so that a busy minute hits all of them.

A kernel is a function of `KERNELS` that returns its `Kernel`s; another one is another function.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .harness import machine

SOURCE = Path(__file__).with_suffix(".c")
SIZES = {"L1": 24 << 10, "L2": 1 << 20, "beyond L2": 8 << 20, "memory": 256 << 20}


class Kernel(NamedTuple):
    """What is called, and what it has to do: operations of a unit, and bytes of weights from the memory they are in."""

    name: str
    precision: str
    rows: int
    unit: str
    operations: float  # of the unit
    useful: float  # of the caller: two for each product of two numbers
    read: float
    call: Callable[[], object]


def library(folder: Path) -> ctypes.CDLL | None:
    """Compile the limits for this machine; None without a compiler."""
    width = 64 if "avx512" in _flags() else 32 if "avx2" in _flags() else 16
    path = folder / "roofline.so"
    command = [*os.environ.get("CC", "cc").split(), "-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC"]
    try:
        subprocess.run([*command, f"-DFA_BYTES={width}", str(SOURCE), "-o", str(path)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no limits: {error}", file=sys.stderr)
        return None
    return ctypes.CDLL(str(path))


def _flags() -> str:
    try:
        return next(x for x in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if x.startswith("flags"))
    except (OSError, StopIteration):
        return ""


def limits(compiled: ctypes.CDLL) -> dict[str, Callable[[], float]]:
    """Return what measures each limit once: operations, or bytes, of a millisecond or so."""
    kept = np.zeros(8, np.float32)
    pointer = kept.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    for name in ("peak_float32", "peak_bfloat16", "peak_int8", "read_bytes"):
        getattr(compiled, name).restype = ctypes.c_double
    found: dict[str, Callable[[], float]] = {
        "float32": lambda: float(compiled.peak_float32(ctypes.c_int64(20000), pointer))
    }
    if "amx_bf16" in _flags() and _on_tiles():
        found["bfloat16"] = lambda: float(compiled.peak_bfloat16(ctypes.c_int64(20000)))
        found["int8"] = lambda: float(compiled.peak_int8(ctypes.c_int64(20000)))
    for name, size in SIZES.items():
        space = np.ones(size // 4, np.float32)
        address = space.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        rounds = max(1, (16 << 20) // size)

        def read(rounds: int = rounds, address: object = address, size: int = size, space: object = space) -> float:
            return float(compiled.read_bytes(ctypes.c_int64(rounds), address, ctypes.c_int64(size), pointer))

        found[name] = read
    return found


def _on_tiles() -> bool:
    """Whether fastattn uses the matrix unit; Linux was asked for it then."""
    return (machine.fastattn_config() or {}).get("level") == "amx"


def products(rows: tuple[int, ...], inner: int, outer: int) -> Iterator[Kernel]:
    """Products with packed weights, in each precision."""
    import fastattn
    from fastattn import linear

    rng = np.random.default_rng(0)
    w = linear.PackedWeights(rng.standard_normal((inner, outer), dtype=np.float32))
    tiles = _on_tiles() and inner * outer >= 1 << 20
    for m in rows:
        x, out = rng.standard_normal((m, inner), dtype=np.float32), np.empty((m, outer), np.float32)
        useful = 2.0 * m * inner * outer
        for precision, factor, width in (("highest", 0, 4), ("high", 3, 4), ("medium", 1, 2)):

            def call(x: object = x, out: object = out, precision: object = precision) -> object:
                with fastattn.float32_precision(precision):
                    return w.matmul(x, out=out)

            unit, operations = ("bfloat16", factor * useful) if factor else ("float32", useful)
            if tiles or not factor:
                read = float(width * inner * outer)
                yield Kernel(f"product {inner} x {outer}", precision, m, unit, operations, useful, read, call)


KERNELS: tuple[Callable[[], Iterator[Kernel]], ...] = (
    lambda: products((1, 16, 64, 256, 1024), 1024, 1024),
    lambda: products((1, 16, 64, 256), 512, 512),
)


def best_rates(calls: dict[str, Callable[[], float]], seconds: float) -> dict[str, float]:
    """Return for each call the highest amount per second of all rounds, taken in turn."""
    best = dict.fromkeys(calls, 0.0)
    until = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < until:
        for name, call in calls.items():
            start = time.perf_counter()
            amount = call()
            best[name] = max(best[name], amount / (time.perf_counter() - start))
    return best


def level_of(size: float) -> str:
    """The memory that so many bytes stay in from call to call."""
    return next((name for name, most in SIZES.items() if size <= most), "memory")


def rows_of(kernels: list[Kernel], rates: dict[str, float]) -> Iterator[dict[str, object]]:
    """Yield a line of the table for each kernel."""
    for number, kernel in enumerate(kernels):
        rate = rates[str(number)]
        line = {"kernel": kernel.name, "precision": kernel.precision, "rows": kernel.rows, "Gflop/s": rate / 1e9}
        if kernel.unit in rates:
            memory = level_of(kernel.read)
            by_unit, by_memory = kernel.operations / rates[kernel.unit], kernel.read / rates[memory]
            bound = kernel.useful / max(by_unit, by_memory)
            limit = kernel.unit if by_unit >= by_memory else memory
            line |= {"bound": bound / 1e9, "share": rate / bound, "limit": limit}
        yield line


def picture(lines: list[dict[str, object]], path: str) -> None:
    """Write bars of shares, by matplotlib."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 0.3 * len(lines) + 1))
    names = [f"{x['kernel']}, {x['precision']}, {x['rows']} rows" for x in lines]
    axes.barh(names, [float(str(x.get("share", 0))) for x in lines])
    axes.invert_yaxis()
    axes.set_xlabel("share of the bound")
    axes.set_xlim(0, 1)
    figure.savefig(path, bbox_inches="tight")


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.roofline", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.4, help="for each limit and kernel (0.4)")
    parser.add_argument("--json", metavar="FILE", help="everything that was measured")
    parser.add_argument("--picture", metavar="FILE", help="bars of the shares, by matplotlib")
    given = parser.parse_args()

    import fastattn

    fastattn.set_num_threads(1)  # limits are those of one core
    kernels = [kernel for make in KERNELS for kernel in make()]
    with tempfile.TemporaryDirectory() as folder:
        compiled = library(Path(folder))
        calls = limits(compiled) if compiled else {}
        names = list(calls)

        def timed(kernel: Kernel) -> Callable[[], float]:
            def call() -> float:
                kernel.call()
                return kernel.useful

            return call

        calls |= {str(number): timed(kernel) for number, kernel in enumerate(kernels)}
        rates = best_rates(calls, given.seconds)
    lines = list(rows_of(kernels, rates))
    about = machine.describe()
    print(f"{about['processor']}, level {(machine.fastattn_config() or {}).get('level')}, one thread")
    for name in names:
        unit = "GB/s" if name in SIZES else "Gop/s"
        print(f"{name:>12} {rates[name] / 1e9:8.0f} {unit}")
    print(f"\n{'kernel':<22}{'precision':<10}{'rows':>6}{'Gflop/s':>9}{'bound':>8}{'share':>7}  limit")
    for x in lines:
        print(
            f"{x['kernel']!s:<22}{x['precision']!s:<10}{x['rows']!s:>6}{x['Gflop/s']:9.0f}"
            + (f"{x['bound']:8.0f}{x['share']:7.2f}  {x['limit']}" if "bound" in x else "")
        )
    if given.json:
        found = {"machine": about, "limits": {name: rates[name] for name in names}, "kernels": lines}
        Path(given.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if given.picture:
        picture(lines, given.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
