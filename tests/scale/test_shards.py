"""Training in data parallel: the bits do not depend on the number of processes."""

import re
from collections import Counter

import numpy as np
import pytest
import training_runs
from stand_ins import of_processes

from fastattn import seq2seq
from fastattn.errors import CheckpointError, ConfigError, DTypeError, FastattnError
from fastattn.layers import Parameter
from fastattn.scale import Processes
from fastattn.seq2seq.runs import running, shards
from fastattn.seq2seq.text.batches import Batch

pytest.importorskip("safetensors", reason="checkpoints need safetensors")

SETTINGS = {"shards": 4, "max_steps": 12}


def run(folder, processes=None, config=None, data=training_runs.DATA, **more):
    config = config or training_runs.make_config(**{**SETTINGS, **more.pop("training", {})})
    return seq2seq.train(config, folder, pairs=data[0], validation=data[1], quiet=True, processes=processes, **more)


def trained(folder, count, **more):
    """The result of a run of so many processes."""
    outcomes = of_processes.together(count, lambda processes: run(folder, processes, **more))
    assert len({repr(outcome) for outcome in outcomes}) == 1, outcomes
    assert isinstance(outcomes[0], seq2seq.Outcome), outcomes
    return training_runs.result(folder)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected")
    run(folder / "run")
    return training_runs.result(folder / "run")


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_any_number_of_processes_gives_the_same_bits(tmp_path, expected, count):
    assert trained(tmp_path, count) == expected


def test_the_number_of_processes_may_change_when_a_run_goes_on(tmp_path, expected):
    for count, steps in ((2, 3), (1, 6), (4, 9)):
        trained(tmp_path, count, training={"max_steps": steps}, resume=True)
    assert trained(tmp_path, 3, resume=True) == expected


def test_translations_of_a_validation_are_shared(tmp_path):
    settings = {"metric": "per", "max_steps": 6}
    run(tmp_path / "alone", training=settings)
    assert trained(tmp_path / "shared", 3, training=settings) == training_runs.result(tmp_path / "alone")


def test_one_shard_is_what_it_was(tmp_path, expected):
    """The settings differ from those of no shards, and so do the bits: shards are recorded."""
    run(tmp_path, training={"shards": 1})
    assert training_runs.result(tmp_path)[0] != expected[0]
    with pytest.raises(ConfigError, match=r"another training\.shards"):
        run(tmp_path, resume=True)


def parameters(rng):
    made = {"w": Parameter(np.zeros((3, 5), np.float32)), "v": Parameter(np.zeros(7)), "b": Parameter(np.zeros(0))}
    return made, {name: rng.normal(size=(12, *p.value.shape)).astype(p.value.dtype) for name, p in made.items()}


def tree(arrays):
    """The sum, written down plainly."""
    if len(arrays) == 1:
        return arrays[0]
    middle = len(arrays) // 2
    return tree(arrays[:middle]) + tree(arrays[middle:])


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 12])
def test_the_sum_is_that_of_a_tree(count):
    losses = np.random.default_rng(1).normal(size=12)

    def work(processes):
        made, gradients = parameters(np.random.default_rng(0))
        summed = shards.ShardedGradients(made, 12, processes)

        def compute(shard):
            for name, parameter in made.items():
                parameter.accumulate(gradients[name][shard])
            computed[shard] += 1
            return losses[shard]

        for _ in range(2):  # memory is used again
            for parameter in made.values():
                parameter.gradient = np.zeros(parameter.value.shape)
            loss = summed.add(compute)
        return loss, {name: parameter.gradient.copy() for name, parameter in made.items()}, gradients

    computed = Counter()
    for loss, found, gradients in of_processes.together(count, work):
        assert loss == tree(list(losses))
        for name, gradient in found.items():
            np.testing.assert_array_equal(gradient, tree(list(gradients[name])))
    assert computed == dict.fromkeys(range(12), 2)


def test_every_row_is_in_one_shard_with_the_padding_it_needs():
    lengths = np.array([1, 2, 4, 4, 5])
    ids = np.where(np.arange(6) < lengths[:, None], np.arange(30).reshape(5, 6) + 4, 0).astype(np.int32)
    batch = Batch(ids, lengths, ids[::-1], lengths[::-1], np.arange(5) + 70)
    parts = [shards.part(batch, shard, 3) for shard in range(3)]
    assert sorted(index for one in parts for index in one.indices) == list(batch.indices)
    for one in parts:
        assert one.source.shape[1] == one.source_lengths.max() and one.target.shape[1] == one.target_lengths.max()
        for source, length, index in zip(one.source, one.source_lengths, one.indices):
            np.testing.assert_array_equal(source[:length], ids[index - 70, :length])
    assert len(shards.part(batch, 7, 9)) == 0


def test_processes_that_differ_are_refused(tmp_path):
    """Another seed, other data: said by all, with both values."""

    def work(processes):
        run(tmp_path, processes, training={"seed": 1 + processes.rank // 2})

    found = of_processes.together(3, work)
    for error in found:
        assert isinstance(error, ConfigError), found
        assert re.search(r"process \d of 3: has settings .*, and process \d has ", str(error))

    def other_data(processes):
        run(tmp_path, processes, data=(training_runs.DATA[0][processes.rank :], training_runs.DATA[1]))

    assert "has data" in str(of_processes.together(2, other_data)[0])


def test_another_version_on_one_of_them_is_refused(tmp_path, monkeypatch):
    class Old(of_processes.Threads):
        def exchange(self, value):
            old = self.rank == 1 and isinstance(value, dict) and "fastattn" in value
            return super().exchange({**value, "fastattn": "0.0.1"} if old else value)

    monkeypatch.setattr(of_processes, "Threads", Old)
    found = of_processes.together(2, lambda processes: run(tmp_path, processes))
    assert "process 1 of 2: has fastattn 0.0.1, and process 0 has " in str(found[0])


def test_parameters_that_have_come_apart_are_not_saved(tmp_path, monkeypatch):
    add = shards.ShardedGradients.add

    def spoilt(self, compute):
        loss = add(self, compute)
        self._gradients[0].reshape(-1)[0] += self._processes.rank
        return loss

    monkeypatch.setattr(shards.ShardedGradients, "add", spoilt)
    found = of_processes.together(2, lambda processes: run(tmp_path, processes))
    assert ["has the parameters" in str(error) for error in found] == [True, True]
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_checkpoint_that_cannot_be_written_is_said_by_all(tmp_path, monkeypatch):
    def full(run, best):
        raise CheckpointError("disk: cannot be saved: no space left. Hint: free some.")

    monkeypatch.setattr(running, "_save", full)
    found = of_processes.together(3, lambda processes: run(tmp_path, processes))
    assert [type(error) for error in found] == [CheckpointError] * 3
    assert len({str(error) for error in found}) == 1


def test_a_folder_in_use_is_said_by_all(tmp_path):
    with running._alone(tmp_path):
        found = of_processes.together(2, lambda processes: run(tmp_path, processes))
    assert ["another process is training" in str(error) for error in found] == [True, True]


def test_a_run_that_diverges_ends_in_all(tmp_path):
    found = of_processes.together(2, lambda processes: run(tmp_path, processes, training={"rate": 1e30, "clip": 0.0}))
    assert all(isinstance(error, FastattnError) and "diverged" in str(error) for error in found), found


def test_a_callback_is_called_in_the_first_process_and_ends_all(tmp_path):
    called = Counter()

    def work(processes):
        def ends(event):
            called[processes.rank] += 1
            return event.step == 5

        return run(tmp_path, processes, callbacks=[ends])

    found = of_processes.together(3, work)
    assert {(outcome.steps, outcome.reason) for outcome in found} == {(5, "callback")}
    assert set(called) == {0}


def test_more_processes_than_shards_are_refused(tmp_path):
    found = of_processes.together(2, lambda processes: run(tmp_path, processes, training={"shards": 1}))
    assert ["training.shards: 1 for 2 processes" in str(error) for error in found] == [True, True]
    assert not tmp_path.joinpath("log.jsonl").exists()


def test_other_processes_are_refused():
    with pytest.raises(DTypeError, match="processes"):
        seq2seq.train(training_runs.make_config(), "x", pairs=training_runs.DATA[0], processes=2)
    assert Processes().exchange({"a": 1}) == [{"a": 1}]
