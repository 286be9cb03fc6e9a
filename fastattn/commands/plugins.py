"""``fastattn plugins``: who provides what, and what is wrong with those that do not work."""

import argparse
import json
import warnings

from fastattn._printing import emit, show
from fastattn.commands.arguments import Commands, add_command
from fastattn.errors import PluginWarning
from fastattn.plugin.manager import providers

__all__ = ["add", "run"]


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = add_command(
        commands,
        "plugins",
        run,
        help="list what plugins provide",
        about="List the plugins that are installed, what they provide, and what is wrong with those that do not work. "
        "FASTATTN_PLUGINS=a,b loads only these; empty: none.",
        example="fastattn plugins --json",
    )
    parser.add_argument("--json", action="store_true", help="as one JSON array")


def run(options: argparse.Namespace) -> int:
    """Print one block for each provider."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)  # the list says the same
        rows = [provider.to_dict() for provider in providers()]
    if options.json:
        emit(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        package = f"{row['distribution']} {row['version']}".strip() or "fastattn"
        show(f"{row['name']:<20} {row['status']:<9} {package}")
        if row["problem"]:
            show(f"  {row['problem']}")
        for family, names in row["provides"].items():
            show(f"  {family}: {', '.join(names)}")
    return 0
