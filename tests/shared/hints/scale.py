"""Hints of predictors, and of processes that train together."""

import contextlib
import functools
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from stand_ins import of_ray

import fastattn
from fastattn import seq2seq
from fastattn.scale import Predictor, Processes, bulk, joined, predictor, translate_files
from hints import advice, command, write
from hints.runs import CONFIG, PAIRS, run

KEPT = tempfile.TemporaryDirectory()  # for as long as the tests run
BATCH = {"source": ["ab"], "target": ["ba"]}


@functools.cache
def without_attention():
    config = seq2seq.Config(
        model=seq2seq.ChoConfig(embedding=4, hidden=4), training=seq2seq.TrainingConfig(epochs=1)
    )  # fmt: skip
    seq2seq.train(config, Path(KEPT.name) / "cho", pairs=PAIRS, quiet=True)
    return Path(KEPT.name) / "cho"


def predict(task="translate", batch=BATCH, **options):
    return Predictor(run(), task, **options)(batch)


advice(lambda: predict(baem=2), "did you mean 'beam'?", lambda: predict(beam=2))
advice(lambda options={"beam": 2}: predict("score", **options), "leave it out", options={})
advice(lambda: Predictor(without_attention(), "align"), "align with a model that attends", lambda: predict("align"))
advice(lambda batch=[BATCH]: predict(batch=batch), "pass a dict of columns", batch=BATCH)
for name, task in (("source", "translate"), ("target", "align")):
    advice(
        lambda options={}, name=name, task=task: predict(
            task, {("text" if key == name else key): value for key, value in BATCH.items()}, **options
        ),
        f"name the column by Predictor(..., {name}=...)",
        options={name: "text"},
    )
advice(
    lambda batch={**BATCH, "translation": ["x"]}: predict(batch=batch),
    "rename it: it is to be added",
    batch={**BATCH, "former": ["x"]},
)
advice(
    lambda batch={**BATCH, "row": []}: predict(batch=batch), "pass columns of one length", batch={**BATCH, "row": [1]}
)
advice(lambda batch={"source": [None]}: predict(batch=batch), "leave the row out", batch=BATCH)
advice(
    lambda report=False: predict(batch={"source": [None]}, report=report), "Predictor(..., report=True)", report=True
)


def of_another(version="0.0", level="none", **options):
    made = Predictor(run(), **options)
    made.version, made.level = version, level
    return made(BATCH)


CURRENT = fastattn.__version__
advice(lambda version="0.0": of_another(version, predictor._level()), "use one version", version=CURRENT)
advice(
    lambda same_level=True: of_another(CURRENT, same_level=same_level),
    "same_level=False allows other",
    same_level=False,
)


def of_another_model():
    predictor._LOADED.clear()
    made = Predictor(run())
    made.checksums = ("0" * 64,)
    return made(BATCH)


advice(of_another_model, "let all workers see one copy of the model, or make the predictor anew", lambda: predict())


class Two(Processes):
    """The first of two processes; the other one does the same, but for what it says of a fact."""

    size = 2

    def __init__(self, **other):
        self._other = other

    def all_gather(self, array):
        return [array, array]

    def exchange(self, value):
        differs = isinstance(value, dict) and self._other.keys() <= value.keys()
        return [value, {**value, **self._other} if differs else value]


def in_two(processes, **training):
    shutil.rmtree("two", ignore_errors=True)
    config = replace(CONFIG, training=replace(CONFIG.training, **{"shards": 2, **training}))
    return seq2seq.train(config, "two", pairs=PAIRS, quiet=True, processes=processes)


advice(lambda processes=2: in_two(processes), "fastattn.scale.joined makes them", processes=Two())
advice(
    lambda shards=1: in_two(Two(), shards=shards),
    "give at least 2, such as shards = 4: the bits depend on it",
    shards=4,
)
advice(
    lambda other={"data": "others"}: in_two(Two(**other)),
    "let all have one version, one level (FASTATTN_ISA), and the same files",
    other={},
)
advice(
    lambda other={"the parameters": "others"}: in_two(Two(**other)),
    "look for a process whose memory or processor is at fault",
    other={},
)


def from_files(train="-"):
    write("a.tsv", "".join(f"{source}\t{target}\n" for source, target in PAIRS))
    config = replace(CONFIG, data=seq2seq.DataConfig(train), training=replace(CONFIG.training, shards=2))
    return seq2seq.train(config, "two", quiet=True, processes=Two())


advice(lambda train="-": from_files(train), "name files that all of them see", train="a.tsv")


def on_the_command_line(*words):
    write("a.tsv", "".join(f"{source}\t{target}\n" for source, target in PAIRS))
    write(
        "a.toml", '[data]\ntrain = "a.tsv"\n[model]\nembedding = 4\nhidden = 4\nattention = 4\n[training]\nepochs = 1\n'
    )
    with stand_in():
        return command("train", "a.toml", "--quiet", *words)


class Torch:
    """As much of PyTorch as one process needs."""

    def __init__(self, fails=False, initialized=False):
        self._fails, self._initialized = fails, initialized

    def is_initialized(self):
        return self._initialized

    def init_process_group(self, backend, timeout):
        self._initialized = True

    def destroy_process_group(self):
        self._initialized = False

    def new_group(self, backend, timeout):
        if self._fails:
            raise RuntimeError("Connection closed by peer")

    def get_rank(self, group=None):
        return 0

    def get_world_size(self, group=None):
        return 1


@contextlib.contextmanager
def stand_in(**how):
    made = Torch(**how)
    with mock.patch.dict(sys.modules, {"torch": SimpleNamespace(distributed=made), "torch.distributed": made}):
        yield


def join(environment=True, **how):
    values = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"} if environment else {}
    with mock.patch.dict("os.environ", values), stand_in(**how), joined("gloo") as processes:
        return processes


advice(lambda environment=False: join(environment), "start it by torchrun --nproc-per-node 2", environment=True)
advice(lambda fails=True: join(fails=fails), "start all of them again with --resume", fails=False)
advice(
    lambda words=("--timeout", "9"): on_the_command_line(*words),
    "give --distributed gloo or mpi",
    lambda: on_the_command_line("--resume"),
)
for words in ({"timeout": 0}, {"timeout": "x"}):
    advice(
        lambda words=words: contextlib.ExitStack().enter_context(joined("gloo", **words)), "50 suits most networks",
        lambda: join(),
    )  # fmt: skip


# Whole files
def files(inputs=("a.txt",), output="out", **more):
    for name in ("a.txt", "b.txt", "a.txt.gz"):
        write(name, "ab\n")
    return translate_files(run(), inputs, output, quiet=True, **more)


advice(lambda inputs=(): files(inputs), "name at least one file", inputs=["a.txt"])
advice(lambda inputs=["c.txt"]: files(inputs), "name files that all workers can read", inputs=["a.txt"])
advice(lambda inputs=["a.txt", "a.txt.gz"]: files(inputs), "rename one", inputs=["a.txt", "b.txt"])
advice(
    lambda inputs=["a.txt", "a.txt.gz"]: files(inputs),
    "or translate them to folders of their own",
    lambda: [files(["a.txt"], "one"), files(["a.txt.gz"], "other")],
)
advice(
    lambda output="run/latest": files(output=run() and output), "choose a folder that you may write to", output="out"
)


def busy(output="out"):
    with bulk._alone(Path("out"), {}):
        return files(output=output)


advice(lambda output="out": busy(output), "or choose another folder", output="other")
advice(lambda: busy(), "wait for it", lambda: files(output="later"))


def changed(beam=2, output="out"):
    files()
    return files(output=output, beam=beam)


advice(lambda beam=2: changed(beam), "give the same arguments", lambda: [files(), files()])
advice(lambda output="out": changed(output=output), "give the same arguments, or another folder", output="other")
for wrong in ({"workers": 2}, {"address": "auto"}, {"timeout": 9}):
    advice(lambda more=wrong: files(**more), "leave it out", more={})

    def by_ray(more=wrong):
        with of_ray.ray():
            return files(engine="ray", **more)

    advice(lambda more=wrong: files(**more), "or use another engine, such as ray", by_ray)


advice(lambda timeout=0: files(timeout=timeout), "600 suits most models", lambda: by_ray({"timeout": 600}))


def in_cluster(address="", workers=1, fates=()):
    with of_ray.ray(cpus=2, fates=fates):
        return files(engine="ray", address=address, workers=workers)


advice(lambda address="there:1": in_cluster(address), "start one with ray start --head", address="auto")
advice(lambda address="there:1": in_cluster(address), "or leave the address out", address="")
advice(lambda workers=3: in_cluster("auto", workers), "give fewer workers or threads", workers=1)


def forgetful(skip=0):
    def engine(work, plan, **more):
        return (work(block) for number, block in enumerate(plan.blocks(0)) if number != skip)

    Path("three.txt").write_text("a\nb\nab\n")
    return translate_files(run(), ["three.txt"], f"skip{skip}", quiet=True, block=1, engine=engine)


advice(lambda skip=1: forgetful(skip), "yield work(block) for all of plan.blocks", skip=-1)
for words in ("see that workers have the memory", "give fewer rows by --block", "or more time by --timeout"):
    advice(lambda fates=["dies"] * 4: in_cluster(fates=fates), words, fates=["dies"] * 3)


class Parquet:
    """As much of a Parquet file as is asked for."""

    def __init__(self, place):
        if Path(place).read_bytes()[:4] != b"PAR1":
            raise ValueError("Parquet magic bytes not found")
        self.schema_arrow = SimpleNamespace(names=["text"])

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def iter_batches(self, columns):
        return [SimpleNamespace(column=lambda place: SimpleNamespace(to_pylist=lambda: ["ab"]))]


def of_parquet(content="PAR1", column="text"):
    made = SimpleNamespace(ParquetFile=Parquet)
    with mock.patch.dict(sys.modules, {"pyarrow": SimpleNamespace(parquet=made), "pyarrow.parquet": made}):
        return files([write("rows.parquet", content)], column=column)


advice(lambda column="source": of_parquet(column=column), "name the column of the texts by --column", column="text")
advice(lambda content="text": of_parquet(content), "write the file anew, or name another", content="PAR1")


def translate(*words):
    write("a.txt", "ab\n")
    return command("translate", run(), "a.txt", *words)


advice(
    lambda words=["--engine", "local"]: translate(*words),
    "give -o FOLDER",
    words=["--engine", "local", "-o", "out"],
)
advice(lambda words=["a.txt"]: translate(*words), "give -o FOLDER for whole files", words=["-o", "out"])
advice(lambda words=["-o", "out", "--json"]: translate(*words), "leave out one of them", words=["--json"])
