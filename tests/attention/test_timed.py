"""What the benchmarks time has the numbers of the twins: their cases, at small sizes."""

import importlib.util
import sys
from pathlib import Path

import pytest
from checks import check_forward, check_gradients

from fastattn.testing.variant_checks import formula

# The folder is not on the path: beside it are sources of a package that may be tested as installed.
spec = importlib.util.spec_from_file_location("benchmarks", Path(__file__).parents[2] / "benchmarks" / "__init__.py")
sys.modules.setdefault("benchmarks", importlib.util.module_from_spec(spec))

from benchmarks import families  # noqa: E402
from benchmarks.cases import CASES  # noqa: E402

DESCRIBED = {
    case.name: inputs.described(case.small())
    for case in CASES
    if hasattr(inputs := families.part(case.family, "inputs"), "described")
}
CALLS, MECHANISMS = (
    {name: one for name, one in DESCRIBED.items() if hasattr(one, "record") == found} for found in (False, True)
)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_is_timed(name):
    check_forward(CALLS[name])
    check_gradients(CALLS[name])


@pytest.mark.parametrize("name", MECHANISMS)
def test_a_mechanism_that_is_timed(name):
    formula(MECHANISMS[name])
