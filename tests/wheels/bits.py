"""Prints levels and hashes of results: what a wheel computes and a build of this machine's compiler must be the same.

python tests/wheels/bits.py
"""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np

import fastattn


def results(dtype):
    """Arrays of attention and its gradients, of a recurrent layer, of products and functions."""
    rng = np.random.default_rng(3)

    def draw(*shape):
        return rng.normal(size=shape).astype(dtype)

    for heads, queries, keys, width in ((2, 5, 7, 9), (1, 40, 300, 64)):
        query, key, value = (draw(2, heads, size, width) for size in (queries, keys, keys))
        for score in (
            "scaled_dot",
            fastattn.scores.General(draw(width, width) / 4),
            fastattn.scores.Additive(draw(width)),
        ):
            for normalizer in ("softmax", "sparsemax", "entmax15"):
                context, backward = fastattn.attention_vjp(
                    query, key, value, score=score, normalizer=normalizer, key_lengths=np.array([keys, 3])
                )
                found = backward(np.ones_like(context) + query[..., :1])
                yield from (context, found.query, found.key, found.value, *found.score.values())
    for kind in (fastattn.layers.GRU, fastattn.layers.LSTM):
        states, _, backward = kind(6, 11, rng=rng, dtype=dtype).vjp(draw(3, 9, 6), lengths=np.array([9, 4, 7]))
        yield from (states, backward(states)[0])
    x = draw(37, 50)
    yield from (fastattn.linear.PackedWeights(draw(50, 70)).matmul(x), fastattn.functional.exp(x))
    yield from (fastattn.functional.tanh(5 * x), fastattn.functional.entmax(x, 1.3))


def digest():
    made = hashlib.sha256()
    for dtype in (np.float32, np.float64):
        for array in results(dtype):
            made.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return made.hexdigest()


if __name__ == "__main__":
    if "FASTATTN_ISA" in os.environ:
        print(digest())
    else:
        levels = fastattn.show_config(as_dict=True)["levels_cpu"]
        command = [sys.executable, "-P", __file__]  # not the checkout's fastattn, but the one that is installed
        found = {
            level: subprocess.check_output(command, env={**os.environ, "FASTATTN_ISA": level}, text=True).strip()
            for level in levels
        }
        print(json.dumps(found))
