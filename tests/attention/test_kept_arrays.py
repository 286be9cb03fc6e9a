"""What a call keeps for later, and what may be assigned in between: numbers that kernels trust stay as they were, and
nothing that is assigned reaches a kernel unchecked."""

import numpy as np
import pytest

import fastattn
from fastattn import ArgumentError, DTypeError, ShapeError, scores
from fastattn.positions import RelativeBias

F32 = np.float32


def ones(*shape, dtype=F32):
    return np.ones(shape, dtype)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(F32) for shape in ((2, 3, 4), (2, 5, 4), (2, 5, 6))]


@pytest.mark.parametrize("name", ["key_lengths", "seed"])
@pytest.mark.parametrize("value", [2**40, -(2**40), 0])
def test_backward_does_not_see_later_lengths_and_seeds(arrays, name, value):
    given = np.array([5, 3], np.int64 if name == "key_lengths" else np.uint64)
    options = {"dropout": 0.5, "seed": 7, name: given}
    context, backward = fastattn.attention_vjp(*arrays, **options)
    before = backward(np.ones_like(context))
    given[:] = np.array(value).astype(given.dtype)
    for one, other in zip(before[:3], backward(np.ones_like(context))[:3]):
        np.testing.assert_array_equal(one, other)


def test_prepared_memories_do_not_see_later_lengths_rows_and_masks(arrays):
    query, key, value = arrays
    lengths, rows, mask = np.array([5, 3]), np.array([1, 0]), np.ones((2, 1, 5), bool)
    memory = fastattn.prepare(key, value, key_lengths=lengths, mask=mask)
    chosen = memory.select(rows)
    before = memory.attend(query), chosen.attend(query)
    lengths[:], rows[:], mask[:] = 2**40, -(2**40), False
    np.testing.assert_array_equal(memory.attend(query), before[0])
    np.testing.assert_array_equal(chosen.attend(query), before[1])


def test_a_relative_bias_fits_its_call_on_the_way_back(arrays):
    bias = RelativeBias(ones(7))
    context, backward = fastattn.attention_vjp(*arrays, bias=bias)
    for wrong in (ones(3), ones(9), ones(2, 6)):
        bias.values = wrong
        with pytest.raises(ShapeError, match=r"^bias: expected 7 distances"):
            backward(np.ones_like(context))
    bias.values = np.asfortranarray(ones(2, 14))[:, ::2]
    assert bias.values.flags.c_contiguous
    with pytest.raises(ShapeError, match=r"^values: expected shape \(R,\) or \(H, R\)"):
        bias.values = ones(2, 3, 4)


def additive():
    return scores.Additive(ones(8), ones(4, 8), ones(4, 8), ones(8))


@pytest.mark.parametrize(
    "make",
    [
        additive,
        lambda: scores.Concat(ones(8, 8), ones(8)),
        lambda: scores.General(ones(4, 4)),
        lambda: scores.Location(ones(4, 5)),
    ],
    ids=["additive", "concat", "general", "location"],
)
def test_parameters_of_scores_are_checked_at_each_use(arrays, make):
    query, key, value = arrays
    for name in make().parameters:
        right = make().parameters[name]
        wrong = {
            "axes": right[None], "no axes": right.reshape(-1)[:1].reshape(()), "a list": right.tolist(), "none": None,
            "shorter": right[..., :-1], "another dtype": right.astype(np.float64), "nothing": right[..., :0],
            "bytes": right.astype(">f4")[..., :-1],
        }  # fmt: skip
        for what, array in wrong.items():
            score = make()
            score.parameters[name] = array
            for call in (
                lambda score=score: fastattn.attention(query, key, value, score=score),
                lambda score=score: fastattn.attention_vjp(query, key, value, score=score),
                lambda score=score: fastattn.prepare(key, value, score=score).attend(query),
            ):
                with pytest.raises((ShapeError, DTypeError, ArgumentError)) as error:
                    call()
                assert "Hint: " in str(error.value), what


@pytest.mark.parametrize("changes", [
    {"softcap": 1e39}, {"softcap": -1.0}, {"softcap": "x"}, {"softcap": np.nan}, {"activation_code": 3},
    {"activation_code": -1},
])  # fmt: skip
def test_attributes_of_scores_are_checked_at_each_use(arrays, changes):
    query, key, value = arrays
    score, memory = additive(), fastattn.prepare(key, value, score=additive())
    for of in (score, memory._score):
        for name, wrong in changes.items():
            setattr(of, name, wrong)
    for call in (lambda: fastattn.attention(query, key, value, score=score), lambda: memory.attend(query)):
        with pytest.raises((ArgumentError, DTypeError)):
            call()


@pytest.mark.parametrize("dtype, beyond", [(F32, 1e39), (F32, -3.5e38), (np.float64, np.inf), (F32, 10**400)])
def test_numbers_are_checked_in_the_type_that_they_are_used_in(dtype, beyond):
    query, key, value = ones(2, 3, 4, dtype=dtype), ones(2, 5, 4, dtype=dtype), ones(2, 5, 6, dtype=dtype)
    name = np.dtype(dtype).name
    memory = fastattn.prepare(key, value)
    for call in (lambda **o: fastattn.attention(query, key, value, **o), lambda **o: memory.attend(query, **o)):
        with pytest.raises(ArgumentError, match=rf"^scale: expected a finite number in {name}"):
            call(scale=beyond)
    if 0 < beyond < np.inf:
        capped = scores.Dot(softcap=min(beyond, 1e39))
        with pytest.raises(ArgumentError, match=rf"^softcap: expected a finite number in {name}"):
            fastattn.attention(query, key, value, score=capped)
    rng = np.random.default_rng(0)
    sizes = {"query_width": 4, "memory_width": 4, "rng": rng, "dtype": dtype}
    for variant, option in (("dot", "scale"), ("location_sensitive", "sharpening"), ("monotonic", "offset"),
                            ("monotonic", "noise"), ("hard", "temperature")):  # fmt: skip
        width = {} if variant == "dot" else {"width": 4}
        with pytest.raises(ArgumentError, match=rf"^{option}: expected a .*finite number in {name}"):
            fastattn.create(variant, **sizes, **width, **{option: beyond})


def test_the_largest_numbers_are_accepted():
    query = np.zeros((3, 4), F32)
    for number in (float(np.finfo(F32).max), float(-np.finfo(F32).max)):
        assert np.isfinite(fastattn.attention(query, query, query, scale=number)).all()
    with pytest.raises(ArgumentError, match=r"^temperature: expected a positive, finite number in float32"):
        fastattn.create("hard", query_width=4, memory_width=4, width=4, rng=np.random.default_rng(0), temperature=1e-50)
