"""Commands run in this process, and whether what they answer is an answer: one line, a documented exit code."""

import argparse
import contextlib
import io
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import NamedTuple

SECONDS = 60  # of one case: none has much to do
MEMORY = 3 << 30  # bytes beyond what is in use: a size that is too large is to be a MemoryError

CODES = {0, 1, 2, 130, 141, 143}
# Lines of commands on the standard error that are no failure. Progress and reports do not begin with a command.
NOTES = re.compile(r"fastattn \w+: line \d+: |fastattn score: \d+ pairs, perplexity")
RAW = re.compile(r"Traceback|Warning\b|Error\b")

CONFIG = """
[data]
train = "train.tsv"
validation = "validation.tsv"
[vocabulary]
source = "char"
target = "char"
[model]
kind = "{kind}"
{sizes}
[training]
epochs = 0
max_steps = 2
tokens_per_batch = 60
max_length = 20
validate_every = 2
log_every = 1
[inference]
beam = 2
max_length = 6
"""

SIZES = {
    "bahdanau": {"embedding": 4, "hidden": 5, "attention": 3, "readout_width": 4},
    "luong": {"embedding": 4, "hidden": 5, "layers": 1},
    "transformer": {"width": 4, "heads": 2, "inner": 6, "encoder_layers": 1, "decoder_layers": 1},
    "wu": {"embedding": 4, "hidden": 5, "readout_width": 4},
    "cho": {"embedding": 4, "hidden": 5, "readout_width": 4},
    "sutskever": {"embedding": 4, "hidden": 5, "layers": 1},
}

PAIRS = "".join(f"{word}\t{word[::-1]}\n" for word in ("abc", "ba", "c d", "dab", "a", "bcd", "cab", "db ca"))


class Answer(NamedTuple):
    """What a command came to; `raised` is a traceback, or "" where there was none."""

    status: object
    out: str
    err: str
    raised: str


class Hangs(BaseException):
    """A case takes too long."""


def config(kind="bahdanau"):
    """A small configuration of a kind of model."""
    return CONFIG.format(kind=kind, sizes="\n".join(f"{key} = {value}" for key, value in SIZES[kind].items()))


def run(arguments, stdin=b""):
    """Run a command in this process, as its user would see it."""
    from fastattn import cli

    out, err, kept = io.BytesIO(), io.BytesIO(), (sys.stdin, sys.stdout, sys.stderr)
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
    wrapped = sys.stdout, sys.stderr = tuple(io.TextIOWrapper(file, write_through=True) for file in (out, err))
    status, raised = None, ""
    before = signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(SECONDS)
    try:
        status = cli.main(arguments)
    except BaseException:
        raised = traceback.format_exc()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        sys.stdin, sys.stdout, sys.stderr = kept
        for stream in wrapped:
            stream.detach()  # or it closed what it wrote to
    return Answer(status, *(file.getvalue().decode("utf-8", "replace") for file in (out, err)), raised)


def fault_of(answer):
    """What is wrong with an answer, "" if nothing is."""
    if answer.raised:
        return answer.raised
    if not isinstance(answer.status, int) or answer.status not in CODES:
        return f"exit status {answer.status}"
    lines = [line for line in answer.err.splitlines() if line.startswith("fastattn") and not NOTES.match(line)]
    if len(lines) != (answer.status != 0) or RAW.search(answer.err):
        return f"{len(lines)} failures on stderr with exit status {answer.status}:\n{answer.err[:2000]}"
    if any(not character.isprintable() for character in answer.err.replace("\n", "")):
        return f"control characters on stderr: {answer.err!r}"
    if lines and (lines[0].count("Hint: ") > 1 or re.search(r"[^.]\.\.($| Hint)", lines[0])):
        return f"two hints or full stops: {lines[0]}"
    if lines and len(lines[0]) > 4000:
        return f"a line of {len(lines[0])} characters: {lines[0][:200]}"
    return ""


@contextlib.contextmanager
def short_runs():
    """Let no training take more than two steps."""
    from fastattn.seq2seq.runs.training import Run

    finished = Run.finished
    Run.finished = lambda self: finished(self) or ("max_steps" if self.position.step >= 2 else "")
    try:
        yield
    finally:
        Run.finished = finished


@contextlib.contextmanager
def in_a_folder():
    """Work in an empty folder, which is removed in the end."""
    before, folder = os.getcwd(), tempfile.mkdtemp()
    os.chdir(folder)
    try:
        yield Path(folder)
    finally:
        os.chdir(before)
        shutil.rmtree(folder)


@contextlib.contextmanager
def bounded_memory():
    """Make what would need far more memory than is there a MemoryError."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def write_data(folder):
    """Write the files that `config` names."""
    for name in ("train.tsv", "validation.tsv"):
        (folder / name).write_text(PAIRS)


def search(case, cases, seed, progress=False):
    """Run ``case(random)`` many times; return descriptions of those whose answers are none.

    A case gets random numbers of its own and yields ``(description, answer)``, so that it can be repeated alone.
    """
    found = []
    with short_runs(), bounded_memory(), warnings.catch_warnings():
        warnings.simplefilter("always")  # a warning is a line on the standard error
        began = time.perf_counter()
        for number in range(cases):
            with in_a_folder():
                for description, answer in case(random.Random(f"{seed} {number}")):
                    if fault := fault_of(answer):
                        found.append(f"case {number} of seed {seed}: {description}\n{fault}")
                        if progress:
                            print(found[-1], flush=True)
            if progress and number % 100 == 99:
                print(f"{number + 1} cases, {time.perf_counter() - began:.0f} s, {len(found)} faults", flush=True)
    return found


def main(about, case):
    """The command line of a fuzzer."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="repeat one case")
    options = parser.parse_args()
    if options.only is not None:
        with short_runs(), in_a_folder():
            for description, answer in case(random.Random(f"{options.seed} {options.only}")):
                print(description, answer, fault_of(answer), sep="\n")
        return 0
    return 1 if search(case, options.cases, options.seed, progress=True) else 0


def _hangs(number, frame):
    raise Hangs(f"more than {SECONDS} s")
