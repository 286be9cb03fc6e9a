"""Memories that are kept in a narrower type: halves, and int8 with a scale for each row."""

import pickle

import numpy as np
import pytest
from cases import SCORES, AttentionCase, library_score, make
from checks import same_bits

import fastattn

F32 = np.float32
LARGEST = np.finfo(F32).max

HALVES = ["float16", "bfloat16"]
W = np.random.default_rng(1).normal(size=(8, 8), scale=0.2).astype(F32)


def half_type(name):
    return np.dtype(name if name == "float16" else pytest.importorskip("ml_dtypes").bfloat16)


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("of_half", [False, True])
@pytest.mark.parametrize("score", ["scaled_dot", fastattn.scores.General(W)], ids=["dot", "general"])
def test_a_memory_is_kept_in_the_type_of_its_storage(name, of_half, score):
    half, rng = half_type(name), np.random.default_rng(0)
    q, k, v = (rng.normal(size=s).astype(half if of_half else F32) for s in ((3, 4, 6, 8), (3, 2, 9, 8), (3, 2, 9, 5)))
    memory = fastattn.prepare(k, v, score=score, storage=half)
    assert memory._keys.dtype == memory._values.dtype == half
    found = memory.attend(q, return_weights=True)
    assert found.context.dtype == found.weights.dtype == q.dtype
    if score == "scaled_dot":
        right = fastattn.attention(q, k.astype(half).astype(q.dtype), v.astype(half).astype(q.dtype), score=score)
    else:  # what is kept is what was projected
        kept = (k.astype(F32) @ W.T).astype(half).astype(F32)
        inputs = q.astype(F32), kept, v.astype(half).astype(F32)
        right = fastattn.attention(*inputs, score="dot")
    tolerance = 0 if score == "scaled_dot" else 0.02
    np.testing.assert_allclose(found.context.astype(float), right.astype(float), rtol=0, atol=tolerance)
    grown = fastattn.prepare(k[:, :, :4], v[:, :, :4], score=score, storage=half).append(k[:, :, 4:6], v[:, :, 4:6])
    grown = grown.extended(k[:, :, 6:], v[:, :, 6:])
    assert grown._keys.dtype == half
    np.testing.assert_array_equal(grown.attend(q), found.context)
    rows = np.array([0, 0, 1, 1, 2, 2])  # read once for both beams
    np.testing.assert_array_equal(memory.select(rows).attend(q[rows, :, :1]), found.context[rows, :, :1])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(grown)).attend(q), found.context)


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("rows", [1, 5])
def test_every_number_of_a_half_type_comes_out_of_a_memory(name, rows):
    half = half_type(name)
    bits = np.resize(np.arange(2**16, dtype=np.uint16), 37 * 1772).reshape(1772, 1, 37)
    numbers = bits.view(half).astype(F32)
    numbers[np.isnan(numbers)] = np.nan  # a quiet one
    zeros = np.zeros((1772, rows, 37), F32)
    memory = fastattn.prepare(zeros[:, :1], numbers, storage=half)
    np.testing.assert_array_equal(memory.attend(zeros), np.broadcast_to(numbers, zeros.shape))


def test_storage_that_cannot_be_had_is_refused():
    x = np.ones((2, 3))
    for dtype, storage in ((np.float64, F32), (F32, np.float64), (np.float16, np.float64)):
        with pytest.raises(fastattn.UnsupportedError, match="storage"):
            fastattn.prepare(x.astype(dtype), x.astype(dtype), storage=storage)
    with pytest.raises(fastattn.DTypeError, match="storage"):
        fastattn.prepare(x, x, storage="nonsense")
    for dtype, storage in ((np.float64, np.float64), (F32, "float32"), (np.float16, F32)):
        memory = fastattn.prepare(x.astype(dtype), x.astype(dtype), storage=storage)
        assert memory._keys.dtype == storage and memory.attend(x.astype(dtype)).dtype == dtype
    with pytest.raises(fastattn.UnsupportedError, match=r"^storage: expected float16, bfloat16, int8 or float32"):
        fastattn.prepare(x.astype(F32), x.astype(F32), storage=np.int16)


# ---- int8


def prepared(key, value, **options):
    return fastattn.prepare(key, value, storage=np.int8, **options)


def kept(rows):
    """Rows (N, D) as a memory has them: a context of one key is its value, to the bit."""
    keys = np.zeros_like(rows)[:, None]
    return prepared(keys, rows[:, None]).attend(keys)[:, 0]


def kept_keys(rows):
    """The same of keys, of which products with unit vectors are the numbers."""
    queries = np.broadcast_to(np.eye(rows.shape[1], dtype=F32), (len(rows), *2 * rows.shape[1:]))
    memory = prepared(rows[:, None], rows[:, None], score="dot")
    return memory.attend(queries, return_lse=True).lse


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(F32)


@pytest.mark.parametrize("found", [kept, kept_keys])
def test_a_number_errs_by_half_a_scale(found):
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((3000, 33)) * 2.0 ** rng.integers(-115, 118, (3000, 1))
    rows[:, 0] *= rng.choice([1, 40], 3000)  # some rows have one large number
    rows = rows.astype(F32)
    scales = np.abs(rows.astype(float)).max(axis=1, keepdims=True) / 127
    error = np.abs(found(rows) - rows.astype(float)) / scales
    assert 0.49 < error.max() <= 0.5 * (1 + 2**-16)


def test_tiny_and_huge_rows():
    sizes = [F32(2.0**-149), F32(3 * 2.0**-149), F32(2.0**-140), F32(1.7e-38), F32(2.0**-119), LARGEST, LARGEST / 2]
    share = np.array([1, -1, 0.3, 0, -0.77, 1 / 127, 0.5], F32)
    rows = np.stack([size * share for size in sizes])
    found = kept(rows)
    scales = np.maximum(np.abs(rows.astype(float)).max(axis=1, keepdims=True) / 127 * 2, 2.0**-149)
    scales[4:] /= 2
    assert np.isfinite(found).all()
    assert (np.abs(found - rows.astype(float)) <= 0.5 * (1 + 2**-15) * scales).all()
    assert same_bits(found[0], rows[0])
    assert same_bits(kept(found), found)  # rounding again changes nothing


def test_zeros_stay_zeros():
    rows = np.zeros((3, 5), F32)
    rows[1] = drawn(5)
    assert not kept(rows)[[0, 2]].any()
    assert same_bits(kept(rows)[1:2], kept(rows[1:2]))


def test_infinities_and_nan_stay_where_they_are():
    rows = drawn(40, 7)
    expected = kept(rows)
    rng = np.random.default_rng(1)
    for number in range(0, 40, 2):
        at = rng.random(7) < 0.4
        rows[number, at] = rng.choice([np.inf, -np.inf, np.nan], at.sum())
    rows[0], rows[2], rows[4] = np.nan, np.inf, [LARGEST, -LARGEST, np.inf, 0, 1, LARGEST / 3, -np.inf]
    found, finite = kept(rows), np.isfinite(rows)
    np.testing.assert_array_equal(found[~finite], rows[~finite])
    assert np.isfinite(found[finite]).all()
    largest = np.abs(np.where(finite, rows, 0).astype(float)).max(axis=1, keepdims=True)
    error = np.abs(np.where(finite, found, 0) - np.where(finite, rows, 0).astype(float))
    assert (error <= 0.5 * (1 + 2**-16) * largest / 126).all()
    assert same_bits(found[1::2], expected[1::2])  # rows beside them do not notice
    zeros = np.array([[0, np.nan, 0, -np.inf]], F32)
    np.testing.assert_array_equal(kept(zeros), zeros)


def test_what_is_not_finite_reaches_the_queries_that_read_it():
    q, key, value = drawn(2, 3, 4), drawn(2, 6, 4), drawn(2, 6, 4)
    key[0, 2, 1], value[1, 5, 3] = np.nan, np.inf
    lengths, memory = np.array([2, 6]), prepared(key, value)
    found, masked = memory.attend(q), prepared(key, value, key_lengths=lengths).attend(q)
    assert np.isnan(found[0]).all() and np.isinf(found[1, :, 3]).all() and np.isfinite(found[1, :, :3]).all()
    clean = np.where(np.isfinite(key), key, 0)
    assert same_bits(masked[0], prepared(clean, value, key_lengths=lengths).attend(q)[0])


def problem(score, **fields):
    wide = {"dq": 11} if score in ("general", "additive", "concat", "location") else {}
    p = make(AttentionCase(f"storage-{score}", score=score, tq=5, tk=70, dv=9, **wide, **fields))
    return p, library_score(p.score)


@pytest.mark.parametrize("layout", [{"batch": ()}, {"batch": (3,)}, {"batch": (2, 6), "key_heads": 2}])
@pytest.mark.parametrize("score", SCORES)
def test_grown_and_selected_memories_have_the_bits_of_whole_ones(score, layout):
    p, chosen = problem(score, **layout)
    whole = prepared(p.key, p.value, score=chosen)
    expected = whole.attend(p.query, return_weights=True, return_lse=True)
    plain = fastattn.attention(*p.arrays, score=chosen)
    assert np.abs(expected.context - plain).max() < 0.1 * np.abs(plain).max()
    grown, done = prepared(p.key[..., :0, :], p.value[..., :0, :], score=chosen), 0
    for step in (1, 2, 13, 16, 31, 7):
        more = slice(done, done + step)
        grown, done = grown.extended(p.key[..., more, :], p.value[..., more, :]), done + step
    assert same_bits(grown.attend(p.query, return_weights=True, return_lse=True), expected)
    assert same_bits(pickle.loads(pickle.dumps(grown)).attend(p.query), expected.context)
    for one in range(p.query.shape[-2]):
        assert same_bits(grown.attend(p.query[..., one : one + 1, :]), expected.context[..., one : one + 1, :])
    if not layout["batch"]:
        return
    for b in range(len(p.query)):  # alone
        alone = prepared(p.key[b : b + 1], p.value[b : b + 1], score=chosen).attend(p.query[b : b + 1])
        assert same_bits(alone, expected.context[b : b + 1])
    rows = np.array([1, 1, 0, 0])  # beams together, and after their ways parted
    beams = prepared(p.key[..., :60, :], p.value[..., :60, :], score=chosen).select(rows)
    short = fastattn.prepare(p.key[..., :60, :], p.value[..., :60, :], score=chosen, storage=np.int8).attend(p.query)
    assert same_bits(beams.attend(p.query[rows][..., :1, :]), short[rows][..., :1, :])
    beams = beams.extended(p.key[rows][..., 60:, :], p.value[rows][..., 60:, :])
    assert same_bits(beams.attend(p.query[rows]), expected.context[rows])
    again = np.array([3, 0, 0])
    assert same_bits(beams.select(again).attend(p.query[rows][again]), expected.context[rows][again])


@pytest.mark.parametrize("options", [
    {"normalizer": "sparsemax"}, {"causal": "bottom_right", "dropout": 0.3, "seed": 4}, {"window": (20, None)},
    {"scale": 0.3, "score_mod": lambda score, b, h, i, j: score - 0.1 * (i - j)},
], ids=["sparse", "dropout", "window", "function"])  # fmt: skip
def test_every_option_computes_from_what_is_kept(options):
    p, _ = problem("scaled_dot", batch=(2, 4), key_heads=2)
    key, value = (kept(x.reshape(-1, x.shape[-1])).reshape(x.shape) for x in (p.key, p.value))
    expected = fastattn.attention(p.query, key, value, **options)
    memory, rows = prepared(p.key, p.value), np.array([1, 0, 0])
    assert same_bits(memory.attend(p.query, **options), expected)
    grown = prepared(p.key[:, :, :9], p.value[:, :, :9]).select(rows)
    grown.append(p.key[rows, :, 9:], p.value[rows, :, 9:])
    if "seed" not in options:
        assert same_bits(grown.attend(p.query[rows], **options), expected[rows])


@pytest.mark.parametrize("name", HALVES)
def test_memories_of_half_types_are_kept_as_int8_too(name):
    half = half_type(name)
    q, k, v = (drawn(*shape, seed=s).astype(half) for s, shape in enumerate(((2, 3, 8), (2, 9, 8), (2, 9, 5))))
    memory = prepared(k[:, :4], v[:, :4]).append(k[:, 4:], v[:, 4:])
    right = prepared(k.astype(F32), v.astype(F32)).attend(q.astype(F32))
    assert memory.attend(q).dtype == half
    np.testing.assert_array_equal(memory.attend(q), right.astype(half))


def test_a_quarter_of_the_bytes():
    x = drawn(4, 8, 100, 64)
    memory = prepared(x, x)
    assert memory.nbytes == 2 * x[..., :1].size * (64 + 4)
    assert fastattn.prepare(x, x, storage=np.float16).nbytes == x.nbytes
    assert fastattn.prepare(x, x).nbytes == 2 * x.nbytes
    assert fastattn.prepare(x[:1, :, :10], x[:1, :, :10]).nbytes > 3 * x[:1, :, :10].nbytes  # with keys packed
    assert fastattn.prepare(x, x, score=fastattn.scores.Additive(np.ones(64, F32))).nbytes >= 3 * x.nbytes
    assert repr(memory) == "Memory(shape=(4, 8, 100), score=ScaledDot(), dtype=float32, storage=int8)"
    half = x.astype(np.float16)
    assert repr(fastattn.prepare(half, half)).endswith("dtype=float16, storage=float32)")
    assert repr(fastattn.prepare(half, half, storage=np.float16)).endswith("score=ScaledDot(), dtype=float16)")


def test_a_memory_is_stored_as_if_prepared_so():
    x, rows = drawn(3, 2, 20, 8), np.array([2, 0, 0])
    memory, expected = fastattn.prepare(x, x), prepared(x, x).attend(x)
    assert same_bits(memory.stored(np.int8).attend(x), expected)
    assert same_bits(memory.select(rows).stored("int8").attend(x[rows]), expected[rows])
    more = x[:, :, :3]
    whole = prepared(np.concatenate([x, more], axis=2), np.concatenate([x, more], axis=2)).attend(x)
    parted = memory.select(rows).extended(more[rows], more[rows])
    assert same_bits(parted.stored(np.int8).attend(x[rows]), whole[rows])
    grown = memory.stored(np.int8)
    assert same_bits(grown.extended(more, more).attend(x), whole)
    assert memory.nbytes >= 3 * x.nbytes and grown.nbytes == 2 * x.nbytes * 12 / 32
    again = grown.stored(F32)
    assert same_bits(again.attend(x), expected) and again.nbytes == memory.nbytes
    assert same_bits(memory.attend(x), fastattn.attention(x, x, x))
    assert memory.stored(F32).shape == memory.shape
    with pytest.raises(fastattn.UnsupportedError, match=r"^storage: "):
        memory.stored(np.float64)
