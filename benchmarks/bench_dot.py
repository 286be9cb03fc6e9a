"""Scaled dot attention over whole sequences, from one long sequence to many short ones."""

import pytest

CASE_NAMES = frozenset(
    {
        "dot_long_fwd",
        "dot_causal_fwd",
        "dot_sentence_fwd",
        "dot_short_fwd",
        "dot_long_grad",
        "dot_causal_grad",
        "dot_sentence_grad",
    }
)


@pytest.mark.filterwarnings("ignore")  # frameworks warn about each other
def test_speed(case, library, race):
    race(case, library)
