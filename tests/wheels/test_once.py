"""What is made once for all workers of a run."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from wheels.once import made_once


@pytest.fixture
def factories(tmp_path, monkeypatch):
    """What two workers of a run have for their folders."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    return [SimpleNamespace(getbasetemp=lambda name=name: tmp_path / name) for name in ("popen-gw0", "popen-gw1")]


def test_two_workers_share_what_one_of_them_makes(factories):
    calls, both = [], threading.Barrier(2)

    def make(folder):
        calls.append(folder)
        assert not (folder / "file").exists()
        time.sleep(0.3)  # the other has come, and waits
        (folder / "file").write_text("whole")
        return "said"

    def worker(factory):
        both.wait()
        folder, said = made_once(factory, "thing", make)
        return (folder / "file").read_text(), said

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(worker, factories)) == [("whole", "said")] * 2
    assert len(calls) == 1


def test_what_one_failed_to_make_is_made_by_the_next(factories):
    def fails(folder):
        (folder / "part").write_text("")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        made_once(factories[0], "thing", fails)
    folder, said = made_once(factories[1], "thing", lambda folder: str(list(folder.iterdir())))
    assert said == "[]" and folder.is_dir()
