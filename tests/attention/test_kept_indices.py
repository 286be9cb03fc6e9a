"""Arrays of numbers that are indices later: whatever the caller does with them, what was checked stays so."""

import dataclasses

import numpy as np
import pytest
from checks import same_bits
from seq2seq_cases import CASES, SOURCE_SIZE, TARGET_SIZE, random_pairs

from fastattn._arrays import frozen, read_only
from fastattn.layers import GRU, LSTM, Embedding, Linear, dropout_vjp
from fastattn.losses import cross_entropy_vjp
from fastattn.seq2seq import build
from fastattn.seq2seq.models.tied import TiedEmbedding

FAR = 10**9


def embedding(ids):
    layer = Embedding(9, 3, padding=0, rng=np.random.default_rng(0))
    y, backward = layer.vjp(ids)
    return lambda: (backward(np.ones_like(y)), layer.w.gradient)[1]


def tied(ids):
    layer = TiedEmbedding(Linear(3, 9, rng=np.random.default_rng(0)).w)
    y, backward = layer.vjp(ids)
    return lambda: (backward(np.ones_like(y)), layer.w.gradient)[1]


def loss(targets):
    projection = Linear(3, 9, rng=np.random.default_rng(0))
    _, _, backward = cross_entropy_vjp(np.ones((*targets.shape, 3), np.float32), projection, targets, ignore=2)
    return lambda: backward()


def dropped(seeds):
    y, backward = dropout_vjp(np.ones((3, 40), np.float32), 0.5, seeds)
    return lambda: backward(np.ones_like(y))


def recurrent(layer):
    def make(lengths):
        y, _, backward = layer.vjp(np.ones((3, 8, 2), np.float32), None, lengths)
        return lambda: backward(np.ones_like(y))[0]

    return make


KEPT = {
    "embedding": embedding,
    "tied embedding": tied,
    "cross entropy": loss,
    "dropout": dropped,
    "gru": recurrent(GRU(2, 4, rng=np.random.default_rng(0))),
    "lstm": recurrent(LSTM(2, 4, rng=np.random.default_rng(0))),
}


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int32])
@pytest.mark.parametrize("name", KEPT)
def test_a_buffer_may_be_used_again_before_the_way_back(name, dtype):
    numbers = np.array([1, 3, 3], dtype)
    expected = KEPT[name](numbers.copy())()
    backward = KEPT[name](numbers)
    numbers[:] = FAR
    assert same_bits(backward(), expected) and expected.any()


@pytest.mark.parametrize("name", CASES)
def test_the_arrays_of_a_batch_may_be_used_again_before_the_way_back(name):
    def run(spoil):
        model, batch = build(dataclasses.replace(CASES[name]), SOURCE_SIZE, TARGET_SIZE, 1), random_pairs()
        _, _, backward = model.loss_vjp(batch, seeds=np.arange(len(batch.source), dtype=np.uint64))
        if spoil:
            for array in (batch.source, batch.source_lengths, batch.target, batch.target_lengths):
                array[...] = FAR
        backward(1.0)
        return [parameter.gradient for parameter in model.parameters().values()]

    assert same_bits(run(True), run(False))


@pytest.mark.parametrize(
    "array", [np.arange(6).reshape(2, 3).T, np.zeros((0, 3)), np.float64(3.0), np.ones((2, 2), bool)], ids=str
)
def test_frozen_is_a_copy_for_good(array):
    array = np.asarray(array)
    found = frozen(array)
    assert same_bits(found, array) and not np.may_share_memory(found, array) and found.flags.c_contiguous
    for view in (found, read_only(np.array(array))):
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.flags.writeable = True
