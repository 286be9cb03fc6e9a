"""One query per sample: the steps of a decoder."""

import pytest

CASE_NAMES = frozenset({"additive_step", "decode_fwd", "decode_grad"})


@pytest.mark.filterwarnings("ignore")  # frameworks warn about each other
def test_speed(case, library, race):
    race(case, library)
