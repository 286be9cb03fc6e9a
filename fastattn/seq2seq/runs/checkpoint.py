"""Checkpoints: folders of safetensors and JSON in the folder of a run, and nothing that can run code.

::

    run/checkpoint-00000123/   model.safetensors  state.safetensors  config.json  state.json
                               source.vocabulary.json  target.vocabulary.json  manifest.json
                               source.sentencepiece.model, source.tokenizer.json: of a vocabulary that is one's
    run/latest                 the name of the newest one
    run/best                   the name of the best one
"""

import json
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from fastattn import _reprs
from fastattn._arrays import Array
from fastattn._kernels.narrow import NarrowType
from fastattn._numbers import check_choice, check_size
from fastattn._printing import say
from fastattn._strings import path_name, strings
from fastattn._version import __version__
from fastattn.errors import (
    ArgumentError,
    CheckpointError,
    FastattnError,
    MissingPackageError,
    describe,
    describe_file,
    problem_of,
)
from fastattn.seq2seq.runs import durable
from fastattn.seq2seq.runs.durable import DamagedError
from fastattn.seq2seq.runs.tensors import check_finite, check_tensors, narrow, pack, unpack, widen
from fastattn.seq2seq.schema import as_table
from fastattn.seq2seq.strict_json import parse_json
from fastattn.seq2seq.text.tokenizer_files import FILES
from fastattn.seq2seq.text.vocabulary import Vocabulary

__all__ = ["Checkpoint", "average", "checksum", "load", "mark_best", "save", "steps"]

_FOLDER = re.compile(r"checkpoint-(\d{8,})(\.old)?")  # .old: see `durable.write_folder`
Which = Literal["last", "best"]
WHICH: tuple[Which, ...] = get_args(Which)
_STATE = "state.safetensors"
_VOCABULARY = ".vocabulary.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes
    ----------
    folder : Path
    step : int
    model : dict of str to array
    state : dict of str to array
        The optimizer's; empty if it was not asked for.
    config : dict
    progress : dict
        Where the training stands, from ``state.json``.
    vocabularies : dict of str to Vocabulary
    warnings : tuple of str
        Why newer checkpoints were passed over, one line each.
    stored : dict of str to str
        Of the arrays of `model` that are of a narrower type in the file: which.
    """

    folder: Path
    step: int
    model: dict[str, Array]
    state: dict[str, Array]
    config: dict[str, Any]
    progress: dict[str, Any]
    vocabularies: dict[str, Vocabulary] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    stored: dict[str, NarrowType] = field(default_factory=dict)

    __repr__ = _reprs.fields


def save(
    run: str | os.PathLike[str],
    step: int,
    *,
    model: Mapping[str, Array],
    state: Mapping[str, Array],
    config: Mapping[str, Any],
    progress: Mapping[str, Any],
    vocabularies: Mapping[str, Vocabulary],
    keep: int = 3,
    best: bool = False,
    besides: Collection[int] = (),
    stored: Mapping[str, NarrowType] | None = None,
) -> Path:
    """Write a checkpoint, whole or not at all, and remove old ones.

    Parameters
    ----------
    run : path
        Folder of the run; made if it does not exist.
    step : int
        Updates of the parameters so far. An earlier checkpoint of the same step is replaced.
    model, state : mapping of str to array
        The model's parameters, and the optimizer's arrays.
    config, progress : mapping
        JSON values: the configuration, and where the training stands.
    vocabularies : mapping of str to Vocabulary
    keep : int
        Newest checkpoints that are kept; the best one is kept besides.
    best : bool
        Whether this is the best one so far.
    besides : collection of int
        Steps whose checkpoints are kept as well.
    stored : mapping of str to {"bfloat16", "int8"}, optional
        Parameters, matrices of float32, that are written in a narrower type; `load` gives float32 numbers again.

    Returns
    -------
    Path
        The folder of the checkpoint.

    Raises
    ------
    CheckpointError
        If it cannot be written, or the run has good checkpoints of later steps, which would be loaded instead.

    Notes
    -----
    Equal contents give equal files. A damaged checkpoint of a later step is renamed to ``.damaged``.
    """
    run = Path(path_name("run", run))
    if step < 0 or keep < 1:
        expected, got = "step from 0 up and keep from 1 up", f"{step} and {keep}"
        raise ArgumentError(describe("step, keep", expected, got, "count steps from 0; keep=3 is usual."))
    files = {
        "model.safetensors": pack(narrow(model, stored or {})),
        _STATE: pack(state),
        "config.json": _json(run, "config", config),
        "state.json": _json(run, "progress", progress),
        **{name + _VOCABULARY: vocabulary.to_json().encode() for name, vocabulary in vocabularies.items()},
        **{
            f"{name}.{FILES[vocabulary.kind]}": vocabulary.model
            for name, vocabulary in vocabularies.items()
            if vocabulary.model
        },
    }
    folder = run / f"checkpoint-{step:08d}"
    try:
        os.makedirs(run, exist_ok=True)
        _clear(run, step)
    except OSError as error:
        hint = "choose a folder that you may write to."
        raise CheckpointError(describe_file(run, f"cannot be used: {(error.strerror or '').lower()}", hint)) from error
    durable.write_folder(folder, files, {"step": step, "fastattn": __version__})
    durable.write_text(run / "latest", folder.name + "\n")
    if best:
        mark_best(folder)
    _prune(run, keep, besides)
    return folder


def mark_best(folder: Path) -> None:
    """Make a checkpoint the best of its run."""
    durable.write_text(folder.parent / "best", folder.name + "\n")


def steps(run: str | os.PathLike[str]) -> list[int]:
    """Return the steps of the checkpoints in the folder of a run, in ascending order; they are not read."""
    return sorted({number for number, _ in _candidates(Path(path_name("run", run)))})


def load(run: str | os.PathLike[str], which: Which = "last", *, state: bool = True) -> Checkpoint:
    """Read the newest good checkpoint of a run, or the best.

    Parameters
    ----------
    run : path
        Folder of the run; or of one checkpoint, and then there is no falling back.
    which : {"last", "best"}
    state : bool
        Whether the optimizer's arrays are needed; they are twice as large as the model.

    Returns
    -------
    Checkpoint
        If a newer or the best one is damaged, it is the newest good one; the reason is in `warnings` and is written
        to the standard error stream.

    Raises
    ------
    CheckpointError
        In one line, if there is no good checkpoint, or one is of a newer format.
    """
    run = Path(path_name("run", run))
    which = check_choice("which", which, WHICH)
    if _FOLDER.fullmatch(run.name) or (run / "manifest.json").exists():
        return _read(run, state)
    candidates = [folder for _, folder in sorted(_candidates(run), key=lambda c: (-c[0], c[1].name))]
    if not candidates:
        problem = "has no checkpoint" if run.is_dir() else "no such folder"
        raise CheckpointError(describe_file(run, problem, "name the folder of a run that has saved one."))
    notes = []
    name = "best" if which == "best" else "latest"
    pointed = [folder for folder in candidates if folder.name == _pointed(run, name)]
    if which == "best":
        candidates = pointed + candidates
    if not pointed and (which == "best" or _pointed(run, name)):
        notes.append(f"{run / name}: {_pointed(run, name) or 'what it should name'} is missing.")
    for folder in dict.fromkeys(candidates):
        try:
            found = _read(folder, state)
        except DamagedError as error:
            notes.append(problem_of(error) + ".")
            continue
        warnings = tuple(f"{note} Using {folder.name} instead." for note in notes)
        for warning in warnings:
            say(f"fastattn: {warning}")
        return Checkpoint(**{**vars(found), "warnings": warnings})
    problem = f"none of its checkpoints is good ({' '.join(notes)})"
    raise CheckpointError(describe_file(run, problem, "restore one from a copy, or train anew in another folder."))


def checksum(folder: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a checkpoint, of its manifest, which has those of all files; the files are not read."""
    return durable.checksum(Path(path_name("folder", folder)))


def average(
    folders: Iterable[str | os.PathLike[str]], output: str | os.PathLike[str], *, last: int | None = None
) -> Checkpoint:
    """Write the mean of several checkpoints, parameter by parameter, as the checkpoint of a new run.

    Parameters
    ----------
    folders : iterable of path
        Of checkpoints, or of runs, which stand for the checkpoints that are kept in them.
    output : path
        The folder of the new run; one that has a checkpoint is refused.
    last : int, optional
        Of these checkpoints, take so many of the most steps.

    Returns
    -------
    Checkpoint
        What was written; `fastattn.seq2seq.load` takes it as any other. It has the configuration and the step of the
        one of the most steps, and no state of an optimizer, so that no run can go on from it.

    Raises
    ------
    CheckpointError
        If one is missing or damaged, or their models or vocabularies differ, by the name of the setting.

    Notes
    -----
    Sums are taken in float64 in the order of the steps, of equal steps in the order given, and the means are rounded
    once. Vaswani et al. 2017, section 6.1, take the last five checkpoints for their base models.
    """
    places = [Path(place) for place in strings("folders", [path_name("folders", each) for each in folders])]
    found = [folder for place in places for folder in _good(place)]
    found.sort(key=lambda one: one.step)
    if last is not None:
        found = found[-check_size("last", last) :]
    output = Path(path_name("output", output))
    if not found:
        raise CheckpointError(describe_file("folders", "name no checkpoint", "name runs or checkpoints."))
    if steps(output):
        raise CheckpointError(describe_file(output, "there is a checkpoint in it", "choose another folder."))
    newest = found[-1]
    for one in found:
        _check_alike(one, newest)
    model = {}
    for name, array in newest.model.items():
        total = np.zeros(array.shape)
        for one in found:
            total += one.model[name]
        model[name] = (total / len(found)).astype(array.dtype)
    averaged = {"averaged": [str(one.folder) for one in found]}
    save(output, newest.step, model=model, state={}, config=newest.config, progress=averaged,
         vocabularies=newest.vocabularies, best=True)  # fmt: skip
    return load(output)


def _good(place: Path) -> list[Checkpoint]:
    """Return the checkpoint in a folder, or all those of a run, without the states of their optimizers."""
    inside = [folder for _, folder in sorted(_candidates(place)) if folder.suffix != ".old"]
    return [_read(folder, False) for folder in inside] or [load(place, state=False)]


def _check_alike(one: Checkpoint, other: Checkpoint) -> None:
    """Raise unless two checkpoints are of one architecture with one pair of vocabularies."""
    hint = "average checkpoints of one run, or of runs with the same configuration and data."
    mine, its = (as_table(each.config.get("model", {}), "model") for each in (one, other))
    for key in sorted({*mine, *its}):
        if mine.get(key) != its.get(key):
            problem = f"has model.{key} {mine.get(key)!r}, and {other.folder} has {its.get(key)!r}"
            raise CheckpointError(describe_file(one.folder, problem, hint))
    for side in ("source", "target"):
        if one.vocabularies.get(side) != other.vocabularies.get(side):
            raise CheckpointError(describe_file(one.folder, f"has another {side} vocabulary than {other.folder}", hint))
    check_tensors(one.model, other.model, one.folder)
    check_finite(one.model, one.folder)


def _read(folder: Path, state: bool) -> Checkpoint:
    files, about = durable.read_folder(folder, skip=() if state else (_STATE,))
    try:
        model, stored = widen(unpack(files["model.safetensors"], folder / "model.safetensors"), folder)
        arrays = unpack(files[_STATE], folder / _STATE) if _STATE in files else {}
        config, progress = (as_table(parse_json(files[name]), name) for name in ("config.json", "state.json"))
        vocabularies = {
            name.removesuffix(_VOCABULARY): Vocabulary.from_json(data.decode(), _model(files, name))
            for name, data in files.items()
            if name.endswith(_VOCABULARY)
        }
        found = Checkpoint(
            folder, about["step"], model, arrays, dict(config), dict(progress), vocabularies, stored=stored,
        )  # fmt: skip
        if type(found.step) is not int or found.step < 0:
            raise ValueError(f"step {found.step!r}")
    except MissingPackageError:
        raise
    except (ValueError, KeyError, FastattnError) as error:
        problem = f"is not a checkpoint: {problem_of(error)}"
        raise DamagedError(describe_file(folder, problem, "use another checkpoint.")) from None
    name = _FOLDER.fullmatch(folder.name)
    if name and int(name[1]) != found.step:
        problem = f"is the checkpoint of step {found.step} under another name"
        raise DamagedError(describe_file(folder, problem, "give it back its name."))
    return found


def _model(files: Mapping[str, bytes], name: str) -> bytes:
    """Return the file of a tokenizer beside that of its vocabulary, b"" if there is none."""
    return next((files[file] for of in FILES.values() if (file := name.replace("vocabulary.json", of)) in files), b"")


def _candidates(run: Path) -> list[tuple[int, Path]]:
    try:
        names = os.listdir(run)
    except OSError:
        return []
    return [(int(found[1]), run / name) for name in names if (found := _FOLDER.fullmatch(name))]


def _pointed(run: Path, name: str) -> str:
    try:
        return (run / name).read_bytes()[:100].decode("ascii", "replace").strip()
    except OSError:
        return ""


def _clear(run: Path, step: int) -> None:
    """Remove what an interrupted save has left, and see to it that no later checkpoint hides the one of this step."""
    for name in os.listdir(run):
        if name.endswith(".tmp") and _FOLDER.fullmatch(name.removesuffix(".tmp")):
            durable.remove_folder(run / name)
        elif name.endswith(".old") and _FOLDER.fullmatch(name) and (run / name.removesuffix(".old")).exists():
            durable.remove_folder(run / name)
    for number, folder in _candidates(run):
        if number > step:
            try:
                durable.read_folder(folder)
            except DamagedError:
                aside = folder.with_name(folder.name + ".damaged")
                durable.remove_folder(aside)
                os.rename(folder, aside)
                continue
            problem = f"is later than step {step}, which is to be saved"
            raise CheckpointError(describe_file(folder, problem, "save to another folder, or remove it."))


def _prune(run: Path, keep: int, besides: Collection[int]) -> None:
    numbers = {*steps(run)[:-keep]}.difference(besides)
    best = _pointed(run, "best")
    for number, folder in _candidates(run):
        if number in numbers and folder.name.removesuffix(".old") != best:
            try:
                durable.remove_folder(folder)
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                say(f"fastattn: {folder}: an old checkpoint cannot be removed: {reason}.")


def _json(run: Path, name: str, content: Mapping[str, Any]) -> bytes:
    try:
        return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise CheckpointError(describe_file(run, f"{name} is no JSON: {error}", "save finite numbers only.")) from None
