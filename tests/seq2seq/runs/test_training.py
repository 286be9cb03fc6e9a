"""Training runs: the same bits after any interruption, early stop, best and last checkpoint, log."""

import json
import os
import random
import signal
import time

import numpy as np
import pytest
import training_runs
from training_runs import DATA, alone, make_config, result

from fastattn import seq2seq
from fastattn.errors import ArgumentError, CheckpointError, ConfigError, FastattnError
from fastattn.seq2seq import checkpoint
from fastattn.seq2seq.runs import training
from fastattn.seq2seq.runs.runlog import RunLog, read_log


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What a run that is left alone ends with."""
    return alone(tmp_path_factory.mktemp("alone"))


def train(folder, resume=False, pairs=DATA, **settings):
    first, held_out = pairs
    return seq2seq.train(make_config(**settings), folder, pairs=first, validation=held_out, resume=resume, quiet=True)


def test_a_repeated_run_has_the_same_bits(tmp_path, expected):
    assert alone(tmp_path) == expected


def test_the_schedule_acts_before_a_run_is_resumed(expected):
    rates = [line["rate"] for line in expected[2] if "rate" in line]
    assert rates[0] == 0.1 and rates[4] == 0.05  # at step 20, from which some tests go on


def test_killed_and_resumed_runs_have_the_same_bits(tmp_path, expected):
    found, kills = training_runs.killed(tmp_path, random.Random(7), longest=0.12, kills=3)
    assert found == expected
    assert kills == 3


def test_runs_killed_between_the_writes_of_a_checkpoint_have_the_same_bits(tmp_path, expected, monkeypatch):
    """In one process, for speed: an exception stands for the kill."""
    from fastattn.seq2seq.runs import durable

    class Killed(BaseException):
        pass

    write_text, rng, kills = durable.write_text, random.Random(3), []

    def write(path, text):
        if rng.random() < 0.4:
            kills.append(path.name)
            raise Killed
        write_text(path, text)

    monkeypatch.setattr(durable, "write_text", write)
    while True:
        try:
            train(tmp_path, resume=True)
        except Killed:
            continue
        break
    assert {"latest", "best"} <= set(kills)
    assert result(tmp_path) == expected


def test_another_seed_gives_other_bits(tmp_path, expected):
    assert alone(tmp_path, seed=2) != expected


def test_ctrl_c_saves_and_resumes(tmp_path, expected):
    process = training_runs.start(tmp_path, log_every=1)
    while not (tmp_path / "log.jsonl").exists() or len((tmp_path / "log.jsonl").read_bytes().splitlines()) < 4:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert "Stopped: stopped after step" in err and not out
    position = checkpoint.load(tmp_path).progress["position"]
    assert 0 < position["step"] < training_runs.STEPS
    assert f"step {position['step']}," in err
    train(tmp_path, resume=True)
    found = result(tmp_path)
    assert found[:2] == expected[:2]


def test_sigterm_during_validation_is_measured_again(tmp_path, expected, monkeypatch):
    mean_loss, calls = training.mean_loss, []

    def interrupted(*arguments):
        calls.append(None)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGTERM)
        return mean_loss(*arguments)

    monkeypatch.setattr(training, "mean_loss", interrupted)
    with pytest.raises(seq2seq.Stopped) as caught:
        train(tmp_path)
    assert caught.value.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    train(tmp_path, resume=True)
    assert result(tmp_path) == expected


def test_a_validation_that_decodes_stops_between_batches(tmp_path, monkeypatch):
    pairs = DATA[0], training_runs.pairs(600, seed=1)
    settings = {"max_steps": 5, "metric": "accuracy"}
    train(tmp_path / "alone", pairs=pairs, **settings)
    translate, decoded = seq2seq.Translator.translate, []

    def interrupted(self, texts, **options):
        decoded.append(len(texts))
        if len(decoded) == 2:
            signal.raise_signal(signal.SIGINT)
        return translate(self, texts, **options)

    monkeypatch.setattr(seq2seq.Translator, "translate", interrupted)
    with pytest.raises(seq2seq.Stopped):
        train(tmp_path / "stopped", pairs=pairs, **settings)
    assert len(decoded) == 2 and sum(decoded) < 600
    position = checkpoint.load(tmp_path / "stopped").progress["position"]
    assert (position["step"], position["validated"]) == (3, -1)
    train(tmp_path / "stopped", resume=True, pairs=pairs, **settings)
    assert sum(decoded[2:]) == 1200  # steps 3 and 5
    assert result(tmp_path / "stopped") == result(tmp_path / "alone")


def test_a_damaged_checkpoint_is_passed_over(tmp_path, expected, capsys):
    train(tmp_path, max_steps=20)
    newest = sorted(tmp_path.glob("checkpoint-*"))[-1] / "model.safetensors"
    data = bytearray(newest.read_bytes())
    data[-3] ^= 16
    newest.write_bytes(data)
    train(tmp_path, resume=True)
    assert "model.safetensors" in capsys.readouterr().err
    assert result(tmp_path) == expected


def test_a_finished_run_stays_as_it_is(tmp_path, expected):
    alone(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint-*/*")}
    outcome = train(tmp_path, resume=True)
    assert outcome.reason == "max_steps"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint-*/*")} == before
    assert result(tmp_path) == expected


def test_more_steps_continue_a_finished_run(tmp_path, expected):
    train(tmp_path, max_steps=21)
    train(tmp_path, resume=True)
    manifest, best, _ = result(tmp_path)
    assert (manifest, best) == expected[:2]


def test_it_learns(tmp_path):
    words = training_runs.pairs(600)
    outcome = train(tmp_path, pairs=(words, words[:50]), max_steps=250, sampling=0.0, accumulate=1, rate=0.02,
                    validate_every=50)  # fmt: skip
    losses = [line["validation_loss"] for line in read_log(tmp_path / "log.jsonl") if "validation_loss" in line]
    assert outcome.best < 0.5 * losses[0]
    assert outcome.best == min(losses)
    translator = seq2seq.load(tmp_path)
    sources = [source for source, _ in words[:50]]
    assert np.mean([a == b for a, b in zip(translator.translate(sources), [t for _, t in words[:50]])]) > 0.5


def test_patience_ends_a_run_and_the_best_is_kept(tmp_path):
    # A rate so high that validation soon gets worse.
    outcome = train(tmp_path, rate=0.3, patience=2, max_steps=200, schedule="constant", validate_every=3)
    lines = [line for line in read_log(tmp_path / "log.jsonl") if "validation_loss" in line]
    assert outcome.reason == "patience"
    assert outcome.steps == outcome.best_step + 6 < 200
    assert [line["best"] for line in lines[-3:]] == [True, False, False]
    assert checkpoint.load(tmp_path, "best").step == outcome.best_step
    assert checkpoint.load(tmp_path, "last").step == outcome.steps


def test_the_log(tmp_path, expected):
    lines = [json.loads(line) for line in json.dumps(expected[2])[1:-1].replace("}, {", "}\n{").splitlines()]
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == list(range(4, training_runs.STEPS + 1, 4))
    for line in lines:
        assert {"step", "epoch"} < line.keys()
    assert [line["step"] for line in lines if "best" in line] == [*range(3, 40, 3), 40]


def test_the_log_of_a_killed_run_has_no_gap(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    log = RunLog(path, 2)
    log.write(step=3, loss=1.5)
    log.close()
    assert read_log(path) == [{"step": 1}, {"step": 2}, {"step": 3, "loss": 1.5}]


def test_accumulated_batches_are_one_large_batch(tmp_path):
    """Gradients of two half batches, summed, against those of the whole: equal up to rounding."""
    words = [("abc"[i % 3] * 4, "cab"[i % 3] * 4) for i in range(16)]
    settings = {"sampling": 0.0, "max_steps": 1, "schedule": "constant", "validate_every": 0, "clip": 0.0}
    settings["average"] = 0.0  # or single values were compared, which a step moves by the sign of the least gradient
    small = {**settings, "tokens_per_batch": 40, "max_length": 5, "accumulate": 2}
    found = []
    for name, chosen in (("halves", small), ("whole", {**settings, "tokens_per_batch": 80, "accumulate": 1})):
        train(tmp_path / name, pairs=(words, []), **{**chosen, "patience": 0, "schedule": "constant"})
        found.append(checkpoint.load(tmp_path / name).state)
    assert int(found[0]["steps"]) == 1
    for name, array in found[0].items():
        np.testing.assert_allclose(array, found[1][name], rtol=1e-4, atol=1e-7, err_msg=name)


def test_a_diverging_run_says_so_and_keeps_its_checkpoint(tmp_path, monkeypatch):
    norm, calls = training.global_norm, []

    def broken(parameters):
        calls.append(None)
        return norm(parameters) if len(calls) < 10 else float("nan")

    monkeypatch.setattr(training, "global_norm", broken)
    with pytest.raises(FastattnError, match=r"step 10: the loss is .* Hint: lower training.rate"):
        train(tmp_path)
    assert checkpoint.load(tmp_path).step == 9


def test_a_folder_with_a_run_is_refused(tmp_path):
    train(tmp_path, max_steps=3)
    with pytest.raises(ConfigError, match="a run in this folder already"):
        train(tmp_path)


def test_another_configuration_is_refused(tmp_path):
    train(tmp_path, max_steps=3)
    with pytest.raises(ConfigError, match=r"another training\.rate, training\.seed"):
        train(tmp_path, resume=True, rate=0.2, seed=5)


def test_other_data_are_refused(tmp_path):
    train(tmp_path, max_steps=3)
    with pytest.raises(ConfigError, match="the data are not those"):
        train(tmp_path, resume=True, pairs=(DATA[0][1:], DATA[1]))


def test_no_data_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="at least one pair to train on"):
        train(tmp_path, pairs=([], []))


def test_a_configuration_without_files_is_enough_where_pairs_are_given(tmp_path):
    model = seq2seq.BahdanauConfig(embedding=4, hidden=4, attention=4, readout_width=2)
    config = seq2seq.Config(model=model, training=seq2seq.TrainingConfig(max_steps=2, patience=1))
    (tmp_path / "c.toml").write_text("[training]\nepochs = 1\n")
    for given, place in ((config, "data.train"), (tmp_path / "c.toml", f"{tmp_path}/c.toml: data.train")):
        with pytest.raises(ConfigError) as caught:
            seq2seq.train(given, tmp_path / "none", quiet=True)
        assert str(caught.value).startswith(f"{place}: missing. Hint: name a file")
    assert not (tmp_path / "none").exists()
    pairs = training_runs.pairs(20), training_runs.pairs(5)
    assert seq2seq.train(config, tmp_path / "run", pairs=pairs[0], validation=pairs[1], quiet=True).steps == 2
    assert seq2seq.load(tmp_path / "run").config == config
    with pytest.raises(ConfigError, match=r"training\.patience: 1 needs validation data"):
        seq2seq.train(config, tmp_path / "other", pairs=pairs[0], quiet=True)


def test_two_processes_do_not_share_a_folder(tmp_path):
    process = training_runs.start(tmp_path, max_steps=100000)
    try:
        while not (tmp_path / "lock").exists() or not (tmp_path / "log.jsonl").exists():
            time.sleep(0.005)
        with pytest.raises(CheckpointError, match="another process is training"):
            train(tmp_path, resume=True)
    finally:
        process.kill()
        process.communicate()


def test_a_full_disk_leaves_the_earlier_checkpoints(tmp_path, monkeypatch):
    write, room = os.write, [200_000]

    def limited(descriptor, data):
        room[0] -= len(data)
        if room[0] < 0:
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", limited)
    with pytest.raises(CheckpointError, match=r"no space left on device\. Hint: free"):
        train(tmp_path)
    monkeypatch.undo()
    assert checkpoint.load(tmp_path).step > 0
    train(tmp_path, resume=True)


def test_loading_the_best_of_a_run_without_validation_is_no_warning(tmp_path, capsys):
    words = training_runs.pairs(20)
    settings = {"max_steps": 3, "schedule": "constant", "validate_every": 0}
    train(tmp_path, pairs=(words, []), **settings)
    assert len(seq2seq.load(tmp_path).translate(["abc", "h"])) == 2
    assert capsys.readouterr().err == ""


def test_the_documentation_names_every_key():
    import dataclasses
    import re
    from pathlib import Path

    from fastattn.seq2seq.models.registry import records

    text = (Path(__file__).resolve().parents[3] / "docs" / "training.md").read_text()
    named = set(re.findall(r"`([a-z_]+)`", text))
    sections = [seq2seq.DataConfig, seq2seq.VocabularyConfig, seq2seq.TrainingConfig, seq2seq.InferenceConfig]
    for settings in [*sections, *(record.section() for record in records().values())]:
        assert {field.name for field in dataclasses.fields(settings)} <= named, settings
    assert set(records()) <= named


def test_dropout_is_a_function_of_the_sample(tmp_path, monkeypatch):
    """The seeds of one epoch: one for each sample, others than those of the next epoch, whatever the batches."""
    seeds = {}
    for tokens in (80, 200):
        seen = seeds[tokens] = []
        loss_vjp = seq2seq.Bahdanau.loss_vjp

        def watched(self, batch, *, seeds, sampling, loss_vjp=loss_vjp, seen=seen):
            seen.extend(zip(batch.indices.tolist(), seeds.tolist()))
            return loss_vjp(self, batch, seeds=seeds, sampling=sampling)

        monkeypatch.setattr(seq2seq.Bahdanau, "loss_vjp", watched)
        train(tmp_path / str(tokens), epochs=2, max_steps=0, tokens_per_batch=tokens)
        monkeypatch.undo()
    count = len(DATA[0])
    first, second = dict(seeds[80][:count]), dict(seeds[80][count:])
    assert len(set(first.values()) | set(second.values())) == 2 * count
    assert (first, second) == (dict(seeds[200][:count]), dict(seeds[200][count:]))
