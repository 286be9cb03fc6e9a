"""What takes minutes to make is made once in a run of the tests, by the first of its workers that wants it."""

import fcntl
import os
import shutil


def made_once(tmp_path_factory, name, make):
    """Return a folder that ``make(folder)`` filled, in this process or another of the run, and the text it returned."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, said = base / name, base / f"{name}.txt"
    with open(base / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
            folder.mkdir()
            text = make(folder)
            said.write_text(text)
    return folder, said.read_text()
