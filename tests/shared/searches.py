"""Models to search with, the searches by name, and what they find as arrays."""

import numpy as np
from seq2seq_cases import CASES, SOURCE_SIZE, TARGET_SIZE, Pairs

from fastattn.seq2seq import EOS, beam_search, build, greedy, sample


def make(name, seed=3, spread=1.0):
    """A model whose distributions are far from uniform."""
    model = build(CASES[name], SOURCE_SIZE, TARGET_SIZE, seed)
    rng = np.random.default_rng(seed)
    for parameter in model.parameters().values():
        with parameter.edit() as value:
            value += spread * rng.normal(size=parameter.value.shape).astype(np.float32)
    with model.projection.b.edit() as value:  # sentences of several tokens
        value[EOS] = -3
    return model


def targets(batch, hypotheses):
    """The hypotheses as the targets of their sources."""
    tokens = [[*h.tokens.tolist(), EOS] if h.finished else h.tokens.tolist() for h in hypotheses]
    lengths = np.array([len(t) for t in tokens])
    ids = np.zeros((len(tokens), lengths.max()), np.int64)
    for row, t in zip(ids, tokens):
        row[: len(t)] = t
    return Pairs(batch.source, batch.source_lengths, ids, lengths)


def as_arrays(hypothesis):
    numbers = np.array([hypothesis.log_probability, hypothesis.score, hypothesis.finished])
    return (hypothesis.tokens, numbers, *([] if hypothesis.weights is None else [hypothesis.weights]))


SEARCHES = {
    "greedy": lambda m, b, rows, **o: [[h] for h in greedy(m, b.source, b.source_lengths, **o)],
    "sample": lambda m, b, rows, **o: [
        [h] for h in sample(m, b.source, b.source_lengths, seeds=rows + 7, temperature=1.5, top_k=5, top_p=0.9, **o)
    ],
    "beam": lambda m, b, rows, **o: beam_search(m, b.source, b.source_lengths, size=4, best=3, length_penalty=0.7, **o),
}
