"""Runs in folders: a model is trained there, and loaded from there."""

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastattn._kernels import core
from fastattn._kernels.narrow import NARROW, NarrowType
from fastattn._numbers import check_choice, check_flag
from fastattn._optional import need
from fastattn._printing import say
from fastattn._strings import items, path_name, string
from fastattn._version import __version__
from fastattn.errors import CheckpointError, ConfigError, FastattnError, describe_file, problem_of
from fastattn.layers.parameter import STORAGES, Storage
from fastattn.seq2seq.config import Config, read_config
from fastattn.seq2seq.models.model import Model
from fastattn.seq2seq.models.registry import build
from fastattn.seq2seq.runs import checkpoint, durable
from fastattn.seq2seq.runs.beginning import begin_from, new_model
from fastattn.seq2seq.runs.callbacks import Callback, TensorBoard, check_callbacks
from fastattn.seq2seq.runs.checkpoint import Checkpoint
from fastattn.seq2seq.runs.durable import DamagedError
from fastattn.seq2seq.runs.pretrained import start_embeddings
from fastattn.seq2seq.runs.processes import Processes
from fastattn.seq2seq.runs.progress import Progress
from fastattn.seq2seq.runs.prospect import check_inference, prospect, size_of, takes_time
from fastattn.seq2seq.runs.sizes import Blank, OversizeError
from fastattn.seq2seq.runs.tensors import restore
from fastattn.seq2seq.runs.training import Outcome, Run
from fastattn.seq2seq.runs.validation import Best
from fastattn.seq2seq.search.ensemble import Ensemble
from fastattn.seq2seq.search.evaluation import require
from fastattn.seq2seq.sections import PATHS
from fastattn.seq2seq.text.corpus import Pairs, prepare_corpus
from fastattn.seq2seq.text.vocabulary import Vocabulary
from fastattn.seq2seq.translate import Translator
from fastattn.variants.protocol.checks import check_kind

__all__ = ["begin", "find", "load", "quantize", "train"]

# Keys that a resumed run may change: they decide when it ends and what is kept, not what a step computes.
_FREE = {"epochs", "max_steps", "patience", "log_every", "checkpoint_every", "keep", "tensorboard", "init_from"}

# Keys that it may lower, which is what helps a run that has diverged. A clip of 0 is none.
_LOWERED = ("rate", "clip")

# Arrays that a model may draw for each of its parameters.
_DRAWS = 4

_FITTING = "use the configuration and the vocabularies that were saved with it."
_NEWER = "install the fastattn that wrote it, and its plugins."


def train(
    config: Config | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    pairs: Pairs | None = None,
    validation: Pairs | None = None,
    resume: bool = False,
    quiet: bool = False,
    label: str = "",
    init_from: str | os.PathLike[str] | None = None,
    callbacks: Iterable[Callback] = (),
    processes: Processes | None = None,
) -> Outcome:
    """Train a model.

    Parameters
    ----------
    config : Config or path
        A path is that of a TOML file.
    folder : path
        For checkpoints and the log; made if it does not exist.
    pairs, validation : iterable of (source, target), optional
        Texts to train on and to validate with, tuples of two str, instead of the files that the configuration names.
    resume : bool
        Go on from the last good checkpoint in the folder, if there is one. Without it, a folder that has checkpoints
        is refused.
    quiet : bool
        Show no progress on stderr; lines of the data that were left out are reported all the same.
    label : str
        Stands in front of the progress.
    init_from : path, optional
        In place of ``training.init_from``: a trained model to begin with, the folder of its run or of a checkpoint.
    callbacks : iterable of callable
        Functions that are called, in order, with each `Event` of the run; one that returns something true ends it,
        after the present step, as `max_steps` does. See the notes.
    processes : Processes, optional
        The processes that train this model together: `fastattn.scale.joined` makes them. Each calls this function with
        the same arguments, and sees the same folder and data; `training.shards` is at least their number.

    Returns
    -------
    Outcome

    Raises
    ------
    ConfigError
        If the configuration is wrong, or is not the one that the run began with, but for what it may change.
    TextError
        If the data cannot be used.
    CheckpointError
        If a checkpoint cannot be written, or none can be read.
    Stopped
        After Ctrl-C (it is a KeyboardInterrupt) or SIGTERM, when a checkpoint has been written.

    Notes
    -----
    A resumed run may have other `epochs`, `max_steps`, `patience`, `log_every`, `checkpoint_every`, `keep` and
    `tensorboard`, and a lower `rate` or `clip`, which the log records.

    Callbacks are no part of a run's state: a run that they only look at has the bits of one without any, and what is
    resumed after one has ended it, of one that never ended there. A resumed run begins with "begin", which has the step
    of the checkpoint, and repeats the events of what came after it: a callback that remembers starts again from there.
    What a callback raises ends the run, which can be resumed from its last checkpoint.

    A run that was killed at any moment, and resumed with the same configuration and data on the same machine, ends
    with the same bits as one that was never interrupted, for any number of threads and of processes before and after.

    Examples
    --------
    >>> import tempfile
    >>> from fastattn.seq2seq import BahdanauConfig, Config, TrainingConfig, load, train
    >>> config = Config(
    ...     model=BahdanauConfig(embedding=8, hidden=8, attention=8, readout_width=8),
    ...     training=TrainingConfig(epochs=1),
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     outcome = train(config, folder, pairs=[("a b", "b a"), ("b", "b")], quiet=True)
    ...     translations = load(folder).translate(["a b"])
    >>> outcome.steps, outcome.reason, len(translations)
    (1, 'epochs', 1)
    """
    resume, quiet, place = check_flag("resume", resume), check_flag("quiet", quiet), "data.train"
    if not isinstance(config, Config):
        read = read_config(config)
        place, config = f"{os.fspath(config)}: {place}", read
    if init_from is not None:
        config = replace(config, training=replace(config.training, init_from=path_name("init_from", init_from)))
    if pairs is None and not config.data.train:
        hint = "name a file of pairs, or - for the standard input; in Python, pairs may be given instead."
        raise ConfigError(describe_file(place, "missing", hint))
    require([config.training.metric])
    need("safetensors.numpy", "seq2seq", "checkpoints")  # now, not when the first one is written
    folder = Path(path_name("folder", folder))
    _check_apart(config, folder)
    callbacks = check_callbacks(callbacks)
    if config.training.tensorboard and not any(isinstance(each, TensorBoard) for each in callbacks):
        callbacks.append(TensorBoard())
    together = check_processes(processes, config)
    progress = Progress(label=string("label", label), quiet=quiet or together.rank > 0)
    about = prospect(config)
    with contextlib.ExitStack() as stack:
        together.in_first(lambda: stack.enter_context(_alone(folder)))
        found, changes = _found(folder, config, resume)
        if pairs is None and takes_time(config.data):
            progress.lines(about)
            about = []
        vocabularies = None if found is None else _vocabularies(found)
        corpus = prepare_corpus(config, pairs, validation, vocabularies)
        for report in corpus.reports:
            if report.skipped and together.rank == 0:
                say(*str(report).split("\n"))
        progress.lines(about)
        sides = corpus.source_vocabulary, corpus.target_vocabulary
        notes = {"changes": changes} if changes else {}
        if found is not None:
            model = _restored(found, config, sides)
        else:
            model, notes, lines = begin(config, sides)
            progress.lines(lines)
        progress.line(f"vocabularies of {len(sides[0])} and {len(sides[1])} tokens; {size_of(model, config)}")
        Translator(model, *sides, config)  # refuses tokens of [inference] that there are not
        run = Run(model, corpus, config, folder, _save, notes, callbacks, together)
        if found is not None:
            run.load_state(found.progress, found.state)
            if run.position.step != found.step:
                problem = f"has the state of step {run.position.step} and the manifest of step {found.step}"
                raise CheckpointError(describe_file(found.folder, problem, "use another checkpoint."))
            changed = "".join(f", {key} {now} in place of {before}" for key, (before, now) in changes.items())
        _check_alike(run)
        if found is not None:
            together.in_first(lambda: _point(folder, found, run))
            progress.line(f"going on after step {run.position.step} ({found.folder}){changed}")
        elif resume:
            progress.line("no checkpoint to go on from: beginning anew")
        settings = config.training
        steps = settings.max_steps or settings.epochs * -(-corpus.train.count() // settings.accumulate)
        progress.begin(run.position.step, steps)
        return run.run(progress)


def load(
    folder: str | os.PathLike[str],
    which: checkpoint.Which = "best",
    *,
    ensemble: Iterable[str | os.PathLike[str]] = (),
    weights: Storage | None = None,
) -> Translator:
    """Return the model of a run, ready for use.

    Parameters
    ----------
    folder : path
        Of a run, or of one of its checkpoints.
    which : {"best", "last"}
        Which checkpoint of a run; without validation data the best is the last. What is used in place of one that is
        missing or damaged is said on the standard error stream.
    ensemble : iterable of path
        Further models, of the same vocabularies, which search and score together with the first, see `Ensemble`. The
        configuration is that of the first.
    weights : {"float32", "bfloat16", "int8"}, optional
        The type in which matrices are kept for products, see `Layer.store`; by default that of the folder, which is
        float32 unless `quantize` wrote it.

    Returns
    -------
    Translator

    Raises
    ------
    CheckpointError
        If there is no good checkpoint, or it does not fit its configuration, or vocabularies differ.
    """
    first = _load(folder, which, weights)
    places = [path_name("ensemble", each) for each in items("ensemble", "paths", ensemble, "pass a list of folders.")]
    others = [_load(place, which, weights) for place in places]
    for place, other in zip(places, others):
        for side in ("source_vocabulary", "target_vocabulary"):
            if getattr(first, side) != getattr(other, side):
                problem = f"has another {side.replace('_', ' ')} than {os.fspath(folder)}"
                hint = "train the models of an ensemble with the same data and [vocabulary]."
                raise CheckpointError(describe_file(place, problem, hint))
    if not others:
        return first
    model = Ensemble([first.model, *(other.model for other in others)])  # type: ignore[abstract]
    check_inference(model, first.config)
    return Translator(model, first.source_vocabulary, first.target_vocabulary, first.config)


def find(folder: str | os.PathLike[str], which: checkpoint.Which = "best") -> Checkpoint:
    """Return the checkpoint that `load` takes, without the state of its optimizer."""
    folder, which = Path(path_name("folder", folder)), check_choice("which", which, checkpoint.WHICH)
    if which == "best" and not (folder / "best").exists():
        return _best_without_pointer(folder, checkpoint.load(folder, state=False))
    return checkpoint.load(folder, which, state=False)


def quantize(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    weights: NarrowType = "int8",
    *,
    which: checkpoint.Which = "best",
) -> Checkpoint:
    """Write the model of a run with matrices of a narrower type, as the checkpoint of a new run.

    Parameters
    ----------
    folder : path
        Of a run, or of one of its checkpoints.
    output : path
        The folder of the new run; one that has a checkpoint is refused.
    weights : {"int8", "bfloat16"}
        See `Layer.store` for the matrices, and `PackedWeights` for the types.
    which : {"best", "last"}
        Which checkpoint of a run.

    Returns
    -------
    Checkpoint
        What was written; `load` takes it as any other, and gives what it does with ``weights`` of the first folder, to
        the bit. It has no state of an optimizer, so that no run can go on from it.

    Raises
    ------
    CheckpointError
        If there is no good checkpoint, or there is one in the output.

    Notes
    -----
    An element of a matrix takes one byte, or two, in place of four.
    """
    weights, output = check_choice("weights", weights, NARROW), Path(path_name("output", output))
    if checkpoint.steps(output):
        raise CheckpointError(describe_file(output, "there is a checkpoint in it", "choose another folder."))
    found = find(folder, which)
    model = _translator(found, weights).model
    checkpoint.save(
        output,
        found.step,
        model={name: parameter.value for name, parameter in model.parameters().items()},
        state={},
        config=found.config,
        progress={"quantized": str(found.folder)},
        vocabularies=found.vocabularies,
        best=True,
        stored=dict.fromkeys(model._stored(), weights),
    )
    return checkpoint.load(output)


def _load(folder: Any, which: Any, weights: Storage | None = None) -> Translator:
    """Return the model of one run."""
    if weights is not None:
        weights = check_choice("weights", weights, STORAGES)
    return _translator(find(folder, which), weights)


def _translator(found: Checkpoint, weights: Storage | None) -> Translator:
    """Return the model of a checkpoint, ready for use."""
    config, sides = _config(found), _vocabularies(found)
    model = _restored(found, config, sides, weights)
    try:
        return Translator(model, *sides, config)
    except ConfigError as error:
        raise CheckpointError(describe_file(found.folder, problem_of(error), "use another checkpoint.")) from None


def _best_without_pointer(folder: Path, last: Checkpoint) -> Checkpoint:
    """Return what the file `best` should name, by what the last checkpoint says; that itself if none was the best."""
    try:
        best = Best.from_dict(last.progress.get("final") or last.progress.get("best"))
    except ConfigError:
        best = Best()
    if last.folder == folder or best.value is None:
        return last
    found, named = last, folder / f"checkpoint-{best.step:08d}"
    if named.is_dir():
        with contextlib.suppress(DamagedError):
            found = checkpoint.load(named, state=False)
    say(f"fastattn: {folder / 'best'}: is missing. Using {found.folder.name} instead.")
    return found


def _restored(
    found: Checkpoint, config: Config, sides: tuple[Vocabulary, Vocabulary], weights: Storage | None = None
) -> Model:
    """Return the model of a checkpoint; one larger than its tensors is never made."""
    tensors = found.model.values()
    blank = Blank(sum(array.size for array in tensors), _DRAWS * len(tensors))
    try:
        model = build(config.model, len(sides[0]), len(sides[1]), blank)
        check_inference(model, config)
    except OversizeError:
        problem = "its tensors have fewer parameters than the model that config.json describes"
        raise CheckpointError(describe_file(found.folder, problem, _FITTING)) from None
    except FastattnError as error:
        raise CheckpointError(describe_file(found.folder, problem_of(error), _NEWER)) from None
    parameters = model.parameters()
    restore(parameters, found.model, found.folder)
    if weights is not None:
        model.store(weights)
    else:
        for name, kind in found.stored.items():
            parameters[name].store(kind)
    return model


def _save(run: Run, best: bool) -> None:
    checkpoint.save(
        run.folder,
        run.position.step,
        model=run.weights(),
        state=run.arrays(),
        config=run.config.to_dict(),
        progress=run.state(),
        vocabularies={"source": run.corpus.source_vocabulary, "target": run.corpus.target_vocabulary},
        keep=run.config.training.keep,
        best=best,
        besides=[run.best.step],
    )


def check_processes(processes: Processes | None, config: Config) -> Processes:
    """Return the processes of a run, or raise if it has too few shards for them."""
    together = Processes() if processes is None else processes
    check_kind("processes", together, Processes, "fastattn.scale.joined makes them.")
    if together.size > config.training.shards:
        problem = f"{config.training.shards} for {together.size} processes"
        hint = f"give at least {together.size}, such as shards = {max(together.size, 4)}: the bits depend on it."
        raise ConfigError(describe_file("training.shards", problem, hint))
    if together.size > 1 and "-" in (getattr(config.data, name) for name in PATHS):
        problem = f"the standard input cannot be read by {together.size} processes"
        raise ConfigError(describe_file("data", problem, "name files that all of them see."))
    return together


def _check_alike(run: Run) -> None:
    """Raise unless the processes of a run begin with the same of all that decides about its bits."""
    level = str(core.build_info()["level"])
    settings = json.dumps(_fixed(run.config.to_dict()), sort_keys=True)
    hint = "let all have one version, one level (FASTATTN_ISA), and the same files."
    facts = {"fastattn": __version__, "level": level, "data": run.corpus.digest, "settings": settings,
             "step": run.position.step, "parameters": run.digest()}  # fmt: skip
    run.processes.check_alike(facts, hint)


def _point(folder: Path, found: Checkpoint, run: Run) -> None:
    """Let "latest" and "best" name what they should: the process may have ended between the writes of a save, and the
    best checkpoint at an end that is none any more may have been its last one."""
    best = run.final or run.best
    named = folder / f"checkpoint-{best.step:08d}"
    if found.folder.suffix != ".old":
        durable.write_text(folder / "latest", found.folder.name + "\n")
    if best.value is None:
        (folder / "best").unlink(missing_ok=True)
    elif named.is_dir():
        checkpoint.mark_best(named)


def _found(folder: Path, config: Config, resume: bool) -> tuple[Checkpoint | None, dict[str, tuple[float, float]]]:
    """Return the checkpoint to go on from, if any, and what is lowered; raise if the run may not go on like that."""
    if not checkpoint.steps(folder):
        return None, {}
    if not resume:
        hint = "resume, or choose another folder."
        raise ConfigError(describe_file(folder, "there is a run in this folder already", hint))
    found = checkpoint.load(folder)
    began = _config(found)
    before, now = (_fixed(json.loads(json.dumps(each.to_dict()))) for each in (began, config))
    changed = sorted(
        f"{section}.{key}"
        for section in before.keys() | now.keys()
        for key in before.get(section, {}).keys() | now.get(section, {}).keys()
        if before.get(section, {}).get(key) != now.get(section, {}).get(key)
    )
    lowered = {}
    for key in _LOWERED:
        former, present = getattr(began.training, key), getattr(config.training, key)
        if (present or math.inf) < (former or math.inf):
            lowered[f"training.{key}"] = former, present
    refused = [key for key in changed if key not in lowered]
    if refused:
        problem = f"the run began with another {', '.join(refused)}"
        could = " and ".join(f"training.{key}" for key in _LOWERED)
        hint = f"change it back, or train in a new folder; only {could} may be lowered."
        raise ConfigError(describe_file(folder, problem, hint))
    return found, lowered


def _fixed(tables: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what may not change; the data are compared themselves, not their paths."""
    kept = {section: dict(tables.get(section, {})) for section in ("model", "vocabulary", "training")}
    for key in _FREE:
        kept["training"].pop(key, None)
    return kept


def _config(found: Checkpoint) -> Config:
    """Return the configuration of a checkpoint; settings that its fastattn did not know have their defaults."""
    try:
        return Config.from_dict(found.config)
    except ConfigError as error:
        raise CheckpointError(describe_file(found.folder, problem_of(error), _NEWER)) from None


def _vocabularies(found: Checkpoint) -> tuple[Vocabulary, Vocabulary]:
    try:
        return found.vocabularies["source"], found.vocabularies["target"]
    except KeyError as error:
        hint = "use another checkpoint."
        raise CheckpointError(describe_file(found.folder, f"has no {error.args[0]} vocabulary", hint)) from None


def begin(config: Config, sides: tuple[Vocabulary, Vocabulary]) -> tuple[Model, dict[str, Any], list[str]]:
    """Return the model that a run begins with, and what its log and its progress have to say of where that is from."""
    model, place = new_model(config, sides), config.training.init_from
    lines = start_embeddings(model, config, sides)
    if not place:
        return model, {}, lines
    notes = begin_from(model, sides, load(place), Path(place))
    return model, notes, [*lines, f"beginning with {place}: {_kept(notes)}"]


def _kept(notes: dict[str, Any]) -> str:
    """Return in words how many tokens a run takes over from the model that it begins with."""
    sides = {side: notes[side] for side in ("source", "target")}
    return ", ".join(f"{n['kept']} {side} tokens are known to it, {n['new']} are new" for side, n in sides.items())


def _check_apart(config: Config, folder: Path) -> None:
    """Raise if a file of the data is one that the run writes."""
    for own in (folder / name for name in ("best", "latest", "lock", "log.jsonl")):
        for key in PATHS:
            place = getattr(config.data, key)
            if own.is_file() and os.path.isfile(place) and os.path.samefile(own, place):
                problem = f"{place} is a file that the run in {folder} writes"
                raise ConfigError(describe_file(f"data.{key}", problem, "train in another folder."))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second process from training in the same folder; the lock ends with the process, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        problem = f"cannot be used: {(error.strerror or str(error)).lower()}"
        hint = "choose a folder that you may write to."
        raise CheckpointError(describe_file(folder, problem, hint)) from error
    try:
        try:
            durable.lock(descriptor)
        except (BlockingIOError, PermissionError):
            problem = "another process is training in this folder"
            raise CheckpointError(describe_file(folder, problem, "wait for it, or choose another folder.")) from None
        yield
    finally:
        os.close(descriptor)
