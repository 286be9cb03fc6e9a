"""Embeddings that are columns of a matrix: the bits of an embedding whose rows these are."""

import numpy as np
import pytest
from checks import same_bits

import fastattn
from fastattn.layers import Embedding, Parameter
from fastattn.seq2seq.models.tied import TiedEmbedding

SIZE = 9


def pair(width, dtype):
    rows = Embedding(SIZE, width, rng=np.random.default_rng(3), dtype=dtype)
    return TiedEmbedding(Parameter(np.ascontiguousarray(rows.w.value.T))), rows


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [1, 5, 16, 70])
def test_against_rows(width, dtype):
    tied, rows = pair(width, dtype)
    rng = np.random.default_rng(0)
    for ids in (rng.integers(0, SIZE, (6, 11), dtype=np.int32), np.array([0, 8]), np.zeros((2, 0), np.int64)):
        y, backward = tied.vjp(ids)
        wanted, rows_back = rows.vjp(ids)
        assert same_bits(y, wanted) and same_bits(tied.forward(ids), y)
        dy = rng.standard_normal((width, *ids.shape)).astype(dtype).transpose(*range(1, ids.ndim + 1), 0)
        for _ in range(2):  # added, the second time to what is there
            backward(dy)
            rows_back(dy)
        assert same_bits(np.ascontiguousarray(tied.w.gradient.T), rows.w.gradient)
    assert tied.forward(np.int64(3)).shape == (width,)
    with pytest.raises(fastattn.ArgumentError, match=f"from 0 to {SIZE - 1}, got {SIZE}"):
        tied.forward(np.array([SIZE]))


def test_threads():
    tied, _ = pair(700, "float32")
    ids = np.random.default_rng(1).integers(0, SIZE, 200)
    dy, found = np.random.default_rng(2).standard_normal((200, 700)).astype(np.float32), []
    before = fastattn.get_num_threads()
    try:
        for threads in (1, 2, 3, 16):
            fastattn.set_num_threads(threads)
            tied.w.gradient = np.zeros((700, SIZE), np.float32)
            y, backward = tied.vjp(ids)
            backward(dy)
            found.append((y, tied.w.gradient.copy()))
    finally:
        fastattn.set_num_threads(before)
    assert all(same_bits(y, found[0][0]) and same_bits(gradient, found[0][1]) for y, gradient in found)
