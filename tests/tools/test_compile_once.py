"""What `.ci/run` compiles with: the same object as the compiler's, and a kept one only where nothing has changed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("compile_once.py")
FLAGS = ("-O1", "-Wall", "-DNAME=two", "-Iheaders", "-MMD")

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs GCC, as building does"),
    pytest.mark.skipif("FASTATTN_SANITIZE" in os.environ, reason="other programs lack the sanitizers' libraries"),
]


class Sources:
    """A file that includes a header, and a compiler that notes what it was called for."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "headers").mkdir()
        (folder / "headers" / "h.h").write_text("#define VALUE 3\n")
        (folder / "a.c").write_text('#include "h.h"\nint NAME(void) { return VALUE; }\n')
        compiler = folder / "compiler"
        compiler.write_text(f'#!/bin/sh\necho "$*" >>"{folder}/calls"\nexec gcc "$@"\n')
        compiler.chmod(0o755)

    def compile(self, *flags, target="a.o"):
        """Compile; return how often the compiler made an object, its exit status and what it said."""
        (self.folder / "calls").write_text("")
        command = [sys.executable, "-ISs", PROGRAM, "kept", self.folder / "compiler", *flags, "-c", "a.c", "-o", target]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        calls = (self.folder / "calls").read_text().splitlines()
        return sum("-E" not in call.split() and "-c" in call.split() for call in calls), done.returncode, done.stderr

    def read(self, name):
        return (self.folder / name).read_bytes()


@pytest.fixture
def sources(tmp_path):
    made = Sources(tmp_path)
    assert made.compile(*FLAGS) == (1, 0, "")
    return made


def test_the_same_text_is_compiled_once_to_the_same_object(sources):
    assert sources.compile(*FLAGS, target="b.o") == (0, 0, "")
    subprocess.run(["gcc", *FLAGS, "-c", "a.c", "-o", "plain.o"], cwd=sources.folder, check=True)
    assert sources.read("b.o") == sources.read("a.o") == sources.read("plain.o")
    headers = [sources.read(f"{name}.d").split(b":", 1) for name in ("b", "plain")]
    assert [target for target, _ in headers] == [b"b.o", b"plain.o"]
    assert headers[0][1].split() == headers[1][1].split() == [b"a.c", b"headers/h.h"]


def test_a_header_that_changed_is_read(sources):
    (sources.folder / "headers" / "h.h").write_text("#define VALUE 4\n")
    before = sources.read("a.o")
    assert sources.compile(*FLAGS) == (1, 0, "")
    assert sources.read("a.o") != before


@pytest.mark.parametrize("flags", [("-O2", *FLAGS[1:]), (*FLAGS, "-fPIC"), (*FLAGS[:2], "-DNAME=three", *FLAGS[3:])])
def test_other_options_make_another_object(sources, flags):
    assert sources.compile(*flags) == (1, 0, "")


def test_another_compiler_makes_another_object(sources):
    text = (sources.folder / "compiler").read_text()
    (sources.folder / "compiler").write_text(text.replace("exec", '[ "$*" != -v ] || echo version 2 >&2\nexec'))
    assert sources.compile(*FLAGS) == (1, 0, "")


def test_lines_for_a_debugger_are_made_every_time(sources):
    for _ in range(2):
        assert sources.compile(*FLAGS, "-g")[0] == 1
    assert [sources.compile(*FLAGS, "-g", "-g0")[0] for _ in range(2)] == [1, 0]


def test_a_warning_is_said_every_time(sources):
    made, status, said = sources.compile(*FLAGS, "-DVALUE=5")  # the header defines it anew: the same text
    assert made == 1 and status == 0 and "VALUE" in said
    (sources.folder / "a.c").write_text("int f(void) { int unused; return 3; }\n")
    for _ in range(2):
        made, status, said = sources.compile(*FLAGS)
        assert made == 1 and status == 0 and "unused" in said


def test_an_error_is_the_compilers(sources):
    (sources.folder / "a.c").write_text("int f(void) { return none; }\n")
    for _ in range(2):
        made, status, said = sources.compile(*FLAGS, target="c.o")
        assert made == 1 and status == 1 and "none" in said and not (sources.folder / "c.o").exists()
