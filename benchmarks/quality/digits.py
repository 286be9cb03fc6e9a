"""Spoken digits in a row: attention by content and by location, on recordings of the lengths trained on and longer.

Recordings of one speaker, one digit each, are joined, three to eight at a time to train on, and up to 48 at a time to
test on. The digits of a long recording resemble each other, and a model that finds its place by content alone loses it
(Chorowski et al. 2015, arXiv:1506.07503, section 4.2). Where a digit begins and ends is known, so that attention is
compared with the truth besides.
"""

import argparse
import io
import sys
import tarfile
import wave
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn import linear
from fastattn.seq2seq import BahdanauConfig, Config, TrainingConfig, Vocabulary, greedy
from fastattn.seq2seq.text.metrics import count_errors
from fastattn.seq2seq.text.vocabulary import EOS

from . import common, frames

Array = NDArray[Any]
Recordings = Mapping[tuple[str, int, int], Array]  # (speaker, digit, number): samples in [-1, 1)

RATE, WINDOW, HOP, POINTS, BANDS = 8000, 200, 80, 256, 26  # 25 ms, every 10 ms
STACK = 3  # windows of one frame
LEARNT = (3, 8)  # digits joined to train on
TESTED = (4, 8, 16, 24, 48)
DRAWN = 24
PARTS = {"test": range(5), "validation": range(5, 10), "train": range(10, 50)}
ROUNDS = {"test": 5, "validation": 2, "train": 10}  # how often each recording is used, in other strings
VOCABULARY = Vocabulary(list("0123456789"), "char")

# Attention of each model, in the place of the decoder's own, which is that of Bahdanau et al.
MECHANISMS: dict[str, dict[str, Any] | None] = {
    "content": None,
    "location": {"name": "location_sensitive", "filters": 10, "filter_size": 31},
    "window": {"name": "location_sensitive", "filters": 10, "filter_size": 31, "window": 25},
    "monotonic": {"name": "monotonic", "offset": -1.0},
}
LABELS = {
    "content": "content (Bahdanau)",
    "location": "location-sensitive",
    "window": "the same in a window",
    "monotonic": "monotonic",
}


@dataclass(frozen=True)
class Strings:
    """Joined recordings: samples for training, where their digits end, in frames from their beginning, and features."""

    samples: frames.Samples
    ends: list[Array]
    table: Array

    def features(self) -> frames.Features:
        return frames.Features(lambda numbers: self.table[numbers], self.table.shape[1])


def read(folder: Path) -> Recordings:
    """Return the recordings of `recordings.tar.gz`."""
    found = {}
    with tarfile.open(folder / "recordings.tar.gz") as archive:
        for member in archive:
            if member.name.endswith(".wav"):
                digit, speaker, number = Path(member.name).stem.split("_")
                with wave.open(io.BytesIO(archive.extractfile(member).read())) as sound:
                    if (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) != (1, 2, RATE):
                        raise OSError(f"{member.name}: expected one channel of 16 bits at {RATE} Hz")
                    samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
                found[speaker, int(digit), int(number)] = samples.astype(np.float32) / 32768
    return dict(sorted(found.items()))


def mel_bands() -> Array:
    """Return triangles of equal width and overlap on the mel scale, from the spectrum: (POINTS / 2 + 1, BANDS)."""
    mel = 2595 * np.log10(1 + np.array([0, RATE / 2]) / 700)
    edges = 700 * (10 ** (np.linspace(*mel, BANDS + 2) / 2595) - 1)
    frequency = np.arange(POINTS // 2 + 1)[:, None] * RATE / POINTS
    rising = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    return np.maximum(np.minimum(rising, falling), 0).astype(np.float32)


def log_mel(samples: Array, bands: Array) -> Array:
    """Return frames of STACK windows side by side, (frames, STACK * BANDS); what is left over at the end is dropped."""
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    windows = windows[: len(windows) // STACK * STACK] * np.hanning(WINDOW).astype(np.float32)
    energy = np.abs(np.fft.rfft(windows, POINTS)).astype(np.float32) ** 2
    return np.log(linear.matmul(energy, bands) + np.float32(1e-6)).reshape(-1, STACK * BANDS)


def join(recordings: Recordings, part: str, counts: tuple[int, int], rounds: int) -> Iterator[list[tuple[int, Array]]]:
    """Yield strings of (digit, samples), of one speaker each; every recording of the part is used once a round.

    What is left over at a round's end is dropped.
    """
    rng = np.random.default_rng([*counts, rounds, len(part)])
    for _ in range(rounds):
        for speaker in sorted({key[0] for key in recordings}):
            own = [key for key in recordings if key[0] == speaker and key[2] in PARTS[part]]
            order, first = rng.permutation(len(own)), 0
            while first + (count := int(rng.integers(counts[0], counts[1] + 1))) <= len(own):
                yield [(own[n][1], recordings[own[n]]) for n in order[first : first + count]]
                first += count


def prepare(recordings: Recordings, part: str, counts: tuple[int, int], rounds: int) -> Strings:
    """Return the strings of a part with their features, of the joined sound."""
    bands, table = mel_bands(), [np.zeros((1, STACK * BANDS), np.float32)]
    sources, targets, ends, first = [], [], [], 1
    for string in join(recordings, part, counts, rounds):
        table.append(log_mel(np.concatenate([samples for _, samples in string]), bands))
        sources.append(np.arange(first, first + len(table[-1])))
        first += len(table[-1])
        text = "".join(str(digit) for digit, _ in string)
        targets.append(np.array([*VOCABULARY.encode(list(text)), EOS], np.int32))
        ends.append(np.cumsum([len(samples) for _, samples in string]) / (HOP * STACK))
    return Strings(frames.Samples(sources, targets), ends, np.concatenate(table))


def normalise(strings: Sequence[Strings]) -> None:
    """Shift and scale every column of all tables, in place, by mean and deviation in the first one."""
    rows = strings[0].table[1:]
    mean, deviation = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
    for each in strings:
        each.table[1:] = (each.table[1:] - mean) / deviation


def configure(mechanism: str, seed: int, quick: bool) -> Config:
    """Return the settings of a run; but for attention all are the same."""
    size = 16 if quick else 96
    return Config(
        model=BahdanauConfig(
            embedding=size, hidden=size, attention=size, readout_width=size, reset="after", conditional=True,
            dropout=0.2, context_dropout=0.2, mechanism=MECHANISMS[mechanism],
        ),
        training=TrainingConfig(
            seed=seed, epochs=0, max_steps=20 if quick else 2500, tokens_per_batch=3000, rate=0.002,
            schedule="inverse_sqrt", warmup=10 if quick else 300, clip=1.0, validate_every=10 if quick else 100,
            checkpoint_every=0 if quick else 100, log_every=10 if quick else 100, keep=1,
        ),
    )  # fmt: skip


def score(fitted: frames.Fitted, tests: Mapping[int, Strings]) -> dict[str, Any]:
    """Return for each number of digits the error rate of greedy search, and where attention is with true digits fed."""
    found: dict[str, Any] = {name: {} for name in ("errors", "emitted", "strings", "inside")}
    for count, strings in tests.items():
        fitted.model.source_embedding.features = strings.features()
        outputs, hits = [], []
        for first in range(0, len(strings.samples), 16):
            rows = range(first, min(first + 16, len(strings.samples)))
            batch = strings.samples.batch(rows)
            limit = batch.source_lengths // 4 + 5  # a digit takes 5 frames or more
            outputs += [each.tokens for each in greedy(fitted.model, batch.source, batch.source_lengths, limit=limit)]
            weights = fitted.model.teacher_forcing(batch)[1]
            hits += [inside(weights[b], strings.ends[row]) for b, row in enumerate(rows)]
        truth = [target[:-1].tolist() for target in strings.samples.targets]
        errors = count_errors([tokens.tolist() for tokens in outputs], [[digits] for digits in truth])
        found["errors"][str(count)] = errors.rate
        found["strings"][str(count)] = errors.sequence_rate
        found["emitted"][str(count)] = 100 * sum(len(tokens) for tokens in outputs) / sum(map(len, truth))
        found["inside"][str(count)] = 100 * float(np.concatenate(hits).mean())
    return found


def inside(weights: Array, ends: Array) -> Array:
    """Whether the largest weight of each step is at a frame that overlaps with the step's digit."""
    peaks = weights[: len(ends)].argmax(axis=-1)
    begins = np.concatenate([[0], ends[:-1]])
    return (peaks + 1 > begins) & (peaks < ends)


def script(arguments: argparse.Namespace) -> None:
    """Train and test every model with every seed."""
    recordings, rounds = read(arguments.data), {**ROUNDS, "test": 1, "train": 1} if arguments.quick else ROUNDS
    learnt = [prepare(recordings, part, LEARNT, rounds[part]) for part in ("train", "validation")]
    tests = {count: prepare(recordings, "test", (count, count), rounds["test"]) for count in TESTED}
    normalise([learnt[0], learnt[1], *tests.values()])
    features, samples = one_table(learnt)
    more = {"tests": {count: strings.samples.digest() for count, strings in tests.items()}}
    runs, drawn = [], {}
    for seed in arguments.seeds:
        for mechanism in arguments.models:
            config = configure(mechanism, seed, arguments.quick)
            model = frames.Reader(config, features, len(VOCABULARY))
            folder = arguments.runs / f"digits{'-quick' * arguments.quick}-{mechanism}-{seed}"
            found = frames.trained(config, folder, model, VOCABULARY, samples, lambda fitted: score(fitted, tests),
                                   f"{LABELS[mechanism]}, seed {seed}", more)  # fmt: skip
            runs.append({"mechanism": mechanism, **found})
            if arguments.plot and seed == arguments.seeds[0]:
                drawn[mechanism] = attended(frames.best(folder, model), tests[DRAWN])
    rows = [
        common.Row(f"{LABELS[mechanism]}, {count} digits", _values(runs, mechanism, "errors", count))
        for mechanism in arguments.models
        for count in TESTED
    ]
    print(by_length(runs, arguments.models))
    if arguments.plot:
        plot(drawn, tests[DRAWN], arguments.plot)
    common.report(arguments, rows, runs, f"digit error rate, % (trained on {LEARNT[0]} to {LEARNT[1]} digits)")


def one_table(strings: Sequence[Strings]) -> tuple[frames.Features, tuple[frames.Samples, frames.Samples]]:
    """Return strings to train on and to validate with, the latter's frames behind those of the former."""
    train, held_out = strings
    shift = len(train.table) - 1
    moved = frames.Samples([numbers + shift for numbers in held_out.samples.frames], held_out.samples.targets)
    table = np.concatenate([train.table, held_out.table[1:]])
    return frames.Features(lambda numbers: table[numbers], table.shape[1]), (train.samples, moved)


def by_length(runs: list[dict[str, Any]], mechanisms: Sequence[str]) -> str:
    """Return the tables of errors, and of the share of steps whose largest weight is inside of the digit."""
    tables = []
    for title, name in (
        ("digit error rate, %", "errors"), ("wrong strings, %", "strings"), ("digits emitted for 100", "emitted"),
        ("largest weight inside of its digit, %", "inside"),
    ):  # fmt: skip
        lines = [
            f"| {title} | " + " | ".join(f"{count} digits" for count in TESTED) + " |",
            "|---|" + "--:|" * len(TESTED),
        ]
        for mechanism in mechanisms:
            rows = [common.Row("", _values(runs, mechanism, name, count)) for count in TESTED]
            cells = [f"{row.mean:.2f}" + (f" +- {row.spread:.2f}" if row.spread is not None else "") for row in rows]
            lines.append(f"| {LABELS[mechanism]} | " + " | ".join(cells) + " |")
        tables.append("\n".join(lines))
    return "\n\n".join(tables) + "\n"


def attended(model: frames.Reader, strings: Strings) -> tuple[Array, Array]:
    """Return what greedy search emits for the first string, and the weights (steps, frames)."""
    model.source_embedding.features = strings.features()
    batch = strings.samples.batch([0])
    [found] = greedy(model, batch.source, batch.source_lengths, limit=batch.source_lengths // 4 + 5, weights=True)
    return found.tokens, found.weights


def plot(drawn: Mapping[str, tuple[Array, Array]], strings: Strings, path: Path) -> None:
    """Draw the weights of each mechanism for one string, with the true ends of its digits."""
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7 * len(drawn), 4.5), layout="constrained")
    axes = figure.subplots(1, len(drawn), squeeze=False)[0]
    truth, ends = VOCABULARY.decode(strings.samples.targets[0][:-1]), strings.ends[0]
    seconds = HOP * STACK / RATE
    shades = PowerNorm(0.5, 0, max(float(weights.max()) for _, weights in drawn.values()))  # small weights are seen
    for ax, (mechanism, (tokens, weights)) in zip(axes, drawn.items()):
        extent = (0, weights.shape[1] * seconds, len(weights), 0)
        ax.imshow(weights, aspect="auto", cmap="Greys", norm=shades, extent=extent, interpolation="nearest")
        for end in ends[:-1]:
            ax.axvline(end * seconds, color="#0072b2", linewidth=0.5)
        names = [*VOCABULARY.decode(tokens), "end"][: len(weights)]
        ax.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=7)
        middles = (np.concatenate([[0], ends[:-1]]) + ends) / 2 * seconds
        above = ax.secondary_xaxis("top")
        above.set_xticks(middles, truth, fontsize=7)
        above.tick_params(length=0)
        edits = count_errors([tokens.tolist()], [[strings.samples.targets[0][:-1].tolist()]]).edits
        ax.set_title(f"{LABELS[mechanism]}: {edits} errors in {len(truth)} digits")
        ax.set(xlabel="seconds", ylabel="digits emitted")
    figure.savefig(path, dpi=120)


def _values(runs: list[dict[str, Any]], mechanism: str, table: str, count: int) -> list[float]:
    return [found["scores"][table][str(count)] for found in runs if found["mechanism"] == mechanism]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = common.parser("digits", (__doc__ or "").splitlines()[0])
    default = ["content", "location"]
    parser.add_argument("--models", nargs="+", choices=LABELS, default=default, help=f"default: {' '.join(default)}")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="receives weights of the first seed (PNG, SVG, PDF)")
    return common.run(script, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
