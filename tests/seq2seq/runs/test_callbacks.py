"""Callbacks: what they are told, and that a run keeps its bits, whether they look, end it, or raise."""

import json
import struct
from pathlib import Path

import pytest
from training_runs import DATA, STEPS, alone, make_config, result

from fastattn import seq2seq
from fastattn.errors import DTypeError
from fastattn.seq2seq.runs.runlog import read_log


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What a run without callbacks ends with."""
    return alone(tmp_path_factory.mktemp("alone"))


def train(folder, *callbacks, resume=False, **settings):
    first, held_out = DATA
    config = make_config(**settings)
    return seq2seq.train(
        config, folder, pairs=first, validation=held_out, resume=resume, quiet=True, callbacks=callbacks
    )


def lines(log):
    """Lines of the log as events have them."""
    for line in log:
        values = {k: v for k, v in line.items() if k not in ("step", "epoch", "tokens_per_second", "final")}
        yield "validation" if "best" in line else "log", line["step"], line["epoch"], values


def test_callbacks_are_told_what_happens_and_change_nothing(tmp_path, expected):
    events = []

    def look(event):
        model = event.model.parameters()
        events.append((event.kind, event.step, event.epoch, dict(event.values)))
        assert event.folder == tmp_path and model and event.values.pop("rate", 0) is not None
        if event.kind == "validation":  # a look at the model leaves no trace
            event.model.loss(next(seq2seq.Batches([[4, 2]], [[4, 2]], tokens_per_batch=9, seed=0).epoch(0)))

    train(tmp_path, look)
    assert result(tmp_path) == expected
    kinds = [event[0] for event in events]
    assert kinds[0] == "begin" and kinds[-1] == "end" and events[-1][3] == {"reason": "max_steps"}
    assert [event[1] for event in events if event[0] == "step"] == list(range(1, STEPS + 1))
    assert kinds.count("checkpoint") > 5 and any(event[3].get("best") for event in events if event[0] == "checkpoint")
    told = [(kind, step, epoch, {k: v for k, v in values.items() if k != "tokens_per_second"})
            for kind, step, epoch, values in events if kind in ("log", "validation")]  # fmt: skip
    assert told == list(lines(read_log(tmp_path / "log.jsonl")))


@pytest.mark.parametrize(
    ("kind", "step"), [("begin", 0), ("step", 7), ("log", 8), ("validation", 9), ("checkpoint", 12)]
)
def test_a_callback_ends_a_run_which_resumed_has_the_bits_of_one_that_never_ended(tmp_path, expected, kind, step):
    outcome = train(tmp_path, lambda event: event.kind == kind and event.step >= step)
    assert (outcome.steps, outcome.reason) == (step, "callback")
    assert (train(tmp_path, resume=True).reason, result(tmp_path)) == ("max_steps", expected)


def test_what_a_callback_raises_ends_the_run_which_can_be_resumed(tmp_path, expected):
    ends = []

    def fall(event):
        if event.step == 13:
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        train(tmp_path, fall, lambda event: ends.append(event.values["reason"]) if event.kind == "end" else None)
    train(tmp_path, resume=True)
    assert result(tmp_path) == expected


def test_callbacks_are_functions(tmp_path):
    with pytest.raises(DTypeError, match="callbacks: expected functions, got str"):
        train(tmp_path, "TensorBoard")


def scalars(folder):
    """Step, name and value of each scalar in files of events; what a later beginning hides is left out."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in sorted(Path(folder).iterdir(), key=lambda path: path.stat().st_mtime_ns):
        data, at = path.read_bytes(), 0
        while at < len(data):
            [size] = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + size])
            at += size + 16
            if event.session_log.status == 1:
                found = {key: value for key, value in found.items() if key[0] < event.step}
            for value in event.summary.value:
                assert (event.step, value.tag) not in found, "not hidden, and there twice"
                found[event.step, value.tag] = value.simple_value
    return found


def test_steps_that_a_resumed_run_repeats_hide_those_before(tmp_path):
    board, settings = seq2seq.TensorBoard(tmp_path / "board"), {"checkpoint_every": 8, "validate_every": 40}

    def fall(event):
        if event.step == 15:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        train(tmp_path / "run", board, fall, **settings)
    assert (12, "loss") in scalars(tmp_path / "board")
    train(tmp_path / "run", board, resume=True, **settings)
    assert {step for step, name in scalars(tmp_path / "board") if name == "loss"} == set(range(4, STEPS + 1, 4))


def test_tensorboard_has_the_figures_of_the_log_also_of_a_resumed_run(tmp_path):
    board = seq2seq.TensorBoard(tmp_path / "board")
    train(tmp_path / "run", board, lambda event: event.step == 13)
    train(tmp_path / "run", resume=True, tensorboard=True)
    for folder, last in ((tmp_path / "board", 13), (tmp_path / "run" / "tensorboard", STEPS)):
        found = scalars(folder)
        assert found and max(step for step, _ in found) == last
    train(tmp_path / "run", board, resume=True, max_steps=STEPS + 8)
    wanted = {
        (step, name): value
        for _, step, _, values in lines(read_log(tmp_path / "run" / "log.jsonl"))
        for name, value in values.items()
        if step > STEPS and name != "best"
    }
    found = {key: value for key, value in scalars(tmp_path / "board").items() if key[1] != "tokens_per_second"}
    assert json.dumps(sorted(k for k in found if k[0] > STEPS)) == json.dumps(sorted(wanted))
    assert all(found[key] == pytest.approx(value, rel=1e-6) for key, value in wanted.items())
