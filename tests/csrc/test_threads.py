"""Threads of the caller: two in kernels at once, and a fork while one is inside."""

import contextlib
import json
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from cases import AttentionCase, library_score, make
from checks import run_all, same_bits

import fastattn


@pytest.fixture(autouse=True)
def restore_threads():
    before = fastattn.get_num_threads()
    yield
    fastattn.set_num_threads(before)


def problem(score):
    return make(AttentionCase(f"threads-{score}", batch=(2, 2), tq=60, tk=130, dk=16, score=score))


@pytest.mark.parametrize("pool", [1, 2, 4])
def test_callers_at_once_get_the_right_bits(pool):
    fastattn.set_num_threads(pool)
    problems = [problem(score) for score in ("scaled_dot", "additive", "cosine", "general")]
    expected = [run_all(*p.arrays, p.d_context, library_score(p.score)) for p in problems]
    wrong, barrier = [], threading.Barrier(len(problems))

    def work(index):
        p = problems[index]
        barrier.wait(10)
        for _ in range(20):
            if not same_bits(expected[index], run_all(*p.arrays, p.d_context, library_score(p.score))):
                wrong.append(index)

    callers = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(len(problems))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
        assert not caller.is_alive(), "a caller hangs"
    assert not wrong


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads have a name on Linux alone")
@pytest.mark.skipif(fastattn.show_config(as_dict=True)["backend"] != "c", reason="Numba has threads of its own")
def test_threads_say_whose_they_are():
    fastattn.set_num_threads(2)
    p = problem("scaled_dot")
    run_all(*p.arrays, p.d_context, "scaled_dot")
    names = []
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended since
            names.append(thread.joinpath("comm").read_text(encoding="utf-8").strip())
    assert "fastattn" in names


def test_changing_the_number_of_threads_while_a_kernel_runs_is_harmless():
    p = problem("scaled_dot")
    expected = run_all(*p.arrays, p.d_context, "scaled_dot")
    done = threading.Event()

    def change():
        n = 0
        while not done.is_set():
            n = n % 6 + 1
            fastattn.set_num_threads(n)

    changer = threading.Thread(target=change, daemon=True)
    changer.start()
    try:
        same = [same_bits(expected, run_all(*p.arrays, p.d_context, "scaled_dot")) for _ in range(100)]
    finally:
        done.set()
        changer.join(10)
    assert all(same) and not changer.is_alive()


INSIDE = """
import os, signal, sys, threading
import numpy as np
from cases import AttentionCase, library_score, make
from checks import run_all, same_bits
import fastattn
from fastattn.linear import PackedWeights
signal.alarm(90)
fastattn.set_num_threads(4)
p = make(AttentionCase("inside", batch=(4, 2), tq=100, tk=200, dk=16, score="scaled_dot"))
def on_floats(): return run_all(*p.arrays, p.d_context, "scaled_dot")
def on_the_unit(): # where there is one
    context, backward = fastattn.attention_vjp(*narrow[:3])
    with fastattn.float32_precision("medium"):
        return [w.matmul(x), context, *backward(narrow[3])[:3]]
if sys.argv[1] == "unit":
    import ml_dtypes
    narrow = [x.astype(ml_dtypes.bfloat16) for x in (*p.arrays, p.d_context)]
    x = np.random.default_rng(0).standard_normal((100, 512), np.float32)
    w = PackedWeights(x.T @ x)
go = on_the_unit if sys.argv[1] == "unit" else on_floats
expected = go()
done = threading.Event()
def work():
    while not done.is_set():
        go()
worker = threading.Thread(target=work, daemon=True)
worker.start()
try:
    for i in range(50):
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            if i % 2:
                fastattn.set_num_threads(3)
            same = same_bits(expected, go())
            os._exit(0 if same and len(os.listdir("/proc/self/task")) > 1 else 3)
        assert os.waitpid(child, 0)[1] == 0, i
finally:
    done.set()
    worker.join()
assert same_bits(expected, go())
"""


@pytest.mark.parametrize("kernels", ["floats", "unit"])
def test_a_fork_while_another_thread_is_inside_a_kernel(run_shared, kernels):
    if kernels == "unit":
        pytest.importorskip("ml_dtypes", reason="bfloat16 arrays are those of ml_dtypes")
    run_shared(INSIDE, kernels, OPENBLAS_NUM_THREADS="1")


WORKERS = """
import os
import numpy as np
import fastattn
fastattn.set_num_threads(3)
def threads(): return len(os.listdir("/proc/self/task"))
q = np.ones((8, 100, 16), np.float32)
before = threads()
fastattn.attention(q, q, q)
assert threads() == before + 2
child = os.fork()
if child == 0:
    fastattn.attention(q, q, q)
    os._exit(threads())
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
"""


def test_a_forked_child_starts_threads_of_its_own(run_python):
    run_python("-c", WORKERS, OPENBLAS_NUM_THREADS="1")


SIGNALS = """
import os, signal
import numpy as np
import fastattn
fastattn.set_num_threads(3)
q = np.ones((8, 100, 16), np.float32)
fastattn.attention(q, q, q)
assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
waited_for = {signal.SIGTERM, signal.SIGUSR1}
signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
for number in waited_for:
    os.kill(os.getpid(), number)
    assert signal.sigwait(waited_for) == number
"""


def test_signals_are_left_to_the_threads_of_the_program(run_python):
    run_python("-c", SIGNALS, OPENBLAS_NUM_THREADS="1")


SHOW = "import json, fastattn; print(json.dumps(fastattn.show_config(as_dict=True)))"


@pytest.mark.parametrize("text", ["0", "-2", "many", "", "1.5", "99999999999999999999"])
@pytest.mark.parametrize("name", ["FASTATTN_NUM_THREADS", "OMP_NUM_THREADS"])
def test_a_senseless_variable_never_breaks_the_import_without_naming_itself(run_python, name, text):
    clear = {"FASTATTN_NUM_THREADS": None, "OMP_NUM_THREADS": None}
    done = run_python("-c", SHOW, check=False, **{**clear, name: text})
    if done.returncode:
        assert name in done.stderr
    else:
        assert json.loads(done.stdout)["threads"] >= 1


def test_importing_starts_no_thread(run_python):
    code = "import os, fastattn; print(len(os.listdir('/proc/self/task')))"
    # NumPy's own BLAS may start threads.
    done = run_python("-c", code, OPENBLAS_NUM_THREADS="1", FASTATTN_NUM_THREADS="4")
    assert int(done.stdout) == 1


def test_results_of_threads_are_complete_when_the_call_returns():
    fastattn.set_num_threads(2)
    rng = np.random.default_rng(0)
    q, *memory = (rng.standard_normal((n, 64)).astype(np.float32) for n in (48, 100_000, 100_000))
    q, k, v = (np.broadcast_to(x, (4, *x.shape)) for x in (q, *memory))
    # Threads begin with the sample of their own number: the caller is done long before the other.
    lengths = np.array([40_000, 100_000, 1, 1])
    out = np.empty(q.shape, q.dtype)
    expected = fastattn.attention(q, k, v, key_lengths=lengths)
    for _ in range(20):
        out.fill(np.nan)
        fastattn.attention(q, k, v, key_lengths=lengths, out=out)
        assert same_bits(out, expected)
