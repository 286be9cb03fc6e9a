"""Training as torchrun and mpirun start it: the same bits, and an end for all when one of them ends."""

import contextlib
import os
import signal
import time
from pathlib import Path

import launched_runs
import pytest
import training_runs
from launched_runs import gloo, mpi, until_a_checkpoint, workers_of

from fastattn import seq2seq

pytest.importorskip("safetensors", reason="checkpoints need safetensors")
pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="processes are not in /proc here")

EPOCHS = 15
TRANSPORTS = [pytest.param("gloo", marks=gloo), pytest.param("mpi", marks=mpi)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    config = launched_runs.files(folder, EPOCHS)
    seq2seq.train(config, folder / "run", quiet=True)
    return config, training_runs.result(folder / "run")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_processes_give_the_bits_of_one_though_one_is_slow(tmp_path, alone, transport):
    config, expected = alone
    process = launched_runs.launch(config, tmp_path / "run", transport, 2)
    until_a_checkpoint(tmp_path / "run", [process])
    slow = workers_of(process.pid)[-1]
    for pause in (0.5, 0.2):
        os.kill(slow, signal.SIGSTOP)
        time.sleep(pause)
        os.kill(slow, signal.SIGCONT)
        time.sleep(0.05)
    out = launched_runs.finish(process)
    assert out.count("ended by epochs") == 1
    assert training_runs.result(tmp_path / "run") == expected


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "hangs"])
def test_one_that_dies_or_hangs_ends_all_and_the_run_goes_on(tmp_path, transport, number):
    config, folder = launched_runs.files(tmp_path), tmp_path / "run"
    process = launched_runs.launch(config, folder, transport, 2, "--timeout", 5)
    try:
        until_a_checkpoint(folder, [process])
        hit = workers_of(process.pid)[-1]
        os.kill(hit, number)
        began = time.monotonic()
        if number == signal.SIGSTOP:
            while len(workers_of(process.pid)) > 1 and time.monotonic() < began + 60:
                time.sleep(0.05)
            with contextlib.suppress(ProcessLookupError):
                os.kill(hit, signal.SIGKILL)  # what was stopped does not end by itself
        _, err = process.communicate(timeout=100)
        assert time.monotonic() - began < 60
    finally:
        process.kill()
    assert process.returncode != 0
    assert "lost the others" in err or transport == "mpi", err  # mpirun ends the others itself
    again = launched_runs.launch if number == signal.SIGKILL else None
    launched_runs.goes_on(config, folder, again and (lambda: [again(config, folder, transport, 2)]))
