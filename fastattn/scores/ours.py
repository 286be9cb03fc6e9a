"""Our own score functions: the classes that files of this folder define."""

import functools
import importlib
import pkgutil

from fastattn.plugin.records import ScoreRecord
from fastattn.scores.base import Score

__all__ = ["classes", "ours"]


@functools.cache
def classes() -> tuple[type[Score], ...]:
    """Return all, first those that a kernel computes as they are."""
    package = __name__.rpartition(".")[0]
    found = []
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        name = f"{package}.{module.name}"
        for kind in vars(importlib.import_module(name)).values() if module.name != "registry" else ():
            if isinstance(kind, type) and issubclass(kind, Score) and kind.summary and kind.__module__ == name:
                found.append(kind)
    return tuple(sorted(found, key=lambda kind: (bool(kind.examples), kind.projects)))


def ours() -> list[ScoreRecord]:
    """Return their records."""
    return [ScoreRecord(k.name, k, k.summary, k.paper, k.examples, k.formula) for k in classes()]
