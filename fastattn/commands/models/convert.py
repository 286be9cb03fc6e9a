"""``fastattn convert``: models of Transformers as ours, and ours as theirs."""

import argparse

from fastattn._printing import say, show
from fastattn.commands.arguments import Commands, add_command, path

__all__ = ["add", "run"]

_ABOUT = """Make a model of one that Transformers saved: a Marian model, such as those of OPUS-MT, or a BART, with its
tokenizer and the settings of its search. What has no counterpart is refused by its name. With --to transformers the
other way: a transformer of fastattn becomes a folder that Transformers loads."""

_EXAMPLE = """
fastattn convert opus-mt-de-en -o opus
fastattn convert transformer -o for-transformers --to transformers
"""


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = add_command(
        commands, "convert", run, help="convert models of Transformers", about=_ABOUT, example=_EXAMPLE
    )
    parser.add_argument("folder", type=path, metavar="FOLDER", help="folder of the model to convert")
    parser.add_argument("-o", "--output", type=path, required=True, metavar="MODEL", help="where the new one goes")
    parser.add_argument(
        "--to", choices=("fastattn", "transformers"), default="fastattn", help="what it becomes (default: fastattn)"
    )


def run(options: argparse.Namespace) -> int:
    """Convert."""
    from fastattn.seq2seq import from_transformers, load, to_transformers
    from fastattn.seq2seq.exchange.transformers import save

    if options.to == "transformers":
        for line in to_transformers(load(options.folder), options.output):
            say(f"fastattn: {line}")
    else:
        save(from_transformers(options.folder), options.output, converted=str(options.folder))
    show(f"model: {options.output}")
    return 0
