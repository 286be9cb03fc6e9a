"""The arrays of an attention call: those of a case of the tests' table, `tests/shared/cases.py`.

``described(case)`` of each family is its case in the terms of that table.
"""

import sys
from typing import Any

import numpy as np

from ... import families
from ...case import Arrays, Case
from ...harness.checkout import ROOT

sys.path.append(str(ROOT / "tests" / "shared"))

import cases


def with_heads(case: Case) -> Any:
    """Scaled dot products of heads; the case's options, other than ``prepared``, are the table's."""
    B, H, Tq, Tk, D = case.sizes.values()
    options = {name: value for name, value in case.options.items() if name != "prepared"}
    return cases.AttentionCase(case.name, batch=(B, H), tq=Tq, tk=Tk, dk=D, dv=D, **options)


def make(case: Case, rng: np.random.Generator) -> Arrays:
    """Query, key, value and the score's parameters, and ``d_context`` for a case with gradients."""
    made = cases.make(families.part(case.family, "inputs").described(case), rng, ["d_context"] if case.backward else [])
    data = {"query": made.query, "key": made.key, "value": made.value, **made.score.parameters}
    return {**data, "d_context": made.d_context} if case.backward else data
