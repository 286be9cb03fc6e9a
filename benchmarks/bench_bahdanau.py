"""Training and greedy steps of an encoder-decoder with attention."""

import pytest

from .cases import CASES

CASE_NAMES = frozenset(case.name for case in CASES if case.family == "bahdanau")


@pytest.mark.filterwarnings("ignore")  # frameworks warn about each other
def test_speed(case, library, race):
    race(case, library)
