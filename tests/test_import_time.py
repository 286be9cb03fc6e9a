"""`import fastattn` loads NumPy and our extension module, quickly, and starts nothing."""

import json
import os

import pytest

LOADED = """
import json, sys
import numpy
import fastattn
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""

PLUGINS = """
import sys
import fastattn
loaded = {name for name in sys.modules if name.split(".")[0] == "pluggy" or name.startswith("fastattn.")}
late = ("pluggy", "manager", "testing", "variants")
print(sorted(name for name in loaded if any(part in name for part in late)))
fastattn.create("dot", query_width=2, memory_width=2)
print("pluggy" in sys.modules, "fastattn.plugin.manager" in sys.modules)
"""

TIMED = """
import time
import numpy
begin = time.perf_counter()
import fastattn
print(time.perf_counter() - begin)
"""

LIMIT = 0.15  # seconds over NumPy's own import


def test_no_framework_is_loaded(run_python):
    loaded = set(json.loads(run_python("-c", LOADED).stdout))
    assert "fastattn" in loaded
    assert not loaded & {"numba", "llvmlite", "pluggy", "torch", "jax", "keras", "onnx", "matplotlib", "scipy"}


def test_no_plugin_is_looked_for_before_there_is_a_name_that_is_not_ours(run_python):
    assert run_python("-c", PLUGINS).stdout.split("\n")[:2] == ["[]", "False False"]


@pytest.mark.skipif("FASTATTN_SANITIZE" in os.environ, reason="a sanitizer build is slow")
def test_the_import_is_quick(run_python):
    seconds = min(float(run_python("-c", TIMED).stdout) for _ in range(5))
    assert seconds < LIMIT


def test_the_import_starts_no_thread(run_python):
    code = "import os, numpy; n = len(os.listdir('/proc/self/task')); import fastattn; "
    code += "print(len(os.listdir('/proc/self/task')) - n)"
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("needs Linux")
    assert run_python("-c", code).stdout.strip() == "0"


def test_submodules_load_on_first_use(run_python):
    code = "import fastattn; print(fastattn.linear.__name__, fastattn.functional.__name__)"
    assert run_python("-c", code).stdout.split() == ["fastattn.linear", "fastattn.functional"]


def test_an_unknown_attribute_is_an_attribute_error():
    import fastattn

    with pytest.raises(AttributeError, match="no attribute 'attentoin'"):
        fastattn.attentoin  # noqa: B018


def test_every_exported_name_exists():
    import fastattn

    assert not [name for name in fastattn.__all__ if not hasattr(fastattn, name)]
    assert set(fastattn.__all__) <= set(dir(fastattn))
