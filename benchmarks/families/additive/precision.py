"""Additive attention in "medium" beside "highest": ``python -m benchmarks.families.additive.precision``.

Both take turns in one process, and a ratio is that of the best times of all rounds: of "highest" over "medium". Where
there is no matrix unit the two are the same.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

import fastattn
from fastattn.precision import Precision

from ...timing import FULL, QUICK, interleave

SIZES = ((16, 100, 256), (80, 30, 512))
LIMIT = 2.0**-12  # of the context's error, for which scores may err by 2^-13 sum |v|, and values are near 1


def call(arrays: tuple[Any, ...], precision: Precision, backward: bool) -> Callable[[], Any]:
    """Forward alone, or both ways."""
    query, key, value, d_context, vector = arrays
    score = fastattn.scores.Additive(vector)

    def run() -> Any:
        with fastattn.float32_precision(precision):
            if not backward:
                return fastattn.attention(query, key, value, score=score)
            context, back = fastattn.attention_vjp(query, key, value, score=score)
            return context, back(d_context)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    fastattn.set_num_threads(given.threads)
    for batch, count, width in SIZES[-1:] if given.quick else SIZES:
        rng = np.random.default_rng(0)
        arrays = tuple(rng.standard_normal((batch, count, width), np.float32) for _ in range(4))
        vector = rng.standard_normal(width, np.float32) / width**0.5
        for backward in (False, True):
            runs = {name: call((*arrays, vector), name, backward) for name in ("highest", "medium")}
            contexts = [run()[0] if backward else run() for run in runs.values()]
            far = float(np.abs(contexts[0] - contexts[1]).max())
            if far > LIMIT * float(np.abs(vector).sum()) * float(np.abs(arrays[2]).max()):
                raise SystemExit(f"the contexts are {far:.1e} apart")
            times = {name: min(found) for name, found in interleave(runs, QUICK if given.quick else FULL).items()}
            what = "with gradients" if backward else "forward"
            print(f"{batch} x {count} x {count} x {width}, {what}: highest {1e3 * times['highest']:.2f} ms, "
                  f"medium {1e3 * times['medium']:.2f} ms, ratio {times['highest'] / times['medium']:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
