"""Averages of checkpoints: sums in float64, of one architecture and one pair of vocabularies."""

import numpy as np
import pytest
from checks import same_bits
from training_runs import DATA, make_config

from fastattn import seq2seq
from fastattn.cli import main
from fastattn.errors import CheckpointError
from fastattn.seq2seq import checkpoint


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that keeps four checkpoints, and the same one with another width."""
    folder = tmp_path_factory.mktemp("runs")
    train(folder / "run")
    return folder / "run"


def train(folder, pairs=DATA[0], **settings):
    config = make_config(max_steps=8, checkpoint_every=2, keep=9, average=0.0, validate_every=0, **settings)
    seq2seq.train(config, folder, pairs=pairs, validation=DATA[1], quiet=True)


def parts(run):
    return [checkpoint.load(run / f"checkpoint-{step:08d}") for step in checkpoint.steps(run)]


def test_the_mean_is_that_in_float64_and_is_loaded_as_any_model(run, tmp_path):
    every = parts(run)
    assert len(every) >= 4
    found = checkpoint.average([run], tmp_path / "mean", last=3)
    for name, array in found.model.items():
        total = np.zeros(array.shape)
        for one in every[-3:]:
            total = total + one.model[name].astype(np.float64)
        assert same_bits(array, (total / 3).astype(np.float32))
    assert found.step == every[-1].step and found.progress["averaged"] == [str(one.folder) for one in every[-3:]]
    assert len(seq2seq.load(tmp_path / "mean").translate(["abc"])) == 1
    backwards = [one.folder for one in reversed(every[-3:])]
    again = checkpoint.average(backwards, tmp_path / "again")
    assert all(same_bits(again.model[name], array) for name, array in found.model.items())
    one = checkpoint.average([every[0].folder] * 3, tmp_path / "one")
    assert all(same_bits(one.model[name], array) for name, array in every[0].model.items())


def test_the_command_writes_the_same(run, tmp_path, capsys):
    checkpoint.average([run], tmp_path / "python", last=2)
    assert main(["average", str(run), "--last", "2", "-o", str(tmp_path / "command")]) == 0
    out = capsys.readouterr().out
    assert out.count("averaged: ") == 2 and out.endswith(f"model: {tmp_path / 'command'}\n")
    one, other = (next((tmp_path / name).glob("*/model.safetensors")).read_bytes() for name in ("python", "command"))
    assert one == other


def test_others_are_refused_by_what_differs(run, tmp_path, monkeypatch):
    train(tmp_path / "dropout", pairs=DATA[0][:200] + [("z", "z")])
    with pytest.raises(CheckpointError, match="has another source vocabulary than"):
        checkpoint.average([run, tmp_path / "dropout"], tmp_path / "mean")
    last = parts(run)[-1]
    wide = {**last.config, "model": {**last.config["model"], "dropout": 0.5}}
    checkpoint.save(tmp_path / "other", 9, model=last.model, state={}, config=wide, progress={},
                    vocabularies=last.vocabularies)  # fmt: skip
    with pytest.raises(CheckpointError, match=r"has model\.dropout 0\.2, and .* has 0\.5"):
        checkpoint.average([run, tmp_path / "other"], tmp_path / "mean")
    with pytest.raises(CheckpointError, match="there is a checkpoint in it"):
        checkpoint.average([run], run)
    with pytest.raises(CheckpointError, match="no such folder"):
        checkpoint.average([tmp_path / "none"], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
