"""The kernels in Numba against the compiled ones and NumPy's plain formula, forward and backward.

python benchmarks/backends.py [--threads 1]

Each backend runs in a process of its own; the three take turns, and the table has ratios of the fastest turns: of
processor time with one thread, else of time. NumPy / C says how far from NumPy's formula, whose products are a BLAS's,
kernels are that waste nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np

CASES = [
    (score, batch, queries, keys, width)
    for score in ("dot", "additive")
    for batch, queries, keys, width in ((16, 32, 100, 128), (8, 64, 256, 128), (8, 64, 512, 64))
]


def inputs(score, batch, queries, keys, width):
    rng = np.random.default_rng(0)
    shapes = ((batch, queries, width), (batch, keys, width), (batch, keys, width), (width,), (batch, queries, width))
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def plain(score, q, k, v, w, d_context, backward):
    """Attention and, if wanted, its gradients, as one writes them with NumPy."""
    if score == "dot":
        scores = q @ k.swapaxes(1, 2)
    else:
        activation = np.tanh(q[:, :, None] + k[:, None])
        scores = activation @ w
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    context = weights @ v
    if not backward:
        return (context,)
    d_weights = d_context @ v.swapaxes(1, 2)
    d_scores = weights * (d_weights - (d_weights * weights).sum(axis=-1, keepdims=True))
    d_value = weights.swapaxes(1, 2) @ d_context
    if score == "dot":
        return context, d_scores @ k, d_scores.swapaxes(1, 2) @ q, d_value
    d_sums = d_scores[..., None] * w * (1 - activation * activation)
    return context, d_sums.sum(axis=2), d_sums.sum(axis=1), d_value


def ours(score, q, k, v, w, d_context, backward):
    import fastattn

    of = fastattn.scores.Additive(w) if score == "additive" else "dot"
    if not backward:
        return (fastattn.attention(q, k, v, score=of),)
    context, back = fastattn.attention_vjp(q, k, v, score=of)
    gradients = back(d_context)
    return context, gradients.query, gradients.key, gradients.value


def work():
    """Answer each case on the standard input with the seconds of one call; of a first one, with its results' sums."""
    function = plain if sys.argv[2] == "numpy" else ours
    clock = time.process_time if sys.argv[3] == "1" else time.perf_counter  # what else runs takes a thread's turns
    for line in sys.stdin:
        number, backward, first = json.loads(line)
        given = inputs(*CASES[number])
        begin = clock()
        found = function(CASES[number][0], *given, backward)
        seconds = clock() - begin
        answer = [np.abs(array[0]).astype(float).sum() for array in found] if first else seconds
        print(json.dumps(answer), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", default="1")
    parser.add_argument("--turns", type=int, default=20)
    given = parser.parse_args()
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "FASTATTN_NUM_THREADS")
    workers = {}
    for name in ("c", "numba", "numpy"):
        variables = {**os.environ, **dict.fromkeys(threads, given.threads)}
        if name != "numpy":
            variables["FASTATTN_BACKEND"] = name
        workers[name] = subprocess.Popen(
            [sys.executable, __file__, "--worker", name, given.threads], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env=variables,
        )  # fmt: skip

    def ask(name, *question):
        workers[name].stdin.write(json.dumps(question) + "\n")
        workers[name].stdin.flush()
        return json.loads(workers[name].stdout.readline())

    print(f"{'case':<56}{'numba ms':>10}{'NumPy / numba':>16}{'NumPy / C':>12}{'numba / C':>12}")
    for number, (score, batch, queries, keys, width) in enumerate(CASES):
        for backward in (False, True):
            sums = {name: ask(name, number, backward, True) for name in workers}
            for name in ("c", "numba"):
                assert np.allclose(sums[name], sums["numpy"], rtol=1e-4), (name, number, sums)
            times = {name: [] for name in workers}
            for _ in range(given.turns):
                for name, found in times.items():
                    found.append(ask(name, number, backward, False))
            best = {name: min(found) for name, found in times.items()}
            label = f"{score} {batch}x{queries} queries, {keys} keys, {width}" + (" with gradients" if backward else "")
            print(
                f"{label:<56}{1e3 * best['numba']:>10.2f}{best['numpy'] / best['numba']:>16.2f}"
                f"{best['numpy'] / best['c']:>12.2f}{best['numba'] / best['c']:>12.2f}",
                flush=True,
            )
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()


if __name__ == "__main__":
    work() if sys.argv[1:2] == ["--worker"] else main()
