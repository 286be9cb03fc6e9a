"""Products with weights packed once, for the few rows of a decoder step."""

import pytest

CASE_NAMES = frozenset({"gemm_m1", "gemm_m8", "gemm_m16", "gemm_m32", "gemm_m64"})


@pytest.mark.filterwarnings("ignore")  # frameworks warn about each other
def test_speed(case, library, race):
    race(case, library)
