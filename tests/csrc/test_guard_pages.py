"""No kernel reads or writes a byte outside the arrays: they end, or start, at a page that faults when touched."""

from pathlib import Path

import pytest

from fastattn._kernels import core

SCRIPT = str(Path(__file__).resolve().parents[1] / "shared" / "guard_pages.py")


@pytest.mark.parametrize("edge", ["end", "start"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("family", [*core.SCORES, "training", "recurrent", "steps", "monotonic"])
def test_nothing_outside_the_arrays_is_touched(run_python, family, dtype, edge):
    done = run_python(SCRIPT, family, dtype, edge, check=False, FASTATTN_NUM_THREADS="1")
    lines = done.stdout.splitlines() or ["nothing"]
    assert done.returncode == 0, f"status {done.returncode} at {lines[-1]}\n{done.stderr[-2000:]}"
    assert lines[-1] == "done"


@pytest.mark.parametrize("edge", ["end", "start"])
@pytest.mark.parametrize("kind", core.KEPT)
def test_nothing_outside_rows_of_narrower_types_is_touched(run_python, kind, edge):
    done = run_python(SCRIPT, "kept", kind, edge, check=False, FASTATTN_NUM_THREADS="1")
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout[-200:]}\n{done.stderr[-2000:]}"


def test_one_byte_too_many_is_caught(run_python):
    done = run_python(SCRIPT, "planted", check=False)
    assert done.returncode != 0  # -SIGSEGV, or 1 under the address sanitizer, whose handler ends the process
    assert "Segmentation fault" in done.stderr
