"""The same bits with sparse normalizers: whatever the batch, padding, threads, layout and number of steps."""

import dataclasses

import numpy as np
import pytest
from cases import library_score
from checks import same_bits
from layouts import LAYOUTS, part
from sparse_problems import NAMES, dtypes, everything, families, problem, sparse

import fastattn


def batched(p):
    """Per-sample options that move with the samples."""
    rng = np.random.default_rng(1)
    samples, keys = p.query.shape[0], p.key.shape[-2]
    mask = rng.random((samples, *[1] * (p.query.ndim - 2), keys)) < 0.8
    options = {"key_lengths": rng.integers(1, keys + 1, samples), "mask": mask}
    options.update(dropout=0.2, seed=rng.integers(0, 2**63, samples, np.uint64))
    return dataclasses.replace(p, rest={**p.rest, **options})


@dtypes
@families
@sparse
def test_one_sample_alone_has_the_bits_it_has_in_a_batch(name, score, dtype):
    p = batched(problem(name, score, dtype))
    whole = everything(p)[:5]
    for row in range(5):
        assert same_bits([x[row : row + 1] for x in whole], everything(part(p, slice(row, row + 1)))[:5])


@families
@sparse
def test_a_query_row_alone_has_the_bits_it_has_among_others(name, score):
    p = problem(name, score, tq=100, tk=600, batch=(2,))
    full = everything(p)[:3]
    for i in (0, 5, 6, 47, 48, 95, 96, 99):
        row = dataclasses.replace(p, query=p.query[:, i : i + 1], d_context=p.d_context[:, i : i + 1])
        assert same_bits([x[:, i : i + 1] for x in full], everything(row)[:3])


@families
@sparse
@pytest.mark.parametrize("tk", [1, 17, 64, 500])
def test_padding_with_poison_changes_nothing(name, score, tk):
    p = problem(name, score, batch=(2,), tk=tk, dk=16, dv=9)
    plain = everything(p)
    for extra in (1, 2, 15, 16, 31, 48, 63, 513):
        width = ((0, 0), (0, extra), (0, 0))
        key, value = (np.pad(x, width, constant_values=np.nan) for x in (p.key, p.value))
        found = everything(dataclasses.replace(p, key=key, value=value), key_lengths=np.array([tk, tk]))
        cut = [x[..., :tk] if n == 1 else x[:, :tk] if n in (3, 4) else x for n, x in enumerate(found)]
        assert same_bits(cut, plain)
        assert not found[1][..., tk:].any() and not found[3][:, tk:].any() and not found[4][:, tk:].any()


@families
@sparse
def test_padding_by_a_mask_anywhere_changes_nothing(name, score):
    """Unlike the lanes of softmax, packed candidates have no place of their own: keys may be left out anywhere."""
    p = problem(name, score, tk=90)
    mask = np.random.default_rng(2).random(90) < 0.7
    cut = dataclasses.replace(p, key=p.key[:, mask], value=p.value[:, mask])
    padded, short = everything(p, mask=mask), everything(cut)
    assert same_bits(padded[0], short[0]) and same_bits(padded[1][..., mask], short[1])
    assert same_bits(padded[2], short[2]) and same_bits([x[:, mask] for x in padded[3:5]], short[3:5])


@dtypes
@families
@sparse
def test_any_number_of_threads_gives_the_same_bits(name, score, dtype):
    heads = batched(problem(name, score, dtype, batch=(3, 4), key_heads=2, tq=50, tk=70, dk=16))
    long = problem(name, score, dtype, batch=(1,), tq=300, tk=1100, dk=16, da=8)
    for p, rest in ((heads, {}), (long, {"causal": "bottom_right"}), (problem(name, batch=(4, 2), bias=(41,)), {})):
        fastattn.set_num_threads(1)
        expected = everything(p, **rest)
        for threads in (2, 3, 4, 7, 16):
            fastattn.set_num_threads(threads)
            assert same_bits(expected, everything(p, **rest)), threads


@sparse
def test_fifty_runs_give_the_same_bits(name):
    fastattn.set_num_threads(4)
    p = batched(problem(name, tk=70))
    expected = everything(p)
    assert all(same_bits(expected, everything(p)) for _ in range(50))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@families
def test_any_layout_gives_the_same_bits(score, layout):
    p = problem("entmax15", score)
    rng = np.random.default_rng(6)
    mask, bias = rng.random((5, 7, 41)) < 0.8, rng.standard_normal((5, 7, 41)).astype(np.float32)
    expected = everything(p, mask=mask, bias=bias)
    names = ("query", "key", "value", "d_context")
    moved = dataclasses.replace(p, **{name: layout(getattr(p, name)) for name in names})
    assert same_bits(expected, everything(moved, mask=layout(mask), bias=layout(bias)))


@dtypes
@families
@sparse
def test_step_by_step_has_the_bits_of_all_at_once(name, score, dtype):
    p = problem(name, score, dtype, batch=(2,), tq=70, tk=70, dk=8)
    rest = {"score": library_score(p.score), "normalizer": p.rest["normalizer"], "return_weights": True}
    out = fastattn.attention(*p.arrays, causal="top_left", **rest)
    memory = None
    for i in range(70):
        now = slice(i, i + 1)
        step = fastattn.attention(p.query[:, now], p.key[:, : i + 1], p.value[:, : i + 1], **rest)
        assert same_bits(step.context[:, 0], out.context[:, i]), i
        assert same_bits(step.weights[:, 0], out.weights[:, i, : i + 1]), i
        if memory is None:
            memory = fastattn.prepare(p.key[:, :1], p.value[:, :1], score=rest["score"])
        else:
            memory.append(p.key[:, now], p.value[:, now])
        step = memory.attend(p.query[:, now], normalizer=rest["normalizer"])
        assert same_bits(step[:, 0], out.context[:, i]), i


@families
@pytest.mark.parametrize("name", NAMES)
def test_a_prepared_memory_attends_with_the_same_bits(name, score):
    p = batched(problem(name, score, tk=600))
    rest = {k: v for k, v in p.rest.items() if k in ("normalizer", "dropout", "seed")}
    options = {"key_lengths": p.rest["key_lengths"], "mask": p.rest["mask"], "score": library_score(p.score)}
    memory = fastattn.prepare(p.key, p.value, **options)
    expected = fastattn.attention(*p.arrays, **options, **rest)
    assert same_bits(memory.attend(p.query, **rest), expected)
    order = np.array([2, 0, 0, 1, 4, 4])
    rest["seed"] = rest["seed"][order]
    assert same_bits(memory.select(order).attend(p.query[order], **rest), expected[order])


@families
@sparse
def test_inputs_are_never_written_and_weights_change_no_other_bit(name, score):
    p = batched(problem(name, score))
    before = [x.copy() for x in (*p.arrays, p.d_context)]
    with_weights = everything(p)
    assert same_bits(before, [*p.arrays, p.d_context])
    context, backward = fastattn.attention_vjp(*p.arrays, score=library_score(p.score), **p.rest)
    gradients = backward(p.d_context)
    assert same_bits([context, gradients.query, gradients.key, gradients.value], [with_weights[0], *with_weights[2:5]])
