"""Searches whose caches of keys and values are of bfloat16 or int8."""

import sys

import numpy as np
import pytest
from checks import same_bits
from seq2seq_cases import CASES, SEARCHES, SOURCE_SIZE, TARGET_SIZE, as_arrays, make, random_pairs, targets

from fastattn import seq2seq
from fastattn.cli import main
from fastattn.errors import ArgumentError, ConfigError, MissingPackageError, UnsupportedError
from fastattn.seq2seq import BOS, beam_search, build, greedy, score_pairs

TRANSFORMERS = [name for name in CASES if name.startswith("transformer")]
caches = pytest.mark.parametrize("cache", ["bfloat16", "int8"])
LETTERS = seq2seq.Vocabulary(list("abcde"), "char")
TEXTS = ["abcab", "", "e", "dabcb", "bbbb", "aaaaaaa", "cd"]


@pytest.fixture(autouse=True)
def halves(request):
    if "bfloat16" in request.node.name:
        pytest.importorskip("ml_dtypes")


@caches
@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.parametrize("search", SEARCHES)
def test_a_sentence_alone_and_in_any_batch(name, search, cache):
    model, batch, rows = make(name, spread=0.5), random_pairs(9, 7, padding=1000), np.arange(9)
    found = SEARCHES[search](model, batch, rows, weights=True, cache=cache)
    for b in rows:
        alone = SEARCHES[search](model, batch.row(b), rows[b : b + 1], weights=True, cache=cache)[0]
        for one, other in zip(alone, found[b], strict=True):
            assert same_bits(as_arrays(one), as_arrays(other))
    best = [several[0] for several in found]
    exact = score_pairs(model, targets(batch, best))
    errors = np.array([one.log_probability - other.log_probability for one, other in zip(best, exact)])
    assert errors.any() and np.abs(errors).max() < 0.5


def taken(state):
    """Bytes of the keys and values of the tokens so far, and of the source's."""
    return np.array([sum(memory.nbytes for memory in part) for part in (state.past, state.memories)])


@caches
def test_caches_take_a_half_or_little_more_than_a_quarter(cache):
    config = seq2seq.TransformerConfig(width=128, heads=2, inner=16, encoder_layers=1, decoder_layers=2)
    model, batch = build(config, SOURCE_SIZE, TARGET_SIZE, 0), random_pairs(6, 40)
    state = model.encode(batch.source, batch.source_lengths)
    storage = np.dtype(np.int8) if cache == "int8" else pytest.importorskip("ml_dtypes").bfloat16
    small, log_probabilities = state.stored(storage), []
    exact = build(config, SOURCE_SIZE, TARGET_SIZE, 0)
    assert taken(state)[1] >= sum(memory.nbytes for memory in state.memories)  # what was not to be changed was not
    for _ in range(16):
        fed = np.full(6, BOS)
        wide, state, _ = exact.step(fed, state)
        narrow, small, _ = model.step(fed, small)
        log_probabilities.append(np.abs(wide - narrow).max())
    assert 0 < max(log_probabilities) < 0.05
    every = [memory for part in (small.past, small.memories) for memory in part]
    assert {memory._keys.dtype for memory in every} == {np.dtype(storage)}
    bytes_of_a_number = 2 if cache == "bfloat16" else 1 + 4 / 64
    positions = np.array([16, 40])
    np.testing.assert_array_equal(taken(small), 2 * 2 * 6 * 128 * positions * bytes_of_a_number)
    assert (taken(state) >= 4 / bytes_of_a_number * taken(small)).all()  # and keys of few source positions are packed


@caches
def test_beams_that_part_keep_their_numbers(cache):
    model, batch = make("transformer-pre", spread=0.5), random_pairs(3, 6)
    search = {"size": 3, "best": 3, "limit": 40, "cache": cache}  # the space for positions doubles, at 16 and 32
    found = beam_search(model, batch.source, batch.source_lengths, **search)
    for b in range(3):
        one = batch.row(b)
        [alone] = beam_search(model, one.source, one.source_lengths, **search)
        for mine, other in zip(alone, found[b], strict=True):
            assert same_bits(as_arrays(mine), as_arrays(other))
    # A prefix makes a search follow one sentence: its log-probability is that which its beam had.
    for b, several in enumerate(found):
        one = batch.row(b)
        for each in several:
            if len(each.tokens) > 1 and each.finished:
                more = {"prefix": [each.tokens[:-1]], "limit": 40, "cache": cache, "allow": [int(each.tokens[-1])]}
                [again] = greedy(model, one.source, one.source_lengths, **more)
                if np.array_equal(again.tokens, each.tokens):
                    assert again.log_probability == each.log_probability


@caches
def test_an_ensemble_of_transformers(cache):
    models, batch = [make(name, spread=0.5) for name in ("transformer-pre", "transformer-rotary")], random_pairs(4, 6)
    many = {"size": 2, "limit": 6}
    ours = beam_search(seq2seq.Ensemble(models), batch.source, batch.source_lengths, cache=cache, **many)
    plain = beam_search(seq2seq.Ensemble(models), batch.source, batch.source_lengths, **many)
    assert [one.score for [one] in ours] != [one.score for [one] in plain]
    np.testing.assert_allclose([one.score for [one] in ours], [one.score for [one] in plain], atol=0.5)


def translator(name="transformer-pre", **inference):
    config = CASES[name]
    model = build(config, len(LETTERS), len(LETTERS), seed=0)
    settings = seq2seq.InferenceConfig(max_length=12, beam=2, **inference)
    return seq2seq.Translator(model, LETTERS, LETTERS, seq2seq.Config(model=config, inference=settings))


def answers(one, **cache):
    """Scores of all that searches."""
    last = {i: found for step in one.stream(TEXTS, **cache) for i, found in step.finished.items()}
    every = [
        [found[0] for found in one.search(TEXTS, **cache)],
        [found[0] for found in one.search(TEXTS, beam=1, **cache)],
        one.sample(TEXTS, seed=3, **cache),
        one.alternatives("abc", best=2, **cache),
        [last[i][0] for i in range(len(TEXTS))],
    ]
    return [[each.log_probability for each in found] for found in every]


@caches
def test_the_configuration_and_every_search_of_a_translator_take_it(cache):
    plain, set_so = translator(), translator(cache=cache)
    found = answers(set_so)
    assert found == answers(plain, cache=cache)
    assert answers(plain) == answers(set_so, cache="float32")
    for one, other in zip(found, answers(plain), strict=True):
        assert one != other
    texts = set_so.translate(TEXTS)
    assert texts == plain.translate(TEXTS, cache=cache) == [several[0].text for several in set_so.search(TEXTS)]
    assert set_so.score(["abc"], ["cba"]) == plain.score(["abc"], ["cba"])  # all positions at once, without caches


def test_commands_take_it(tmp_path, capsys):
    model = seq2seq.TransformerConfig(width=16, heads=2, inner=16, encoder_layers=1, decoder_layers=1)
    config = seq2seq.Config(model=model, training=seq2seq.TrainingConfig(max_steps=3, max_length=20),
                            vocabulary=seq2seq.VocabularyConfig(source="char", target="char"))  # fmt: skip
    seq2seq.train(config, tmp_path / "run", pairs=[("abc", "cba"), ("bd", "db")], quiet=True)
    (tmp_path / "lines").write_text("abc\nbd\n")
    (tmp_path / "pairs.tsv").write_text("abc\tcba\nbd\tdb\n")

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        done = capsys.readouterr()
        return status, done.out or done.err

    shown = {
        cache: run("translate", tmp_path / "run", tmp_path / "lines", "--json", "--cache", cache)
        for cache in ("float32", "int8")
    }
    assert shown["int8"][0] == shown["float32"][0] == 0 and shown["int8"] != shown["float32"]
    assert run("translate", tmp_path / "run", tmp_path / "lines", "--json") == shown["float32"]
    assert run("translate", tmp_path / "run", tmp_path / "lines", "-o", tmp_path / "made", "--cache", "int8")[0] == 0
    assert run("evaluate", tmp_path / "run", tmp_path / "pairs.tsv", "--metric", "per", "--cache", "int8")[0] == 0
    status, said = run("translate", tmp_path / "run", "--cache", "int4")
    assert status == 2 and "argument --cache: invalid choice: 'int4'" in said


@pytest.mark.parametrize("names", [["bahdanau"], ["cho"], ["transformer-pre", "wu"]])
def test_models_without_caches_refuse(names):
    models, batch = [make(name) for name in names], random_pairs()
    model = models[0] if len(models) == 1 else seq2seq.Ensemble(models)
    for search in SEARCHES.values():
        with pytest.raises(UnsupportedError, match=r"^cache: expected 'float32' for a model that keeps no keys"):
            search(model, batch, np.arange(4), cache="int8")
        search(model, batch, np.arange(4), cache="float32", limit=2)


def test_what_cannot_be_is_refused(tmp_path, monkeypatch):
    batch, model = random_pairs(), make("transformer-pre")
    given = batch.source, batch.source_lengths
    with pytest.raises(ArgumentError, match=r"^cache: expected one of float32, bfloat16, int8, got 'int4'"):
        greedy(model, *given, cache="int4")
    with pytest.raises(UnsupportedError, match=r"^cache: expected 'float32' for a model of float64"):
        greedy(build(CASES["transformer-pre"], SOURCE_SIZE, TARGET_SIZE, 0, dtype=np.float64), *given, cache="int8")
    with pytest.raises(ConfigError, match=r"inference\.cache"):
        seq2seq.InferenceConfig(cache="float16")
    config = seq2seq.Config(model=CASES["bahdanau"], inference=seq2seq.InferenceConfig(cache="int8"))
    with pytest.raises(ConfigError, match=r"^inference\.cache: kind 'bahdanau' keeps no keys and values"):
        seq2seq.train(config, tmp_path / "run", pairs=[("a b", "b a")], quiet=True)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(MissingPackageError, match=r"ml_dtypes is needed for caches of bfloat16 .*'fastattn\[half\]'"):
        greedy(model, *given, cache="bfloat16")
