"""Beams: memories that are selected from, appended to and selected from again give the bits of plain attention."""

import numpy as np
import pytest
from checks import same_bits

import fastattn

SHAPES = {"3-D": ((), ()), "heads": ((4,), (4,)), "grouped heads": ((4,), (2,))}


def score_of(name, width, dtype):
    if name == "scaled_dot":
        return name
    return fastattn.scores.Additive(np.linspace(-1, 1, width).astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["scaled_dot", "additive"])
def test_reordered_beams_against_plain_attention(name, shape, dtype):
    heads, key_heads = SHAPES[shape]
    rng, width, values = np.random.default_rng(5), 20, 12
    score = score_of(name, width, dtype)

    def draw(size, more, last, scale=1.0):
        x = scale * rng.standard_normal((size, *more, 1, last))
        x[0, ..., 0] *= 1e4  # additive scores of such keys are computed from the keys themselves
        return x.astype(dtype)

    memory = fastattn.prepare(*(np.empty((3, *key_heads, 0, last), dtype) for last in (width, values)), score=score)
    past = [np.empty((3, *key_heads, 0, last), dtype) for last in (width, values)]
    storage, before = [], fastattn.get_num_threads()
    for t in range(70):
        size = len(past[0])
        new = draw(size, key_heads, width), draw(size, key_heads, values)
        memory = memory.extended(*new)
        past = [np.concatenate(both, axis=-2) for both in zip(past, new)]
        query = draw(size, heads, width)
        expected = fastattn.attention(query, *past, score=score)
        for threads in (1, 3):
            fastattn.set_num_threads(threads)
            assert same_bits(memory.attend(query), expected), (t, threads)
        fastattn.set_num_threads(before)
        found = memory.attend(query, return_weights=True, return_lse=True)
        plain = fastattn.attention(query, *past, score=score, return_weights=True, return_lse=True)
        assert same_bits(found.weights, plain.weights) and same_bits(found.lse, plain.lse)
        if t % 8 == 3:
            sparse = {"normalizer": "sparsemax", "return_weights": True}
            found, plain = memory.attend(query, **sparse), fastattn.attention(query, *past, score=score, **sparse)
            assert same_bits(found.context, plain.context) and same_bits(found.weights, plain.weights)
        storage.append(memory._keys)
        rows = rng.integers(0, size, 9 if t < 40 else max(1, size - t % 2))
        memory, past = memory.select(rows), [x[rows] for x in past]
        assert memory.shape == past[0].shape[:-1]
    # At the first step, where beams are more than sources, and where the space doubles: 16, 32, 64.
    assert len({id(keys) for keys in storage}) == 5


def test_chunks_of_many_positions():
    rng = np.random.default_rng(6)
    key, value = (rng.standard_normal((4, 1100, 8)).astype(np.float32) for _ in range(2))
    query = rng.standard_normal((4, 1, 8)).astype(np.float32)
    rows = np.array([3, 0, 0, 1])
    memory = fastattn.prepare(key[:, :600], value[:, :600]).select(rows)
    memory = memory.extended(key[:, 600:], value[:, 600:]).select(rows)
    key, value = (np.concatenate([x[rows][:, :600], x[:, 600:]], axis=1)[rows] for x in (key, value))
    assert memory._table is not None
    assert same_bits(memory.attend(query), fastattn.attention(query, key, value))


def test_siblings_of_one_selection_grow_apart():
    rng = np.random.default_rng(7)
    key, value = (rng.standard_normal((3, 6, 8)).astype(np.float32) for _ in range(2))
    query = rng.standard_normal((3, 1, 8)).astype(np.float32)
    start = fastattn.prepare(key[:, :2], value[:, :2]).extended(key[:, 2:3], value[:, 2:3]).select([0, 1, 2])
    parent = start.extended(key[:, 3:4], value[:, 3:4])
    first, second = parent.select([2, 2, 1]), parent.select([0, 0, 0])
    first = first.extended(key[:, 4:5], value[:, 4:5])
    second = second.extended(key[:, 5:6], value[:, 5:6])
    for memory, rows, last in ((first, [2, 2, 1], 4), (second, [0, 0, 0], 5)):
        k, v = (np.concatenate([x[rows][:, :4], x[:, last : last + 1]], axis=1) for x in (key, value))
        assert same_bits(memory.attend(query), fastattn.attention(query, k, v))
    assert same_bits(parent.attend(query), fastattn.attention(query, key[:, :4], value[:, :4]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["scaled_dot", "additive"])
@pytest.mark.parametrize("rows", [[0, 0, 0, 2, 2, 2], [1, 1, 1, 1], [2, 0, 1], [0, 0, 1], [1] * 15, []], ids=str)
def test_beams_that_share_a_row(name, shape, rows):
    heads, key_heads = SHAPES[shape]
    rng = np.random.default_rng(8)
    score = score_of(name, 20, "float32")
    key, value = (rng.standard_normal((3, *key_heads, 70, last)).astype(np.float32) for last in (20, 12))
    lengths = np.array([70, 1, 33])
    for b in range(3):
        key[b, ..., lengths[b] :, :] = value[b, ..., lengths[b] :, :] = np.nan
    query = rng.standard_normal((len(rows), *heads, 1, 20)).astype(np.float32)
    rows = np.array(rows, np.int64)
    beams = fastattn.prepare(key, value, score=score, key_lengths=lengths).select(rows)
    options = {"score": score, "key_lengths": lengths[rows], "return_weights": True, "return_lse": True}
    expected = fastattn.attention(query, key[rows], value[rows], **options)
    found = beams.attend(query, return_weights=True, return_lse=True)
    assert same_bits(found.context, expected.context)
    assert same_bits(found.weights, expected.weights) and same_bits(found.lse, expected.lse)
    assert same_bits(beams.attend(query), expected.context)
    sparse = fastattn.attention(
        query, key[rows], value[rows], **{**options, "return_lse": False}, normalizer="sparsemax"
    )
    assert same_bits(beams.attend(query, normalizer="sparsemax"), sparse.context)
    out = np.empty_like(expected.context)
    assert same_bits(beams.attend(query, out=out), expected.context)
    two = np.concatenate([query, query], axis=-2)
    both = fastattn.attention(two, key[rows], value[rows], score=score, key_lengths=lengths[rows])
    assert same_bits(beams.attend(two), both)
