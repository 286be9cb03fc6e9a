"""Translations of whole files by an engine, block by block, in a folder where a job goes on after an interruption."""

import contextlib
import dataclasses
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastattn._numbers import check_flag, check_size, number_in
from fastattn._printing import say
from fastattn._strings import items, path_name, string
from fastattn.errors import CheckpointError, ConfigError, FastattnError, TextError, describe_file
from fastattn.scale.engines import Engine, engine_of
from fastattn.scale.predictor import Predictor
from fastattn.scale.rows import Block, blocks_of
from fastattn.seq2seq.runs import durable
from fastattn.seq2seq.strict_json import parse_json

__all__ = ["BulkOutcome", "Plan", "Work", "translate_files"]

_EVERY = 10.0  # seconds between two lines of progress


@dataclass(frozen=True)
class BulkOutcome:
    """What a job came to.

    Attributes
    ----------
    folder : Path
    rows, bad : int
        All rows, and those that could not be used.
    blocks, before : int
        All blocks, and those that were there from before.
    """

    folder: Path
    rows: int
    bad: int
    blocks: int
    before: int


@dataclass(frozen=True)
class Plan:
    """What there is to translate: inputs, and which of their blocks are done.

    Attributes
    ----------
    inputs : tuple of str
    column : str
    size : int
        Rows of a block.
    done : mapping of (file, first row) to str
        The digests of blocks that are translated.
    """

    inputs: tuple[str, ...]
    column: str
    size: int
    done: Mapping[tuple[int, int], str]

    def blocks(self, file: int) -> Iterator[Block]:
        """Yield the blocks of an input that are not done."""
        for block in blocks_of(file, self.inputs[file], self.column, self.size):
            if self.done.get((file, block.first)) != block.digest():
                yield block


@dataclass(frozen=True)
class Work:
    """What a worker does with a block: it returns JSON values."""

    predictor: Predictor

    def __call__(self, block: Block) -> dict[str, Any]:
        """Return the translations of a block, and what is wrong with its rows."""
        found = self.predictor({"source": [
            None if row in block.problems else text for row, text in enumerate(block.texts)
        ]})  # fmt: skip
        problems = {row: problem for row, problem in enumerate(found["problem"]) if problem}
        return {
            "file": block.file, "first": block.first, "input": block.digest(),
            "translations": list(found["translation"]), "problems": {**problems, **block.problems},
        }  # fmt: skip


def translate_files(
    model: str | os.PathLike[str],
    inputs: Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    engine: str | Engine = "local",
    workers: int = 1,
    threads: int | None = None,
    address: str = "",
    timeout: float | None = None,
    column: str = "source",
    block: int = 512,
    quiet: bool = False,
    **options: Any,
) -> BulkOutcome:
    """Translate files by an engine: one line of output for each row, in a file for each input.

    Parameters
    ----------
    model : path
        Of a run or a checkpoint.
    inputs : iterable of path
        Lines of UTF-8 text; JSON lines, by the ending ``.jsonl``; either packed by gzip; or ``.parquet``.
    output : path
        A folder, made if it does not exist. It receives for each input a file of its name with the ending ``.txt``, and
        ``bad.jsonl``. A job that was interrupted goes on when it is started again with the same arguments.
    engine : {"local", "ray"} or callable
        "local": this process; "ray": actors of Ray; or a function like those of ``fastattn.scale.engines``.
    workers, threads : int
        Of the engine: so many workers, each of so many threads, by default one with Ray and all without.
    address : str
        Of a Ray cluster; "": one is started on this machine for the job.
    timeout : float, optional
        Of Ray: the seconds, by default 600, after which a worker that has not come to the end of a block is replaced. A
        block that has cost four workers is an error.
    column : str
        Of JSON lines and Parquet: where the texts are.
    block : int
        Rows that are translated together, and are done again if a worker dies.
    quiet : bool
        Show no progress on stderr.
    options
        Those of a `Predictor` that translates.

    Returns
    -------
    BulkOutcome

    Raises
    ------
    TextError
        If an input cannot be read.
    ConfigError
        If the folder has a job of another model, other options or inputs; or the engine has too few CPUs.
    FastattnError
        If workers die at the same block again and again, or do not come to its end.

    Notes
    -----
    The files have the same bytes for any engine, number of workers and size of a block, and after any interruption. A
    row that cannot be used, such as one that is not UTF-8, has an empty line, and a line of ``bad.jsonl`` that says
    what is wrong: the rows are numbered from 1 on. The memory of a job is that of some blocks.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fastattn.scale import translate_files
    >>> from fastattn.seq2seq import BahdanauConfig, Config, TrainingConfig, train
    >>> config = Config(
    ...     model=BahdanauConfig(embedding=8, hidden=8, attention=8, readout_width=8),
    ...     training=TrainingConfig(epochs=1),
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run, texts = pathlib.Path(folder, "run"), pathlib.Path(folder, "texts")
    ...     outcome = train(config, run, pairs=[("a b", "b a"), ("b", "b")], quiet=True)
    ...     size = texts.write_text("a b\\nb\\n")
    ...     outcome = translate_files(run, [texts], pathlib.Path(folder, "out"), quiet=True)
    >>> outcome.rows, outcome.bad
    (2, 0)
    """
    places = [os.path.abspath(path_name("inputs", place))
              for place in items("inputs", "paths", inputs, "pass a list of paths.")]  # fmt: skip
    run_engine = engine_of(engine)
    workers, block = check_size("workers", workers), check_size("block", block)
    if timeout is not None:
        timeout = number_in("timeout", timeout, "600 suits most models.", above=0, below=1e6)
    folder, quiet = Path(path_name("output", output)), check_flag("quiet", quiet)
    names = _names(places)
    predictor = Predictor(model, threads=threads, report=True, **options)
    job = {"model": list(predictor.checksums), "fastattn": predictor.version, "level": predictor.level,
           "options": json.loads(json.dumps(predictor.options)), "inputs": places,
           "column": string("column", column), "block": block}  # fmt: skip
    with _alone(folder, job) as former:
        if former is not None and "outcome" in former:
            shutil.rmtree(folder / "blocks")
            return BulkOutcome(folder, **former["outcome"])
        done, counts = _done(folder, len(places))
        plan, before = Plan(tuple(places), column, block, done), len(done)
        shown, returned = time.monotonic(), set[str]()
        how: Any = {"workers": workers, "threads": threads, "address": address, "timeout": timeout}
        for result in run_engine(Work(predictor), plan, **how):
            name = _block_name(result["file"], result["first"])
            durable.write_text(folder / "blocks" / name, json.dumps(result) + "\n")
            returned.add(name)
            counts["rows"] += len(result["translations"])
            if not quiet and time.monotonic() - shown > _EVERY:
                shown = time.monotonic()
                say(f"fastattn translate: {counts['rows']} rows")
        size = sum(path.stat().st_size for path in (folder / "blocks").glob("*.json"))
        with durable.explained(folder, size):
            outcome = _finish(folder, names, before, returned)
        facts = {key: value for key, value in dataclasses.asdict(outcome).items() if key != "folder"}
        durable.write_text(folder / "job.json", json.dumps({**job, "outcome": facts}, indent=1) + "\n")
        shutil.rmtree(folder / "blocks")
        return outcome


def _names(places: list[str]) -> list[str]:
    """Return the names of the files of a job's output, or raise."""
    if not places:
        raise ConfigError(describe_file("inputs", "none", "name at least one file."))
    names = []
    for place in places:
        if not os.path.isfile(place):
            raise TextError(describe_file(place, "is no file", "name files that all workers can read."))
        name = os.path.basename(place)
        for ending in (".gz", ".parquet", ".jsonl", ".ndjson", ".txt"):
            name = name.removesuffix(ending)
        names.append(f"{name}.txt")
    [(name, count)] = Counter(names).most_common(1)
    if count > 1:
        hint = "rename one, or translate them to folders of their own."
        raise ConfigError(describe_file("inputs", f"{count} of them would be translated to {name}", hint))
    return names


@contextlib.contextmanager
def _alone(folder: Path, job: dict[str, Any]) -> Iterator[dict[str, Any] | None]:
    """Begin a job in a folder, or go on with it; yield what is written of it, or raise if it is another."""
    try:
        (folder / "blocks").mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        problem = f"cannot be used: {(error.strerror or str(error)).lower()}"
        raise CheckpointError(describe_file(folder, problem, "choose a folder that you may write to.")) from error
    try:
        try:
            durable.lock(descriptor)
        except (BlockingIOError, PermissionError):
            hint = "wait for it, or choose another folder."
            raise CheckpointError(describe_file(folder, "another job is at work in this folder", hint)) from None
        former = None
        with contextlib.suppress(FileNotFoundError):
            former = dict(parse_json((folder / "job.json").read_bytes()))
            if "outcome" not in former and not any((folder / "blocks").iterdir()):
                former = None  # nothing came of it
        if former is None:
            durable.write_text(folder / "job.json", json.dumps(job, indent=1) + "\n")
        else:
            for key, value in job.items():
                if former.get(key) != value:
                    problem = f"the job in this folder has {key} {former.get(key)}, and this one has {value}"
                    raise ConfigError(describe_file(folder, problem, "give the same arguments, or another folder."))
        yield former
    finally:
        os.close(descriptor)


def _block_name(file: int, first: int) -> str:
    return f"{file:05d}-{first:012d}.json"


def _done(folder: Path, files: int) -> tuple[dict[tuple[int, int], str], Counter[str]]:
    """Return the digests of the blocks that are there, and how many rows they have."""
    done, counts = {}, Counter[str]()
    for path in sorted((folder / "blocks").glob("*.json")):
        result = parse_json(path.read_bytes())
        done[result["file"], result["first"]] = result["input"]
        counts["rows"] += len(result["translations"])
    return done, counts


def _finish(folder: Path, names: list[str], before: int, returned: set[str]) -> BulkOutcome:
    """Write the blocks one after the other to the files of the output; `returned` are those of this run."""
    rows = bad = blocks = 0
    with open(folder / "bad.jsonl.tmp", "w", encoding="utf-8") as report:
        for file, name in enumerate(names):
            with open(folder / f"{name}.tmp", "w", encoding="utf-8", newline="\n") as written:
                expected = 0
                for path in sorted((folder / "blocks").glob(f"{file:05d}-*.json")):
                    result = parse_json(path.read_bytes())
                    if result["first"] != expected:
                        if path.name in returned:
                            problem = f"row {expected + 1} of {name} is in no block that the engine has returned"
                            hint = "yield work(block) for all of plan.blocks."
                            raise FastattnError(describe_file(folder, problem, hint))
                        break  # of an input that is shorter now
                    expected += len(result["translations"])
                    written.writelines(f"{text}\n" for text in result["translations"])
                    for row, problem in sorted((int(row), problem) for row, problem in result["problems"].items()):
                        line = {"file": name, "row": result["first"] + row + 1, "problem": problem}
                        report.write(json.dumps(line) + "\n")
                        bad += 1
                    blocks += 1
                rows += expected
            os.replace(folder / f"{name}.tmp", folder / name)
    os.replace(folder / "bad.jsonl.tmp", folder / "bad.jsonl")
    return BulkOutcome(folder, rows, bad, blocks, before)
