"""Metrics: edit distances by their definition, corpora against counts by hand, BLEU and chrF by sacrebleu."""

import functools
import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastattn.errors import DTypeError, MissingPackageError, ShapeError
from fastattn.seq2seq.text.metrics import ErrorCounts, bleu, chrf, count_errors, edit_distance, group_references

sequences = st.lists(st.integers(0, 3), max_size=9)


def by_definition(left, right):
    @functools.cache
    def d(i, j):
        if not i or not j:
            return i + j
        return min(d(i - 1, j) + 1, d(i, j - 1) + 1, d(i - 1, j - 1) + (left[i - 1] != right[j - 1]))

    return d(len(left), len(right))


@given(sequences, sequences)
def test_the_edit_distance_is_that_of_its_definition(left, right):
    assert edit_distance(left, right) == by_definition(left, right) == edit_distance(right, left)


@given(sequences, sequences, sequences)
def test_the_edit_distance_is_a_distance(a, b, c):
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
    assert (edit_distance(a, b) == 0) == (a == b)


@pytest.mark.parametrize(
    ("left", "right", "distance"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("abab", "ab", 2), ("ab", "ba", 2), ("aXb", "aYb", 1)],
)
def test_known_distances(left, right, distance):
    assert edit_distance(list(left), list(right)) == distance


def test_tokens_are_compared_whole():
    assert edit_distance(["AH0", "B"], ["AH", "B"]) == 1


def test_errors_are_counted_over_the_corpus():
    outputs = [["a", "b"], ["c"], [], ["d", "e", "f"]]
    references = [[["a", "x"]], [["c"]], [["g"]], [["d"]]]
    errors = count_errors(outputs, references)
    assert errors == ErrorCounts(edits=4, tokens=5, wrong=3, count=4)
    assert (errors.rate, errors.sequence_rate, errors.accuracy) == (80.0, 75.0, 25.0)


def test_the_closest_reference_counts_and_of_equal_ones_the_longest():
    errors = count_errors([["a", "b"]], [[["x", "y"], ["a", "c", "b"], ["a", "b", "c", "d"]]])
    assert errors == ErrorCounts(edits=1, tokens=3, wrong=1, count=1)
    assert count_errors([["a"]], [[["b"], ["a", "b"]]]).tokens == 2
    assert count_errors([["a", "b"]], [[["b"], ["a", "b"]]]) == ErrorCounts(0, 2, 0, 1)


def test_nothing_is_no_error():
    errors = count_errors([], [])
    assert (errors.rate, errors.sequence_rate, errors.accuracy) == (0.0, 0.0, 0.0)
    assert count_errors([["a", "b"]], [[[]]]).rate == 200.0  # as of one token: no rate is infinite
    assert count_errors([[]], [[[]]]) == ErrorCounts(0, 0, 0, 1)


@pytest.mark.parametrize(
    ("outputs", "references", "error"),
    [
        ([["a"]], [], ShapeError),
        ([["a"]], [[]], ShapeError),
        (["a"], [[["a"]]], DTypeError),
        ([["a"]], ["a"], DTypeError),
        ([["a"]], [["a"]], DTypeError),
        ([["a"]], None, DTypeError),
    ],
)
def test_wrong_references_are_refused(outputs, references, error):
    with pytest.raises(error, match=r"(references|outputs): expected"):
        count_errors(outputs, references)


def test_references_are_grouped_in_order():
    groups = group_references(list("bab"), ["1", "2", "3"])
    assert list(groups.items()) == [("b", ["1", "3"]), ("a", ["2"])]
    assert group_references(["a", "a"], ["1", "1"]) == {"a": ["1"]}
    with pytest.raises(ShapeError, match="targets: expected 2 texts"):
        group_references(["a", "b"], ["1"])


OUTPUTS = ["the cat sat on a mat .", "it rains ."]
REFERENCES = [["the cat sat on the mat ."], ["it is raining ."]]


def bleu_by_hand():
    """Clipped n-gram precisions of the two sentences, counted by hand, with exponential smoothing of none."""
    matches, totals = [8, 4, 2, 1], [10, 8, 6, 4]
    penalty = math.exp(1 - 11 / 10)
    return 100 * penalty * math.exp(sum(math.log(m / t) for m, t in zip(matches, totals)) / 4)


def test_bleu_and_its_signature():
    score = bleu(OUTPUTS, REFERENCES)
    assert score.name == "BLEU" and score.value == pytest.approx(bleu_by_hand())
    assert score.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert str(score) == f"BLEU {score.value:.2f} ({score.signature})"
    assert bleu(OUTPUTS, [[out] for out in OUTPUTS]).value == pytest.approx(100)


def test_options_of_bleu_are_in_its_signature():
    score = bleu([text.upper() for text in OUTPUTS], REFERENCES, tokenize="none", lowercase=True)
    assert "case:lc" in score.signature and "tok:none" in score.signature
    assert score.value == pytest.approx(bleu_by_hand())
    assert bleu([text.upper() for text in OUTPUTS], REFERENCES).value < 10


def test_several_references():
    both = [[*ours, output] for ours, output in zip(REFERENCES, OUTPUTS)]
    score = bleu(OUTPUTS, both)
    assert score.value == pytest.approx(100) and "nrefs:2" in score.signature


def test_chrf_and_its_signature():
    score = chrf(OUTPUTS, REFERENCES)
    assert score.name == "chrF2" and 50 < score.value < 90 and "nc:6|nw:0" in score.signature
    assert chrf(OUTPUTS, [[out] for out in OUTPUTS]).value == pytest.approx(100)


@pytest.mark.parametrize("metric", [bleu, chrf])
@pytest.mark.parametrize("references", [["a", "b"], [["a"]], [["a"], ["b", "c"]], [[], []], []])
def test_wrong_references_of_texts_are_refused(metric, references):
    with pytest.raises((ShapeError, DTypeError), match=r"references(\[0\])?: expected"):
        metric(OUTPUTS, references)
    with pytest.raises(ShapeError, match="no output"):
        metric([], [])


@pytest.mark.parametrize("metric", [bleu, chrf])
def test_the_missing_package_is_named(monkeypatch, metric):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(MissingPackageError, match=r"sacrebleu is needed .*'fastattn\[eval\]'"):
        metric(OUTPUTS, REFERENCES)
