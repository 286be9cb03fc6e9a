"""Training steps and beam search of a Transformer."""

import pytest

from .cases import CASES

CASE_NAMES = frozenset(case.name for case in CASES if case.family == "transformer")


@pytest.mark.filterwarnings("ignore")  # frameworks warn about each other
def test_speed(case, library, race):
    race(case, library)
