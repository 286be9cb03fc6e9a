"""Tables from the result of a run, for a terminal or as Markdown."""

from collections.abc import Sequence
from typing import Any

from ..ours import NAME as OURS

_HEADINGS = {"forward": "", "forward+backward": " +grad", "training step": ""}


def duration(seconds: float | None) -> str:
    """Three digits and a unit; a dash for None."""
    if seconds is None:
        return "-"
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1.0 or unit == "us":
            scaled = seconds * factor
            return f"{scaled:.{max(0, 2 - len(str(int(scaled))) + 1)}f} {unit}"
    raise AssertionError("unreachable")


def best_of(result: dict[str, Any], library: str) -> str:
    """The fastest spelling of a library, or why it has no number."""
    rows = [row for row in result["contestants"] if row["library"] == library]
    medians = [row["median"] for row in rows if "median" in row]
    if medians:
        return duration(min(medians))
    return "wrong" if rows else "-"


def libraries(run: dict[str, Any]) -> list[str]:
    """Libraries that took part in a run, ours first."""
    names = [row["library"] for result in run["results"] for row in result["contestants"]]
    return sorted(dict.fromkeys(names), key=lambda name: name != OURS)


def target(result: dict[str, Any], threads: int) -> float | None:
    """The target of a result at this number of threads."""
    found = result["targets"].get(str(threads))
    return None if found is None else float(found)


def verdict(result: dict[str, Any], threads: int) -> str:
    """``met``, ``MISSED``, ``WRONG`` (our result is) or a dash when there is nothing to judge."""
    if any(row["status"] == "wrong" for row in result["contestants"] if row["library"] == OURS):
        return "WRONG"
    goal = target(result, threads)
    if goal is None or result["ratio"] is None:
        return "-"
    return "met" if result["ratio"] >= goal else "MISSED"


def _cells(run: dict[str, Any], check: bool) -> list[list[str]]:
    names = libraries(run)
    table = [["case", *names, "best peer", "ratio", *(["target", ""] if check else [])]]
    for result in run["results"]:
        goal, ratio = target(result, run["threads"]), result["ratio"]
        table.append(
            [
                result["title"] + _HEADINGS[result["direction"]],
                *(best_of(result, name) for name in names),
                result["best_peer"] or "-",
                f"{ratio:.2f}x" if ratio else "-",
                *([f"{goal:g}x" if goal else "-", verdict(result, run["threads"])] if check else []),
            ]
        )
    return table


def render(table: Sequence[Sequence[str]], markdown: bool) -> str:
    """Cells in columns, the first of which is a title."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        return f"| {' | '.join(cells)} |" if markdown else "  ".join(cells).rstrip()

    rule = ["-" * width if markdown else "=" * width for width in widths]
    return "\n".join([line(table[0]), line(rule), *(line(row) for row in table[1:])])


def _remarks(run: dict[str, Any]) -> list[str]:
    remarks = [f"not here: {name} ({reason})" for name, reason in run["missing"].items()]
    for result in run["results"]:
        for row in result["contestants"]:
            if row["status"] == "wrong":
                remarks.append(f"no number for {row['name']} in {result['case']}: {row['reason']}")
    return remarks


def text(report: dict[str, Any], markdown: bool = False, check: bool = False) -> str:
    """The whole report: a table per thread count, what had no number and why, and the time of the import.

    Targets, which are those of one machine, are in it where they are checked.
    """
    machine = report["machine"]
    parts = [f"{machine['processor']}, {machine['system']}, {machine['python']}, {report['date']}"]
    for run in report["runs"]:
        level = run["fastattn"]["level"]
        before, after = run["load_average"]
        load = f", load {before:.1f} before and {after:.1f} after" if before is not None else ""
        versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
        parts.append(f"{run['threads']} thread(s), CPUs {run['cpus'] or 'any'}, level {level}{load}; {versions}")
        parts.append(render(_cells(run, check), markdown))
        parts.extend(f"- {remark}" for remark in _remarks(run))
    importing = report.get("import")
    if importing:
        line = f"import fastattn after NumPy: {duration(importing.get('median'))}"
        if check or "median" not in importing:
            state = "met" if importing["ok"] else f"MISSED: {importing['reason']}"
            line += f" (limit {duration(importing['limit'])}): {state}"
        parts.append(line)
    return "\n\n".join(parts)


def all_met(report: dict[str, Any]) -> bool:
    """True when ours is right everywhere, every target that was measured is met, and the import is quick."""
    states = [verdict(result, run["threads"]) for run in report["runs"] for result in run["results"]]
    importing = report.get("import")
    return not {"WRONG", "MISSED"} & set(states) and (importing is None or importing["ok"])
