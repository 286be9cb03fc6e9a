"""Additive (Bahdanau) attention over whole sequences, forward and with gradients."""

import pytest

CASE_NAMES = frozenset({"additive_fwd", "additive_grad"})


@pytest.mark.filterwarnings("ignore")  # frameworks warn about each other
def test_speed(case, library, race):
    race(case, library)
