"""Everybody gets the same number of threads: environment and CPU affinity of a measuring process.

OpenMP, BLAS and XLA fix their threads when they start, so each thread count is measured in a process of its own, and
the variables are set before anything is imported.
"""

import os
from collections.abc import Sequence

_COUNT_VARIABLES = (
    "FASTATTN_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NPROC",
)


def environment(threads: int) -> dict[str, str]:
    """Variables that hold every library to `threads` threads."""
    variables = dict.fromkeys(_COUNT_VARIABLES, str(threads))
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "multi_thread_eigen" not in flag]
    flags.append(f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}")
    variables["XLA_FLAGS"] = " ".join(flags)
    variables["JAX_PLATFORMS"] = "cpu"
    variables["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND", "jax")
    # Inductor would otherwise keep compiler processes around while others are timed.
    variables["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    return variables


def usable_cpus() -> list[int]:
    """CPUs this process may use, in order; empty where the system cannot tell (then nothing is pinned)."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def choose_cpus(threads: int, wanted: Sequence[int] | None = None) -> list[int]:
    """`threads` CPUs out of `wanted`, else the last usable ones: the first serves most of a machine's interrupts.

    Raises
    ------
    ValueError
        When there are fewer CPUs than threads; a shared CPU would measure the scheduler.
    """
    cpus = list(wanted) if wanted else usable_cpus()
    if not cpus:
        return []
    if len(cpus) < threads:
        raise ValueError(f"{threads} threads need {threads} CPUs, {len(cpus)} may be used")
    return cpus[-threads:]


def pin(cpus: Sequence[int]) -> None:
    """Hold this process, and all threads that it starts from now on, to `cpus`. Call before importing any library."""
    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(cpus))
