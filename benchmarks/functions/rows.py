"""Functions of rows as normalizers against softmax: the time of each is a part of that of our own softmax.

python -m benchmarks.functions.rows [--threads 1] [--quick]

A softmax that a user writes comes first, whose context is compared with ours before anything is timed.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

import fastattn

from ..timing import FULL, QUICK, interleave

SIZES = ((4, 8, 512, 512, 64), (32, 1, 1, 512, 64), (1, 8, 2048, 2048, 64))


@fastattn.row_function
def softmax(s: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
    e = np.exp(s - s.max())
    return e / e.sum()


@fastattn.row_function
def with_sink(s: Any, b: Any, h: Any, i: Any, j: Any, sink: Any) -> Any:
    top = np.maximum(s.max(), sink[h])
    e = np.exp(s - top)
    return e / (e.sum() + np.exp(sink[h] - top))


@fastattn.row_function
def sigmoid(s: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
    return 1 / (1 + np.exp(-s))


@fastattn.row_function
def squared_relu(s: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
    x = np.maximum(s, 0) ** 2
    return x / (x.sum() + 1e-6)


def report(sizes: tuple[int, ...], quick: bool) -> None:
    batch, heads, queries, keys, width = sizes
    rng = np.random.default_rng(0)
    q, k, v, d = (
        rng.standard_normal((batch, heads, n, width)).astype(np.float32) for n in (queries, keys, keys, queries)
    )
    functions = {
        "softmax": softmax(), "with a sink": with_sink(sink=np.zeros(heads, np.float32)), "sigmoid": sigmoid(),
        "squared relu": squared_relu(),
    }  # fmt: skip
    if np.abs(fastattn.attention(q, k, v, normalizer=softmax()) - fastattn.attention(q, k, v)).max() > 1e-5:
        raise SystemExit("the softmax of a user is wrong")

    def call(normalizer: Any, backward: bool) -> Callable[[], Any]:
        if backward:
            return lambda: fastattn.attention_vjp(q, k, v, normalizer=normalizer)[1](d)
        return lambda: fastattn.attention(q, k, v, normalizer=normalizer)

    for backward in (False, True):
        runs = {name: call(one, backward) for name, one in {"ours": "softmax", **functions}.items()}
        times = {name: min(found) for name, found in interleave(runs, QUICK if quick else FULL).items()}
        ours = times.pop("ours")
        words = ", ".join(f"{name} {one / ours:.2f}" for name, one in times.items())
        print(f"{'x'.join(map(str, sizes)):17} {'both' if backward else 'forward':8} {1e3 * ours:8.2f} ms: {words}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    fastattn.set_num_threads(given.threads)
    print(f"{'size':17} {'':8} {'softmax':>8}     times of it that a function takes; {given.threads} threads")
    for sizes in SIZES:
        report(sizes, given.quick)


if __name__ == "__main__":
    main()
