"""``fastattn evaluate``: translate a test set and compare with its references."""

import argparse
import json

from fastattn._printing import emit, say, show
from fastattn.commands.arguments import Commands, add_cache, add_command, add_model, inference, model_of, path
from fastattn.commands.lines import add_pairs, pairs_of
from fastattn.commands.outputs import check_output

__all__ = ["add", "run"]

_METRICS = ("bleu", "chrf", "wer", "per", "accuracy")

_ABOUT = """Translate sources and compare with their targets: BLEU and chrF by sacrebleu, with the signature that one
must know to compare them; WER, edits per word; PER, edits per token of the target vocabulary (phoneme, character,
piece); accuracy, the share of lines that are exactly right. All are in percent.

With --group, pairs of the same source are one source with several references, as in lists of pronunciations, where
the usual word error rate is 100 minus the accuracy."""

_EXAMPLE = """
fastattn evaluate german test.tsv
paste test.de test.en | fastattn evaluate german --beam 1 --json
fastattn evaluate sounds test.tsv --group --metric per accuracy
"""


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = add_command(
        commands, "evaluate", run, help="translate a test set and compare with its references",
        about=_ABOUT, example=_EXAMPLE,
    )  # fmt: skip
    add_model(parser)
    add_pairs(parser)
    parser.add_argument("--metric", nargs="+", choices=_METRICS, metavar="NAME", help=f"some of {', '.join(_METRICS)}")
    parser.add_argument("--group", action="store_true", help="pairs of the same source are several references of one")
    parser.add_argument("--beam", type=inference("beam"), metavar="N", help="sentences kept at every step; 1 is greedy")
    add_cache(parser)
    parser.add_argument("--translations", type=path, metavar="FILE", help="write the translations there")
    parser.add_argument("--json", action="store_true", help="as one JSON object")


def run(options: argparse.Namespace) -> int:
    """Translate, compare, print."""
    from fastattn.seq2seq.search.evaluation import evaluate, require
    from fastattn.seq2seq.text.metrics import group_references

    # BLEU and chrF want as many references for one source as for another.
    metrics = options.metric or (("per", "accuracy") if options.group else _METRICS)
    require(metrics)
    translator = model_of(options)
    pairs = pairs_of(options)
    if options.translations:
        check_output(options.translations, options.file, options.target, options.folder)
        options.translations.open("a").close()  # a path that cannot be written is an error before the work, not after
    if options.group:
        groups = group_references(pairs.sources, pairs.targets)
        sources, references = list(groups), list(groups.values())
    else:
        sources, references = pairs.sources, [[target] for target in pairs.targets]
    if (most := translator.most_tokens) is not None:
        cut = sum(len(translator.source_vocabulary.split(source)) > most for source in sources)
        if cut:
            longer = f"{cut} of {len(sources)} sources are longer than the {most} tokens"
            say(f"fastattn evaluate: {longer} for which the model has positions; only their beginnings are translated")
    outputs = translator.translate(sources, beam=options.beam, cache=options.cache)
    if options.translations:
        options.translations.write_text("".join(f"{output}\n" for output in outputs), encoding="utf-8")
    scores = evaluate(outputs, references, translator.target_vocabulary, metrics)
    if options.json:
        values = {name: {"value": score.value, "signature": score.signature} for name, score in scores.items()}
        emit(json.dumps({"lines": len(sources), **values}, indent=1))
    else:
        for score in scores.values():
            show(score)
    return 0
