"""The C files: each opens by itself, levels are asked for in their own files alone, kernels are in one list."""

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fastattn._kernels import core

CSRC = Path(__file__).resolve().parents[2] / "csrc"
FILES = sorted(path for path in CSRC.rglob("*") if path.suffix in (".c", ".h", ".inl"))
OF_ONE_MACHINE = {"avx2.h": "x86_64", "avx512.h": "x86_64", "neon.h": "aarch64"}
KERNEL = re.compile(r"^KERNEL\(\w+, (\w+),", re.M)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs GCC, as building does")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CSRC).as_posix())
def test_a_file_opens_by_itself(path):
    if OF_ONE_MACHINE.get(path.name, platform.machine()) != platform.machine():
        pytest.skip("has the instructions of another machine")
    done = subprocess.run(
        ["gcc", "-x", "c", "-fsyntax-only", "-std=c11", "-Wall", "-Wno-psabi", "-Wno-unused-function", "-Werror", path],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_levels_are_asked_for_in_their_own_files():
    asked = re.compile(r"^ *# *(?:if|elif|ifdef|ifndef).*\b(?:FA_LEVEL|__AVX|__ARM_NEON|__x86_64__|__aarch64__)", re.M)
    found = {path.relative_to(CSRC).as_posix() for path in FILES if asked.search(path.read_text())}
    # vec/avx512.h: what levels/tiles.c may use beside it where the level has bfloat16.
    assert found <= {"levels/level.c", "levels/tiles.c", "run/levels.c", "run/pool.c", "vec/avx512.h"}


def test_kernels_are_listed_once_and_their_files_are_included():
    names = KERNEL.findall((CSRC / "kernels.def").read_text())
    assert len(names) > 50 and len(set(names)) == len(names)
    kernels = "".join(path.read_text() for path in FILES if path.suffix == ".inl")
    for name in names:
        assert len(re.findall(rf"^FA_FUNC [^;{{]*\b{name}\(", kernels, re.M)) == 1, name


def test_names_of_what_leaves_a_file():
    """What a compiled file defines for others begins with fa_; passes are forward and backward, in no other words."""
    defined = [
        name
        for path in CSRC.glob("run/*.c")
        for name in re.findall(r"^(?!static|#)[\w ]+[ *](\w+)\([^;]*?\) \{", path.read_text(), re.M)
    ]
    declared = re.findall(r"^[a-z][\w ]+[ *](\w+)\(", (CSRC / "run" / "run.h").read_text(), re.M)
    assert len(defined) > 30 and set(declared) <= set(defined)
    assert [name for name in defined if not name.startswith("fa_")] == []
    names = [*KERNEL.findall((CSRC / "kernels.def").read_text()), *declared, *vars(core)]
    assert [name for name in names if re.search(r"\w_(?:back|vjp|fwd|bwd|run|grad|gradients?)$", name)] == []
