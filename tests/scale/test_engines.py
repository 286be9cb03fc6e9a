"""Ray, Spark and Dask on this machine: the bytes of one process, also where workers are killed."""

import contextlib
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

import launched_runs
import pytest
import training_runs
from stand_ins import of_ray

import fastattn
from fastattn import seq2seq
from fastattn.errors import ConfigError, FastattnError, TextError
from fastattn.scale import Predictor, engines, translate_files
from fastattn.scale.bulk import Plan, Work

pytest.importorskip("safetensors", reason="checkpoints need safetensors")

TEXTS = [source for source, _ in training_runs.pairs(300, seed=5)]
pytestmark = pytest.mark.filterwarnings("ignore")  # of what engines import
os.environ["RAY_worker_niceness"] = "0"  # or workers starve where the machine has other work


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Workers begin in the folder of the job, and would import sources of a checkout that nobody compiled."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    config = training_runs.make_config(max_steps=30, checkpoint_every=30, average=0.0)
    seq2seq.train(config, folder, pairs=training_runs.DATA[0], validation=training_runs.DATA[1], quiet=True)
    return folder


@pytest.fixture(scope="module")
def expected(model):
    return seq2seq.load(model).translate(TEXTS, beam=2)


@pytest.fixture
def path(tmp_path):
    place = tmp_path / "texts"
    place.write_text("".join(f"{text}\n" for text in TEXTS))
    return place


def actors():
    """Processes of our Ray that translate."""
    return [number for number, words in launched_runs.titles_below(os.getpid())
            if words[0].startswith(b"ray::") and b"_Working" in words[0]]  # fmt: skip


def refused_by_a_worker(model, path):
    """What a worker raises is raised where the job was begun."""
    predictor, plan = Predictor(model, beam=2, report=True), Plan((str(path),), "source", 100, {})
    predictor.version = "0.0.1"  # as of a worker with another one
    with pytest.raises(ConfigError, match=r"version is .*, and the predictor was made with 0\.0\.1"):
        list(engines.ray(Work(predictor), plan, workers=1, threads=1, address="", timeout=None))


def test_errors_of_workers_and_inputs_are_those_of_the_job(tmp_path, model, path):
    (tmp_path / "wide.txt").write_bytes("wide".encode("utf-16"))
    with of_ray.ray():
        refused_by_a_worker(model, path)
        with pytest.raises(TextError, match="UTF-16"):
            translate_files(model, [tmp_path / "wide.txt"], tmp_path / "out", engine="ray", quiet=True)


def test_what_ray_is_asked_for(tmp_path, model, path, expected):
    """With as much of Ray as a stand-in has: it is started with the CPUs of the workers, and stopped."""
    with of_ray.ray() as made:
        init = made.init
        asked = []
        made.init = lambda **how: (asked.append(how), init(**how))
        more = {"workers": 3, "threads": 2, "beam": 2, "block": 70, "quiet": True}
        translate_files(model, [path], tmp_path / "out", engine="ray", **more)
        assert asked[0]["num_cpus"] == 6 and not made.is_initialized()
        translate_files(model, [path], tmp_path / "there", engine="ray", **more, address="auto")
        assert asked[1]["address"] == "auto" and "num_cpus" not in asked[1]
        assert len(made.actors) == 6 and all(actor.killed for actor in made.actors)
        with pytest.raises(ConfigError, match="5 workers of 2 threads want 10 CPUs, and the cluster has 9"):
            translate_files(model, [path], tmp_path / "more", engine="ray", **{**more, "workers": 5}, address="auto")
    for folder in ("out", "there"):
        assert (tmp_path / folder / "texts.txt").read_text().splitlines() == expected


def test_actors_that_hang_or_die_are_replaced_and_slow_ones_waited_for(tmp_path, model, path, expected):
    with of_ray.ray(fates=["hangs", "dies", "slow", "slow"]) as made:
        more = {"workers": 2, "beam": 2, "block": 30, "quiet": True, "timeout": 20 * of_ray.SLOW}
        translate_files(model, [path], tmp_path / "out", engine="ray", **more)
        assert [actor.fate for actor in made.actors] == ["hangs", "dies", "slow", "slow"]
    assert (tmp_path / "out" / "texts.txt").read_text().splitlines() == expected


def test_many_kills_end_no_job_that_goes_on(tmp_path, model, path, expected):
    """More kills than any block or row of losses may have, each of a worker that has done a block."""
    kills = iter(range(1, 9))
    seen = {"blocks": 0, "kill": next(kills)}

    def deadly(block):
        seen["blocks"] += 1
        if seen["blocks"] != 2 * seen["kill"]:
            return False
        seen["kill"] = next(kills, 10**9)
        return True

    with of_ray.ray(deadly=deadly) as made:
        more = {"workers": 1, "beam": 2, "block": 20, "quiet": True}
        translate_files(model, [path], tmp_path / "out", engine="ray", **more)
        assert len(made.actors) == 9
    assert (tmp_path / "out" / "texts.txt").read_text().splitlines() == expected


@pytest.mark.parametrize(("fate", "reason"), [("dies", "The actor died unexpec"), ("hangs", "no result in 0.1 sec")])
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_lost_one_after_the_other_end_the_job(tmp_path, model, path, fate, reason, workers):
    with of_ray.ray(fates=[fate] * 20) as made:
        more = {"workers": workers, "beam": 2, "block": 30, "quiet": True, "timeout": 0.1}
        many = 4 * workers
        said = f"{many} workers were lost one after the other, the last one: {reason}"
        with pytest.raises(FastattnError, match=said):
            translate_files(model, [path], tmp_path / "out", engine="ray", **more)
        assert len(made.actors) == many + workers - 1 and not made.is_initialized()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_block_that_costs_worker_after_worker_ends_the_job_when_all_others_are_done(model, path, workers):
    plan, done = Plan((str(path),), "source", 30, {}), []
    work = Work(Predictor(model, beam=2, report=True))
    with of_ray.ray(deadly=lambda block: block.first == 60) as made:
        with pytest.raises(FastattnError, match="rows 61 to 90 have cost 4 workers, the last one: The actor died"):
            for result in engines.ray(work, plan, workers=workers, threads=1, address="", timeout=None):
                done.append(result)
        assert len(made.actors) == workers + 3
    assert len(done) == len(TEXTS) // 30 - 1


@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are not in /proc here")
def test_ray_gives_the_same_bytes_though_actors_are_slow_hang_and_are_killed(tmp_path, model, path, expected):
    pytest.importorskip("ray", reason="Ray is not installed")
    befallen, ended = {}, threading.Event()
    fates = [(signal.SIGSTOP, signal.SIGCONT), (signal.SIGSTOP,), (signal.SIGKILL,)]

    def befall():
        while not ended.is_set() and len(befallen) < len(fates):
            for process in [process for process in actors() if process not in befallen][:1]:
                with contextlib.suppress(ProcessLookupError):
                    for number in fates[len(befallen)]:
                        os.kill(process, number)
                        time.sleep(0.5)
                    befallen[process] = None
            time.sleep(0.1)

    # As much to do as takes longer than what befalls them, on a fast machine too.
    long, times = tmp_path / "long", 8
    long.write_text(path.read_text() * times)
    thread = threading.Thread(target=befall)
    thread.start()
    try:
        more = {"workers": 2, "beam": 2, "block": 2, "quiet": True, "timeout": 8}
        outcome = translate_files(model, [long], tmp_path / "out", engine="ray", **more)
    finally:
        ended.set()
        thread.join()
    assert (tmp_path / "out" / "long.txt").read_text().splitlines() == expected * times
    assert outcome.rows == len(TEXTS) * times and len(befallen) > 1


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster of Ray on this machine, of two CPUs, whose workers begin where it did."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    with contextlib.chdir(tmp_path_factory.mktemp("cluster")):
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


def test_a_cluster_that_is_there(tmp_path, model, path, cluster):
    with pytest.raises(ConfigError, match="3 workers of 1 threads want 3 CPUs, and the cluster has 2"):
        translate_files(model, [path], tmp_path / "out", engine="ray", workers=3, quiet=True)
    refused_by_a_worker(model, path)
    assert cluster.is_initialized()


def test_ray_data(model, expected, cluster):
    """The recipe of docs/scale.md."""
    data = pytest.importorskip("ray.data", exc_type=ImportError, reason="Ray Data is not installed, or what it needs")
    rows = data.from_items([{"row": row, "source": text} for row, text in enumerate(TEXTS)])
    found = rows.map_batches(Predictor(model, beam=2), batch_size=64).take_all()
    assert {row["row"]: row["translation"] for row in found} == dict(enumerate(expected))


def test_ray_train_starts_again_what_was_killed(tmp_path, cluster):
    """The recipe of docs/scale.md, and the first process dies on the way."""
    for package in ("torch", "ray.train"):
        pytest.importorskip(package, exc_type=ImportError, reason=f"{package} is not installed, or what it needs")
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    config, run, started = launched_runs.files(tmp_path, epochs=0, steps=12), tmp_path / "run", tmp_path / "started"
    started.mkdir()

    def work():
        def dies(event):
            (started / f"{os.getpid()}: {fastattn.get_num_threads()} threads").touch()
            if event.step == 8 and len(list(started.iterdir())) == 1:
                os.kill(os.getpid(), signal.SIGKILL)

        with fastattn.scale.joined("gloo") as processes:
            seq2seq.train(config, run, resume=True, quiet=True, processes=processes, callbacks=[dies])

    TorchTrainer(
        work,
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=str(tmp_path / "ray"), failure_config=FailureConfig(max_failures=2)),
    ).fit()
    assert [path.name.partition(": ")[2] for path in started.iterdir()] == ["1 threads"] * 2
    seq2seq.train(config, tmp_path / "expected", quiet=True)
    assert training_runs.result(run) == training_runs.result(tmp_path / "expected")


def test_spark(model, expected):
    """The recipe of docs/scale.md."""
    pytest.importorskip("pyspark", reason="Spark is not installed")
    if shutil.which("java") is None:
        pytest.skip("Spark needs a JVM, and there is no java")
    for package in ("pandas", "pyarrow"):
        pytest.importorskip(package, reason=f"Spark needs {package}")
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql import SparkSession
    from pyspark.sql.types import DoubleType, StringType

    os.environ["PYSPARK_PYTHON"] = sys.executable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
        session = builder.config("spark.sql.shuffle.partitions", "4").getOrCreate()
    try:
        pairs = list(zip(range(len(TEXTS)), TEXTS, expected))
        rows = session.createDataFrame(pairs, ["row", "source", "target"]).repartition(4)
        translator, scorer = Predictor(model, beam=2), Predictor(model, "score")
        translate = predict_batch_udf(translator.make_predict_fn, return_type=StringType(), batch_size=64)
        score = predict_batch_udf(scorer.make_predict_fn, return_type=DoubleType(), batch_size=50)
        added = rows.withColumn("translation", translate("source")).withColumn("score", score("source", "target"))
        found = sorted(added.collect(), key=lambda row: row.row)
    finally:
        session.stop()
    assert [row.translation for row in found] == expected
    scored = scorer({"source": TEXTS, "target": expected})["log_probability"]
    assert [row.score for row in found] == scored


def test_dask(model, expected):
    """The recipe of docs/scale.md."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    dataframe = pytest.importorskip("dask.dataframe", reason="Dask is not installed")
    distributed = pytest.importorskip("distributed", reason="Dask's distributed is not installed")

    predictor = Predictor(model, beam=2, threads=1)

    def translated(part):  # a function of a module would be looked for in it, which workers cannot import
        return pandas.DataFrame(predictor(part.to_dict("list")), index=part.index)

    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        with distributed.Client(cluster):
            rows = dataframe.from_pandas(pandas.DataFrame({"source": TEXTS}), npartitions=5)
            found = rows.map_partitions(translated, meta=meta(pandas)).compute()
    assert found["translation"].sort_index().tolist() == expected


def meta(pandas):
    return pandas.DataFrame({"source": pandas.Series(dtype=str), "translation": pandas.Series(dtype=str),
                             "log_probability": pandas.Series(dtype=float)})  # fmt: skip
