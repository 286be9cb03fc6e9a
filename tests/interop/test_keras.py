"""Keras' own tests of its layers pass with ours in their place, on both backends; models have its numbers."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastattn


@pytest.fixture(scope="module", params=["torch", "jax"])
def report(request, tmp_path_factory):
    """The report of `keras_with_ours.py` on a backend."""
    missing = [name for name in ("keras", request.param) if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    folder = tmp_path_factory.mktemp(request.param)
    path = os.pathsep.join([str(Path(fastattn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    quick = "--xla_backend_optimization_level=0"  # nearly all of the time on JAX is that of XLA's compiler
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("keras_with_ours.py"), folder / "report.json"], cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": request.param, "XLA_FLAGS": quick},
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert (folder / "report.json").exists(), done.stdout + done.stderr
    return {"backend": request.param, **json.loads((folder / "report.json").read_text())}


def test_all_tests_of_keras_pass(report):
    failed = {name: test["why"] for name, test in report["tests"].items() if test["outcome"] == "failed"}
    assert not failed
    passed = [name for name, test in report["tests"].items() if test["outcome"] == "passed"]
    assert len(passed) >= 86 <= report["calls"]


def test_models_have_the_numbers_of_keras_before_and_after_a_step(report):
    bound = {"half": 0.2}
    assert len(report["apart"]) == (8 if report["backend"] == "torch" else 7)
    assert all(apart < bound.get(case, 1e-4) for case, apart in report["apart"].items()), report["apart"]
