"""Options that are yes or no, or a name: an array of several elements is neither, and an error that says so."""

import numpy as np
import pytest

import fastattn
from fastattn import layers, linear, optim, positions, scores, seq2seq, variants, viz
from fastattn.errors import FastattnError

F32 = np.float32
Q, K = np.ones((1, 1, 3, 4), F32), np.ones((1, 1, 5, 4), F32)


def rng():
    return np.random.default_rng(0)


def create(name, **options):
    sizes = {"query_width": 4, "memory_width": 4}
    sizes.update(dict.fromkeys(("width", "heads", "filters", "filter_size", "chunk", "coverage_width", "window"), 2))
    given = {n: sizes[n] for n, p in variants.options(name).items() if n in sizes and p.default is p.empty}
    return fastattn.create(name, rng=rng(), **{**given, **options})


def of_variants():
    for name in variants.names():
        for option, parameter in variants.options(name).items():
            if isinstance(parameter.default, (bool, str)):
                yield f"create {name}", option, lambda name=name, **o: create(name, **o)


ADDITIVE = create("additive", width=3)
PREPARED = ADDITIVE.prepare(K[0])
MADE = positions.Alibi(1)
VOCABULARY = seq2seq.Vocabulary(["a"])
MODEL = seq2seq.build(seq2seq.ChoConfig(embedding=2, hidden=2, readout_width=2), 9, 9, 1)
SOURCE = np.array([[5, 6]], np.int32), np.array([2])
WEIGHTS = np.full((1, 1), 0.5)
TRANSLATOR = seq2seq.Translator(MODEL, VOCABULARY, VOCABULARY, seq2seq.Config(model=MODEL.config))


def halves(**options):
    context, residuals = fastattn.attention_forward(Q, K, K)
    return fastattn.attention_backward(Q, K, K, residuals, context, **options)


CALLS = {
    "attention": (lambda **o: fastattn.attention(Q, K, K, **o), "score normalizer causal return_weights return_lse"),
    "attention_vjp": (lambda **o: fastattn.attention_vjp(Q, K, K, **o), "score normalizer return_weights return_lse"),
    "attention_forward": (
        lambda **o: fastattn.attention_forward(Q, K, K, **o),
        "score normalizer return_weights return_lse",
    ),
    "attention_backward": (lambda **o: halves(**o), "bias_gradient"),
    "prepare": (lambda **o: fastattn.prepare(K, K, **o), "score"),
    "attend": (lambda **o: fastattn.prepare(K, K).attend(Q, **o), "normalizer causal return_weights return_lse"),
    "show_config": (fastattn.show_config, "as_dict"),
    "matmul": (lambda **o: linear.PackedWeights(K[0, 0]).matmul(np.ones((2, 5), F32), **o), "relu"),
    "attend by positions": (lambda **o: positions.attend(fastattn.prepare(K, K), Q, MADE, 0, **o), "return_weights"),
    "attend_vjp": (lambda **o: positions.attend_vjp(Q, K, K, MADE, 0, **o), "return_weights"),
    "RelativeBias": (lambda **o: positions.RelativeBias(np.ones(3, F32), **o), "trained"),
    "RelativeBuckets": (lambda **o: positions.RelativeBuckets(2, rng=rng(), **o), "bidirectional"),
    "RelativeVectors": (lambda **o: positions.RelativeVectors(2, rng=rng(), **o), "values"),
    "relative_buckets": (lambda **o: positions.relative_buckets(np.arange(3), **o), "bidirectional"),
    "Rotary": (lambda **o: positions.Rotary(4, **o), "layout"),
    "GRU": (lambda **o: layers.GRU(2, 3, rng=rng(), **o), "reset reverse"),
    "GRUCell": (lambda **o: layers.GRUCell(2, 3, rng=rng(), **o), "reset"),
    "LSTM": (lambda **o: layers.LSTM(2, 3, rng=rng(), **o), "reverse"),
    "Linear": (lambda **o: layers.Linear(2, 3, rng=rng(), **o), "bias"),
    "Variant.forward": (lambda **o: ADDITIVE.forward(Q[0], PREPARED, **o), "return_weights"),
    "Variant.vjp": (lambda **o: ADDITIVE.vjp(Q[0], PREPARED, **o), "return_weights"),
    "variant's name": (lambda name: fastattn.create(name, query_width=4, memory_width=4), "name"),
    "Additive": (lambda **o: scores.Additive(np.ones(4, F32), **o), "activation"),
    "Concat": (lambda **o: scores.Concat(np.ones((8, 4), F32), np.ones(4, F32), **o), "activation"),
    "ReduceOnPlateau": (lambda **o: optim.ReduceOnPlateau(0.1, **o), "better"),
    "Vocabulary": (lambda **o: seq2seq.Vocabulary(["a"], **o), "kind"),
    "greedy": (lambda **o: seq2seq.greedy(MODEL, *SOURCE, limit=2, **o), "weights"),
    "beam_search": (lambda **o: seq2seq.beam_search(MODEL, *SOURCE, size=2, limit=2, **o), "weights"),
    "sample": (lambda **o: seq2seq.sample(MODEL, *SOURCE, seeds=np.array([1]), limit=2, **o), "weights"),
    "Batches": (
        lambda **o: seq2seq.Batches([SOURCE[0][0]], [SOURCE[0][0]], tokens_per_batch=9, seed=1, **o),
        "shuffle",
    ),
    "translate": (lambda **o: TRANSLATOR.translate(["a"], **o), "replace"),
    "search": (lambda **o: TRANSLATOR.search(["a"], **o), "weights replace layers"),
    "Translator.sample": (lambda **o: TRANSLATOR.sample(["a"], seed=1, **o), "weights"),
    "Translator.score": (lambda **o: TRANSLATOR.score(["a"], ["a"], **o), "weights layers"),
    "align": (lambda **o: TRANSLATOR.align("a", "a", **o), "layers"),
    "train": (lambda **o: seq2seq.train("c.toml", "x", **o), "resume quiet"),
    "load": (lambda **o: seq2seq.load("x", **o), "which"),
    "checkpoint.load": (lambda **o: seq2seq.checkpoint.load("x", **o), "which"),
    "heatmap": (lambda **o: viz.heatmap(WEIGHTS, ["a"], ["b"], **o), "normalized numbers colorbar cmap"),
    "overlay": (lambda **o: viz.overlay(WEIGHTS, WEIGHTS[None], ["a"], **o), "normalized smooth cmap"),
    "page": (lambda **o: viz.page(WEIGHTS, ["a"], ["b"], **o), "normalized"),
    "gallery": (lambda **o: viz.gallery([(WEIGHTS, ["a"], ["b"])], **o), "normalized"),
}
CASES = [(name, option, call) for name, (call, names) in CALLS.items() for option in names.split()] + [*of_variants()]


@pytest.mark.parametrize(("name", "option", "call"), CASES, ids=[f"{n}-{o}" for n, o, _ in CASES])
@pytest.mark.parametrize("wrong", [np.array([True, False]), np.array(["a", "b"]), np.ones((2, 2), F32)], ids=str)
def test_several_elements_are_neither_yes_nor_no_nor_a_name(name, option, call, wrong):
    with pytest.raises(FastattnError, match=option):
        call(**{option: wrong})
