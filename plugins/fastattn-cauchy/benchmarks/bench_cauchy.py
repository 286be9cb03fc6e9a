"""Time of what this package provides; ``fastattn check`` says whether it is right."""

import fastattn_cauchy
import pytest

from fastattn.testing import benchmarks_of


@pytest.mark.parametrize("case", benchmarks_of(fastattn_cauchy), ids=str)
def test_time(benchmark, case):
    case.check()
    benchmark(case.run)
