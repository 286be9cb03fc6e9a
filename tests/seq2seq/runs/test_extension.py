"""A run that is extended ends with the bits of one that was as long from the beginning: an end leaves no trace."""

import pytest
from training_runs import DATA, make_config, result

from fastattn import seq2seq
from fastattn.seq2seq import checkpoint
from fastattn.seq2seq.runs.runlog import read_log

# Ends that are no turn of validate_every, for each thing that a run carries along.
EXTENSIONS = {
    **{f"plateau, end {end}": ({"max_steps": end}, {"max_steps": 31}) for end in (10, 13, 16, 17, 19, 20)},
    "plateau, averages": ({"max_steps": 5, "average": 0.5}, {"max_steps": 13}),
    "plateau, by epochs": ({"max_steps": 0, "epochs": 1, "validate_every": 4, "average": 0.0}, {"epochs": 3}),
    "early stop": ({"max_steps": 7, "patience": 2, "rate": 0.3, "schedule": "constant"}, {"max_steps": 200}),
    "after an early stop": ({"patience": 1, "rate": 0.3, "schedule": "constant"}, {"patience": 3}),
    "warmup": ({"max_steps": 4, "schedule": "inverse_sqrt", "warmup": 6}, {"max_steps": 16}),
    "cosine": ({"max_steps": 4, "schedule": "cosine", "warmup": 3, "schedule_steps": 11}, {"max_steps": 16}),
    "one cycle": ({"max_steps": 4, "schedule": "one_cycle", "schedule_steps": 11}, {"max_steps": 16}),
    "sampling": ({"max_steps": 7, "sampling": 0.9, "sampling_warmup": 12}, {"max_steps": 17}),
    "accumulation": ({"max_steps": 8, "accumulate": 5}, {"max_steps": 16}),
    "a metric": ({"max_steps": 7, "metric": "per"}, {"max_steps": 13}),
    "twice": ({"max_steps": 4}, {"max_steps": 5}, {"max_steps": 16}),
}


def train(folder, resume=False, **settings):
    first, held_out = DATA
    return seq2seq.train(make_config(**settings), folder, pairs=first, validation=held_out, resume=resume, quiet=True)


@pytest.mark.parametrize("parts", EXTENSIONS.values(), ids=EXTENSIONS)
def test_an_extended_run_has_the_bits_of_one_that_was_as_long_from_the_beginning(tmp_path, parts):
    settings = {}
    for number, part in enumerate(parts):
        settings |= part
        train(tmp_path / "extended", resume=number > 0, **settings)
    outcome = train(tmp_path / "whole", **settings)
    assert result(tmp_path / "extended") == result(tmp_path / "whole")
    assert outcome.steps > 0


def test_the_best_checkpoint_at_an_end_is_the_best_until_the_run_goes_on(tmp_path):
    """A rate so small that each validation is better; the last one, at step 20, is no turn of its three steps."""
    settings = {"rate": 1e-4, "schedule": "constant", "keep": 1, "max_steps": 20}
    outcome = train(tmp_path, **settings)
    assert outcome.best_step == 20 and (tmp_path / "best").read_text() == "checkpoint-00000020\n"
    lines = [line for line in read_log(tmp_path / "log.jsonl") if "best" in line]
    assert [line.get("final", False) for line in lines] == [False] * 6 + [True]
    assert checkpoint.steps(tmp_path) == [18, 20]  # what an extended run takes for its best one is there
    assert train(tmp_path, resume=True, **settings) == outcome
    with_one_more = {**settings, "max_steps": 21, "patience": 1}
    assert train(tmp_path, resume=True, **with_one_more).best_step == 21
    assert not [line for line in read_log(tmp_path / "log.jsonl") if "final" in line]


def test_a_first_validation_at_the_end_is_forgotten(tmp_path):
    settings = {"max_steps": 2, "validate_every": 3}
    assert train(tmp_path, **settings).best_step == 2
    assert (tmp_path / "best").exists()
    outcome = train(tmp_path, resume=True, **{**settings, "max_steps": 4})
    assert outcome.best_step in (3, 4)
    assert seq2seq.load(tmp_path).translate(["abc"])
