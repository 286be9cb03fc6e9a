"""Random wrong calls, and right ones, of everything public that takes or returns arrays: none crashes, none writes what
it should only read, each works or is refused by an error of the package.

    python tests/fuzz/arguments.py --calls 100000 --seed 0
    python tests/fuzz/arguments.py --seed 0 --only 1234      one case again, with its traceback

Most is found under the sanitizers: build with FASTATTN_SANITIZE=1, and run with libasan.so and libubsan.so preloaded,
as .ci/run does. The cases run in a process of their own, which is started again behind a case that ends it.
"""

import argparse
import collections
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))

import entries
import entries_of_files  # noqa: F401, registers what it has
from spoil import Draw, Refused, WrongAnswerError

SECONDS = 60  # of a case, under the sanitizers too

NAMES = [name for name, (_, share) in entries.ENTRIES.items() for _ in range(share)]


def too_long(signum, frame):
    raise TimeoutError(f"more than {SECONDS} s")


def case(seed, number):
    """Run one case; return its entry, how many calls it made, and what is wrong, if anything."""
    rng = np.random.default_rng([seed, number])
    name = NAMES[rng.integers(len(NAMES))]
    z = Draw(rng)
    try:
        signal.alarm(SECONDS)
        entries.ENTRIES[name][0](z)
    except Refused:
        return name, z.calls, None
    except WrongAnswerError as error:
        return name, z.calls, str(error)
    except Exception as error:
        return name, z.calls, f"{type(error).__name__}: {error} [{', '.join(z.spoilt)}]".replace("\n", " ")
    finally:
        signal.alarm(0)
    return name, z.calls, None


def search(calls, seed, first=0, report=print, mark=None):
    """Run cases until they have made so many calls; return what was found, one line each, and calls by entry."""
    found, counts, number = [], collections.Counter(), first
    before = signal.signal(signal.SIGALRM, too_long)
    while counts.total() < calls:
        if mark is not None:
            os.pwrite(mark, f"{number} {counts.total()}\n".ljust(40).encode(), 0)
        name, made, wrong = case(seed, number)
        counts[name] += max(made, 1)
        if wrong is not None:
            found.append(f"--seed {seed} --only {number}: {name}: {wrong}")
            report(found[-1], flush=True)
        number += 1
    signal.signal(signal.SIGALRM, before)
    return found, counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--worker", nargs=2, metavar=("FIRST", "MARK"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only is not None:
        z = Draw(np.random.default_rng([given.seed, given.only]))
        name = NAMES[z.rng.integers(len(NAMES))]
        try:
            entries.ENTRIES[name][0](z)
        except Refused as error:
            print(f"{name}({', '.join(z.spoilt)}): refused: {error}")
        except Exception:
            print(f"{name}({', '.join(z.spoilt)})")
            traceback.print_exc()
        return 0
    if given.worker:
        mark = os.open(given.worker[1], os.O_WRONLY)
        found, counts = search(given.calls, given.seed, int(given.worker[0]), mark=mark)
        print(", ".join(f"{name} {count}" for name, count in counts.most_common()))
        return 3 if found else 0
    first, left, failures = 0, given.calls, 0
    with tempfile.NamedTemporaryFile() as mark:
        while left > 0:
            command = [sys.executable, __file__, "--calls", str(left), "--seed", str(given.seed)]
            ended = subprocess.run([*command, "--worker", str(first), mark.name], check=False).returncode
            number, made = map(int, Path(mark.name).read_text().split())
            if ended in (0, 3):
                failures += ended == 3
                break
            failures += 1
            print(f"--seed {given.seed} --only {number}: the process ended with {ended}", flush=True)
            first, left = number + 1, left - made
    print(f"{given.calls} calls, {'something is wrong' if failures else 'nothing found'}")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
