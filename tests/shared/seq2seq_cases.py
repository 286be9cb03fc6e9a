"""Small models of every kind, batches for them, and searches by name."""

from dataclasses import dataclass

import numpy as np

from fastattn.seq2seq import (
    EOS,
    BahdanauConfig,
    ChoConfig,
    LuongConfig,
    SutskeverConfig,
    TransformerConfig,
    WuConfig,
    beam_search,
    build,
    greedy,
    sample,
)

SMALL = {"dropout": 0.2, "label_smoothing": 0.1}
TINY = {"width": 6, "heads": 2, "inner": 9, "encoder_layers": 2, "decoder_layers": 2}
SEEDS = np.arange(4, dtype=np.uint64) + 99
CASES = {
    "bahdanau": BahdanauConfig(embedding=5, hidden=6, attention=7, readout_width=4, **SMALL),
    "bahdanau-after-linear": BahdanauConfig(
        embedding=5, hidden=6, attention=7, readout="linear", reset="after", **SMALL
    ),
    "bahdanau-tied": BahdanauConfig(
        embedding=4,
        hidden=6,
        attention=7,
        readout_width=4,
        context_dropout=0.3,
        readout_dropout=0.4,
        tied=True,
        **SMALL,
    ),
    "bahdanau-conditional": BahdanauConfig(
        embedding=5, hidden=6, attention=7, readout_width=4, conditional=True, reset="after", **SMALL
    ),
    "bahdanau-conditional-linear": BahdanauConfig(
        embedding=5,
        hidden=6,
        attention=7,
        readout="linear",
        conditional=True,
        mechanism={"name": "location_sensitive", "filters": 3, "filter_size": 3},
        **SMALL,
    ),
    "bahdanau-location": BahdanauConfig(
        embedding=5,
        hidden=6,
        attention=7,
        readout_width=4,
        mechanism={"name": "location_sensitive", "filters": 3, "filter_size": 3, "cumulative": True},
        **SMALL,
    ),
    "bahdanau-coverage-linear": BahdanauConfig(
        embedding=5,
        hidden=6,
        attention=7,
        readout="linear",
        mechanism={"name": "coverage", "fertility": 2.0},
        coverage_loss=0.7,
        **SMALL,
    ),
    "bahdanau-gated": BahdanauConfig(
        embedding=5,
        hidden=6,
        attention=7,
        readout_width=4,
        mechanism={"name": "gated_additive"},
        coverage_loss=0.3,
        doubly_stochastic_loss=0.4,
        **SMALL,
    ),
    "bahdanau-neural-coverage": BahdanauConfig(
        embedding=5,
        hidden=6,
        attention=7,
        readout="linear",
        mechanism={"name": "neural_coverage", "coverage_width": 3},
        **SMALL,
    ),
    "bahdanau-multihead": BahdanauConfig(
        embedding=5, hidden=6, readout_width=4, mechanism={"name": "multihead", "heads": 2}, **SMALL
    ),
    "bahdanau-multihead-t5": BahdanauConfig(
        embedding=5,
        hidden=6,
        readout_width=4,
        mechanism={"name": "multihead", "heads": 2, "positions": {"name": "t5", "buckets": 8}},
        **SMALL,
    ),
    "sutskever": SutskeverConfig(embedding=5, hidden=6, layers=2, **SMALL),
    "sutskever-forward": SutskeverConfig(embedding=5, hidden=6, layers=1, reverse_source=False, **SMALL),
    "cho": ChoConfig(embedding=5, hidden=6, readout_width=4, **SMALL),
    "cho-before": ChoConfig(embedding=5, hidden=6, readout_width=4, reset="before", bidirectional=True, **SMALL),
    "cho-after": ChoConfig(embedding=5, hidden=6, readout_width=4, reset="after", **SMALL),
    "luong-general": LuongConfig(embedding=5, hidden=6, layers=2, score="general", **SMALL),
    "luong-dot": LuongConfig(embedding=5, hidden=6, layers=1, score="dot", **SMALL),
    "luong-concat": LuongConfig(embedding=5, hidden=6, layers=3, score="concat", input_feeding=False, **SMALL),
    "luong-losses": LuongConfig(
        embedding=5, hidden=6, layers=1, input_feeding=False, coverage_loss=0.3, doubly_stochastic_loss=0.4, **SMALL
    ),
    "luong-location": LuongConfig(embedding=5, hidden=6, layers=1, score="location", longest_source=9, **SMALL),
    "luong-coverage": LuongConfig(
        embedding=5, hidden=6, layers=2, mechanism={"name": "coverage"}, coverage_loss=0.7, **SMALL
    ),
    "luong-sparse": LuongConfig(
        embedding=5,
        hidden=6,
        layers=2,
        input_feeding=False,
        mechanism={"name": "bahdanau", "normalizer": "entmax15"},
        **SMALL,
    ),
    "luong-multihead": LuongConfig(
        embedding=5, hidden=6, layers=1, mechanism={"name": "multihead", "heads": 2}, **SMALL
    ),
    "wu": WuConfig(embedding=5, hidden=6, readout_width=4, dropout=0.2),
    "transformer-post": TransformerConfig(**TINY, **SMALL),
    "transformer-pre": TransformerConfig(**TINY, norm="pre", bias=True, tied="none", attention_dropout=0.3, **SMALL),
    "transformer-rotary": TransformerConfig(**{**TINY, "width": 8}, positions="rotary", **SMALL),
    "transformer-alibi": TransformerConfig(**TINY, positions="alibi", norm="pre", attention_dropout=0.3, **SMALL),
    "transformer-t5": TransformerConfig(**TINY, positions="t5", attention_dropout=0.3, **SMALL),
    "transformer-swish": TransformerConfig(**TINY, activation="swish", **SMALL),
    "transformer-learned": TransformerConfig(**TINY, positions="learned", longest=50, **SMALL),
    "transformer-bart": TransformerConfig(
        **TINY, positions="learned", longest=50, scaled=False, norm_embedding=True, activation="gelu", **SMALL
    ),
}
SOURCE_SIZE, TARGET_SIZE = 11, 9


@dataclass
class Pairs:
    source: np.ndarray
    source_lengths: np.ndarray
    target: np.ndarray
    target_lengths: np.ndarray

    def row(self, b):
        """Sentence b alone, without padding."""
        s, t = self.source_lengths[b], self.target_lengths[b]
        one = slice(b, b + 1)
        return Pairs(self.source[one, :s], self.source_lengths[one], self.target[one, :t], self.target_lengths[one])


def random_pairs(sentences=4, longest=6, seed=0, padding=0):
    rng = np.random.default_rng(seed)
    sides = []
    for size, extra in ((SOURCE_SIZE, 0), (TARGET_SIZE, 1)):
        lengths = rng.integers(1, longest + 1 + extra, sentences)
        lengths[0], lengths[-1] = 1, longest + extra
        ids = rng.integers(3, size, (sentences, longest + extra)).astype(np.int32)
        ids[np.arange(sentences), lengths - 1] = 2
        ids[np.arange(ids.shape[1]) >= lengths[:, None]] = padding
        sides += [ids, lengths]
    return Pairs(*sides)


def reversal(sentences, seed, letters=6, longest=6):
    """The task of writing a word backwards."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, longest + 1, sentences)
    source = np.zeros((sentences, longest + 1), np.int32)
    target = np.zeros((sentences, longest + 1), np.int32)
    for b, n in enumerate(lengths):
        word = rng.integers(4, 4 + letters, n)
        source[b, :n], target[b, :n] = word, word[::-1]
        source[b, n] = target[b, n] = 2
    return Pairs(source, lengths + 1, target, lengths + 1)


def check_gradients(model):
    """Gradients of some elements of every parameter, the largest among them, against central differences."""
    batch = random_pairs()
    rng = np.random.default_rng(5)
    for parameter in model.parameters().values():  # away from zero biases and from symmetry
        with parameter.edit() as value:
            value += 0.3 * rng.normal(size=parameter.value.shape)
    _, _, backward = model.loss_vjp(batch, seeds=SEEDS)
    backward(0.5)
    for path, parameter in model.parameters().items():
        flat, gradient = parameter.value.reshape(-1), parameter.gradient.reshape(-1)
        places = rng.choice(flat.size, min(flat.size, 6), replace=False)
        places = {*places.tolist(), int(np.abs(gradient).argmax())}
        for place in places:
            kept, losses = flat[place], []
            for sign in (1, -1):
                with parameter.edit() as value:
                    value.reshape(-1)[place] = kept + sign * 1e-5
                losses.append(model.loss_vjp(batch, seeds=SEEDS)[0])
            with parameter.edit() as value:
                value.reshape(-1)[place] = kept
            slope = 0.5 * (losses[0] - losses[1]) / 2e-5
            where = f"{path}[{place}]: {gradient[place]}, differences say {slope}"
            assert abs(slope - gradient[place]) <= 1e-7 + 2e-6 * abs(slope), where
        assert gradient.any(), f"{path} has no gradient"


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
