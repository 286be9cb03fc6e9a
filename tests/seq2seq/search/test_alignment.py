"""Alignments: the largest weight of each target token, joined to words, in the Pharaoh format."""

import numpy as np
import pytest
from seq2seq_cases import CASES, SOURCE_SIZE, TARGET_SIZE, make

from fastattn import seq2seq
from fastattn.cli import main
from fastattn.errors import UnsupportedError
from fastattn.seq2seq import Config, Translator, Vocabulary
from fastattn.seq2seq.search.alignment import links, pharaoh, word_numbers


def test_links_are_of_the_largest_weights_of_words():
    rng = np.random.default_rng(0)
    for heads in (None, 3):
        weights = rng.random((5, 7) if heads is None else (5, heads, 7)).astype(np.float32)
        source, target = [0, 0, 1, -1, 2, 2], [0, 1, -1, 1]
        mean = weights if heads is None else weights.mean(axis=1)
        wanted = {(source[int(mean[t, :6].argmax())], target[t]) for t in range(4)}
        assert links(weights, source, target) == sorted(pair for pair in wanted if -1 not in pair)
    assert links(np.ones((1, 1)), [], []) == [] and pharaoh([]) == ""
    assert links(np.ones((2, 3)), [0, 1], [0]) == [(0, 0)]  # of several the first


def test_words_of_every_kind_of_vocabulary():
    pieces = Vocabulary.build(["the cats and the dogs"] * 3, "bpe", max_size=24)
    assert len(pieces.split("the cats dog")) > 3
    for vocabulary in (pieces, Vocabulary([], "char"), Vocabulary([])):
        for text in ("the cats dog", "a", "", " cats  the "):
            tokens = vocabulary.split(text)
            numbers = word_numbers(vocabulary, tokens)
            words = [""] * len(text.split())
            for token, number in zip(tokens, numbers, strict=True):
                if number >= 0:
                    words[number] += token
            assert [word.lstrip("\u2581") for word in words] == text.split()


def letters(size):
    return Vocabulary([*"abcdefghij"[: size - 5], " "], "char")


def translator(name="transformer-pre"):
    return Translator(make(name), letters(SOURCE_SIZE), letters(TARGET_SIZE), Config(model=CASES[name]))


def test_pairs_are_aligned_by_words_and_by_tokens_from_python_and_the_command_line(tmp_path, capsys):
    made = translator()
    sources, targets = ["ab cde", "f", "a b"], ["cd a", "a b c", "dd"]
    tokens, words = (made.alignments(sources, targets, words=words) for words in (False, True))
    for source, target, of_tokens, of_words in zip(sources, targets, tokens, words):
        weights = made.align(source, target).weights.mean(axis=1)[:-1, :-1]
        assert of_tokens == sorted((int(row.argmax()), t) for t, row in enumerate(weights))
        number = [[text[:i].count(" ") for i in range(len(text))] for text in (source, target)]
        joined = {(number[0][s], number[1][t]) for s, t in of_tokens if source[s] != " " and target[t] != " "}
        assert of_words == sorted(joined)
    assert made.alignments(sources) == made.alignments(sources, made.translate(sources))
    values = {key: parameter.value for key, parameter in made.model.parameters().items()}
    sides = {"source": made.source_vocabulary, "target": made.target_vocabulary}
    seq2seq.checkpoint.save(tmp_path / "run", 1, model=values, state={}, config=made.config.to_dict(), progress={},
                            vocabularies=sides, best=True)  # fmt: skip
    (tmp_path / "pairs").write_text("".join(f"{source}\t{target}\n" for source, target in zip(sources, targets)))
    for option, found in (([], words), (["--tokens"], tokens)):
        assert main(["align", str(tmp_path / "run"), str(tmp_path / "pairs"), *option]) == 0
        assert capsys.readouterr().out.splitlines() == [pharaoh(each) for each in found]


def test_a_model_without_attention_aligns_nothing():
    with pytest.raises(UnsupportedError, match="a model with attention"):
        translator("cho").alignments(["a"], ["b"])
