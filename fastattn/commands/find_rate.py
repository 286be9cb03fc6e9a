"""``fastattn find-rate``: how the loss goes as the learning rate rises."""

import argparse
import dataclasses
import json

from fastattn._printing import emit, show
from fastattn.commands.arguments import Commands, add_command, at_least, number_from, path
from fastattn.commands.outputs import check_output

__all__ = ["add", "run"]

_ABOUT = """Train the model of a configuration for some steps with a learning rate that rises from one to the next, and
print where the loss falls most steeply. A rate somewhat below that is safe for training.rate with a constant schedule.
The model is forgotten, and nothing is written but the picture."""

_EXAMPLE = """
fastattn find-rate german.toml -o rates.png
fastattn find-rate medical.toml --init-from german --highest 0.1
"""


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = add_command(commands, "find-rate", run, help="find a learning rate", about=_ABOUT, example=_EXAMPLE)
    parser.add_argument("config", metavar="CONFIG", type=path, help="TOML file, as of `fastattn train`")
    parser.add_argument("-o", "--output", type=path, metavar="FILE", help="picture of the curve (.png, .pdf, .svg)")
    for name, default in (("lowest", 1e-6), ("highest", 1.0)):
        parser.add_argument(
            f"--{name}", type=number_from(0, above=True), default=default, metavar="X",
            help=f"the {name} rate (default: {default:g})",
        )  # fmt: skip
    parser.add_argument("--steps", type=at_least(10), default=100, metavar="N", help="steps (default: 100)")
    parser.add_argument("--init-from", type=path, metavar="MODEL", help="begin with this model, trained on other data")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.add_argument("--json", action="store_true", help="print the curve as one JSON object")


def run(options: argparse.Namespace) -> int:
    """Find it."""
    from fastattn import seq2seq

    if options.output:
        check_output(options.output, options.config, options.init_from)
    curve = seq2seq.find_rate(
        options.config, lowest=options.lowest, highest=options.highest, steps=options.steps,
        init_from=options.init_from, quiet=options.quiet,
    )  # fmt: skip
    if options.output:
        from fastattn import viz

        viz.save(curve.figure(), options.output)
    if options.json:
        emit(json.dumps(dataclasses.asdict(curve)))
    else:
        show(f"suggestion: {curve.suggestion:.3g}")
    return 0
