"""What backward steps leave for `finish`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from fastattn.variants.protocol.tape import Tape


@dataclass(slots=True)
class Step:
    number: int
    d_context: Any
    d_weights: Any = None


@pytest.mark.parametrize("expected", [0, 2, 5, 9])
def test_steps_are_joined_whatever_number_was_expected(expected):
    tape = Tape[Step]()
    tape.expected = expected
    given = np.empty((3, 4))
    for t in range(5):
        given[...] = t  # the same memory for every step
        tape.append(Step(t, given, np.full((3, 2), t, np.float32) if t in (1, 3) else None))
    steps = tape.joined()
    np.testing.assert_array_equal(steps.d_context, np.broadcast_to(np.arange(5.0)[:, None], (3, 5, 4)))
    np.testing.assert_array_equal(steps.d_weights[0, :, 0], [0, 1, 0, 3, 0])
    assert steps.d_weights.dtype == np.float32 and steps.number == 0
    assert [(step.number, step.d_context[0, 0]) for step in tape] == [(t, t) for t in range(5)]


def test_what_no_step_has_is_none():
    tape = Tape[Step]()
    tape.append(Step(0, np.zeros((1, 1))))
    assert tape.joined().d_weights is None
