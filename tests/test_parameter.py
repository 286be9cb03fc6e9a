"""Parameters: packed forms follow the value, memory is used again, lent arrays are nobody else's."""

import numpy as np
import pytest

from fastattn import linear
from fastattn.layers import Parameter


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 70), (64, 128), (1, 1), (130, 3)])
def test_packed_forms_follow_the_value(shape, dtype):
    rng = np.random.default_rng(0)
    w = Parameter(rng.standard_normal(shape).astype(dtype))
    x, dy = rng.standard_normal((4, shape[0])).astype(dtype), rng.standard_normal((4, shape[1])).astype(dtype)
    before = None
    for _ in range(3):
        packed, fresh = w.packed(), linear.PackedWeights(w.value)
        assert packed is w.packed() and packed is not before
        assert (packed.matmul(x) == fresh.matmul(x)).all()
        assert (packed.matmul_transposed(dy) == fresh.matmul_transposed(dy)).all()
        before, memory = packed, packed.panels
        w.value[...] = rng.standard_normal(shape)
        w.touch()
        assert w.packed().panels is memory


def test_two_that_borrow_get_two_arrays():
    w = Parameter(np.ones((2, 3)))
    first, second = w.borrow(), w.borrow()
    assert first.shape == second.shape == (2, 3) and not np.may_share_memory(first, second)
    w.give_back(first)
    assert w.borrow() is first and w.borrow() is not first


@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize("columns", [63, 64, 65, 8 * 64, 8 * 64 + 1, 17 * 64 + 5])
def test_packing_is_the_same_from_rows_and_from_strides(rows, columns):
    w = np.random.default_rng(1).standard_normal((rows, columns)).astype(np.float32)
    apart = np.empty((rows, 2 * columns), np.float32)[:, ::2]
    apart[...] = w
    assert (linear.PackedWeights(w).unpack() == w).all()
    assert (linear.PackedWeights(apart).unpack() == w).all()
    assert (linear.PackedWeights(np.asfortranarray(w)).unpack() == w).all()
