"""Random cases of each precision have the bits that they have alone, and a difference of one bit is noticed."""

import sys
from pathlib import Path

import numpy as np
import pytest

from fastattn import layers, linear
from fastattn.attention.memory import Memory

pytest.importorskip("ml_dtypes")
sys.path.append(str(Path(__file__).parent))

import batches


@pytest.mark.parametrize("precision", batches.PRECISIONS)
def test_samples_alone_and_in_batches(precision):
    assert not batches.search(precision, 100, seed=7)


@pytest.mark.parametrize(
    ("owner", "name"),
    [(linear.PackedWeights, "matmul"), (Memory, "attend"), (layers.GRU, "forward"), (layers.LSTM, "forward")],
)
def test_a_bit_is_noticed(monkeypatch, owner, name):
    """One that depends on how many samples there are."""
    right = getattr(owner, name)

    def wrong(self, x, *more, **options):
        found = right(self, x, *more, **options)
        first = found[0] if isinstance(found, tuple) else found
        if len(x) > 1:
            first.reshape(-1).view(np.uint8)[0] ^= 1
        return found

    monkeypatch.setattr(owner, name, wrong)
    assert batches.search("highest", 60, seed=7)
