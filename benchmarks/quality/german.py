"""German to English as docs/training.md does it, by its configuration and its commands: Multi30K in sentencepieces."""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from . import common

PUBLISHED = 28.30
SOURCE = (
    "bentrevett/pytorch-seq2seq @b3cd54c, GRU with additive attention, 20.5 M parameters, test 2016; its BLEU is of "
    "lower-cased words and greedy translations, that of `fastattn evaluate` of whole texts in their own case"
)
PARTS = {"train": "train", "validation": "val", "test": "test_2016_flickr"}
DOCUMENT = Path(__file__).parents[2] / "docs" / "training.md"
SMALL = {"256": "8", "8000": "600", "epochs = 20": "epochs = 1"}  # for --quick


def configuration(quick: bool) -> str:
    """Return the first configuration of the document."""
    text = re.findall(r"^```toml\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)[0]
    for old, new in SMALL.items() if quick else ():
        text = text.replace(old, new)
    return text


def script(arguments: argparse.Namespace) -> None:
    """Write the files that the document speaks of, and run its commands beside them."""
    here = arguments.runs / f"german{'-quick' * arguments.quick}"
    here.mkdir(parents=True, exist_ok=True)
    for part, stem in PARTS.items():
        pairs = common.read_parallel(arguments.data / f"{stem}.de", arguments.data / f"{stem}.en")
        pairs = pairs[: 400 if part == "train" else 40] if arguments.quick else pairs
        (here / f"{part}.tsv").write_text("".join(f"{german}\t{english}\n" for german, english in pairs), "utf-8")
    (here / "german.toml").write_text(configuration(arguments.quick))
    command = [sys.executable, "-m", "fastattn"]
    subprocess.run([*command, "train", "german.toml", "--resume"], cwd=here, check=True)
    evaluate = [*command, "evaluate", "german", "test.tsv", "--json"]
    found = json.loads(subprocess.run(evaluate, cwd=here, check=True, stdout=subprocess.PIPE).stdout)
    row = common.Row("Multi30K de-en, test 2016, BLEU", [found["bleu"]["value"]], PUBLISHED, SOURCE)
    print(common.table([row], "by the commands of docs/training.md"))
    print(found["bleu"]["signature"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.quality.german", description=__doc__)
    made.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="{train,val,test_2016_flickr}.{de,en}")
    made.add_argument("--runs", type=Path, required=True, metavar="FOLDER", help="for the model and its data")
    made.add_argument("--quick", action="store_true", help="a tiny model and few samples: shows that it runs")
    try:
        return common.run(script, made.parse_args(argv))
    except subprocess.CalledProcessError as error:  # which has said why
        return error.returncode


if __name__ == "__main__":
    sys.exit(main())
