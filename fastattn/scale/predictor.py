"""What a worker of any engine does with batches of rows: a model by its path and checksum, loaded where they are."""

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from fastattn import _reprs
from fastattn._kernels import core
from fastattn._numbers import check_choice, check_flag, check_size
from fastattn._strings import items, path_name, string
from fastattn._version import __version__
from fastattn.config import set_num_threads
from fastattn.errors import (
    ArgumentError,
    CheckpointError,
    ConfigError,
    DTypeError,
    FastattnError,
    ShapeError,
    UnsupportedError,
    describe,
    describe_file,
    did_you_mean,
    problem_of,
)
from fastattn.scale.threads import assigned_cpus
from fastattn.seq2seq import Translator, checkpoint, load, pharaoh
from fastattn.seq2seq.runs.running import find

__all__ = ["Predictor"]

Task = Literal["translate", "score", "align"]
Column = Sequence[Any] | np.ndarray[Any, Any]
Rows = list[dict[str, Any]]

# Columns that a task adds, each with what a row has that could not be used.
_ADDED: dict[str, dict[str, Any]] = {
    "translate": {"translation": "", "log_probability": float("nan")},
    "score": {"log_probability": float("nan"), "tokens": 0},
    "align": {"links": ""},
}
_OPTIONS = {
    "translate": (
        "beam", "length_penalty", "coverage_penalty", "max_length", "prefix", "forbid", "allow", "cache", "replace",
    ),
    "score": (),
    "align": ("words",),
}  # fmt: skip

_LOCK = threading.Lock()  # of this process' models: a call uses all threads, a second one at once would gain nothing
_LOADED: dict[tuple[str, ...], Translator] = {}  # by checksums; an engine that pickles for each task loads once
_KEPT = 2


class Predictor:
    """A trained model as a function of batches, for workers of Ray, Spark, Dask, or of any other engine.

    It holds the path of a checkpoint and its checksum, so that it is pickled in a kilobyte. The model is loaded when a
    worker first calls it, once in each process.

    Parameters
    ----------
    path : path
        Of a run or of one of its checkpoints, on a file system that all workers see under the same name.
    task : {"translate", "score", "align"}
        "translate" reads sources, the others sources and targets.
    which : {"best", "last"}
        Which checkpoint of a run. It is chosen here: a run that goes on changes nothing.
    ensemble : iterable of path
        Further models, as for `fastattn.seq2seq.load`.
    threads : int, optional
        Of each worker. By default as many as the engine has assigned CPUs: ``FASTATTN_NUM_THREADS``, else what Ray or
        Spark say, else the affinity of the process; not ``OMP_NUM_THREADS``, which engines set to 1.
    source, target : str
        Names of the columns that are read.
    report : bool
        What becomes of a row that cannot be used, such as one without a text: False: an error for its whole batch;
        True: it gets an empty text or NaN, and a column ``problem`` says for each row what is wrong, "" if nothing is.
    same_level : bool
        Whether a worker is refused whose instruction-set level is not that of the process in which this was made:
        bits are the same on one level, and may differ in the last place on another.
    options
        Of "translate": `beam`, `length_penalty`, `coverage_penalty`, `max_length`, `prefix`, `forbid`, `allow`,
        `cache` and `replace` of `fastattn.seq2seq.Translator.search`. Of "align": `words` of `alignments`.

    Raises
    ------
    CheckpointError
        If there is no good checkpoint; in a worker, if the one under that path is another.
    ConfigError
        In a worker, if its fastattn is of another version or level; both are named.

    Notes
    -----
    A batch is a mapping of columns, lists or arrays of one length. What is returned has the same columns and those of
    the task: "translate" adds ``translation`` and ``log_probability``, "score" ``log_probability`` and ``tokens``,
    "align" ``links`` in the Pharaoh format. So rows stay with whatever column is their key, in any order in which an
    engine returns batches. A row gets the same bits in a batch of any size, beside any others, in any worker.

    Examples
    --------
    >>> import pickle, tempfile
    >>> from fastattn.scale import Predictor
    >>> from fastattn.seq2seq import BahdanauConfig, Config, TrainingConfig, train
    >>> config = Config(
    ...     model=BahdanauConfig(embedding=8, hidden=8, attention=8, readout_width=8),
    ...     training=TrainingConfig(epochs=1),
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     outcome = train(config, folder, pairs=[("a b", "b a"), ("b", "b")], quiet=True)
    ...     worker = pickle.loads(pickle.dumps(Predictor(folder, beam=2)))
    ...     batch = worker({"row": [7, 3], "source": ["a b", ""]})
    >>> sorted(batch), batch["row"], batch["translation"][1]
    (['log_probability', 'row', 'source', 'translation'], [7, 3], '')
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        task: Task = "translate",
        *,
        which: checkpoint.Which = "best",
        ensemble: Iterable[str | os.PathLike[str]] = (),
        threads: int | None = None,
        source: str = "source",
        target: str = "target",
        report: bool = False,
        same_level: bool = True,
        **options: Any,
    ) -> None:
        self.task: Task = check_choice("task", task, get_args(Task))
        self.threads = None if threads is None else check_size("threads", threads)
        self.source, self.target = string("source", source), string("target", target)
        self.report, self.same_level = check_flag("report", report), check_flag("same_level", same_level)
        for name in options:
            if name not in (known := _OPTIONS[self.task]):
                expected = f"an option of {self.task!r}" if known else f"no options of {self.task!r}"
                raise ArgumentError(describe("options", expected, name, did_you_mean(name, known)))
        more = [path_name("ensemble", each) for each in items("ensemble", "paths", ensemble, "pass a list of folders.")]
        self.paths = tuple(os.path.abspath(find(place, which).folder) for place in (path, *more))
        self.checksums = tuple(map(checkpoint.checksum, self.paths))
        self.version, self.level = __version__, _level()
        self.options = options
        # What is wrong with the models or the options is said here, not by each worker.
        translator = load(self.paths[0], ensemble=self.paths[1:])
        self._results(translator, [], [])
        if self.task == "align" and not translator.model.attends:
            hint = "align with a model that attends."
            raise UnsupportedError(describe("task", "a model with attention", repr(translator.model), hint))

    @property
    def added(self) -> tuple[str, ...]:
        """The names of the columns that are added."""
        return (*_ADDED[self.task], *(["problem"] if self.report else []))

    def __call__(self, batch: Mapping[str, Column]) -> dict[str, Column]:
        """Return a batch with the columns of the task.

        Parameters
        ----------
        batch : mapping of str to list or array
            Columns of one length. It is not changed.

        Returns
        -------
        dict
            Columns that are added are arrays where the sources are one, texts of dtype object; else lists.

        Raises
        ------
        ArgumentError, ShapeError, DTypeError
            If a column is missing, or there already, or of another length; or, unless they are to be reported, a row
            has no text.
        """
        columns = self._columns(batch)
        with _LOCK:
            translator = self._translator()
            found = self._rows(translator, *columns) if columns[0] else []
        result: dict[str, Column] = dict(batch)
        arrays = isinstance(batch[self.source], np.ndarray)
        for name in self.added:
            values = [row[name] for row in found]
            kind = type(_ADDED[self.task].get(name, ""))
            result[name] = np.array(values, {str: object, float: np.float64, int: np.int64}[kind]) if arrays else values
        return result

    def make_predict_fn(self) -> Callable[..., np.ndarray[Any, Any]]:
        """Return a function of arrays, the sources and where they are needed the targets, which returns the first
        column of the task: what ``pyspark.ml.functions.predict_batch_udf`` asks for. That counts its parameters."""

        def of_sources(sources: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return np.asarray(self({self.source: sources})[self.added[0]])

        def of_pairs(sources: np.ndarray[Any, Any], targets: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return np.asarray(self({self.source: sources, self.target: targets})[self.added[0]])

        return of_sources if self.task == "translate" else of_pairs

    def _columns(self, batch: object) -> list[list[Any]]:
        """Return the columns that are read, or raise."""
        needed = [self.source] if self.task == "translate" else [self.source, self.target]
        if not isinstance(batch, Mapping):
            hint = "pass a dict of columns; a data frame has .to_dict('list')."
            raise DTypeError(describe("batch", "a mapping of columns", type(batch).__name__, hint))
        for name in needed:
            if name not in batch:
                hint = f"name the column by Predictor(..., {'source' if name == self.source else 'target'}=...)."
                raise ArgumentError(describe("batch", f"a column {name!r}", ", ".join(map(str, batch)), hint))
        for name in self.added:
            if name in batch:
                raise ArgumentError(describe("batch", f"no column {name!r}", "one", "rename it: it is to be added."))
        columns = [list(batch[name]) for name in needed]
        for name, column in batch.items():
            if len(column) != len(columns[0]):
                hint = "pass columns of one length."
                expected = f"{len(columns[0])} rows, as in {self.source!r}"
                raise ShapeError(describe(f"batch[{name!r}]", expected, len(column), hint))
        return columns

    def _rows(self, translator: Translator, *columns: list[Any]) -> Rows:
        """Return what is added to each row."""
        problems = ["" for _ in columns[0]]
        for name, column in zip((self.source, self.target), columns):
            for row, text in enumerate(column):
                if not isinstance(text, str) and not problems[row]:
                    problems[row] = f"{name} is not a text: {type(text).__name__}"
                    if not self.report:
                        hint = "leave the row out, or report it: Predictor(..., report=True)."
                        raise DTypeError(describe(f"batch[{name!r}][{row}]", "a str", type(text).__name__, hint))
        good = [row for row, problem in enumerate(problems) if not problem]
        texts = [[str(column[row]) for row in good] for column in columns]
        try:
            found = self._results(translator, *texts)
        except FastattnError:
            if not self.report:
                raise
            found = []
            for row, *alone in zip(good, *texts):
                try:
                    found += self._results(translator, *([text] for text in alone))
                except FastattnError as error:
                    problems[row] = problem_of(error)
                    found.append(_ADDED[self.task])
        results = iter(found)
        good_ones = set(good)
        return [
            {**(next(results) if row in good_ones else _ADDED[self.task]), "problem": problem}
            for row, problem in enumerate(problems)
        ]

    def _results(self, translator: Translator, sources: list[str], targets: list[str] | None = None) -> Rows:
        """Return what the task makes of texts."""
        if self.task == "translate":
            best = [found[0] for found in translator.search(sources, **self.options)]
            return [{"translation": one.text, "log_probability": one.log_probability} for one in best]
        if self.task == "score":
            scored = translator.score(sources, targets or [])
            return [{"log_probability": one.log_probability, "tokens": len(one.tokens)} for one in scored]
        return [{"links": pharaoh(links)} for links in translator.alignments(sources, targets or [], **self.options)]

    def _translator(self) -> Translator:
        """Return the model, loaded if this process has not loaded it before, after all has been compared."""
        for what, here, there in (("version", __version__, self.version), ("level", _level(), self.level)):
            if here != there and (what == "version" or self.same_level):
                hint = "use one version and one level (FASTATTN_ISA) everywhere; same_level=False allows other levels."
                problem = f"this worker's {what} is {here}, and the predictor was made with {there}"
                raise ConfigError(describe_file(f"fastattn in process {os.getpid()}", problem, hint))
        if self.threads or core.build_info()["threads_reason"] != "set_num_threads":
            set_num_threads(self.threads or assigned_cpus())
        if self.checksums in _LOADED:
            return _LOADED[self.checksums]
        for path, expected in zip(self.paths, self.checksums):
            if (found := checkpoint.checksum(path)) != expected:
                problem = f"this worker finds the model {found[:16]}, and the predictor was made with {expected[:16]}"
                hint = "let all workers see one copy of the model, or make the predictor anew."
                raise CheckpointError(describe_file(path, problem, hint))
        translator = load(self.paths[0], ensemble=self.paths[1:])
        while len(_LOADED) >= _KEPT:
            del _LOADED[next(iter(_LOADED))]
        _LOADED[self.checksums] = translator
        return translator

    def __repr__(self) -> str:
        return _reprs.words(self, task=self.task, paths=[Path(path).name for path in self.paths], threads=self.threads)


def _level() -> str:
    return str(core.build_info()["level"])
