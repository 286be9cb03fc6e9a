"""What an installation contains."""

import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path

import documents
import pytest

import fastattn

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(fastattn.__file__).parent
IN_PLACE = PACKAGE == ROOT / "fastattn"
installed = pytest.mark.skipif(IN_PLACE, reason="the checkout is tested, nothing is installed")


def recorded():
    """Files that the wheel brought, as the installer recorded them."""
    files = importlib.metadata.files("fastattn") or []
    return [path for path in files if "__pycache__" not in path.parts]


def test_the_version_has_one_source():
    names = {}
    exec((ROOT / "fastattn" / "_version.py").read_text(), names)
    assert fastattn.__version__ == names["__version__"]
    assert f"## {fastattn.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"\nversion: {fastattn.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_a_package_has_one_oldest_version():
    """`tests/minimum/run` installs it."""
    found = {}
    for requirement in documents.requirements()[0]:
        name, _, version = requirement.partition(">=")
        assert version and found.setdefault(name, version) == version, requirement


@installed
def test_the_metadata():
    metadata = importlib.metadata.metadata("fastattn")
    assert metadata["Version"] == fastattn.__version__
    assert metadata["License-Expression"] == "MIT"
    needed = {line.split(">")[0] for line in importlib.metadata.requires("fastattn") if "extra ==" not in line}
    assert needed == {"numpy", "numba", "pluggy"}


@installed
def test_every_python_module_is_installed():
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "fastattn").rglob("*.py")}
    assert {path.as_posix() for path in recorded() if path.suffix == ".py"} == expected


@installed
def test_types_and_declarations_are_installed():
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "fastattn").rglob("*")
        if path.suffix in {".pyi", ".pxd", ".h"} or path.name == "py.typed"
    }
    assert "fastattn/py.typed" in expected
    assert expected <= {path.as_posix() for path in recorded()}


@installed
def test_nothing_else_is_installed():
    tops = {path.parts[0] for path in recorded() if ".." not in path.parts}
    assert tops <= {"fastattn", f"fastattn-{fastattn.__version__}.dist-info"}
    assert {path.suffix for path in recorded() if path.parts[0] == "fastattn"} <= {
        ".py", ".pyi", ".pxd", ".h", ".so", ".typed", ".html", ".css", ".js", ".template", "",
    }  # fmt: skip
    assert len([path for path in recorded() if path.suffix == ".so"]) == 1


@installed
def test_the_licence_is_installed():
    assert [path for path in recorded() if path.name == "LICENSE"]


@installed
def test_the_console_script_runs():
    script = Path(sys.executable).with_name("fastattn")
    done = subprocess.run([script, "info", "--json"], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout)["version"] == fastattn.__version__


def test_the_extension_depends_on_no_openmp_or_blas():
    from fastattn._kernels import core

    libraries = Path("/proc/self/maps")
    if not libraries.exists():
        pytest.skip("needs Linux")
    symbols = Path(core.__file__).read_bytes()
    for name in (b"libgomp", b"libomp", b"libiomp", b"cblas_", b"crtfastmath"):
        assert name not in symbols, name


def test_a_checkout_that_was_not_built_uses_numba_and_says_so_where_it_must_not(run_python, tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "fastattn", ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__"))
    code = "import fastattn; print(fastattn.show_config(as_dict=True)['backend'])"
    given = {"PYTHONPATH": str(tmp_path), "FASTATTN_ISA": None}
    assert run_python("-c", code, FASTATTN_BACKEND=None, **given).stdout == "numba\n"
    done = run_python("-c", code, check=False, FASTATTN_BACKEND="c", **given)
    assert "ImportError: fastattn: expected its compiled module" in done.stderr
    assert "Hint: " in done.stderr


def test_flush_to_zero_stays_off(run_python):
    code = "import numpy as np, fastattn; x = np.array([1e-310]); print(float((x * 0.5)[0]) > 0)"
    assert run_python("-c", code).stdout.strip() == "True"
