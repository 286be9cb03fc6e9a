"""Advice that works: each `Hint:` of the package is provoked, followed, and seen to succeed.

A module of this folder holds the cases of one part of the package. `advice` adds one::

    advice(lambda key=ones(5, 4, dtype="f8"): attention(QUERY, key, VALUE), "pass {key}.", key="key.astype(np.float32)")

The first argument makes the mistake, the second is what the hint must contain. What is given by name takes the place
of the function's defaults and must succeed; a text that the hint quotes in braces is code, evaluated where the
defaults and NumPy are known. Where following takes more than other arguments, a function does it.
"""

import ast
import contextlib
import inspect
import math
import os
import re
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastattn
from fastattn import errors

PACKAGE = Path(fastattn.__file__).parent
Site = tuple[str, int, int]  # file, line and column of the call that makes the text


class Mistake(NamedTuple):
    """A mistake, what its hint contains, and what is right instead."""

    id: str
    wrong: Callable[..., object]
    hint: str
    right: Callable[[], object]


class Outcome(NamedTuple):
    message: str
    hint: str
    sites: frozenset[Site]  # whose hint it is


CASES: list[Mistake] = []


class Said(Exception):
    """What a command or a listing said, for cases in which nothing is raised."""


def advice(
    wrong: Callable[..., object], hint: str, right: Callable[[], object] | None = None, **arguments: object
) -> None:
    """Add a case."""
    assert hint
    if right is None:
        fields = set(re.findall(r"{(\w+)}", hint))
        values = {name: value for name, value in arguments.items() if name not in fields}
        code = {name: arguments[name] for name in fields}

        def right() -> object:
            defaults = {n: p.default for n, p in inspect.signature(wrong).parameters.items()}
            known = {**vars(fastattn), **wrong.__globals__, "np": np, "math": math, **defaults}
            return wrong(**values, **{name: eval(str(text), known) for name, text in code.items()})

    place = inspect.currentframe()
    while place.f_code.co_name != "<module>":
        place = place.f_back
    name = f"{Path(place.f_code.co_filename).stem}:{place.f_lineno}"
    same = sum(case.id.split("-")[0] == name for case in CASES)
    CASES.append(Mistake(f"{name}-{same}" if same else name, wrong, hint.format(**arguments), right))


def command(*words: object, read: str | bytes = "") -> str:
    """Run a command of `fastattn`; raise what it says if it fails, or else return what it prints."""
    import io

    from fastattn import cli

    out, err = io.StringIO(), io.StringIO()
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(read.encode() if isinstance(read, str) else read))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = cli.main([str(word) for word in words])
    except SystemExit as left:
        status = left.code
    finally:
        sys.stdin = before
    if status:
        raise Said(err.getvalue())
    return out.getvalue()


def write(path: str, text: str | bytes) -> str:
    """Write a file of the case's folder; return its name."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def ones(*shape: int, dtype: Any = np.float32) -> Any:
    """Return an array of ones."""
    return np.ones(shape, dtype)


def _place(frame: Any) -> Site:
    """Return the place of the call that a frame is in."""
    line, _, column, _ = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    return str(Path(frame.f_code.co_filename).relative_to(PACKAGE)), line, column


def run(case: Mistake) -> Outcome:
    """Make the mistake of a case and follow the advice, in an empty folder."""
    described: list[tuple[str, Site]] = []

    def watch(frame: Any, event: str, argument: object) -> None:
        if event == "call" and frame.f_code in (errors.describe.__code__, errors.describe_file.__code__):
            described.append((frame.f_locals["hint"], _place(frame.f_back)))

    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        os.chdir(folder)
        sys.setprofile(watch)
        try:
            case.wrong()
        except (errors.FastattnError, errors.PluginWarning, UserWarning, Said) as error:
            message = str(error)
        else:
            raise AssertionError("nothing was raised")
        finally:
            sys.setprofile(None)
            os.chdir(before)
        hint = message.partition("Hint: ")[2].strip()
        try:
            os.chdir(folder)
            case.right()
        finally:
            os.chdir(before)
    sites = {site for text, site in described if " ".join(text.split()) == " ".join(hint.split())}
    return Outcome(message, hint, frozenset(sites))


def hints_in_source() -> tuple[dict[Site, str], dict[Site, str]]:
    """Return each call in the package that makes a message, with its source; and each piece of text of a hint."""
    calls, pieces = {}, {}
    for path in sorted(PACKAGE.rglob("*.py")):
        file, text = str(path.relative_to(PACKAGE)), path.read_text()
        if file.startswith("interop"):
            continue  # adapters need packages of others, and provoke their hints in tests/interop
        tree = ast.parse(text)
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or file.startswith("_reference"):
                continue
            if call.func.id in ("describe", "describe_file"):
                calls[file, call.lineno, call.col_offset] = " ".join((ast.get_source_segment(text, call) or "").split())
                hint = call.args[-1]
                for node in _assigned(tree, hint.id) if isinstance(hint, ast.Name) else [hint]:
                    for part in ast.walk(node):
                        if isinstance(part, ast.Constant) and isinstance(part.value, str) and len(part.value) > 7:
                            pieces[file, part.lineno, part.col_offset] = part.value.strip(" .")
    # Compiled sources are not parsed; their messages are written out.
    for path in sorted(PACKAGE.rglob("*.p[yx][xi]")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for found in re.findall(r"Hint: ([^{\"\\]+)", line):
                pieces[str(path.relative_to(PACKAGE)), number, 0] = found.strip(" .")
    return calls, pieces


def _assigned(tree: ast.AST, name: str) -> Iterator[ast.expr]:
    """Yield what is assigned to a name anywhere in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id == name:
                    yield node.value
                elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    for one, value in zip(target.elts, node.value.elts):
                        if isinstance(one, ast.Name) and one.id == name:
                            yield value


def raw_error(case: Mistake, name: str, value: object) -> str:
    """Return the error of something else that a case's call raises inside fastattn with nonsense as an argument."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), contextlib.chdir(folder):
        warnings.simplefilter("ignore")
        try:
            case.wrong(**{name: value})
        except (errors.FastattnError, Said, OSError, MemoryError):
            return ""
        except Exception as error:
            files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
            ours = [place for place, file in enumerate(files) if file.startswith(str(PACKAGE))]
            cases = [place for place, file in enumerate(files) if file.startswith(str(Path(__file__).parent))]
            # A case may do something with its arguments itself, before it calls fastattn, or within it.
            return repr(error) if ours and ours[-1] > cases[-1] and ours[0] > cases[-1] else ""
    return ""
