"""Attention with sparsemax and 1.5-entmax: whole sequences, and a decoder's step."""

import pytest

CASE_NAMES = frozenset({"sparsemax_fwd", "sparsemax_grad", "entmax15_fwd", "entmax15_grad", "sparsemax_step"})


@pytest.mark.filterwarnings("ignore")  # frameworks warn about each other
def test_speed(case, library, race):
    race(case, library)
