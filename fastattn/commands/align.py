"""``fastattn align``: which words attention links."""

import argparse

from fastattn._printing import emit
from fastattn.commands.arguments import Commands, add_command, add_model, model_of
from fastattn.commands.lines import add_pairs, pairs_of

__all__ = ["add", "run"]

_ABOUT = """Print for each pair the links between its words in the Pharaoh format, 0-0 1-2: the number of a source word,
that of a target word, from 0 on, words being what white space parts. Each target token is linked with the source token
that it attends to most, by the mean of all heads, in a Transformer those of the last layer; two words are linked if
some of their tokens are. Ends of sentences are left out."""

_EXAMPLE = """
fastattn align german test.tsv > test.align
fastattn align german test.de --target test.en --tokens
"""


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = add_command(commands, "align", run, help="link words by attention", about=_ABOUT, example=_EXAMPLE)
    add_model(parser)
    add_pairs(parser)
    parser.add_argument("--tokens", action="store_true", help="number tokens of the vocabularies in place of words")


def run(options: argparse.Namespace) -> int:
    """Align all pairs."""
    from fastattn.seq2seq.search.alignment import pharaoh

    translator = model_of(options)
    pairs = pairs_of(options)
    for found in translator.alignments(pairs.sources, pairs.targets, words=not options.tokens):
        emit(pharaoh(found))
    return 0
