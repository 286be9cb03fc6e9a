"""ThreadSanitizer and valgrind report nothing: run as ``python -m pytest tests/sanitize/tools.py``.

Planted faults run it too; `.ci/run` calls the script itself.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize(("what", "tool"), [("threads", "gcc"), ("memory", "valgrind")])
def test_nothing_is_reported(what, tool):
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool}")
    done = subprocess.run(["bash", HERE / "run", what], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
