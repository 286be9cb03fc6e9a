"""What a user writes, for type checkers in their strict modes: kinds of results follow from flags."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import fastattn
from fastattn.seq2seq import BahdanauConfig, build
from fastattn.variants import Variant
from fastattn.variants.heads.multihead import MultiHead

Array = NDArray[Any]

rng = np.random.default_rng(0)
query = rng.normal(size=(2, 5, 8)).astype(np.float32)
lengths = np.array([3, 5])

context = fastattn.attention(query, query, query, causal="top_left", normalizer="sparsemax")
assert_type(context, Array)
print(context.shape)

output = fastattn.attention(query, query, query, score="dot", key_lengths=lengths, return_weights=True)
assert_type(output, fastattn.AttentionOutput)
print(output.context.shape, output.weights.shape, fastattn.attention(query, query, query, return_lse=True).lse.shape)

score = fastattn.scores.Additive(v=np.ones(8, np.float32))
context, backward = fastattn.attention_vjp(query, query, query, score=score, window=(2, 0))
gradients = backward(np.ones_like(context))
assert_type(gradients, fastattn.Gradients)
print(gradients.query.shape, sorted(gradients.score))

memory = fastattn.prepare(query, query, score=score)
assert_type(memory.attend(query), Array)
assert_type(memory.attend(query, return_weights=True), fastattn.AttentionOutput)


def of_a_plugin() -> None:
    assert_type(fastattn.create("somebody:else", query_width=8, memory_width=8), Variant[Any])


def either(flag: bool) -> None:
    assert_type(memory.attend(query, return_weights=flag), Array | fastattn.AttentionOutput)


mechanism = fastattn.create("multihead", query_width=8, memory_width=8, heads=2, rng=rng)
assert_type(mechanism, MultiHead)
prepared = mechanism.prepare(query, lengths)
one, weights, state = mechanism.step(query[:, 0], prepared, mechanism.start(prepared))
print(one.shape, mechanism.parameters().keys(), state.shape)

model = build(BahdanauConfig(embedding=8, hidden=8, attention=8, readout_width=8), 10, 10, 1, np.float32)
print(model.parameters().keys(), fastattn.layers.Linear, fastattn.viz.heatmap)


def refused() -> None:
    """What checkers are to find: a word that is none of those that an argument may be."""
    BahdanauConfig(reset="behind")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    v = np.ones(8, np.float32)
    fastattn.scores.Additive(v, activation="tan")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
