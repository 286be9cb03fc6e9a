"""Keras' tests of its attention layers pass, and its numbers are met, when fastattn computes the layers' attention."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastattn

MISSING = [name for name in ("keras", "torch") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"Keras on PyTorch is the witness; not installed: {', '.join(MISSING)}"),
]
# Keras 3.15 has 116 tests, of which 75 call a layer, and 160 calls come through. The others look at configurations,
# shapes, errors, masks, or scores before softmax, which fastattn never stores, or only build the layer.
TESTS, CALLING, CALLS = 110, 72, 150


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras")
    path = os.pathsep.join([str(Path(fastattn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    script = Path(__file__).with_name("keras_redirected.py")
    done = subprocess.run(
        [sys.executable, script, folder / "report.json"],
        cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert (folder / "report.json").exists(), done.stdout + done.stderr
    return json.loads((folder / "report.json").read_text())


def test_all_tests_of_keras_pass(report):
    failed = {name: test["why"] for name, test in report["tests"].items() if test["outcome"] == "failed"}
    assert not failed
    assert len(report["tests"]) >= TESTS


def test_fastattn_was_called(report):
    calling = [name for name, test in report["tests"].items() if test["calls"][0]]
    assert len(calling) >= CALLING and report["forward"] >= CALLS, (len(calling), report["forward"])
    assert report["backward"] >= 1 and report["dropout"] >= 1
    for layer in ("::AttentionTest", "::AdditiveAttentionTest", "::MultiHeadAttention", "::GroupedQueryAttention"):
        assert any(layer in name for name in calling), layer


def test_numbers_and_gradients_were_compared_at_every_call(report):
    assert report["compared"] >= CALLS
    assert {"float32", "float16"} <= set(report["apart"])


def test_parameters_of_both_layers_were_taken(report):
    assert report["loaded"] == 2
