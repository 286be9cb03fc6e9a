"""Sentencepiece models and tokenizer.json files: learnt, read, used, saved with a run, and refused."""

import copy
import json
import pickle
import sys

import pytest

from fastattn.errors import ArgumentError, DTypeError, MissingPackageError, TextError
from fastattn.seq2seq import UNK, BahdanauConfig, Config, TrainingConfig, Vocabulary, VocabularyConfig, load, train
from fastattn.seq2seq.text.tokenizer_files import FILES

tokenizers = pytest.importorskip("tokenizers")
sentencepiece = pytest.importorskip("sentencepiece")

LINES = ["the cat sat on the mat", "the dog sat on the log", "a cat, and (maybe) a dog!", "caf\u00e9 na\u00efve"] * 3
SIZES = {"sentencepiece": 60, "tokenizer": 300}
PAIRS = [("the cat", "die Katze"), ("the dog", "der Hund"), ("a cat", "eine Katze"), ("a dog", "ein Hund")] * 2


@pytest.fixture(scope="module")
def learnt():
    return {kind: Vocabulary.build(LINES, kind, max_size=size) for kind, size in SIZES.items()}


@pytest.mark.parametrize("kind", FILES)
def test_texts_come_back(learnt, kind):
    vocabulary = learnt[kind]
    assert len(vocabulary) <= SIZES[kind]
    for line in LINES:
        ids = vocabulary.encode(vocabulary.split(line))
        assert UNK not in ids and min(ids) > UNK
        assert vocabulary.join(vocabulary.decode(ids)) == line
    assert vocabulary.split("") == [] and vocabulary.join([]) == ""
    assert vocabulary.fewest("the cat") <= len(vocabulary.split("the cat"))


@pytest.mark.parametrize("kind", FILES)
def test_learning_twice_gives_the_same_file(learnt, kind):
    assert Vocabulary.build(iter(LINES), kind, max_size=SIZES[kind]).model == learnt[kind].model


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_copies_split_alike(learnt, kind, copied):
    again = copied(learnt[kind])
    assert again == learnt[kind] and hash(again) == hash(learnt[kind])
    assert [again.split(line) for line in LINES] == [learnt[kind].split(line) for line in LINES]


@pytest.mark.parametrize("kind", FILES)
def test_json_there_and_back_needs_the_file(learnt, kind):
    vocabulary = learnt[kind]
    text = vocabulary.to_json()
    assert Vocabulary.from_json(text, vocabulary.model) == vocabulary
    with pytest.raises(ArgumentError, match="model: expected the file of a tokenizer, got 0 bytes"):
        Vocabulary.from_json(text)
    other = Vocabulary.build(LINES[:2], kind, max_size=SIZES[kind])
    with pytest.raises(ArgumentError, match="the file that the vocabulary is of, got another one"):
        Vocabulary.from_json(text, other.model)


def test_what_is_unknown_stays_visible(learnt):
    vocabulary = learnt["sentencepiece"]
    tokens = vocabulary.split("the \u4e2d\u6587 cat")
    assert "\u4e2d\u6587" in tokens
    assert vocabulary.join(tokens) == "the \u4e2d\u6587 cat"
    assert vocabulary.join(vocabulary.decode(vocabulary.encode(tokens))) == "the <unk> cat"
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "the": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    read = Vocabulary((), "tokenizer", model=words.to_str().encode())
    assert read.tokens[4:] == ("the",)
    assert read.split("the \u4e2d the") == ["the", "\u4e2d", "the"]


@pytest.mark.parametrize("kind", FILES)
def test_special_spellings_are_text(learnt, kind):
    ids = learnt[kind].encode(learnt[kind].split("<s> </s> <pad> <unk>"))
    assert set(ids.tolist()) & {0, 1, 2} == set()


def test_special_tokens_padding_and_truncation_of_a_file_are_not_used(learnt):
    own = tokenizers.Tokenizer.from_str(learnt["tokenizer"].model.decode())
    plain = Vocabulary((), "tokenizer", model=own.to_str().encode())
    own.add_special_tokens(["[CLS]", "[SEP]"])
    one = own.token_to_id("[CLS]")
    own.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", one)])
    own.enable_truncation(2)
    own.enable_padding(length=50)
    read = Vocabulary((), "tokenizer", model=own.to_str().encode())
    assert read.tokens == plain.tokens
    assert read.split("[CLS] the cat sat") == plain.split("[CLS] the cat sat")


def test_min_count_leaves_out_rare_characters():
    kept = Vocabulary.build(LINES, "sentencepiece", max_size=60, min_count=4)
    assert "\u00e9" in Vocabulary.build(LINES, "sentencepiece", max_size=60) and "\u00e9" not in kept


@pytest.mark.parametrize(
    ("kind", "texts", "size", "match"),
    [
        ("sentencepiece", ["abcdefghijklmnopqrstuvwxyz"], 9, "max_size: expected room for all characters"),
        ("sentencepiece", [" "], 60, "at least one text that is not empty"),
        ("tokenizer", ["a"], 200, "room for all 256 bytes"),
    ],
)
def test_what_cannot_be_learnt_is_said(kind, texts, size, match):
    with pytest.raises(ArgumentError, match=match):
        Vocabulary.build(texts, kind, max_size=size)


@pytest.mark.parametrize(
    ("kind", "model", "match"),
    [
        ("sentencepiece", b"no model", "expected a sentencepiece model"),
        ("sentencepiece", b"\x00", "expected a sentencepiece model"),
        ("tokenizer", b"{}", "expected a tokenizer.json"),
        ("tokenizer", b"\xff", "expected a tokenizer.json"),
        ("tokenizer", b"[" * 100_000, "expected a tokenizer.json"),
        ("tokenizer", b"", "expected the file of a tokenizer, got 0 bytes"),
        ("word", b"x", "model: expected none, got 1 bytes for kind 'word'"),
    ],
)
def test_files_of_something_else_are_refused(kind, model, match):
    with pytest.raises(ArgumentError, match=match):
        Vocabulary((), kind, model=model)


@pytest.mark.parametrize("kind", ["sentencepiece", "tokenizer"])
def test_tokens_beside_a_file_are_numbered_in_their_order(learnt, kind):
    own = learnt[kind]
    given = [*reversed(own.tokens[5:]), "<s>", ">>fra<<"]
    vocabulary = Vocabulary(given, kind, model=own.model, marks=["<s>", ">>fra<<"], begin=["<s>"])
    text = LINES[0]
    pieces = own.split(text)
    assert vocabulary.split(text) == ["<s>", *pieces] and vocabulary.split("") == []
    assert vocabulary.split(f">>fra<< {text}") == ["<s>", ">>fra<<", *pieces]
    assert vocabulary.split(f"{text} >>fra<<")[1] != ">>fra<<"
    assert vocabulary.join(["<s>", ">>fra<<", *pieces]) == own.join(pieces)
    assert vocabulary.encode(pieces).tolist() == [given.index(p) + 4 if p in given else 3 for p in pieces]
    again = Vocabulary.from_json(vocabulary.to_json(), own.model)
    assert again == vocabulary != Vocabulary(given, kind, model=own.model)
    assert '"format": 3' in vocabulary.to_json() and '"format": 2' in own.to_json()


def test_wrong_calls(learnt):
    with pytest.raises(DTypeError, match="model: expected bytes, got str"):
        Vocabulary((), "tokenizer", model="x")
    with pytest.raises(ArgumentError, match="begin: expected some of tokens, got 'b'"):
        Vocabulary(["a"], "tokenizer", model=learnt["tokenizer"].model, begin=["b"])
    with pytest.raises(ArgumentError, match="marks: expected some of tokens, got 'a'"):
        Vocabulary(["a"], marks=["a"])
    with pytest.raises(ArgumentError, match="half of a character"):
        learnt["sentencepiece"].split("a\ud800")


def test_a_tokenizer_that_fails_says_so():
    model = json.dumps({"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 0},
                                                                       "unk_token": "none"}}).encode()  # fmt: skip
    vocabulary = Vocabulary((), "tokenizer", model=model)
    assert vocabulary.split("a") == ["a"]
    with pytest.raises(TextError, match=r"^text: its tokenizer fails: .* Hint: ") as caught:
        vocabulary.split("b")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", FILES)
def test_the_missing_package_is_named(monkeypatch, kind):
    monkeypatch.setitem(sys.modules, "sentencepiece" if kind == "sentencepiece" else "tokenizers", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'fastattn\[text\]'"):
        Vocabulary.build(LINES, kind)


def config(kind, **training):
    return Config(
        model=BahdanauConfig(embedding=4, hidden=6, attention=4, readout_width=4),
        vocabulary=VocabularyConfig(source=kind, target=kind, source_size=SIZES[kind], target_size=SIZES[kind],
                                    shared=True, lowercase=True),
        training=TrainingConfig(epochs=0, tokens_per_batch=40, max_length=30, **training),
    )  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_a_run_stands_alone_and_resumes_with_the_same_bits(tmp_path, kind):
    pytest.importorskip("safetensors")
    train(config(kind, max_steps=4), tmp_path / "whole", pairs=PAIRS, quiet=True)
    train(config(kind, max_steps=2), tmp_path / "parts", pairs=PAIRS, quiet=True)
    train(config(kind, max_steps=4), tmp_path / "parts", pairs=PAIRS, quiet=True, resume=True)
    whole, parts = (tmp_path / run / "checkpoint-00000004" for run in ("whole", "parts"))
    assert (whole / "manifest.json").read_text() == (parts / "manifest.json").read_text()
    file = whole / f"source.{FILES[kind]}"
    assert file.read_bytes() == load(tmp_path / "whole").source_vocabulary.model
    assert load(tmp_path / "whole").translate(["THE CAT"]) == load(tmp_path / "whole").translate(["the cat"])
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(Exception, match=FILES[kind]):
        load(whole)
