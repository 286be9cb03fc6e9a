"""Training with several processes: the same bits, whoever is killed; how fast, and whether the model of cost knows."""

import itertools
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from benchmarks.scale.runs import QUICK, SMALL, below, digest, launcher, log, start, tokens_per_second, train, write

KILLS_OF_A_RUN = 4


def epoch(options: Namespace, folder: Path) -> dict[str, Any]:
    """Train with each number of processes, and with all of them in turn."""
    config, found, again, seconds = write(folder, options), {}, 0, {}
    for count in options.processes:
        began = time.monotonic()
        again += train(config, folder / str(count), options.transport, count)
        found[str(count)], seconds[str(count)] = digest(folder / str(count)), round(time.monotonic() - began)
    steps, turns = log(folder / "1")[-1]["step"], 3
    for turn in range(1, turns + 1):
        count = options.processes[turn % len(options.processes)]
        write(folder, options, **({"steps": steps * turn // turns} if turn < turns else {}))
        again += train(config, folder / "changing", options.transport, count)
    found["changing"] = digest(folder / "changing")
    same = len(set(found.values())) == 1
    return {"steps": steps, "checkpoints": found, "same": same, "started again": again, "seconds": seconds}


def reached(process: "subprocess.Popen[bytes]", run: Path, step: int) -> bool:
    """Wait until a run that was just started has come to a step; return False if it has ended."""
    began = time.time()
    while process.poll() is None:
        place = run / "log.jsonl"
        # It begins with the lines of the checkpoint from which the run goes on, and was written anew then.
        if place.exists() and place.stat().st_mtime > began and any(line["step"] >= step for line in log(run)):
            return True
        time.sleep(0.01)
    return False


def ranks(options: Namespace, folder: Path) -> dict[str, Any]:
    """Kill a process at random steps until there were enough, and compare with a run that was left alone."""
    settings = QUICK if options.quick else SMALL
    config, rng = write(folder, options, **settings), random.Random(options.seed)
    train(config, folder / "alone", options.transport, 2)
    expected, kills, runs, slowest = digest(folder / "alone"), list[int](), 0, 0.0
    while len(kills) < options.kills:
        run = folder / f"run{runs}"
        many = min(KILLS_OF_A_RUN, options.kills - len(kills))
        for step in sorted(rng.sample(range(1, settings["steps"]), many)):
            process = start(config, run, options.transport, rng.choice([2, 4]))
            if reached(process, run, step):
                time.sleep(rng.uniform(0, 0.1))
                training = [child for child, words in below(process.pid) if trains(words)]
                if training and process.poll() is None:
                    os.kill(rng.choice(training), signal.SIGKILL)
                    kills.append(step)
                    killed = time.monotonic()
                    process.wait()
                    slowest = max(slowest, time.monotonic() - killed)
            process.wait()
        train(config, run, options.transport, rng.choice([1, 2, 4]))
        if digest(run) != expected:
            return {"killed at": kills, "same": False}
        shutil.rmtree(run)
        runs += 1
    return {"killed at": kills, "kills": len(kills), "runs": runs, "same": True,
            "slowest_end_seconds": round(slowest, 2)}  # fmt: skip


def trains(words: bytes) -> bool:
    """Whether a command line is that of a process that trains, and not of what started it."""
    first, *rest = words.split(b"\0")
    return b"train" in rest and b"torch.distributed.run" not in rest and b"mpi" not in first and b"hydra" not in first


def speed(options: Namespace, folder: Path) -> dict[str, Any]:
    """Take one process of two threads, and 1, 2 and 4 of one thread, in turns; compare with the model of cost."""
    steps = 10 if options.quick else 30
    config = write(folder, options, epochs=0, steps=steps, every=steps, log=2)
    cases = {"1 x 2 threads": (1, 2), **{f"{count} x 1 thread": (count, 1) for count in options.processes}}
    rounds: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(options.rounds):
        order = list(cases) if number % 2 == 0 else list(cases)[::-1]
        for name in order:
            run = folder / name.replace(" ", "-")
            shutil.rmtree(run, ignore_errors=True)
            count, threads = cases[name]
            train(config, run, options.transport, count, "--threads", str(threads))
            rounds[name].append(tokens_per_second(run))
    ratios = [two / one for two, one in zip(rounds["2 x 1 thread"], rounds["1 x 2 threads"])]
    fastest = {name: round(statistics.median(found)) for name, found in rounds.items()}
    return {
        "2 x 1 thread over 1 x 2 threads": [round(ratio, 3) for ratio in ratios],
        "ratio": round(statistics.median(ratios), 3),
        "tokens per second": fastest,
        "model": cost(options, config, folder / "1-x-1-thread", fastest),
    }


def cost(options: Namespace, config: Path, run: Path, measured: dict[str, int]) -> dict[str, Any]:
    """Return what docs/scale.md expects of several processes, from one and from what is sent, beside what was measured.

    Where processes share cores, each has a share of one: the time of one process grows by that.
    """
    from fastattn.seq2seq import read_config
    from fastattn.seq2seq.text.corpus import prepare_corpus

    batches = prepare_corpus(read_config(config)).train
    whole = [int(batch.target_lengths.sum()) for batch in itertools.islice(batches.epoch(0), 30)]
    tokens, cores = statistics.mean(whole), len(os.sched_getaffinity(0))
    measure = [*launcher(options.transport, 2), "-m", "benchmarks.scale.exchange", str(run), options.transport]
    facts = json.loads(subprocess.run(measure, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    update = facts["update_seconds"]
    alone = tokens / measured["1 x 1 thread"] - update
    expected = {}
    for count in options.processes:
        slower = max(1.0, count / cores)
        seconds = slower * (alone / count + update) + (count - 1) * facts["gather_seconds"]
        expected[f"{count} x 1 thread"] = {
            "expected": round(tokens / seconds), "measured": measured[f"{count} x 1 thread"]
        }  # fmt: skip
    return {"tokens per step": round(tokens), **facts, **expected}
