"""``fastattn average``: the mean of several checkpoints."""

import argparse

from fastattn._printing import show
from fastattn.commands.arguments import Commands, add_command, at_least, path

__all__ = ["add", "run"]

_ABOUT = """Write the mean of checkpoints, parameter by parameter, as a model of its own, which often translates better
than the last of them. A run stands for the checkpoints that are kept in it, so that training.keep decides how many
there are. All must be of one configuration and one pair of vocabularies."""

_EXAMPLE = """
fastattn average german --last 5 -o german-average
fastattn average german german2 german3 -o german-average
"""


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = add_command(commands, "average", run, help="average checkpoints", about=_ABOUT, example=_EXAMPLE)
    parser.add_argument("folders", nargs="+", type=path, metavar="MODEL", help="folders of runs or of checkpoints")
    parser.add_argument("--last", type=at_least(1), metavar="N", help="take the N of the most steps (default: all)")
    parser.add_argument("-o", "--output", type=path, required=True, metavar="FOLDER", help="where the mean goes")


def run(options: argparse.Namespace) -> int:
    """Average."""
    from fastattn.seq2seq import checkpoint

    found = checkpoint.average(options.folders, options.output, last=options.last)
    for place in found.progress["averaged"]:
        show(f"averaged: {place}")
    show(f"model: {options.output}")
    return 0
