"""What README, docs, templates and the help of commands tell people to type: fenced blocks, spans and examples."""

import re
import shlex
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / "fastattn" / "commands" / "templates").glob("*/README.md.template"))
PAGES = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "benchmarks").rglob("*.md")), *sorted((ROOT / "tests").rglob("*.md")), *TEMPLATES,
]  # fmt: skip
PROGRAMS = ("fastattn", "pip", "pytest", "python", "bash", ".")

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def text_of(page):
    return page.read_text().replace("$name", "my_attention").replace("$package", "fastattn_my_attention")


def blocks(page, language):
    """Return the fenced blocks of one language; those without one are ""."""
    return [content for found, content in _FENCE.findall(text_of(page)) if found == language]


def scripts(page):
    """Return the blocks that are for a shell: those without a language whose first word is a program."""
    found = []
    for block in blocks(page, ""):
        lines = [line for line in block.splitlines() if line.strip()]
        if lines and program(lines[0]) in PROGRAMS:
            assert all(program(line) in PROGRAMS for line in lines), f"{name_of(page)}: not all are commands: {lines}"
            found.append(block)
    return found


def spans(page):
    """Return the commands in the running text: spans of code whose first word is a program, with a second word."""
    plain = _FENCE.sub("", text_of(page))
    found = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", plain)]
    return [
        span for span in dict.fromkeys(found) if " " in span and program(span) in PROGRAMS[:5] and "..." not in span
    ]


def program(line):
    """Return the program that a line calls, without variables before it."""
    words = shlex.split(line, comments=True)
    return next((word for word in words if not re.fullmatch(r"[A-Z_]+=.*", word)), "")


def project(folder=ROOT):
    """Return pyproject.toml of a folder."""
    return tomllib.loads((folder / "pyproject.toml").read_text())


def requirements():
    """Return everything that pyproject.toml asks for, and its extras."""
    content = project()
    extras = content["project"]["optional-dependencies"]
    wanted = {*content["build-system"]["requires"], *content["project"]["dependencies"]}
    return wanted.union(*extras.values()), extras
