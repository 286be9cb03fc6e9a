"""Drawings and their pen paths: attention over a 2-D grid, beside the place where the pen truly was.

A model reads a drawing as 15 x 15 windows and writes the cells that the pen passed, in order. Every step has a true
place, that of the pen, so that the map of attention at that step is right or wrong; the same model is trained without
knowing where its windows are. Characters are those of training, drawn by other people.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn.losses import log_softmax
from fastattn.seq2seq import BahdanauConfig, Config, TrainingConfig, Vocabulary
from fastattn.seq2seq.models.sentences import decoder_inputs
from fastattn.seq2seq.text.vocabulary import EOS, SPECIAL

from . import common, frames

Array = NDArray[Any]

SIZE, CELL, GRID = 105, 7, 15  # of a picture and a cell, in pixels; cells in a row
WINDOW = 3 * CELL  # what the model sees of a cell: with its neighbours
STRIDE = 8  # pixels from point to point of a path
CELLS = GRID * GRID
PARTS = {"train": range(1, 15), "validation": range(15, 16), "test": range(16, 21)}  # the people who drew
VOCABULARY = Vocabulary(f"{cell // GRID},{cell % GRID}" for cell in range(CELLS))
LABELS = {"places": "positions", "none": "no positions"}


@dataclass(frozen=True)
class Drawings:
    """Pictures (N, 105, 105), 1 is ink, and the cells of their pen paths."""

    pictures: Array
    paths: list[Array]
    drawers: Array

    def samples(self, part: str, count: int | None = None) -> frames.Samples:
        """Return the drawings of a part: cell c of drawing k is frame 1 + k CELLS + c."""
        rows = np.flatnonzero(np.isin(self.drawers, PARTS[part]))[:count]
        targets = [np.array([*(self.paths[row] + len(SPECIAL)), EOS], np.int32) for row in rows]
        return frames.Samples([1 + row * CELLS + np.arange(CELLS) for row in rows], targets)

    def features(self, places: Array | None) -> frames.Features:
        """Return the windows of cells, with or without the places of these."""
        padded = np.pad(self.pictures, ((0, 0), (CELL, CELL), (CELL, CELL)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (WINDOW, WINDOW), axis=(1, 2))[:, ::CELL, ::CELL]

        def look_up(numbers: Array) -> Array:
            drawing, cell = np.divmod(np.maximum(numbers, 1) - 1, CELLS)
            found = windows[drawing, cell // GRID, cell % GRID].astype(np.float32)
            return found.reshape(*numbers.shape, WINDOW * WINDOW) * (numbers > 0)[..., None].astype(np.float32)

        if places is None:
            return frames.Features(look_up, WINDOW * WINDOW)
        return frames.Features(look_up, WINDOW * WINDOW, lambda numbers: places[(np.maximum(numbers, 1) - 1) % CELLS])


def read(folder: Path) -> Drawings:
    """Return the drawings of `omniglot_small1.npz`."""
    with np.load(folder / "omniglot_small1.npz", allow_pickle=False) as data:
        pictures = np.unpackbits(data["images"], axis=-1)[..., :SIZE]
        points, offsets, drawers = data["points"], data["offsets"], data["drawer"]
    paths = [cells(points[first:last]) for first, last in itertools.pairwise(offsets)]
    return Drawings(pictures, paths, drawers)


def cells(points: Array) -> Array:
    """Return the cells of points (x, y, time, stroke) that follow each other at about STRIDE pixels on each stroke.

    A cell is row x GRID + column; points outside of the picture are in its nearest cell, and of points in one cell that
    follow each other the first is kept.
    """
    found = []
    for stroke in np.unique(points[:, 3]):
        x, y = points[points[:, 3] == stroke, :2].T.astype(np.float64)
        along = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
        at = np.linspace(0, along[-1], max(round(along[-1] / STRIDE), 1) + 1)
        column, row = (np.clip(np.interp(at, along, each) // CELL, 0, GRID - 1).astype(int) for each in (x, y))
        found.append(row * GRID + column)
    path = np.concatenate(found)
    return path[np.concatenate([[True], np.diff(path) != 0])]


def grid_places(width: int) -> Array:
    """Return sines and cosines of row and of column, (CELLS, width): wave lengths from 2 pi to 20 pi cells."""
    half = width // 4
    angles = np.arange(GRID)[:, None] * 10.0 ** (-np.arange(half) / max(half - 1, 1))
    line = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    rows, columns = np.repeat(line, GRID, axis=0), np.tile(line, (GRID, 1))
    return np.concatenate([rows, columns], axis=-1).astype(np.float32)


def configure(seed: int, quick: bool) -> Config:
    """Return the settings of a run."""
    size = 16 if quick else 96
    return Config(
        model=BahdanauConfig(
            embedding=size, hidden=size, attention=size, readout_width=size, reset="after", conditional=True,
            dropout=0.2, context_dropout=0.1,
        ),
        training=TrainingConfig(
            seed=seed, epochs=0, max_steps=20 if quick else 2400, tokens_per_batch=24 * CELLS, rate=0.002,
            schedule="inverse_sqrt", warmup=10 if quick else 300, clip=1.0, validate_every=10 if quick else 100,
            checkpoint_every=0 if quick else 100, log_every=10 if quick else 100, keep=1,
        ),
    )  # fmt: skip


def steps(model: frames.Reader, samples: frames.Samples) -> Iterator[tuple[Array, Array, Array]]:
    """Yield for each drawing its path, and for each step from a cell to the next the log-probabilities of all cells
    and the weights (steps, CELLS), with true cells fed."""
    for first in range(0, len(samples), 24):
        batch = samples.batch(range(first, min(first + 24, len(samples))))
        x, weights = model.features(batch, decoder_inputs(batch), weights=True)
        for b, length in enumerate(batch.target_lengths - 1):
            path = batch.target[b, :length] - len(SPECIAL)
            log_p = log_softmax(model.projection.forward(x[b, 1:length]))[:, len(SPECIAL) :]
            yield path, log_p, weights[b, 1:length]


def near(one: Array, other: Array) -> Array:
    """Whether cells are the same or neighbours, diagonal ones included."""
    rows, columns = np.abs(one // GRID - other // GRID), np.abs(one % GRID - other % GRID)
    return np.maximum(rows, columns) <= 1


def score(fitted: frames.Fitted, samples: frames.Samples) -> dict[str, Any]:
    """Return in percent of the steps from one cell to the next: where the largest weight is, what is predicted."""
    found: dict[str, list[Array]] = {}
    for path, log_p, weights in steps(fitted.model, samples):
        of_path = places(path, weights.argmax(axis=-1))
        predicted = log_p.argmax(axis=-1)
        of_path |= {"predicted": predicted == path[1:], "predicted near": near(predicted, path[1:])}
        for name, values in of_path.items():
            found.setdefault(name, []).append(values)
    return {name: 100 * float(np.concatenate(values).mean()) for name, values in found.items()}


def places(path: Array, peaks: Array) -> dict[str, Array]:
    """Return which cells, one for each step from a cell of the path to the next, are where the pen is."""
    now, then = path[:-1], path[1:]
    return {
        "now": peaks == now, "next": peaks == then, "now or next": (peaks == now) | (peaks == then),
        "near now": near(peaks, now), "near next": near(peaks, then),
    }  # fmt: skip


def chance(drawings: Drawings, samples: frames.Samples) -> dict[str, dict[str, float]]:
    """Return what a cell drawn at random would be, of all and of those with ink, in percent."""
    tiles = drawings.pictures.reshape(-1, GRID, CELL, GRID, CELL)
    inked = tiles.any(axis=(2, 4)).reshape(-1, CELLS)
    found: dict[str, dict[str, list[Array]]] = {"any": {}, "ink": {}}
    for numbers, target in zip(samples.frames, samples.targets):
        path = target[:-1] - len(SPECIAL)
        for kind, among in (("any", np.arange(CELLS)), ("ink", np.flatnonzero(inked[(numbers[0] - 1) // CELLS]))):
            for name, values in places(path, among[:, None]).items():
                found[kind].setdefault(name, []).append(values.mean(axis=0))
    return {
        kind: {name: 100 * float(np.concatenate(values).mean()) for name, values in of_kind.items()}
        for kind, of_kind in found.items()
    }


def script(arguments: argparse.Namespace) -> None:
    """Train and test both models with every seed."""
    drawings = read(arguments.data)
    learnt = tuple(drawings.samples(part, 48 if arguments.quick else None) for part in ("train", "validation"))
    test = drawings.samples("test", 24 if arguments.quick else None)
    runs = []
    for seed in arguments.seeds:
        config = configure(seed, arguments.quick)
        for kind in arguments.models:
            given = grid_places(config.model.embedding) if kind == "places" else None
            model = frames.Reader(config, drawings.features(given), len(VOCABULARY), separate=True)
            folder = arguments.runs / f"drawings{'-quick' * arguments.quick}-{kind}-{seed}"
            found = frames.trained(config, folder, model, VOCABULARY, learnt, lambda fitted: score(fitted, test),
                                   f"{LABELS[kind]}, seed {seed}", {"test": test.digest(), "model": kind})  # fmt: skip
            runs.append({"kind": kind, **found})
    rows = [
        common.Row(f"{LABELS[kind]}, {name}", _values(runs, kind, name)) for kind in arguments.models for name in SHOWN
    ]
    print(compared(runs, arguments.models, chance(drawings, test)))
    common.report(arguments, rows, runs, "pen paths, % of steps")


SHOWN = {
    "now": "largest weight in the pen's cell",
    "next": "in the cell that is to be predicted",
    "now or next": "in one of the two",
    "near now": "within one cell of the pen's",
    "near next": "within one cell of that to be predicted",
    "predicted": "cell predicted",
    "predicted near": "within one cell of it predicted",
}


def compared(runs: list[dict[str, Any]], kinds: Sequence[str], drawn: Mapping[str, Mapping[str, float]]) -> str:
    """Return the table of all figures, beside those of cells drawn at random."""
    heads = [*(LABELS[kind] for kind in kinds), "random cell", "random cell with ink"]
    lines = ["| % of steps | " + " | ".join(heads) + " |", "|---|" + "--:|" * len(heads)]
    for name, label in SHOWN.items():
        rows = [common.Row("", _values(runs, kind, name)) for kind in kinds]
        cells = [f"{row.mean:.1f}" + (f" +- {row.spread:.1f}" if row.spread is not None else "") for row in rows]
        cells += [f"{drawn[kind][name]:.1f}" if name in drawn[kind] else "-" for kind in ("any", "ink")]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _values(runs: list[dict[str, Any]], kind: str, name: str) -> list[float]:
    return [found["scores"][name] for found in runs if found["kind"] == kind]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = common.parser("drawings", (__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=LABELS, default=list(LABELS), help="default: both")
    return common.run(script, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
