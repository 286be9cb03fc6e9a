"""Learning a vocabulary: nothing of a text that is left out for its length, no word too long for it, and Ctrl-C."""

import random
import signal
import subprocess
import sys
import time

import pytest

from fastattn.seq2seq import Config, TransformerConfig, VocabularyConfig
from fastattn.seq2seq.config import TrainingConfig
from fastattn.seq2seq.text import bpe
from fastattn.seq2seq.text.corpus import prepare_corpus
from fastattn.seq2seq.text.vocabulary import Vocabulary

PAIRS = [("ab ba ab", "x y x"), ("abc cab", "y x"), ("ab", "z")] * 4
# Three pairs that are left out: for the words of the source, for those of the target, for both.
LONG = [("q " * 40, "x"), ("ab", "w " * 40), ("q" * 9 + " r" * 40, "v " * 40)]


def word(letters, seed=0):
    rng = random.Random(seed)
    return "".join(rng.choice("abcdefgh") for _ in range(letters))


def vocabularies(pairs, kind, shared=False):
    config = Config(
        model=TransformerConfig(),
        vocabulary=VocabularyConfig(source=kind, target=kind if shared else "word", shared=shared),
        training=TrainingConfig(max_length=20),
    )
    corpus = prepare_corpus(config, pairs)
    return corpus.source_vocabulary, corpus.target_vocabulary, corpus.reports[0]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", ["word", "char", "bpe"])
def test_what_is_left_out_for_its_length_teaches_nothing(kind, shared):
    if kind == "bpe":
        pytest.importorskip("tokenizers")
    source, target, report = vocabularies([*PAIRS, *LONG], kind, shared)
    assert report.kept == len(PAIRS)
    assert (source, target) == vocabularies(PAIRS, kind, shared)[:2]
    assert not {"q", "w", "v"} & {*source.tokens, *target.tokens}


@pytest.mark.parametrize("kind", ["word", "char", "bpe"])
def test_fewest_is_at_most_the_number_of_tokens(kind):
    pytest.importorskip("tokenizers")
    rng = random.Random(3)
    texts = [" ".join(word(rng.randint(1, 9), rng.random()) for _ in range(rng.randint(1, 9))) for _ in range(99)]
    vocabulary = Vocabulary.build(texts, kind, max_size=60)
    for text in [*texts, "", " ", "\u00e9\u00e9  \u00e9", word(500)]:
        count = len(vocabulary.split(text))
        assert vocabulary.fewest(text) == count or (kind == "bpe" and vocabulary.fewest(text) <= count)
    if kind == "bpe":
        assert vocabulary.fewest(word(5000)) > 100


def test_a_word_is_cut_where_it_is_absurdly_long():
    """The pieces of ordinary words are not changed by it, and it takes the time of as many ordinary words."""
    pytest.importorskip("tokenizers")
    ordinary = [word(5, n) + " " + word(8, n + 1000) for n in range(400)]
    few = bpe.learn(ordinary, 150, 1)
    assert bpe.learn([*ordinary, "\u4e2d" * 1000], 151, 1)[1][: len(few[1]) - 10] != ()
    began = time.perf_counter()
    pieces, merges = bpe.learn([word(300_000)], 400, 1)
    assert time.perf_counter() - began < 20  # without cutting: minutes
    assert max(map(len, pieces)) <= 256 and len(merges) > 300


LEARNING = """
import random, sys
from fastattn.seq2seq import Vocabulary
rng = random.Random(0)
texts = [" ".join("".join(rng.choices("abcdefgh", k=rng.randint(3, 40))) for _ in range(9)) for _ in range(40_000)]
print("learning", flush=True)
try:
    Vocabulary.build(texts, "bpe", max_size=30_000)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise
print("learnt", flush=True)
"""


def test_ctrl_c_is_answered_within_a_second(tmp_path, environment):
    pytest.importorskip("tokenizers")
    seconds = []
    while not seconds or (min(seconds) > 1 and len(seconds) < 4):  # a busy machine may take its time
        with subprocess.Popen(
            [sys.executable, "-c", LEARNING],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout.readline() == "learning\n"
            time.sleep(1.5)
            process.send_signal(signal.SIGINT)
            began = time.perf_counter()
            assert process.stdout.readline() == "interrupted\n"
            seconds.append(time.perf_counter() - began)
            out, err = process.communicate(timeout=60)
        assert out == "" and "KeyboardInterrupt" in err
        assert process.returncode in (-signal.SIGINT, 130)
    assert min(seconds) < 1, seconds


def test_a_failure_of_learning_is_raised():
    with pytest.raises(ZeroDivisionError):
        bpe.answering_ctrl_c(lambda: 1 // 0)
