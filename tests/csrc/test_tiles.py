"""The matrix unit and its model in C: the same bits, from the instructions to products of matrices."""

import shutil
import subprocess
from pathlib import Path

import pytest

import fastattn

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
PRODUCTS = ["tile_products.py", "gradient_products.py"]
CONFIG = fastattn.show_config(as_dict=True)
unit = pytest.mark.skipif("amx" not in CONFIG["levels_cpu"], reason="this processor has no matrix unit")


def products(run_python, script, level):
    if level not in CONFIG["levels_built"]:
        pytest.skip(f"this build has no level {level}")
    return run_python(str(HERE / script), FASTATTN_ISA=level).stdout.split()


@pytest.mark.parametrize("script", [*PRODUCTS, "state_products.py"])
@pytest.mark.parametrize("level", ["amx_model", pytest.param("amx", marks=unit)])
def test_products(run_python, script, level):
    assert products(run_python, script, level)[0] == level


# Not those with states: these pass gates, whose exponentials have bits of their own with longer vectors.
@unit
@pytest.mark.parametrize("script", PRODUCTS)
def test_products_have_the_bits_of_the_model(run_python, script):
    assert products(run_python, script, "amx")[1] == products(run_python, script, "amx_model")[1]


@unit
def test_instructions_have_the_bits_of_the_model(tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("needs GCC, as building does")
    printed = []
    for name in ("amx", "amx_model"):
        program = tmp_path / name
        command = ["gcc", "-std=c11", "-O2", "-ffp-contract=off", "-w", f"-I{CSRC}", HERE / "tiles.c", "-o", program]
        subprocess.run([*command, f'-DFA_TILE_FILE="tile/{name}.h"'], check=True)
        done = subprocess.run([program, str(int(name == "amx"))], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout.splitlines())
    assert len(printed[0]) == 1000 and printed[0] == printed[1]
