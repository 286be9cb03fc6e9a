"""GRU and LSTM layers over whole sequences, forward and with the gradients of inputs and weights."""

import pytest

CASE_NAMES = frozenset({"gru_fwd", "gru_grad", "gru_single", "lstm_fwd", "lstm_grad"})


@pytest.mark.filterwarnings("ignore")  # frameworks warn about each other
def test_speed(case, library, race):
    race(case, library)
