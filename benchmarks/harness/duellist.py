"""One side of a duel: times the fastattn of a checkout when it is told to. Started by versus.py, by its path.

Cases, inputs and spelling come from the `benchmarks` folder of that checkout, so that a state whose interface differs
is measured through its own names. A line of standard input is a request, a line of standard output its answer, both
JSON: ``{"case": name}`` makes the case ready and gives the seconds of a call, ``{"calls": n}`` times n calls of it.

Where arrays lie on the heap follows from all that was allocated before, down to the length of the checkout's path, and
is the same in every process: one library took 9 or 14 ms for a call by nothing else (Bahdanau's forward pass, two
threads). So what is made ready for a case lies behind blocks of random sizes.
"""

import json
import os
import random
import sys
from pathlib import Path


def main(root: str, cpus: str, count: str, smoke: str) -> None:
    sys.path[:] = [root, *(entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).parent)]
    from benchmarks import threads

    threads.pin([int(cpu) for cpu in cpus.split(",") if cpu])
    os.environ.update(threads.environment(int(count)))

    from benchmarks import inputs, ours
    from benchmarks.cases import select
    from benchmarks.timing import timed

    library = ours.load(int(count))
    run = None
    for line in sys.stdin:
        request = json.loads(line)
        if "case" in request:
            (case,) = select([request["case"]])
            case = case.small() if smoke == "smoke" else case
            ahead = [bytearray(random.randrange(1 << 12, 1 << 16)) for _ in range(16)]  # noqa: F841 (kept alive)
            run = next(iter(library.prepare(case, inputs.make(case)).values()))
            answer = min(timed(run, 1) for _ in range(3))
        else:
            assert run is not None, "a case comes before its calls"
            run()
            answer = timed(run, request["calls"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
