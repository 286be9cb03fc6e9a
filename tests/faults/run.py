"""Planted faults: shows that the tests notice what they are there to notice.

The faults of a file stand under its name in ``<path of the file>.toml``. Each breaks the library in one way: a piece
of text that the file has exactly once is replaced by another, so that a change beside it does not matter::

    [[fault]]
    name = 'causal-one-key-too-far'
    breaks = 'the causal limit is one key too far'
    tests = 'tests/attention/test_semantics.py -k causal'
    find = '''row + 1'''
    put = '''row + 2'''

A fault of several places has a ``[[fault.change]]`` with ``find`` and ``put`` for each, ``file`` too if another.
The tree is copied, built and tested unbroken; then every fault in turn is planted in the copy, the copy is rebuilt in
place, and the tests that the fault names must fail.

Use:
    python tests/faults/run.py [--levels avx512,generic] [--timeout 600] [NAME or FILE ...]

FILE is the start of a path: all faults of csrc/, say. The exit status is 0 when every fault was caught, 1 when one
survived, 2 when a text is not there exactly once, the tree does not build, or its tests fail without the fault.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "*.so", "*.egg-info", "__pycache__", ".*_cache", "core.c"
)

CAUGHT, SURVIVED, BROKEN = "caught", "SURVIVED", "ERROR"


class Change(NamedTuple):
    """A text of a file, of which there must be one, and what is put in its place."""

    file: str
    find: str
    put: str

    def plant(self, root):
        """Replace the text, and return the file's as it was; a ValueError unless the text is there once."""
        path = root / self.file
        text = path.read_text()
        if text.count(self.find) != 1:
            raise ValueError(f"{self.file}: expected this once, it is there {text.count(self.find)} times: {self.find}")
        path.write_text(text.replace(self.find, self.put))
        return text


class Fault(NamedTuple):
    name: str
    what: str
    tests: tuple[str, ...]
    changes: tuple[Change, ...]


def read_faults(path, broken):
    """Return the faults of the file `broken`, which a TOML file describes; what is missing there is a ValueError."""
    faults = []
    for row in tomllib.loads(path.read_text())["fault"]:
        changes = row.get("change", [{key: row[key] for key in ("find", "put") if key in row}])
        name = f"{path.name}: {row.get('name')}"
        if missing := {"name", "breaks", "tests"} - set(row):
            raise ValueError(f"{name}: {', '.join(sorted(missing))} missing")
        if any(not {"find", "put"} <= set(change) or change["find"] == change["put"] for change in changes):
            raise ValueError(f"{name}: expected find and put, and a difference between them")
        found = tuple(Change(change.get("file", broken), change["find"], change["put"]) for change in changes)
        faults.append(Fault(row["name"], row["breaks"], tuple(shlex.split(row["tests"])), found))
    return faults


def all_faults():
    """Return every fault, by the path of the file that it breaks."""
    paths = {path.relative_to(HERE).with_suffix("").as_posix(): path for path in sorted(HERE.rglob("*.toml"))}
    return {broken: read_faults(path, broken) for broken, path in paths.items()}


class Tree:
    """A copy of the project that can be built, tested and broken."""

    def __init__(self, root, levels, timeout):
        self.root = root
        self.timeout = timeout
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(root),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        if levels:
            self.environment["FASTATTN_BUILD_LEVELS"] = levels

    def run(self, *command):
        return subprocess.run(
            command,
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=self.timeout,
        )

    def build(self):
        return self.run(sys.executable, "setup.py", "-q", "build_ext", "--inplace")

    def test(self, arguments):
        return self.run(sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider", *arguments)


def first_failure(output):
    for line in output.splitlines():
        if line.startswith(("FAILED ", "ERROR ")):
            return line.split(" ", 1)[1].split(" - ")[0]
    return "?"


def judge(tree, fault):
    """Plant one fault, look whether its tests fail, take it out again; return the verdict and a detail."""
    before = {}
    try:
        for change in fault.changes:
            text = change.plant(tree.root)
            before.setdefault(change.file, text)
        built = tree.build()
        if built.returncode:
            return BROKEN, "does not build: " + first_error(built.stdout)
        try:
            done = tree.test(fault.tests)
        except subprocess.TimeoutExpired:
            return CAUGHT, f"no end within {tree.timeout} s"
        if done.returncode == 0 and " passed" not in last_line(done.stdout):
            return BROKEN, "its tests were skipped: " + last_line(done.stdout)
        if done.returncode == 0:
            return SURVIVED, "all of its tests passed"
        if done.returncode == 1:
            return CAUGHT, first_failure(done.stdout)
        if done.returncode < 0 or done.returncode > 128:
            return CAUGHT, f"the interpreter died (status {done.returncode})"
        return BROKEN, f"pytest status {done.returncode}: " + last_line(done.stdout)
    except ValueError as error:
        return BROKEN, str(error)
    finally:
        for file, text in before.items():
            (tree.root / file).write_text(text)


def first_error(text):
    return next((line for line in text.splitlines() if "error:" in line), last_line(text))


def last_line(text):
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def report(rows):
    """Print the table: fault, what it breaks, verdict, caught by."""
    rows = [("fault", "breaks", "verdict", "caught by"), *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[3]]).rstrip())


def examine(tree, faults):
    """Return the exit status after planting every fault in a tree that is sound without them."""
    built = tree.build()
    if built.returncode:
        print(built.stdout, "\nThe unbroken tree does not build.", sep="", file=sys.stderr)
        return 2
    for arguments in sorted({fault.tests for fault in faults}):
        done = tree.test(arguments)
        if done.returncode:
            failing = shlex.join(arguments)
            print(done.stdout, f"\nWithout a fault, this fails: pytest {failing}", sep="", file=sys.stderr)
            return 2
    rows = []
    for fault in faults:
        verdict, detail = judge(tree, fault)
        rows.append((fault.name, fault.what, verdict, detail))
        print(f"{fault.name}: {verdict}, {detail}", file=sys.stderr, flush=True)
    report(rows)
    verdicts = [row[2] for row in rows]
    print(f"\n{verdicts.count(CAUGHT)} of {len(rows)} caught")
    return 2 if BROKEN in verdicts else int(SURVIVED in verdicts)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="faults, or starts of paths (default: all)")
    parser.add_argument("--levels", help="build only these levels, which is quicker")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one build or one test run")
    options = parser.parse_args(argv)
    known = all_faults()
    faults = [fault for found in known.values() for fault in found]
    if options.names:
        chosen = [fault for fault in faults if fault.name in options.names]
        for name in set(options.names) - {fault.name for fault in chosen}:
            there = [fault for file, found in known.items() if file.startswith(name) for fault in found]
            if not there:
                parser.error(f"no fault and no file with faults is called {name}")
            chosen += [fault for fault in there if fault not in chosen]
        faults = chosen
    with tempfile.TemporaryDirectory(prefix="fastattn-faults-") as folder:
        copy = Path(folder, "tree")
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
        return examine(Tree(copy, options.levels, options.timeout), faults)


if __name__ == "__main__":
    raise SystemExit(main())
