"""The processes that train one model together, as a run sees them: one alone, unless it is told of others."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn._arrays import Array
from fastattn.errors import CheckpointError, ConfigError, FastattnError, describe_file

__all__ = ["Processes"]


class Processes:
    """One process alone; and the base class of several.

    A subclass has `rank`, `size`, `all_gather` and `barrier`, which is all that a transport must offer; what a run
    asks for besides is made of them. `fastattn.scale.joined` makes those of PyTorch and of MPI.

    Attributes
    ----------
    rank : int
        The number of this process, from 0.
    size : int
        How many there are.
    """

    rank: int = 0
    size: int = 1

    def all_gather(self, array: Array) -> list[Array]:
        """Return the arrays that all processes give, in the order of their ranks.

        Parameters
        ----------
        array : array, one-dimensional
            Of the same dtype and size in all processes.
        """
        return [array]

    def barrier(self) -> None:
        """Wait until all processes have called this."""

    def exchange(self, value: Any) -> list[Any]:
        """Return the JSON values that all processes give, in the order of their ranks."""
        if self.size == 1:
            return [value]
        data = np.frombuffer(json.dumps(value).encode(), np.uint8)
        sizes = [int(size[0]) for size in self.all_gather(np.array([len(data)], np.int64))]
        padded = np.zeros(max(sizes), np.uint8)
        padded[: len(data)] = data
        return [json.loads(found[:size].tobytes()) for size, found in zip(sizes, self.all_gather(padded))]

    def largest(self, number: int) -> int:
        """Return the largest of the numbers that all processes give."""
        return number if self.size == 1 else max(int(n[0]) for n in self.all_gather(np.array([number], np.int64)))

    def in_first(self, act: Callable[[], object]) -> None:
        """Do something in the first process alone; what of ours it raises there is raised in all."""
        failed = None
        if self.rank == 0:
            try:
                act()
            except FastattnError as error:
                failed = error
        problem = self.exchange(str(failed or ""))[0]
        if failed is not None:
            raise failed
        if problem:
            raise CheckpointError(problem)

    def check_alike(self, facts: dict[str, Any], hint: str) -> None:
        """Raise unless all processes give the same facts; both values of the first that differs are named."""
        for rank, others in enumerate(self.exchange(facts)):
            for name, value in others.items():
                if value != facts[name]:
                    problem = f"has {name} {value}, and process {self.rank} has {facts[name]}"
                    raise ConfigError(describe_file(f"process {rank} of {self.size}", problem, hint))
