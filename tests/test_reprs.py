"""What objects say of themselves: short, in widths, shapes and dtypes, and never an array in full."""

import re

import numpy as np
import pytest
import seq2seq_cases
import variant_cases
from test_copies import CASES, parts, translator

import fastattn
from fastattn import _reprs, layers, seq2seq
from fastattn.seq2seq.text.batches import Batch

INNER = re.compile(r"_kernels|\._|scores\.base\.Kept")  # what no user holds


def check(made):
    """The text of an object, and of all that it is made of, is one short line without numbers or addresses."""
    for part in parts(made):
        kind = type(part)
        if kind.__module__.startswith("fastattn") and not INNER.search(f"{kind.__module__}.{kind.__qualname__}"):
            text = repr(part)
            assert len(text) <= 300 and "\n" not in text, text
            assert "array(" not in text and " at 0x" not in text, text


@pytest.mark.parametrize("name", CASES)
def test_an_object_is_one_short_line(name):
    check(CASES[name][0]())


@pytest.mark.parametrize("case", variant_cases.CASES, ids=variant_cases.label)
def test_a_mechanism_its_memory_and_its_states_are_one_short_line(case):
    problem = variant_cases.make(case)
    prepared = problem.prepare()
    state = problem.variant.step(problem.queries[:, 0], prepared, problem.variant.start_search(prepared))[2]
    check([problem.variant, prepared, state])
    assert str(problem.variant.dtype) in repr(problem.variant)


def test_results_are_one_short_line():
    [[found]] = translator().search(["ab" * 50], beam=1, weights=True, max_length=60)
    assert found.weights.size > 200 and "weights=float32 (" in repr(found)
    model = seq2seq.build(seq2seq_cases.CASES["bahdanau"], 9, 9, seed=0)
    batch = seq2seq_cases.random_pairs()
    [hypothesis, *_] = seq2seq.greedy(model, batch.source % 9, batch.source_lengths, limit=3, weights=True)
    big = np.zeros((40, 40), np.int32)
    for made in (found, hypothesis, Batch(big, big[0], big, big[0], big[0])):
        check(made)


def test_states_that_others_define_are_short_too():
    from dataclasses import dataclass, field

    @dataclass(frozen=True)
    class Attended(fastattn.variants.AttentionState):
        total: np.ndarray = field(metadata=fastattn.variants.per_sample("S"))

    assert repr(Attended(np.ones((2, 3)), shape=(2, 3))).endswith("Attended(shape=(2, 3), total=float64 (2, 3))")


def test_sizes_are_said():
    rng = np.random.default_rng(0)
    assert repr(layers.Linear(3, 70, rng=rng)) == "Linear(w: (3, 70), b: (70,), float32)"
    mechanism = fastattn.create("additive", query_width=3, memory_width=4, width=5, rng=rng)
    assert repr(mechanism) == "Additive(3 -> 4, query.w: (3, 5), key.w: (4, 5), v: (5,), float32)"
    one = np.ones((2, 3))
    output = fastattn.attention(one, one, one, return_weights=True)
    assert repr(output) == "AttentionOutput(context=float64 (2, 3), weights=float64 (2, 2), lse=None)"
    model = seq2seq.build(seq2seq.SutskeverConfig(embedding=8, hidden=9, layers=3), 10, 10, seed=0)
    count = sum(p.value.size for p in model.parameters().values())
    assert f"Sutskever({count:,} parameters in " in repr(model) and "embedding=8, hidden=9, layers=3)" in repr(model)


def test_a_configuration_says_what_is_no_default_and_can_be_evaluated():
    config = seq2seq.Config(model=seq2seq.LuongConfig(hidden=9), training=seq2seq.TrainingConfig(max_steps=3))
    text = "Config(model=LuongConfig(hidden=9), training=TrainingConfig(max_steps=3))"
    assert repr(config) == text and eval(text, vars(seq2seq)) == config


def test_scalars_are_numbers_and_long_texts_are_cut():
    assert _reprs.brief([np.float32(0.5), np.array(2), "a" * 1000]).startswith("[np.float32(0.5), 2, 'aaa")
    assert len(_reprs.brief(["a" * 1000] * 100)) < 800
