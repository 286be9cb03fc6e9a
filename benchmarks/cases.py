"""The case table: all cases of all families."""

from collections.abc import Iterable

from . import families
from .case import Case

CASES: tuple[Case, ...] = tuple(case for name in families.NAMES for case in families.part(name, "cases").CASES)

# Seconds that `import fastattn` may add to `import numpy` in a fresh process.
IMPORT_LIMIT = 0.15


def select(names: Iterable[str] | None = None) -> list[Case]:
    """Cases by exact name or by prefix, in table order; all when no name is given.

    Raises
    ------
    ValueError
        When a name matches no case.
    """
    if not names:
        return list(CASES)
    wanted = list(names)
    for name in wanted:
        if not any(case.name.startswith(name) for case in CASES):
            raise ValueError(f"no case is called {name!r}; there are {', '.join(case.name for case in CASES)}")
    exact = {case.name for case in CASES} & set(wanted)
    prefixes = tuple(name for name in wanted if name not in exact)
    return [case for case in CASES if case.name in exact or (prefixes and case.name.startswith(prefixes))]
