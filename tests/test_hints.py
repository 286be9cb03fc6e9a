"""Every hint of the package is provoked and followed: see `hints`."""

import functools
import importlib
import pkgutil

import hints
import pytest

for module in pkgutil.iter_modules(hints.__path__):
    importlib.import_module(f"hints.{module.name}")


@functools.cache
def outcome(case):
    """What comes of a case; each runs once."""
    return hints.run(case)


@pytest.mark.parametrize("case", hints.CASES, ids=lambda case: case.id)
def test_the_advice_works(case):
    message, hint, _ = outcome(case)
    assert case.hint in hint, message
    assert message.count("Hint: ") == 1, message
    assert hint.endswith((".", "?")) and not hint.endswith(".."), message


def test_every_hint_is_provoked():
    reached = set().union(*(outcome(case).sites for case in hints.CASES))
    missing = {place: text for place, text in hints.call_sites().items() if place not in reached}
    assert not missing, "no case in tests/hints/ for these:\n" + "\n".join(
        f"fastattn/{file}:{line}: {text}" for (file, line, _), text in missing.items()
    )
