"""What compiling a function takes: the first call of a new one, a process that finds it in the folder, and the import.

python -m benchmarks.functions.compiling [--rounds 5]

Each round has new folders and new processes. `new` is the first call, forward and with gradients, float32, less a
second one, where Numba was imported before; `first in a process` imports it, as the first function of a program does;
`from the folder` is the same in a process that finds its functions there, without Numba. Seconds, medians of rounds.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastattn

from ..families.functions.ours import additive, alibi, softcap, window
from .rows import with_sink

FUNCTIONS = ("alibi", "softcap", "window", "additive", "with_sink")


def calls() -> dict[str, Callable[[], Any]]:
    """Attention with each function and its gradients, small: what is compiled takes the time."""
    rng = np.random.default_rng(0)
    q, k, v, d = (rng.standard_normal((1, 2, 16, 8)).astype(np.float32) for _ in range(4))
    ones = np.ones(8, np.float32)
    options: dict[str, dict[str, Any]] = {
        "alibi": {"score_mod": alibi(slopes=ones[:2])},
        "softcap": {"score_mod": softcap(cap=20.0)},
        "window": {"mask": window(width=3)},
        "additive": {"score": additive(v=ones)},
        "with_sink": {"normalizer": with_sink(sink=ones[:2])},
    }

    def call(given: dict[str, Any]) -> Callable[[], Any]:
        return lambda: fastattn.attention_vjp(q, k, v, **given)[1](d)

    return {name: call(given) for name, given in options.items()}


def seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def measure(name: str, ready: bool) -> None:
    """Print what the first call takes here, and whether Numba was loaded by then."""
    if ready:
        importlib.import_module("numba")
    call = calls()[name]
    first = seconds(call)
    print(json.dumps([first - seconds(call), "numba" in sys.modules]))


def process(name: str, folder: str, ready: bool) -> tuple[float, bool]:
    """The same in a process of its own, whose compiled functions are in `folder`."""
    command = [sys.executable, "-m", __spec__.name, "--measure", name, *(["--ready"] if ready else [])]
    done = subprocess.run(
        command, env={**os.environ, "FASTATTN_CACHE_DIR": folder}, stdout=subprocess.PIPE, check=True, text=True
    )
    found, loaded = json.loads(done.stdout)
    return found, loaded


def importing(module: str) -> float:
    """How long a module takes to import where NumPy is."""
    code = f"import numpy, time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", choices=FUNCTIONS, help=argparse.SUPPRESS)
    parser.add_argument("--ready", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure, given.ready)
        return
    modules = {name: statistics.median(importing(name) for _ in range(given.rounds)) for name in ("fastattn", "numba")}
    print(", ".join(f"import {name} {seconds:.3f}" for name, seconds in modules.items()))
    print(f"{'function':12} {'new':>6} {'first in a process':>18} {'from the folder':>15}")
    for name in FUNCTIONS:
        new, first, again = [], [], []
        for _ in range(given.rounds):
            with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
                new.append(process(name, one, True)[0])
                first.append(process(name, other, False)[0])
                found, loaded = process(name, other, False)
                if loaded:
                    raise SystemExit(f"{name} was compiled again, or loaded Numba")
                again.append(found)
        middle = [statistics.median(times) for times in (new, first, again)]
        print(f"{name:12} {middle[0]:6.2f} {middle[1]:18.2f} {middle[2]:15.3f}")


if __name__ == "__main__":
    main()
