"""Seconds that `import fastattn` adds to `import numpy`, each time in a fresh process."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from ..cases import IMPORT_LIMIT
from . import checkout

# What an import must not pull in: all of them take longer to load than fastattn may.
UNWANTED = ("numba", "llvmlite", "torch", "jax", "keras", "tensorflow", "scipy", "pluggy", "matplotlib")

_CODE = f"""
import json, sys, time
import numpy
start = time.perf_counter()
import fastattn
seconds = time.perf_counter() - start
print(json.dumps({{"seconds": seconds, "unwanted": [name for name in {UNWANTED!r} if name in sys.modules]}}))
"""


def fresh_process() -> subprocess.CompletedProcess[str]:
    """Import NumPy, then fastattn, in a new interpreter whose folder is empty."""
    environment = dict(os.environ)
    if checkout.is_built():
        environment["PYTHONPATH"] = str(checkout.ROOT)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", _CODE]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)


def measure(rounds: int = 7) -> dict[str, Any]:
    """Median, raw samples, unwanted modules seen, and whether all is as it should be.

    The first process is not counted: it may have to compile bytecode and read files from disk.
    """
    samples: list[float] = []
    unwanted: list[str] = []
    for turn in range(rounds + 1):
        done = fresh_process()
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            return {"ok": False, "reason": lines[-1] if lines else "the import failed", "limit": IMPORT_LIMIT}
        answer = json.loads(done.stdout)
        unwanted = answer["unwanted"]
        if turn:
            samples.append(answer["seconds"])
    median = statistics.median(samples)
    reasons = [f"imports {', '.join(unwanted)}"] if unwanted else []
    if median >= IMPORT_LIMIT:
        reasons.append(f"takes {median:.3f} s, allowed {IMPORT_LIMIT} s")
    return {
        "ok": not reasons,
        "reason": "; ".join(reasons),
        "limit": IMPORT_LIMIT,
        "median": median,
        "samples": samples,
        "unwanted": unwanted,
    }
