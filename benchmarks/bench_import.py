"""What `import fastattn` costs a program that has NumPy already."""

import pytest

from .cases import IMPORT_LIMIT
from .harness import importing


def test_import(request):
    smoke = request.config.getoption("benchmark_disable", False)
    result = importing.measure(rounds=1 if smoke else 7)
    assert "median" in result, result["reason"]
    assert result["unwanted"] == []
    if smoke:
        return
    assert result["median"] < IMPORT_LIMIT


@pytest.mark.benchmark(group="import")
def test_fresh_process(benchmark, request):
    """The whole process, interpreter and NumPy included."""
    if request.config.getoption("benchmark_disable", False):
        pytest.skip("test_import does the same once")
    done = benchmark.pedantic(importing.fresh_process, rounds=7, warmup_rounds=1)
    assert done.returncode == 0, done.stderr
