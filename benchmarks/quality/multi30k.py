"""Image captions from English to German: Multi30K, a small GRU with attention, sizes of LIUM's text-only system."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastattn.seq2seq import BahdanauConfig, Config, DataConfig, InferenceConfig, TrainingConfig, VocabularyConfig
from fastattn.seq2seq.text.metrics import bleu

from . import common

PUBLISHED = 39.00
SOURCE = "Caglayan et al. 2017 (LIUM-CVC at WMT17, text only), test 2016, one run"
PARTS = {"train": "train", "validation": "val", "test": "test_2016_flickr"}


def configure(seed: int, quick: bool) -> Config:
    """Return the settings.

    Widths and the conditional GRU as published, 4.65 M parameters. Vocabularies of the sizes that 10000 joint merges
    give on each side. One rate of dropout where they had 0.3 for embeddings and 0.5 for context and output; about 57
    pairs a step where they had 32, at a higher rate that falls; averages of the parameters and smoothed labels, but no
    layer norm and no tied embeddings.
    """
    return Config(
        DataConfig(train="train", validation="val"),
        BahdanauConfig(embedding=128, hidden=64 if quick else 256, attention=64 if quick else 512, readout_width=128,
                       conditional=True, reset="after", dropout=0.3, context_dropout=0.3,
                       label_smoothing=0.1),
        VocabularyConfig(source="bpe", target="bpe", source_size=600 if quick else 5200,
                         target_size=600 if quick else 7062),
        TrainingConfig(
            seed=seed, epochs=2 if quick else 18, tokens_per_batch=1024, max_length=80, rate=0.002,
            schedule="inverse_sqrt", warmup=1000, patience=8, average=0.999, clip=5.0, metric="bleu", keep=1,
            checkpoint_every=200, log_every=100,
        ),
        InferenceConfig(beam=6, length_penalty=1.0, max_length=80),
    )  # fmt: skip


def read(folder: Path, part: str) -> common.Pairs:
    """Return the tokenised, lower-cased pairs of a part."""
    stem = f"{PARTS[part]}.lc.norm.tok"
    return common.read_parallel(folder / f"{stem}.en", folder / f"{stem}.de")


def script(arguments: argparse.Namespace) -> None:
    """Train and test with every seed."""
    data = {part: read(arguments.data, part) for part in PARTS}
    if arguments.quick:
        data = {part: pairs[: 400 if part == "train" else 40] for part, pairs in data.items()}

    def test(translator: common.Translator) -> dict[str, Any]:
        outputs = translator.translate([source for source, _ in data["test"]])
        score = bleu(outputs, [[target] for _, target in data["test"]], tokenize="none")
        return {"BLEU": score.value, "signature": score.signature}

    runs = common.of_seeds(arguments, configure, data["train"], data["validation"], test)
    values = [found["scores"]["BLEU"] for found in runs.values()]
    rows = [common.Row("Multi30K en-de, test 2016, BLEU (tokenised, lower-cased)", values, PUBLISHED, SOURCE)]
    for weights in arguments.weights:
        values = [common.narrowed(folder, weights, test)["BLEU"] for folder in runs]
        rows.append(common.Row(f"the same models, matrices of {weights}", values))
    common.report(arguments, rows, [*runs.values()], "translation")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return common.run(script, common.parser_with_weights("multi30k", __doc__ or "").parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
