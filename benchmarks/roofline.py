"""How near kernels come to what this machine can do: ``python -m benchmarks.roofline``.

Measured first are the limits of one core: multiply-adds of float32, of bfloat16 and int8 on the matrix unit where there
is one, and reads from memory of several sizes. Then each kernel's time, and the share of it that the least
work would take: on the unit that is busy longest, or for what must be read from the memory that it is in. Bounds and
kernels are measured in turn, and the best of all rounds counts, so that a busy minute hits all of them. Each level of
instructions that this machine has is measured in a process of its own. Limits are those of the machine, not of the
level, but for the matrix unit, which only the level that uses it has.

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
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .harness import machine
from .harness.checkout import ROOT
from .harness.report import render

SOURCE = Path(__file__).with_suffix(".c")
SIZES = {"L1": 24 << 10, "L2": 1 << 20, "beyond L2": 8 << 20, "memory": 256 << 20}
# Operations of an exponential: a range reduction and a polynomial, ten multiply-adds.
EXPONENTIAL = 20.0


class Kernel(NamedTuple):
    """What is called, and the least that it has to do: operations of each unit, and bytes read from where they are."""

    name: str
    size: str
    precision: str
    work: Mapping[str, float]
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
        "float32": lambda: float(compiled.peak_float32(ctypes.c_int64(500_000), pointer)),
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


def _within(precision: str, call: Callable[[], object]) -> Callable[[], object]:
    """The call in a precision of float32 products."""
    import fastattn

    def run() -> object:
        with fastattn.float32_precision(precision):
            return call()

    return run


def _precisions() -> dict[str, str]:
    """The first and the last precision of float32 products, if the unit has it, with the type of what is multiplied."""
    return {"highest": "float32", "medium": "bfloat16"} if _on_tiles() else {"highest": "float32"}


def products(inner: int, outer: int, rows: tuple[int, ...]) -> Iterator[Kernel]:
    """Products with packed weights: of float32 in each of its precisions, and with matrices of narrower types."""
    from fastattn import linear

    rng = np.random.default_rng(0)
    w = rng.standard_normal((inner, outer), dtype=np.float32)
    wide, narrow = linear.PackedWeights(w), {name: linear.PackedWeights(w, name) for name in ("bfloat16", "int8")}
    tiles = _on_tiles() and inner * outer >= 1 << 20
    for m in rows:
        x, out = rng.standard_normal((m, inner), dtype=np.float32), np.empty((m, outer), np.float32)
        useful, size = 2.0 * m * inner * outer, f"{m} x {inner} x {outer}"
        for precision, factor, width in (("highest", 0, 4), ("high", 3, 4), ("medium", 1, 2)):
            call = _within(precision, partial(wide.matmul, x, out=out))
            work = {"bfloat16": factor * useful} if factor else {"float32": useful}
            if tiles or not factor:
                yield Kernel("product", size, f"float32 {precision}", work, useful, float(width * inner * outer), call)
        for name, packed in narrow.items():

            def multiply(x: object = x, out: object = out, packed: Any = packed) -> object:
                return packed.matmul(x, out=out)

            work = {name if _on_tiles() else "float32" if name == "bfloat16" else "int8": useful}
            read = float((2 if name == "bfloat16" else 1) * inner * outer)
            yield Kernel("product", size, name, work, useful, read, multiply)


def gradients(rows: int, inner: int, outer: int) -> Iterator[Kernel]:
    """What a product's backward pass is made of: that with the matrix transposed, and the gradient of the matrix."""
    from fastattn import linear

    rng = np.random.default_rng(0)
    x, w, dy = (rng.standard_normal(shape, np.float32) for shape in ((rows, inner), (inner, outer), (rows, outer)))
    packed, useful = linear.PackedWeights(w), 2.0 * rows * inner * outer
    calls = {
        "product, transposed": (partial(packed.matmul_transposed, dy, out=np.empty_like(x)), w.nbytes),
        "gradient of a matrix": (partial(linear.weight_gradient, x, dy), x.nbytes + dy.nbytes),
    }
    for name, (call, read) in calls.items():
        for precision, kind in _precisions().items():
            run = _within(precision, call)
            size = f"{rows} x {inner} x {outer}"
            yield Kernel(name, size, f"float32 {precision}", {kind: useful}, useful, float(read), run)


def recurrent(batch: int, length: int, width: int) -> Iterator[Kernel]:
    """A layer of each kind over whole sequences: products with inputs and states, an exponential for each gate."""
    from fastattn import layers

    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, length, width), np.float32)
    for make, gates in ((layers.GRU, 3), (layers.LSTM, 4)):
        layer = make(width, width, rng=rng)
        terms = float(batch * length * gates * width)
        for precision, kind in _precisions().items():
            useful, read = 4 * terms * width, length * gates * width**2 * (2.0 if kind == "bfloat16" else 4.0)
            work, size = _on_units(kind, useful, EXPONENTIAL * terms), f"{batch} x {length} x {width}"
            run = _within(precision, partial(layer.forward, x))
            yield Kernel(make.__name__, size, f"float32 {precision}", work, useful, read, run)


def words(rows: int, width: int, count: int) -> Iterator[Kernel]:
    """Cross-entropy of the logits of an output layer."""
    from fastattn import layers, losses

    rng = np.random.default_rng(0)
    x, layer = rng.standard_normal((rows, width), np.float32), layers.Linear(width, count, rng=rng)
    call, useful = partial(losses.cross_entropy, x, layer, rng.integers(0, count, rows)), 2.0 * rows * width * count
    for precision, kind in _precisions().items():
        read = width * count * (2.0 if kind == "bfloat16" else 4.0)
        work = _on_units(kind, useful, EXPONENTIAL * rows * count)
        size = f"{rows} x {width} x {count}"
        yield Kernel("cross-entropy", size, f"float32 {precision}", work, useful, read, _within(precision, call))


def _arrays(*shapes: tuple[int, ...]) -> dict[str, list[Any]]:
    """Standard normal arrays, by their type."""
    import ml_dtypes

    rng = np.random.default_rng(0)
    wide = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
    types = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
    return {name: [array.astype(kind) for array in wide] for name, kind in types.items()}


def attention(batch: int, heads: int, length: int, width: int) -> Iterator[Kernel]:
    """Scaled dot attention of whole sequences, its two passes."""
    from fastattn import attention_backward, attention_forward

    pairs = float(batch * heads * length * length)
    for precision, (q, k, v, d) in _arrays(*[(batch, heads, length, width)] * 4).items():
        _, residuals = attention_forward(q, k, v)

        def forward(q: Any = q, k: Any = k, v: Any = v) -> object:
            return attention_forward(q, k, v)

        def backward(q: Any = q, k: Any = k, v: Any = v, d: Any = d, residuals: Any = residuals) -> object:
            return attention_backward(q, k, v, residuals, d)

        for name, count, call in (("attention forward", 4, forward), ("attention backward", 10, backward)):
            useful = count * pairs * width
            yield Kernel(
                name, f"{batch} x {heads} x {length} x {width}", precision,
                _on_units(precision, useful, EXPONENTIAL * pairs), useful, float(q.nbytes * count), call,
            )  # fmt: skip


def _on_units(precision: str, products: float, vectors: float) -> dict[str, float]:
    """Products of bfloat16 are the matrix unit's where there is one; all else is the vector unit's."""
    if precision == "bfloat16" and _on_tiles():
        return {"bfloat16": products, "float32": vectors}
    return {"float32": products + vectors}


def step(batch: int, heads: int, keys: int, width: int) -> Iterator[Kernel]:
    """One query for each head, of a memory that is read whole."""
    import fastattn

    shapes = [(batch, heads, 1, width), *[(batch, heads, keys, width)] * 2]
    of_types, size = _arrays(*shapes), f"{batch} x {heads} x {keys} x {width}"
    useful = 4.0 * batch * heads * keys * width
    for precision, (q, k, v) in of_types.items():
        call = partial(fastattn.prepare(k, v).attend, q)
        narrow = precision == "bfloat16" and _on_tiles()  # elsewhere a memory of a half type is kept in float32
        read = float(k.size * (4 if narrow else 8))
        yield Kernel("decoder step", size, precision, {"float32": useful}, useful, read, call)
    q, k, v = of_types["float32"]
    for storage in (of_types["bfloat16"][0].dtype, np.dtype(np.int8)):
        kept = fastattn.prepare(k, v, storage=storage)
        call = partial(kept.attend, q)
        yield Kernel("decoder step", size, f"kept in {storage}", {"float32": useful}, useful, float(kept.nbytes), call)


def additive(batch: int, length: int, width: int) -> Iterator[Kernel]:
    """Additive attention, its two passes: multiply-adds for each feature of a pair, then products.

    Divisions are left out: how few there may be is up to who shares one among several.
    """
    from fastattn import attention_backward, attention_forward, scores

    q, k, v, d = _arrays(*[(batch, length, width)] * 4)["float32"]
    score = scores.Additive(np.random.default_rng(1).standard_normal(width).astype(np.float32) / width**0.5)
    _, residuals = attention_forward(q, k, v, score=score)
    features = float(batch * length * length * width)
    passes = (
        ("additive forward", 4, 2, lambda: attention_forward(q, k, v, score=score)),
        ("additive backward", 8, 4, lambda: attention_backward(q, k, v, residuals, d, score=score)),
    )
    for name, count, of_values, call in passes:
        useful = (count + of_values) * features
        for precision in _precisions():
            label, run = "float32" if precision == "highest" else f"float32 {precision}", _within(precision, call)
            size = f"{batch} x {length} x {width}"
            yield Kernel(name, size, label, {"float32": useful}, useful, float(4 * q.nbytes), run)


KERNELS: tuple[Callable[[], Iterator[Kernel]], ...] = (
    lambda: attention(1, 8, 2048, 64),
    lambda: step(32, 8, 512, 64),
    lambda: additive(16, 100, 256),
    lambda: products(1024, 1024, (1, 64, 1024)),
    lambda: gradients(1024, 1024, 1024),
    lambda: recurrent(64, 30, 512),
    lambda: words(640, 512, 8000),
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


def rows_of(kernels: list[Kernel], rates: dict[str, float], level: str) -> Iterator[dict[str, object]]:
    """Yield a line of the table for each kernel; ``rates`` has its calls per second by its number."""
    for number, kernel in enumerate(kernels):
        took = 1 / rates[str(number)]
        line: dict[str, object] = {"kernel": kernel.name, "size": kernel.size, "precision": kernel.precision}
        line |= {"level": level, "seconds": took, "Gop/s": kernel.useful / took / 1e9}
        memory = level_of(kernel.read)
        if {*kernel.work, memory} <= rates.keys():
            least = {unit: amount / rates[unit] for unit, amount in kernel.work.items()}
            least[memory] = kernel.read / rates[memory]
            limit = max(least, key=lambda name: least[name])
            line |= {"share": least[limit] / took, "limit": limit}
        yield line


def measured(seconds: float) -> dict[str, Any]:
    """Limits and kernels of this process, at its level."""
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
                return 1.0

            return call

        rates = best_rates(calls | {str(number): timed(kernel) for number, kernel in enumerate(kernels)}, seconds)
    level = str(machine.fastattn_config()["level"])
    return {"limits": {name: rates[name] for name in names}, "kernels": list(rows_of(kernels, rates, level))}


def at_level(level: str, seconds: float) -> dict[str, Any]:
    """The same, of a process at another level."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "measured.json"
        command = [sys.executable, "-m", "benchmarks.roofline", "--seconds", str(seconds), "--one", str(out)]
        subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "FASTATTN_ISA": level})
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def table(lines: list[dict[str, Any]], markdown: bool) -> str:
    """A line for each kernel at each level."""
    cells = [["kernel", "size", "precision", "level", "ms", "Gop/s", "share", "limit"]]
    for x in lines:
        share = f"{x['share']:.2f}" if "share" in x else "-"
        times = [f"{1e3 * x['seconds']:.3g}", f"{x['Gop/s']:.0f}"]
        cells.append([x["kernel"], x["size"], x["precision"], x["level"], *times, share, x.get("limit", "-")])
    return render(cells, markdown)


def picture(lines: list[dict[str, Any]], title: str, path: str) -> None:
    """A line of dots for each kernel, a dot for each level, by matplotlib."""
    import matplotlib.pyplot as plt

    plt.rcParams["svg.fonttype"] = "none"  # letters stay letters
    plt.rcParams["svg.hashsalt"] = "roofline"
    shown = [x for x in lines if "share" in x]
    names = list(dict.fromkeys((x["kernel"], x["size"], x["precision"]) for x in shown))
    levels = list(dict.fromkeys(x["level"] for x in shown))
    figure, axes = plt.subplots(figsize=(9, 0.28 * len(names) + 1.6), facecolor="white", layout="constrained")
    for number, level in enumerate(levels):
        at = [(names.index((x["kernel"], x["size"], x["precision"])), x["share"]) for x in shown if x["level"] == level]
        colour = plt.get_cmap("cividis")(0.9 * number / max(1, len(levels) - 1))
        axes.scatter([share for _, share in at], [place for place, _ in at], s=36, color=colour, label=level, zorder=3)
    axes.set_yticks(range(len(names)), [f"{name} {size}, {precision}" for name, size, precision in names])
    axes.invert_yaxis()
    axes.grid(axis="x", color="0.85")
    axes.grid(axis="y", color="0.93")
    axes.set_xlim(0, 1.02 * max(1.0, *(x["share"] for x in shown)))  # a peak may be measured too low
    axes.set_xlabel("share of the time that the least work takes at the limits of this core")
    axes.set_title(title, loc="left", fontsize=10)
    figure.legend(loc="outside lower center", ncols=len(levels), frameon=False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None} if path.endswith(".svg") else None)


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.roofline", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.4, help="for each limit and kernel (0.4)")
    parser.add_argument("--levels", nargs="+", metavar="LEVEL", help="levels of instructions (default: all there are)")
    parser.add_argument("--json", metavar="FILE", help="everything that was measured")
    parser.add_argument("--markdown", action="store_true", help="print a table for a page")
    parser.add_argument("--picture", metavar="FILE", help="a picture of the shares, by matplotlib")
    parser.add_argument("--one", metavar="FILE", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        Path(given.one).write_text(json.dumps(measured(given.seconds)), encoding="utf-8")
        return 0
    config = machine.fastattn_config()
    parts = {
        level: at_level(level, given.seconds)
        for level in given.levels or [x for x in config["levels_cpu"] if x != "amx_model"]
    }
    best: dict[str, float] = {}
    for part in parts.values():
        for name, rate in part["limits"].items():
            best[name] = max(rate, best.get(name, 0.0))
    lines = [line for part in parts.values() for line in part["kernels"]]
    order = list(dict.fromkeys((x["kernel"], x["size"], x["precision"]) for x in lines))
    lines.sort(key=lambda x: order.index((x["kernel"], x["size"], x["precision"])))
    about = machine.describe()
    print(f"{about['processor']}, one thread, load {machine.load_average()}\n")
    rows = [[name, f"{rate / 1e9:.0f}", "GB/s" if name in SIZES else "Gop/s"] for name, rate in best.items()]
    print(render([["limit", "rate", ""], *rows], given.markdown), "\n")
    print(table(lines, given.markdown))
    if given.json:
        found = {"machine": about, "limits": best, "kernels": lines}
        Path(given.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if given.picture:
        picture(lines, about["processor"], given.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
