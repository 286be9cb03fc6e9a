"""``fastattn train``: train a model as a TOML file describes it."""

import argparse
import contextlib
import dataclasses
import json
from typing import TYPE_CHECKING

from fastattn._printing import emit, show
from fastattn.commands.arguments import Commands, add_command, at_least, number_from, path
from fastattn.errors import ConfigError, describe_file

if TYPE_CHECKING:
    from fastattn.scale import Processes

__all__ = ["add", "run"]

_ABOUT = """Train an encoder-decoder as a TOML file describes it (docs/training.md).

Progress goes to stderr: a bar on a terminal, plain lines anywhere else. The folder receives the checkpoints, the
vocabularies and log.jsonl. Ctrl-C saves the present step and ends. --resume goes on after an interruption, a crash
or a kill, and ends with the same bits as a run that was never interrupted."""

_EXAMPLE = """
fastattn train german.toml --folder german
fastattn train german.toml --folder german --resume
fastattn train medical.toml --init-from german
cut -f 1,2 corpus.tsv | fastattn train german.toml --folder german      with train = "-" in [data]
"""


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = add_command(commands, "train", run, help="train a model on pairs of texts", about=_ABOUT, example=_EXAMPLE)
    parser.add_argument("config", metavar="CONFIG", type=path, help="TOML file")
    parser.add_argument("--folder", type=path, help="where checkpoints and log go (default: CONFIG without its ending)")
    parser.add_argument("--resume", action="store_true", help="go on from the last good checkpoint, if there is one")
    parser.add_argument("--init-from", type=path, metavar="MODEL", help="begin with this model, trained on other data")
    parser.add_argument(
        "--distributed", choices=("gloo", "mpi"),
        help="train with the processes that torchrun (gloo) or mpirun (mpi) has started, with the same bits",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=number_from(0, above=True), metavar="SECONDS",
        help="of --distributed: how long a process waits for the others (default: 50)",
    )  # fmt: skip
    parser.add_argument("--threads", type=at_least(1), metavar="N", help="of --distributed: of each process")
    parser.add_argument("--tensorboard", action="store_true", help="write the figures of the log for TensorBoard too")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.add_argument("--json", action="store_true", help="print the outcome as one JSON object")


def _processes(options: argparse.Namespace) -> "contextlib.AbstractContextManager[Processes | None]":
    """Return the block of the processes that the options name."""
    if options.distributed is None:
        for name in ("timeout", "threads"):
            if getattr(options, name) is not None:
                hint = "give --distributed gloo or mpi."
                raise ConfigError(describe_file(f"--{name}", "means nothing without --distributed", hint))
        return contextlib.nullcontext()
    from fastattn.scale import joined

    return joined(options.distributed, timeout=options.timeout or 50.0, threads=options.threads)


def run(options: argparse.Namespace) -> int:
    """Train, and print what it came to."""
    from fastattn import seq2seq

    folder = options.folder or options.config.with_suffix("")
    callbacks = [seq2seq.TensorBoard()] if options.tensorboard else []
    with _processes(options) as processes:
        outcome = seq2seq.train(
            options.config, folder, resume=options.resume, quiet=options.quiet, init_from=options.init_from,
            callbacks=callbacks, processes=processes,
        )  # fmt: skip
    if processes is not None and processes.rank:
        return 0
    if options.json:
        emit(json.dumps({**dataclasses.asdict(outcome), "folder": str(outcome.folder)}))
        return 0
    show(f"{outcome.steps} steps, {outcome.epochs} epochs; ended by {outcome.reason}")
    if outcome.best is not None:
        show(f"best {outcome.metric}: {outcome.best:.4f} at step {outcome.best_step}")
    show(f"model: {outcome.folder}")
    return 0
