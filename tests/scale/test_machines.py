"""What befalls machines that work together: the network between two is cut, a disk is full. All end with one line
within a minute, and what is started again has the same result."""

import contextlib
import os
import shutil
import subprocess
import sys
import time

import launched_runs
import pytest
import training_runs
from launched_runs import gloo, until_a_checkpoint

from fastattn import seq2seq
from fastattn.errors import CheckpointError
from fastattn.scale import translate_files

pytest.importorskip("safetensors", reason="checkpoints need safetensors")

MINUTE = 60


def run_or_skip(what, *command):
    """Run what only some systems and users may; where it cannot be done, skip and say so."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{what}: there is no command {command[0]}")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{what}: {done.stderr.strip()}")


class Cable:
    """Two network namespaces, each as a machine of its own, and a cable between them, which is all they have."""

    addresses = "198.51.100.1", "198.51.100.2"  # of those that are kept for examples, seen by these two alone

    def __init__(self):
        self.names = [f"fastattn-{os.getpid()}-{end}" for end in "ab"]

    def lay(self):
        first, second = self.names
        for name in self.names:
            self._ip("netns", "add", name)
        self._ip("-n", first, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", second)
        for name, address in zip(self.names, self.addresses):
            self._ip("-n", name, "address", "add", f"{address}/30", "dev", "cable")
            for link in ("lo", "cable"):
                self._ip("-n", name, "link", "set", link, "up")

    def cut(self):
        self._ip("-n", self.names[1], "link", "set", "cable", "down")

    def mend(self):
        self._ip("-n", self.names[1], "link", "set", "cable", "up")

    def remove(self):
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)

    def start(self, config, folder, rank, timeout):
        """Start the process of one of the machines."""
        return launched_runs.start(
            config, folder, "gloo", "--timeout", timeout,
            before=["ip", "netns", "exec", self.names[rank], sys.executable], RANK=str(rank), WORLD_SIZE="2",
            LOCAL_WORLD_SIZE="2", MASTER_ADDR=self.addresses[0], MASTER_PORT="29500", GLOO_SOCKET_IFNAME="cable",
        )  # fmt: skip

    def _ip(self, *words):
        run_or_skip("no machines can be made of namespaces here", "ip", *words)


@pytest.fixture
def cable():
    made = Cable()
    try:
        made.lay()
        yield made
    finally:
        made.remove()


@contextlib.contextmanager
def ended(processes):
    """Kill what is left of processes at the end."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()


def complaint(process, words):
    """Wait for a process to fail within a minute with one line that has these words."""
    _, err = process.communicate(timeout=MINUTE)
    lines = [line for line in err.splitlines() if line.startswith("fastattn train: ")]
    assert process.returncode == 1 and len(lines) == 1 and words in lines[0], err


@gloo
def test_a_network_that_is_cut_ends_both_machines_and_the_run_goes_on(tmp_path, cable):
    config, folder = launched_runs.files(tmp_path), tmp_path / "run"

    def both():
        return [cable.start(config, folder, rank, 4) for rank in range(2)]

    processes = both()
    with ended(processes):
        until_a_checkpoint(folder, processes)
        cable.cut()
        late = cable.start(config, folder, 1, 4)  # a machine that cannot reach the first one
        with ended([late]):
            for rank, process in enumerate(processes):
                complaint(process, f"process {rank} of 2 has lost the others")
            complaint(late, "the processes did not come together")
    cable.mend()
    launched_runs.goes_on(config, folder, both)


@pytest.fixture
def disk(tmp_path):
    """A disk of four megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    run_or_skip("no disk can be mounted here", "mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place))
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk):
    """Take all that is free on a disk; return the file that has it."""
    with open(disk / "filler", "ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return disk / "filler"


@gloo
def test_a_full_disk_of_the_first_process_ends_all_and_the_run_goes_on(tmp_path, disk):
    config, folder = launched_runs.files(tmp_path), disk / "run"
    process = launched_runs.launch(config, folder, "gloo", 2)
    with ended([process]):
        until_a_checkpoint(folder, [process])
        began = time.monotonic()
        while process.poll() is None and time.monotonic() - began < MINUTE:
            filler = fill(disk)  # again and again: old checkpoints are removed
            time.sleep(0.02)
        _, err = process.communicate(timeout=MINUTE)
    assert time.monotonic() - began < MINUTE
    assert process.returncode != 0
    assert "cannot be saved: no space left on device. Hint: free " in err, err
    filler.unlink()
    launched_runs.goes_on(config, folder)


def test_a_full_disk_ends_a_job_with_one_line_and_the_job_goes_on(tmp_path, disk):
    texts, model = [source for source, _ in training_runs.DATA[0]], tmp_path / "model"
    config = training_runs.make_config(max_steps=20, average=0.0)
    seq2seq.train(config, model, pairs=training_runs.DATA[0], validation=training_runs.DATA[1], quiet=True)
    (tmp_path / "texts").write_text("".join(f"{text}\n" for text in texts))
    fillers = []

    def filling(when):
        def engine(work, plan, **how):
            for number, block in enumerate(plan.blocks(0)):
                if number == when:
                    fillers.append(fill(disk))
                yield work(block)
            if when < 0:
                fillers.append(fill(disk))

        return engine

    for when in (3, -1):  # when a block, and when the output is to be written
        with pytest.raises(CheckpointError, match=r"cannot be saved: no space left on device\. Hint: free "):
            translate_files(model, [tmp_path / "texts"], disk / "out", engine=filling(when), block=40, quiet=True)
        fillers.pop().unlink()
    outcome = translate_files(model, [tmp_path / "texts"], disk / "out", block=40, quiet=True)
    assert outcome.before == outcome.blocks == 9
    assert (disk / "out" / "texts.txt").read_text().splitlines() == seq2seq.load(model).translate(texts)
