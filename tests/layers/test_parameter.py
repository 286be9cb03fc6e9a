"""Parameters: packed forms follow the value, memory is used again, lent arrays are nobody else's."""

import copy
import pickle

import numpy as np
import pytest

import fastattn
from fastattn import linear
from fastattn.layers import Linear, Parameter
from fastattn.optim import Adam, global_norm


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
        before, memory = packed, packed.panels.ctypes.data
        w.assign(rng.standard_normal(shape))
        assert w.packed().panels.ctypes.data == memory


@pytest.mark.parametrize("storage", linear.NARROW)
def test_columns_are_those_of_the_value(storage):
    if fastattn.show_config(as_dict=True).get("backend") == "numba":
        pytest.skip("the kernels in Numba have no narrow types")
    rng = np.random.default_rng(0)
    w, ids = Parameter(rng.standard_normal((70, 90)).astype(np.float32)), np.array([3, 89, 3, 0, 64])

    def follows():
        return (w._columns(ids) == w.value[:, ids].T).all()

    assert follows()
    w.store(storage)
    assert follows()
    w.assign(rng.standard_normal((70, 90)))
    assert follows()
    w.packed()  # of which the value is not rounded
    assert follows()
    w.store(storage)
    w.store("float32")
    assert follows()


VIEWS = {
    "value": lambda p: p.value,
    "panels": lambda p: p.packed().panels,
    "panels_transposed": lambda p: p.packed().panels_transposed(),
}


@pytest.mark.parametrize("view", VIEWS)
def test_what_kernels_read_cannot_be_made_writable(view):
    p = Parameter(np.ones((3, 2)))
    array = VIEWS[view](p)
    for found in (array, array.reshape(-1), array[:1], array.base):
        if isinstance(found, np.ndarray):
            with pytest.raises(ValueError, match="WRITEABLE"):
                found.flags.writeable = True
    with pytest.raises(ValueError, match="read-only"):
        array[...] = 0
    assert (p.packed().matmul(np.eye(3)) == 1).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # NumPy's, of setting a shape or strides
def test_what_is_done_to_a_view_does_not_reach_the_parameter():
    p = Parameter(np.arange(6.0).reshape(2, 3))
    for name in ("value", "gradient"):
        getattr(p, name).shape = (6,)
        getattr(p, name).dtype = np.float32
        getattr(p, name).strides = (0, 0)
        found = getattr(p, name)
        assert found.shape == (2, 3) and found.dtype == np.float64 and found.strides == (24, 8)
    p.packed().unpack()[...] = 7
    p.packed().panels.shape = (1, -1)
    assert (p.packed().matmul(np.eye(2)) == p.value).all()


def test_a_value_is_changed_by_assign_and_by_edit_alone():
    p = Parameter(np.ones((2, 3), np.float32))
    kept = p.value
    p.packed()
    p.assign(np.full((2, 3), 1 / 3))  # float64: rounded
    assert (p.value == np.float32(1 / 3)).all() and (kept == p.value).all()
    assert (p.packed().unpack() == p.value).all()
    with p.edit() as w:
        w[0] = 5
        assert p.value[0, 0] == np.float32(1 / 3)  # until the block ends
    assert (p.value[0] == 5).all() and (p.packed().unpack() == p.value).all()
    with pytest.raises(KeyError), p.edit() as w:
        w[...] = 9
        raise KeyError
    assert (p.value[0] == 5).all()
    with pytest.raises(fastattn.ArgumentError, match=r"^value: expected no assignment.*\nHint: call assign"):
        p.value = p.value * 2
    with pytest.raises(ValueError, match="read-only"):
        p.value *= 2
    given = np.zeros((2, 3), np.float32)
    p.assign(given)
    given[...] = 8
    assert not p.value.any()


def test_a_gradient_that_is_assigned_is_copied_and_rounded():
    p = Parameter(np.ones((2, 3), np.float32))
    p.accumulate(np.full((2, 3), 8, np.float32))
    kept = p.gradient
    p.gradient = p.gradient * np.float64(0.5)
    assert p.gradient.dtype == np.float32 and (kept == 4).all()
    p.gradient *= 0.5
    assert (kept == 2).all()
    p.gradient = p.gradient
    p.gradient += np.arange(3)
    p.gradient[0] = 0
    assert p.gradient.tolist() == [[0, 0, 0], [2, 3, 4]]


WRONG = [
    *(np.zeros(shape) for shape in ((3, 2), (6,), (1, 3), ())),
    *(np.zeros((2, 3), dtype) for dtype in (int, complex, bool, object)),
    "text",
    None,
    0.0,
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("number", range(len(WRONG)))
def test_what_does_not_fit_is_refused_and_changes_nothing(number):
    p = Parameter(np.ones((2, 3)))
    packed = p.packed()
    for change in (p.assign, p.accumulate, lambda x: setattr(p, "gradient", x)):
        with pytest.raises((fastattn.ShapeError, fastattn.DTypeError), match=r"^(value|gradient): expected"):
            change(WRONG[number])
    with pytest.raises((fastattn.ShapeError, fastattn.DTypeError), match=r"^value: expected"), p.edit() as w:
        w.shape = (6,)
    with pytest.raises(fastattn.DTypeError, match=r"^gradient: expected dtype float64"):
        p.accumulate(np.ones((2, 3), np.float32))
    assert (p.value == 1).all() and not p.gradient.any() and p.packed() is packed


LAYOUTS = {
    "fortran": np.asfortranarray,
    "swapped": lambda x: x.astype(">f4"),
    "reversed": lambda x: x[::-1, ::-1],
    "plain": np.copy,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_value_of_any_layout_becomes_a_contiguous_one_of_its_own(layout):
    given = LAYOUTS[layout](np.arange(6, dtype=np.float32).reshape(2, 3))
    p = Parameter(given)
    expected = given.tolist()
    given[...] = 0
    assert p.value.tolist() == expected and p.value.flags.c_contiguous and p.value.dtype.isnative
    assert p.packed().matmul(np.eye(2, dtype=np.float32)).tolist() == expected


def pickled(p):
    return pickle.loads(pickle.dumps(p))


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, pickled])
def test_a_copy_is_another_parameter(make):
    p = Parameter(np.ones((2, 3)))
    p.packed().matmul_transposed(np.ones((1, 3)))
    p.accumulate(np.ones((2, 3)))
    q = make(p)
    assert (q.value == 1).all() and (q.gradient == 1).all()
    q.gradient = q.gradient * 2
    with q.edit() as w:
        w[...] = 5
    assert (p.value == 1).all() and (p.gradient == 1).all()
    assert (p.packed().unpack() == 1).all() and (q.packed().unpack() == 5).all()


def test_two_that_borrow_get_two_arrays():
    w = Parameter(np.ones((2, 3)))
    first, second = w._borrow(), w._borrow()
    assert first.shape == second.shape == (2, 3) and not np.may_share_memory(first, second)
    w._give_back(first)
    assert w._borrow() is first and w._borrow() is not first


@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize("columns", [63, 64, 65, 8 * 64, 8 * 64 + 1, 17 * 64 + 5])
def test_packing_is_the_same_from_rows_and_from_strides(rows, columns):
    w = np.random.default_rng(1).standard_normal((rows, columns)).astype(np.float32)
    apart = np.empty((rows, 2 * columns), np.float32)[:, ::2]
    apart[...] = w
    assert (linear.PackedWeights(w).unpack() == w).all()
    assert (linear.PackedWeights(apart).unpack() == w).all()
    assert (linear.PackedWeights(np.asfortranarray(w)).unpack() == w).all()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(5, 70), (64, 128)])
def test_zeros_that_products_replace(shape, bias):
    """They are seen by whoever looks, whatever the memory holds, and a step's first product has the bits of a sum."""
    rng = np.random.default_rng(0)
    layer = Linear(*shape, bias=bias, rng=rng)
    optimizer = Adam(layer.parameters(), rate=0.1)
    x, dy = (rng.standard_normal((9, size)).astype(np.float32) for size in shape)
    wanted, sums = np.zeros(shape, np.float32), np.zeros(shape[1], np.float32)
    linear.weight_gradient(x, dy, wanted, sums=sums)

    def holds(times):
        found = [p.gradient.copy() for p in layer.parameters().values()]
        return all(a.tobytes() == (times * b + 0).tobytes() for a, b in zip(found, (wanted, sums)))

    layer.backward(x)(dy)
    assert holds(1)
    for look in (False, True, False):
        optimizer.step()
        if look:
            assert holds(0) and global_norm(layer.parameters()) == 0
            assert not copy.copy(layer.w).gradient.any()
        layer.backward(x)(dy)
        layer.backward(x)(dy)
        assert holds(2)
    optimizer.step()  # zeros that nothing replaces
    layer.w.accumulate(wanted)
    assert layer.w.gradient.tobytes() == wanted.tobytes()
    optimizer.step()
    kept = layer.w.gradient[1:]
    layer.w.gradient[0] = 7
    layer.backward(x)(dy)
    assert layer.w.gradient.tobytes() == (np.float32(7) * (np.arange(shape[0]) == 0)[:, None] + wanted).tobytes()
    optimizer.step()
    assert not kept.any()  # a view of it follows
    del kept
    layer.w.gradient = wanted
    assert layer.w.gradient.tobytes() == wanted.tobytes()
