"""The planted faults are in order: each says what it breaks, names tests that exist, and still applies."""

import shutil
import subprocess
from pathlib import Path

import pytest
from faults.run import HERE, ROOT, read_fault

PATCHES = sorted(HERE.glob("*.patch"))


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_a_patch_is_in_order(path):
    fault = read_fault(path)
    files = [argument for argument in fault.tests if argument.startswith("tests/")]
    assert files
    assert not [name for name in files if not (ROOT / name.partition("::")[0]).exists()]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_a_patch_applies(path):
    done = subprocess.run(["git", "apply", "--check", path], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", ["", "# tests: tests/test_x.py\n", "# fault: x\n", "diff\n# fault: x\n# tests: y\n"])
def test_a_header_is_required(tmp_path, text):
    path = Path(tmp_path, "bad.patch")
    path.write_text(text)
    with pytest.raises(ValueError, match="expected a header line"):
        read_fault(path)
