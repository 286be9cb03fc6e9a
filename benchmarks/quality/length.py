"""What attention is for: quality by length of the input, with and without it, beyond the lengths trained on.

Captions are joined one or two at a time to train on, and one to four at a time to test on: always the same captions,
so that the columns of a model differ by length alone. Without joined captions in training, every model would have
learnt that the first full stop is the end.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastattn.seq2seq import (
    BahdanauConfig,
    ChoConfig,
    Config,
    DataConfig,
    InferenceConfig,
    SutskeverConfig,
    TrainingConfig,
    VocabularyConfig,
)
from fastattn.seq2seq.text.metrics import bleu

from . import common, multi30k

FIGURE = common.published("bahdanau2015_figure2.csv", "length_axis")
SOURCE = "Bahdanau et al. 2015, figure 2 (WMT'14 en-fr): -30 was trained on up to 30 words, -50 on up to 50"
CURVES = ("RNNsearch-30", "RNNenc-30", "RNNsearch-50", "RNNenc-50")
LABELS = {"bahdanau": "with attention", "cho": "without (Cho 2014)", "sutskever": "without (Sutskever 2014)"}
JOINED = (1, 2, 3, 4)
BIN = 10  # words


def model(kind: str, quick: bool) -> Any:
    """Return the settings of a model; but for attention "bahdanau" and "cho" are the same."""
    size = 32 if quick else 192
    more: dict[str, Any] = {"embedding": size // 2, "hidden": size, "dropout": 0.2, "label_smoothing": 0.1}
    if kind == "bahdanau":
        return BahdanauConfig(attention=size, readout_width=size // 2, reset="after", **more)
    if kind == "cho":
        return ChoConfig(readout_width=size // 2, reset="after", bidirectional=True, **more)
    return SutskeverConfig(layers=2, reverse_source=True, **more)


def configure(kind: str, seed: int, quick: bool) -> Config:
    """Return the settings of a run; the number of steps is fixed, the same for all models."""
    size = 600 if quick else 5000
    return Config(
        DataConfig(train="train", validation="val"),
        model(kind, quick),
        VocabularyConfig(source="bpe", target="bpe", source_size=size, target_size=size),
        TrainingConfig(
            seed=seed, epochs=0, max_steps=20 if quick else 4000, tokens_per_batch=2048, max_length=120, rate=0.002,
            schedule="inverse_sqrt", warmup=10 if quick else 500, clip=5.0, validate_every=10 if quick else 500,
            checkpoint_every=0 if quick else 250, log_every=10 if quick else 100, keep=1,
        ),
        InferenceConfig(beam=5, length_penalty=1.0, max_length=250),
    )  # fmt: skip


def join(pairs: common.Pairs, at_a_time: int) -> common.Pairs:
    """Return consecutive pairs joined; those that are left over at the end are dropped."""
    return [
        (" ".join(source for source, _ in group), " ".join(target for _, target in group))
        for first in range(0, len(pairs) - at_a_time + 1, at_a_time)
        for group in [pairs[first : first + at_a_time]]
    ]


def score(translator: common.Translator, pairs: common.Pairs) -> dict[str, Any]:
    """Return BLEU by number of captions and by words of the source."""
    found: dict[str, Any] = {"joined": {}, "length": {}, "pairs": {}}
    bins: dict[int, list[tuple[str, str]]] = {}
    for count in JOINED:
        joined = join(pairs, count)
        outputs = translator.translate([source for source, _ in joined])
        found["joined"][str(count)] = _bleu(outputs, [target for _, target in joined])
        for (source, target), output in zip(joined, outputs):
            bins.setdefault((len(source.split()) - 1) // BIN, []).append((output, target))
    for number, members in sorted(bins.items()):
        outputs, targets = [output for output, _ in members], [target for _, target in members]
        found["length"][str(number)] = _bleu(outputs, targets)
        found["pairs"][str(number)] = len(members)
    return found


def _bleu(outputs: Sequence[str], targets: Sequence[str]) -> float:
    return bleu(outputs, [[target] for target in targets], tokenize="none").value


def script(arguments: argparse.Namespace) -> None:
    """Train and test every model with every seed."""
    data = {part: multi30k.read(arguments.data, part) for part in multi30k.PARTS}
    if arguments.quick:
        data = {part: pairs[: 400 if part == "train" else 24] for part, pairs in data.items()}
    learnt = {part: [pair for count in (1, 2) for pair in join(data[part], count)] for part in ("train", "validation")}
    runs = []
    for seed in arguments.seeds:
        for kind in arguments.models:
            folder = arguments.runs / f"length{'-quick' * arguments.quick}-{kind}-{seed}"
            found = common.trained(
                configure(kind, seed, arguments.quick), folder, learnt["train"], learnt["validation"],
                lambda translator: score(translator, data["test"]), f"{LABELS[kind]}, seed {seed}",
            )  # fmt: skip
            runs.append({"kind": kind, **found})
    rows = [
        common.Row(f"{LABELS[kind]}, {count} joined", _values(runs, kind, "joined", str(count)))
        for kind in arguments.models
        for count in JOINED
    ]
    print(by_length(runs, arguments.models))
    print(f"published: {SOURCE}\n")
    if arguments.plot:
        plot(runs, arguments.models, arguments.plot)
    common.report(arguments, rows, runs, "captions, BLEU (trained on 1 and 2 joined)")


def by_length(runs: list[dict[str, Any]], kinds: Sequence[str]) -> str:
    """Return the table of BLEU by words of the source, beside the published curves."""
    lines = [
        "| words of the source | pairs | " + " | ".join([*(LABELS[kind] for kind in kinds), *CURVES]) + " |",
        "|---|" + "--:|" * (1 + len(kinds) + len(CURVES)),
    ]
    for number in _bins(runs, kinds):
        cells = [f"{statistics.fmean(_values(runs, kind, 'length', number)):.1f}" for kind in kinds]
        last = (int(number) + 1) * BIN
        theirs = [row for length, row in FIGURE.items() if last - BIN < float(length) <= last]
        cells += [f"{statistics.fmean(row[curve] for row in theirs):.1f}" if theirs else "-" for curve in CURVES]
        pairs = runs[0]["scores"]["pairs"][number]
        lines.append(f"| {last - BIN + 1} to {last} | {pairs} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", "Published values are means of the curve over the range; it ends at 59."])


def plot(runs: list[dict[str, Any]], kinds: Sequence[str], path: Path) -> None:
    """Draw both: ours on the left, what was published on the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    ours, theirs = figure.subplots(1, 2)
    styles = {"bahdanau": ("#0072b2", "o-"), "cho": ("#d55e00", "s--"), "sutskever": ("#009e73", "^:")}
    for kind in kinds:
        numbers = _bins(runs, kinds)
        values = [_values(runs, kind, "length", number) for number in numbers]
        means = [statistics.fmean(each) for each in values]
        colour, style = styles[kind]
        places = [(int(number) + 0.5) * BIN for number in numbers]
        ours.plot(places, means, style, color=colour, label=LABELS[kind])
        ours.fill_between(places, [min(each) for each in values], [max(each) for each in values], color=colour,
                          alpha=0.2, linewidth=0)  # fmt: skip
    ours.set_title("Multi30K en-de, captions joined")
    lengths = [float(length) for length in FIGURE]
    for curve, colour, style in zip(CURVES, ("#0072b2", "#d55e00", "#56b4e9", "#e69f00"), ("-", "--", "-", "--")):
        theirs.plot(lengths, [row[curve] for row in FIGURE.values()], style, color=colour, label=curve)
    theirs.set_title("Bahdanau et al. 2015, figure 2 (WMT'14 en-fr)")
    for axes in (ours, theirs):
        axes.set(xlabel="words of the source", ylabel="BLEU", ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


def _bins(runs: list[dict[str, Any]], kinds: Sequence[str]) -> list[str]:
    return sorted(runs[0]["scores"]["length"], key=int)


def _values(runs: list[dict[str, Any]], kind: str, table: str, name: str) -> list[float]:
    return [found["scores"][table][name] for found in runs if found["kind"] == kind]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = common.parser("length", (__doc__ or "").splitlines()[0])
    default = ["bahdanau", "cho"]
    parser.add_argument("--models", nargs="+", choices=LABELS, default=default, help=f"default: {' '.join(default)}")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="receives the picture (PNG, SVG or PDF)")
    return common.run(script, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
