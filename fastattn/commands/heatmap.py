"""``fastattn heatmap``: a picture of what a model attends to."""

import argparse

from fastattn._printing import emit
from fastattn.commands.arguments import Commands, add_command, add_model, model_of, path
from fastattn.commands.outputs import check_output
from fastattn.errors import ConfigError, describe_file

__all__ = ["add", "run"]

_ABOUT = """Draw the attention weights of a pair of sentences: a picture (.png, .pdf, .svg), or a page (.html) that
needs no network; there you choose among the layers and heads of a Transformer. Without a target it is the model's own
translation, which is printed."""

_EXAMPLE = """
fastattn heatmap german "ein Hund rennt" -o dog.png
fastattn heatmap german "ein Hund rennt" "a dog is running" -o dog.html
"""

_PAGES, _PICTURES = (".html", ".htm"), (".png", ".pdf", ".svg")


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = add_command(commands, "heatmap", run, help="draw what a model attends to", about=_ABOUT, example=_EXAMPLE)
    add_model(parser)
    parser.add_argument("source", metavar="SOURCE", help="a sentence")
    parser.add_argument("target", nargs="?", metavar="TARGET", help="another (default: its translation)")
    parser.add_argument("-o", "--output", type=path, required=True, metavar="FILE", help="the picture or page")


def run(options: argparse.Namespace) -> int:
    """Draw one pair."""
    suffix = options.output.suffix.lower()
    if suffix not in (*_PAGES, *_PICTURES):
        hint = f"end it in one of {', '.join((*_PICTURES, *_PAGES))}."
        raise ConfigError(describe_file(options.output, "what the file is to be cannot be told from its name", hint))
    check_output(options.output, options.folder)
    page = suffix in _PAGES  # it has pickers for layers and heads; a picture shows one map
    translator = model_of(options)
    found = translator.align(options.source, options.target, layers=page)
    from fastattn import viz

    draw = viz.page if page else viz.heatmap
    viz.save(draw(found.map(), found.source_tokens, found.tokens), options.output)
    if options.target is None:
        emit(found.text)
    return 0
