"""The same bits: whatever the batch, padding, threads, memory layout, process and number of steps."""

import dataclasses
import sys

import numpy as np
import pytest
from cases import SCORES, AttentionCase, library_score, make
from checks import run_all, same_bits
from layouts import LAYOUTS, part

import fastattn

WIDE = ("general", "additive", "concat", "location")
FAMILIES = ("scaled_dot", "additive")
THREADS = (1, 2, 3, 4, 7, 8, 16)
scores = pytest.mark.parametrize("score", SCORES)
families = pytest.mark.parametrize("score", FAMILIES)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def problem(score, dtype="float32", **fields):
    wide = {"dq": 11} if score in WIDE else {}
    shape = {"batch": (5,), "tq": 7, "tk": 41, "dk": 24, "dv": 19}
    return make(AttentionCase(f"bitwise-{score}", score=score, dtype=dtype, **{**shape, **wide, **fields}))


def everything(p, d_context=None, **rest):
    d_context = p.d_context if d_context is None else d_context
    return run_all(*p.arrays, d_context, library_score(p.score), **{**p.rest, **rest})


def batched(p, **fields):
    """The problem with per-sample options that move with the samples."""
    rng = np.random.default_rng(1)
    samples, keys = p.query.shape[0], p.key.shape[-2]
    lengths = rng.integers(1, keys + 1, samples)
    mask = rng.random((samples, *[1] * (p.query.ndim - 2), keys)) < 0.8
    rest = {"key_lengths": lengths, "mask": mask, "dropout": 0.2, "seed": rng.integers(0, 2**63, samples, np.uint64)}
    return dataclasses.replace(p, rest={**rest, **fields})


# Batch


@dtypes
@scores
def test_one_sample_alone_has_the_bits_it_has_in_a_batch(score, dtype):
    p = batched(problem(score, dtype))
    whole = everything(p)[:6]
    for row in range(5):
        alone = everything(part(p, slice(row, row + 1)))[:6]
        assert same_bits([x[row : row + 1] for x in whole], alone)


@dtypes
@pytest.mark.parametrize("width", [4, 20, 64, 66])
def test_few_queries_have_the_bits_that_they_have_among_others_over_any_number_of_keys(width, dtype):
    rng = np.random.default_rng(width)
    query, key, value = (rng.standard_normal((2, n, width)).astype(dtype) for n in (9, 150, 150))
    for keys in (*range(1, 41), 52, 53, 63, 64, 65, 84, 85, 150):
        whole = fastattn.attention(query, key[:, :keys], value[:, :keys])
        for rows in range(1, 7):
            few = fastattn.attention(query[:, :rows], key[:, :keys], value[:, :keys])
            assert same_bits(few, whole[:, :rows]), (keys, rows)


@families
def test_one_sample_alone_has_the_bits_it_has_in_a_batch_of_heads(score):
    p = batched(problem(score, batch=(5, 4), key_heads=2, tk=130))
    whole = everything(p)[:6]
    for row in (0, 3, 4):
        assert same_bits([x[row : row + 1] for x in whole], everything(part(p, slice(row, row + 1)))[:6])


@scores
def test_permuted_samples_have_permuted_results(score):
    p = batched(problem(score))
    order = np.array([3, 1, 4, 0, 2])
    assert same_bits([x[order] for x in everything(p)[:6]], everything(part(p, order))[:6])


@families
@pytest.mark.parametrize("samples", [2, 3, 16, 33])
def test_a_sample_repeated_has_the_same_bits_everywhere(score, samples):
    p = problem(score, batch=(1,))
    once = everything(p)[:6]
    many = everything(part(p, np.zeros(samples, int)))[:6]
    for alone, x in zip(once, many):
        assert all(same_bits(alone[0], row) for row in x)


@families
def test_a_query_row_alone_has_the_bits_it_has_among_others(score):
    p = problem(score, tq=100, tk=600, batch=(2,))
    full = everything(p)[:4]
    for i in (0, 5, 6, 47, 48, 99):
        row = dataclasses.replace(p, query=p.query[:, i : i + 1], d_context=p.d_context[:, i : i + 1])
        assert same_bits([x[:, i : i + 1] for x in full], everything(row)[:4])


@families
def test_a_head_alone_has_the_bits_it_has_among_others(score):
    p = problem(score, batch=(2, 4), key_heads=2)
    full = everything(p)
    for head in range(4):
        own = [p.query[:, head], p.key[:, head // 2], p.value[:, head // 2]]
        alone = run_all(*own, p.d_context[:, head], library_score(p.score))
        assert same_bits([x[:, head] for x in full[:4]], alone[:4])


# Padding


@families
@pytest.mark.parametrize("tk", [1, 17, 64, 500])
def test_padding_with_poison_changes_nothing(score, tk):
    p = problem(score, batch=(2,), tk=tk, dk=16, dv=9)
    plain = everything(p)
    for extra in (*range(64), 513) if tk == 17 else (1, 2, 15, 16, 31, 48, 63):
        width = ((0, 0), (0, extra), (0, 0))
        padded = dataclasses.replace(
            p,
            key=np.pad(p.key, width, constant_values=np.nan),
            value=np.pad(p.value, width, constant_values=np.inf),
        )
        found = everything(padded, key_lengths=np.array([tk, tk]))
        cut = [x[..., :tk] if n == 1 else x[:, :tk] if n in (4, 5) else x for n, x in enumerate(found)]
        assert same_bits(cut, plain)
        assert not found[1][..., tk:].any() and not found[4][:, tk:].any() and not found[5][:, tk:].any()


@pytest.mark.parametrize("causal", [None, "top_left"])
@scores
def test_padding_by_a_mask_changes_nothing(score, causal):
    p = problem(score, tq=9)
    mask = np.ones((5, 1, 41), bool)
    mask[:, :, 30:] = False
    cut = dataclasses.replace(p, key=p.key[:, :30], value=p.value[:, :30])
    padded, short = everything(p, mask=mask, causal=causal), everything(cut, causal=causal)
    assert same_bits(padded[0], short[0]) and same_bits(padded[2:4], short[2:4])
    assert same_bits([x[:, :30] for x in padded[4:6]], short[4:6])


# Threads and repeated runs


@dtypes
@scores
def test_any_number_of_threads_gives_the_same_bits(score, dtype):
    p = batched(problem(score, dtype, batch=(3, 4), key_heads=2, tq=50, tk=70, dk=16))
    fastattn.set_num_threads(1)
    expected = everything(p)
    for threads in THREADS[1:]:
        fastattn.set_num_threads(threads)
        assert same_bits(expected, everything(p)), threads


@families
def test_any_number_of_threads_gives_the_same_bits_for_one_long_sample(score):
    p = problem(score, batch=(1,), tq=300, tk=1100, dk=16, da=8)
    fastattn.set_num_threads(1)
    expected = everything(p, causal="bottom_right")
    for threads in THREADS[1:]:
        fastattn.set_num_threads(threads)
        assert same_bits(expected, everything(p, causal="bottom_right")), threads


@families
@pytest.mark.parametrize("shape", [(70,), (1, 4, 1, 70), (6, 1, 50, 1)], ids=["all", "heads", "samples"])
def test_any_number_of_threads_gives_the_same_bits_for_a_shared_bias(score, shape):
    p = problem(score, batch=(6, 4), key_heads=2, tq=50, tk=70, dk=16, bias=shape)
    fastattn.set_num_threads(1)
    expected = everything(p)
    for threads in THREADS[1:]:
        fastattn.set_num_threads(threads)
        assert same_bits(expected, everything(p)), threads


@families
@pytest.mark.parametrize(("tq", "tk"), [(1, 40000), (5, 9000)])
def test_any_number_of_threads_gives_the_same_bits_for_few_queries(score, tq, tk):
    """So much work that several threads take part, and so few rows that they share the keys of one."""
    p = problem(score, batch=(1,), tq=tq, tk=tk, dk=16, da=8)
    fastattn.set_num_threads(1)
    expected = everything(p)
    for threads in THREADS[1:]:
        fastattn.set_num_threads(threads)
        assert same_bits(expected, everything(p)), threads


@families
def test_a_hundred_runs_give_the_same_bits(score):
    fastattn.set_num_threads(4)
    p = batched(problem(score, tk=70))
    expected = everything(p)
    assert all(same_bits(expected, everything(p)) for _ in range(100))


# Memory layout


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@scores
def test_any_layout_gives_the_same_bits(score, layout):
    p = problem(score)
    rng = np.random.default_rng(6)
    mask, bias = rng.random((5, 7, 41)) < 0.8, rng.standard_normal((5, 7, 41)).astype(np.float32)
    expected = everything(p, mask=mask, bias=bias)
    names = ("query", "key", "value", "d_context")
    moved = dataclasses.replace(p, **{name: layout(getattr(p, name)) for name in names})
    assert same_bits(expected, everything(moved, mask=layout(mask), bias=layout(bias)))


OF_PARAMETERS = ("negative rows", "transposed", "every second", "fortran", *list(LAYOUTS)[-3:])


@pytest.mark.parametrize("layout", OF_PARAMETERS)
@scores
def test_any_layout_of_parameters_gives_the_same_bits(score, layout):
    p = problem(score)
    expected = everything(p)
    change = LAYOUTS[layout]
    plane = layout in OF_PARAMETERS[:4]
    moved = {n: np.repeat(x, 2)[::2] if plane and x.ndim == 1 else change(x) for n, x in p.score.parameters.items()}
    assert same_bits(expected, everything(dataclasses.replace(p, score=dataclasses.replace(p.score, parameters=moved))))


@scores
def test_stride_zero_gives_the_bits_of_a_copy(score):
    p = problem(score)
    views = {name: np.broadcast_to(getattr(p, name)[:1], getattr(p, name).shape) for name in ("query", "key", "value")}
    views["d_context"] = np.broadcast_to(p.d_context[..., :1], p.d_context.shape)
    copies = {name: x.copy() for name, x in views.items()}
    assert same_bits(everything(dataclasses.replace(p, **views)), everything(dataclasses.replace(p, **copies)))


FAR = """
import dataclasses, mmap
import numpy as np
from cases import AttentionCase, library_score, make
from checks import run_all, same_bits
from layouts import LAYOUTS, part
NORESERVE = 0x4000
def far(x, axis):
    # Entries along the axis are 2^31 + 64 elements apart; the pages between are never touched.
    near = np.ascontiguousarray(np.moveaxis(x, axis, 0))
    step = (2**31 + 64) * x.itemsize
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE
    try:
        space = mmap.mmap(-1, step * (len(near) - 1) + near[0].nbytes, flags=flags)
    except OSError:
        print("no address space")
        raise SystemExit
    y = np.ndarray(near.shape, x.dtype, space, strides=(step, *near.strides[1:]))
    y[...] = near
    return np.moveaxis(y, 0, axis)
for score in ("dot", "additive"):
    p = make(AttentionCase("far-" + score, batch=(2, 2), tq=2, tk=2, score=score, bias=(2, 2, 2, 2), mask=(2, 2, 2, 2)))
    p.rest["mask"][..., 0] = True
    def go(p, **rest):
        return run_all(*p.arrays, p.d_context, library_score(p.score), **p.rest, **rest)
    expected = go(p)
    for axis in range(3):
        moved = {name: far(getattr(p, name), axis) for name in ("query", "key", "value", "d_context")}
        rest = {name: far(x, axis) for name, x in p.rest.items()}
        out = far(np.zeros_like(expected[0]), axis)
        assert same_bits(expected, go(dataclasses.replace(p, rest=rest, **moved), out=out)), (score, axis)
print("done")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reserves address space as Linux does")
def test_entries_far_apart_give_the_same_bits(run_shared):
    if run_shared(FAR).stdout.split()[-1] != "done":
        pytest.skip("no address space for offsets beyond 32 bits")


@families
def test_out_may_have_any_layout(score):
    p = problem(score)
    expected = fastattn.attention(*p.arrays, score=library_score(p.score))
    for name in ("negative rows", "time first", "sliced"):
        out = LAYOUTS[name](np.zeros_like(expected))
        assert fastattn.attention(*p.arrays, score=library_score(p.score), out=out) is out
        assert same_bits(out, expected), name


# Step by step


@dtypes
@pytest.mark.parametrize("score", ["dot", "cosine", "general", "additive", "concat"])
def test_step_by_step_has_the_bits_of_all_at_once(score, dtype):
    p = problem(score, dtype, batch=(2,), tq=70, tk=70, dk=8, dq=11 if score in WIDE else None)
    spec = library_score(p.score)
    out = fastattn.attention(*p.arrays, score=spec, causal="top_left", return_lse=True, return_weights=True)
    for i in range(70):
        step = fastattn.attention(
            p.query[:, i : i + 1],
            p.key[:, : i + 1],
            p.value[:, : i + 1],
            score=spec,
            return_lse=True,
            return_weights=True,
        )
        assert same_bits(step.context[:, 0], out.context[:, i]), i
        assert same_bits(step.lse[:, 0], out.lse[:, i]), i
        assert same_bits(step.weights[:, 0], out.weights[:, i, : i + 1]), i


@families
def test_step_by_step_beyond_one_chunk_has_the_bits_of_all_at_once(score):
    p = problem(score, batch=(1,), tq=1100, tk=1100, dk=8, dv=5, da=8)
    spec = library_score(p.score)
    full = fastattn.attention(*p.arrays, score=spec, causal=True)
    for i in (0, 1, 62, 63, 64, 127, 510, 511, 512, 513, 767, 1023, 1024, 1025, 1099):
        step = fastattn.attention(p.query[:, i : i + 1], p.key[:, : i + 1], p.value[:, : i + 1], score=spec)
        assert same_bits(step[:, 0], full[:, i]), i


@families
def test_blocks_of_queries_have_the_bits_of_all_at_once(score):
    p = problem(score, batch=(2,), tq=90, tk=90)
    spec = library_score(p.score)
    full = fastattn.attention(*p.arrays, score=spec, causal=True)
    for start, stop in ((0, 1), (1, 32), (32, 33), (33, 90)):
        block = fastattn.attention(
            p.query[:, start:stop], p.key[:, :stop], p.value[:, :stop], score=spec, causal="bottom_right"
        )
        assert same_bits(block, full[:, start:stop])


def test_a_window_has_the_bits_of_the_mask_it_stands_for():
    p = problem("dot", batch=(2,), tq=600, tk=600, dk=8)
    i, j = np.ogrid[:600, :600]
    mask = (j >= i - 40) & (j <= i + 3)
    assert same_bits(everything(p, window=(40, 3)), everything(p, mask=mask))


@families
def test_asking_for_weights_changes_no_other_bit(score):
    p = batched(problem(score, tk=130))
    options = {"score": library_score(p.score), **p.rest}
    bare = fastattn.attention(*p.arrays, **options)
    context, backward = fastattn.attention_vjp(*p.arrays, **options)
    full, backward_full = fastattn.attention_vjp(*p.arrays, **options, return_weights=True, return_lse=True)
    assert same_bits(bare, full.context) and same_bits(bare, context)
    assert same_bits(backward(p.d_context), backward_full(p.d_context))


# Another process


FORK = """
import os, signal, sys
import numpy as np
import fastattn
from cases import AttentionCase, library_score, make
from checks import run_all, same_bits
from layouts import LAYOUTS, part
signal.alarm(60)
fastattn.set_num_threads(4)
for score in ("scaled_dot", "additive"):
    p = make(AttentionCase("fork-" + score, batch=(2, 4), tq=50, tk=70, score=score))
    def go(): return run_all(*p.arrays, p.d_context, library_score(p.score))
    expected = go()
    for _ in range(20):
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            os._exit(0 if same_bits(expected, go()) else 3)
        assert os.waitpid(child, 0)[1] == 0, score
    assert same_bits(expected, go())
"""

FRESH = """
import hashlib
from cases import AttentionCase, library_score, make
from checks import run_all
digest = hashlib.sha256()
for score in ("scaled_dot", "additive", "general", "cosine"):
    for dtype in ("float32", "float64"):
        p = make(AttentionCase("fresh-" + score, batch=(2, 4), tq=50, tk=70, score=score, dtype=dtype))
        for x in run_all(*p.arrays, p.d_context, library_score(p.score)):
            digest.update(x.tobytes())
print(digest.hexdigest())
"""


def test_a_forked_child_gives_the_same_bits(run_shared):
    run_shared(FORK)


def test_fresh_processes_give_the_same_bits(run_shared):
    assert len({run_shared(FRESH, FASTATTN_NUM_THREADS=str(n)).stdout for n in (1, 2, 5)}) == 1
