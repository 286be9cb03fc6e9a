"""Runs as torchrun, mpirun and others launch them: several processes that train one model, and what befalls them."""

import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import training_runs

import fastattn

CONFIG = """
[data]
train = "{folder}/train.tsv"
validation = "{folder}/validation.tsv"
[vocabulary]
source = "char"
target = "char"
[model]
kind = "bahdanau"
embedding = 12
hidden = 16
attention = 16
readout_width = 8
dropout = 0.2
[training]
epochs = {epochs}
max_steps = {steps}
tokens_per_batch = 120
max_length = 20
shards = 4
checkpoint_every = 5
"""
MPIRUN = shutil.which("mpirun") or shutil.which("mpirun", path=Path(sys.executable).parent)
gloo = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
mpi = pytest.mark.skipif(find_spec("mpi4py") is None or MPIRUN is None, reason="mpi4py or an MPI is not installed")
LONG = 2000  # epochs: none of them ends by itself


def files(folder, epochs=LONG, steps=0):
    """Write the data and the configuration of a run; return the latter."""
    for name, pairs in zip(("train", "validation"), training_runs.DATA):
        (folder / f"{name}.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in pairs))
    (folder / "config.toml").write_text(CONFIG.format(folder=folder, epochs=epochs, steps=steps))
    return folder / "config.toml"


def start(config, folder, transport, *more, before=(), **variables):
    """Start a process of a run, or what starts several: `before` are its words up to the interpreter's arguments."""
    above = str(Path(fastattn.__file__).resolve().parents[1])
    train = ["-m", "fastattn", "train", str(config), "--folder", str(folder), "--quiet", "--resume",
             "--distributed", transport, *map(str, more)]  # fmt: skip
    return subprocess.Popen(
        [*before, *train], env={**os.environ, "PYTHONPATH": above, **variables}, cwd=config.parent,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def launch(config, folder, transport, count, *more):
    """Start so many processes."""
    if transport == "gloo":
        words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    else:
        words = [str(MPIRUN), "-n", str(count), sys.executable]
    return start(config, folder, transport, *more, before=words)


def finish(process):
    """Wait for the end of a run, which must be a good one; return what it printed."""
    out, err = process.communicate(timeout=150)
    assert process.returncode == 0, err
    return out


def until_a_checkpoint(folder, processes):
    """Wait until the first checkpoint of a run is there, while its processes are at work."""
    end = time.monotonic() + 100
    while not (folder / "latest").exists():
        assert time.monotonic() < end and all(process.poll() is None for process in processes)
        time.sleep(0.02)


def below(process):
    """Return the processes that one has started, and those that these have."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [int(child) for child in children] + [n for child in children for n in below(int(child))]


def titles_below(process):
    """Yield the number and the words of each process below one."""
    for number in below(process):
        try:
            yield number, Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue


def workers_of(launcher):
    """Return the processes below a launcher that train, by number."""
    return sorted(n for n, words in titles_below(launcher)
                  if b"train" in words and b"torch.distributed.run" not in words)  # fmt: skip


def goes_on(config, folder, restart=None):
    """Let a run that was broken off take some more steps, and look whether its bits are those of one that never was.

    By default one process goes on with it, else what ``restart()`` starts.
    """
    from fastattn import seq2seq

    steps = seq2seq.checkpoint.load(folder).step + 7
    config = files(config.parent, epochs=0, steps=steps)
    expected = config.parent / "expected"
    seq2seq.train(config, expected, quiet=True)
    if restart is None:
        seq2seq.train(config, folder, resume=True, quiet=True)
    else:
        for process in restart():
            finish(process)
    assert training_runs.result(folder)[0] == training_runs.result(expected)[0]
