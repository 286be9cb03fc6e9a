"""Planted faults: shows that the tests notice what they are there to notice.

Each ``*.patch`` beside this file breaks the library in one way. The tree is copied, built and tested unbroken; then
every patch in turn is applied to the copy, the copy is rebuilt in place, and the tests that the patch names must fail.
A patch is a ``git diff`` under a header of two comment lines::

    # fault: the causal limit is one key too far
    # tests: tests/test_semantics.py -k causal

Use:
    python tests/faults/run.py [--levels avx512,generic] [--timeout 600] [NAME ...]

The exit status is 0 when every fault was caught, 1 when one survived, 2 when a patch is stale, does not build, or its
tests fail without it.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "*.so", "*.egg-info", "__pycache__", ".*_cache", "core.c"
)

CAUGHT, SURVIVED, BROKEN = "caught", "SURVIVED", "ERROR"


class Fault(NamedTuple):
    path: Path
    what: str
    tests: tuple[str, ...]


def read_fault(path):
    """Return the fault that a patch file describes; a missing header line is a ValueError."""
    header = {}
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        key, _, value = line.lstrip("# ").partition(":")
        header[key.strip()] = value.strip()
    for key in ("fault", "tests"):
        if not header.get(key):
            raise ValueError(f"{path.name}: expected a header line '# {key}: ...'")
    return Fault(path, header["fault"], tuple(shlex.split(header["tests"])))


class Tree:
    """A copy of the project that can be built, tested and patched."""

    def __init__(self, root, levels, timeout):
        self.root = root
        self.timeout = timeout
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(root),
            "PYTHONDONTWRITEBYTECODE": "1",
            "GIT_CEILING_DIRECTORIES": str(root.parent),  # git apply is to see a plain folder
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

    def patch(self, path, *options):
        return self.run("git", "apply", "--whitespace=nowarn", *options, str(path))


def first_failure(output):
    for line in output.splitlines():
        if line.startswith(("FAILED ", "ERROR ")):
            return line.split(" ", 1)[1].split(" - ")[0]
    return "?"


def judge(tree, fault):
    """Plant one fault, look whether its tests fail, take it out again; return the verdict and a detail."""
    planted = tree.patch(fault.path)
    if planted.returncode:
        return BROKEN, "the patch does not apply: " + last_line(planted.stdout)
    try:
        built = tree.build()
        if built.returncode:
            return BROKEN, "does not build: " + first_error(built.stdout)
        try:
            done = tree.test(fault.tests)
        except subprocess.TimeoutExpired:
            return CAUGHT, f"no end within {tree.timeout} s"
        if done.returncode == 0:
            return SURVIVED, "all of its tests passed"
        if done.returncode == 1:
            return CAUGHT, first_failure(done.stdout)
        if done.returncode < 0 or done.returncode > 128:
            return CAUGHT, f"the interpreter died (status {done.returncode})"
        return BROKEN, f"pytest status {done.returncode}: " + last_line(done.stdout)
    finally:
        tree.patch(fault.path, "-R")


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
        rows.append((fault.path.stem, fault.what, verdict, detail))
        print(f"{fault.path.stem}: {verdict}, {detail}", file=sys.stderr, flush=True)
    report(rows)
    verdicts = [row[2] for row in rows]
    print(f"\n{verdicts.count(CAUGHT)} of {len(rows)} caught")
    return 2 if BROKEN in verdicts else int(SURVIVED in verdicts)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="patches without suffix (default: all)")
    parser.add_argument("--levels", help="build only these levels, which is quicker")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one build or one test run")
    options = parser.parse_args(argv)
    known = {path.stem: path for path in sorted(HERE.glob("*.patch"))}
    unknown = set(options.names) - set(known)
    if unknown:
        parser.error(f"no such patch: {', '.join(sorted(unknown))}")
    faults = [read_fault(known[name]) for name in options.names or known]
    if not faults:
        parser.error("there are no patches")
    with tempfile.TemporaryDirectory(prefix="fastattn-faults-") as folder:
        copy = Path(folder, "tree")
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
        return examine(Tree(copy, options.levels, options.timeout), faults)


if __name__ == "__main__":
    raise SystemExit(main())
