"""Standard normal arrays; ``v`` has the norm that a trained one has, about 1."""

from typing import Any

from ...case import Case
from ..attention.inputs import cases, make

__all__ = ["described", "make"]


def described(case: Case) -> Any:
    B, Tq, Tk, Da, Dv = case.sizes.values()
    return cases.AttentionCase(case.name, batch=(B,), tq=Tq, tk=Tk, dk=Da, dv=Dv, da=Da, score="additive", given="")
