"""Mask functions: rows, and which blocks they hide and show."""

import ctypes
import gc
import weakref

import compiled_scores as scores
import numpy as np
import pytest

import fastattn
from fastattn import jit

ROW = ctypes.CFUNCTYPE(None, scores.POINTER, *[scores.INTEGER] * 5, scores.POINTER)


@fastattn.mask_mod
def causal(b, h, i, j):
    return i >= j


@fastattn.mask_mod
def local(b, h, i, j, width):
    return abs(i - j) <= width


@fastattn.mask_mod
def document(b, h, i, j, documents):
    return documents[b, i] == documents[b, j]


@fastattn.mask_mod
def prefix(b, h, i, j, lengths):
    return (j < lengths[b]) | (i >= j)


@fastattn.mask_mod
def dilated(b, h, i, j, step):
    return (i - j) % step[h] == 0


@fastattn.mask_mod
def near_by_distance(b, h, i, j, rate):
    return np.exp(-rate[h] * abs(i - j)) > 0.5


@fastattn.mask_mod
def near_by_bits(b, h, i, j):
    """Squares of 8 x 8 that touch, where places are laid out with the bits of row and column in turn."""

    def every_other(n):
        n = n & 0x55555555
        for step, kept in ((1, 0x33333333), (2, 0x0F0F0F0F), (4, 0x00FF00FF)):
            n = (n | n >> step) & kept
        return n

    return (abs(every_other(i >> 6) - every_other(j >> 6)) <= 1) & (abs(every_other(i >> 7) - every_other(j >> 7)) <= 1)


@fastattn.mask_mod
def below_zero(b, h, i, j):
    """All operations on bits, of numbers of both signs, that need more than 32 bits and that do not."""
    x, y = j - 100, i - j - 3
    few = (x & y) + 2 * (x | y) - 3 * (x ^ y) + ~x + (y << 3) - (x >> 2)
    many = (x << 40 | y) ^ ~(y << 33)
    return (few & 1 == 0) & ((many >> 38) % 3 == b)


@fastattn.mask_mod
def other_bits(b, h, i, j):
    return (i - j) ^ (j - 100) < -100


@fastattn.mask_mod
def common_bits(b, h, i, j):
    return (j - 400) & i > 40


@fastattn.mask_mod
def in_place(b, h, i, j, seen):
    """Places that are proven to be in the array by their bits."""
    return seen[j & 63, (i | j) & 63] | (seen[i & 7 ^ 5, 63 - (j & 63)] & (i >= j))


@fastattn.mask_mod
def everything(b, h, i, j):
    return True


@fastattn.mask_mod
def nothing(b, h, i, j):
    return i < j - 10**6


DOCUMENTS = np.sort(np.random.default_rng(0).integers(0, 4, (2, 300)))
MASKS = [
    causal(),
    local(width=70),
    document(documents=DOCUMENTS),
    prefix(lengths=np.array([100, 200])),
    dilated(step=np.array([1, 2, 70])),
    near_by_distance(rate=np.array([0.1, 0.01, 0.001])),
    near_by_bits(),
    below_zero(),
    other_bits(),
    common_bits(),
    in_place(seen=np.random.default_rng(1).integers(0, 2, (64, 64), bool)),
    causal() & local(width=70),
    local(width=3) & ~local(width=1),
    causal & document(documents=DOCUMENTS) | local(width=2),
    everything(),
    nothing(),
    ~causal,
    jit.as_mask_mod(lambda b, h, i, j: np.where(i < 64, j < 128, j >= 128)),
]


def states(whole):
    """The state of each block, from the whole mask."""
    found = [
        [(lambda part: 0 if not part.any() else 1 if part.all() else 2)(whole[u : u + 64, v : v + 64])
         for v in range(0, whole.shape[1], 64)]
        for u in range(0, whole.shape[0], 64)
    ]  # fmt: skip
    return np.array(found, np.uint8)


@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: mask.name)
def test_blocks_and_rows(mask):
    sizes = (2, 3, 150, 300)
    whole = np.broadcast_to(mask.evaluate(*np.ogrid[tuple(map(slice, sizes))]), sizes)
    found = np.broadcast_to(mask.block_map(*sizes), (2, 3, 3, 5))
    for b, h in np.ndindex(2, 3):
        np.testing.assert_array_equal(found[b, h], states(whole[b, h]))
    compiled = mask.compiled(*sizes)
    call = ROW(compiled.forward)
    for place, first, count in (((0, 0, 0), 0, 300), ((1, 2, 149), 0, 300), ((1, 1, 70), 63, 66), ((0, 2, 5), 299, 1)):
        row = np.full(count + 2, 7, np.uint8)
        call(scores.address(row) + 1, count, *place, first, compiled.parameters)
        np.testing.assert_array_equal(row[1:-1], whole[place][first : first + count])
        assert row[0] == row[-1] == 7


def test_a_mask_that_depends_on_no_sample_has_one_map():
    assert causal().block_map(4, 3, 65, 65).shape == (1, 1, 2, 2)
    assert document(documents=DOCUMENTS).block_map(2, 3, 65, 65).shape == (2, 1, 2, 2)
    assert dilated(step=np.array([1, 2, 70])).block_map(2, 3, 65, 65).shape == (1, 3, 2, 2)
    assert causal().block_map(0, 3, 65, 0).shape == (0, 1, 2, 0)


def test_a_map_is_made_once():
    mask = causal()
    assert mask.block_map(1, 1, 65, 65) is mask.block_map(1, 1, 65, 65)


def test_ranges_alone_tell_most_blocks(monkeypatch):
    """Nothing is compiled where they tell all."""
    from fastattn.jit import objects

    monkeypatch.setattr(objects, "address", None)
    mask = jit.as_mask_mod(lambda b, h, i, j: i // 64 >= j // 64)
    np.testing.assert_array_equal(mask.block_map(1, 1, 192, 192)[0, 0], np.tri(3, dtype=np.uint8))


def test_a_mask_that_is_no_bool_is_refused():
    with pytest.raises(fastattn.UnsupportedError, match="return a bool"):
        jit.as_mask_mod(lambda b, h, i, j: i - j)


def test_names_of_joined_parameters_stay_apart():
    mask = local(width=3) & local(width=1) & local(width=0)
    assert list(mask.parameters) == ["width", "width_2", "width_3"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda mask: mask & 3, "masks of fastattn.mask_mod beside &, [|], got int"),
        (lambda mask: mask & (lambda b, h, i, j: i > j), "make a mask of a function by fastattn.mask_mod"),
        (lambda mask: mask & np.ones(3, bool), r"seen: seen\[b, j\]"),
        (lambda mask: np.ones(3, bool) | mask, "got ndarray"),
        (lambda mask: mask & scores.plain, "a function for fastattn.mask_mod, got a score_mod"),
        (lambda mask: mask ^ causal, r"write \(a [|] b\) & ~\(a & b\)"),
        (lambda mask: np.ones(3, bool) ^ mask, "for a . b"),
        (lambda mask: mask and causal, "write a & b for `a and b`"),
        (lambda mask: not mask, "~a for `not a`"),
    ],
)
@pytest.mark.parametrize("mask", [causal, causal()], ids=["decorated", "bound"])
def test_what_joins_no_masks_is_refused(mask, wrong, message):
    with pytest.raises(fastattn.FastattnError, match=message):
        wrong(mask)


def test_other_functions_are_true():
    assert scores.plain and scores.plain()


@pytest.fixture
def maps(monkeypatch):
    """The names of the masks of which maps are made."""
    made, make = [], jit.MaskFunction._map
    monkeypatch.setattr(jit.MaskFunction, "_map", lambda self, *sizes: made.append(self.name) or make(self, *sizes))
    return made


@pytest.mark.parametrize("given", ["plain", "decorated", "joined", "beside the mask of a memory"])
def test_equal_calls_make_one_map(given, maps):
    def past(b, h, i, j):
        return i >= j

    one, other = fastattn.mask_mod(lambda b, h, i, j: i >= j), local(width=3)
    masks = {"plain": lambda: past, "decorated": lambda: one, "joined": lambda: one & ~other}
    x = np.ones((70, 4), np.float32)
    memory = fastattn.prepare(x, x, mask=other)
    for _ in range(5):
        if given in masks:
            fastattn.attention(x, x, x, mask=masks[given]())
        else:
            memory.attend(x, mask=past)
    assert len(maps) == 1


def test_a_mask_of_another_number_has_another_map(maps):
    width = 3
    x = np.ones((70, 4), np.float32)

    def near(b, h, i, j):
        return abs(i - j) <= width

    for width in (3, 3, 5):
        weights = fastattn.attention(x, x, x, mask=near, return_weights=True).weights
        assert np.count_nonzero(weights[20]) == 2 * width + 1
    assert len(maps) == 2


def test_what_is_kept_goes_with_the_function():
    def past(b, h, i, j):
        return i >= j

    jit.as_mask_mod(past) & causal & local(width=3)
    alive = weakref.ref(past)
    del past
    gc.collect()
    assert alive() is None
