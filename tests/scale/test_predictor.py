"""A predictor in the hands of an engine: pickled, in any batches, in another process, beside another model."""

import math
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import training_runs

import fastattn
from fastattn import seq2seq
from fastattn.errors import ArgumentError, CheckpointError, ConfigError, DTypeError, ShapeError, UnsupportedError
from fastattn.scale import Predictor, predictor, threads

pytest.importorskip("safetensors", reason="checkpoints need safetensors")

SOURCES = [source for source, _ in training_runs.pairs(60, seed=2)]
TARGETS = [source[::-1] for source in SOURCES]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    config = training_runs.make_config(max_steps=30, checkpoint_every=30, average=0.0)
    seq2seq.train(config, folder, pairs=training_runs.DATA[0], validation=training_runs.DATA[1], quiet=True)
    return folder


@pytest.fixture(autouse=True)
def restored():
    before = fastattn.get_num_threads()
    yield
    fastattn.set_num_threads(before)
    predictor._LOADED.clear()


def batch(first=0, last=None, arrays=False):
    columns = {"row": list(range(60))[first:last], "source": SOURCES[first:last], "target": TARGETS[first:last]}
    return {name: np.array(values) for name, values in columns.items()} if arrays else columns


def test_each_task_adds_what_the_translator_finds(model):
    translator = seq2seq.load(model)
    found = Predictor(model, beam=3, max_length=12)(batch())
    best = [several[0] for several in translator.search(SOURCES, beam=3, max_length=12)]
    assert found["translation"] == [one.text for one in best]
    assert found["log_probability"] == [one.log_probability for one in best]
    assert (found["row"], found["source"]) == (list(range(60)), SOURCES)
    found = Predictor(model, "score")(batch())
    scored = translator.score(SOURCES, TARGETS)
    assert found["log_probability"] == [one.log_probability for one in scored]
    assert found["tokens"] == [len(one.tokens) for one in scored]
    found = Predictor(model, "align", words=False)(batch())
    assert found["links"] == [seq2seq.pharaoh(links) for links in translator.alignments(SOURCES, TARGETS, words=False)]


@pytest.mark.parametrize("task", ["translate", "score", "align"])
def test_rows_have_the_same_bits_in_any_batch(model, task):
    made = pickle.loads(pickle.dumps(Predictor(model, task, threads=2)))
    whole = made(batch(arrays=True))
    assert whole["row"].tolist() == list(range(60))
    for size in (1, 7):
        parts = [made(batch(first, first + size, arrays=True)) for first in range(0, 60, size)]
        for name in made.added:
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), whole[name])
    for name in made.added:
        assert whole[name].dtype in (object, np.float64, np.int64)
        assert list(made(batch())[name]) == whole[name].tolist()
    assert made(batch(0, 0))[made.added[0]] == []


def test_another_process_has_the_same_bits_and_its_own_threads(model):
    made = Predictor(model, beam=2)
    expected = made(batch())
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(made, batch()).result(120) == expected
        assert pool.submit(fastattn.get_num_threads).result(120) == threads.assigned_cpus()
        assert pool.submit(Predictor(model, beam=2, threads=3), batch()).result(120) == expected
        assert pool.submit(fastattn.get_num_threads).result(120) == 3


PROGRAM = """
import pickle, sys
import fastattn
made = pickle.load(open(sys.argv[1], "rb"))
made({"source": ["ab"]})
print(fastattn.get_num_threads())
"""


@pytest.mark.parametrize(("name", "used"), [("OMP_NUM_THREADS", False), ("FASTATTN_NUM_THREADS", True)])
def test_the_threads_of_openmp_are_not_asked(model, tmp_path, name, used):
    """Ray and torchrun set them to 1."""
    (tmp_path / "made").write_bytes(pickle.dumps(Predictor(model)))
    above = str(Path(fastattn.__file__).resolve().parents[1])
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "made")], capture_output=True, text=True, check=True,
        env={**environment, name: "77", "PYTHONPATH": above}, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert (int(done.stdout) == 77) == used


def test_threads_that_were_set_stay(model):
    fastattn.set_num_threads(3)
    Predictor(model)(batch())
    assert fastattn.get_num_threads() == 3


def test_what_engines_assign(monkeypatch):
    for name in ("FASTATTN_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    own = threads.assigned_cpus()
    assert 1 <= own <= os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: 2 * own)
    assert [threads.shared_cpus(n) for n in (1, 2, 2 * own, 9 * own)] == [own, own, 1, 1]
    context = SimpleNamespace(worker=SimpleNamespace(mode=1), get_assigned_resources=lambda: {"CPU": 5.0})
    ray = SimpleNamespace(WORKER_MODE=1, is_initialized=lambda: True, get_runtime_context=lambda: context)
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert (threads.assigned_cpus(), threads.shared_cpus(9 * own)) == (5, 5)
    context.get_assigned_resources = lambda: {"CPU": 0.5}
    assert threads.assigned_cpus() == 1
    context.worker.mode = 0  # the driver
    assert threads.assigned_cpus() == own
    task = SimpleNamespace(TaskContext=SimpleNamespace(get=lambda: SimpleNamespace(cpus=lambda: 7)))
    monkeypatch.setitem(sys.modules, "pyspark", task)
    assert threads.assigned_cpus() == 7
    task.TaskContext.get = lambda: None
    assert threads.assigned_cpus() == own
    monkeypatch.setenv("FASTATTN_NUM_THREADS", "3")
    assert (threads.assigned_cpus(), threads.shared_cpus(2)) == (3, 3)


def test_a_model_is_loaded_once_in_a_process_and_two_are_kept(model, monkeypatch):
    loads = []
    load = seq2seq.load
    monkeypatch.setattr(predictor, "load", lambda *places, **more: loads.append(places) or load(*places, **more))
    made = [pickle.dumps(Predictor(model, beam=beam, ensemble=[model] * (beam - 1))) for beam in (1, 2, 3)]
    loads.clear()
    for _ in range(3):
        pickle.loads(made[0])(batch(0, 3))
    assert len(loads) == 1
    for one in made[1:]:
        pickle.loads(one)(batch(0, 3))
    assert len(loads) == 3 and len(predictor._LOADED) == 2


def test_another_version_level_or_model_is_refused(model, tmp_path, monkeypatch):
    made = Predictor(model, beam=1)
    state = made.__dict__
    monkeypatch.setattr(predictor, "__version__", "9.9")
    with pytest.raises(ConfigError, match=rf"version is 9\.9, and the predictor was made with {fastattn.__version__}"):
        made(batch(0, 1))
    monkeypatch.undo()
    monkeypatch.setitem(state, "level", "mmx")
    with pytest.raises(ConfigError, match=r"level is .*, and the predictor was made with mmx"):
        made(batch(0, 1))
    monkeypatch.setitem(state, "same_level", False)
    assert made(batch(0, 1))["translation"]
    predictor._LOADED.clear()
    monkeypatch.setitem(state, "checksums", ("0" * 64,))
    with pytest.raises(CheckpointError, match=r"finds the model [0-9a-f]{16}, and the predictor was made with 0{16}"):
        made(batch(0, 1))
    monkeypatch.setitem(state, "paths", (str(tmp_path / "nowhere"),))
    with pytest.raises(CheckpointError, match="nowhere"):
        made(batch(0, 1))


def test_a_run_that_goes_on_changes_nothing(model):
    assert Path(Predictor(model).paths[0]).name.startswith("checkpoint-")
    last = Predictor(model, which="last")
    assert last.paths[0].endswith("checkpoint-00000030")
    assert Predictor(last.paths[0]).checksums == last.checksums


def test_rows_that_cannot_be_used(model):
    columns = {"source": ["ab", None, "", 3.5], "target": ["ba", "x", "y", "z"]}
    for task in ("translate", "score", "align"):
        with pytest.raises(DTypeError, match=r"batch\['source'\]\[1\]: expected a str, got NoneType"):
            Predictor(model, task)(columns)
        found = Predictor(model, task, report=True)(columns)
        assert found["problem"] == ["", "source is not a text: NoneType", "", "source is not a text: float"]
        alone = Predictor(model, task)({name: values[:1] for name, values in columns.items()})
        for name in Predictor(model, task).added:
            assert found[name][0] == alone[name][0]
            assert found[name][1] in ("", 0) or math.isnan(found[name][1])


def test_a_pair_too_long_for_the_model_is_reported(tmp_path):
    config = seq2seq.Config(
        model=seq2seq.TransformerConfig(
            width=8, heads=2, inner=8, encoder_layers=1, decoder_layers=1, positions="learned", longest=12
        ),
        vocabulary=seq2seq.VocabularyConfig("char", "char"),
        training=seq2seq.TrainingConfig(epochs=1, max_length=10),
    )
    seq2seq.train(config, tmp_path, pairs=training_runs.DATA[0], quiet=True)
    columns = {"source": ["ab", "a" * 30, "cd"], "target": ["ba", "b", "dc"]}
    with pytest.raises(ArgumentError, match="at most 11 tokens"):
        Predictor(tmp_path, "score")(columns)
    found = Predictor(tmp_path, "score", report=True)(columns)
    assert [bool(problem) for problem in found["problem"]] == [False, True, False]
    assert "at most 11 tokens" in found["problem"][1]
    kept = {name: values[::2] for name, values in columns.items()}
    assert Predictor(tmp_path, "score")(kept)["log_probability"] == found["log_probability"][::2]


def test_wrong_batches(model):
    made = Predictor(model, "score", source="text")
    for wrong, error, text in (
        ([1], DTypeError, "a mapping of columns"),
        ({"source": ["a"], "target": ["b"]}, ArgumentError, "a column 'text', got source, target"),
        ({"text": ["a"], "target": ["b"], "tokens": [1]}, ArgumentError, "no column 'tokens'"),
        ({"text": ["a"], "target": []}, ShapeError, "1 rows, as in 'text', got 0"),
    ):
        with pytest.raises(error, match=text):
            made(wrong)


def test_wrong_predictors(model, tmp_path):
    for wrong, error, text in (
        ({"task": "transalte"}, ArgumentError, "did you mean 'translate'"),
        ({"baem": 3}, ArgumentError, "did you mean 'beam'"),
        ({"task": "score", "beam": 3}, ArgumentError, "no options of 'score'"),
        ({"beam": 0}, ArgumentError, "beam"),
        ({"forbid": ["nothing like it"]}, ArgumentError, "tokens of the target vocabulary"),
        ({"threads": 0}, ArgumentError, "threads"),
        ({"path": tmp_path}, CheckpointError, "has no checkpoint"),
    ):
        with pytest.raises(error, match=text):
            Predictor(**{"path": model, **wrong})
    config = seq2seq.Config(model=seq2seq.ChoConfig(embedding=4, hidden=4), training=seq2seq.TrainingConfig(epochs=1))
    seq2seq.train(config, tmp_path / "cho", pairs=[("a b", "b a")], quiet=True)
    with pytest.raises(UnsupportedError, match="a model with attention"):
        Predictor(tmp_path / "cho", "align")


def test_the_function_for_spark_takes_and_returns_arrays(model):
    predict = pickle.loads(pickle.dumps(Predictor(model, "score"))).make_predict_fn()
    found = predict(np.array(SOURCES, object), np.array(TARGETS, object))
    assert found.tolist() == Predictor(model, "score")(batch())["log_probability"]
    texts = Predictor(model).make_predict_fn()(np.array(SOURCES, object))
    assert texts.dtype == object and len(texts) == 60
