"""A model of PyTorch in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ...case import Arrays
from . import BETAS, EPSILON, LIMIT
from .ours import collect

__all__ = ["Training", "collect"]


class Training:
    """Loss, gradients, clipping and Adam; the call returns the contestant itself, for `collect`.

    Parameters
    ----------
    parameters
        What is learnt.
    loss
        Returns the mean loss of all target positions.
    load
        Puts the weights of the case back.
    gradients
        Returns gradients by the names and in the layout of the case.
    rate
        Of Adam.
    loops
        Of Adam: "fused" or "foreach".
    """

    def __init__(
        self, parameters: list[Any], loss: Callable[[], Any], load: Callable[[], None],
        gradients: Callable[[], Arrays], rate: float, loops: str = "fused",
    ) -> None:  # fmt: skip
        self.parameters, self._loss, self._load, self._named = parameters, loss, load, gradients
        self.options = {loops: True, "lr": rate, "betas": BETAS, "eps": EPSILON}
        self._start()

    def _start(self) -> None:
        self.adam = torch.optim.Adam(self.parameters, **self.options)

    def _gradients(self) -> Any:
        self.adam.zero_grad(set_to_none=True)
        loss = self._loss()
        loss.backward()
        return loss

    def __call__(self) -> Training:
        self.loss = self._gradients()
        self.norm = torch.nn.utils.clip_grad_norm_(self.parameters, LIMIT)
        self.adam.step()
        return self

    def examine(self) -> Arrays:
        """From the start: loss, norm and gradients, and the loss after two steps."""
        self._load()
        self._start()
        self._gradients()
        found = {name: array.copy() for name, array in self._named().items()}
        self()
        found |= {"loss": _one(self.loss), "norm": _one(self.norm)}
        self()()
        return found | {"later": _one(self.loss)}


def _one(number: Any) -> np.ndarray:
    return np.asarray(number.detach().reshape(1).numpy().copy())
