"""``fastattn quickstart``: train a small model with attention and one without, and see the difference."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastattn._printing import emit, say, show
from fastattn.commands.arguments import Commands, add_command, at_least, path

if TYPE_CHECKING:
    from fastattn.seq2seq.quickstart import Quickstart, Row
    from fastattn.seq2seq.text.pronunciation import Dictionary
    from fastattn.seq2seq.translate import Translation

__all__ = ["add", "run", "table"]

_ABOUT = """Train a model that says how English words are pronounced, and look at what it attends to.

A bidirectional GRU reads the letters, another GRU writes the phonemes, attending to the letters (Bahdanau et al.
2015); a second model is the same without attention: it has one vector for the whole word. Both learn from the CMU
Pronouncing Dictionary for the same number of steps, about two minutes in all on two cores, and are tested on words
that are not among those they learn from. The folder receives both models, a picture and a page of the attention.

A folder that has models already is used as it is; --again trains anew."""

_EXAMPLE = """
fastattn quickstart
fastattn quickstart --say "attention bahdanau"
"""

# Said when the user gives no words: two that are held out.
_WORDS = ("chromatography", "paleontology")


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = add_command(
        commands, "quickstart", run, help="train a first model in two minutes, and see its attention",
        about=_ABOUT, example=_EXAMPLE,
    )  # fmt: skip
    parser.add_argument("--say", metavar="WORDS", help="words to pronounce, separated by spaces")
    parser.add_argument(
        "--folder", type=path, default=Path("fastattn-quickstart"), help="where everything goes (default: %(default)s)"
    )
    parser.add_argument("--again", action="store_true", help="throw an earlier run away and train anew")
    parser.add_argument("--steps", type=at_least(1), default=1500, metavar="N", help="of each model (default: 1500)")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(options: argparse.Namespace) -> int:
    """Train or load, print the table, pronounce, and draw."""
    from fastattn.seq2seq.quickstart import quickstart, trained
    from fastattn.seq2seq.text.pronunciation import load_dictionary
    from fastattn.viz.heatmap import require_matplotlib

    def tell(line: str) -> None:
        if not options.quiet:
            say(line)

    require_matplotlib()  # now, not after the training
    if options.again or not trained(options.folder):
        tell(f"no models in {options.folder} yet: training two, which takes some minutes (--folder names other models)")
    dictionary = load_dictionary()
    found = quickstart(
        options.folder, again=options.again, quiet=options.quiet, tell=tell, dictionary=dictionary, steps=options.steps
    )
    if found.reused:
        tell(f"using the models in {options.folder}, which were trained before (--again trains new ones)")
    asked = (options.say or "").split() or list(_WORDS)
    words = [word.lower() for word in asked]
    said = {
        kind: translator.search(words, weights=kind == "attention") for kind, translator in found.translators.items()
    }
    spoken = [alternatives[0] for alternatives in said["attention"]]
    files = draw(options.folder, words, spoken)
    if options.json:
        emit(json.dumps(_as_json(found, words, said, files), indent=1))
        return 0
    show(*table(found.errors).split("\n"), "", "with attention, these words sound so:", "")
    columns = max(map(len, words)), max(len(translation.text) for translation in spoken)
    for word, translation in zip(words, spoken):
        show(f"  {word:{columns[0]}}  {translation.text:{columns[1]}}  {_note(word, found, dictionary)}")
    show("", f"what the model attended to in {words[0]!r}: {' '.join(str(file) for file in files)}")
    return 0


def table(errors: "dict[str, list[Row]]") -> str:
    """Return error rates by length of word, the model with attention beside the one without."""
    lines = [
        "words held out: share of phonemes (PER) and of words (WER) that are wrong",
        "",
        "                     with attention     without attention",
        "  letters   words     PER      WER        PER      WER",
    ]
    rows = list(zip(errors["attention"], errors["fixed"]))
    for attention, fixed in rows:
        lines.append(_row(f"{attention.shortest} to {attention.longest}", [attention], [fixed]))
    lines.append(_row("all", *zip(*rows)))
    return "\n".join(lines)


def _row(name: str, attention: "Sequence[Row]", fixed: "Sequence[Row]") -> str:
    from fastattn.seq2seq.text.metrics import ErrorCounts

    cells = []
    for parts in (attention, fixed):
        counts = [part.errors for part in parts]
        total = ErrorCounts(*(sum(getattr(count, field.name) for count in counts) for field in fields(ErrorCounts)))
        cells += [f"{total.rate:6.1f} %", f"{total.sequence_rate:6.1f} %"]
    return f"{name:>9} {total.count:7}  {cells[0]} {cells[1]}   {cells[2]} {cells[3]}"


def draw(folder: Path, words: Sequence[str], spoken: "Sequence[Translation]") -> list[Path]:
    """Write the picture and the page of what was attended to; return the files."""
    from fastattn import viz

    first = spoken[0]
    picture = viz.heatmap(first.map(), first.source_tokens, first.tokens, title=words[0])
    page = viz.page(first.map(), first.source_tokens, first.tokens, title=words[0])
    return [viz.save(picture, folder / "attention.png"), viz.save(page, folder / "attention.html")]


def _note(word: str, found: "Quickstart", dictionary: "Dictionary") -> str:
    """What the dictionary says, and whether the model has learnt from it."""
    part, sounds = dictionary.find(word)
    if sounds:
        return f"({'learnt from' if part == 'train' else 'held out'}: {' or '.join(sounds)})"
    letters = sorted({letter for letter in word if letter not in found.translators["attention"].source_vocabulary})
    return f"(unknown: {' '.join(letters)})" if letters else "(not in the dictionary)"


def _as_json(found: "Quickstart", words: list[str], said: dict[str, Any], files: list[Path]) -> dict[str, Any]:
    return {
        "reused": found.reused,
        "errors": {kind: [asdict(row) for row in rows] for kind, rows in found.errors.items()},
        "said": [{"word": word, **{kind: said[kind][i][0].text for kind in said}} for i, word in enumerate(words)],
        "files": [str(file) for file in files],
    }
