"""One case, all contestants: results checked against the float64 reference first, then timed against each other."""

import statistics
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from .. import inputs, reference
from ..case import Arrays, Case, Run
from ..ours import NAME as OURS
from ..peers import Library
from ..timing import Effort, interleave, timed
from . import accuracy, samples

# A spelling that takes this many times the time of its library's fastest in the same precision has no chance, and a
# peer that takes this many times the time of the fastest.
OF_LIBRARY, OF_ALL = 1.5, 3.0


def check(
    library: Library, case: Case, run: Run, right: reference.Reference, keep: Arrays | None = None
) -> accuracy.Verdict:
    """Run once and judge; an exception is a wrong result, its first line the reason. ``keep`` gets the result."""
    try:
        found = library.collect(case, run())
        if keep is not None:
            keep.update(found)
        return accuracy.judge(found, right)
    except Exception as error:  # a contestant must not stop the others
        text = str(error).strip().splitlines()
        return accuracy.Verdict(False, {}, f"{type(error).__name__}: {text[0] if text else ''}")


def hold(
    case: Case,
    libraries: Iterable[Library],
    effort: Effort | None,
    precisions: Sequence[str] = (),
) -> dict[str, Any]:
    """Check every contestant, time those that are right.

    Parameters
    ----------
    effort
        None checks without timing.
    precisions
        In all of which each library takes part, in place of the case's own, with the same inputs. Then it is asked too
        whether a sample's result has the same bits alone, and of a library's spellings those without a chance are left
        out of the rounds.

    Returns
    -------
    dict
        Ready for JSON: the case, and a row per contestant with ``status`` (``ok`` or ``wrong``), ``errors`` in units
        of rounding, and for ``ok`` the raw ``samples`` and their ``median`` in seconds.
    """
    several = bool(precisions)
    variants = [replace(case, precision=precision) for precision in precisions] or [case]
    data = inputs.make(next((variant for variant in variants if variant.precision == "bfloat16"), variants[0]))
    right = reference.compute(case, data)
    rows: list[dict[str, Any]] = []
    runs: dict[str, Run] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # frameworks warn about each other; results are checked here
        for library in libraries:
            for variant in variants:
                for spelling, run in prepared(library, variant, data).items():
                    whole: Arrays = {}
                    verdict = check(library, variant, run, replace(right, precision=variant.precision), whole)
                    name = f"{library.name}: {spelling}" if spelling else library.name
                    if several:
                        name += f", {variant.precision}"
                    row = {
                        "name": name,
                        "library": library.name,
                        "spelling": spelling,
                        "precision": variant.precision,
                        "status": "ok" if verdict.ok else "wrong",
                        "reason": verdict.reason,
                        "errors": verdict.errors,
                        "gates": verdict.gates,
                    }
                    rows.append(row)
                    if verdict.ok:
                        runs[name] = run
                        if several:
                            row["alone"] = samples.same_bits_alone(library, variant, spelling, data, whole)
        if effort is not None:
            if several:
                runs = with_a_chance(rows, runs)
            found = interleave(runs, effort)
            for row in rows:
                if row["name"] in found:
                    row["samples"] = found[row["name"]]
                    row["median"] = statistics.median(row["samples"])
    return summary(case, rows)


def prepared(library: Library, case: Case, data: Arrays) -> dict[str, Run]:
    """Calls by spelling; one that raises in place of a preparation that does."""
    try:
        return library.prepare(case, data)
    except Exception as error:  # a contestant must not stop the others
        reason = error

        def fail() -> Any:
            raise reason

        return {"": fail}


def with_a_chance(rows: Sequence[dict[str, Any]], runs: dict[str, Run]) -> dict[str, Run]:
    """The calls that may be their library's fastest in their precision, of peers those that may be the best in it.

    That is told by one call, whose seconds are ``once`` of the row.
    """
    right = [row for row in rows if row["name"] in runs]
    for row in right:
        row["once"] = timed(runs[row["name"]], 1)

    def chance(row: dict[str, Any]) -> bool:
        same = [x["once"] for x in right if (x["library"], x["precision"]) == (row["library"], row["precision"])]
        others = [x["once"] for x in right if x["library"] != OURS and x["precision"] == row["precision"]]
        limit = OF_LIBRARY * min(same)
        return row["once"] <= (limit if row["library"] == OURS else min(limit, OF_ALL * min(others)))

    return {row["name"]: runs[row["name"]] for row in right if chance(row)}


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
