"""PyTorch with ``torch.compile``: Inductor fuses the formula into C++ loops (needs a C++ compiler)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cases import Case
from ..inputs import Arrays
from . import torch_bahdanau
from .base import Run
from .torch_eager import Torch, bind, formulas

NAME = "torch.compile"


def load(threads: int) -> TorchCompile:
    return TorchCompile(threads)


class TorchCompile:
    name = NAME

    def __init__(self, threads: int) -> None:
        self._eager = Torch(threads)
        self.version = self._eager.version

    def prepare(self, case: Case, data: Arrays) -> dict[str, Run]:
        import torch

        if case.family not in ("additive", "dot", "sparse", "steps", "bahdanau"):
            return {}
        torch.compiler.reset()  # compiled code of earlier cases counts against a limit that is per line of source
        if case.family == "bahdanau":
            return torch_bahdanau.prepare(case, data, compiled=True)
        if case.family == "steps":
            from . import torch_steps

            return torch_steps.prepare(case, data, compiled=True)
        runs = {}
        for spelling, function in formulas(case).items():
            compiled = torch.compile(function, dynamic=False, fullgraph=True)
            runs[spelling] = bind(case, data, compiled)
        return runs

    def collect(self, case: Case, result: Any) -> dict[str, np.ndarray]:
        return self._eager.collect(case, result)
