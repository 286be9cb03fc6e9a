"""``fastattn score``: how probable given targets are."""

import argparse
import json
import math

from fastattn._printing import emit, say
from fastattn.commands.arguments import Commands, add_command, add_model, model_of
from fastattn.commands.lines import add_pairs, pairs_of

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
    translator = model_of(options)
    pairs = pairs_of(options)
    found = translator.score(pairs.sources, pairs.targets)
    for source, target, one in zip(pairs.sources, pairs.targets, found):
        if options.json:
            values = {"source": source, "target": target, "log_probability": one.log_probability,
                      "tokens": len(one.tokens)}  # fmt: skip
            emit(json.dumps(values, ensure_ascii=False))
        else:
            emit(f"{one.log_probability:.6f}\t{len(one.tokens)}")
    total, tokens = math.fsum(one.log_probability for one in found), sum(len(one.tokens) for one in found)
    if tokens:
        say(f"fastattn score: {len(found)} pairs, perplexity {math.exp(min(-total / tokens, 700)):.4f}")
    return 0
