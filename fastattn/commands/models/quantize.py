"""``fastattn quantize``: a model with matrices of int8 or bfloat16."""

import argparse

from fastattn._printing import show
from fastattn.commands.arguments import Commands, add_command, path

__all__ = ["add", "run"]

_ABOUT = """Write a model with the matrices of its layers in int8, with a scale for each column, or in bfloat16: a
quarter or half of the size. All commands take it as they take the model
that it was made of, and no training can go on from it."""

_EXAMPLE = """
fastattn quantize german -o german-int8
fastattn quantize german -o german-half --weights bfloat16
"""


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = add_command(
        commands, "quantize", run, help="write a model with smaller weights", about=_ABOUT, example=_EXAMPLE
    )
    parser.add_argument("folder", type=path, metavar="MODEL", help="folder of a run or of a checkpoint")
    parser.add_argument("-o", "--output", type=path, required=True, metavar="FOLDER", help="where the new one goes")
    parser.add_argument(
        "--weights", choices=("int8", "bfloat16"), default="int8", help="type of the matrices (default: int8)"
    )
    parser.add_argument(
        "--checkpoint", choices=("best", "last"), default="best", help="which checkpoint of a run (default: best)"
    )


def run(options: argparse.Namespace) -> int:
    """Quantize."""
    from fastattn.seq2seq import quantize

    quantize(options.folder, options.output, options.weights, which=options.checkpoint)
    show(f"model: {options.output}")
    return 0
