"""Long runs beyond one process, on Multi30K: the same bits after faults, and what engines and processes cost.

python -m benchmarks.scale epoch --data DATA/multi30k/tok [--processes 1 2 4] [--transport gloo]
python -m benchmarks.scale ranks --data DATA/multi30k/tok [--kills 20]
python -m benchmarks.scale speed --data DATA/multi30k/tok [--rounds 5]
python -m benchmarks.scale lines --data DATA/multi30k/tok [--lines 200000] [--kills 20]

`epoch` trains an epoch with each number of processes, dropout on, and once with another number after each checkpoint,
and compares the SHA-256 of the last checkpoints. `ranks` kills processes at random steps, starts all again, and
compares. `speed` takes the tokens per second of two processes of one thread and of one process of two threads, in
turns. `lines` translates by two actors of Ray, which it kills, by two processes without Ray, and by one, compares the
files, and times the first two. `--quick` takes less of everything. Each prints one JSON object.
"""

import argparse
import gzip
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CONFIG = """
[data]
train = "{data}/train.lc.norm.tok.en.gz"
train_target = "{data}/train.lc.norm.tok.de.gz"
validation = "{data}/val.lc.norm.tok.en.gz"
validation_target = "{data}/val.lc.norm.tok.de.gz"
[vocabulary]
source_size = {vocabulary}
target_size = {vocabulary}
[model]
kind = "bahdanau"
embedding = {width}
hidden = {width}
attention = {width}
readout_width = {width}
dropout = 0.3
[training]
epochs = 0
max_steps = {steps}
shards = 4
tokens_per_batch = {tokens}
checkpoint_every = {every}
validate_every = {validate}
keep = 1
log_every = {log}
"""
WHOLE = {"vocabulary": 5000, "width": 128, "tokens": 4096, "steps": 150, "every": 30, "log": 10, "validate": 150}
QUICK = {"vocabulary": 200, "width": 16, "tokens": 1024, "steps": 40, "every": 8, "log": 10, "validate": 40}


def write(folder: Path, options: argparse.Namespace, **settings: Any) -> Path:
    """Write the configuration; return its path."""
    values = {**(QUICK if options.quick else WHOLE), **settings}
    path = folder / "config.toml"
    path.write_text(CONFIG.format(data=options.data, **values))
    return path


def command(transport: str, count: int) -> list[str]:
    """Return the words that start so many processes of Python."""
    if transport == "mpi":
        return ["mpirun", "-n", str(count), sys.executable]
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]


def start(config: Path, run: Path, transport: str, count: int, *more: str) -> "subprocess.Popen[bytes]":
    """Start a run with so many processes, or go on with it."""
    train = ["-m", "fastattn", "train", str(config), "--folder", str(run), "--quiet", "--resume"]
    train += ["--distributed", transport, *more]
    return subprocess.Popen(
        [*command(transport, count), *train], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip


def digest(run: Path) -> str:
    """Return what stands for all bits of the last checkpoint."""
    from fastattn.seq2seq import checkpoint

    return checkpoint.checksum(checkpoint.load(run, state=False).folder)


def tokens_per_second(run: Path) -> float:
    """Return the median of the log, without its first line."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return statistics.median([line["tokens_per_second"] for line in lines if "tokens_per_second" in line][1:])


def epoch(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train with each number of processes, and with all of them in turn."""
    config, found = write(folder, options), {}
    for count in options.processes:
        if start(config, folder / str(count), options.transport, count).wait():
            raise SystemExit(f"the run of {count} processes failed")
        found[str(count)] = digest(folder / str(count))
    values, turns = QUICK if options.quick else WHOLE, 3
    for turn in range(1, turns + 1):
        count = options.processes[turn % len(options.processes)]
        write(folder, options, steps=values["steps"] * turn // turns)
        start(config, folder / "changing", options.transport, count).wait()
    found["changing"] = digest(folder / "changing")
    return {"checkpoints": found, "same": len(set(found.values())) == 1}


def workers(launcher: int) -> list[int]:
    """Return the processes below a launcher that train."""
    found, left = [], [launcher]
    while left:
        process = left.pop()
        try:
            left += map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())
            words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if process != launcher and b"train" in words and not any(b"mpi" in word for word in words[:1]):
            found.append(process)
    return found


def ranks(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Kill a process at random moments until there were enough, and compare with a run that was left alone."""
    config, rng = write(folder, options), random.Random(options.seed)
    began = time.monotonic()
    start(config, folder / "alone", options.transport, 2).wait()
    alone, kills, runs, slowest = time.monotonic() - began, 0, 0, 0.0
    expected = digest(folder / "alone")
    while kills < options.kills:
        run = folder / f"run{runs}"
        while True:
            process = start(config, run, options.transport, rng.choice([2, 4]))
            if kills < options.kills:
                time.sleep(rng.uniform(0.2, 0.8) * alone)
                hit = workers(process.pid)
                if process.poll() is None and hit:
                    os.kill(rng.choice(hit), signal.SIGKILL)
                    kills, killed = kills + 1, time.monotonic()
                    process.wait()
                    slowest = max(slowest, time.monotonic() - killed)
            if process.wait() == 0:
                break
        if digest(run) != expected:
            return {"kills": kills, "same": False}
        shutil.rmtree(run)
        runs += 1
    return {"kills": kills, "runs": runs, "same": True, "slowest_end_seconds": round(slowest, 2)}


def speed(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Take both in turns."""
    config = write(folder, options)
    ratios, both = [], {"one process, two threads": 0.0, "two processes, one thread": 0.0}
    for _ in range(options.rounds):
        for name, count, threads in zip(both, (1, 2), ("2", "1")):
            run = folder / name
            shutil.rmtree(run, ignore_errors=True)
            start(config, run, options.transport, count, "--threads", threads).wait()
            both[name] = tokens_per_second(run)
        one, two = both.values()
        ratios.append(two / one)
    return {"ratio": round(statistics.median(ratios), 3), "of": len(ratios), "last tokens per second": both}


def killing(title: bytes, kills: int, ended: threading.Event, pause: float) -> int:
    """Kill processes of a title until there were enough, or the work has ended; return how many."""
    done = 0
    while done < kills and not ended.wait(pause):
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                found = title in place.read_bytes()
            except OSError:
                continue
            if found and done < kills:
                os.kill(int(place.parent.name), signal.SIGKILL)
                done += 1
                break
    return done


def timed(act: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def two_processes(work: Any, plan: Any, /, **how: Any) -> Iterator[Any]:
    """An engine of two processes, without anything else."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        for file in range(len(plan.inputs)):
            yield from pool.imap_unordered(work, plan.blocks(file))


def lines(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Translate by Ray with kills, by Ray, by two processes, and by one."""
    from fastattn.scale import translate_files

    config = write(folder, options)
    start(config, folder / "model", options.transport, 1).wait()
    with gzip.open(options.data / "train.lc.norm.tok.en.gz", "rt", encoding="utf-8") as file:
        texts = list(file)
    count = 2000 if options.quick else options.lines
    place = folder / "lines.txt"
    place.write_text("".join(texts[row % len(texts)] for row in range(count)), encoding="utf-8")

    def translate(name: str, **how: Any) -> None:
        more = {"beam": 1, "threads": 1, "quiet": True, "block": 64 if options.quick else 512}
        translate_files(folder / "model", [place], folder / name, **{**more, **how})

    seconds = {
        "two processes": timed(lambda: translate("processes", engine=two_processes)),
        "ray": timed(lambda: translate("ray", engine="ray", workers=2)),
        "one": timed(lambda: translate("one", threads=2, block=200)),
    }
    ended, done = threading.Event(), list[int]()
    pause = 2.0 if options.quick else 10.0
    thread = threading.Thread(target=lambda: done.append(killing(b"_Working", options.kills, ended, pause)))
    thread.start()
    translate("killed", engine="ray", workers=2)
    ended.set()
    thread.join()
    files = {name: (folder / name / "lines.txt").read_bytes() for name in ("processes", "ray", "one", "killed")}
    return {
        "lines": count, "kills": done[0], "same": len(set(files.values())) == 1,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "ray over two processes": round(seconds["ray"] / seconds["two processes"], 3),
    }  # fmt: skip


RUNS = {"epoch": epoch, "ranks": ranks, "speed": speed, "lines": lines}


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.split("\n")[0])
    parser.add_argument("run", choices=RUNS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tokenised files of Multi30K")
    parser.add_argument("--transport", choices=("gloo", "mpi"), default="gloo")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=200_000)
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
