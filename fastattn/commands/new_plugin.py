"""``fastattn new-plugin``: a package that installs, conforms and has a benchmark, to be changed into one's own."""

import argparse
import importlib.resources
import keyword
import string
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from pathlib import Path

from fastattn._printing import show
from fastattn.commands.arguments import Commands, add_command, path
from fastattn.errors import ConfigError, describe_file
from fastattn.plugin.names import NAME_HINT, fault_of

__all__ = ["KINDS", "add", "run", "write"]

KINDS = {
    "python": "a variant in plain Python, on the fused kernels",
    "numba": "a variant whose loops are Numba functions",
    "cython": "a score whose loops are compiled, on the C interface",
}


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = add_command(
        commands,
        "new-plugin",
        run,
        help="write a package that adds an attention mechanism",
        about="Write a package that adds an attention mechanism: it installs, passes the conformance kit, and has a "
        "benchmark. Change its formula into yours.",
        example="fastattn new-plugin my_attention\nfastattn new-plugin my_score --kind cython --folder ~/packages",
    )
    parser.add_argument("name", metavar="NAME", help="of the mechanism: lower case letters, digits and underscores")
    kinds = "; ".join(f"{kind}: {about}" for kind, about in KINDS.items())
    parser.add_argument("--kind", choices=tuple(KINDS), default="python", help=f"{kinds} (default: python)")
    parser.add_argument("--folder", type=path, default=Path("."), help="where to write it (default: here)")


def run(options: argparse.Namespace) -> int:
    """Write the package and say what to do with it."""
    folder = write(options.name, options.kind, options.folder)
    build = " --no-build-isolation" if options.kind == "cython" else ""
    show(
        f"{folder}: a package with {KINDS[options.kind]}.",
        "",
        f"  pip install{build} -e '{folder}[test]'",
        f"  fastattn check {options.name}",
        f"  pytest {folder}",
        f"  fastattn bench --plugin {options.name}",
    )
    return 0


def write(name: str, kind: str, folder: Path) -> Path:
    """Write the package called ``fastattn-NAME`` into a folder and return where it is.

    Raises
    ------
    ConfigError
        If the name is no name, or the package's folder exists.
    """
    wrong = f"{name!r} is no name: it is a word of Python" if keyword.iskeyword(name) else fault_of(name)
    if wrong:
        raise ConfigError(describe_file("NAME", wrong, NAME_HINT))
    distribution = f"fastattn-{name.replace('_', '-')}"
    target = folder / distribution
    if target.exists():
        raise ConfigError(describe_file(target, "exists", "choose another name, or another --folder."))
    values = {
        "name": name, "package": f"fastattn_{name}", "distribution": distribution,
        "class_name": "".join(word.capitalize() for word in name.split("_")),
    }  # fmt: skip
    for place, text in _templates(importlib.resources.files("fastattn.commands") / "templates" / kind, ""):
        place = place.replace("package/", f"fastattn_{name}/").replace("bench.py", f"bench_{name}.py")
        file = target / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(string.Template(text).substitute(values), encoding="utf-8")
    return target


def _templates(folder: Traversable, above: str) -> Iterator[tuple[str, str]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _templates(entry, f"{above}{entry.name}/")
        elif entry.name.endswith(".template"):
            yield above + entry.name.removesuffix(".template"), entry.read_text(encoding="utf-8")
