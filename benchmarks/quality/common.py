"""What the scripts share: arguments, texts, runs that can be interrupted, figures beside published ones."""

import argparse
import csv
import datetime
import gzip
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import fastattn
from fastattn.errors import FastattnError
from fastattn.layers.parameter import Storage
from fastattn.seq2seq import Config, Model, Outcome, Stopped, Translator, load, train
from fastattn.seq2seq.text.metrics import count_errors

from ..harness import machine

Pairs = list[tuple[str, str]]
PUBLISHED = Path(__file__).parent / "published"


class Trained(Protocol):
    """What a run has trained."""

    model: Model


T = TypeVar("T", bound=Trained)


@dataclass(frozen=True)
class Row:
    """A figure, its values for the seeds, and what was published."""

    name: str
    values: list[float]
    published: float | None = None
    source: str = ""

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float | None:
        """Standard deviation between seeds, if there are several."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "mean": self.mean, "spread": self.spread}


def parser(task: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments of every script."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.quality.{task}", description=description)
    made.set_defaults(task=task)
    made.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="where the task's files are")
    made.add_argument("--runs", type=Path, required=True, metavar="FOLDER",
                      help="for checkpoints and results; the same command goes on from what is there")  # fmt: skip
    made.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N")
    made.add_argument("--quick", action="store_true", help="a few samples and steps: does it run? (no result)")
    made.add_argument("--json", type=Path, metavar="FILE", help="receives everything")
    return made


def parser_with_weights(task: str, description: str) -> argparse.ArgumentParser:
    """Return a parser that also takes the precision of training, and types for the matrices of trained models."""
    made = parser(task, description)
    made.add_argument("--precision", default="float32", choices=["float32", "bfloat16"],
                      help="of the products of training; both are tested alike, in float32")  # fmt: skip
    made.add_argument("--weights", nargs="+", default=[], choices=["bfloat16", "int8"], metavar="TYPE",
                      help="test every model with its matrices of this type, too: bfloat16, int8")  # fmt: skip
    return made


def run(script: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> int:
    """Run a script, and return its exit code: interruptions and wrong inputs are one line."""
    try:
        script(arguments)
    except Stopped as stopped:
        print(f"{stopped}; the same command goes on", file=sys.stderr)
        return 128 + stopped.number
    except (FastattnError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file, or of its compressed form with .gz behind its name."""
    packed = path.with_name(path.name + ".gz")
    data = path.read_bytes() if path.exists() or not packed.exists() else gzip.decompress(packed.read_bytes())
    return data.decode("utf-8").removesuffix("\n").split("\n")


def read_parallel(source: Path, target: Path) -> Pairs:
    """Return the lines of two files side by side."""
    sources, targets = read_lines(source), read_lines(target)
    if len(sources) != len(targets):
        raise OSError(f"{source} has {len(sources)} lines, {target} {len(targets)}")
    return list(zip(sources, targets))


def published(name: str, key: str) -> dict[str, dict[str, float]]:
    """Return a table of `published/`: the numbers of each row under its first cell."""
    with (PUBLISHED / name).open(newline="", encoding="utf-8") as file:
        return {row.pop(key): {column: float(cell) for column, cell in row.items()} for row in csv.DictReader(file)}


def trained(
    config: Config,
    folder: Path,
    train_pairs: Pairs,
    validation_pairs: Pairs,
    test: Callable[[Translator], dict[str, Any]],
    label: str,
) -> dict[str, Any]:
    """Train, test, and return the figures; or return them, if that was done before.

    A run that was stopped is continued, with the same bits in the end.
    """
    asked = {"config": config.to_dict(), "data": _digest(train_pairs, validation_pairs)}

    def work() -> tuple[Outcome, Translator]:
        outcome = train(config, folder, pairs=train_pairs, validation=validation_pairs, resume=True, label=label)
        return outcome, load(folder)

    return recorded(folder, asked, label, work, test)


def recorded(
    folder: Path,
    asked: dict[str, Any],
    label: str,
    work: Callable[[], tuple[Outcome, T]],
    test: Callable[[T], dict[str, Any]],
) -> dict[str, Any]:
    """Return what a folder has recorded of a run that was asked for like this; work, test and record it otherwise.

    `work` trains, or goes on training, and returns what `test` is called with: anything that has a `model`.
    """
    done = folder / "result.json"
    asked = plain(asked)
    if done.exists():
        found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        if found["asked"] != asked:
            raise OSError(f"{folder} has a run with other settings or data; choose another folder for --runs")
        return found
    with _clock(folder / "seconds") as seconds:
        outcome, trained = work()
    began = time.perf_counter()
    scores = test(trained)
    found = {
        "label": label,
        "seed": asked["config"]["training"]["seed"],
        "scores": scores,
        "parameters": sum(parameter.value.size for parameter in trained.model.parameters().values()),
        "steps": outcome.steps,
        "epochs": outcome.epochs,
        "reason": outcome.reason,
        "best_step": outcome.best_step,
        "validation": {outcome.metric: outcome.best},
        "train_seconds": round(seconds(), 1),
        "test_seconds": round(time.perf_counter() - began, 1),
        "threads": fastattn.get_num_threads(),
        "asked": asked,
    }
    done.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return found


def of_seeds(
    arguments: argparse.Namespace,
    configure: Callable[[int, bool], Config],
    train_pairs: Pairs,
    validation_pairs: Pairs,
    test: Callable[[Translator], dict[str, Any]],
) -> dict[Path, dict[str, Any]]:
    """Return the figures of a run for each seed, by its folder."""
    runs = {}
    for seed in arguments.seeds:
        config, name = configure(seed, arguments.quick), arguments.task + "-quick" * arguments.quick
        if arguments.precision != "float32":
            config = replace(config, training=replace(config.training, precision=arguments.precision))
            name += f"-{arguments.precision}"
        folder = arguments.runs / f"{name}-{seed}"
        label = f"{arguments.task}, {arguments.precision}, seed {seed}"
        runs[folder] = trained(config, folder, train_pairs, validation_pairs, test, label)
    return runs


def narrowed(folder: Path, weights: Storage, test: Callable[[Translator], dict[str, Any]]) -> dict[str, Any]:
    """Return the scores of a finished run with matrices of this type; they are recorded beside its result."""
    done = folder / f"result-{weights}.json"
    if not done.exists():
        done.write_text(json.dumps(test(load(folder, weights=weights)), indent=1) + "\n", encoding="utf-8")
    found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
    return found


def plain(tables: dict[str, Any]) -> dict[str, Any]:
    """Return what JSON gives back: tuples become lists."""
    return json.loads(json.dumps(tables))


def pronunciation_errors(translator: Translator, pairs: Pairs, **search: Any) -> dict[str, float]:
    """Return the WER (share of words with any error) and PER of pronunciations, each pair on its own, in percent."""
    outputs = translator.translate([word for word, _ in pairs], **search)
    counts = count_errors([output.split() for output in outputs], [[sounds.split()] for _, sounds in pairs])
    return {"WER": counts.sequence_rate, "PER": counts.rate}


def table(rows: Sequence[Row], title: str) -> str:
    """Return the rows as a Markdown table."""
    lines = [f"| {title} | ours | seeds | published |", "|---|--:|--:|--:|"]
    for row in rows:
        ours = f"{row.mean:.2f}" + (f" +- {row.spread:.2f}" if row.spread is not None else "")
        other = "-" if row.published is None else f"{row.published:.2f}"
        lines.append(f"| {row.name} | {ours} | {len(row.values)} | {other} |")
    sources = sorted({row.source for row in rows if row.source})
    return "\n".join([*lines, "", *(f"published: {source}" for source in sources)])


def report(arguments: argparse.Namespace, rows: Sequence[Row], runs: Sequence[dict[str, Any]], title: str) -> None:
    """Print the rows, and write them with everything else where --json says."""
    if arguments.quick:
        title += " (quick: no result)"
    print(table(rows, title))
    for found in runs:
        print(f"{found['label']}: {found['parameters']} parameters, {found['steps']} steps, {found['epochs']} epochs, "
              f"trained in {found['train_seconds'] / 60:.1f} min with {found['threads']} threads")  # fmt: skip
    if arguments.json:
        everything = {
            "title": title,
            "date": datetime.date.today().isoformat(),
            "command": ["python", "-m", f"benchmarks.quality.{arguments.task}", *sys.argv[1:]],
            "quick": arguments.quick,
            "machine": machine.describe(),
            "versions": machine.versions(),
            "fastattn": fastattn.show_config(as_dict=True),
            "rows": [row.to_dict() for row in rows],
            "runs": list(runs),
        }
        arguments.json.write_text(json.dumps(everything, indent=1, default=str) + "\n", encoding="utf-8")


@contextmanager
def _clock(path: Path) -> Iterator[Callable[[], float]]:
    """Add the seconds of this block to those in a file: the time of a run that is interrupted and continued."""
    before = float(path.read_text(encoding="ascii")) if path.exists() else 0.0
    began, total = time.perf_counter(), before
    try:
        yield lambda: total
    finally:
        total = before + time.perf_counter() - began
        if path.parent.is_dir():
            path.write_text(f"{total:.3f}\n", encoding="ascii")


def _digest(*parts: Pairs) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
