"""``python -m fastattn.verify onnx``: run a suite of others and say what came of each case."""

import argparse
import json
from collections import Counter
from collections.abc import Sequence

from fastattn._printing import emit, say, show
from fastattn.errors import MissingPackageError
from fastattn.verify import onnx

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 if a case failed, 2 if the suite is not installed.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program name; those of the process by default.
    """
    parser = argparse.ArgumentParser(
        prog="python -m fastattn.verify",
        description="Answer the cases of another project's suite by fastattn: passed, not expressible with the reason, "
        "or failed. Exits with 1 if a case failed.",
        epilog="example: python -m fastattn.verify onnx",
    )
    parser.add_argument("suite", choices=["onnx"], help="onnx: the node cases of the operator Attention")
    parser.add_argument("--json", action="store_true", help="every case as one JSON array")
    options = parser.parse_args(argv)
    try:
        results = onnx.verify()
    except MissingPackageError as error:
        say(str(error))
        return 2
    failed = [one for one in results if one.outcome == "failed"]
    if options.json:
        emit(json.dumps([one._asdict() for one in results], indent=2))
    else:
        show(*report(results))
    return 1 if failed else 0


def report(results: Sequence[onnx.Result]) -> list[str]:
    """Return what is printed of the results: a line for each outcome, and under it the cases that did not pass."""
    counts = Counter(one.outcome for one in results)
    lines = [f"{len(results)} cases of the ONNX operator Attention"]
    for outcome in onnx.OUTCOMES:
        lines.append(f"{outcome:16}{counts[outcome]:4}")
        reasons: dict[str, list[str]] = {}
        for one in results:
            if one.outcome == outcome and one.reason:
                reasons.setdefault(one.reason, []).append(one.name)
        for reason, names in reasons.items():
            lines += [f"    {reason}:", *(f"        {name}" for name in names)]
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
