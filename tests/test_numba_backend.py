"""The kernels in Numba: the same calls of both backends in one process, held against each other and the reference.

All tests of a part run with it, too: ``FASTATTN_BACKEND=numba python -m pytest tests/attention tests/layers``. Compiled
kernels are kept, in the folder of `FASTATTN_CACHE_DIR`, and the first run takes minutes.
"""

import inspect
import itertools
import json
import re
import sys

import numpy as np
import pytest
from sources import ROOT

import fastattn
from fastattn import _reference, scores
from fastattn._kernels import core as compiled

numba = pytest.importorskip("fastattn._kernels.numba")
FLOAT32 = np.dtype(np.float32)
FLOAT32_EPS = np.finfo(np.float32).eps


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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gradient_of_rows_in_pieces_has_the_bits_of_all_at_once(dtype):
    x, dy = draw(4, 3000, 5, dtype=dtype), draw(5, 3000, 7, dtype=dtype)
    dy[::7] = 0  # rows that do not count
    counted = np.flatnonzero(dy.any(axis=1))
    whole, sums = np.empty((5, 7), dtype), np.empty(7, dtype)
    numba.gemm_tn(x, dy, whole, sums)
    dw, parts = np.zeros((5, 7), dtype), np.zeros(7, dtype)
    for a, b in itertools.pairwise([0, counted[1024], counted[2048], 3000]):
        numba.gemm_tn(x[a:b], dy[a:b], dw, parts, True)
    assert dw.tobytes() == whole.tobytes() and parts.tobytes() == sums.tobytes()


def test_sums_of_many_rows():
    """They err no more than those of few (docs/semantics.md): terms that are alike are the worst case."""
    eps, n = FLOAT32_EPS, 5000
    rows = np.full((n, 3), 0.7, np.float32)
    wanted = n * float(rows[0, 0])
    dw, sums, table = np.empty((1, 3), FLOAT32), np.empty(3, FLOAT32), np.zeros((2, 3), FLOAT32)
    numba.gemm_tn(np.ones((n, 1), FLOAT32), rows, dw, sums)
    ids = np.ones(n, np.int64)
    ids[7] = 5
    numba.scatter(rows, ids, 5, table)
    assert (np.abs(dw - wanted) <= 8 * eps * wanted).all() and (np.abs(sums - wanted) <= eps * wanted).all()
    assert (np.abs(table[1] - wanted + rows[0]) <= eps * wanted).all() and not table[0].any()


SPARSE = """
import numpy as np, fastattn
value, rows = np.full((1, 8), 0.7, np.float32), np.ones((5000, 2), np.float32)
_, backward = fastattn.attention_vjp(rows, rows[:1], value, normalizer="sparsemax")
wanted = 5000 * value[0].astype(float)
assert (abs(backward(value.repeat(5000, axis=0)).value[0] - wanted) <= 48 * np.finfo(np.float32).eps * wanted).all()
even = fastattn.mask_mod(lambda b, h, i, j: j % 2 == 0)
q = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
found = fastattn.attention(q, q, q, normalizer="sparsemax", mask=even)
assert np.array_equal(found, fastattn.attention(q, q, q, normalizer="sparsemax", mask=np.arange(4) % 2 == 0))
largest = np.full((1100, 2), np.finfo(np.float32).max)
rows = np.random.default_rng(1).normal(size=(1100, 2)).astype(np.float32)
assert np.allclose(fastattn.attention(rows[:60], rows, largest, normalizer="sparsemax") / largest[:60], 1, atol=1e-5)
for options in (
    {"normalizer": "sparsemax", "score_mod": lambda score, b, h, i, j: score - j},
    {"normalizer": lambda s, b, h, i, j: np.exp(s)},
):
    try:
        fastattn.attention(q, q, q, **options)
    except fastattn.UnsupportedError as error:
        print("got the backend numba" in str(error))
"""


@pytest.mark.slow
def test_sparse_weights_and_functions_of_rows(run_python):
    """Sums of many rows err no more than those of few; masks are called, and what else is a function is refused."""
    assert run_python("-c", SPARSE, FASTATTN_BACKEND="numba", FASTATTN_ISA=None).stdout == "True\nTrue\n"


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


SLOPES = np.linspace(0.1, 0.4, 4, dtype=np.float32)
WIDTHS = np.linspace(0.5, 1.5, 12, dtype=np.float32)


@fastattn.score_mod
def capped(score, b, h, i, j, slopes):
    return 3 * np.tanh((score - slopes[h] * abs(i - j)) / 3) + 0.1 * b


@fastattn.pairwise_score
def apart(q, k, w):
    return -w * abs(q - k)


near = fastattn.mask_mod(lambda b, h, i, j: (abs(i - j) <= 40 + h) & ((i + j) % 5 != b))
FUNCTIONS = {
    "modifier": {"score_mod": capped(slopes=SLOPES), "bias": draw(5, 4, 9, 70)},
    "slopes": {"score_mod": capped(slopes=SLOPES.tolist()), "score": fastattn.scores.ScaledDot(softcap=2.0)},
    "mask": {"mask": near, "causal": "bottom_right"},
    "modifier twice": {"score_mod": capped(slopes=SLOPES), "mask": near},  # 0 times NaN: gradients are made once more
    "pairwise": {"score": apart(w=WIDTHS), "scale": 0.5},
    "all": {"score_mod": capped(slopes=SLOPES), "mask": near, "score": apart(w=WIDTHS), "key_lengths": [70, 33]},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_users(request, name):
    q, k, v, options = problem(FUNCTIONS[name])
    if "mask" in options:
        k[:, :, 69], v[:, :, 69] = np.nan, np.inf  # too far

    def everything():
        context, backward = fastattn.attention_vjp(q, k, v, **options)
        found = backward(draw(9, *context.shape))
        return {"context": context, "query": found.query, "key": found.key, "value": found.value, **found.score}

    wanted = everything()
    request.getfixturevalue("by_numba")
    for part, x in everything().items():
        np.testing.assert_allclose(x, wanted[part], rtol=3e-5, atol=3e-5, err_msg=part)


def test_what_is_masked_is_not_read(by_numba):
    q, k, v, _ = problem({})
    mask = np.ones((9, 70), bool)
    mask[:, 40:], mask[3] = False, False
    clean = fastattn.attention(q, k, v, mask=mask)
    k[:, :, 40:], v[:, :, 40:], q[:, :, 3] = np.nan, np.inf, np.nan
    assert fastattn.attention(q, k, v, mask=mask).tobytes() == clean.tobytes()
    assert not clean[:, :, 3].any()


def test_contexts_of_equal_terms(by_numba):
    """The worst case, where all additions of a chain round the same way: at most the limit of docs/semantics.md."""
    value = np.full((1600, 64), np.random.default_rng(3).uniform(0.5, 1, 64), np.float32)
    one, rows = np.ones((1, 2), np.float32), np.zeros((1600, 2), np.float32)
    for n in (384, 500, 1600):
        found = fastattn.attention(one, rows[:n], value[:n])[0]
        assert (np.abs(found - value[0].astype(float)) <= 17 * FLOAT32_EPS * value[0]).all(), n
        mask = np.arange(1600) < n  # what is not read is neither added nor NaN
        with_nan = np.where(mask[:, None], value, np.float32(np.nan))
        assert fastattn.attention(one, rows, with_nan, mask=mask[None])[0].tobytes() == found.tobytes(), n


def test_a_mean_of_the_largest_values_is_the_largest(by_numba):
    q, k, largest = draw(6, 60, 8), draw(7, 1100, 8), np.finfo(np.float32).max
    v = np.full((1100, 3), largest, np.float32)
    v[:, 1], v[7, 2] = draw(8, 1100), np.inf
    found = fastattn.attention(q, k, v, mask=np.arange(1100) != 7)
    assert np.allclose(found[:, ::2] / largest, 1, atol=1e-5)
    small = np.ascontiguousarray(v[:, [1, 1, 1]])  # beside what overflowed a column keeps its bits
    alone = fastattn.attention(q, k, small, mask=np.arange(1100) != 7)
    assert alone[:, 1].tobytes() == found[:, 1].tobytes()
    assert (fastattn.attention(q, k, v)[:, 2] == np.inf).all()


def test_a_prepared_memory_has_the_bits_of_attention(by_numba):
    q, k, v, _ = problem({})
    memory = fastattn.prepare(k, v)
    assert memory.attend(q).tobytes() == fastattn.attention(q, k, v, score="scaled_dot").tobytes()
    rows = [1, 1, 0]
    beams = memory.select(np.array(rows))
    assert beams.attend(q[rows]).tobytes() == fastattn.attention(q[rows], k[rows], v[rows]).tobytes()


def test_what_it_cannot_do_is_refused(by_numba):
    functions = numba.KernelFunctions(FLOAT32, 1, 1, 0, (), None)
    with pytest.raises(fastattn.UnsupportedError, match="got the backend numba"):
        numba.KernelNormalizer(functions=functions)
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


KEPT = """
import numpy as np
from fastattn import functional
from fastattn._kernels.numba.blocks import compiled
made = []
compile = compiled._Kept.save_overload
compiled._Kept.save_overload = lambda self, signature, found: made.append(1) or compile(self, signature, found)
print(functional.exp(np.zeros(1, "f")), len(made))
"""


def test_kernels_are_kept_and_compiled_anew_where_they_are_damaged(run_python, tmp_path):
    folder = tmp_path / "kept"

    def compiled_now(place=folder):
        done = run_python("-c", KEPT, FASTATTN_BACKEND="numba", FASTATTN_ISA=None, FASTATTN_CACHE_DIR=str(place))
        assert done.stdout.startswith("[1.]"), done.stderr
        return int(done.stdout.split()[-1]), done.stderr

    assert [compiled_now(), compiled_now()] == [(1, ""), (0, "")]
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:9000] + bytes(64) + whole[9064:]):
        path.write_bytes(damaged)
        assert compiled_now() == (1, "")
    assert compiled_now() == (0, "")
    folder.chmod(0o777)
    count, said = compiled_now()
    assert count == 1 and "others can write to this folder" in said
    (tmp_path / "file").write_text("")
    before = sorted(ROOT.glob("fastattn/**/__pycache__/*.nb[ci]"))
    count, said = compiled_now(tmp_path / "file" / "below")
    assert count == 1 and "cannot be written" in said and said.count("UserWarning") == 1
    assert compiled_now("") == (1, "")
    assert sorted(ROOT.glob("fastattn/**/__pycache__/*.nb[ci]")) == before
