"""Inflected forms of words: task 1 of SIGMORPHON 2017, with soft, hard, local, monotonic and sparse attention."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastattn.seq2seq import (
    BahdanauConfig,
    Config,
    DataConfig,
    InferenceConfig,
    TrainingConfig,
    VocabularyConfig,
    WuConfig,
)
from fastattn.seq2seq.text.metrics import count_errors

from . import common

TABLE = common.published("wu2018_table8.csv", "language")
SOURCE = "Wu, Shapiro, Cotterell 2018 (arXiv:1808.10024), table 8, one run: "

# Of different kinds: Uralic with much inflection, fusional, Athabaskan with prefixes, Romance, agglutinative. Chosen
# before any was tried.
LANGUAGES = ("finnish", "german", "navajo", "spanish", "turkish")

# The mechanism of the Bahdanau model, and the published model that is closest to it; "exact" has a model of its own.
MECHANISMS: dict[str, tuple[Mapping[str, Any] | None, str, str]] = {
    "soft": (None, "soft", "soft, input feeding"),
    "hard": ({"name": "hard", "training": "gumbel"}, "hard_reinforce", "hard, REINFORCE, input feeding"),
    "exact": (None, "hard_exact", "hard, exact marginal likelihood"),
    "local_p": ({"name": "local_p", "window": 10, "score": "concat"}, "", ""),
    "monotonic": ({"name": "monotonic", "offset": -1.0, "noise": 1.0}, "monotonic", "hard monotonic, given alignments"),
    "sparse": ({"name": "bahdanau", "normalizer": "entmax15"}, "", ""),
}  # fmt: skip


def configure(mechanism: str, seed: int, quick: bool) -> Config:
    """Return the settings, the same for all languages and mechanisms: what takes minutes on one core."""
    size = 32 if quick else 128
    model: Any = BahdanauConfig(
        embedding=size // 2, hidden=size, attention=size, readout_width=size // 2, reset="after", dropout=0.2,
        label_smoothing=0.1, mechanism=MECHANISMS[mechanism][0],
    )  # fmt: skip
    if mechanism == "exact":
        model = WuConfig(embedding=size // 2, hidden=size, readout_width=size, dropout=0.2)
    return Config(
        DataConfig(train="train", validation="dev"),
        model,
        VocabularyConfig(source="word", target="word"),
        TrainingConfig(
            seed=seed, epochs=2 if quick else 10, tokens_per_batch=512, max_length=80, rate=0.002, clip=5.0,
            average=0.998, metric="accuracy", keep=1, log_every=100,
        ),
        InferenceConfig(beam=1, max_length=80),
    )  # fmt: skip


def symbols(word: str) -> str:
    """Return the letters of a word as tokens; a space is one of them."""
    return " ".join("<space>" if letter == " " else letter for letter in word)


def read(folder: Path, language: str) -> dict[str, common.Pairs]:
    """Return the pairs of each part of a language: tags and letters of the lemma, and letters of the form."""
    parts: dict[str, common.Pairs] = {}
    for part, name in (("train", "train-high"), ("dev", "dev"), ("test", "test")):
        path = folder / f"{language}-{name}"
        lines = [line.split("\t") for line in common.read_lines(path)]
        if any(len(cells) != 3 for cells in lines):
            raise OSError(f"{path} has lines without exactly two tabs")
        parts[part] = [
            (" ".join([*(f"<{tag}>" for tag in tags.split(";")), symbols(lemma)]), symbols(form))
            for lemma, form, tags in lines
        ]
    return parts


def scores_of(translator: common.Translator, pairs: common.Pairs) -> dict[str, float]:
    """Return the share of right forms in percent, and the mean edit distance (MLD)."""
    outputs = translator.translate([source for source, _ in pairs])
    counts = count_errors([output.split() for output in outputs], [[form.split()] for _, form in pairs])
    return {"accuracy": counts.accuracy, "MLD": counts.edits / counts.count}


def script(arguments: argparse.Namespace) -> None:
    """Train and test every language with every mechanism and seed."""
    runs = []
    for seed in arguments.seeds:
        for language in arguments.languages:
            data = read(arguments.data, language)
            if arguments.quick:
                data = {part: pairs[: 400 if part == "train" else 50] for part, pairs in data.items()}
            for mechanism in arguments.mechanisms:
                config = configure(mechanism, seed, arguments.quick)
                folder = arguments.runs / f"inflection{'-quick' * arguments.quick}-{language}-{mechanism}-{seed}"

                def test(translator: common.Translator, pairs: common.Pairs = data["test"]) -> dict[str, float]:
                    return scores_of(translator, pairs)

                label = f"{language}, {mechanism}, seed {seed}"
                found = common.trained(config, folder, data["train"], data["dev"], test, label)
                runs.append({"language": language, "mechanism": mechanism, **found})
    rows = []
    for language in arguments.languages:
        for mechanism in arguments.mechanisms:
            _, key, what = MECHANISMS[mechanism]
            own = [run["scores"] for run in runs if (run["language"], run["mechanism"]) == (language, mechanism)]
            for name, column, unit in (("accuracy", "ACC", ", %"), ("MLD", "MLD", "")):
                value = TABLE[language][f"{key}_{column}"] if key else None
                title = f"{language} {mechanism} {name}{unit}"
                rows.append(common.Row(title, [found[name] for found in own], value, SOURCE + what if key else ""))
    common.report(arguments, rows, runs, "inflection")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = common.parser("inflection", __doc__ or "")
    parser.add_argument("--languages", nargs="+", default=list(LANGUAGES), choices=sorted(TABLE), metavar="NAME",
                        help=f"default: {' '.join(LANGUAGES)}")  # fmt: skip
    parser.add_argument("--mechanisms", nargs="+", default=list(MECHANISMS), choices=list(MECHANISMS), metavar="NAME",
                        help=f"default: {' '.join(MECHANISMS)}")  # fmt: skip
    return common.run(script, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
