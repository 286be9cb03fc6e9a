"""How many threads a process should use that an engine has started beside others."""

import os
import sys
from typing import Any

from fastattn._kernels import core

__all__ = ["assigned_cpus", "shared_cpus"]


def assigned_cpus() -> int:
    """Return the CPUs that whoever started this process has assigned to it.

    ``FASTATTN_NUM_THREADS`` if it is set; else what Ray has assigned to the task or actor, or Spark to the task; else
    the affinity of the process, or the quota of its control group if that is less. ``OMP_NUM_THREADS`` is not asked:
    engines set it to 1 whatever they have assigned.
    """
    return _said() or int(_of_ray() or _of_spark() or _allowed())


def shared_cpus(processes: int) -> int:
    """Return the CPUs of each of so many processes that were started alike on this machine.

    What Ray Train has assigned to its workers is theirs. Some launchers bind each process to CPUs of its own, and
    others let all use all: neither is shared twice.
    """
    return _said() or int(_of_ray()) or max(1, min(_allowed(), (os.cpu_count() or 1) // processes))


def _said() -> int:
    """What ``FASTATTN_NUM_THREADS`` says, 0 if nothing."""
    said = os.environ.get("FASTATTN_NUM_THREADS", "").split(",")[0].strip()
    return int(said) if said.isdigit() else 0


def _of_ray() -> float:
    """CPUs of the task or actor of Ray that runs this, 0 if none does; without importing Ray."""
    ray: Any = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return 0
    context = ray.get_runtime_context()
    if context.worker.mode != ray.WORKER_MODE:
        return 0
    return max(1.0, float(context.get_assigned_resources().get("CPU", 1)))


def _of_spark() -> int:
    """CPUs of the task of Spark that runs this, 0 if none does; without importing Spark."""
    pyspark: Any = sys.modules.get("pyspark")
    task = None if pyspark is None else pyspark.TaskContext.get()
    return 0 if task is None else int(task.cpus())


def _allowed() -> int:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cpus, core._cgroup_cpus() or cpus)
