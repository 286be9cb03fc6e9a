"""Decoder steps of attention mechanisms, and the way back through all of them."""

import pytest

from .cases import CASES

CASE_NAMES = frozenset(case.name for case in CASES if case.family == "steps")


@pytest.mark.filterwarnings("ignore")  # frameworks warn about each other
def test_speed(case, library, race):
    race(case, library)
