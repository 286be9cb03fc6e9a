"""How many threads a call uses, and the calls that do: each takes a run of tasks, whose bits are the same whoever does
them. They are started for a call and end with it, so that nothing is left to a child of the process."""

import os
import threading
from collections.abc import Callable
from typing import Any

from fastattn.errors import describe

__all__ = ["build_info", "get_num_threads", "in_parts", "set_num_threads", "use_team"]

_MOST = 256
_WORTH = 4e6  # multiply-adds for which starting a thread, about 0.1 ms, pays


class _State:
    threads = 1
    reason = ""


def _cgroup_cpus() -> int | None:
    """CPUs that the control group's quota amounts to, or None without a quota."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        cpus = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return max(1, round(cpus)) if cpus > 0 else None


def _choose() -> None:
    for name in ("FASTATTN_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "").split(",")[0].strip()
        if text.isdigit() and int(text) > 0:
            _State.threads, _State.reason = min(int(text), _MOST), name
            return
        if text and name == "FASTATTN_NUM_THREADS":
            raise ImportError(describe(name, "a number of threads from 1 up", repr(text), "unset it, or set it to 1."))
    allowed = getattr(os, "sched_getaffinity", None)  # of Linux
    cpus = len(allowed(0)) if allowed else os.cpu_count() or 1
    quota = _cgroup_cpus()
    _State.reason = "processors that this process may use"
    if quota is not None and quota < cpus:
        cpus, _State.reason = quota, "control group quota"
    _State.threads = min(cpus, _MOST)


def get_num_threads() -> int:
    """Return the most threads that one call uses."""
    return _State.threads


def set_num_threads(n: int) -> None:
    """Set the most threads that one call uses (1 to 256)."""
    _State.threads, _State.reason = max(1, min(n, _MOST)), "set_num_threads"


def use_team(address: int) -> None:
    """Do nothing: a call starts its threads itself, none is awake after it."""


def build_info() -> dict[str, Any]:
    """Return the level and the threads in use, with reasons, in the words of the compiled module."""
    return {
        "level": "numba",
        "level_reason": "compiled by Numba for this processor",
        "levels_built": ["numba"],
        "levels_cpu": ["numba"],
        "threads": _State.threads,
        "threads_reason": _State.reason,
    }


def in_parts(work: Callable[[int, int], None], tasks: int, operations: float) -> None:
    """Call ``work(first, last)`` for parts of the tasks, of about so many operations, on as many threads as pay."""
    count = min(_State.threads, tasks, int(operations / _WORTH) + 1)
    if count <= 1:
        if tasks:
            work(0, tasks)
        return
    edges = [tasks * part // count for part in range(count + 1)]
    failed: list[BaseException] = []

    def run(first: int, last: int) -> None:
        try:
            work(first, last)
        except BaseException as error:  # raised again by the caller's thread
            failed.append(error)

    others = [threading.Thread(target=run, args=edges[part : part + 2]) for part in range(1, count)]
    for thread in others:
        thread.start()
    run(*edges[:2])
    for thread in others:
        thread.join()
    if failed:
        raise failed[0]


_choose()
