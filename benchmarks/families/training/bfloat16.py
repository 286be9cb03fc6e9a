"""Training steps in each precision beside PyTorch's: ``python -m benchmarks.families.training.bfloat16``.

Ours under `float32_precision("medium")` and "batched", as with ``[training] precision = "bfloat16"`` and "float32", and
in "highest", as at levels without a matrix unit; PyTorch's in float32 and under its autocast to bfloat16. All begin
with the same weights; a column has the error of all gradients, the root of the mean square over that of ours in
"highest". All take turns in one process; ratios are those of the best times of all rounds, over ours in bfloat16, and
over ours in float32 ("batched"). Where PyTorch is not installed the times are ours alone.
"""

import argparse
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import fastattn

from ... import inputs
from ...case import Arrays, Case
from ...cases import select
from ...timing import Effort, interleave
from .. import part

try:
    import torch
except ModuleNotFoundError:
    torch = None

# The module of each family's peer, and the ratios that are asked: of PyTorch's autocast, and of its float32.
PEERS = {"transformer": "marian", "bahdanau": "torch"}
ASKED = {"transformer_train": 2.0, "train_large": 1.6, "train_words": 1.4, "train_letters": 1.3}
ASKED_FLOAT32 = {"transformer_train": 1.6, "train_large": 1.5}
OURS, BATCHED, EXACT = "ours bfloat16", "ours float32", "ours without unit"
FLOAT32, AUTOCAST = "PyTorch float32", "PyTorch autocast"


class Within:
    """A contestant whose steps run in a block."""

    def __init__(self, training: Any, block: Callable[[], Any]) -> None:
        self.training, self.block = training, block

    def __call__(self) -> Any:
        with self.block():
            return self.training()

    def examine(self) -> Arrays:
        with self.block():
            found: Arrays = self.training.examine()
        return found


def contestants(case: Case, data: Arrays) -> dict[str, Any]:
    """By name."""
    found: dict[str, Any] = {}
    for name, precision in ((OURS, "medium"), (BATCHED, "batched"), (EXACT, "highest")):
        [training] = part(case.family, "ours").prepare(case, data).values()
        found[name] = Within(training, lambda precision=precision: fastattn.float32_precision(precision))
    if torch is None:
        return found
    peer = part(case.family, PEERS[case.family])
    for name in (FLOAT32, AUTOCAST):
        found[name] = training = next(iter(peer.prepare(case, data).values()))
        if name == AUTOCAST:
            training._loss = torch.autocast("cpu", torch.bfloat16)(training._loss)
    return found


def error(found: Arrays, exact: Arrays) -> float:
    """The relative error of all gradients."""
    names = [name for name in exact if name.startswith("d_")]
    off = sum(float(np.square(found[name].astype(np.float64) - exact[name]).sum()) for name in names)
    return float(np.sqrt(off / sum(float(np.square(exact[name].astype(np.float64)).sum()) for name in names)))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(ASKED))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: shows that everything works")
    given = parser.parse_args()
    cases = [case for case in select(given.cases) if case.name in ASKED]
    if not cases:
        parser.error(f"no training step is called {' or '.join(given.cases)}; there are {', '.join(ASKED)}")
    warnings.simplefilter("ignore")  # frameworks warn about each other
    fastattn.set_num_threads(given.threads)
    if torch is not None:
        torch.set_num_threads(given.threads)
    print(f"level {fastattn.show_config(as_dict=True)['level']}, {given.threads} threads")
    print(f"{'':20} {'':18} {'ms':>9} {'ratios':>13} {'asked':>6} {'error':>9}")
    for case in cases:
        if given.smoke:
            case = case.small()
        runs = contestants(case, inputs.make(case))
        exact = runs[EXACT].examine()
        times = {name: min(found) for name, found in interleave(runs, Effort(given.rounds)).items()}
        for name, run in runs.items():
            asked = {AUTOCAST: ASKED, FLOAT32: ASKED_FLOAT32}.get(name, {}).get(case.name, "")
            wrong, ratios = error(run.examine(), exact), [times[name] / times[own] for own in (OURS, BATCHED)]
            row = f"{case.name:20} {name:18} {1e3 * times[name]:9.1f} {ratios[0]:6.2f} {ratios[1]:6.2f} {asked:6}"
            print(f"{row} {wrong:9.2g}", flush=True)


if __name__ == "__main__":
    main()
