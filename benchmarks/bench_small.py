"""The smallest call: what calling costs."""

import pytest

CASE_NAMES = frozenset({"smallest"})


@pytest.mark.filterwarnings("ignore")  # frameworks warn about each other
def test_speed(case, library, race):
    race(case, library)
