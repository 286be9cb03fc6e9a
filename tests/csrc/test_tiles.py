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
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs GCC, as building does")


def products(run_python, script, level):
    if level not in CONFIG["levels_built"]:
        pytest.skip(f"this build has no level {level}")
    return run_python(str(HERE / script), FASTATTN_ISA=level).stdout.split()


@pytest.mark.parametrize("script", [*PRODUCTS, "state_products.py", "../optim/step_products.py"])
@pytest.mark.parametrize("level", ["amx_model", pytest.param("amx", marks=unit)])
def test_products(run_python, script, level):
    assert products(run_python, script, level)[0] == level


# What reaches all of csrc/attention/dot_tiles*.inl, which nothing else does where there is no unit, and under the
# sanitizers: blocks and few rows, forward and backward, masks, values that are not for the unit, infinities.
ATTENTION = (
    "scaled_dot-3d or scaled_dot-grouped or mask or near_the_ends or may_not_read or partial_sums"
    " or (few_rows and (nan or inf or 7.3)) or (forward and 1100)"
)


def test_attention_on_the_model(run_python):
    pytest.importorskip("ml_dtypes", reason="bfloat16 arrays are those of ml_dtypes")
    if "amx_model" not in CONFIG["levels_built"]:
        pytest.skip("this build has no level amx_model")
    suite = [str(HERE.parent / "attention" / "test_halves.py"), "-k", ATTENTION]
    done = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", *suite, check=False, FASTATTN_ISA="amx_model")
    assert done.returncode == 0, done.stdout + done.stderr


# Not those with states: these pass gates, whose exponentials have bits of their own with longer vectors.
@unit
@pytest.mark.parametrize("script", PRODUCTS)
def test_products_have_the_bits_of_the_model(run_python, script):
    assert products(run_python, script, "amx")[1] == products(run_python, script, "amx_model")[1]


SIGNALS = """
import ctypes, sys
import ml_dtypes
import numpy as np
import fastattn
from fastattn.linear import PackedWeights
handler = ctypes.CDLL(sys.argv[1])
handler.calls.restype = handler.wrong.restype = ctypes.c_long
rng = np.random.default_rng(0)
q, k, v, d = rng.standard_normal((4, 4, 200, 64)).astype(ml_dtypes.bfloat16)
x = rng.standard_normal((100, 512), np.float32)
w = PackedWeights(x.T @ x)
def go():
    context, backward = fastattn.attention_vjp(q, k, v)
    few = fastattn.attention(q[:, :5], k, v)
    with fastattn.float32_precision("medium"):
        return [x.tobytes() for x in (w.matmul(x), w.matmul(x[:3]), few, context, *backward(d)[:3])]
for threads in (1, 3):
    fastattn.set_num_threads(threads)
    expected = go()
    handler.start()
    while handler.calls() < 200 * threads:
        assert go() == expected
    handler.stop()
print(handler.calls(), handler.wrong())
"""


@unit
@needs_gcc
def test_handlers_of_signals_may_use_tiles(run_python, tmp_path):
    """While calls of ours do: each leaves the other's as they were."""
    pytest.importorskip("ml_dtypes", reason="bfloat16 arrays are those of ml_dtypes")
    library = tmp_path / "handler.so"
    command = ["gcc", "-std=gnu11", "-O2", "-shared", "-fPIC", f"-I{CSRC}", HERE / "handler.c", "-o", library]
    subprocess.run(command, check=True)
    calls, wrong = map(int, run_python("-c", SIGNALS, str(library)).stdout.split())
    assert calls >= 600 and wrong == 0


@unit
@needs_gcc
def test_instructions_have_the_bits_of_the_model(tmp_path):
    printed = []
    for name in ("amx", "amx_model"):
        program = tmp_path / name
        command = ["gcc", "-std=c11", "-O2", "-ffp-contract=off", "-w", f"-I{CSRC}", HERE / "tiles.c", "-o", program]
        subprocess.run([*command, f'-DFA_TILE_FILE="tile/{name}.h"'], check=True)
        done = subprocess.run([program, str(int(name == "amx"))], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout.splitlines())
    assert len(printed[0]) == 1000 and printed[0] == printed[1]
