"""The checks of decoder steps: a wrong context or gradient costs a contestant its number."""

import numpy as np
import pytest

from ... import inputs, ours, reference
from ...harness import accuracy
from .cases import CASES

SMALL = [case.small() for case in CASES]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_each_output_is_judged(case):
    data = inputs.make(case)
    library, right = ours.load(1), reference.compute(case, data)
    result = library.collect(case, library.prepare(case, data)[""]())
    verdict = accuracy.judge(result, right)
    assert verdict.ok, verdict.reason
    for name, array in result.items():
        assert not accuracy.judge({**result, name: array * np.float32(1.001)}, right).ok, name


@pytest.mark.parametrize("case", [case for case in SMALL if not case.backward], ids=lambda case: case.name)
def test_a_key_too_many_is_noticed(case):
    data = inputs.make(case)
    data["lengths"][-1] = 3  # within the window of the last step, where there is one
    library, right = ours.load(1), reference.compute(case, data)
    longer = {**data, "lengths": np.full_like(data["lengths"], case.sizes["S"])}
    assert not accuracy.judge(library.collect(case, library.prepare(case, longer)[""]()), right).ok
