"""Memory of large arrays that is kept and used again."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from fastattn import _allocator
from fastattn._kernels import core

FLOAT = np.dtype(np.float32)
MANY = 1 << 20  # bytes that may be kept, in these tests


@pytest.fixture(autouse=True)
def limit():
    before = core.memory_limit(0)
    core.memory_limit(MANY)
    yield
    core.memory_limit(before)


def test_the_newest_is_used_again():
    first, second = core.empty((40000,), FLOAT), core.empty((40000,), FLOAT)
    assert (first.flags.owndata, first.ctypes.data % 64, core.memory_kept()) == (True, 0, 0)
    at = first.ctypes.data, second.ctypes.data
    del first, second
    assert 2 * 160000 <= core.memory_kept() <= 2 * 160000 * 9 // 8
    again = [core.empty((200, 200), FLOAT), core.empty((39990,), FLOAT)]  # of about the size
    assert tuple(x.ctypes.data for x in reversed(again)) == at
    assert core.memory_kept() == 0


def test_the_longest_unused_is_given_back():
    large = [core.empty((n,), FLOAT) for n in (100_000, 60_000, 50_000, 80_000, 90_000)]
    at = [x.ctypes.data for x in large]
    while large:
        large.pop(0)
        assert core.memory_kept() <= MANY
    assert core.memory_kept() > MANY // 2
    assert core.empty((90_000,), FLOAT).ctypes.data == at[4]
    assert core.empty((80_000,), FLOAT).ctypes.data == at[3]
    _allocator.release()
    assert core.memory_kept() == 0
    del large[:]
    core.empty((60_000,), FLOAT)
    assert core.memory_kept() > 0  # the limit is what it was


@pytest.mark.parametrize("size", [0, 1, 1000, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, (1 << 17) - 1, 1 << 20, 5 << 20])
def test_numpy_in_the_context(size):
    """Zeros, results, copies and resized arrays, of all sizes; they outlive the context."""

    @_allocator.in_kept_memory
    def made():
        x = np.zeros(size, np.uint8)
        assert not x.any()
        x[:] = np.arange(size) % 251
        assert (x + x == 2 * x).all()
        y = x.copy()
        y.resize(2 * size + 7, refcheck=False)
        assert not y[size:].any()
        y.resize(size // 2, refcheck=False)
        return x, y

    for _ in range(3):
        x, y = made()
        assert (x[: size // 2] == y).all() and (x == np.arange(size) % 251).all()
    del x, y
    dirty = core.empty((max(size, 1),), np.dtype(np.uint8))
    dirty[:] = 1
    del dirty
    made()


def test_what_lasts_does_not_overlap():
    """Arrays of all sizes in slabs, and larger ones; zeros, also where another array was."""
    random, held = np.random.default_rng(1), {}
    for number in range(400):
        for key in [key for key in held if random.random() < 0.1]:
            assert (held.pop(key) == key % 250 + 1).all()
        held[number] = core.lasting((int(2 ** random.uniform(14, 24)),), np.dtype(np.uint8))
        assert held[number].nbytes < 1 << 16 or held[number].ctypes.data % 64 == 0
        assert not held[number].any()
        held[number][:] = number % 250 + 1


def test_what_lasted_is_given_back():
    pages = Path("/proc/self/statm")
    before = int(pages.read_text().split()[1]) if pages.exists() else None
    for size in (1 << 20, 40 << 20):
        for _ in range(50):
            core.lasting((size,), np.dtype(np.uint8))[:] = 1
    if before is not None:
        after = int(pages.read_text().split()[1])
        assert (after - before) * os.sysconf("SC_PAGESIZE") < 100 << 20


def test_random_sizes_do_not_overlap():
    random, held = np.random.default_rng(0), {}
    for number in range(3000):
        if held and random.random() < 0.5:
            key = random.choice(list(held))
            assert (held.pop(key) == key % 251).all()
        size = int(2 ** random.uniform(12, 20))
        held[number] = core.empty((size,), np.dtype(np.uint8))
        held[number][:] = number % 251
        if len(held) > 12:
            held.pop(min(held))
    assert core.memory_kept() <= MANY


def test_threads_and_the_context_of_each():
    """Arrays made in one thread and dropped in another, all at once."""
    wrong, handed = [], []

    def work(number):
        with core.KeptMemory():
            for i in range(300):
                x = np.full(20_000 + 100 * (i % 7), number, np.int64)
                handed.append(x)
                if len(handed) > 8:
                    y = handed.pop(0)
                    if y.min() != y.max():
                        wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    handed.clear()
    before = core.memory_kept()
    np.empty(100_000)  # outside of the context: NumPy's own
    assert core.memory_kept() == before


def test_nothing_of_a_size_that_is_too_large():
    with pytest.raises((MemoryError, ValueError)):
        core.empty((1 << 62,), FLOAT)
    with pytest.raises(ValueError, match="negative"):
        core.empty((-(1 << 20),), FLOAT)
    with core.KeptMemory(), pytest.raises(MemoryError):
        np.zeros(1 << 58, np.uint8)


@pytest.mark.skipif("FASTATTN_SANITIZE" in os.environ, reason="a sanitizer build keeps nothing, so that it sees more")
def test_a_training_step_needs_no_new_pages(run_python):
    """From the third step on; a process of its own, for what others left in the C library's memory."""
    code = """
import resource
import numpy as np
from fastattn.seq2seq import Batch, build
from fastattn.seq2seq.models.bahdanau import BahdanauConfig
model = build(BahdanauConfig(embedding=64, hidden=128, attention=128, readout_width=64), 40, 40, seed=0)
ids, lengths = np.full((64, 8), 5), np.full(64, 8)
batch, seeds = Batch(ids, lengths, ids, lengths, np.arange(64)), np.arange(64, dtype=np.uint64)
faults = []
for _ in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    loss, count, backward = model.loss_vjp(batch, seeds=seeds)
    backward(1 / count)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[0], min(faults[2:]))
"""
    first, later = map(int, run_python("-c", code).stdout.split())
    assert later < 20 < first
