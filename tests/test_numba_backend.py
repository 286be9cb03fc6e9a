"""The kernels in Numba: the same calls of both backends in one process, held against each other and the reference.

All tests of a part run with it, too: ``FASTATTN_BACKEND=numba python -m pytest tests/attention tests/layers``. Compiled
kernels are kept, in the folder of `FASTATTN_CACHE_DIR`, and the first run takes minutes.
"""

import inspect
import json
import os
import re
import sys

import numpy as np
import pytest
from sources import ROOT

import fastattn
from fastattn import _reference, normalizers, scores
from fastattn._kernels import core as compiled

numba = pytest.importorskip("fastattn._kernels.numba")
FLOAT32 = np.dtype(np.float32)


def draw(seed, *shape, dtype="float32"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def test_it_has_the_names_of_the_compiled_module():
    stub = (ROOT / "fastattn" / "_kernels" / "core.pyi").read_text()
    names = set(re.findall(r"^(?:def|class) (\w+)", stub, re.MULTILINE)) | {"SCORES"}
    assert names <= set(numba.__all__)
    assert numba.SCORES == compiled.SCORES
    for name in sorted(names):
        theirs, ours = getattr(compiled, name), getattr(numba, name)
        if inspect.isfunction(ours) and theirs.__doc__:
            wanted = theirs.__doc__.split("(", 1)[1].split(")")[0] if "(" in theirs.__doc__.split("\n")[0] else None
            if wanted:
                assert len(inspect.signature(ours).parameters) == wanted.count(",") + 1, name


def test_the_mix_of_seeds_is_one():
    assert [numba.mix64(x) for x in (0, 1, -1, 2**70)] == [compiled.mix64(x) for x in (0, 1, -1, 2**70)]


@pytest.mark.parametrize(("m", "k", "n"), [(1, 5, 7), (13, 33, 130), (9, 0, 3)])
def test_products(m, k, n):
    x, w, bias = draw(1, m, k), draw(2, k, n), draw(3, n)
    packed = np.empty(numba.gemm_packed_elements(x, k, n), FLOAT32)
    numba.gemm_pack(w, False, packed)
    y, one = np.empty((m, n), FLOAT32), np.empty((1, n), FLOAT32)
    numba.gemm(x, packed, y, bias, True)
    assert np.allclose(y, np.maximum(x.astype(float) @ w + bias, 0), atol=1e-5)
    numba.gemm(x[-1:], packed, one, bias, True)
    assert one.tobytes() == y[-1:].tobytes()  # whatever rows are beside it
    dw, sums = np.ones((k, n), FLOAT32), np.zeros(n, FLOAT32)
    numba.gemm_tn(x, y, dw, sums, True)
    assert np.allclose(dw, 1 + x.T.astype(float) @ y, atol=1e-4) and np.allclose(sums, y.sum(axis=0), atol=1e-5)


ADDITIVE = scores.Additive(draw(9, 12))
CALLS = {
    "plain": {},
    "causal": {"causal": "bottom_right"},
    "lengths": {"key_lengths": np.array([3, 70])},
    "window": {"window": (3, 2)},
    "mask": {"mask": np.random.default_rng(4).random((9, 70)) > 0.5},
    "bias": {"bias": draw(5, 4, 9, 70)},
    "dropout": {"dropout": 0.3, "seed": 5},
    "softcap": {"score": scores.Dot(softcap=2.0)},
    "additive": {"score": ADDITIVE},
    "sigmoid": {"score": scores.Additive(draw(9, 12), activation="sigmoid")},
    "l1": {"score": scores.L1(), "scale": 0.5},
    "many keys": {"keys": 1100},
}


def problem(options, dtype="float32"):
    keys = options.get("keys", 70)
    shapes = ((2, 4, 9, 12), (2, 2, keys, 12), (2, 2, keys, 7))
    q, k, v = (draw(seed, *shape, dtype=dtype) for seed, shape in enumerate(shapes))
    return q, k, v, {name: value for name, value in options.items() if name != "keys"}


@pytest.fixture
def by_numba(monkeypatch):
    """`fastattn.attention` and all it calls read the kernels in Numba."""
    for name, module in list(sys.modules.items()):
        if not name.startswith("fastattn.") or name.startswith("fastattn._kernels"):
            continue
        for attribute, value in list(vars(module).items()):
            if value is compiled:
                monkeypatch.setattr(module, attribute, numba)
            elif isinstance(value, compiled.Options):
                monkeypatch.setattr(module, attribute, numba.Options())
            elif isinstance(value, compiled.KernelScore):
                monkeypatch.setattr(module, attribute, numba.KernelScore(value.kernel))


@pytest.mark.parametrize("name", CALLS)
def test_attention(by_numba, name):
    q, k, v, options = problem(CALLS[name])
    found = fastattn.attention(q, k, v, return_weights=True, return_lse=True, **options)
    wanted = _reference.attention(*(x.astype(float) for x in (q, k, v)), **options)
    for ours, theirs in zip(found, wanted):
        assert np.allclose(ours, theirs, rtol=1e-5, atol=1e-5), name
    alone = fastattn.attention(q[1:, :, 4:5], k[1:], v[1:], **options) if name in ("plain", "additive") else None
    if alone is not None:
        assert alone.tobytes() == found.context[1:, :, 4:5].tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_gradients(by_numba, name):
    q, k, v, options = problem(CALLS[name])
    found, backward = fastattn.attention_vjp(q, k, v, return_weights=True, return_lse=True, **options)
    d = [draw(20 + i, *x.shape) for i, x in enumerate(found)]
    ours = backward(d[0], d_weights=d[1], d_lse=d[2])
    theirs = _reference.attention_vjp(
        *(x.astype(float) for x in (q, k, v)), d_context=d[0], d_weights=d[1], d_lse=d[2], **options
    )
    for one, other in zip(ours[:4], theirs[:4]):
        assert (one is None) == (other is None)
        assert one is None or np.allclose(one, other, rtol=2e-5, atol=2e-5), name
    for key, other in theirs.score.items():
        assert np.allclose(ours.score[key], other, rtol=2e-5, atol=5e-5)


def test_what_is_masked_is_not_read(by_numba):
    q, k, v, _ = problem({})
    mask = np.ones((9, 70), bool)
    mask[:, 40:], mask[3] = False, False
    clean = fastattn.attention(q, k, v, mask=mask)
    k[:, :, 40:], v[:, :, 40:], q[:, :, 3] = np.nan, np.inf, np.nan
    assert fastattn.attention(q, k, v, mask=mask).tobytes() == clean.tobytes()
    assert not clean[:, :, 3].any()


def test_a_prepared_memory_has_the_bits_of_attention(by_numba):
    q, k, v, _ = problem({})
    memory = fastattn.prepare(k, v)
    assert memory.attend(q).tobytes() == fastattn.attention(q, k, v, score="scaled_dot").tobytes()
    rows = [1, 1, 0]
    beams = memory.select(np.array(rows))
    assert beams.attend(q[rows]).tobytes() == fastattn.attention(q[rows], k[rows], v[rows]).tobytes()


def test_what_it_cannot_do_is_refused(by_numba):
    rows = normalizers.RowFunctions
    assert rows is not None
    with pytest.raises(fastattn.UnsupportedError, match=r"got the backend numba.*\nHint: use the compiled module"):
        numba.Monotonic()


SAID = "import fastattn, json; print(json.dumps(fastattn.show_config(as_dict=True)))"


def test_it_is_chosen_by_a_variable_and_says_so(run_python):
    clean = {"FASTATTN_ISA": None}
    config = json.loads(run_python("-c", SAID, FASTATTN_BACKEND="numba", **clean).stdout)
    assert (config["backend"], config["level"]) == ("numba", "numba")
    wrong = run_python("-c", SAID, check=False, FASTATTN_BACKEND="numba", FASTATTN_ISA="avx2")
    assert "FASTATTN_ISA: expected no level with the backend numba" in wrong.stderr


WITHOUT = """
import sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
import os, signal
for name in ("sched_getaffinity", "fork", "register_at_fork", "O_DIRECTORY", "O_CLOEXEC", "O_NONBLOCK"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGUSR1", "SIGKILL"):
    if hasattr(signal, name):
        delattr(signal, name)
import types
sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=lambda *arguments: None)
"""
TRAINING = """
import tempfile
import numpy as np, fastattn
from fastattn.seq2seq import BahdanauConfig, Config, TrainingConfig, VocabularyConfig, load, train
x = np.eye(3, dtype=np.float32)
assert np.allclose(fastattn.attention(x, x, x).sum(axis=1), 1)
config = Config(
    model=BahdanauConfig(embedding=16, hidden=32, attention=16, readout_width=16),
    vocabulary=VocabularyConfig(source="char", target="word"),
    training=TrainingConfig(epochs=30, rate=0.02),
)
words = "zero one two three".split()
pairs = [(f"{a}{b}", f"{words[a]} {words[b]}") for a in range(4) for b in range(4)]
with tempfile.TemporaryDirectory() as folder:
    train(config, folder, pairs=pairs, quiet=True)
    print(load(folder).translate(["31"]))
"""


@pytest.mark.slow
def test_a_model_is_trained_without_what_only_posix_has(run_python):
    pytest.importorskip("safetensors")
    done = run_python("-c", WITHOUT + TRAINING, FASTATTN_BACKEND="numba", FASTATTN_ISA=None)
    assert done.stdout == "['three one']\n"


def test_a_place_that_cannot_be_written_is_no_error(run_python, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    code = "import numpy as np; from fastattn import functional; print(functional.exp(np.zeros(1, 'f')))"
    for place in (str(file / "below"), ""):
        done = run_python("-c", code, FASTATTN_BACKEND="numba", FASTATTN_ISA=None, FASTATTN_CACHE_DIR=place)
        assert done.stdout == "[1.]\n" and not done.stderr
    assert os.listdir(tmp_path) == ["file"]
