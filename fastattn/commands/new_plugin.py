"""``fastattn new-plugin``: a package that installs, conforms and has a benchmark, to be changed into one's own."""

import argparse
import importlib.resources
import keyword
import re
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
    "python": "a score in plain Python, on the fused kernels",
    "score": "a score that is a Python function, compiled into the fused kernels with its derivative",
    "numba": "a variant whose loops are Numba functions",
    "cython": "a score whose loops are compiled, on the C interface",
}
# What a compiled package is built with, besides the fastattn that it is built against.
TOOLS = "pip install 'setuptools>=77.0.1' 'cython>=3.1'"


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
    compiled = options.kind == "cython"
    show(
        f"{folder}: a package with {KINDS[options.kind]}.",
        "",
        *([f"  {TOOLS}"] if compiled else []),
        f"  pip install{' --no-build-isolation' if compiled else ''} -e '{folder}[test]'",
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
        If no package can have the name, or its folder exists.
    """
    folders = importlib.resources.files("fastattn.commands") / "templates"
    templates = {**dict(_templates(folders / "every", "")), **dict(_templates(folders / kind, ""))}
    class_name = "".join(word.capitalize() for word in name.split("_"))
    wrong = fault_of(name) or _taken(name, class_name, "\n".join(templates.values()))
    if wrong:
        raise ConfigError(describe_file("NAME", wrong, f"{NAME_HINT[:-1]}, my_attention, say."))
    distribution = f"fastattn-{name.replace('_', '-')}"
    target = folder / distribution
    if target.exists():
        raise ConfigError(describe_file(target, "exists", "choose another name, or another --folder."))
    values = {
        "name": name, "package": f"fastattn_{name}", "distribution": distribution,
        "class_name": class_name,
    }  # fmt: skip
    for place, text in templates.items():
        place = place.replace("package/", f"fastattn_{name}/").replace("bench.py", f"bench_{name}.py")
        file = target / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(string.Template(text).substitute(values), encoding="utf-8")
    return target


def _taken(name: str, class_name: str, templates: str) -> str:
    """Return why no package can have a name that is well formed, or nothing."""
    if not all(name.split("_")) or not name[0].isalpha():
        return f"{name!r} is not a valid name of a package: it begins, ends or has a gap with an underscore"
    if keyword.iskeyword(name) or keyword.iskeyword(class_name):
        return f"{name!r} is not a valid name: {name if keyword.iskeyword(name) else class_name} is a word of Python"
    from fastattn.plugin.manager import built_in

    if any(name in names for provider in built_in() for names in provider.records.values()):
        return f"{name!r} is no new name: fastattn has one, which a plugin does not replace"
    # The class of that name would hide what it is made from.
    used = {part for line in re.findall("^from .* import (.*)$", templates, re.MULTILINE) for part in line.split(", ")}
    return f"{name!r} is not a valid name: {class_name} is what the package is made from" if class_name in used else ""


def _templates(folder: Traversable, above: str) -> Iterator[tuple[str, str]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _templates(entry, f"{above}{entry.name}/")
        elif entry.name.endswith(".template"):
            yield above + entry.name.removesuffix(".template"), entry.read_text(encoding="utf-8")
