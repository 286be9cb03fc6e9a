"""Levels, threads, `show_config` and the ``fastattn info`` command."""

import json

import pytest

import fastattn
from fastattn.cli import main

CONFIG = fastattn.show_config(as_dict=True)
USABLE = [level for level in CONFIG["levels_built"] if level in CONFIG["levels_cpu"]]
SHOW = "import fastattn, json; print(json.dumps(fastattn.show_config(as_dict=True)))"
CLEAR = {"FASTATTN_ISA": None, "FASTATTN_NUM_THREADS": None, "OMP_NUM_THREADS": None}


@pytest.fixture
def restore_threads():
    before = fastattn.get_num_threads()
    yield
    fastattn.set_num_threads(before)


def config_under(run_python, **variables):
    return json.loads(run_python("-c", SHOW, **{**CLEAR, **variables}).stdout)


def test_keys_and_types():
    assert list(CONFIG) == [
        "version",
        "backend",
        "level",
        "level_reason",
        "levels_built",
        "levels_cpu",
        "threads",
        "threads_reason",
    ]
    assert CONFIG["version"] == fastattn.__version__
    assert CONFIG["level"] in USABLE
    assert "generic" in USABLE
    assert CONFIG["level_reason"] and CONFIG["threads_reason"]
    assert json.loads(json.dumps(CONFIG)) == CONFIG


def test_the_returned_dict_is_the_callers_own():
    fastattn.show_config(as_dict=True)["levels_built"].clear()
    assert fastattn.show_config(as_dict=True)["levels_built"] == CONFIG["levels_built"]


def test_it_prints_the_same_facts(capsys):
    assert fastattn.show_config() is None
    printed = capsys.readouterr().out
    for fact in (CONFIG["version"], CONFIG["level"], CONFIG["level_reason"], str(CONFIG["threads"])):
        assert fact in printed


@pytest.mark.parametrize("level", USABLE)
def test_a_level_can_be_forced(run_python, level):
    config = config_under(run_python, FASTATTN_ISA=level)
    assert config["level"] == level
    assert "FASTATTN_ISA" in config["level_reason"]


def test_a_forced_level_that_cannot_run_is_refused(run_python):
    done = run_python("-c", SHOW, check=False, **{**CLEAR, "FASTATTN_ISA": "sse9"})
    assert done.returncode != 0
    assert "FASTATTN_ISA" in done.stderr and "sse9" in done.stderr


# A stack for signals too small for the registers of tiles: Linux refuses them to such a process.
CROWDED = """
import ctypes
class Stack(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("bytes", ctypes.c_size_t)]
memory = ctypes.create_string_buffer(2048)
assert not ctypes.CDLL(None).sigaltstack(ctypes.byref(Stack(ctypes.addressof(memory), 0, len(memory))), None)
"""


def test_a_level_whose_registers_the_system_refuses(run_python):
    """The one below runs, and it is not said that the processor cannot."""
    if "amx" not in CONFIG["levels_cpu"]:
        pytest.skip("this processor has no matrix unit")
    config = json.loads(run_python("-c", CROWDED + SHOW, **CLEAR).stdout)
    assert config["level"] == USABLE[-2] and "amx" not in config["levels_cpu"]
    assert config["level_reason"].endswith("; the operating system refuses to save the registers of amx")
    done = run_python("-c", CROWDED + SHOW, check=False, **{**CLEAR, "FASTATTN_ISA": "amx"})
    error = "FASTATTN_ISA: the operating system refuses to save the registers of the level 'amx'."
    assert error in done.stderr and f"Hint: unset FASTATTN_ISA to use '{USABLE[-2]}'" in done.stderr


def test_thread_variables_and_their_order(run_python):
    config = config_under(run_python, FASTATTN_NUM_THREADS="3", OMP_NUM_THREADS="2")
    assert config["threads"] == 3 and "FASTATTN_NUM_THREADS" in config["threads_reason"]
    config = config_under(run_python, OMP_NUM_THREADS="2")
    assert config["threads"] == 2 and "OMP_NUM_THREADS" in config["threads_reason"]
    assert config_under(run_python)["threads"] >= 1


def test_set_num_threads(restore_threads):
    for n, threads in ((1, 1), (2, 2), (5, 5), (10**30, 256)):
        fastattn.set_num_threads(n)
        assert fastattn.get_num_threads() == threads
        assert fastattn.show_config(as_dict=True)["threads"] == threads


@pytest.mark.parametrize("n", [0, -1, 2.0, "2", None])
def test_a_bad_thread_count_is_refused(restore_threads, n):
    before = fastattn.get_num_threads()
    with pytest.raises(fastattn.ArgumentError, match=r"^n: expected .*\nHint: "):
        fastattn.set_num_threads(n)
    assert fastattn.get_num_threads() == before


def test_the_info_command(capsys):
    assert main(["info"]) == 0
    assert CONFIG["level"] in capsys.readouterr().out
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == fastattn.show_config(as_dict=True)


def test_the_command_as_a_module(run_python):
    done = run_python("-m", "fastattn", "info", "--json")
    assert json.loads(done.stdout)["version"] == fastattn.__version__
    assert run_python("-m", "fastattn", "--version").stdout.strip() == f"fastattn {fastattn.__version__}"


@pytest.mark.parametrize("argv", [[], ["nonsense"]])
def test_a_wrong_command_line_is_status_2(argv, capsys):
    assert main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fastattn: ") and "COMMAND" in line
