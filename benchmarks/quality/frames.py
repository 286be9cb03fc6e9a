"""Models whose source is not text: the rows of any features stand where the embeddings of tokens would stand.

A source is still a row of numbers, one for each frame; a function says what features the frames of these numbers have.
So batches, training, checkpoints and search are those of every other model.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn.errors import CheckpointError, describe_file
from fastattn.functional import tanh
from fastattn.layers import Layer, Linear
from fastattn.seq2seq import Bahdanau, Batch, Batches, Config, Outcome, Vocabulary, checkpoint
from fastattn.seq2seq.runs.progress import Progress
from fastattn.seq2seq.runs.tensors import restore
from fastattn.seq2seq.runs.training import Run
from fastattn.seq2seq.text.batches import pad
from fastattn.seq2seq.text.corpus import Corpus

from . import common

Array = NDArray[Any]
Back = Callable[[Array], Any]


@dataclass(frozen=True)
class Samples:
    """Frames and targets, one array of numbers for each sample; 0 is no frame."""

    frames: list[Array]
    targets: list[Array]

    def __len__(self) -> int:
        return len(self.frames)

    def batch(self, rows: Sequence[int]) -> Batch:
        """Return some samples side by side."""
        source, target = pad([self.frames[row] for row in rows]), pad([self.targets[row] for row in rows])
        return Batch(*source, *target, np.asarray(rows, np.int64))

    def digest(self) -> str:
        """Return a SHA-256 of all numbers."""
        digest = hashlib.sha256()
        for side in (self.frames, self.targets):
            for numbers in side:
                digest.update(len(numbers).to_bytes(8, "little") + numbers.astype("<i4").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Features:
    """What frames are: `look_up` returns (..., width) for numbers (...), and zeros for 0.

    `places` returns what is added to the projected features, (..., E), if anything: where the frames are.
    """

    look_up: Callable[[Array], Array]
    width: int
    places: Callable[[Array], Array] | None = None


class Projected(Layer):
    """Stands for an embedding: ``features(numbers) w + b + places(numbers)``."""

    def __init__(self, features: Features, outputs: int, *, rng: np.random.Generator, dtype: Any) -> None:
        self.features = features
        self.project = Linear(features.width, outputs, rng=rng, dtype=dtype)

    def forward(self, numbers: Array) -> Array:
        return self.vjp(numbers)[0]

    def vjp(self, numbers: Array) -> tuple[Array, Back]:
        y, backward = self.project.vjp(self.features.look_up(numbers))
        if self.features.places is not None:
            y += self.features.places(numbers)
        return y, backward


class Separate(Layer):
    """Stands for a recurrent encoder: every frame alone, ``tanh(tanh(x) w + b)``; the last state is their mean."""

    def __init__(self, inputs: int, outputs: int, *, rng: np.random.Generator, dtype: Any) -> None:
        self.affine = Linear(inputs, outputs, rng=rng, dtype=dtype)

    def forward(self, x: Array, state: None, lengths: Array) -> tuple[Array, Array]:
        return self.vjp(x, state, lengths)[:2]

    def vjp(self, x: Array, state: None, lengths: Array) -> tuple[Array, Array, Callable[[Array, Array], Any]]:
        inner = tanh(x)
        y, affine_back = self.affine.vjp(inner)
        y = tanh(y)
        inside = np.arange(y.shape[1]) < np.asarray(lengths)[:, None]
        share = (inside / np.asarray(lengths)[:, None]).astype(y.dtype)[..., None]
        mean = np.zeros_like(y[:, 0])
        for position in range(y.shape[1]):  # in ascending order, whatever the batch
            mean += y[:, position] * share[:, position]

        def backward(dy: Array, d_last: Array) -> tuple[Array]:
            d_inner = affine_back((dy + d_last[:, None] * share) * (1 - y * y))
            return (d_inner * (1 - inner * inner),)

        return y, mean, backward


class Reader(Bahdanau):
    """The model of Bahdanau et al. 2015, any attention variant included, that reads frames.

    `separate` leaves out the recurrence of the encoder, which tells each position about its neighbours and, in passing,
    where it is.
    """

    def __init__(self, config: Config, features: Features, targets: int, *, separate: bool = False) -> None:
        rng, settings = np.random.default_rng(config.training.seed), config.model
        super().__init__(settings, 1, targets, rng=rng)
        more: dict[str, Any] = {"rng": rng, "dtype": np.float32}
        self.source_embedding: Any = Projected(features, settings.embedding, **more)
        if separate:
            self.encoder: Any = Separate(settings.embedding, 2 * settings.hidden, **more)


@dataclass
class Fitted:
    """A trained model."""

    model: Reader
    vocabulary: Vocabulary


def trained(
    config: Config,
    folder: Path,
    model: Reader,
    vocabulary: Vocabulary,
    samples: tuple[Samples, Samples],
    test: Callable[[Fitted], dict[str, Any]],
    label: str,
    more: dict[str, Any],
) -> dict[str, Any]:
    """As `common.trained`, for samples to train on and to validate with; `more` is what else makes the run."""
    asked = {"config": config.to_dict(), "data": [each.digest() for each in samples], **more}

    def work() -> tuple[Outcome, Fitted]:
        return fit(config, folder, model, vocabulary, samples, label), Fitted(model, vocabulary)

    return common.recorded(folder, asked, label, work, test)


def fit(
    config: Config, folder: Path, model: Reader, vocabulary: Vocabulary, samples: tuple[Samples, Samples], label: str
) -> Outcome:
    """Train the model, from where the folder stands, and leave it as it was at the best validation."""
    settings = config.training
    train, held_out = (
        Batches(each.frames, each.targets, tokens_per_batch=settings.tokens_per_batch, seed=settings.seed, shuffle=turn)
        for each, turn in zip(samples, (True, False))
    )
    digest = samples[0].digest() + samples[1].digest()
    run = Run(model, Corpus(vocabulary, vocabulary, train, held_out, None, (), digest), config, folder, _save)
    folder.mkdir(parents=True, exist_ok=True)
    progress = Progress(label=label)
    if checkpoint.steps(folder):
        found = checkpoint.load(folder)
        if found.config != _plain(config):
            problem = "the run began with another configuration"
            raise CheckpointError(describe_file(folder, problem, "choose another folder for --runs."))
        restore(run.parameters, found.model, found.folder)
        run.load_state(found.progress, found.state)
    progress.begin(run.position.step, settings.max_steps)
    outcome = run.run(progress)
    best(folder, model)
    return outcome


def best(folder: Path, model: Reader) -> Reader:
    """Return the model with the parameters of the best validation."""
    found = checkpoint.load(folder, "best", state=False)
    restore(model.parameters(), found.model, found.folder)
    return model


def _save(run: Run, best: bool) -> None:
    checkpoint.save(
        run.folder, run.position.step, model=run.weights(), state=run.arrays(), config=_plain(run.config),
        progress=run.state(), vocabularies={"target": run.corpus.target_vocabulary}, keep=1, best=best,
    )  # fmt: skip


def _plain(config: Config) -> dict[str, Any]:
    return common.plain(config.to_dict())
