"""A run that diverges says so, saves nothing of it, and goes on from before with a lower rate."""

import json

import numpy as np
import pytest
from seq2seq_cases import CASES
from training_runs import DATA, make_config

from fastattn import seq2seq
from fastattn.cli import main
from fastattn.errors import ArgumentError, CheckpointError, ConfigError, FastattnError
from fastattn.seq2seq import checkpoint
from fastattn.seq2seq.runs import training
from fastattn.seq2seq.runs.runlog import read_log

PLAIN = {"schedule": "constant", "validate_every": 0, "sampling": 0.0, "average": 0.0, "clip": 0.0}


def train(folder, resume=False, pairs=DATA, **settings):
    first, held_out = pairs
    return seq2seq.train(make_config(**settings), folder, pairs=first, validation=held_out, resume=resume, quiet=True)


def changes(folder):
    return [(line["step"], line["changes"]) for line in read_log(folder / "log.jsonl") if "changes" in line]


@pytest.mark.parametrize("pairs", [DATA, (DATA[0], [])], ids=["validated", "not validated"])
@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_run_that_diverges_in_its_last_step_says_so(tmp_path, pairs, average):
    with pytest.raises(FastattnError, match=r"step 1: .*: the run has diverged\. Hint: lower training\.rate"):
        train(tmp_path, pairs=pairs, **{**PLAIN, "rate": 1e30, "max_steps": 1, "average": average})
    assert checkpoint.steps(tmp_path) == []


def test_the_advice_works_after_a_checkpoint_of_every_step(tmp_path):
    settings = {**PLAIN, "checkpoint_every": 1, "max_steps": 12}
    train(tmp_path, **{**settings, "max_steps": 3, "rate": 0.05})
    for name in ("config.json", "log.jsonl"):
        assert list(tmp_path.rglob(name))
    with pytest.raises(FastattnError, match="the run has diverged"):
        # As a rate that rises would: the checkpoint is taken for that of a run with the rate 1e30.
        rise(tmp_path, 1e30)
        train(tmp_path, resume=True, **{**settings, "rate": 1e30})
    assert checkpoint.steps(tmp_path)[-1] == 3
    assert train(tmp_path, resume=True, **{**settings, "rate": 0.01}).steps == 12
    assert changes(tmp_path) == [(3, {"training.rate": [1e30, 0.01]})]
    rates = {line["rate"] for line in read_log(tmp_path / "log.jsonl") if "rate" in line and line["step"] > 3}
    assert rates == {0.01}


def rise(run, rate):
    found = checkpoint.load(run)
    found.config["training"]["rate"] = rate
    vocabularies, step = found.vocabularies, found.step
    checkpoint.save(run, step, model=found.model, state=found.state, config=found.config, progress=found.progress,
                    vocabularies=vocabularies)  # fmt: skip


@pytest.mark.parametrize("settings", [{"schedule": "plateau"}, {**PLAIN, "clip": 1.0}], ids=["plateau", "clip"])
def test_a_lowered_rate_is_recorded_and_resumed_exactly(tmp_path, settings, monkeypatch):
    lower = {**settings, "rate": 0.02, "clip": 0.5}
    for name in ("alone", "stopped"):
        train(tmp_path / name, **{**settings, "max_steps": 20, "clip": 0.0})
    train(tmp_path / "alone", resume=True, **lower)
    train(tmp_path / "stopped", resume=True, **{**lower, "max_steps": 27})
    train(tmp_path / "stopped", resume=True, **lower)
    expected = {"training.rate": [0.1, 0.02], "training.clip": [0.0, 0.5]}
    assert changes(tmp_path / "alone") == [(20, expected)]

    def outcome(name):
        found = checkpoint.load(tmp_path / name)
        return found.config, found.progress, {key: value.tobytes() for key, value in found.state.items()}

    assert outcome("alone") == outcome("stopped")
    assert changes(tmp_path / "stopped") == changes(tmp_path / "alone")


def test_a_change_is_recorded_once_when_the_run_is_killed_before_its_next_checkpoint(tmp_path, monkeypatch):
    settings = {**PLAIN, "max_steps": 9, "rate": 0.1}
    train(tmp_path, **settings)

    class Killed(BaseException):
        pass

    def kill(*arguments):
        raise Killed

    lower = {**settings, "rate": 0.01, "max_steps": 12}
    monkeypatch.setattr(training, "global_norm", kill)
    for _ in range(2):
        with pytest.raises(Killed):
            train(tmp_path, resume=True, **lower)
    monkeypatch.undo()
    train(tmp_path, resume=True, **lower)
    assert changes(tmp_path) == [(9, {"training.rate": [0.1, 0.01]})]


@pytest.mark.parametrize(("key", "value"), [("rate", 0.2), ("clip", 0.0), ("decay", 0.001)])
def test_nothing_else_may_change(tmp_path, key, value):
    train(tmp_path, max_steps=3, clip=1.0, decay=0.01)
    with pytest.raises(
        ConfigError, match=rf"another training\.{key}\. Hint: .* only training\.rate and training\.clip"
    ):
        train(tmp_path, resume=True, **{"max_steps": 5, "clip": 1.0, "decay": 0.01, key: value})


@pytest.mark.parametrize("where", ["model", "state"])
def test_a_checkpoint_of_a_diverged_run_is_refused_by_the_name_of_the_tensor(tmp_path, where, capsys):
    settings = {**PLAIN, "max_steps": 3}
    train(tmp_path, **settings)
    found = checkpoint.load(tmp_path)
    arrays = {"model": dict(found.model), "state": dict(found.state)}
    name = "mechanism.query.w" if where == "model" else "m.mechanism.query.w"
    arrays[where][name] = arrays[where][name].copy()
    arrays[where][name].flat[3] = np.inf
    checkpoint.save(tmp_path, 3, **arrays, config=found.config, progress=found.progress,
                    vocabularies=found.vocabularies)  # fmt: skip
    message = rf"{name.replace('.', '[.]')} is not finite\. Hint: "
    with pytest.raises(CheckpointError, match=message):
        train(tmp_path, resume=True, **{**settings, "max_steps": 5})
    if where == "model":
        with pytest.raises(CheckpointError, match=message):
            seq2seq.load(tmp_path)
        assert main(["score", str(tmp_path), "x"]) == 1
        assert "query.w is not finite" in capsys.readouterr().err


@pytest.mark.parametrize("case", ["bahdanau", "luong-dot", "transformer-pre", "wu", "cho", "sutskever"])
def test_a_search_with_a_model_that_gives_nan_says_so(case):
    model = seq2seq.build(CASES[case], 9, 9, seed=0)
    spoil(model.projection.w)
    source, lengths = np.array([[4, 5, 2]]), np.array([3])
    vocabulary = seq2seq.Vocabulary(list("abcde"), "char")
    translator = seq2seq.Translator(model, vocabulary, vocabulary, seq2seq.Config(model=CASES[case]))
    for call in (
        lambda: seq2seq.greedy(model, source, lengths),
        lambda: seq2seq.beam_search(model, source, lengths, size=3),
        lambda: seq2seq.sample(model, source, lengths, seeds=np.array([1])),
        lambda: translator.translate(["ab"]),
        lambda: translator.score(["ab"], ["ba"]),
    ):
        with pytest.raises(ArgumentError, match="model: expected one that gives log-probabilities, got NaN from it"):
            call()


def spoil(parameter):
    value = parameter.value.copy()
    value[0, 5] = np.nan
    parameter.assign(value)


def test_what_is_written_as_json_is_finite(tmp_path):
    """A target without a token: every token of the output is an error too many, of one token."""
    pairs = DATA[0], [("ab", " "), ("b", " ")]
    for metric in ("wer", "per", "bleu", "chrf", "accuracy"):
        settings = {"max_steps": 3, "metric": metric, "schedule": "constant"}
        assert train(tmp_path / metric, pairs=pairs, **settings).steps == 3
        state = json.loads((checkpoint.load(tmp_path / metric).folder / "state.json").read_text())
        assert np.isfinite(state["best"]["value"])
