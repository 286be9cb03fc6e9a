"""Searches: against all sentences there are, against each sentence alone, and against their formulas."""

import itertools

import numpy as np
import pytest
from checks import same_bits
from seq2seq_cases import CASES, SEARCHES, TARGET_SIZE, Pairs, as_arrays, make, random_pairs, targets

from fastattn import seq2seq
from fastattn.errors import ArgumentError, FastattnError, ShapeError
from fastattn.seq2seq import EOS, UNK, beam_search, greedy, replace_unknown, sample, score_pairs
from fastattn.seq2seq.search import beam
from fastattn.seq2seq.search.beam import _largest

every_model = pytest.mark.parametrize("name", CASES)


@every_model
@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_finds_the_same_bits_alone_and_in_a_batch_and_scores_as_forced(name, search):
    model, batch = make(name), random_pairs(9, 7, padding=1000)
    rows = np.arange(9)
    has_weights = model.teacher_forcing(batch)[1] is not None
    found = SEARCHES[search](model, batch, rows, weights=has_weights)
    assert len({h.tokens.tobytes() for hs in found for h in hs}) > 2, "the search is hardly tested"
    for b in rows:
        alone = SEARCHES[search](model, batch.row(b), rows[b : b + 1], weights=has_weights)[0]
        assert len(alone) == len(found[b]) == (3 if search == "beam" else 1)
        for one, other in zip(alone, found[b]):
            assert same_bits(as_arrays(one), as_arrays(other))
    for rank in range(len(found[0])):
        chosen = [hs[rank] for hs in found]
        for one, other in zip(chosen, score_pairs(model, targets(batch, chosen), weights=has_weights)):
            assert one.log_probability == other.log_probability and one.finished == other.finished
            assert one.weights is None or same_bits(one.weights, other.weights)


@every_model
@pytest.mark.parametrize("alpha", [0.0, 1.0, 4.0])
def test_a_beam_that_holds_everything_finds_the_best_sentence(name, alpha):
    model, batch = make(name, spread=0.5), random_pairs(4, 4)
    with model.projection.b.edit() as value:  # short sentences are probable, and with a penalty long ones may be better
        value[EOS] = 2
    usable = range(3, TARGET_SIZE)
    for b in range(4):
        one = batch.row(b)
        sentences = [s for n in range(4) for s in itertools.product(usable, repeat=n)]
        ids = np.zeros((len(sentences), 4), np.int64)
        for row, s in zip(ids, sentences):
            row[: len(s) + 1] = [*s, EOS]
        lengths = np.array([len(s) + 1 for s in sentences])
        every = Pairs(np.repeat(one.source, len(ids), 0), np.repeat(one.source_lengths, len(ids)), ids, lengths)
        totals = np.array([h.log_probability for h in score_pairs(model, every)])
        scores = totals / ((5 + lengths) / 6) ** alpha
        order = np.argsort(-scores)[:3]
        for best in (1, 3):  # at the last step 216 sentences have 7 extensions each
            options = {"size": 1600, "best": best, "length_penalty": alpha, "limit": 4}
            found = beam_search(model, one.source, one.source_lengths, **options)[0]
            assert [tuple(h.tokens) for h in found] == [sentences[i] for i in order[:best]]
            np.testing.assert_allclose([h.score for h in found], scores[order[:best]], rtol=1e-12)


@pytest.mark.parametrize("name", ["bahdanau", "luong-dot", "transformer-pre"])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_a_search_stops_only_when_nothing_better_can_follow(name, alpha, monkeypatch):
    batch, found, steps = random_pairs(24, 4), [], []
    options = {"size": 3, "best": 2, "length_penalty": alpha, "limit": 12}
    advance = type(make(name)).advance
    monkeypatch.setattr(type(make(name)), "advance", lambda *call: steps.append(len(call[1])) or advance(*call))
    for never in (False, True):
        if never:  # to the limit, or until no sentence is left
            monkeypatch.setattr(
                beam.Beams, "_ended", lambda self, b, length, totals: length >= self.limits[b] or totals[0] == -np.inf
            )
        steps.clear()
        found.append([])
        for seed in range(3):
            model = make(name, seed, spread=0.3)
            with model.projection.b.edit() as value:
                value[EOS] = 1
            found[-1] += beam_search(model, batch.source, batch.source_lengths, **options)
        found[-1].append(sum(steps))
    assert found[0][-1] < found[1][-1], "the rule is hardly tested"
    for early, late in zip(found[0][:-1], found[1][:-1]):
        assert [(*h.tokens, h.score) for h in early] == [(*h.tokens, h.score) for h in late]


@every_model
def test_coverage_is_the_papers_formula(name):
    model, batch = make(name), random_pairs(3, 5)
    if model.teacher_forcing(batch)[1] is None:
        with pytest.raises(FastattnError, match="attention"):
            beam_search(model, batch.source, batch.source_lengths, coverage_penalty=0.2)
        return
    options = {"size": 3, "best": 3, "length_penalty": 0.5, "coverage_penalty": 0.3, "weights": True}
    found = beam_search(model, batch.source, batch.source_lengths, **options)
    for hypothesis in itertools.chain(*found):
        length = len(hypothesis.weights)
        assert length == len(hypothesis.tokens) + hypothesis.finished
        weights = hypothesis.weights.astype(np.float64)
        weights = weights.mean(axis=1) if weights.ndim == 3 else weights
        coverage = np.log(np.minimum(weights.sum(axis=0), 1)).sum()
        expected = hypothesis.log_probability / ((5 + length) / 6) ** 0.5 + 0.3 * coverage
        assert hypothesis.score == pytest.approx(expected, rel=1e-5)
    assert all(a.score >= b.score for hs in found for a, b in itertools.pairwise(hs) if a.finished == b.finished)


def test_greedy_takes_the_most_probable_token_each_time():
    model, batch = make("bahdanau"), random_pairs(3, 5)
    for b, hypothesis in enumerate(greedy(model, batch.source, batch.source_lengths, limit=6, forbid=[UNK])):
        one = batch.row(b)
        state, token = model.encode(one.source, one.source_lengths), 1
        expected = []
        for _ in range(6):
            row, state, _ = model.step(np.array([token]), state)
            row[0, [0, 1, UNK]] = -np.inf
            token = int(row[0].argmax())
            if token == EOS:
                break
            expected.append(token)
        assert hypothesis.tokens.tolist() == expected and hypothesis.finished == (token == EOS)


def test_samples_follow_the_distribution():
    model, batch = make("bahdanau", spread=0.4), random_pairs(1, 4)
    n = 20000
    source, lengths = np.repeat(batch.source, n, 0), np.repeat(batch.source_lengths, n)
    log_p = model.step(np.array([1]), model.encode(batch.source, batch.source_lengths))[0][0].astype(np.float64)

    def first_tokens(**options):
        found = sample(model, source, lengths, seeds=np.arange(n), limit=1, **options)
        tokens = [EOS if h.finished else h.tokens[0] for h in found]
        return np.bincount(tokens, minlength=TARGET_SIZE) / n

    def close(shares, p):
        p = p / p.sum()
        assert (np.abs(shares - p) <= 4.5 * np.sqrt(p * (1 - p) / n) + 1e-12).all(), (shares, p)

    allowed = np.exp(log_p) * (np.arange(TARGET_SIZE) > 1)
    close(first_tokens(), allowed)
    close(first_tokens(temperature=0.5), allowed**2)
    order = np.argsort(-allowed)
    top = np.zeros(TARGET_SIZE)
    top[order[:3]] = allowed[order[:3]]
    close(first_tokens(top_k=3), top)
    share = allowed[order].cumsum() / allowed.sum()
    kept = order[: int((share < 0.6).sum()) + 1]
    top[:] = 0
    top[kept] = allowed[kept]
    close(first_tokens(top_p=0.6), top)


def test_extreme_sampling_is_greedy():
    model, batch = make("bahdanau"), random_pairs(6, 5)
    wanted = [h.tokens.tolist() for h in greedy(model, batch.source, batch.source_lengths)]
    for options in ({"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-4}, {"temperature": 1e-310}):
        found = sample(model, batch.source, batch.source_lengths, seeds=np.arange(6), **options)
        assert [h.tokens.tolist() for h in found] == wanted


def test_unknown_words_are_replaced_by_what_they_are_aligned_with():
    weights = np.array([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.0, 0.9, 0.1], [0.3, 0.3, 0.4]], np.float32)
    ids = np.array([UNK, 7, UNK])
    assert replace_unknown(["<unk>", "is", "<unk>"], ids, weights, ["Bo", "Oslo"]) == ["Bo", "is", "Oslo"]
    translated = replace_unknown(["<unk>", "is", "<unk>"], ids, weights, ["Bo", "Oslo"], {"Oslo": "Christiania"})
    assert translated == ["Bo", "is", "Christiania"]
    heads = np.stack([weights, np.roll(weights, 1, axis=1)], axis=1)
    heads[0] = [[0.6, 0.4, 0.0], [0.0, 0.9, 0.1]]
    assert replace_unknown(["<unk>", "is", "a"], np.array([UNK, 7, 8]), heads, ["Bo", "Oslo"])[0] == "Oslo"
    with pytest.raises(FastattnError, match="tokens"):
        replace_unknown(["a"], ids, weights, ["Bo"])
    with pytest.raises(ShapeError, match="weights of shape"):
        replace_unknown(["<unk>"], np.array([UNK]), np.empty((1, 0)), ["Bo"])


def test_no_sentences_give_none_and_wrong_options_say_so():
    model, batch = make("bahdanau"), random_pairs(2)
    none = np.zeros((0, 3), np.int64), np.zeros(0, np.int64)
    assert greedy(model, *none) == beam_search(model, *none) == []
    call = (model, batch.source, batch.source_lengths)
    for search, options, name in [
        (beam_search, {"best": 6}, "best"),
        (beam_search, {"length_penalty": -1.0}, "length_penalty"),
        (greedy, {"limit": 0}, "limit"),
        (greedy, {"limit": np.array([1, 2, 3])}, "limit"),
        (greedy, {"forbid": [EOS]}, "forbid"),
        (sample, {"seeds": np.arange(3)}, "seeds"),
        (sample, {"seeds": np.arange(2), "temperature": 0.0}, "temperature"),
        (sample, {"seeds": np.arange(2), "top_k": 0}, "top_k"),
        (sample, {"seeds": np.arange(2), "top_p": 1.2}, "top_p"),
    ]:
        with pytest.raises(FastattnError, match=name):
            search(*call, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", [3, 17, 64, 200, 1030])
def test_the_largest_of_each_row_are_those_of_a_stable_sort(columns, dtype):
    rng = np.random.default_rng(columns)
    x = rng.integers(-20, 20, (7, columns)).astype(dtype)  # with many equal ones
    x[1], x[2, ::2], x[3], x[4, :5] = -np.inf, -np.inf, rng.permutation(columns), np.nan
    for count in (1, 2, 10, columns):
        values, ids = _largest(x, count)
        size = np.where(np.isnan(x), -np.inf, x).astype(np.float64)
        order = np.argsort(-size, axis=-1, kind="stable")[:, : min(count, columns)]
        assert values.dtype == np.float64 and ids.dtype == np.int64
        np.testing.assert_array_equal(ids, order)
        np.testing.assert_array_equal(values, np.take_along_axis(x, order, axis=-1))


@pytest.fixture(scope="module")
def translator():
    config = seq2seq.BahdanauConfig(embedding=4, hidden=4, attention=4, readout_width=4)
    letters = seq2seq.Vocabulary(list("abc"), "char")
    model = seq2seq.build(config, len(letters), len(letters), seed=0)
    return seq2seq.Translator(model, letters, letters, seq2seq.Config(model=config))


NO_COUNTS = [0, -1, 1.5, "2", True, np.nan, np.inf, [1], 10**30, b"1"]
NO_PENALTIES = [-1, -1e-9, np.nan, np.inf, "x", True, [0.5], 1e300]


@pytest.mark.parametrize(
    ("method", "name", "values"),
    [
        ("search", "beam", [*NO_COUNTS, 1001]),
        ("translate", "beam", NO_COUNTS),
        ("search", "best", [*NO_COUNTS, None, 1001]),
        ("search", "max_length", [*NO_COUNTS, 100_001, 10**12]),
        ("search", "length_penalty", NO_PENALTIES),
        ("search", "coverage_penalty", NO_PENALTIES),
        ("sample", "max_length", [*NO_COUNTS, 10**12]),
        ("sample", "temperature", [0, -1, np.nan, np.inf, "x", None, [1.0]]),
        ("sample", "top_k", [*NO_COUNTS[:-2], b"1"]),
        ("sample", "top_p", [0, -1, 1.5, np.nan, np.inf, "x", None]),
        ("sample", "seed", [-1, 1.5, "1", None, np.nan]),
        ("sample", "first", [-1, 1.5, "1", None]),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_a_wrong_number_is_named_as_it_was_given(translator, method, name, values):
    for value in values:
        with pytest.raises(FastattnError) as caught:
            getattr(translator, method)(["ab"], **{"seed": 1, name: value} if method == "sample" else {name: value})
        assert str(caught.value).startswith(f"{name}: expected ") and str(caught.value).count("Hint: ") == 1


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("size", NO_COUNTS[:-2]),
        ("best", [*NO_COUNTS, None, 6]),
        ("length_penalty", [*NO_PENALTIES, None]),
        ("coverage_penalty", [*NO_PENALTIES, None]),
        ("limit", [0, -1, 1.5, "2", True, [1, 2], 10**6, 2**63, [100_001]]),
        ("forbid", [2, "2", None, [2], [99], [-1], ["a"], [1.5]]),
    ],
)
def test_wrong_numbers_of_a_beam_search(translator, name, values):
    for value in values:
        with pytest.raises(FastattnError) as caught:
            beam_search(translator.model, np.array([[4, 5, 2]]), np.array([3]), **{name: value})
        assert str(caught.value).startswith(f"{name}: expected ")


def test_numbers_of_numpy_are_numbers(translator):
    given = {"beam": np.int64(2), "best": np.uint8(2), "length_penalty": np.float32(0.5), "coverage_penalty": 0,
             "max_length": np.int16(4)}  # fmt: skip
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
    assert [h.text for h in translator.search(["ab"], **given)[0]] == [
        h.text for h in translator.search(["ab"], **plain)[0]
    ]


def test_unknown_options_are_those_of_the_method_that_was_called(translator):
    for name in ("translate", "search", "sample"):
        with pytest.raises(TypeError, match=rf"{name}\(\) got an unexpected keyword argument 'beams'"):
            getattr(translator, name)(["ab"], beams=3)


def test_a_long_search_with_a_length_penalty_ends(translator):
    """Its bound is that of the longest sentence, which is known."""
    found = translator.search(["ab"], max_length=3000, length_penalty=100.0)[0][0]
    assert len(found.tokens) <= 3000


def test_targets_beyond_the_vocabulary_are_named():
    model, batch = make("bahdanau"), random_pairs(2, 5)
    batch.target[1, 0] = 10**6
    with pytest.raises(ArgumentError, match="target: expected integers from 0"):
        score_pairs(model, batch)
