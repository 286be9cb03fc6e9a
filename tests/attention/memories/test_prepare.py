"""Prepared memories: the bits of `attention`, through selection of batch entries and growth."""

import sys

import numpy as np
import pytest
from cases import SCORES, AttentionCase, library_score, make
from checks import same_bits

import fastattn
from fastattn import ArgumentError, DTypeError, ShapeError, UnsupportedError, scores

WIDE = ("general", "additive", "concat", "location")
LAYOUTS = {
    "2d": {"batch": ()},
    "3d": {"batch": (3,)},
    "4d": {"batch": (2, 3)},
    "grouped": {"batch": (2, 6), "key_heads": 2},
}
F32 = np.float32


def problem(score="scaled_dot", **fields):
    """A problem of odd sizes, and the object of its score."""
    wide = {"dq": 11} if score in WIDE else {}
    p = make(
        AttentionCase(f"prepare-{score}", score=score, **{"batch": (3,), "tq": 5, "tk": 70, "dv": 9, **wide, **fields})
    )
    return p, library_score(p.score)


@pytest.fixture(autouse=True, params=[0, 500, 1 << 18], ids=["as-they-lie", "packed-at-first", "packed"])
def most_packed(request, monkeypatch):
    monkeypatch.setattr(sys.modules["fastattn.attention.memory"], "MOST_PACKED", request.param)


def ones(*shape, dtype=F32):
    return np.ones(shape, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("score", SCORES)
def test_a_memory_attends_as_attention_does(score, layout, dtype):
    p, chosen = problem(score, dtype=dtype, **LAYOUTS[layout])
    memory = fastattn.prepare(p.key, p.value, score=chosen)
    assert memory.shape == p.key.shape[:-1]
    assert same_bits(memory.attend(p.query), fastattn.attention(*p.arrays, score=chosen))
    for row in range(p.query.shape[-2]):
        one = p.query[..., row : row + 1, :]
        assert same_bits(memory.attend(one), fastattn.attention(one, p.key, p.value, score=chosen))


@pytest.mark.parametrize("given", ["", "q", "k", "b", "qkb"])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu"])
def test_additive_with_any_projections(given, activation):
    widths = {"dq": 12 if "q" in given else 16, "dk": 9 if "k" in given else 16, "da": 16}
    p, chosen = problem("additive", given=given, activation=activation, softcap=2.0, **widths)
    memory = fastattn.prepare(p.key, p.value, score=chosen)
    assert same_bits(memory.attend(p.query), fastattn.attention(*p.arrays, score=chosen))


@pytest.mark.parametrize("score", SCORES)
def test_every_option_and_output(score):
    p, chosen = problem(score, batch=(2, 4), key_heads=2, mask=(2, 1, 1, 70), bias=(4, 5, 1), softcap=3.0)
    mask, lengths = p.rest.pop("mask"), np.array([70, 41])
    more = np.random.default_rng(0).random((5, 70)) < 0.8
    memory = fastattn.prepare(p.key, p.value, score=chosen, mask=mask, key_lengths=lengths)
    options = {
        **p.rest, "causal": "bottom_right", "window": (60, None), "scale": 0.4, "dropout": 0.3, "seed": 9,
        "return_weights": True, "return_lse": True,
    }  # fmt: skip
    plain = {**options, "score": chosen, "key_lengths": lengths}
    assert same_bits(memory.attend(p.query, **options), fastattn.attention(*p.arrays, mask=mask, **plain))
    expected = fastattn.attention(*p.arrays, mask=mask & more, **plain)
    assert same_bits(memory.attend(p.query, mask=more, **options), expected)
    only = memory.attend(p.query, return_lse=True)
    assert only.weights is None and only.lse.shape == p.query.shape[:-1]


def test_out_receives_the_context():
    p, chosen = problem()
    memory = fastattn.prepare(p.key, p.value, score=chosen)
    expected = memory.attend(p.query)
    strided, turned = np.empty((3, 5, 18), F32)[..., ::2], np.empty((5, 9, 3), F32).T.swapaxes(1, 2)
    for out in (np.empty_like(expected), strided, turned):
        assert memory.attend(p.query, out=out) is out
        assert np.array_equal(out, expected)


def test_strided_memories_and_queries():
    p, chosen = problem(batch=(2, 4), key_heads=2)
    expected = fastattn.attention(*p.arrays)
    key, value = (np.asfortranarray(x) for x in (p.key, p.value))
    apart = np.repeat(p.key, 2, axis=-1)[..., ::2]
    for k, v in ((key, value), (apart, p.value), (p.key[..., ::-1].copy()[..., ::-1], p.value)):
        assert same_bits(fastattn.prepare(k, v, score=chosen).attend(np.asfortranarray(p.query)), expected)


def test_what_is_masked_in_the_memory_is_never_read():
    p, _ = problem(key_lengths=(70, 12, 0))
    lengths = p.rest["key_lengths"]
    expected = fastattn.attention(*p.arrays, key_lengths=lengths)
    for b, n in enumerate(lengths):
        p.key[b, n:], p.value[b, n:] = np.nan, np.inf
    assert same_bits(fastattn.prepare(p.key, p.value, key_lengths=lengths).attend(p.query), expected)


@pytest.mark.parametrize("score", SCORES)
def test_later_changes_of_parameters_have_no_effect(score):
    p, chosen = problem(score)
    expected = fastattn.attention(*p.arrays, score=chosen)
    memory = fastattn.prepare(p.key, p.value, score=chosen)
    for array in p.score.parameters.values():
        array[:] = np.nan
    assert same_bits(memory.attend(p.query), expected)


# ---- select


@pytest.mark.parametrize("layout", ["3d", "grouped"])
@pytest.mark.parametrize("score", SCORES)
def test_selected_entries_keep_their_bits(score, layout):
    p, chosen = problem(score, **LAYOUTS[layout])
    batch = p.query.shape[0]
    lengths = np.arange(batch) * 30 + 1
    mask = np.random.default_rng(1).random((batch, *(1,) * (p.query.ndim - 2), 70)) < 0.8
    memory = fastattn.prepare(p.key, p.value, score=chosen, key_lengths=lengths, mask=mask)
    for rows in ([0], [1, 1, 0, 1], list(range(batch))[::-1], []):
        rows = np.array(rows, int)
        query = np.random.default_rng(2).standard_normal((len(rows), *p.query.shape[1:])).astype(F32)
        expected = fastattn.attention(
            query, p.key[rows], p.value[rows], score=chosen, key_lengths=lengths[rows], mask=mask[rows]
        )
        chosen_rows = memory.select(rows)
        assert chosen_rows.shape == (len(rows), *memory.shape[1:])
        assert same_bits(chosen_rows.attend(query), expected)
    assert memory.shape == p.key.shape[:-1]


def test_selections_compose():
    p, _ = problem()
    first, second = np.array([2, 0, 0, 1]), np.array([3, 3, 0])
    both = first[second]
    query = p.query[both]
    found = fastattn.prepare(p.key, p.value).select(first).select(second).attend(query)
    assert same_bits(found, fastattn.attention(query, p.key[both], p.value[both]))


def test_a_mask_of_every_entry_stays_with_a_selection():
    p, _ = problem(mask=(1, 1, 70))
    rows = [1, 1, 2, 0]
    found = fastattn.prepare(p.key, p.value, mask=p.rest["mask"]).select(rows).attend(p.query[rows])
    assert same_bits(found, fastattn.attention(*(x[rows] for x in p.arrays), mask=p.rest["mask"]))


# ---- append


@pytest.mark.parametrize("beside", [0, 1 << 10, 1 << 20], ids=["heads", "heads-at-last", "positions"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("score", SCORES)
def test_a_cache_grown_from_empty(score, layout, beside, monkeypatch):
    monkeypatch.setattr(sys.modules["fastattn.attention.memory"], "MOST_BESIDE", beside)
    p, chosen = problem(score, **LAYOUTS[layout])
    memory = fastattn.prepare(p.key[..., :0, :], p.value[..., :0, :], score=chosen)
    assert not memory.attend(p.query).any()
    done = 0
    for step in (1, 1, 2, 0, 13, 16, 31, 6):
        more = slice(done, done + step)
        assert memory.append(p.key[..., more, :], p.value[..., more, :]) is memory
        done += step
        assert memory.shape == (*p.key.shape[:-2], done)
        expected = fastattn.attention(p.query, p.key[..., :done, :], p.value[..., :done, :], score=chosen)
        assert same_bits(memory.attend(p.query), expected), done
    assert done == 70


def test_growth_leaves_the_arrays_of_the_caller_alone():
    p, _ = problem()
    key, value = p.key.copy(), p.value.copy()
    memory = fastattn.prepare(p.key[:, :40], p.value[:, :40])
    memory.append(p.key[:, 50:60], p.value[:, 50:60]).append(p.key[:, :1], p.value[:, :1])
    assert same_bits([p.key, p.value], [key, value])


@pytest.mark.parametrize("score", ["scaled_dot", "additive"])
def test_memories_that_share_keys_grow_apart(score):
    p, chosen = problem(score)
    rows = np.array([2, 2, 0])
    start, a, b = slice(0, 33), slice(33, 36), slice(40, 70)
    memory = fastattn.prepare(p.key[:, start], p.value[:, start], score=chosen)
    memory.append(p.key[:, a], p.value[:, a])
    beams = memory.select(rows)

    def expect(batch, *parts):
        key, value = (np.concatenate([x[batch, s] for s in parts], axis=1) for x in (p.key, p.value))
        return fastattn.attention(p.query[batch], key, value, score=chosen)

    every = np.arange(3)
    # The original grows first, into memory that the beams still read.
    memory.append(p.key[:, b], p.value[:, b])
    assert same_bits(beams.attend(p.query[rows]), expect(rows, start, a))
    assert same_bits(memory.attend(p.query), expect(every, start, a, b))
    beams.append(p.key[rows, a], p.value[rows, a])
    again = beams.select([1, 0, 2])
    again.append(p.key[rows[[1, 0, 2]], b], p.value[rows[[1, 0, 2]], b])
    assert same_bits(beams.attend(p.query[rows]), expect(rows, start, a, a))
    assert same_bits(again.attend(p.query[rows[[1, 0, 2]]]), expect(rows[[1, 0, 2]], start, a, a, b))
    assert same_bits(memory.attend(p.query), expect(every, start, a, b))


def test_a_mask_that_does_not_name_keys_allows_growth():
    p, _ = problem(mask=(3, 5, 1))
    memory = fastattn.prepare(p.key[:, :20], p.value[:, :20], mask=p.rest["mask"])
    memory.append(p.key[:, 20:], p.value[:, 20:])
    assert same_bits(memory.attend(p.query), fastattn.attention(*p.arrays, mask=p.rest["mask"]))


# ---- extended


@pytest.mark.parametrize("score", ["dot", "additive"])
@pytest.mark.parametrize("first", [0, 1, 40, 63, 64])
def test_extensions_share_space_and_change_none_of_each_other(score, first):
    p, chosen = problem(score)

    def direct(count):
        return fastattn.attention(p.query, p.key[:, :count], p.value[:, :count], score=chosen)

    def poison(memory):
        return memory.extended(np.full_like(p.key[:, :2], np.nan), np.full_like(p.value[:, :2], np.nan))

    chain = [fastattn.prepare(p.key[:, :first], p.value[:, :first], score=chosen)]
    for t in range(first, 70):
        chain.append(chain[-1].extended(p.key[:, t : t + 1], p.value[:, t : t + 1]))
    assert np.isnan(poison(chain[len(chain) // 2]).attend(p.query)).all()
    beams = chain[-1].select([2, 2, 0])
    assert np.isnan(poison(chain[-1]).attend(p.query)).all()  # in the space that the chain and the beams read
    for count, link in enumerate(chain, first):
        assert same_bits(link.attend(p.query), direct(count))
    assert same_bits(beams.attend(p.query[[2, 2, 0]]), direct(70)[[2, 2, 0]])
    assert len({id(link._keys) for link in chain}) <= 6  # it is copied when it doubles, not at every step


# ---- Wrong calls


def prepared(**options):
    return fastattn.prepare(ones(2, 5, 4), ones(2, 5, 6), **options)


MASK = np.ones((2, 1, 5), bool)
# id: (call, exception, argument)
WRONG = {
    "key of one axis": (lambda: fastattn.prepare(ones(4), ones(4)), ShapeError, "key"),
    "key of five axes": (lambda: fastattn.prepare(ones(1, 1, 1, 5, 4), ones(1, 1, 1, 5, 4)), ShapeError, "key"),
    "integer key": (lambda: fastattn.prepare(ones(5, 4, dtype=int), ones(5, 4)), DTypeError, "key"),
    "value of another dtype": (lambda: fastattn.prepare(ones(5, 4), ones(5, 4, dtype="f8")), DTypeError, "value"),
    "value of another length": (lambda: fastattn.prepare(ones(5, 4), ones(6, 4)), ShapeError, "value"),
    "value of another rank": (lambda: fastattn.prepare(ones(5, 4), ones(1, 5, 4)), ShapeError, "value"),
    "value of other heads": (lambda: fastattn.prepare(ones(1, 2, 5, 4), ones(1, 1, 5, 4)), ShapeError, "value"),
    "unknown score": (lambda: prepared(score="dott"), ArgumentError, "score"),
    "keys of another width than a score without projections": (
        lambda: prepared(score=scores.Additive(ones(3), b=ones(3))),
        ShapeError,
        "key",
    ),
    "keys of another width than its projection": (
        lambda: prepared(score=scores.Additive(ones(3), w_key=ones(5, 3))),
        ShapeError,
        "key",
    ),
    "parameter of another dtype": (lambda: prepared(score=scores.General(ones(4, 4, dtype="f8"))), DTypeError, "w"),
    "length too large": (lambda: prepared(key_lengths=[5, 6]), ArgumentError, "key_lengths"),
    "too few lengths": (lambda: prepared(key_lengths=[5]), ShapeError, "key_lengths"),
    "float mask": (lambda: prepared(mask=MASK.astype(F32)), DTypeError, "mask"),
    "mask of another length": (lambda: prepared(mask=MASK[..., :4]), ShapeError, "mask"),
    "mask of another batch": (lambda: prepared(mask=MASK[[0, 0, 0]]), ShapeError, "mask"),
    "mask of too many axes": (lambda: prepared(mask=MASK[None]), ShapeError, "mask"),
    "query of another batch": (lambda: prepared().attend(ones(3, 1, 4)), ShapeError, "query"),
    "query of another rank": (lambda: prepared().attend(ones(1, 4)), ShapeError, "query"),
    "query of another width": (lambda: prepared().attend(ones(2, 1, 3)), ShapeError, None),
    "query of another dtype": (lambda: prepared().attend(ones(2, 1, 4, dtype="f8")), DTypeError, "query"),
    "mask for other queries": (
        lambda: prepared(mask=np.ones((2, 3, 5), bool)).attend(ones(2, 2, 4)),
        ShapeError,
        "mask",
    ),
    "float mask beside the memory's own": (
        lambda: prepared(mask=MASK).attend(ones(2, 1, 4), mask=MASK.astype(F32)),
        DTypeError,
        "mask",
    ),
    "mask that does not fit beside the memory's own": (
        lambda: prepared(mask=MASK).attend(ones(2, 1, 4), mask=np.ones((2, 1, 4), bool)),
        ShapeError,
        "mask",
    ),
    "unknown normalizer": (lambda: prepared().attend(ones(2, 1, 4), normalizer="x"), ArgumentError, "normalizer"),
    "causal on a rectangle": (lambda: prepared().attend(ones(2, 1, 4), causal=True), ArgumentError, "causal"),
    "out of another shape": (lambda: prepared().attend(ones(2, 1, 4), out=ones(2, 1, 4)), ShapeError, "out"),
    "scale NaN": (lambda: prepared().attend(ones(2, 1, 4), scale=np.nan), ArgumentError, "scale"),
    "rows beyond the batch": (lambda: prepared().select([0, 2]), ArgumentError, "rows"),
    "negative rows": (lambda: prepared().select([-1]), ArgumentError, "rows"),
    "float rows": (lambda: prepared().select([0.0]), DTypeError, "rows"),
    "bool rows": (lambda: prepared().select([True, False]), DTypeError, "rows"),
    "rows of two axes": (lambda: prepared().select([[0]]), DTypeError, "rows"),
    "rows of a single sample": (lambda: fastattn.prepare(ones(5, 4), ones(5, 4)).select([0]), UnsupportedError, "rows"),
    "keys of another width": (lambda: prepared().append(ones(2, 1, 3), ones(2, 1, 6)), ShapeError, "key"),
    "keys of another batch": (lambda: prepared().append(ones(1, 1, 4), ones(1, 1, 6)), ShapeError, "key"),
    "keys of another rank": (lambda: prepared().append(ones(1, 4), ones(1, 6)), ShapeError, "key"),
    "keys of another dtype": (
        lambda: prepared().append(ones(2, 1, 4, dtype="f8"), ones(2, 1, 6, dtype="f8")),
        DTypeError,
        "key",
    ),
    "values of another width": (lambda: prepared().append(ones(2, 1, 4), ones(2, 1, 4)), ShapeError, "value"),
    "values of another length": (lambda: prepared().append(ones(2, 1, 4), ones(2, 2, 6)), ShapeError, "value"),
    "growth with lengths": (
        lambda: prepared(key_lengths=[5, 4]).append(ones(2, 1, 4), ones(2, 1, 6)),
        UnsupportedError,
        "append",
    ),
    "growth with a mask": (
        lambda: prepared(mask=MASK).append(ones(2, 1, 4), ones(2, 1, 6)),
        UnsupportedError,
        "append",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_call_says_what_is_wrong(name):
    action, error, argument = WRONG[name]
    with pytest.raises(error, match=r"\nHint: .") as caught:
        action()
    assert argument in (None, str(caught.value).split(":")[0]), str(caught.value)


def test_a_refused_growth_changes_nothing():
    memory = prepared()
    expected = memory.attend(ones(2, 1, 4))
    with pytest.raises(ShapeError):
        memory.append(ones(2, 1, 4), ones(2, 1, 5))
    assert memory.shape == (2, 5)
    assert same_bits(memory.attend(ones(2, 1, 4)), expected)


def test_out_may_not_be_a_part_of_the_memory():
    value = ones(2, 5, 6)
    memory = fastattn.prepare(ones(2, 5, 4), value)
    with pytest.raises(ArgumentError, match=r"out: .* overlaps"):
        memory.attend(ones(2, 1, 4), out=value[:, :1])


def test_the_repr_says_what_it_holds():
    assert repr(prepared(score="dot")) == "Memory(shape=(2, 5), score=Dot(), dtype=float32)"
