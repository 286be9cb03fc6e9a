"""Texts as arguments: any iterable of str is read as it is, and nothing else is taken for one."""

import collections
import io
import re
import tempfile

import numpy as np
import pytest
import training_runs

from fastattn import seq2seq, viz
from fastattn.errors import DTypeError, FastattnError
from fastattn.seq2seq import Vocabulary
from fastattn.seq2seq.search.evaluation import evaluate
from fastattn.seq2seq.text.metrics import bleu, count_errors, group_references

TEXTS = ["ab", "c", "ba"]


class Old:
    """Iterable by its numbers alone."""

    def __getitem__(self, number):
        return TEXTS[number]


class Table:
    """What a table of columns looks like."""

    ndim, columns = 2, TEXTS

    def __iter__(self):
        return iter(self.columns)


def of_tempfile():
    file = tempfile.NamedTemporaryFile("w+")
    file.write("ab\nc\nba\n")
    file.seek(0)
    return file


ITERABLES = {
    "list": lambda: TEXTS,
    "tuple": lambda: tuple(TEXTS),
    "generator": lambda: (text for text in TEXTS),
    "map": lambda: map(str.strip, [" ab", "c ", "ba"]),
    "array": lambda: np.array(TEXTS),
    "array of objects": lambda: np.array(TEXTS, object),
    "keys": lambda: dict.fromkeys(TEXTS).keys(),
    "deque": lambda: collections.deque(TEXTS),
    "open file": lambda: io.StringIO("ab\nc\nba"),
    "temporary file": of_tempfile,
    "old": Old,
}

NONE = {
    "str": lambda: "ab",
    "bytes": lambda: b"ab",
    "None": lambda: None,
    "number": lambda: 3,
    "numbers": lambda: [1, 2, 3],
    "bytes in a list": lambda: [b"ab", b"c", b"ba"],
    "None in a list": lambda: ["ab", None, "ba"],
    "lists": lambda: [["ab"], ["c"], ["ba"]],
    "dict": lambda: {"ab": "c"},
    "table": Table,
    "array of two axes": lambda: np.array([TEXTS]),
    "array of no axis": lambda: np.array("ab"),
    "array of bytes": lambda: np.array([b"ab", b"c", b"ba"]),
    "file of bytes": lambda: io.BytesIO(b"ab\nc\nba\n"),
}


@pytest.fixture(scope="module")
def translator():
    config = seq2seq.BahdanauConfig(embedding=4, hidden=4, attention=4, readout_width=4)
    letters = Vocabulary(list("abc"), "char")
    model = seq2seq.build(config, len(letters), len(letters), seed=0)
    inference = seq2seq.InferenceConfig(max_length=4)
    return seq2seq.Translator(model, letters, letters, seq2seq.Config(model=config, inference=inference))


def texts_of(found):
    return [[one.text for one in several] for several in found]


# What takes texts: name of the argument, the call, and what compares two results.
CALLS = {
    "translate": ("texts", lambda t, x: t.translate(x)),
    "search": ("texts", lambda t, x: texts_of(t.search(x, beam=2))),
    "sample": ("texts", lambda t, x: [one.text for one in t.sample(x, seed=1)]),
    "score, sources": ("sources", lambda t, x: [one.log_probability for one in t.score(x, TEXTS)]),
    "score, targets": ("targets", lambda t, x: [one.log_probability for one in t.score(TEXTS, x)]),
    "build": ("texts", lambda t, x: Vocabulary.build(x, "char")),
    "build of pieces": ("texts", lambda t, x: Vocabulary.build(x, "bpe")),
    "tokens": ("tokens", lambda t, x: Vocabulary(x)),
    "encode": ("tokens", lambda t, x: Vocabulary(TEXTS).encode(x).tolist()),
    "join": ("tokens", lambda t, x: Vocabulary(TEXTS).join(x)),
    "evaluate": ("outputs", lambda t, x: evaluate(x, [["ab"]] * 3, Vocabulary([]))),
    "bleu": ("outputs", lambda t, x: bleu(x, [["ab"]] * 3)),
    "references": ("references", lambda t, x: bleu(["ab"], [x])),
    "errors": ("references", lambda t, x: evaluate(["ab"], [x], Vocabulary([]), ["wer"])),
    "sources": ("sources", lambda t, x: group_references(x, TEXTS)),
    "targets": ("targets", lambda t, x: group_references(TEXTS, x)),
    "map": ("source", lambda t, x: viz.page(np.full((1, 3), 1 / 3), x, ["a"])),
}


@pytest.mark.parametrize("kind", ITERABLES)
@pytest.mark.parametrize("call", CALLS)
def test_any_iterable_of_texts_is_read(call, kind, translator):
    if call.startswith("build of"):
        pytest.importorskip("tokenizers")
    if call in ("evaluate", "bleu", "references"):
        pytest.importorskip("sacrebleu")
    _, run = CALLS[call]
    assert run(translator, ITERABLES[kind]()) == run(translator, TEXTS)


@pytest.mark.parametrize("kind", NONE)
@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_iterable_of_texts_is_one_error_that_names_the_argument(call, kind, translator):
    name, run = CALLS[call]
    if call == "map" and kind == "str":
        pytest.skip("the labels of a map may be the characters of one str, as its documentation says")
    with pytest.raises(DTypeError) as caught:
        run(translator, NONE[kind]())
    assert str(caught.value).startswith(name) and str(caught.value).count("Hint: ") == 1


def test_nothing_is_read_twice_and_only_as_it_is_wanted():
    read = []

    def texts():
        for text in TEXTS:
            read.append(text)
            yield text
        raise RuntimeError("the end")

    with pytest.raises(RuntimeError, match="the end"):
        Vocabulary.build(texts())
    assert read == TEXTS


@pytest.mark.parametrize("given", [None, 3, b"ab", ["ab"]])
def test_one_text_is_a_str(given, translator):
    for run in (lambda x: translator.align(x), lambda x: translator.align("ab", x or 0),
                lambda x: seq2seq.encode(translator.source_vocabulary, x)):  # fmt: skip
        with pytest.raises(DTypeError, match="expected a str"):
            run(given)


def test_numbers_of_tokens_are_integers():
    for ids in ("12", [1.5], None, [None]):
        with pytest.raises(DTypeError, match="ids: expected integers"):
            Vocabulary(TEXTS).decode(ids)
    assert Vocabulary(TEXTS).decode(iter([4, np.int64(5)])) == ["ab", "c"]


CONFIG = {"training": seq2seq.TrainingConfig(epochs=1), "vocabulary": seq2seq.VocabularyConfig("char", "char")}
MODEL = seq2seq.BahdanauConfig(embedding=4, hidden=4, attention=4, readout_width=2)


def train(folder, **pairs):
    return seq2seq.train(seq2seq.Config(model=MODEL, **CONFIG), folder, quiet=True, **pairs)


def learnt(folder):
    """What of the pairs a run has seen: its vocabularies, and how many pairs."""
    translator = seq2seq.load(folder)
    return [sorted(v.tokens[4:]) for v in (translator.source_vocabulary, translator.target_vocabulary)]


TWO = [("ab", "cd"), ("ef", "gh")]


@pytest.mark.parametrize(
    "give",
    [list, tuple, iter, lambda pairs: zip(*zip(*pairs)), lambda pairs: (pair for pair in pairs), dict.fromkeys],
    ids=["list", "tuple", "iterator", "zip", "generator", "keys"],
)
def test_pairs_are_one_shape_however_they_are_iterated(give, tmp_path):
    pairs = give(TWO)
    train(tmp_path / "run", pairs=pairs.keys() if isinstance(pairs, dict) else pairs, validation=iter(TWO))
    assert learnt(tmp_path / "run") == [list("abef"), list("cdgh")]
    best = seq2seq.checkpoint.load(tmp_path / "run", "best")
    assert best.step == 1


@pytest.mark.parametrize("name", ["pairs", "validation"])
@pytest.mark.parametrize(
    "wrong",
    [
        (TWO, []),
        (TWO,),
        (TWO, TWO),
        ("ab", "cd"),
        ["ab", "cd"],
        "abcd",
        [("a",)],
        [("a", None)],
        [("a", "b", "c")],
        [(b"a", b"b")],
        [(("a", "b"), ("c", "d"))],
        (["ab", "ef"], ["cd", "gh"]),
        [["ab", "cd"], ["ef", "gh"]],
        np.array(TWO),
        {"ab": "cd"},
        Table(),
        [{"source": "ab", "target": "cd"}],
        (["ab", "cd"] for _ in range(2)),
        3,
    ],
    ids=lambda wrong: re.sub(" at 0x.*", "", repr(wrong)),
)
def test_every_other_shape_of_pairs_shows_the_right_one(name, wrong, tmp_path):
    with pytest.raises(DTypeError) as caught:
        train(tmp_path / "run", **{"pairs": TWO, name: wrong})
    text = str(caught.value)
    assert text.startswith(name) and f"Hint: pass {name}=[(source, target), ...], or of two lists" in text
    assert not (tmp_path / "run" / "latest").exists()


def test_validation_pairs_want_pairs(tmp_path):
    config = seq2seq.Config(seq2seq.DataConfig(train="x"), MODEL, **CONFIG)
    with pytest.raises(FastattnError, match="validation: expected none without pairs"):
        seq2seq.train(config, tmp_path, validation=TWO, quiet=True)


def test_a_configuration_is_a_path_or_a_config(tmp_path):
    for given in (None, {"model": {}}, 3):
        with pytest.raises(DTypeError, match="config: expected a path"):
            seq2seq.train(given, tmp_path, pairs=training_runs.pairs(3))


def test_tokens_of_errors_are_lists_and_generators_alike():
    rows = [["a", "b"], ["c"]]
    lazy = (iter(row) for row in rows)
    assert count_errors(lazy, ((iter(row),) for row in rows)).rate == 0
    with pytest.raises(DTypeError, match="references: expected"):
        count_errors(rows, [["ab"], ["c"]])
