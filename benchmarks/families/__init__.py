"""The families of cases, a package each, with one interface that is found by name.

======================  ================================================================================================
module                  what it has
======================  ================================================================================================
``cases``               ``CASES``, and what the names of sizes mean
``inputs``              ``make(case, rng)``: float32 arrays by name. Where it has ``described(case)``, the case in the
                        terms of the tests, `tests/attention/test_timed.py` has it too: a call as in
                        `tests/shared/cases.py`, a mechanism as the conformance kit's ``VariantSubject``
``reference``           ``compute(case, data)``: a `benchmarks.reference.Reference`, float64
``ours``, ``torch``...  ``prepare(case, data)`` and ``collect(case, result)`` of `benchmarks.peers.Library`; a library
                        without a module has no such operation
======================  ================================================================================================

``attention`` and ``training`` are no families: they have what several share.
"""

import importlib
import importlib.util
from typing import Any

NAMES = ("additive", "dot", "functions", "sparse", "gemm", "steps", "recurrent", "bahdanau", "transformer")


def part(family: str, name: str) -> Any:
    """A module of a family, or None when it has none of this name."""
    place = f"{__name__}.{family}.{name}"
    return importlib.import_module(place) if importlib.util.find_spec(place) else None
