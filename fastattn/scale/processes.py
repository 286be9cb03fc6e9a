"""Processes that train one model together, over PyTorch's gloo or over MPI."""

import atexit
import contextlib
import datetime
import os
import time
from collections.abc import Iterator
from typing import Any, Literal, get_args

import numpy as np

from fastattn._arrays import Array
from fastattn._numbers import check_choice, check_size, number_in
from fastattn._optional import need
from fastattn.config import get_num_threads, set_num_threads
from fastattn.errors import ConfigError, FastattnError, describe_file
from fastattn.scale.threads import shared_cpus
from fastattn.seq2seq.runs.processes import Processes
from fastattn.seq2seq.runs.signals import Stopped

__all__ = ["joined"]

Transport = Literal["gloo", "mpi"]

_STARTED_BY = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun sets


@contextlib.contextmanager
def joined(transport: Transport, *, timeout: float = 50.0, threads: int | None = None) -> Iterator[Processes]:
    """Join the processes that were started together, for a block in which they train one model.

    Parameters
    ----------
    transport : {"gloo", "mpi"}
        "gloo": torch.distributed, in processes that torchrun, Ray Train or another launcher of PyTorch has started;
        "mpi": mpi4py, in processes that mpirun has started.
    timeout : float
        Seconds for which a process waits for the others before it gives up. What one of them does alone, such as the
        writing of a checkpoint, takes less.
    threads : int, optional
        Of each process. By default the CPUs of the machine are shared evenly among its processes, or those to which
        the launcher has bound each are used; ``OMP_NUM_THREADS``, which torchrun sets to 1, is not asked.

    Yields
    ------
    Processes
        For `fastattn.seq2seq.train`: its `rank`, `size`, and how it gathers arrays.

    Raises
    ------
    MissingPackageError
        If PyTorch or mpi4py is not installed.
    ConfigError
        If the processes were not started together.
    FastattnError
        In the block, if another process has ended or does not answer in time.

    Examples
    --------
    A program that is started by ``torchrun --nproc-per-node 2 program.py``::

        with fastattn.scale.joined("gloo") as processes:
            fastattn.seq2seq.train("german.toml", "german", resume=True, processes=processes)
    """
    check_choice("transport", transport, get_args(Transport))
    timeout = number_in("timeout", timeout, "50 suits most networks.", above=0, below=1e6)
    threads = None if threads is None else check_size("threads", threads)
    before = get_num_threads()
    with _gloo(timeout) if transport == "gloo" else _mpi(timeout) as (processes, neighbours):
        set_num_threads(threads or shared_cpus(neighbours))
        try:
            yield processes
        finally:
            set_num_threads(before)


class _Gloo(Processes):
    """Processes of torch.distributed."""

    def __init__(self, distributed: Any, group: Any) -> None:
        self.rank, self.size = distributed.get_rank(group), distributed.get_world_size(group)
        self._distributed, self._group = distributed, group

    def all_gather(self, array: Array) -> list[Array]:
        """Return the arrays of all processes, by rank."""
        torch = need("torch", "torch", "processes of torchrun")
        own = torch.from_numpy(np.ascontiguousarray(array).view(np.uint8))
        found = [torch.empty_like(own) for _ in range(self.size)]
        with _together(self):
            self._distributed.all_gather(found, own, group=self._group)
        return [one.numpy().view(array.dtype) for one in found]

    def barrier(self) -> None:
        """Wait for all."""
        with _together(self):
            self._distributed.barrier(group=self._group)


class _Mpi(Processes):
    """Processes of an MPI communicator."""

    def __init__(self, communicator: Any, timeout: float) -> None:
        self.rank, self.size = communicator.Get_rank(), communicator.Get_size()
        self._communicator, self._timeout = communicator, timeout

    def all_gather(self, array: Array) -> list[Array]:
        """Return the arrays of all processes, by rank."""
        own = np.ascontiguousarray(array).view(np.uint8)
        found = np.empty((self.size, own.size), np.uint8)
        self._wait(self._communicator.Iallgather(own, found))
        return [one.view(array.dtype) for one in found]

    def barrier(self) -> None:
        """Wait for all."""
        self._wait(self._communicator.Ibarrier())

    def _wait(self, request: Any) -> None:
        """Wait without using a processor, which the others may need, and not for ever."""
        pause, end = 1e-5, time.monotonic() + self._timeout
        with _together(self):
            while not request.Test():
                if time.monotonic() > end:
                    raise RuntimeError(f"no answer in {self._timeout:g} seconds")
                time.sleep(pause)
                pause = min(2 * pause, 1e-3)


@contextlib.contextmanager
def _gloo(timeout: float) -> Iterator[tuple[Processes, int]]:
    distributed = need("torch.distributed", "torch", "processes of torchrun")
    limit, ours = datetime.timedelta(seconds=timeout), not distributed.is_initialized()
    if ours:
        missing = [name for name in _STARTED_BY if name not in os.environ]
        if missing:
            problem = f"the environment has no {missing[0]}, which a launcher of PyTorch sets"
            hint = "start it by torchrun --nproc-per-node 2 -m fastattn train CONFIG --distributed gloo."
            raise ConfigError(describe_file("gloo", problem, hint))
        with _explained("the processes did not come together"):
            distributed.init_process_group("gloo", timeout=limit)
    try:
        with _explained("the processes did not come together"):
            group = distributed.new_group(backend="gloo", timeout=limit)
        yield _Gloo(distributed, group), int(os.environ.get("LOCAL_WORLD_SIZE", distributed.get_world_size()))
    finally:
        if ours:
            distributed.destroy_process_group()


@contextlib.contextmanager
def _mpi(timeout: float) -> Iterator[tuple[Processes, int]]:
    mpi = need("mpi4py.MPI", "mpi", "processes of mpirun")
    communicator = mpi.COMM_WORLD.Dup()
    neighbours = communicator.Split_type(mpi.COMM_TYPE_SHARED).Get_size()
    try:
        yield _Mpi(communicator, timeout), neighbours
    except Stopped:
        raise
    except BaseException:
        # Others may wait for this process, and MPI for them: its end is that of all, when the reason has been said.
        atexit.register(mpi.COMM_WORLD.Abort, 1)
        raise


def _together(processes: Processes) -> contextlib.AbstractContextManager[None]:
    return _explained(f"process {processes.rank} of {processes.size} has lost the others")


@contextlib.contextmanager
def _explained(problem: str) -> Iterator[None]:
    """Turn what a transport raises into one line that says what to do."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        hint = "see what the first one that ended has said, and start all of them again with --resume."
        raise FastattnError(describe_file("training", f"{problem}: {reason}", hint)) from error
