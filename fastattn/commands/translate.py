"""``fastattn translate``: from lines of text to lines of text."""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastattn._printing import emit, say
from fastattn.commands.arguments import (
    Commands,
    add_cache,
    add_command,
    add_model,
    at_least,
    inference,
    model_of,
    number_from,
    path,
    share,
)
from fastattn.commands.bulk import add_bulk, bulk
from fastattn.commands.lines import in_blocks, numbered_lines, typed
from fastattn.errors import ConfigError, TextError, describe_file

if TYPE_CHECKING:
    from fastattn.seq2seq.translate import Translation, Translator

__all__ = ["add", "run"]

_ABOUT = """Translate lines of UTF-8 text: one line of output for each line of input, an empty one for an empty one.

With --best N there are N lines for each, with tabs between the number of the line, the score and the text; where fewer
translations are found, as for an empty line, the others have score -inf and no text. With --json a line is an object
with the line's number, the source, and the translations found with tokens, scores and, if asked for, attention
weights. With --alternatives N the lines are as with --best N, those of the most probable first tokens first.

With -o FOLDER whole files are translated, also JSON lines (.jsonl) and Parquet (.parquet): FOLDER receives a file for
each, and bad.jsonl, which says which rows could not be used. A job that was interrupted goes on when the same command
is given again. With --engine ray, workers of Ray translate, and the files have the same bytes (docs/scale.md).

--forbid and --allow name tokens of the target vocabulary, as the model was trained with them: words, characters, or
pieces of words."""

_EXAMPLE = """
fastattn translate german < sentences.txt > translations.txt
echo "ein Hund rennt" | fastattn translate german --beam 5 --json
fastattn translate german sentences.txt -o translated
echo "ein Hund rennt" | fastattn translate german --prefix "a bad" --forbid "<unk>"
"""

_BLOCK = 512  # lines that are translated together, sorted by length


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = add_command(commands, "translate", run, help="translate lines of text", about=_ABOUT, example=_EXAMPLE)
    add_model(parser)
    parser.add_argument("file", nargs="*", metavar="FILE", help="one text a line (default: stdin); with -o several")
    parser.add_argument("--beam", type=inference("beam"), metavar="N", help="sentences kept at every step; 1 is greedy")
    parser.add_argument("--best", type=inference("beam"), metavar="N", help="translations of each line (default: 1)")
    penalties = {"length_penalty": "0 favours short sentences", "coverage_penalty": "against words left out"}
    for name, about in penalties.items():
        parser.add_argument(_flag(name), type=inference(name), metavar="X", help=about)
    parser.add_argument("--max-length", type=inference("max_length"), metavar="N", help="most tokens of a translation")
    parser.add_argument("--prefix", metavar="TEXT", help="what every translation begins with")
    parser.add_argument("--prefixes", type=path, metavar="FILE", help="the same for each line, on the lines of a file")
    for name, about in {"forbid": "a token that is not chosen", "allow": "one of the only tokens that are"}.items():
        parser.add_argument(_flag(name), action="append", metavar="TOKEN", help=f"{about} (may be given again)")
    add_cache(parser)
    parser.add_argument(
        "--alternatives", type=inference("beam"), metavar="N",
        help="N translations of each line that differ in their first token, or the first after the prefix",
    )  # fmt: skip
    parser.add_argument(
        "--replace-unknown", action="store_true", help="put the source word attended to most for an unknown one"
    )
    parser.add_argument("--sample", type=at_least(0), metavar="SEED", help="draw translations at random")
    parser.add_argument("--temperature", type=number_from(0, above=True), metavar="X", help="of --sample (default: 1)")
    parser.add_argument("--top-k", type=at_least(1), metavar="N", help="of --sample: from the N most probable tokens")
    parser.add_argument("--top-p", type=share, metavar="X", help="of --sample: from this share")
    parser.add_argument("--weights", action="store_true", help="with --json: attention weights")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    add_bulk(parser)


def run(options: argparse.Namespace) -> int:
    """Translate block by block."""
    _check(options)
    if (status := bulk(options)) is not None:
        return status
    [place] = options.file or ["-"]
    translator = model_of(options)
    limit, most = translator.config.training.max_length, translator.most_tokens
    # Somebody who types wants an answer to every line.
    size = 1 if place == "-" and typed() else _BLOCK
    prefixes = None if options.prefixes is None else numbered_lines(str(options.prefixes))
    for block in in_blocks(numbered_lines(place), size):
        texts = [text for _, text in block]
        for number, text in block:
            if not text.strip():
                say(f"fastattn translate: line {number}: empty, and so is its translation")
            elif (count := len(translator.source_vocabulary.split(text))) > limit:
                note = f"line {number}: {count} tokens, more than the {limit} of the longest training text"
                if most is not None and count > most:
                    note += f"; the first {most}, for which the model has positions, are translated"
                say(f"fastattn translate: {note}")
        prefix = [options.prefix or ""] * len(texts)
        if prefixes is not None:
            prefix = [line for _, line in itertools.islice(prefixes, len(texts))]
            if len(prefix) < len(texts):
                problem = f"has no line {block[len(prefix)][0]}, and {place} has"
                raise TextError(describe_file(options.prefixes, problem, "give a line for each, empty ones too."))
        for (number, text), found in zip(block, _translated(translator, texts, prefix, options, block[0][0])):
            for line in _shown(number, text, found, options):
                emit(line)
        sys.stdout.flush()
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raise if an option has no meaning beside the others."""
    drawing = ("temperature", "top_k", "top_p")
    searching = ("beam", "best", "length_penalty", "coverage_penalty", "replace_unknown", "alternatives")
    if options.sample is None:
        for name in drawing:
            if getattr(options, name) is not None:
                raise ConfigError(describe_file(_flag(name), "means nothing without --sample", "give --sample SEED."))
    else:
        for name in searching:
            value = getattr(options, name)
            if value is not None and value is not False:  # 0 is given, too
                raise ConfigError(describe_file(_flag(name), "means nothing with --sample", "leave out one of them."))
    if options.weights and not options.json:
        raise ConfigError(describe_file("--weights", "means nothing without --json", "give --json."))
    for one, other in (("prefixes", "prefix"), ("alternatives", "best"), ("alternatives", "weights"),
                       ("alternatives", "replace_unknown")):  # fmt: skip
        if getattr(options, one) is not None and getattr(options, other):
            problem = f"means nothing with {_flag(other)}"
            raise ConfigError(describe_file(_flag(one), problem, "leave out one of them."))
    if options.beam and options.best and options.best > options.beam:
        problem = f"a beam of {options.beam} does not find {options.best} translations"
        raise ConfigError(describe_file("--best", problem, "widen the beam."))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _translated(
    translator: "Translator", texts: Sequence[str], prefix: Sequence[str], options: argparse.Namespace, first: int
) -> "Sequence[Sequence[Translation]]":
    every: Any = {name: getattr(options, name) for name in ("max_length", "forbid", "allow", "cache")}
    searching: Any = {
        "beam": options.beam, "length_penalty": options.length_penalty, "coverage_penalty": options.coverage_penalty,
    }  # fmt: skip
    if options.alternatives is not None:
        more = {**searching, **every, "best": options.alternatives}
        return [translator.alternatives(text, prefix=start, **more) for text, start in zip(texts, prefix)]
    if options.sample is not None:
        drawn = translator.sample(
            texts, seed=options.sample, first=first, temperature=options.temperature or 1.0, top_k=options.top_k,
            top_p=options.top_p or 1.0, prefix=prefix, weights=options.weights, **every,
        )  # fmt: skip
        return [[one] for one in drawn]
    return translator.search(
        texts, best=options.best or 1, prefix=prefix, weights=options.weights, replace=options.replace_unknown,
        **searching, **every,
    )  # fmt: skip


def _shown(number: int, text: str, found: "Sequence[Translation]", options: argparse.Namespace) -> Iterator[str]:
    if options.json:
        translations = [as_json(one) for one in found]
        yield json.dumps({"line": number, "source": text, "translations": translations}, ensure_ascii=False)
    elif (count := options.alternatives or options.best or 1) > 1:
        yield from (f"{number}\t{one.score:.6f}\t{one.text}" for one in found)
        yield from [f"{number}\t-inf\t"] * (count - len(found))
    else:
        yield found[0].text


def as_json(found: "Translation") -> dict[str, Any]:
    """Return a translation as JSON values; without weights, if it has none."""
    values: dict[str, Any] = {
        "text": found.text, "score": found.score, "log_probability": found.log_probability,
        "finished": found.finished, "tokens": found.tokens, "source_tokens": found.source_tokens,
    }  # fmt: skip
    if found.weights is not None:
        values["weights"] = found.weights.astype(float).round(6).tolist()
    return values
