"""Training as torchrun and mpirun start it: the same bits, and an end for all when one of them ends."""

import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import training_runs

import fastattn

pytest.importorskip("safetensors", reason="checkpoints need safetensors")

CONFIG = """
[data]
train = "train.tsv"
validation = "validation.tsv"
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
tokens_per_batch = 120
max_length = 20
shards = 4
checkpoint_every = 5
"""
MPIRUN = shutil.which("mpirun") or shutil.which("mpirun", path=Path(sys.executable).parent)
gloo = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
mpi = pytest.mark.skipif(find_spec("mpi4py") is None or MPIRUN is None, reason="mpi4py or an MPI is not installed")


def files(folder, epochs=3):
    """Write the data and the configuration of a run; return the latter."""
    for name, pairs in zip(("train", "validation"), training_runs.DATA):
        (folder / f"{name}.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in pairs))
    (folder / "config.toml").write_text(CONFIG.format(epochs=epochs))
    return folder / "config.toml"


def launch(config, transport, count, folder, *more):
    """Start so many processes."""
    above = str(Path(fastattn.__file__).resolve().parents[1])
    command = ["-m", "fastattn", "train", str(config), "--folder", str(folder), "--quiet", "--resume",
               "--distributed", transport, *map(str, more)]  # fmt: skip
    if transport == "gloo":
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    else:
        launcher = [str(MPIRUN), "-n", str(count), sys.executable]
    environment = {**os.environ, "PYTHONPATH": above}
    return subprocess.Popen(
        [*launcher, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=config.parent,
    )  # fmt: skip


def finish(process):
    out, err = process.communicate(timeout=150)
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    from fastattn import seq2seq

    config = files(folder)
    seq2seq.train(config, folder / "run", quiet=True)
    return config, training_runs.result(folder / "run")


@pytest.mark.parametrize(
    ("transport", "count"), [pytest.param("gloo", 2, marks=gloo), pytest.param("mpi", 2, marks=mpi)]
)
def test_processes_give_the_bits_of_one(tmp_path, alone, transport, count):
    config, expected = alone
    out = finish(launch(config, transport, count, tmp_path / "run"))
    assert out.count("ended by epochs") == 1
    assert training_runs.result(tmp_path / "run") == expected


def workers_of(launcher):
    """The processes below a launcher that train, by number."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
            parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if b"train" in words and b"torch.distributed.run" not in words and parent in (launcher, *below(launcher)):
            found.append(int(path.parent.name))
    return sorted(found)


def below(process):
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [int(child) for child in children] + [n for child in children for n in below(int(child))]


@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are not in /proc here")
@pytest.mark.parametrize("transport", [pytest.param("gloo", marks=gloo), pytest.param("mpi", marks=mpi)])
@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGKILL, "lost the others"), (signal.SIGSTOP, "lost the others")]
)
def test_one_that_dies_or_hangs_ends_all_and_the_run_goes_on(tmp_path, transport, number, words):
    config = files(tmp_path, epochs=2000)
    folder = tmp_path / "run"
    process = launch(config, transport, 2, folder, "--timeout", 5)
    try:
        end = time.monotonic() + 100
        while not (folder / "latest").exists() and time.monotonic() < end:
            time.sleep(0.05)
        hit = workers_of(process.pid)[-1]
        os.kill(hit, number)
        began = time.monotonic()
        if number == signal.SIGSTOP:
            while Path(f"/proc/{hit}").exists() and len(workers_of(process.pid)) > 1 and time.monotonic() < began + 60:
                time.sleep(0.05)
            if Path(f"/proc/{hit}").exists():
                os.kill(hit, signal.SIGKILL)  # what was stopped does not end by itself
        _, err = process.communicate(timeout=100)
        assert time.monotonic() - began < 60
    finally:
        process.kill()
    assert process.returncode != 0
    assert words in err or transport == "mpi", err  # mpirun ends the others itself
    files(tmp_path, epochs=3)  # of what was trained this is the beginning, or an end that has passed
    from fastattn import seq2seq

    step = seq2seq.checkpoint.load(folder).step
    expected = tmp_path / "expected"
    settings = seq2seq.read_config(config).to_dict()
    settings["training"].update(epochs=0, max_steps=step + 7)
    seq2seq.train(seq2seq.Config.from_dict(settings), expected, quiet=True)
    text = config.read_text().replace("epochs = 3", f"epochs = 0\nmax_steps = {step + 7}")
    config.write_text(text)
    finish(launch(config, transport, 2, folder))
    assert training_runs.result(folder)[0] == training_runs.result(expected)[0]
