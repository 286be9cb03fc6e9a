"""Fixtures of `bench_cases.py`: one test per case and library, results checked before they are timed.

With ``--benchmark-disable`` every case runs once at its smoke size.
"""

import functools
import os
import sys

import pytest

from . import threads

THREADS = int(os.environ.get("FASTATTN_NUM_THREADS", "1"))
if "--benchmark-disable" not in sys.argv:
    # Before NumPy is imported, whose BLAS reads its threads then.
    os.environ.update(threads.environment(THREADS))

from . import inputs, ours, peers, reference  # noqa: E402
from .cases import CASES  # noqa: E402
from .harness import accuracy, checkout, report  # noqa: E402
from .harness.contest import check  # noqa: E402
from .timing import timed  # noqa: E402

checkout.choose()

# A case with a library is timed for about so many seconds, of which a round has at least so many.
SECONDS, ROUND = 0.2, 0.002
MEDIANS = {}  # by case: its title, and medians by library

# Each case would be compiled for seconds; `python -m benchmarks.compare --smoke` does that.
LEFT_OUT_OF_SMOKE = frozenset({"torch_compile"})


def is_smoke(config):
    return config.getoption("benchmark_disable", False)


@functools.cache
def _load(name):
    """The library, or the reason why it cannot be had."""
    if name == "fastattn":
        return ours.load(THREADS)
    loaded, missing = peers.load((name,), THREADS)
    return loaded[0] if loaded else next(iter(missing.values()))


@functools.lru_cache(maxsize=2)
def _data(name, smoke):
    case = next(case for case in CASES if case.name == name)
    case = case.small() if smoke else case
    data = inputs.make(case)
    return case, data, reference.compute(case, data)


@pytest.fixture
def library(request):
    """A library ready to run cases; the test is skipped when a peer is not installed."""
    if request.param in LEFT_OUT_OF_SMOKE and is_smoke(request.config):
        pytest.skip("compiles for seconds per case, left out of the smoke run")
    found = _load(request.param)
    if isinstance(found, str):
        pytest.skip(f"{request.param} is not installed: {found}")
    return found


@pytest.fixture
def race(benchmark, request):
    """A function that checks a library's result of a case and then times its fastest spelling."""

    def run(case, library):
        case, data, right = _data(case.name, is_smoke(request.config))
        spellings = library.prepare(case, data)
        if not spellings:
            pytest.skip(f"{library.name} has no such operation")
        verdicts = {name: check(library, case, spelling, right) for name, spelling in spellings.items()}
        good = {name: spelling for name, spelling in spellings.items() if verdicts[name].ok}
        wrong = "; ".join(f"{name} {verdict.reason}" for name, verdict in verdicts.items() if not verdict.ok)
        if library.name == ours.NAME:
            assert not wrong, wrong
        elif not good:
            pytest.skip(f"a wrong result has no number: {wrong}")
        fastest = min(good, key=lambda name: min(timed(good[name], 1) for _ in range(3)))
        benchmark.group = f"{case.title}, {case.direction}"
        benchmark.extra_info.update(
            library=library.name,
            version=library.version,
            spelling=fastest,
            threads=THREADS,
            errors=verdicts[fastest].errors,
            gates={"forward": accuracy.FORWARD_GATE, "backward": accuracy.BACKWARD_GATE},
        )
        once = timed(good[fastest], 1)
        rounds, iterations = max(3, min(20, round(SECONDS / once))), max(1, round(ROUND / once))
        benchmark.pedantic(good[fastest], rounds=rounds, iterations=iterations)
        if benchmark.stats is not None:
            MEDIANS.setdefault(benchmark.group, {})[library.name] = benchmark.stats.stats.median

    return run


@pytest.hookimpl(trylast=True)  # below the tables of pytest-benchmark
def pytest_terminal_summary(terminalreporter):
    """Ratios of the medians: the best peer's by ours."""
    table = [["case", "ours", "best peer", "", "ratio"]]
    for title, medians in MEDIANS.items():
        mine, others = medians.pop(ours.NAME, None), medians
        best = min(others, key=others.get) if others else "-"
        ratio = f"{others[best] / mine:.2f}" if mine and others else "-"
        table.append([title, report.duration(mine), best, report.duration(others.get(best)), ratio])
    if len(table) > 1:
        terminalreporter.section("best peer's time by ours")
        terminalreporter.write_line(report.render(table, False))
