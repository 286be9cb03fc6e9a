"""Runs of `fastattn train` on Multi30K in several processes: started, found below their launcher, compared."""

import json
import statistics
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
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
epochs = {epochs}
max_steps = {steps}
shards = 4
tokens_per_batch = {tokens}
checkpoint_every = {every}
keep = 1
log_every = {log}
"""
WHOLE = {"vocabulary": 5000, "width": 128, "tokens": 4096, "epochs": 1, "steps": 0, "every": 30, "log": 5}
SMALL = {"vocabulary": 1000, "width": 64, "tokens": 1024, "epochs": 0, "steps": 60, "every": 7, "log": 1}
QUICK = {"vocabulary": 200, "width": 16, "tokens": 1024, "epochs": 0, "steps": 30, "every": 7, "log": 1}
PATIENCE = 600  # seconds that a process waits for the others: the machine may have other work
TRIES = 5


def write(folder: Path, options: Namespace, **settings: Any) -> Path:
    """Write the configuration; return its path."""
    path = folder / "config.toml"
    path.write_text(CONFIG.format(data=options.data, **{**(QUICK if options.quick else WHOLE), **settings}))
    return path


def launcher(transport: str, count: int) -> list[str]:
    """Return the words that start so many processes of Python."""
    if transport == "mpi":
        return ["mpirun", "-n", str(count), sys.executable]
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]


def start(config: Path, run: Path, transport: str, count: int, *more: str) -> "subprocess.Popen[bytes]":
    """Start a run with so many processes, or go on with it."""
    train = ["-m", "fastattn", "train", str(config), "--folder", str(run), "--quiet", "--resume"]
    train += ["--distributed", transport, "--timeout", str(PATIENCE), *more]
    with open(config.with_name("said.txt"), "ab") as said:
        return subprocess.Popen(
            [*launcher(transport, count), *train], stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
        )


def train(config: Path, run: Path, transport: str, count: int, *more: str) -> int:
    """Let a run come to its end; return how often it had to be started again."""
    for tries in range(TRIES):
        if start(config, run, transport, count, *more).wait() == 0:
            return tries
    raise SystemExit(config.with_name("said.txt").read_text()[-2000:])


def digest(run: Path) -> str:
    """Return what stands for all bits of the last checkpoint."""
    from fastattn.seq2seq import checkpoint

    return checkpoint.checksum(checkpoint.load(run, state=False).folder)


def log(run: Path) -> list[dict[str, Any]]:
    """Return the lines of the log of a run, none if it has not begun."""
    try:
        return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines() if line.endswith("}")]
    except OSError:
        return []


def tokens_per_second(run: Path) -> float:
    """Return the median of the log, without its first line."""
    return statistics.median([line["tokens_per_second"] for line in log(run) if "tokens_per_second" in line][1:])


def below(process: int) -> Iterator[tuple[int, bytes]]:
    """Yield the processes that one has started, and those that these have, each with its command line."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return
    for child in map(int, children):
        try:
            yield child, Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        yield from below(child)
