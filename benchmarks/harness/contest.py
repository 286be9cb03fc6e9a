"""One case, all contestants: results checked against the float64 reference first, then timed against each other."""

import statistics
import warnings
from collections.abc import Iterable
from typing import Any

from .. import inputs, reference
from ..case import Case, Run
from ..ours import NAME as OURS
from ..peers import Library
from ..timing import Effort, interleave
from . import accuracy


def check(library: Library, case: Case, run: Run, right: reference.Reference) -> accuracy.Verdict:
    """Run once and judge; an exception is a wrong result, with its first line as the reason."""
    try:
        return accuracy.judge(library.collect(case, run()), right)
    except Exception as error:  # a contestant must not stop the others
        text = str(error).strip().splitlines()
        return accuracy.Verdict(False, {}, f"{type(error).__name__}: {text[0] if text else ''}")


def hold(case: Case, libraries: Iterable[Library], effort: Effort | None) -> dict[str, Any]:
    """Check every contestant, time those that are right.

    Parameters
    ----------
    effort
        None checks without timing.

    Returns
    -------
    dict
        Ready for JSON: the case, and a row per contestant with ``status`` (``ok`` or ``wrong``), ``errors`` in units
        of rounding, and for ``ok`` the raw ``samples`` and their ``median`` in seconds.
    """
    data = inputs.make(case)
    right = reference.compute(case, data)
    rows: list[dict[str, Any]] = []
    runs: dict[str, Run] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # frameworks warn about each other; results are checked here
        for library in libraries:
            for spelling, run in library.prepare(case, data).items():
                verdict = check(library, case, run, right)
                name = f"{library.name}: {spelling}" if spelling else library.name
                rows.append(
                    {
                        "name": name,
                        "library": library.name,
                        "spelling": spelling,
                        "status": "ok" if verdict.ok else "wrong",
                        "reason": verdict.reason,
                        "errors": verdict.errors,
                    }
                )
                if verdict.ok:
                    runs[name] = run
        if effort is not None:
            samples = interleave(runs, effort)
            for row in rows:
                if row["status"] == "ok":
                    row["samples"] = samples[row["name"]]
                    row["median"] = statistics.median(row["samples"])
    return summary(case, rows)


def summary(case: Case, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The rows with our time, the best peer and the ratio of the two; None where there is none."""
    timed = [row for row in rows if "median" in row]
    ours = next((row["median"] for row in timed if row["library"] == OURS), None)
    best = min((row for row in timed if row["library"] != OURS), key=lambda row: row["median"], default=None)
    return {
        "case": case.name,
        "title": case.title,
        "direction": case.direction,
        "sizes": dict(case.sizes),
        "options": dict(case.options),
        "targets": {str(threads): target for threads, target in case.targets.items()},
        "contestants": rows,
        "ours": ours,
        "best_peer": best["name"] if best else None,
        "best_peer_median": best["median"] if best else None,
        "ratio": best["median"] / ours if best and ours else None,
    }
