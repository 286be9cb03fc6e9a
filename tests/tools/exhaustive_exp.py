"""exp of every float32, all 2^32 of them, against float64: `python tests/tools/exhaustive_exp.py [--step N]`.

Needs fastattn installed, or PYTHONPATH set to the checkout; takes about two minutes on one core. Fails when a result
is off by more than 1 unit in the last place, or 1.26 at the generic level, whose multiply-add rounds twice: callers are
promised 2. Runs at the level that FASTATTN_ISA forces; --step N tries every N-th.
"""

import argparse
import sys

import numpy as np

import fastattn
from fastattn import functional

CHUNK = 1 << 22
GATES = {"generic": 1.26}
GATE = 1.0


def chunk_error(bits):
    """(largest error in units in the last place, its argument) over the numbers with these bits."""
    x = bits.view(np.float32)
    found = functional.exp(x)
    with np.errstate(all="ignore"):
        exact = np.exp(x.astype(np.float64))
        rounded = exact.astype(np.float32)
    special = ~np.isfinite(rounded)
    if not np.array_equal(found[special], rounded[special], equal_nan=True):
        wrong = x[special][~((found == rounded) | np.isnan(found) & np.isnan(rounded))[special]]
        return np.inf, wrong[0]
    error = np.zeros(x.shape)
    ordinary = ~special
    result = found[ordinary].astype(np.float64)
    result[np.isinf(result)] = 2.0**128
    error[ordinary] = np.abs(result - exact[ordinary]) / np.spacing(rounded[ordinary])
    at = int(np.argmax(error))
    return float(error[at]), x[at]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", type=int, default=1)
    step = parser.parse_args().step
    worst, where = -1.0, None
    for start in range(0, 1 << 32, CHUNK * step):
        stop = min(start + CHUNK * step, 1 << 32)
        error, x = chunk_error(np.arange(start, stop, step, dtype=np.uint64).astype(np.uint32))
        if error > worst:
            worst, where = error, x
    level = fastattn.show_config(as_dict=True)["level"]
    print(f"exp, level {level}: at most {worst:.4f} ulp, at {where!r}")
    return 0 if worst <= GATES.get(level, GATE) else 1


if __name__ == "__main__":
    sys.exit(main())
