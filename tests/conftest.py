"""Which fastattn is tested, and what tests share.

`pytest` imports the installed package: the import mode puts no folder on the path. `python -m pytest`, or PYTHONPATH,
put the checkout first, which is wanted only when an extension module was built in it; otherwise it is taken off again.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT / "tests" / "shared"


def _is_root(entry):
    return Path(entry or os.curdir).resolve() == ROOT


if not any((ROOT / "fastattn" / "_kernels").glob("core.*.so")):
    sys.path[:] = [entry for entry in sys.path if not _is_root(entry)]
elif importlib.util.find_spec("fastattn") is None:
    sys.path.insert(0, str(ROOT))

# The same examples in every run: a failure can be repeated, and a slow machine is no failure.
settings.register_profile(
    "fastattn", derandomize=True, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("fastattn")


def pytest_report_header():
    spec = importlib.util.find_spec("fastattn")
    if spec is None:
        return "fastattn: not installed"
    import fastattn

    return f"fastattn: {spec.origin}, level {fastattn.show_config(as_dict=True)['level']}"


@pytest.fixture(autouse=True)
def subnormals_survive():
    """No call may leave the thread with subnormal numbers flushed to zero."""
    tiny = np.full(16, np.finfo(np.float32).tiny)
    yield
    assert (tiny * np.float32(0.5)).all(), "results are flushed to zero"
    assert ((tiny * np.float32(0.5)) * np.float32(2) == tiny).all(), "operands are flushed to zero"


@pytest.fixture(autouse=True)
def same_draws(request):
    """What a module's generator draws for a test does not depend on which tests this process ran before."""
    for name in ("RNG", "rng"):
        generator = getattr(request.module, name, None)
        if isinstance(generator, np.random.Generator):
            generator.bit_generator.state = np.random.default_rng(0).bit_generator.state


@pytest.fixture
def environment():
    """Variables with which a new interpreter finds the package under test, and a sanitizer build its libraries; its
    streams keep what they are given until it is much, as they do where nobody says otherwise."""
    found = {**os.environ, "PYTHONPATH": str(Path(importlib.util.find_spec("fastattn").origin).parents[1])}
    found.pop("PYTHONUNBUFFERED", None)
    return found


@pytest.fixture
def run_python(tmp_path, environment):
    """Run code in a fresh interpreter with the package under test; return the finished process.

    Keyword arguments are environment variables, None removes one.
    """

    def run(*arguments, check=True, **variables):
        given = {name: value for name, value in {**environment, **variables}.items() if value is not None}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=given, capture_output=True, text=True, timeout=600
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def run_shared(run_python):
    """Run code that may import what tests share (cases, checks) in a fresh interpreter."""

    def run(code, *arguments, **options):
        path = f"import sys; sys.path.append({str(SHARED)!r})\n"
        return run_python("-c", path + code, *arguments, **options)

    return run
