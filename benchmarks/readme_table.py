"""Put the figures of a run into the README: ``python -m benchmarks.readme_table RESULT.json [MORE.json ...]``.

Of several runs, parts of one whole, each case has the figures of the last that has it.

The table stands between two comment lines of the README and is never edited by hand. A run at smoke sizes is refused.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .cases import CASES
from .harness import report
from .ours import NAME as OURS

START = "<!-- benchmark-table:start -->"
END = "<!-- benchmark-table:end -->"
_VERSIONS = {
    "NumPy": "numpy",
    "PyTorch": "torch",
    "JAX": "jax",
    "Keras": "keras",
    "transformers": "transformers",
    "CTranslate2": "ctranslate2",
}


def _cells(result: dict[str, Any] | None) -> list[str]:
    """Our time, the fastest peer with its time, the ratio; of one case at one thread count."""
    if result is None:
        return ["-", "-", "-"]
    best, ratio = result["best_peer"], result["ratio"]
    peer = f"{report.duration(result['best_peer_median'])} ({best.split(':')[0]})" if best else "-"
    return [report.best_of(result, OURS), peer, f"**{ratio:.2f}x**" if ratio else "-"]


def table(data: dict[str, Any]) -> str:
    """Markdown of the table and of the lines below it that say where it comes from.

    Raises
    ------
    ValueError
        When the run cannot be published.
    """
    if data["smoke"]:
        raise ValueError("this run used smoke sizes")
    runs = data["runs"]
    titles = {(result["title"], result["direction"]): None for run in runs for result in run["results"]}
    heads = [head for run in runs for head in (f"fastattn, {_threads(run)}", "best peer", "ratio")]
    lines = ["| case | " + " | ".join(heads) + " |", "|---" + "|--:" * len(heads) + "|"]
    for title, direction in titles:
        cells = []
        for run in runs:
            same = [row for row in run["results"] if (row["title"], row["direction"]) == (title, direction)]
            cells += _cells(same[0] if same else None)
        name = title + (", with gradients" if direction == "forward+backward" else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", _origin(data)])


def _threads(run: dict[str, Any]) -> str:
    return f"{run['threads']} thread{'s' if run['threads'] > 1 else ''}"


def _rounds(data: dict[str, Any]) -> str:
    rows = [row for run in data["runs"] for result in run["results"] for row in result["contestants"]]
    counts = sorted({len(row["samples"]) for row in rows if "samples" in row})
    return " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1]))) if counts else "no"


def merge(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one run's data from those of its parts; what is not of a case is the last part's.

    Raises
    ------
    ValueError
        When the parts were measured on different machines, at different levels, or for different numbers of threads.
    """
    whole = dict(parts[-1])
    for key, of in {
        "machine": lambda part: part["machine"],
        "level": lambda part: [run["fastattn"].get("level") for run in part["runs"]],
        "threads": lambda part: [run["threads"] for run in part["runs"]],
    }.items():
        if any(of(part) != of(whole) for part in parts):
            raise ValueError(f"the runs differ in {key}")
    whole["smoke"] = any(part["smoke"] for part in parts)
    whole["versions"] = {key: value for part in parts for key, value in part["versions"].items()}
    whole["import"] = next((part["import"] for part in reversed(parts) if part.get("import")), None)
    threads = " ".join(str(run["threads"]) for run in whole["runs"])
    whole["command"] = f"python -m benchmarks.compare {'CASES ' if len(parts) > 1 else ''}--threads {threads}"
    order = {case.name: place for place, case in enumerate(CASES)}
    whole["runs"] = [
        {**run, "results": sorted(
            {result["case"]: result for part in parts for result in part["runs"][at]["results"]}.values(),
            key=lambda result: order.get(result["case"], len(order)),
        )}
        for at, run in enumerate(whole["runs"])
    ]  # fmt: skip
    return whole


def _origin(data: dict[str, Any]) -> str:
    versions = ", ".join(
        f"{label} {data['versions'][key]}" for label, key in _VERSIONS.items() if key in data["versions"]
    )
    level = data["runs"][0]["fastattn"].get("level", "?")
    machine = data["machine"]
    words = data["command"].split()
    if "--json" in words:  # where the result was kept helps nobody
        del words[words.index("--json") : words.index("--json") + 2]
    imported = (data.get("import") or {}).get("median")
    after = f" `import fastattn` adds {report.duration(imported)} to `import numpy`." if imported else ""
    return (
        f"float32, median time per call, {_rounds(data)} rounds, all contestants in turn; a higher ratio"
        f" is better. {machine['processor']}, level {level}, {machine['python']}, {versions}, {data['date'][:10]}:"
        f" `{' '.join(words)}`.{after}"
    )


def insert(readme: str, content: str) -> str:
    """`readme` with `content` between the markers.

    Raises
    ------
    ValueError
        When a marker is missing, doubled or out of order.
    """
    if readme.count(START) != 1 or readme.count(END) != 1 or readme.index(START) > readme.index(END):
        raise ValueError(f"the file needs the lines {START} and {END}, once each and in this order")
    before, rest = readme.split(START)
    return f"{before}{START}\n\n{content}\n\n{END}{rest.split(END)[1]}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme_table", description=__doc__.split("\n\n")[0])
    parser.add_argument("result", type=Path, nargs="+", help="JSON written by benchmarks.compare")
    parser.add_argument("--readme", type=Path, default=Path(__file__).resolve().parent.parent / "README.md")
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 when the README differs")
    options = parser.parse_args(argv)
    readme = options.readme.read_text(encoding="utf-8")
    try:
        parts = [json.loads(path.read_text(encoding="utf-8")) for path in options.result]
        changed = insert(readme, table(merge(parts) if len(parts) > 1 else parts[0]))
    except ValueError as error:
        parser.error(str(error))
    if options.check:
        return int(changed != readme)
    options.readme.write_text(changed, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
