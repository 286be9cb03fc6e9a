"""What lies in memory is not what is computed with: all kernels on arrays of other types, in float32.

``stored.c`` calls them and prints what they write. Stored as float64 (``wide.h``), numbers are those of float32
arrays, to the bit; as bfloat16 (``bfloat16.h``), near them. Both types are structures, and pointers of ``kernels.h``
have types: a kernel that takes one of them for a number, or its address for that of numbers, does not compile.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
OF_LEVELS = ("capi.c", "levels.c", "stateless.c", "xla.c")
RUN = [path for path in sorted(CSRC.glob("run/*.c")) if path.name not in OF_LEVELS]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What stored.c prints of a storage type: names, each with its numbers."""
    if shutil.which("gcc") is None:
        pytest.skip("needs GCC, as building does")
    folder = tmp_path_factory.mktemp("stored")
    known = {}

    def of(storage):
        if storage in known:
            return known[storage]
        program = folder / storage
        command = ["gcc", "-std=gnu11", "-O0", "-Wno-psabi", "-Werror=incompatible-pointer-types",
                   "-Werror=int-conversion", "-ffp-contract=off", "-pthread", f"-I{CSRC}", HERE / "stored.c", *RUN,
                   "-lm", "-o", program]  # fmt: skip
        if storage != "real":
            command.append(f'-DFA_STORED="{HERE / storage}.h"')
        sanitizers = ["-fsanitize=address"] if storage == "bfloat16" else []
        done = subprocess.run([*command, *sanitizers], capture_output=True, text=True, timeout=600)
        if done.returncode and "san" in done.stderr and "cannot find" in done.stderr:  # a GCC without its libraries
            done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
        environment.pop("LD_PRELOAD", None)
        done = subprocess.run([program], env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        lines = (line.split() for line in done.stdout.splitlines())
        known[storage] = [(name, np.array([float.fromhex(x) for x in numbers])) for name, *numbers in lines]
        return known[storage]

    return of


def test_numbers_that_are_stored_as_others_are_the_same(written):
    ours, theirs = written("real"), written("wide")
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    for (name, x), (_, y) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(x, y, err_msg=name)


def test_numbers_that_are_rounded_when_they_are_stored_are_near(written):
    ours, theirs = written("real"), written("bfloat16")
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    for (name, x), (_, y) in zip(ours, theirs, strict=True):
        finite = np.isfinite(x)
        np.testing.assert_array_equal(np.isfinite(y), finite, err_msg=name)
        # 2^-8 of each number, and as much of the few that it was made of; weights were scores before, of up to 8.
        np.testing.assert_allclose(
            y[finite], x[finite], rtol=0, atol=2.0**-5 * np.abs(x[finite]).max(initial=0), err_msg=name
        )


def test_nothing_that_takes_kernels_is_left_out():
    stored = (HERE / "stored.c").read_text()
    run = "".join(path.read_text() for path in RUN)
    entries = re.findall(r"\b(fa_\w+)\(const fa_kernels \*", (CSRC / "run" / "run.h").read_text())
    kernels = re.findall(r"^KERNEL\(\w+, (\w+),", (CSRC / "kernels.def").read_text(), re.M)
    assert len(entries) > 25 and len(kernels) > 50
    entries = [name for name in entries if not name.endswith("_on_tiles")]  # of bfloat16, whatever is stored elsewhere
    assert [name for name in entries if not re.search(rf"\b{name}\b", stored)] == []
    assert [name for name in kernels if not re.search(rf"\bk->{name}\b", run + stored.replace("RUN(", "k->"))] == []


def test_pointers_have_types():
    """Memory without a type is a workspace's, and what has one is not taken for another."""
    for name in ("kernels.def", "kernels.h"):
        untyped = set(re.findall(r"void \*(\w+)", (CSRC / name).read_text()))
        # d_bias: of float64 where d_bias_wide; const: a list of a user's parameters, whose types his compiled code has
        assert untyped <= {"workspace", "d_bias", "const"}, name
    cast = re.compile(r"\((?:const )?(?:real|element) \*\)")
    found = {path.name for path in CSRC.rglob("*.*") for line in path.read_text().splitlines() if cast.search(line)}
    assert found <= {"backward.inl", "entmax.inl"}  # d_bias; the row's workspace
