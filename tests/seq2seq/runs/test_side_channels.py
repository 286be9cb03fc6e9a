"""Progress, notes and logs are side channels: nobody may be there to read them, and the work goes on."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time

import pytest
import training_runs
from training_runs import DATA, make_config

from fastattn import seq2seq
from fastattn.seq2seq import checkpoint
from fastattn.seq2seq.runs import runlog
from fastattn.seq2seq.runs.progress import Progress
from fastattn.seq2seq.runs.runlog import RunLog, read_log

CONFIG = """
[data]
train = "train.tsv"
validation = "validation.tsv"
[vocabulary]
source = "char"
target = "char"
[model]
embedding = 4
hidden = 4
attention = 4
readout_width = 4
[training]
max_steps = 6
validate_every = 2
log_every = 1
[inference]
max_length = 9
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a configuration, its data and a model that was trained on them."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "c.toml").write_text(CONFIG)
    for name, pairs in zip(("train.tsv", "validation.tsv"), DATA):
        (folder / name).write_text("".join(f"{source}\t{target}\n" for source, target in pairs))
    (folder / "words").write_text("a\n\nb\n" + "abcdefghabcdefghabcdefgh" * 9 + "\n")  # two lines make notes
    seq2seq.train(folder / "c.toml", folder / "model", quiet=True)
    return folder


def closed_pipe():
    reads, writes = os.pipe()
    os.close(reads)
    return os.fdopen(writes, "wb")


NOWHERE = {
    "a full disk": lambda: open("/dev/full", "wb"),
    "a reader that went away": closed_pipe,
    "closed": lambda: contextlib.nullcontext(),
}
COMMANDS = {
    "train": ["train", "c.toml", "--folder"],
    "translate": ["translate", "model", "words"],
    "evaluate": ["evaluate", "model", "validation.tsv", "--metric", "per"],
    "score": ["score", "model", "validation.tsv"],
}


@pytest.mark.parametrize("nowhere", NOWHERE)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_goes_on_when_nobody_can_read_its_progress(work, command, nowhere, environment):
    arguments = [*COMMANDS[command], *([f"run {nowhere}"] if command == "train" else [])]
    run = [sys.executable, "-m", "fastattn", *arguments]
    if nowhere == "closed":
        run = ["sh", "-c", '"$@" 2>&-', "sh", *run]
    with NOWHERE[nowhere]() as stderr:
        done = subprocess.run(run, cwd=work, stdout=subprocess.PIPE, stderr=stderr, env=environment, timeout=100)
    assert done.returncode == 0 and done.stdout
    if command == "train":
        assert checkpoint.load(work / arguments[-1]).step == 6


@pytest.mark.parametrize(("output", "code"), [("a full disk", 1), ("a reader that went away", 141)])
def test_results_that_cannot_be_written_are_an_error(work, output, code, environment):
    run = [sys.executable, "-m", "fastattn", *COMMANDS["translate"]]
    with NOWHERE[output]() as stdout:
        done = subprocess.run(run, cwd=work, stdout=stdout, stderr=subprocess.PIPE, env=environment, timeout=100)
    lines = [line for line in done.stderr.decode().splitlines() if ": line " not in line]
    assert done.returncode == code and len(lines) == (code == 1), lines


class Broken:
    """A standard error stream whose every use raises something that no file raises."""

    def __getattr__(self, name):
        raise RuntimeError(name)


def test_an_object_in_place_of_stderr_that_raises_anything(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Broken())
    config = make_config(max_steps=3, log_every=1)
    assert seq2seq.train(config, tmp_path, pairs=[*DATA[0], ("x" * 50, "y")], validation=DATA[1]).steps == 3


@pytest.mark.parametrize("name", ["tqdm", "update", "set_postfix_str", "write", "display"])
def test_a_bar_that_raises_is_given_up(monkeypatch, name):
    tqdm = pytest.importorskip("tqdm.auto")

    class Terminal:
        def isatty(self):
            return True

        def write(self, text):
            return len(text)

        def flush(self):
            pass

    def broken(*arguments, **options):
        raise RuntimeError(name)

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(tqdm if name == "tqdm" else tqdm.tqdm, name, broken)
    progress = Progress()
    progress.begin(0, 5)
    progress.advance(1.0)
    progress.measured(1, {"validation_loss": 1.0}, "validation_loss", True)
    progress.show(loss=1.0)
    progress.line("text")
    progress.close()


def test_a_log_that_cannot_be_opened_is_done_without(tmp_path, capsys):
    (tmp_path / "log.jsonl").mkdir()
    config = make_config(max_steps=5)
    assert seq2seq.train(config, tmp_path, pairs=DATA[0], validation=DATA[1], quiet=True).steps == 5
    assert capsys.readouterr().err.count("log.jsonl: cannot be written: is a directory. Hint: ") == 1


def test_a_log_on_a_full_disk_keeps_whole_lines(tmp_path, capsys):
    class Full:
        """A disk with room for some bytes; then for none; then for all."""

        def __init__(self, file):
            self.file, self.room = file, [5, 0]

        def write(self, data):
            if not self.room:
                return self.file.write(data)
            room = self.room.pop(0)
            if not room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data[:room])

        def __getattr__(self, name):
            return getattr(self.file, name)

    log = RunLog(tmp_path / "log.jsonl", 0)
    log.write(step=1, loss=1.0)
    log._file = Full(log._file)
    for step in (2, 3, 4):
        log.write(step=step, loss=1.0)
    log.close()
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == [1, 4]
    assert capsys.readouterr().err.count("no space left on device") == 1
    assert runlog.read_log(tmp_path / "log.jsonl")[1] == {"step": 4, "loss": 1.0}


def test_a_closed_terminal_saves_and_ends(tmp_path):
    process = training_runs.start(tmp_path, max_steps=100000, log_every=1)
    while not (tmp_path / "log.jsonl").exists() or len((tmp_path / "log.jsonl").read_bytes().splitlines()) < 4:
        time.sleep(0.005)
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=60)
    assert "Stopped: stopped after step" in err
    position = checkpoint.load(tmp_path).progress["position"]
    assert f"step {position['step']}," in err
