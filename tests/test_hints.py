"""Every hint of the package is provoked and followed: see `hints`."""

import contextlib
import functools
import importlib
import inspect
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


def test_every_hint_is_provoked_in_all_its_parts():
    reached, said = set(), []
    for case in hints.CASES:
        with contextlib.suppress(Exception):  # a hint that does not work is no hint, and has a test that says so
            reached |= outcome(case).sites
            said.append(outcome(case).hint)
    calls, pieces = hints.hints_in_source()
    missing = {place: text for place, text in calls.items() if place not in reached}
    missing |= {place: text for place, text in pieces.items() if not any(text in hint for hint in said)}
    assert not missing, "no case in tests/shared/hints/ for these:\n" + "\n".join(
        f"fastattn/{file}:{line}: {text}" for (file, line, _), text in sorted(missing.items())
    )


NONSENSE = (None, "x", b"x", object(), [], {}, -1, 1.5, float("nan"), 2**70, lambda: 0)
SLOW = ("runs", "commands", "importing", "scale")


@pytest.mark.parametrize(
    "case", [case for case in hints.CASES if case.id.split(":")[0] not in SLOW], ids=lambda case: case.id
)
def test_nonsense_in_place_of_an_argument_is_an_error_of_ours(case):
    names = inspect.signature(case.wrong).parameters
    found = {(name, repr(value)): hints.raw_error(case, name, value) for name in names for value in NONSENSE}
    assert not any(found.values()), {call: error for call, error in found.items() if error}
