"""From spelling to sound: CMUdict as Wu, Shapiro and Cotterell 2018 split it, with their small model's size."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fastattn.seq2seq import BahdanauConfig, Config, DataConfig, InferenceConfig, TrainingConfig, VocabularyConfig

from . import common

# Table 6, small, model 3: soft attention, 1.2 M parameters, greedy search, each pronunciation on its own.
PUBLISHED = {"WER": 30.8, "PER": 7.3}
SOURCE = "Wu, Shapiro, Cotterell 2018 (arXiv:1808.10024), table 6: small, soft attention, one run"


def configure(seed: int, quick: bool) -> Config:
    """Return the settings: embedding, state and dropout as published; about 110 words a step, where they had 20."""
    size = 32 if quick else 200
    return Config(
        DataConfig(train="train", validation="dev"),
        BahdanauConfig(embedding=size // 2, hidden=size, attention=size, readout_width=size, reset="after",
                       dropout=0.2, label_smoothing=0.1),
        VocabularyConfig(source="word", target="word"),
        TrainingConfig(
            seed=seed, epochs=3 if quick else 40, tokens_per_batch=1024, max_length=40, rate=0.002,
            schedule="plateau", factor=0.5, plateau_patience=1, patience=5, clip=5.0, metric="accuracy", keep=1,
            log_every=100,
        ),
        InferenceConfig(beam=1, max_length=40),
    )  # fmt: skip


def read(folder: Path) -> dict[str, common.Pairs]:
    """Return the pairs of each part."""
    return {
        part: common.read_parallel(folder / f"CMUDict.{part}.src", folder / f"CMUDict.{part}.trg")
        for part in ("train", "dev", "test")
    }


def script(arguments: argparse.Namespace) -> None:
    """Train and test with every seed."""
    data = read(arguments.data)
    if arguments.quick:
        data = {part: pairs[: 2000 if part == "train" else 200] for part, pairs in data.items()}

    def test(translator: common.Translator) -> dict[str, float]:
        return common.pronunciation_errors(translator, data["test"])

    runs = common.of_seeds(arguments, configure, data["train"], data["dev"], test)
    rows = [
        common.Row(f"CMUdict {name}, %", [found["scores"][name] for found in runs.values()], value, SOURCE)
        for name, value in PUBLISHED.items()
    ]
    for weights in arguments.weights:
        scores = [common.narrowed(folder, weights, test) for folder in runs]
        rows += [common.Row(f"{name}, matrices of {weights}", [found[name] for found in scores]) for name in PUBLISHED]
    common.report(arguments, rows, [*runs.values()], "pronunciation")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return common.run(script, common.parser_with_weights("cmudict", __doc__ or "").parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
