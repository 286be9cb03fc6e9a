"""Caches of float32, bfloat16 and int8: ``python -m benchmarks.families.transformer.caches``.

A beam search of a random base Transformer with `cache=` of each, and one step of attention to a memory with `storage=`
of each: as it was prepared, and after its rows were selected and one more position came. All take turns in one process;
times are the best of all rounds. Log-probabilities of the searches are compared before.
"""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

import fastattn
from fastattn.seq2seq import EOS, TransformerConfig, beam_search, build

from ...timing import Effort, interleave

TYPES: Mapping[str, Any] = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "int8": np.int8}
SIZES = {"160 x 8 heads, 60 positions": (160, 8, 60, 64), "16 x 8 heads, 2048 positions": (16, 8, 2048, 64)}


def compare(title: str, runs: Mapping[str, Callable[[], Any]], rounds: int, notes: Mapping[str, str]) -> None:
    """Print the best time of each."""
    for name, samples in interleave(runs, Effort(rounds, 0.01)).items():
        print(f"{title:46} {name:10} {1e3 * min(samples):10.2f} ms {notes[name]}", flush=True)


def search(positions: int, rounds: int) -> None:
    """32 sources of as many tokens as their translations get, beam 5."""
    model, rng = build(TransformerConfig(), 8000, 8000, seed=0), np.random.default_rng(0)
    with model.projection.b.edit() as value:  # nothing ends before
        value[EOS] = -1e4
    source, lengths = rng.integers(4, 8000, (32, positions)), np.full(32, positions)
    source[:, -1] = EOS

    def run(cache: Any) -> Callable[[], Any]:
        return lambda: beam_search(model, source, lengths, size=5, limit=positions, cache=cache)

    runs = {name: run(name) for name in TYPES}
    scores = {name: np.array([one.log_probability for [one] in found()]) for name, found in runs.items()}
    notes = {name: f"log-probability {np.mean(found):.4f}" for name, found in scores.items()}
    for found in scores.values():
        np.testing.assert_allclose(found, scores["float32"], rtol=0.01)
    compare(f"base Transformer, 32 x {positions}, beam 5", runs, rounds, notes)


def steps(rounds: int) -> None:
    """One query of each head."""
    rng = np.random.default_rng(0)
    for title, sizes in SIZES.items():
        x = rng.standard_normal(sizes, np.float32)
        query, rows = x[:, :, :1].copy(), rng.permutation(len(x))
        memories = {name: fastattn.prepare(x, x, storage=kind) for name, kind in TYPES.items()}
        parted = {name: one.select(rows).extended(query, query) for name, one in memories.items()}
        for what, kept in (("", memories), (", reordered", parted)):
            runs = {name: partial(one.attend, query) for name, one in kept.items()}
            compare(title + what, runs, rounds, {name: f"{one.nbytes / 1e6:.1f} MB" for name, one in kept.items()})


def main() -> None:
    """Time both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--positions", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    fastattn.set_num_threads(options.threads)
    search(options.positions, options.rounds)
    steps(10 * options.rounds)


if __name__ == "__main__":
    main()
