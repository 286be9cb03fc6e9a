"""The folder of compiled functions: found again, by nobody else, whole or not at all."""

import os
import signal
import stat
import subprocess
import sys
import threading
import warnings

import compiled_scores as scores
import numpy as np
import pytest

from fastattn._kernels import kept
from fastattn.jit import as_score_mod, objects, trace

CODE = """
import sys, time
import numpy as np
import fastattn
from fastattn.jit import objects

def f(score, b, h, i, j):
    return score * 0.25 + j

score = np.ones((1, 1, 1, 20), np.float32)
bound = fastattn.jit.as_score_mod(f)
assert "numba" not in sys.modules and "llvmlite" not in sys.modules
address = bound.compiled(np.float32, 1, 1, 1, 20).forward
import ctypes
P, I = ctypes.c_void_p, ctypes.c_int64
ctypes.CFUNCTYPE(None, P, I, I, I, I, I, P)(address)(score.ctypes.data, 20, 0, 0, 0, 0, None)
print(np.array_equal(score[0, 0, 0], 0.25 + np.arange(20)), "numba" in sys.modules)
"""


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_another_process_needs_no_compiler(run_python, tmp_path):
    folder = tmp_path / "compiled"
    outputs = [run_python("-c", CODE, FASTATTN_CACHE_DIR=str(folder)).stdout.split() for _ in range(2)]
    assert outputs == [["True", "True"], ["True", "False"]]
    (name,) = files(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    whole = (folder / name).read_bytes()
    for damaged in (b"", whole[:-1], whole[:200] + b"x" + whole[201:], b"x" + whole[1:], os.urandom(999)):
        (folder / name).write_bytes(damaged)
        assert kept.read(name) is None
    assert run_python("-c", CODE, FASTATTN_CACHE_DIR=str(folder)).stdout.split() == ["True", "True"]
    assert (folder / name).read_bytes() == whole  # written again, and the same


def test_a_file_of_another_key_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTATTN_CACHE_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    kept.write("a.o", b"code")
    assert kept.read("a.o") == b"code"
    os.replace(tmp_path / "a.o", tmp_path / "b.o")
    assert kept.read("b.o") is None


@pytest.mark.slow
def test_two_processes_write_at_once(tmp_path, environment):
    environment["FASTATTN_CACHE_DIR"] = str(tmp_path / "compiled")
    both = [
        subprocess.Popen([sys.executable, "-c", CODE], env=environment, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        for _ in range(2)
    ]
    assert [one.communicate()[0].split()[0] for one in both] == ["True", "True"]
    assert len(files(tmp_path / "compiled")) == 1


def test_a_folder_of_others_is_neither_read_nor_written(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTATTN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(kept, "_warned", set())
    tmp_path.chmod(0o700)
    kept.write("a.o", b"code")
    tmp_path.chmod(0o777)
    assert kept.read("a.o") is None
    with pytest.warns(UserWarning, match="others can write to this folder"):
        kept.write("b.o", b"code")
    assert files(tmp_path) == ["a.o"]


def test_without_a_folder_functions_stay_in_memory_which_is_said_once(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FASTATTN_CACHE_DIR", str(tmp_path / "file" / "compiled"))
    monkeypatch.setattr(kept, "_warned", set())
    with pytest.warns(UserWarning, match="cannot be written"):
        kept.write("a.o", b"code")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept.write("a.o", b"code")
        assert kept.read("a.o") is None
    monkeypatch.setattr(kept, "read", lambda name: None)
    monkeypatch.setattr(kept, "write", lambda name, code: None)
    score, _ = scores.problem(np.float32)
    bound = scores.fastattn.jit.as_score_mod(lambda s, b, h, i, j: s * 0.125)
    assert (scores.forward(bound, score) == score / 8).all()


def test_an_empty_name_keeps_nothing(monkeypatch):
    monkeypatch.setenv("FASTATTN_CACHE_DIR", "")
    monkeypatch.setattr(kept, "_warned", set())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept.write("a.o", b"code")
    assert kept.folder() is None and kept.read("a.o") is None


def test_the_folder_is_where_the_system_keeps_such(monkeypatch, tmp_path):
    monkeypatch.delenv("FASTATTN_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    wanted = {"linux": ".cache", "darwin": "Library/Caches", "win32": "local"}
    for system, place in wanted.items():
        monkeypatch.setattr(kept.sys, "platform", system)
        assert kept.folder() == tmp_path / place / "fastattn"
    monkeypatch.setenv("LOCALAPPDATA", "")
    assert kept.folder() is None  # and none beside where Python was started
    monkeypatch.setattr(kept.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert kept.folder() == tmp_path / "xdg" / "fastattn"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_is_not_kept_waiting_by_a_thread_that_it_has_not(monkeypatch):
    monkeypatch.setattr(objects, "_load", lambda text, name: 7)
    held, done = threading.Event(), threading.Event()

    def load():
        with objects._lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=load)
    thread.start()
    held.wait(60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python 3.12, that there are threads
        child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends a child that waits
        os._exit(0 if objects.address("a text of nobody", "forward") == 7 else 1)
    _, status = os.waitpid(child, 0)
    done.set()
    thread.join()
    assert status == 0


def test_the_key_tells_what_code_is_made_of(monkeypatch):
    """Versions, the processor and the text of the function."""
    keys = []
    monkeypatch.setattr(kept, "read", lambda name: keys.append(name) or b"code")
    monkeypatch.setattr(objects, "_linked", lambda code, symbol: 1)
    machine, processor = objects._machine()
    for text, versions, cpu in (("a", ("1",), processor), ("b", ("1",), processor), ("a", ("2",), processor),
                                ("a", ("1",), "other")):  # fmt: skip
        monkeypatch.setattr(objects, "_versions", lambda versions=versions: versions)
        monkeypatch.setattr(objects, "_machine", lambda cpu=cpu: (machine, cpu))
        objects._load(text, "forward")
    assert len(set(keys)) == 4


def test_as_many_functions_are_remembered_as_it_says(monkeypatch):
    """Equal ones are one, for which more is known; the oldest are forgotten."""
    monkeypatch.setattr(trace, "_seen", {})
    monkeypatch.setattr(trace, "_MOST", 8)

    def made(number):
        as_score_mod(lambda score, b, h, i, j: score * number)

    for number in range(8):
        made(number + 0.5)
    first = next(iter(trace._seen.values()))
    assert len(trace._seen) == 8
    made(9.5)
    assert len(trace._seen) == 8 and first not in trace._seen.values()
