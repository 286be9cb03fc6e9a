"""Stands in for the programs that documents call, where the real thing takes minutes or changes the machine.

``python documents_shell.py PROGRAM ARGUMENTS``. ``fastattn`` is the real one; its quickstart learns from a hundredth
of the words for two steps; ``pip install`` checks what it is asked for, and makes a package of Python in a folder
importable; ``python -m`` and scripts parse their arguments and end; ``pytest`` collects. What is wrong ends with an
error, as it would for who types it.
"""

import argparse
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import documents

SITE = Path(os.environ["DOCUMENTS_SITE"])


def fastattn(arguments):
    from fastattn.cli import main

    if arguments[:1] == ["quickstart"]:
        from fastattn.seq2seq.text import pronunciation

        words = pronunciation.load_dictionary()
        small = pronunciation.Dictionary(*(dict(list(part.items())[::100]) for part in vars(words).values()))
        pronunciation.load_dictionary = lambda: small
        arguments = [*arguments, "--steps", "2"]
    return main(arguments)


def pip(arguments):
    parser = argparse.ArgumentParser("pip")
    parser.add_argument("command", choices=["install"])
    parser.add_argument("-e", "--editable", action="append", default=[])
    parser.add_argument("-r", "--requirement", action="append", default=[])
    parser.add_argument("--no-build-isolation", action="store_true")
    parser.add_argument("wanted", nargs="*")
    options = parser.parse_args(arguments)
    known, extras = documents.requirements()
    for file in options.requirement:
        if not (documents.ROOT / file).is_file():
            return f"there is no {file}"
    for wanted in [*options.wanted, *options.editable]:
        place, _, asked = wanted.rstrip("]").partition("[")
        folder = Path(place)
        if place == "fastattn" or (place == "." and Path.cwd() == documents.ROOT):
            missing = set(filter(None, asked.split(","))) - set(extras)
        elif folder.is_dir():
            missing = set(filter(None, asked.split(","))) - set(install(folder))
        else:
            names = {re.split("[<>=]", one)[0] for one in known}
            missing = {wanted} - known - names
        if missing:
            return f"{wanted}: pyproject.toml has no {missing}"
    return 0


def install(folder):
    """Make a package of Python importable, with its entry points; return its extras."""
    content = documents.project(folder)["project"]
    info = SITE / f"{content['name'].replace('-', '_')}-{content['version']}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {content['name']}\nVersion: {content['version']}\n")
    lines = [f"{name} = {place}" for name, place in content["entry-points"]["fastattn.plugins"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[fastattn.plugins]", *lines, ""]))
    for place in content["entry-points"]["fastattn.plugins"].values():
        if not (SITE / place).exists():
            (SITE / place).symlink_to((folder / place).resolve())
    return content["optional-dependencies"]


class Parsed(Exception):
    pass


def python(arguments):
    if arguments[:2] == ["-m", "venv"]:
        Path(arguments[2], "bin").mkdir(parents=True)
        Path(arguments[2], "bin", "activate").write_text("")
        return 0
    if arguments[:2] == ["-m", "pytest"]:
        return pytest(arguments[2:])
    os.chdir(documents.ROOT)
    sys.path.append(str(documents.ROOT))  # behind the fastattn under test
    original = argparse.ArgumentParser.parse_args

    def parse(self, *given, **options):
        original(self, *given, **options)
        raise Parsed

    argparse.ArgumentParser.parse_args = parse
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        elif arguments[0] == "setup.py":
            return 0 if arguments[1:] == ["build_ext", "--inplace"] else f"setup.py is not run with {arguments[1:]}"
        else:
            text = Path(arguments[0]).read_text()
            if "ArgumentParser" not in text:  # it reads sys.argv itself
                compile(text, arguments[0], "exec")
                return 0
            sys.argv = arguments
            sys.path.insert(0, str(Path(arguments[0]).parent))
            runpy.run_path(arguments[0], run_name="__main__")
    except Parsed:
        return 0
    return f"{arguments} parsed no arguments"


def pytest(arguments):
    here = Path.cwd()
    plugin = next((one for one in here.iterdir() if (one / "pyproject.toml").is_file()), None)
    if plugin is not None and not any(one.startswith("benchmarks/") for one in arguments[:1]):
        arguments = arguments or [str(plugin)]
    elif plugin is None and not (here / "pyproject.toml").is_file():
        os.chdir(documents.ROOT)
    arguments = [one for one in arguments if one != "--benchmark-autosave"]  # it warns where nothing is run
    if not any(Path(one.partition("::")[0]).exists() for one in arguments) and Path.cwd() == documents.ROOT:
        arguments = [*arguments, "tests/test_errors.py"]  # options are tried; what runs this has collected all tests
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if collected.returncode:
        print(collected.stdout[-3000:], file=sys.stderr)
    return collected.returncode


def bash(arguments):
    return subprocess.run(["/bin/bash", "-n", str(documents.ROOT / arguments[0])]).returncode


if __name__ == "__main__":
    sys.exit(globals()[sys.argv[1]](sys.argv[2:]))
