"""The largest error of each output over the whole case table, by level, as Markdown.

Needs fastattn installed, or PYTHONPATH set to the checkout; takes about 20 seconds for each level. C is the error in
the units of bounds.py, largest over the cases of one kind; functions are in units in the last place (ulp) of float32.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import fastattn

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))

import checks
from bounds import worst
from cases import CASES
from elementwise_errors import FUNCTIONS, distance, every_exponent

KINDS = {"additive": "additive", "concat": "additive"}  # every other score is made of products
OUTPUTS = ("context", "weights", "lse", "d_query", "d_key", "d_value", "d_bias", "parameters")


def measure():
    """{"kind dtype output": C} at the level in use, and {"function": ulp}."""
    found, now = {}, []

    def record(name, result, twin, unit, dtype, gate):
        output = name if name in OUTPUTS else "parameters"
        key = " ".join((*now, output))
        found[key] = max(found.get(key, 0.0), worst(result, twin, unit, dtype))

    checks.require = record
    for case in CASES:
        now[:] = KINDS.get(case.score, "products"), case.dtype
        checks.check_forward(case)
        checks.check_gradients(case, ("d_context", "d_weights", "d_lse"))
    x = every_exponent()
    with np.errstate(all="ignore"):
        for name in FUNCTIONS:  # below -87 a sigmoid is not a normal number, and flushed
            found[name] = distance(name, x if name != "sigmoid" else x[x >= -87], np.float32)
    return found


def table(header, rows):
    """Lines of a Markdown table of numbers."""
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return lines + ["| " + " | ".join((name, *(f"{x:.2f}" for x in numbers))) + " |" for name, numbers in rows]


def main():
    if sys.argv[1:] == ["--measure"]:
        print(json.dumps(measure()))
        return
    levels = fastattn.show_config(as_dict=True)["levels_cpu"]
    results = {}
    for level in levels:
        command = [sys.executable, __file__, "--measure"]
        done = subprocess.run(command, env={**os.environ, "FASTATTN_ISA": level}, stdout=subprocess.PIPE, check=True)
        results[level] = json.loads(done.stdout)
    for dtype in ("float32", "float64"):
        rows = []
        for kind in ("products", "additive"):
            for output in OUTPUTS:
                key = f"{kind} {dtype} {output}"
                rows.append((f"{kind}: {output}", [results[level].get(key, 0.0) for level in levels]))
        print("\n".join(table([f"C, {dtype}", *levels], rows)), end="\n\n")
    rows = [(name, [results[level][name] for level in levels]) for name in FUNCTIONS]
    print("\n".join(table(["ulp, float32", *levels], rows)))


if __name__ == "__main__":
    main()
