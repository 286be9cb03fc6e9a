"""JSON from files that somebody else may have written: read as it was meant, or refused."""

import json
import math
from typing import Any

__all__ = ["parse_json"]


def parse_json(data: bytes | str) -> Any:
    """Return what JSON says; a ValueError unless it is what `json` writes of finite numbers.

    Names that come twice and numbers that are not finite are refused: readers differ in what they take them for.
    """
    try:
        return json.loads(data, object_pairs_hook=_distinct, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("JSON with a name twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"JSON with the number {text}")
    return number
