"""Long runs beyond one process, on Multi30K: the same bits after faults, and what engines and processes cost.

python -m benchmarks.scale epoch --data DATA/multi30k/tok [--processes 1 2 4] [--transport gloo]
python -m benchmarks.scale ranks --data DATA/multi30k/tok [--kills 20]
python -m benchmarks.scale lines --data DATA/multi30k/tok [--lines 200000] [--kills 20]
python -m benchmarks.scale speed --data DATA/multi30k/tok [--rounds 3]
python -m benchmarks.scale overhead --data DATA/multi30k/tok [--rounds 3] [--model RUN]

`epoch` trains an epoch with each number of processes, dropout on, and once with another number after each third, and
compares the SHA-256 of the last checkpoints. `ranks` kills processes at random steps, starts all again, and compares.
`lines` translates by two actors of Ray, which it kills, and by one process, and compares the files. `speed` takes the
tokens per second of one process of two threads, and of 1, 2 and 4 of one thread, in turns, and what the model of
docs/scale.md expects. `overhead` takes the time of two actors of Ray and of two processes without it, in turns; these
two need a machine with nothing else to do. `--quick` takes less of everything. Each prints one JSON object.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.scale.lines import lines, overhead
from benchmarks.scale.training import epoch, ranks, speed

RUNS = {"epoch": epoch, "ranks": ranks, "lines": lines, "speed": speed, "overhead": overhead}


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.split("\n")[0])
    parser.add_argument("run", choices=RUNS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tokenised files of Multi30K")
    parser.add_argument("--transport", choices=("gloo", "mpi"), default="gloo")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--model", type=Path, help="where the model that translates is trained, or is from before")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.data = options.data.resolve()
    with tempfile.TemporaryDirectory() as folder:
        found = RUNS[options.run](options, Path(folder))
    print(json.dumps({"run": options.run, **found}, indent=1))
    return 0 if found.get("same", True) else 1


if __name__ == "__main__":
    sys.exit(main())
