"""Wrong arguments of seq2seq: each is an error of ours that says what to do, never one from the depth."""

import warnings

import numpy as np
import pytest

from fastattn import seq2seq
from fastattn.errors import FastattnError
from fastattn.seq2seq import metrics
from fastattn.seq2seq.text.batches import group, pad

CONFIG = seq2seq.BahdanauConfig(embedding=4, hidden=4, attention=4, readout_width=4)
LETTERS = seq2seq.Vocabulary(list("abc"), "char")
MODEL = seq2seq.build(CONFIG, len(LETTERS), len(LETTERS), seed=0)
WHOLE = seq2seq.Config(model=CONFIG)
SOURCE, LENGTHS, IDS = np.array([[4, 5, 2]]), np.array([3]), [np.array([4, 2])]

WRONG = [
    None, 3, -1, 0, 1.5, "x", b"x", [], [None], ["a"], [[1]], {}, object(), np.nan, np.array(3), np.array([[1.5]]),
    True, 10**30, -(10**30), int,
]  # fmt: skip


def batches(**given):
    made = seq2seq.Batches(**{"source": IDS, "target": IDS, "tokens_per_batch": 8, **given})
    return [batch.source for batch in made.epoch(0)]


def translator(**given):
    parts = {"model": MODEL, "source_vocabulary": LETTERS, "target_vocabulary": LETTERS, "config": WHOLE, **given}
    return seq2seq.Translator(**parts).translate(["ab"], max_length=2)


CALLS = {
    "source of Batches": lambda x: batches(source=x),
    "tokens_per_batch of Batches": lambda x: batches(tokens_per_batch=x),
    "seed of Batches": lambda x: batches(seed=x),
    "pool of Batches": lambda x: batches(pool=x),
    "epoch": lambda x: list(seq2seq.Batches(IDS, IDS, tokens_per_batch=8).epoch(x)),
    "group": lambda x: group(x, 8),
    "tokens_per_batch": lambda x: group([3, 4], x),
    "encode_pairs": lambda x: seq2seq.encode_pairs(x, LETTERS, LETTERS),
    "columns": lambda x: seq2seq.read_pairs(__file__, columns=x),
    "kind of a vocabulary": lambda x: seq2seq.Vocabulary(["a"], x),
    "merges": lambda x: seq2seq.Vocabulary(["a"], "bpe", x),
    "max_size": lambda x: seq2seq.Vocabulary.build(["a"], max_size=x),
    "min_count": lambda x: seq2seq.Vocabulary.build(["a"], min_count=x),
    "from_json": seq2seq.Vocabulary.from_json,
    "decode": LETTERS.decode,
    "model": lambda x: translator(model=x),
    "vocabulary": lambda x: translator(target_vocabulary=x),
    "config of a Translator": lambda x: translator(config=x),
    "tokens_per_batch of a Translator": lambda x: translator(tokens_per_batch=x),
    "settings": lambda x: seq2seq.build(x, 9, 9, 0),
    "seed": lambda x: seq2seq.build(CONFIG, 9, 9, x),
    "dtype": lambda x: seq2seq.build(CONFIG, 9, 9, 0, x),
    "source": lambda x: seq2seq.greedy(MODEL, x, LENGTHS),
    "source_lengths": lambda x: seq2seq.greedy(MODEL, SOURCE, x),
    "seeds": lambda x: seq2seq.sample(MODEL, SOURCE, LENGTHS, seeds=x),
    "batch": lambda x: seq2seq.score_pairs(MODEL, x),
    "which": lambda x: seq2seq.load("none", x),
    "edit_distance": lambda x: metrics.edit_distance(x, "ab"),
    "tables": lambda x: seq2seq.Config.from_dict(x),
    "tokens": lambda x: seq2seq.replace_unknown(x, [3], np.ones((1, 1)), ["a"]),
    "ids": lambda x: seq2seq.replace_unknown(["a"], x, np.ones((1, 1)), ["a"]),
    "weights": lambda x: seq2seq.replace_unknown(["a"], [3], x, ["a"]),
    "words": lambda x: seq2seq.replace_unknown(["a"], [3], np.ones((1, 1)), x),
}


@pytest.mark.parametrize("name", CALLS)
def test_wrong_arguments_are_errors_of_ours(name):
    refused = 0
    for value in WRONG:
        try:
            CALLS[name](value)
        except FastattnError as error:
            assert str(error).count("Hint: ") == 1
            refused += 1
    assert refused > len(WRONG) / 2


def test_a_tokenizer_of_bleu_is_one_of_its_package():
    pytest.importorskip("sacrebleu")
    for value in WRONG:
        with pytest.raises(FastattnError, match="tokenize: expected '13a' or"):
            metrics.bleu(["a"], [["a"]], tokenize=value)


def test_lists_of_ids_are_searched():
    given = [[4, 5, 2], [4, 2, 0]], [3, 2]
    arrays = np.array(given[0]), np.array(given[1])
    for found, expected in (
        (seq2seq.greedy(MODEL, *given, limit=3), seq2seq.greedy(MODEL, *arrays, limit=3)),
        (seq2seq.beam_search(MODEL, *given, limit=3), seq2seq.beam_search(MODEL, *arrays, limit=3)),
        (seq2seq.sample(MODEL, *given, seeds=[1, 2], limit=3), seq2seq.sample(MODEL, *arrays, seeds=[1, 2], limit=3)),
    ):
        assert [str(one) for one in found] == [str(one) for one in expected]
    assert pad(iter([[5, 2], [6, 7, 2]]))[0].tolist() == [[5, 2, 0], [6, 7, 2]]


def test_no_warning_comes_of_wrong_numbers():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for temperature in (1e-310, 5e-324, 1e300):
            seq2seq.sample(MODEL, SOURCE, LENGTHS, seeds=[1], temperature=temperature, limit=3)
