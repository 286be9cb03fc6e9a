"""Every other instruction-set level that this machine has passes a part of the case table; exp is measured on all."""

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import fastattn
from fastattn._kernels import core

TESTS = Path(__file__).resolve().parents[1]
SCRIPT = str(TESTS / "shared" / "level_subset.py")
CONFIG = fastattn.show_config(as_dict=True)
# Levels that have another's kernels; products of the last two are in test_tiles.py.
KERNELS = {"avx512bf16": "avx512", "amx": "avx512", "amx_model": "generic"}
ACTIVE = KERNELS.get(CONFIG["level"], CONFIG["level"])  # what the rest of the suite runs on
USABLE = [level for level in CONFIG["levels_built"] if level in CONFIG["levels_cpu"]]
OTHERS = [level for level in USABLE if level not in (ACTIVE, *KERNELS)]


@pytest.mark.parametrize("level", OTHERS)
def test_cases_at_a_forced_level(run_python, level):
    done = run_python(SCRIPT, level, check=False, FASTATTN_ISA=level)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("level", [ACTIVE, *OTHERS])
def test_exp_at_a_forced_level(run_python, level):
    script = str(TESTS / "tools" / "exhaustive_exp.py")
    done = run_python(script, "--step", "4099", check=False, FASTATTN_ISA=level)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("level", OTHERS)
@pytest.mark.parametrize("edge", ["end", "start"])
@pytest.mark.parametrize("family", [*core.SCORES, "training", "steps", "monotonic"])
def test_guard_pages_at_a_forced_level(run_python, level, family, edge):
    script = str(TESTS / "shared" / "guard_pages.py")
    done = run_python(script, family, "float32", edge, check=False, FASTATTN_ISA=level, FASTATTN_NUM_THREADS="1")
    assert done.returncode == 0, f"{done.stdout.splitlines()[-1:]}\n{done.stderr[-2000:]}"


def test_the_compiler_fused_no_sums_of_products():
    """GCC 12 does in spite of -ffp-contract=off, where neighbours add and subtract as in a complex product."""
    if shutil.which("objdump") is None or platform.machine() != "x86_64":
        pytest.skip("reads the object code of x86-64, by objdump")
    code = subprocess.run(["objdump", "-d", core.__file__], capture_output=True, text=True, check=True).stdout
    assert not re.findall(r"vfm(?:addsub|subadd)\w+", code)
