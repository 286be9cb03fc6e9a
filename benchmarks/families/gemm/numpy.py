"""NumPy's product."""

from ...case import Arrays, Case, Run
from ...case import named as collect

__all__ = ["collect", "prepare"]


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    return {"": lambda: data["x"] @ data["w"]}
