"""Memory: nothing of size Tq x Tk is stored, and a failed allocation is a MemoryError that breaks nothing."""

import pytest

GROWTH = """
import resource, sys
import numpy as np
import fastattn
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
family, length, width = sys.argv[1], int(sys.argv[2]), 8
rng = np.random.default_rng(0)
fastattn.set_num_threads(2)
def go(length):
    q, k, v, d = (rng.standard_normal((1, length, width)).astype(np.float32) for _ in range(4))
    score = fastattn.scores.Additive(q[0, 0]) if family == "additive" else "scaled_dot"
    options = {"score_mod": alibi(slope=np.array(0.5)), "mask": near} if family == "functions" else {}
    _, backward = fastattn.attention_vjp(q, k, v, score=score, causal="bottom_right", **options)
    found = backward(d).score
    assert family != "functions" or found["slope"] != 0
@fastattn.score_mod
def alibi(score, b, h, i, j, slope): return score - slope * abs(i - j)
near = fastattn.jit.as_mask_mod(lambda b, h, i, j: (i - j < 3000) | (j % 7 == 0))
go(64)
before = peak()
go(length)
print(peak() - before)
"""


@pytest.mark.parametrize(("family", "length"), [("dot", 6000), ("additive", 3000), ("functions", 6000)])
def test_memory_grows_with_the_length_not_with_its_square(run_python, family, length):
    growth = int(run_python("-c", GROWTH, family, str(length)).stdout)
    double = int(run_python("-c", GROWTH, family, str(2 * length)).stdout)
    square = 4 * length**2
    assert growth < square / 16, f"{growth} bytes; Tq x Tk would be {square}"
    # Twice the length: twice the memory, and 2 MiB for the pages that the allocators round up to.
    assert double < 2 * growth + 2 * 2**20, f"{growth} bytes, then {double}"


FAIL = """
import os
import numpy as np
import fastattn
from fastattn import functional, linear
from cases import AttentionCase, library_score, make
from checks import run_all, same_bits
failed = 0
def attempt(call):
    # The countdown fires once in the life of the process, so the second attempt must succeed.
    global failed
    try:
        return call()
    except MemoryError:
        failed += 1
    return call()
results = []
for score in ("scaled_dot", "additive", "cosine", "general"):
    p = make(AttentionCase("memory-" + score, batch=(2, 2), tq=9, tk=33, score=score))
    results.append(attempt(lambda: run_all(*p.arrays, p.d_context, library_score(p.score), causal="top_left")))
x = p.query.reshape(-1, p.query.shape[-1])
packed = attempt(lambda: linear.PackedWeights(x[:4].copy()))
results.append([attempt(lambda: packed.matmul(x[:, :4].copy())), attempt(lambda: packed.matmul_transposed(x))])
results.append([attempt(lambda: linear.weight_gradient(x, x)), attempt(lambda: functional.softmax(x))])
memory = attempt(lambda: fastattn.prepare(p.key, p.value))
results.append([attempt(lambda: memory.attend(p.query))])
assert all(np.isfinite(array).all() for result in results for array in result)
print(failed)
import hashlib
digest = hashlib.sha256()
for result in results:
    for array in result:
        digest.update(array.tobytes())
print(digest.hexdigest())
"""


def test_each_failed_allocation_is_a_memory_error_and_harms_nothing_else(run_shared):
    expected = run_shared(FAIL, FASTATTN_TEST_FAIL_ALLOC=None).stdout.split()
    assert expected[0] == "0"
    for n in range(1, 200):
        failed, digest = run_shared(FAIL, FASTATTN_TEST_FAIL_ALLOC=str(n)).stdout.split()
        assert digest == expected[1], n
        if failed == "0":
            break
        assert failed == "1", n
    # Every kernel call above needs a workspace: were there fewer failures, the variable would not be honoured.
    assert n > 4
