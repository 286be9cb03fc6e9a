"""Vocabularies and vectors that others have written: read as they are meant, or refused in one line."""

import gzip
import json

import numpy as np
import pytest

from fastattn.errors import ConfigError, TextError
from fastattn.seq2seq import (
    BahdanauConfig,
    Config,
    DataConfig,
    TrainingConfig,
    TransformerConfig,
    Vocabulary,
    VocabularyConfig,
    build,
    load,
    read_vocabulary,
    train,
)
from fastattn.seq2seq.runs.pretrained import start_embeddings
from fastattn.seq2seq.text.vectors import read_vectors

PAIRS = [("the cat", "die Katze"), ("the dog", "der Hund")] * 2
VECTORS = "3 2\nthe 1 2.5\ndog -1e-2 0 \nother 7 x\nthe 9 9\n, 3 4\n"


def put(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("words.txt", "<pad>\n<s>\nthe\ncat\n"),
        ("words.txt.gz", gzip.compress(b"the\r\ncat\r\n", mtime=0)),
        ("a.vocab", "<unk>\t0\n<s>\t0\n</s>\t0\nthe\t-1.5\ncat\t-2e3\n"),
        ("vocab.json", '{"cat": 7, "<pad>": 0, "the": 3}'),
        ("source.vocabulary.json", Vocabulary(["the", "cat"]).to_json()),
    ],
)
def test_lists_of_tokens_are_read(tmp_path, name, content):
    assert read_vocabulary(put(tmp_path, name, content)) == Vocabulary(["the", "cat"])


def test_characters_and_pieces_are_read(tmp_path):
    assert read_vocabulary(put(tmp_path, "a.txt", "a\n \n\t\n"), "char").tokens[4:] == ("a", " ", "\t")
    pieces = Vocabulary(["a", "b", "ab"], "bpe", [("a", "b")], lowercase=True)
    path = put(tmp_path, "source.vocabulary.json", pieces.to_json())
    assert read_vocabulary(path, "bpe", lowercase=True) == pieces
    with pytest.raises(TextError, match="is a vocabulary with lowercase True, not False"):
        read_vocabulary(path, "bpe")


@pytest.mark.parametrize(
    ("name", "content", "kind", "match"),
    [
        ("a.txt", "a\n\nb\n", "word", "a.txt, line 2: is empty"),
        ("a.txt", b"a\n\xff\n", "word", "a.txt, line 2: is not UTF-8"),
        ("a.txt", "a\na\n", "word", "a.txt: tokens: expected different tokens, got 'a' twice"),
        ("a.txt", "a\nb\n", "bpe", "is a list of pieces, which does not say how words are split"),
        ("a.json", "[1]", "word", "is not the JSON of a vocabulary: no table of numbers"),
        ("a.json", '{"a": 1, "b": 1}', "word", "two tokens of one number"),
        ("a.json", '{"a": true}', "word", "no table of numbers"),
        ("a.json", '{"a": 1, "a": 2}', "word", "JSON with a name twice"),
        ("a.json", "[" * 100_000, "word", "nested too deeply"),
        ("a.json", b"\xff", "word", "is not the JSON"),
        ("a.json", Vocabulary(["a"], "char").to_json(), "word", "is a vocabulary with kind 'char', not 'word'"),
        ("a.model", "a\nb\n", "sentencepiece", "a.model: model: expected a sentencepiece model"),
        ("tokenizer.json", "{}", "tokenizer", "tokenizer.json: model: expected a tokenizer.json"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, name, content, kind, match):
    for package in ("sentencepiece", "tokenizers"):
        pytest.importorskip(package)
    with pytest.raises(TextError, match=match) as caught:
        read_vocabulary(put(tmp_path, name, content), kind)
    text = str(caught.value)
    assert "\n" not in text and text.count("Hint: ") == 1 and text.startswith(str(tmp_path))


def test_a_missing_file(tmp_path):
    for kind in ("word", "tokenizer"):
        with pytest.raises(TextError, match="no such file"):
            read_vocabulary(tmp_path / "none", kind)


@pytest.mark.parametrize("kind", ["sentencepiece", "tokenizer"])
def test_tokenizers_of_others_are_read(tmp_path, kind):
    pytest.importorskip({"tokenizer": "tokenizers"}.get(kind, kind))
    learnt = Vocabulary.build(["the cat", "the dog"] * 9, kind, max_size=300)
    assert read_vocabulary(put(tmp_path, "a.gz", gzip.compress(learnt.model)), kind) == learnt


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("head", [True, False])
def test_vectors_are_those_of_the_tokens_that_are_there(tmp_path, pack, head):
    vocabulary = Vocabulary(["cat", "the", "dog", "\uffed,", ",\uffed"], punctuation=True)
    content = VECTORS if head else VECTORS.partition("\n")[2]
    ids, rows = read_vectors(put(tmp_path, "a.vec", pack(content.encode())), vocabulary, 2, "model.embedding")
    assert ids.tolist() == [5, 6, 7, 8] and rows.dtype == np.float32
    assert rows.tolist() == [[1, 2.5], [np.float32(-1e-2), 0], [3, 4], [3, 4]]


@pytest.mark.parametrize(
    ("content", "width", "match"),
    [
        (VECTORS, 3, r"its vectors have width 2, the embedding 3. Hint: set model.embedding = 2, or name vectors of"),
        ("the 1 2\ndog 1\n", 2, "its vectors have width 1"),
        ("a 1 2\nb 1 2\ndog 1\n", 2, "line 3: is not a token and 2 finite numbers"),
        ("the 1 nan\n", 2, "line 1: is not a token and 2 finite numbers"),
        ("the 1 1e999\n", 2, "line 1: is not a token and 2 finite numbers"),
        ("the 1 x\n", 2, "line 1: is not a token and 2 finite numbers"),
        ("a 1 2\n", 2, "has no vector of a token of the vocabulary"),
        ("", 2, "has no vector of a token of the vocabulary"),
    ],
)
def test_other_vectors_are_refused_in_one_line(tmp_path, content, width, match):
    with pytest.raises(TextError, match=match) as caught:
        read_vectors(put(tmp_path, "a.vec", content), Vocabulary(["the", "dog"]), width, "model.embedding")
    assert "\n" not in str(caught.value)


TINY = {"width": 2, "heads": 1, "inner": 2, "encoder_layers": 1, "decoder_layers": 1}


@pytest.mark.parametrize(
    "model",
    [BahdanauConfig(embedding=2, hidden=2, attention=2, readout_width=2), TransformerConfig(**TINY, tied="target")],
)
def test_embeddings_begin_with_vectors(tmp_path, model):
    place = str(put(tmp_path, "a.vec", VECTORS))
    words = Vocabulary(["cat", "the", "dog"])
    config = Config(model=model, data=DataConfig(source_embeddings=place, target_embeddings=place))
    plain, made = (build(model, len(words), len(words), seed=0) for _ in range(2))
    said = start_embeddings(made, config, (words, words))
    assert said == [f"{place}: vectors of 2 of 3 {side} tokens (66.7 %)" for side in ("source", "target")]
    for side in ("source", "target"):
        table = getattr(made, f"{side}_embedding").forward(np.arange(len(words)))
        before = getattr(plain, f"{side}_embedding").forward(np.arange(len(words)))
        assert table[5:].tolist() == [[1, 2.5], [np.float32(-1e-2), 0]]
        assert table[:5].tobytes() == before[:5].tobytes()


def test_one_embedding_takes_vectors_once(tmp_path):
    place = str(put(tmp_path, "a.vec", VECTORS))
    words, model = Vocabulary(["the"]), TransformerConfig(**TINY, tied="all")
    config = Config(model=model, data=DataConfig(source_embeddings=place, target_embeddings=place))
    with pytest.raises(ConfigError, match=r"data.target_embeddings: sources and targets have one embedding"):
        start_embeddings(build(model, 5, 5, seed=0), config, (words, words))


def test_a_run_with_files_of_others_goes_on_without_them(tmp_path, capsys):
    pytest.importorskip("safetensors")
    put(tmp_path, "words.txt", "the\ncat\ndog\n")
    put(tmp_path, "a.vec", VECTORS)
    text = (
        '[data]\ntrain = "train.csv"\ncolumns = ["german", "english"]\nsource_vocabulary = "words.txt"\n'
        'source_embeddings = "a.vec"\n[model]\nembedding = 2\nhidden = 2\nattention = 2\nreadout_width = 2\n'
        "[training]\nepochs = 0\ntokens_per_batch = 40\nmax_length = 9\nmax_steps = "
    )
    put(tmp_path, "train.csv", "german,english\nthe cat,die Katze\nthe dog,der Hund\n")
    train(put(tmp_path, "c.toml", text + "4\n"), tmp_path / "whole")
    assert "a.vec: vectors of 2 of 3 source tokens (66.7 %)" in capsys.readouterr().err
    train(put(tmp_path, "c.toml", text + "2\n"), tmp_path / "parts", quiet=True)
    (tmp_path / "words.txt").unlink()
    (tmp_path / "a.vec").unlink()
    train(put(tmp_path, "c.toml", text + "4\n"), tmp_path / "parts", quiet=True, resume=True)
    manifests = [tmp_path / run / "checkpoint-00000004" / "manifest.json" for run in ("whole", "parts")]
    whole, parts = (json.loads(path.read_text())["files"] for path in manifests)
    assert whole == parts
    assert load(tmp_path / "parts").source_vocabulary.tokens[4:] == ("the", "cat", "dog")


@pytest.mark.parametrize(
    ("vocabulary", "data", "match"),
    [
        ({"source_size": 9}, {"source_vocabulary": "a"}, "vocabulary.source_size: not used, as the vocabulary is read"),
        ({"min_count": 2}, {"source_vocabulary": "a", "target_vocabulary": "b"}, "vocabulary.min_count: not used"),
        ({"shared": True}, {"source_vocabulary": "a"}, "vocabulary.shared: one vocabulary cannot be of two files"),
    ],
)
def test_what_a_file_decides_is_not_configured(vocabulary, data, match):
    with pytest.raises(ConfigError, match=match):
        Config(
            model=BahdanauConfig(),
            vocabulary=VocabularyConfig(**vocabulary),
            data=DataConfig(**data),
            training=TrainingConfig(),
        )
