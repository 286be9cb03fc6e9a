"""Limits are known when the configuration is read: what cannot work later is refused before the data are read, and
an ordinary or a long sentence never fails for want of positions."""

import re
import subprocess
import sys
import time

import numpy as np
import pytest
from seq2seq_cases import CASES
from training_runs import DATA

from fastattn import seq2seq
from fastattn.cli import main
from fastattn.errors import ArgumentError, ConfigError
from fastattn.seq2seq.runs import sizes
from fastattn.seq2seq.sections import MOST_TOKENS

TINY = {"width": 8, "heads": 2, "inner": 8, "encoder_layers": 1, "decoder_layers": 1}
LEARNED = seq2seq.TransformerConfig(**TINY, positions="learned", longest=12)
MECHANISM = {"name": "location", "longest": 12}
LIMITED = {
    "learned positions": (LEARNED, "longest", True),
    "a location score": (
        seq2seq.LuongConfig(embedding=4, hidden=4, layers=1, score="location", longest_source=12),
        "longest_source", False,
    ),
    "a location mechanism": (
        seq2seq.BahdanauConfig(embedding=4, hidden=4, attention=4, readout_width=4, mechanism=MECHANISM),
        "mechanism.longest", False,
    ),
}  # fmt: skip


def make_config(model, max_length=11, **training):
    return seq2seq.Config(
        model=model,
        vocabulary=seq2seq.VocabularyConfig(source="char", target="char"),
        training=seq2seq.TrainingConfig(
            **{"epochs": 0, "max_steps": 2, "tokens_per_batch": 300, "max_length": max_length, **training}
        ),
    )


class Untouched:
    """Data that must not be read."""

    def __iter__(self):
        raise AssertionError("the data were read")


def refused(config, folder):
    with pytest.raises(ConfigError) as caught:
        seq2seq.train(config, folder, pairs=Untouched(), quiet=True)
    assert not folder.exists()
    return str(caught.value)


@pytest.mark.parametrize("name", LIMITED)
def test_positions_that_do_not_hold_the_training_data_are_refused_before_they_are_read(tmp_path, name):
    model, key, _ = LIMITED[name]
    message = refused(make_config(model, max_length=12), tmp_path / "run")
    assert message == (
        f"model.{key}: 12 positions are too few for a source of training.max_length 12 and its end. "
        "Hint: give at least 13, or lower training.max_length."
    )
    assert seq2seq.train(make_config(model), tmp_path / "run", pairs=DATA[0], quiet=True).steps == 2


@pytest.mark.parametrize("name", LIMITED)
def test_a_sentence_of_any_length_is_translated(tmp_path, name):
    """What the model has no positions for is left away: of the source what is beyond them, and of the target."""
    model, _, targets = LIMITED[name]
    seq2seq.train(make_config(model), tmp_path, pairs=DATA[0], quiet=True)
    translator = seq2seq.load(tmp_path)
    assert translator.most_tokens == 11 and translator.config.inference.max_length == 200
    texts = ["abc", "abcdefgh" * 40, "", "abcdefghabc", "abcdefghabcd"]
    for options in ({"beam": 1}, {"beam": 3, "length_penalty": 0.6}, {"max_length": 1000, "beam": 1}):
        found = [one[0] for one in translator.search(texts, weights=True, **options)]
        alone = [translator.search([text], weights=True, **options)[0][0] for text in texts]
        assert [one.text for one in found] == [one.text for one in alone]
        assert found[1].text == translator.translate([texts[1][:11]], **options)[0]
        assert found[1].source_tokens == [*texts[1][:11], "</s>"]
        assert all(one.weights is None or one.weights.shape[-1] == len(one.source_tokens) for one in found)
        assert max(len(one.tokens) for one in found) <= (12 if targets else options.get("max_length", 200))
    assert len(translator.sample(texts, seed=1)) == len(texts)
    with pytest.raises(ArgumentError, match=r"sources\[1\]: expected at most 11 tokens, for which the model has pos"):
        translator.score(texts[:2], ["a", "b"])
    if targets:
        with pytest.raises(ArgumentError, match=r"targets\[0\]: expected at most 11 tokens"):
            translator.score(["a"], ["b" * 12])


def test_a_metric_is_computed_when_translations_could_be_longer_than_the_positions(tmp_path):
    config = make_config(LEARNED, validate_every=1, metric="per", schedule="plateau")
    assert seq2seq.train(config, tmp_path, pairs=DATA[0], validation=DATA[1], quiet=True).best is not None


def test_one_long_line_does_not_cost_the_others_their_translations(tmp_path, capsys):
    seq2seq.train(make_config(LEARNED), tmp_path / "run", pairs=DATA[0], quiet=True)
    (tmp_path / "lines").write_text("abc\n" + "abcdefgh" * 9 + "\nab\n")
    assert main(["translate", str(tmp_path / "run"), str(tmp_path / "lines")]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert re.fullmatch(r"fastattn translate: line 2: 72 tokens, .*; the first 11, for which .* are translated\n", err)
    (tmp_path / "pairs").write_text("abc\tcba\n" + "abcdefgh" * 9 + "\tab\n")
    assert main(["evaluate", str(tmp_path / "run"), str(tmp_path / "pairs"), "--metric", "per"]) == 0
    assert "1 of 2 sources are longer than the 11 tokens" in capsys.readouterr().err


def test_the_size_is_said_and_that_positions_cap_translations(tmp_path, capsys):
    seq2seq.train(make_config(LEARNED), tmp_path / "run", pairs=DATA[0])
    first, second, third = capsys.readouterr().err.splitlines()[:3]
    model = seq2seq.load(tmp_path / "run").model
    count = sum(parameter.value.size for parameter in model.parameters().values())
    assert re.fullmatch(
        r"model: transformer: .* parameters \(.*B, .*B in training\), besides those of the vocab.*", first
    )
    assert second == "inference.max_length: 200 is more than model.longest: translations have at most 12 tokens"
    shown = (
        f"{sizes.shown(count)} parameters ({sizes.shown(4 * count, 'B')}, {sizes.shown(16 * count, 'B')} in training)"
    )
    assert third == f"vocabularies of 12 and 12 tokens; {shown}"


def test_the_size_is_said_before_data_are_read_that_take_time(tmp_path, environment):
    (tmp_path / "c.toml").write_text('[data]\ntrain = "-"\n[training]\nmax_steps = 1\n[model]\nhidden = 8\n')
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "fastattn", "train", "c.toml"], cwd=tmp_path, stdin=subprocess.PIPE,
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        env=environment,
    )  # fmt: skip
    assert process.stderr.readline().startswith("model: bahdanau: ")
    process.communicate("\n", timeout=60)


def test_sizes_of_the_paper_that_nobody_asked_for_are_said(tmp_path, capsys, monkeypatch):
    from fastattn.seq2seq.runs import running as runs

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "new_model", stop)
    config = make_config(seq2seq.BahdanauConfig())
    with pytest.raises(KeyboardInterrupt):
        seq2seq.train(config, tmp_path / "run", pairs=DATA[0])
    assert capsys.readouterr().err.startswith("model: bahdanau, in the sizes of the paper, as [model] has no others: ")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"width": 8, "heads": 3}, "heads: expected a divisor of "),
        ({"width": 10**6, "inner": 10**6}, "model: more than .* parameters, for which this machine's .*B are"),
        ({**TINY, "tied": "all"}, "tied: expected one vocabulary"),
    ],
    ids=["heads", "memory", "tied"],
)  # fmt: skip
def test_a_model_that_cannot_be_is_refused_before_the_data_are_read(tmp_path, settings, text):
    began = time.perf_counter()
    with pytest.raises(ConfigError, match=text):
        seq2seq.train(
            make_config(seq2seq.TransformerConfig(**settings)), tmp_path / "run", pairs=Untouched(), quiet=True
        )
    assert time.perf_counter() - began < 5 and not (tmp_path / "run").exists()


def test_a_coverage_penalty_without_attention_is_refused(tmp_path):
    config = make_config(seq2seq.ChoConfig(embedding=4, hidden=4, readout_width=4))
    config = seq2seq.Config(model=config.model, vocabulary=config.vocabulary, training=config.training,
                            inference=seq2seq.InferenceConfig(coverage_penalty=0.1))  # fmt: skip
    assert refused(config, tmp_path / "run").startswith("inference.coverage_penalty: kind 'cho' has no attention")


def test_a_search_comes_to_an_end():
    model = seq2seq.build(CASES["cho"], 9, 9, seed=0)
    source, lengths = np.array([[4, 2]]), np.array([2])
    for search in (seq2seq.greedy, seq2seq.beam_search):
        with pytest.raises(ArgumentError, match=rf"limit: expected from 1 to {MOST_TOKENS}"):
            search(model, source, lengths, limit=MOST_TOKENS + 1)
    assert main(["translate", "model", "--max-length", "1000000000000"]) == 2


def test_searches_know_the_positions_without_being_told():
    model = seq2seq.build(seq2seq.TransformerConfig(**TINY, positions="learned", longest=5), 9, 9, seed=0)
    source, lengths = np.array([[4, 4, 4, 4, 2]]), np.array([5])
    for limit in (None, 100):
        [found] = seq2seq.greedy(model, source, lengths, limit=limit)
        [beam] = seq2seq.beam_search(model, source, lengths, size=2, limit=limit)
        assert len(found.tokens) <= 5 and len(beam[0].tokens) <= 5


def test_the_size_of_a_model_is_that_of_its_parameters():
    for name, settings in CASES.items():
        blank = sizes.Blank(10**6)
        one, other = seq2seq.build(settings, 11, 11, blank), seq2seq.build(settings, 11, 11, seed=1)
        shapes = [{key: p.value.shape for key, p in model.parameters().items()} for model in (one, other)]
        assert shapes[0] == shapes[1], name
        count = sum(p.value.size for p in other.parameters().values())
        with pytest.raises(sizes.OversizeError):
            seq2seq.build(settings, 11, 11, sizes.Blank(count // 2))
