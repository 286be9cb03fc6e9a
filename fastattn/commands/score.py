"""``fastattn score``: how probable given targets are."""

import argparse
import json
import math

from fastattn.commands.arguments import Commands, add_command, add_model, add_pairs
from fastattn.commands.lines import read_pairs

__all__ = ["add", "run"]

_ABOUT = """Print the log-probability that a model gives to each target, its end included, and the number of tokens.

Input are lines with a tab between source and target, or two files of as many lines; output is one line for each pair,
in order: log-probability, tab, tokens. The perplexity of all of them goes to stderr."""

_EXAMPLE = """
fastattn score german test.tsv
paste test.de test.en | fastattn score german
fastattn score german test.de --target test.en --json
"""


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = add_command(commands, "score", run, help="score given translations", about=_ABOUT, example=_EXAMPLE)
    add_model(parser)
    add_pairs(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(options: argparse.Namespace) -> int:
    """Score all pairs."""
    import sys

    from fastattn import seq2seq

    translator = seq2seq.load(options.folder, options.checkpoint)
    pairs = read_pairs(options)
    found = translator.score([source for source, _ in pairs], [target for _, target in pairs])
    for (source, target), one in zip(pairs, found):
        if options.json:
            values = {"source": source, "target": target, "log_probability": one.log_probability,
                      "tokens": len(one.tokens)}  # fmt: skip
            print(json.dumps(values, ensure_ascii=False))
        else:
            print(f"{one.log_probability:.6f}\t{len(one.tokens)}")
    total, tokens = math.fsum(one.log_probability for one in found), sum(len(one.tokens) for one in found)
    if tokens:
        print(f"fastattn score: {len(found)} pairs, perplexity {math.exp(min(-total / tokens, 700)):.4f}", file=sys.stderr)
    return 0
