"""What processes spend besides gradients: to receive those of another one, and to update the parameters.

Started by torchrun or mpirun: python -m benchmarks.scale.exchange RUN TRANSPORT
"""

import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

ROUNDS = 15


def median(act: Callable[[], object]) -> float:
    """Return the median of the seconds that something takes."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def main(run: str, transport: str) -> None:
    """Print one JSON object, in the first process."""
    from fastattn.optim import Adam, clip_scale, global_norm
    from fastattn.scale import joined
    from fastattn.seq2seq import load

    parameters = load(run).model.parameters()
    optimizer = Adam(parameters, rate=0.001)
    size = sum(parameter.value.nbytes for parameter in parameters.values())
    message = np.zeros(size, np.uint8)

    with joined(transport, threads=1) as processes:  # type: ignore[arg-type]
        gather = median(lambda: processes.all_gather(message))
        update = median(lambda: optimizer.step(clip_scale(global_norm(parameters), 1.0)))
        if processes.rank == 0:
            facts = {"bytes": size, "bytes_per_second": round((processes.size - 1) * size / gather)}
            print(json.dumps({**facts, "gather_seconds": round(gather / (processes.size - 1), 5),
                              "update_seconds": round(update, 5)}))  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
