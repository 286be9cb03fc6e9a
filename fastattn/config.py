"""What this installation runs on: the instruction-set level in use, the levels available, and the threads."""

import operator
from pathlib import Path
from typing import Any

from fastattn._kernels import core
from fastattn._numbers import check_flag
from fastattn._printing import show
from fastattn._version import __version__
from fastattn.errors import ArgumentError, describe

_MOST_THREADS = 256  # FA_MAX_THREADS of csrc/run/pool.h

__all__ = ["get_include", "get_num_threads", "set_num_threads", "show_config"]


def get_include() -> str:
    """Return the folder of ``fastattn.h``, with which compiled plugins are built.

    Returns
    -------
    str

    Examples
    --------
    >>> import os, fastattn
    >>> os.listdir(fastattn.get_include())
    ['fastattn.h']
    """
    return str(Path(__file__).parent / "include")


def get_num_threads() -> int:
    """Return the largest number of threads that one call uses.

    Returns
    -------
    int
        At least 1. At import it is ``FASTATTN_NUM_THREADS``, else ``OMP_NUM_THREADS``, else the number of CPUs that the
        process may use: its affinity, or its control group's quota if that is less.

    See Also
    --------
    set_num_threads, show_config
    """
    return int(core.get_num_threads())


def set_num_threads(n: int) -> None:
    """Set the largest number of threads that one call uses, for the whole process.

    Parameters
    ----------
    n : int
        At least 1; more than 256 count as 256. Results have the same bits for every value.

    Raises
    ------
    ArgumentError
        If `n` is not an integer, or is below 1.

    Examples
    --------
    >>> import fastattn
    >>> before = fastattn.get_num_threads()
    >>> fastattn.set_num_threads(2)
    >>> fastattn.get_num_threads()
    2
    >>> fastattn.set_num_threads(before)
    """
    hint = "pass the number of threads, for example 4."
    try:
        number = operator.index(n)
    except TypeError:
        raise ArgumentError(describe("n", "an integer", type(n).__name__, hint)) from None
    if number < 1:
        raise ArgumentError(describe("n", "at least 1", number, hint))
    core.set_num_threads(min(number, _MOST_THREADS))


def show_config(as_dict: bool = False) -> dict[str, Any] | None:
    """Print, or return, what this installation runs on.

    Parameters
    ----------
    as_dict : bool, default False
        Return the facts instead of printing them.

    Returns
    -------
    dict or None
        With `as_dict`, a new dict with the keys ``version``, ``backend`` ("c", or "numba"), ``level``,
        ``level_reason``, ``levels_built``, ``levels_cpu`` (those built that this CPU can run), ``threads`` and
        ``threads_reason``; every value is a str, an int or a list of str.

    Notes
    -----
    A level is a set of CPU instructions for which the kernels were compiled: ``generic``, ``avx2``, ``avx512``,
    ``avx512bf16``, ``amx``, ``neon``; ``amx_model`` is a slow model of ``amx`` for any processor, to test with. The
    environment variable ``FASTATTN_ISA`` forces one when fastattn is imported. Where there is no compiled module, or
    ``FASTATTN_BACKEND`` is ``numba``, Numba compiles kernels for this CPU when they are first called, and the level is
    ``numba``.

    Examples
    --------
    >>> import fastattn
    >>> config = fastattn.show_config(as_dict=True)
    >>> config["level"] in config["levels_built"]
    True
    """
    as_dict = check_flag("as_dict", as_dict)
    info = core.build_info()
    config: dict[str, Any] = {
        "version": __version__,
        "backend": "numba" if core.__name__.endswith("numba") else "c",
        "level": str(info["level"]),
        "level_reason": str(info["level_reason"]),
        "levels_built": [str(level) for level in info["levels_built"]],
        "levels_cpu": [str(level) for level in info["levels_cpu"]],
        "threads": get_num_threads(),
        "threads_reason": str(info["threads_reason"]),
    }
    if as_dict:
        return config
    show(f"fastattn {config['version']}")
    show(f"backend:      {config['backend']}")
    show(f"level:        {config['level']} ({config['level_reason']})")
    show(f"levels built: {', '.join(config['levels_built'])}")
    show(f"levels cpu:   {', '.join(config['levels_cpu'])}")
    show(f"threads:      {config['threads']} ({config['threads_reason']})")
    return None
