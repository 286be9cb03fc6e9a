"""``fastattn translate ... -o FOLDER``: whole files, by an engine, in a folder where the job goes on."""

import argparse

from fastattn._printing import show
from fastattn.commands.arguments import at_least, number_from, path
from fastattn.errors import ConfigError, describe_file

__all__ = ["add_bulk", "bulk"]

# What the translation of whole files takes of the options of lines, and what a predictor calls it.
_TAKEN = {
    "beam": "beam", "length_penalty": "length_penalty", "coverage_penalty": "coverage_penalty",
    "max_length": "max_length", "prefix": "prefix", "forbid": "forbid", "allow": "allow",
    "cache": "cache", "replace_unknown": "replace",
}  # fmt: skip
_OF_LINES = ("best", "prefixes", "alternatives", "sample", "temperature", "top_k", "top_p", "weights", "json")
_OWN = ("engine", "workers", "threads", "address", "timeout", "column", "block")


def add_bulk(parser: argparse.ArgumentParser) -> None:
    """Add the options of whole files."""
    parser.add_argument("-o", "--output", type=path, metavar="FOLDER", help="translate whole files to this folder")
    parser.add_argument("--engine", choices=("local", "ray"), help="of -o: this process (default), or Ray")
    parser.add_argument("--workers", type=at_least(1), metavar="N", help="of --engine ray: workers (default: 1)")
    parser.add_argument("--threads", type=at_least(1), metavar="N", help="of -o: of each worker")
    parser.add_argument("--address", metavar="ADDRESS", help="of --engine ray: a cluster that is there, such as auto")
    parser.add_argument(
        "--timeout", type=number_from(0, above=True), metavar="SECONDS",
        help="of --engine ray: after which a worker that is at one block is replaced (default: 600)",
    )  # fmt: skip
    parser.add_argument("--column", metavar="NAME", help="of -o: of JSON lines and Parquet (default: source)")
    parser.add_argument("--block", type=at_least(1), metavar="N", help="of -o: rows translated together (default: 512)")


def bulk(options: argparse.Namespace) -> int | None:
    """Translate whole files if that is asked for, or return None."""
    if options.output is None:
        for name in _OWN:
            if getattr(options, name) is not None:
                raise ConfigError(describe_file(f"--{name}", "means nothing without -o", "give -o FOLDER."))
        if len(options.file) > 1:
            hint = "give -o FOLDER for whole files."
            raise ConfigError(describe_file("FILE", f"{len(options.file)} files, and one output", hint))
        return None
    for name in _OF_LINES:
        if getattr(options, name) not in (None, False):
            problem = "means nothing with -o"
            raise ConfigError(describe_file(f"--{name.replace('_', '-')}", problem, "leave out one of them."))
    from fastattn.scale import translate_files

    given = {name: getattr(options, name) for name in _OWN if getattr(options, name) is not None}
    searching = {ours: getattr(options, name) for name, ours in _TAKEN.items()
                 if getattr(options, name) not in (None, False)}  # fmt: skip
    outcome = translate_files(options.folder, options.file, options.output, which=options.checkpoint,
                              ensemble=options.ensemble, **given, **searching)  # fmt: skip
    kept = f", {outcome.before} of them from before" if outcome.before else ""
    show(f"{outcome.rows} rows in {outcome.blocks} blocks{kept}: {outcome.folder}")
    if outcome.bad:
        show(f"{outcome.bad} rows could not be used: {outcome.folder / 'bad.jsonl'}")
    return 0
