"""Translating step by step: what `search` finds, with every token and its weights on the way."""

import itertools

import numpy as np
import pytest
import seq2seq_cases
from checks import same_bits

from fastattn import seq2seq
from fastattn.errors import ArgumentError, DTypeError, UnsupportedError

LETTERS = seq2seq.Vocabulary(list("abcde"), "char")
TEXTS = ["abcab", "", "e", "dabcb", "bbbb", "aaaaaaaaaaa", "cd"]


def translator(name, tokens_per_batch=30):
    config = seq2seq_cases.CASES[name]
    model = seq2seq.build(config, len(LETTERS), len(LETTERS), seed=0)
    rng = np.random.default_rng(1)
    for parameter in model.parameters().values():
        with parameter.edit() as value:
            value += rng.normal(size=parameter.value.shape).astype(np.float32)
    with model.projection.b.edit() as value:
        value[seq2seq.EOS] = -2
    inference = seq2seq.InferenceConfig(max_length=12)
    return seq2seq.Translator(
        model, LETTERS, LETTERS, seq2seq.Config(model=config, inference=inference), tokens_per_batch=tokens_per_batch
    )


def equal(one, other):
    assert (one.text, one.tokens, one.score, one.finished) == (other.text, other.tokens, other.score, other.finished)
    assert one.log_probability == other.log_probability and one.source_tokens == other.source_tokens
    assert (one.weights is None) == (other.weights is None)
    if one.weights is not None:
        same_bits(one.weights, other.weights)


@pytest.mark.parametrize("name", seq2seq_cases.CASES)
@pytest.mark.parametrize("beam, best", [(1, 1), (3, 2)])
def test_what_is_finished_is_what_search_finds(name, beam, best):
    one = translator(name)
    expected = one.search(TEXTS, beam=beam, best=best, weights=one.model.attends)
    found = {}
    for step in one.stream(TEXTS, beam=beam, best=best):
        assert not set(found) & set(step.finished)
        found.update(step.finished)
    assert sorted(found) == list(range(len(TEXTS)))
    for i, several in enumerate(expected):
        assert len(found[i]) == len(several)
        for mine, other in zip(found[i], several):
            equal(mine, other)


@pytest.mark.parametrize("name", ["bahdanau", "transformer-post"])
def test_steps_show_unfinished_sentences_and_what_their_newest_tokens_attended_to(name):
    one = translator(name)
    steps = list(one.stream(TEXTS, beam=3))  # a step stays what it was
    assert steps[0].number == 0 and list(steps[0].finished) == [1] and steps[0].sentences() == []
    assert len(steps[0].tokens) == len(steps[0].texts) == len(steps[0].weights) == 0
    seen = set()
    for before, step in itertools.pairwise(steps):
        sentences = step.sentences()
        rows = len(step.texts)
        assert rows == len(sentences) == len(step.tokens) == len(step.weights) == len(step.log_probabilities)
        shorter = {(int(i), tuple(s.tokens)) for i, s in zip(before.texts, before.sentences())}
        for i, token, weights, total, sentence in zip(
            step.texts, step.tokens, step.weights, step.log_probabilities, sentences
        ):
            seen.add(int(i))
            assert len(sentence.tokens) == step.number == len(sentence.weights) and not sentence.finished
            assert sentence.tokens[-1] == token and sentence.log_probability == total
            assert sentence.source_tokens == [*TEXTS[i], "</s>"]
            length = len(TEXTS[i]) + 1
            same_bits(sentence.weights[-1], weights[..., :length])
            assert not weights[..., length:].any()
            if step.number > 1:
                assert (int(i), tuple(sentence.tokens[:-1])) in shorter
            # The weights are those of the sentence that is scored alone.
            [scored] = one.score([TEXTS[i]], [sentence.text], weights=True)
            same_bits(sentence.weights, scored.weights[: step.number])
    assert seen == set(range(len(TEXTS))) - {1}


def test_wrong_options_are_refused_at_the_call_and_models_without_attention_have_no_weights():
    one = translator("cho")
    with pytest.raises(ArgumentError, match="best"):
        one.stream(TEXTS, beam=2, best=3)
    with pytest.raises(DTypeError):
        one.stream(3)
    step = next(one.stream(["ab"], beam=2))
    with pytest.raises(UnsupportedError, match="no attention"):
        _ = step.weights
    assert [sentence.weights for sentence in step.sentences()] == [None, None]
    assert list(one.stream([])) == [] and len(repr(step)) < 200
