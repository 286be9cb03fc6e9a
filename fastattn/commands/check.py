"""``fastattn check``: the conformance kit for an installed plugin."""

import argparse
import json

from fastattn._printing import emit, show
from fastattn.commands.arguments import Commands, add_command
from fastattn.commands.failure import FAILED
from fastattn.testing import check_plugin

__all__ = ["add", "run"]


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = add_command(
        commands,
        "check",
        run,
        help="check a plugin against what fastattn promises",
        about="Check everything that a plugin provides: shapes, masks, padding, gradients, the same bits. The names of "
        "our own are fastattn.scores and fastattn.variants. Exits with 1 if a check fails.",
        example="fastattn check my_plugin",
    )
    parser.add_argument("plugin", metavar="PLUGIN", help="name of a plugin or of its distribution")
    parser.add_argument("--json", action="store_true", help="as one JSON array of certificates")


def run(options: argparse.Namespace) -> int:
    """Print the certificates."""
    certificates = check_plugin(options.plugin)
    if options.json:
        emit(json.dumps([certificate.to_dict() for certificate in certificates], indent=2))
    else:
        show(*"\n\n".join(str(certificate) for certificate in certificates).split("\n"))
    return 0 if all(certificate.passed for certificate in certificates) else FAILED
