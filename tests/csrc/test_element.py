"""What lies in memory is not what is computed with: the forward pass on bfloat16 arrays, in float32."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fastattn import _reference

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"


def stored(x):
    """The nearest bfloat16 numbers, as their bits."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def read(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


@pytest.fixture(scope="module")
def forward(tmp_path_factory):
    if shutil.which("gcc") is None:
        pytest.skip("needs GCC, as building does")
    library = tmp_path_factory.mktemp("stored") / "stored.so"
    subprocess.run(
        ["gcc", "-std=gnu11", "-O1", "-w", "-shared", "-fPIC", "-ffp-contract=off", f"-I{CSRC}",
         f'-DFA_STORED="{HERE / "bfloat16.h"}"', HERE / "stored.c", "-lm", "-o", library],
        check=True, timeout=600,
    )  # fmt: skip
    function = ctypes.CDLL(str(library)).forward
    arrays = [np.ctypeslib.ndpointer(np.uint16, flags="C")] * 7
    function.argtypes = [*[ctypes.c_int64] * 6, ctypes.c_int, ctypes.c_int, ctypes.c_double, *arrays]
    return function


@pytest.mark.parametrize("score", ["dot", "additive"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("tq, tk, d, dv", [(1, 5, 8, 8), (7, 40, 20, 17), (13, 700, 16, 24)])
def test_the_forward_pass_reads_and_writes_another_storage_type(forward, score, causal, tq, tk, d, dv):
    rng = np.random.default_rng(0)
    shapes = (2, 3, tq, d), (2, 3, tk, d), (2, 3, tk, dv), (d,), (tq, tk)
    given = [stored(rng.normal(size=shape)) for shape in shapes]
    context, weights = np.zeros((2, 3, tq, dv), np.uint16), np.zeros((2, 3, tq, tk), np.uint16)
    additive = score == "additive"
    assert forward(2, 3, tq, tk, d, dv, additive, causal, 0.25, *given, context, weights) == 0
    q, k, v, vector, bias = (read(x).astype(np.float64) for x in given)
    raw = (np.tanh(q[..., :, None, :] + k[..., None, :, :]) @ vector) if additive else q @ k.swapaxes(-1, -2)
    scores = raw * 0.25 + bias
    if causal:
        scores = np.where(np.tri(tq, tk, dtype=bool), scores, -np.inf)
    p = _reference.softmax(scores)
    # 2 u A with u = 2^-8 of the storage, and the scores that a kept weight passed through rounded.
    np.testing.assert_array_less(np.abs(read(context) - p @ v), 2 * 2.0**-8 * (p @ np.abs(v)) + 1e-6)
    spread = 1 + np.abs(np.where(p > 0, scores, 0))
    np.testing.assert_array_less(np.abs(read(weights) - p), 2 * 2.0**-8 * p * spread + 1e-6)
