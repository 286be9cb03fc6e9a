"""Batches: within the budget, every sample once, and a function of (seed, epoch) alone."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastattn._kernels import core
from fastattn.errors import ArgumentError, ShapeError
from fastattn.seq2seq import EOS, PAD, Batches
from fastattn.seq2seq.text.batches import group, mix64, pad, sample_seeds


def numbers(start, count, below):
    return [core.mix64(number) % below for number in range(start, start + count)]


SOURCE = [np.array([*(4 + np.array(numbers(7 * i, n, 90))), EOS], int) for i, n in enumerate(numbers(0, 400, 20))]
TARGET = [np.array([*(4 + np.array(numbers(9 * i, n, 90))), EOS], int) for i, n in enumerate(numbers(500, 400, 20))]

two_lengths = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60)


def corpus(seed=0, budget=64, **options):
    return Batches(SOURCE, TARGET, tokens_per_batch=budget, seed=seed, **options)


def same(left, right):
    return len(left) == len(right) and all(np.array_equal(a, b) for a, b in zip(left, right))


def content(batches):
    digest = hashlib.sha256()
    for batch in batches:
        for array in (batch.source, batch.source_lengths, batch.target, batch.target_lengths, batch.indices):
            digest.update(repr((array.shape, array.dtype.str)).encode() + array.tobytes())
    return digest.hexdigest()


def test_the_mix_is_that_of_the_kernels():
    values = [0, 1, 2**63, 2**64 - 1, *numbers(0, 50, 2**64)]
    assert mix64(np.array(values, np.uint64)).tolist() == [core.mix64(value) for value in values]


def test_mixing_leaves_its_argument_alone():
    values = np.arange(3, dtype=np.uint64)
    mix64(values)
    assert values.tolist() == [0, 1, 2]


def test_rows_are_padded_and_nothing_else():
    ids, lengths = pad([[7, 2], [2], [8, 9, 2]])
    assert ids.tolist() == [[7, 2, PAD], [2, PAD, PAD], [8, 9, 2]]
    assert lengths.tolist() == [2, 1, 3]
    assert (ids.dtype, lengths.dtype) == (np.int32, np.int64)
    assert pad([])[0].shape == (0, 0)


@given(two_lengths, st.integers(30, 200))
def test_groups_hold_every_sample_once_within_the_budget(lengths, budget):
    lengths = np.array(lengths, np.int64).reshape(-1, 2)
    groups = group(lengths, budget)
    assert sorted(np.concatenate([*groups, np.empty(0, np.int64)]).tolist()) == list(range(len(lengths)))
    for indices in groups:
        assert len(indices) * lengths[indices].max() <= budget
    joined = [i for indices in groups for i in indices]
    assert [tuple(lengths[i])[::-1] for i in joined] == sorted(tuple(pair)[::-1] for pair in lengths)


def test_a_group_is_closed_only_when_the_next_sample_does_not_fit():
    lengths = np.array([[2], [2], [3], [1], [4], [2], [6]])
    groups = group(lengths, 6)
    assert [indices.tolist() for indices in groups] == [[3, 0, 1], [5, 2], [4], [6]]
    assert [indices.tolist() for indices in group(lengths, 6, np.array([5, 1, 6, 0]))] == [[5, 1, 0], [6]]


def test_equal_lengths_keep_the_given_order():
    order = np.array([3, 0, 2, 1])
    assert group(np.full(4, 5), 100, order)[0].tolist() == order.tolist()


def test_a_sample_longer_than_the_budget_is_named():
    with pytest.raises(ArgumentError, match="at most 8 tokens, got 9 tokens in sample 1"):
        group(np.array([8, 9, 2]), 8)
    with pytest.raises(ArgumentError, match="max_length"):
        corpus(budget=19)


@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_holds_every_sample_once(shuffle):
    batches = corpus(shuffle=shuffle)
    seen = []
    for batch in batches.epoch(4):
        assert batch.source.size <= 64 and batch.target.size <= 64
        assert len(batch) == len(batch.indices) == len(batch.target)
        for row, index in enumerate(batch.indices):
            for ids, lengths, samples in (
                (batch.source, batch.source_lengths, SOURCE),
                (batch.target, batch.target_lengths, TARGET),
            ):
                assert lengths[row] == len(samples[index])
                assert np.array_equal(ids[row, : lengths[row]], samples[index])
                assert (ids[row, lengths[row] :] == PAD).all()
        seen += batch.indices.tolist()
    assert sorted(seen) == list(range(400))


def test_the_plan_depends_on_seed_and_epoch_alone():
    batches = corpus(seed=5)
    second = batches.plan(2)
    batches.plan(0)
    assert same(batches.plan(2), second)
    assert same(corpus(seed=5).plan(2), second)
    assert not same(corpus(seed=5).plan(3), second)
    assert not same(corpus(seed=6).plan(2), second)


def test_the_plan_is_that_of_yesterday():
    assert content(corpus(seed=1).epoch(3)) == ("ba4142a3fc3c10ff63d4a55cb06b3276cdc760c0259b0c62f2faac7cf65112e9")


def test_batches_are_shuffled_too():
    batches = corpus(pool=10**6)
    longest = [[max(len(TARGET[i]) for i in indices) for indices in batches.plan(epoch)] for epoch in range(2)]
    assert sorted(longest[0]) == sorted(longest[1]) and longest[0] != longest[1]
    assert longest[0] != sorted(longest[0])
    assert sorted(map(len, corpus(pool=10**6).plan(0))) == sorted(map(len, corpus(shuffle=False).plan(0)))


def test_neighbours_change_from_epoch_to_epoch():
    batches = corpus(pool=4)
    pairs = [{(a, b) for indices in batches.plan(e) for a in indices for b in indices if a < b} for e in (0, 1)]
    assert len(pairs[0] & pairs[1]) < 0.3 * len(pairs[0])


def test_without_shuffling_all_epochs_are_one():
    batches = corpus(shuffle=False)
    assert same(batches.plan(0), batches.plan(7))
    assert same(batches.plan(0), group(np.array([[len(s), len(t)] for s, t in zip(SOURCE, TARGET)]), 64))


def test_a_larger_pool_pads_less():
    def padded(pool):
        return sum(batch.source.size + batch.target.size for batch in corpus(pool=pool).epoch(0))

    assert padded(1) > padded(5) > padded(50)


@pytest.mark.parametrize("start", [0, 1, 17])
def test_an_epoch_resumes_at_any_batch(start):
    whole = [content([batch]) for batch in corpus(seed=2).epoch(1)]
    assert [content([batch]) for batch in corpus(seed=2).epoch(1, start=start)] == whole[start:]
    assert list(corpus(seed=2).epoch(1, start=len(whole))) == []
    assert corpus(seed=2).count(1) == len(whole)


def test_the_seed_of_a_sample_does_not_depend_on_its_batch():
    indices = np.array([9, 3, 250])
    seeds = sample_seeds(7, 2, indices)
    assert seeds.dtype == np.uint64
    assert seeds.tolist() == sample_seeds(7, 2, np.arange(400))[indices].tolist()


def test_seeds_differ_by_every_number():
    seeds = [sample_seeds(seed, epoch, np.arange(1000)) for seed in (0, 1, 2) for epoch in range(5)]
    assert len(set(np.concatenate(seeds).tolist())) == 15000
    start = core.mix64(core.mix64(core.mix64(7) + 2) + 2)
    assert sample_seeds(7, 2, np.array([9])).tolist() == [core.mix64(start + 9)]
    assert sample_seeds(-1, 0, np.array([0])).shape == (1,)


def test_an_empty_corpus_has_no_batch():
    batches = Batches([], [], tokens_per_batch=8)
    assert list(batches.epoch(0)) == [] and batches.count() == 0


def test_wrong_calls():
    with pytest.raises(ShapeError, match="400 samples, as in source, got 399 samples"):
        Batches(SOURCE, TARGET[1:], tokens_per_batch=64)
    with pytest.raises(ArgumentError, match="pool"):
        corpus(pool=0)
