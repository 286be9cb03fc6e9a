"""The finder of learning rates: its rates, its losses, and that nothing else changes."""

import json

import numpy as np
import pytest
from training_runs import DATA, alone, make_config

from fastattn import seq2seq
from fastattn.cli import main
from fastattn.errors import ArgumentError, CheckpointError

PAIRS, VALIDATION = DATA


def test_the_loss_falls_and_rises_again_and_the_suggestion_lies_between():
    curve = seq2seq.find_rate(make_config(accumulate=1), pairs=PAIRS, lowest=1e-5, highest=30.0, steps=120, quiet=True)
    rates, losses = np.array(curve.rates), np.array(curve.losses)
    assert len(rates) == len(losses) <= 120
    np.testing.assert_allclose(rates, 1e-5 * 3e6 ** (np.arange(len(rates)) / 119), rtol=1e-9)
    assert losses.min() < 0.9 * losses[10] and losses[-1] > 1.2 * losses.min()
    assert 1e-4 < curve.suggestion < rates[losses.argmin()]


def test_the_losses_are_running_means_of_a_training_with_these_rates(tmp_path):
    """With rates that are the same but for rounding it is the beginning of an ordinary run."""
    seen = []

    def look(event):
        if event.kind == "log":
            seen.append(event.values["loss"])

    config = make_config(schedule="constant", rate=0.01, average=0.0, log_every=1, max_steps=12)
    seq2seq.train(config, tmp_path, pairs=PAIRS, validation=VALIDATION, quiet=True, callbacks=[look])
    curve = seq2seq.find_rate(config, pairs=PAIRS, lowest=0.01, highest=0.01 + 1e-9, steps=12, quiet=True)
    weights = 0.9 ** np.arange(12)[::-1]
    wanted = [np.average(seen[: n + 1], weights=weights[11 - n :]) for n in range(12)]
    np.testing.assert_allclose(curve.losses, wanted, rtol=1e-5)


def test_a_model_to_begin_with_is_only_read_and_the_command_does_the_same(tmp_path, capsys):
    alone(tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    drawn, begun = (
        seq2seq.find_rate(make_config(), pairs=PAIRS, steps=10, init_from=place, quiet=True)
        for place in (None, tmp_path / "run")
    )
    assert begun.losses[0] < drawn.losses[0]
    (tmp_path / "pairs").write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS))
    config = make_config().to_dict()
    settings = [f"{key} = {json.dumps(value)}" for key, value in config["model"].items() if not isinstance(value, dict)]
    training = ["rate = 0.1", "tokens_per_batch = 120", "max_length = 20", "accumulate = 2", "sampling = 0.3",
                "sampling_warmup = 10", "decay = 0.01", "schedule = 'plateau'"]  # fmt: skip
    text = ["[data]", "train = 'pairs'", "validation = 'pairs'", "[vocabulary]", "source = 'char'", "target = 'char'",
            "[model]", *settings, "[training]", *training]  # fmt: skip
    (tmp_path / "a.toml").write_text("\n".join(text))
    options = ["--init-from", str(tmp_path / "run"), "--steps", "10", "--quiet"]
    assert main(["find-rate", str(tmp_path / "a.toml"), *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["losses"] == list(begun.losses)
    assert main(["find-rate", str(tmp_path / "a.toml"), *options, "-o", str(tmp_path / "a.png")]) == 0
    assert capsys.readouterr().out == f"suggestion: {begun.suggestion:.3g}\n"
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    with pytest.raises(CheckpointError):
        seq2seq.find_rate(make_config(), pairs=PAIRS, init_from=tmp_path / "none")
    with pytest.raises(ArgumentError, match="highest: expected a finite number above"):
        seq2seq.find_rate(make_config(), pairs=PAIRS, lowest=0.1, highest=0.1)
