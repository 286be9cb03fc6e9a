"""Monotonic attention, which this backend does not have."""

from typing import Any, NoReturn

from fastattn._kernels.numba.records import refused

__all__ = ["Monotonic"]


class Monotonic:
    """What the compiled module has under this name; here every call is refused."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        raise refused("attention", "a mechanism that is not monotonic or hard")

    def forward(self, *arguments: Any) -> NoReturn:
        """Never called."""
        raise NotImplementedError

    backward = forward
