"""``fastattn train``: train a model as a TOML file describes it."""

import argparse
import dataclasses
import json

from fastattn._printing import emit, show
from fastattn.commands.arguments import Commands, add_command, path

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
    parser.add_argument("--tensorboard", action="store_true", help="write the figures of the log for TensorBoard too")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.add_argument("--json", action="store_true", help="print the outcome as one JSON object")


def run(options: argparse.Namespace) -> int:
    """Train, and print what it came to."""
    from fastattn import seq2seq

    folder = options.folder or options.config.with_suffix("")
    callbacks = [seq2seq.TensorBoard()] if options.tensorboard else []
    outcome = seq2seq.train(
        options.config, folder, resume=options.resume, quiet=options.quiet, init_from=options.init_from,
        callbacks=callbacks,
    )  # fmt: skip
    if options.json:
        emit(json.dumps({**dataclasses.asdict(outcome), "folder": str(outcome.folder)}))
        return 0
    show(f"{outcome.steps} steps, {outcome.epochs} epochs; ended by {outcome.reason}")
    if outcome.best is not None:
        show(f"best {outcome.metric}: {outcome.best:.4f} at step {outcome.best_step}")
    show(f"model: {outcome.folder}")
    return 0
