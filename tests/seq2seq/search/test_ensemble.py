"""Ensembles: the log of averaged probabilities, step by step and forced, alone and in a batch."""

import functools

import numpy as np
import pytest
from checks import same_bits
from seq2seq_cases import CASES, SOURCE_SIZE, TARGET_SIZE, random_pairs

from fastattn import seq2seq
from fastattn.cli import main
from fastattn.errors import ArgumentError, CheckpointError, UnsupportedError
from fastattn.seq2seq import Config, Ensemble, Translator, Vocabulary, beam_search, build, checkpoint, score_pairs

KINDS = ("bahdanau", "luong-multihead", "transformer-pre", "wu")


def make(names=KINDS):
    models = [build(CASES[name], SOURCE_SIZE, TARGET_SIZE, seed) for seed, name in enumerate(names)]
    for seed, model in enumerate(models):
        for parameter in model.parameters().values():
            with parameter.edit() as value:
                value += np.random.default_rng(seed).normal(size=value.shape).astype(np.float32)
    return models


def test_probabilities_are_means():
    models, batch = make(), random_pairs(5)
    found = Ensemble(models).teacher_forcing(batch)[0]
    mean = np.mean([np.exp(model.teacher_forcing(batch)[0].astype(np.float64)) for model in models], axis=0)
    inside = np.arange(found.shape[1]) < batch.target_lengths[:, None]
    np.testing.assert_allclose(found[inside], np.log(mean[inside]), rtol=2e-6, atol=1e-6)
    assert not found[~inside].any()
    loss, count = Ensemble(models).loss(batch)
    assert count == inside.sum() and loss == pytest.approx(-np.log(mean[inside]).sum(), rel=1e-6)


def test_a_model_with_itself_is_that_model():
    [model], batch = make(["transformer-pre"]), random_pairs(5)
    search = functools.partial(beam_search, source=batch.source, source_lengths=batch.source_lengths, size=3, limit=7)
    for found, alone in zip(search(Ensemble([model] * 2)), search(model)):
        assert np.array_equal(found[0].tokens, alone[0].tokens)
        assert found[0].log_probability == pytest.approx(alone[0].log_probability, rel=1e-6)


@pytest.mark.parametrize("size", [1, 4])
def test_a_search_finds_the_same_bits_alone_and_in_a_batch_and_scores_as_forced(size):
    model, batch = Ensemble(make()), random_pairs(9, 7, padding=1000)
    options = {"size": size, "best": size, "length_penalty": 0.7, "limit": 12, "weights": True}
    found = beam_search(model, batch.source, batch.source_lengths, **options)
    assert len({hs[0].tokens.tobytes() for hs in found}) > 2, "the search is hardly tested"
    for b, several in enumerate(found):
        row = batch.row(b)
        [alone] = beam_search(model, row.source, row.source_lengths, **options)
        for one, other in zip(alone, several, strict=True):
            assert one.log_probability == other.log_probability and np.array_equal(one.tokens, other.tokens)
            assert same_bits(one.weights, other.weights)
            ids = np.array([[*one.tokens, *([2] if one.finished else [])]])
            pair = type(batch)(row.source, row.source_lengths, ids, np.array([ids.shape[1]]))
            [forced] = score_pairs(model, pair, weights=True)
            assert forced.log_probability == one.log_probability and same_bits(forced.weights, one.weights)
            np.testing.assert_allclose(one.weights.sum(-1), 1, rtol=1e-5)


def test_a_model_without_attention_makes_one_without():
    model, batch = Ensemble(make(["bahdanau", "cho"])), random_pairs(2)
    assert not model.attends and model.teacher_forcing(batch)[1] is None
    assert Ensemble(make(["transformer-learned", "bahdanau"])).longest().target == 50


def test_what_cannot_be_is_refused():
    small = build(CASES["bahdanau"], SOURCE_SIZE, TARGET_SIZE - 1, 0)
    with pytest.raises(ArgumentError, match="models: expected models with target vocabularies of one size"):
        Ensemble([*make(["bahdanau"]), small])
    for call in (lambda m: m.loss_vjp(random_pairs(), seeds=[0] * 4), lambda m: m.teacher_forcing(1, weights="layers")):
        with pytest.raises(UnsupportedError, match="ensemble"):
            call(Ensemble(make(["bahdanau"])))


def saved(folder, name, seed, words):
    model, config = build(CASES[name], len(words), len(words), seed), Config(model=CASES[name])
    values = {key: parameter.value for key, parameter in model.parameters().items()}
    checkpoint.save(folder, 1, model=values, state={}, config=config.to_dict(), progress={},
                    vocabularies={"source": words, "target": words}, best=True)  # fmt: skip
    return Translator(model, words, words, config)


def test_models_of_folders_search_together_from_python_and_the_command_line(tmp_path, capsys):
    words = Vocabulary(["a", "b", "c"])
    translators = [saved(tmp_path / name, name, 5, words) for name in ("bahdanau", "transformer-pre")]
    first, second = tmp_path / "bahdanau", tmp_path / "transformer-pre"
    found = seq2seq.load(first, ensemble=[second]).translate(["a b", "c c a"])
    ensemble = Ensemble([one.model for one in translators])
    assert found == Translator(ensemble, words, words, translators[0].config).translate(["a b", "c c a"])
    (tmp_path / "texts").write_text("a b\nc c a\n")
    assert main(["translate", str(first), str(tmp_path / "texts"), "--ensemble", str(second)]) == 0
    assert capsys.readouterr().out.splitlines() == found
    saved(tmp_path / "other", "bahdanau", 5, Vocabulary(["a", "c", "b"]))
    with pytest.raises(CheckpointError, match="other: has another source vocabulary than"):
        seq2seq.load(first, ensemble=[tmp_path / "other"])
