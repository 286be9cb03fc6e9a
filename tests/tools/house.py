"""Draw the house: the parts of fastattn and the files of csrc, each on the floor above what it stands on.

python tests/tools/house.py            # writes the drawings into docs/house.md
"""

import ast
import re
import textwrap
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "house.md"
ENDS = "<!-- drawn by tests/tools/house.py -->"


def python_parts():
    """What each part of the package imports at any depth, and the first line of its docstring."""
    imports, lines = {}, {}
    for path in sorted((ROOT / "fastattn").rglob("*.py*")):
        part = path.relative_to(ROOT / "fastattn").with_suffix("").parts[0]
        if path.suffix not in (".py", ".pyx") or part in ("__init__", "__main__", "_version"):
            continue
        text = path.read_text()
        imports.setdefault(part, set()).update(re.findall(r"^\s*(?:from|import) fastattn\.(\w+)", text, re.MULTILINE))
        names = re.findall(r"^\s*from fastattn import (.+)", text, re.MULTILINE)
        imports[part].update(name.split(" as ")[0] for line in names for name in line.split(", "))
        if path.suffix == ".py" and path.stem in (part, "__init__") and len(path.relative_to(ROOT).parts) < 4:
            lines[part] = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    return {part: (found & imports.keys()) - {part} for part, found in imports.items()}, lines


def c_files():
    """What each file of csrc includes of the others. The .inl files of a folder with a list of them (.def) are one."""
    files = {path: path.relative_to(ROOT / "csrc").as_posix() for path in sorted((ROOT / "csrc").rglob("*.*"))}
    for path in files:
        if path.suffix == ".inl" and any(path.parent.glob("*.def")):
            files[path] = f"{PurePosixPath(files[path]).parent}/*.inl"
    found = {name: set() for name in files.values()}
    for path, name in files.items():
        quoted = re.findall(r'^#\s*include "([^"]+)"', path.read_text(), re.MULTILINE) if path.suffix != ".def" else ()
        others = {files.get((path.parent / other).resolve()) for other in quoted}
        found[name] |= others - {name, None}
    return found


def floors(below):
    """The number of each part's floor: one more than the highest of those it stands on."""
    found = {}
    while len(found) < len(below):
        ready = [part for part in below if part not in found and below[part] <= found.keys()]
        assert ready, f"a circle among {sorted(below.keys() - found.keys())}"
        found |= {part: 1 + max((found[other] for other in below[part]), default=-1) for part in ready}
    return found


def direct(part, below):
    """What a part stands on that nothing else of what it stands on does."""
    reached = set()
    rest = [other for mine in below[part] for other in below[mine]]
    while rest:
        if (other := rest.pop()) not in reached:
            reached.add(other)
            rest += below[other]
    return sorted(below[part] - reached)


def of_python(below, lines):
    """The floors, highest first, each part with what it stands on."""
    found, rows = floors(below), []
    for number in range(max(found.values()), -1, -1):
        rows.append(f"floor {number}")
        for part in sorted(part for part in found if found[part] == number):
            on = ", ".join(direct(part, below))
            rows.append(f"  {part:<12} {'on ' + on if on else ''}".rstrip())
            if lines.get(part):
                rows += textwrap.wrap(lines[part], 118, initial_indent=" " * 15, subsequent_indent=" " * 15)
    return "\n".join(rows)


def of_c(below):
    """The floors, highest first, the files of each folder in a row."""
    found, rows = floors(below), []
    for number in range(max(found.values()), -1, -1):
        rows.append(f"floor {number}")
        here = [PurePosixPath(name) for name in sorted(found) if found[name] == number]
        for folder in sorted({path.parent for path in here}):
            names = " ".join(path.name for path in here if path.parent == folder)
            label = "" if str(folder) == "." else f"{folder}/"
            rows += textwrap.wrap(names, 118, initial_indent=f"  {label:<24}", subsequent_indent=" " * 26)
    return "\n".join(rows)


def page():
    """The text of the page with both drawings as they are now."""
    drawings = of_python(*python_parts()), of_c(c_files())
    blocks = iter(f"{ENDS}\n```text\n{drawing}\n```\n{ENDS}" for drawing in drawings)
    text = PAGE.read_text()
    return re.sub(f"{ENDS}.*?{ENDS}", lambda _: next(blocks), text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(page())
