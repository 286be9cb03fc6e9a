"""From spelling to sound in several languages: task 1 of SIGMORPHON 2020, 3600 words of each language."""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from fastattn.seq2seq import BahdanauConfig, Config, DataConfig, InferenceConfig, TrainingConfig, VocabularyConfig

from . import common

TABLE = common.published("sigmorphon2020.csv", "language")
SOURCE = "Gorman et al. 2020, table 2: LSTM with attention, tuned for each language, beam 5"

# One language for each of five scripts: Armenian, Cyrillic, Latin, Greek, Devanagari. Chosen before any was tried.
LANGUAGES = ("arm", "bul", "fre", "gre", "hin")


def configure(seed: int, quick: bool) -> Config:
    """Return the settings, the same for all languages."""
    size = 32 if quick else 256
    return Config(
        DataConfig(train="train", validation="dev"),
        BahdanauConfig(embedding=size // 2, hidden=size, attention=size, readout_width=size // 2, reset="after",
                       dropout=0.3, label_smoothing=0.1),
        VocabularyConfig(source="char", target="word"),
        TrainingConfig(
            seed=seed, epochs=3 if quick else 60, tokens_per_batch=512, max_length=60, rate=0.001,
            schedule="plateau", factor=0.5, plateau_patience=5, patience=15, clip=1.0, metric="accuracy", keep=1,
        ),
        InferenceConfig(beam=5, length_penalty=0.0, max_length=60),
    )  # fmt: skip


def read(folder: Path, language: str) -> dict[str, common.Pairs]:
    """Return the pairs of each part of a language."""
    parts: dict[str, common.Pairs] = {}
    for part in ("train", "dev", "test"):
        path = folder / part / f"{language}_{part}.tsv"
        lines = [line.split("\t") for line in common.read_lines(path)]
        if any(len(cells) != 2 for cells in lines):
            raise OSError(f"{path} has lines without exactly one tab")
        parts[part] = [(word, sounds) for word, sounds in lines]
    return parts


def script(arguments: argparse.Namespace) -> None:
    """Train and test every language with every seed."""
    runs = []
    for seed in arguments.seeds:
        for language in arguments.languages:
            data = read(arguments.data, language)
            if arguments.quick:
                data = {part: pairs[: 400 if part == "train" else 50] for part, pairs in data.items()}
            config = configure(seed, arguments.quick)
            folder = arguments.runs / f"sigmorphon{'-quick' * arguments.quick}-{language}-{seed}"

            def test(translator: common.Translator, pairs: common.Pairs = data["test"]) -> dict[str, float]:
                return common.pronunciation_errors(translator, pairs)

            found = common.trained(config, folder, data["train"], data["dev"], test, f"{language}, seed {seed}")
            runs.append({"language": language, **found})
    rows = []
    for name in ("WER", "PER"):
        by_language = {
            language: [found["scores"][name] for found in runs if found["language"] == language]
            for language in arguments.languages
        }
        theirs = {language: TABLE[language][f"LSTM_attention_{name}"] for language in arguments.languages}
        rows += [
            common.Row(f"{language} {name}, %", values, theirs[language], SOURCE)
            for language, values in by_language.items()
        ]
        means = [statistics.fmean(values) for values in zip(*by_language.values(), strict=True)]
        rows.append(common.Row(f"**mean {name}, %**", means, statistics.fmean(theirs.values()), SOURCE))
    common.report(arguments, rows, runs, "pronunciation")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = common.parser("sigmorphon", __doc__ or "")
    parser.add_argument("--languages", nargs="+", default=list(LANGUAGES), choices=sorted(TABLE), metavar="CODE",
                        help=f"default: {' '.join(LANGUAGES)}")  # fmt: skip
    return common.run(script, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
