"""Functions on scores where a score stands, and functions of queries that come one after the other."""

import copy
import pickle

import numpy as np
import pytest
from checks import same_bits

import fastattn
from fastattn import scores
from fastattn.errors import ArgumentError, UnsupportedError
from fastattn.scores import Additive, Modified
from fastattn.testing.arrays import assigned, differences
from fastattn.variants.soft import Soft


@fastattn.score_mod
def nearby(score, b, h, i, j, slope, table):
    """What is far, and what comes more than three places later, counts less, or not at all."""
    return np.where(j > i + 3, -np.inf, score - slope * abs(i - j) + table[j])


@fastattn.mask_mod
def before(b, h, i, j):
    return j <= i


@fastattn.row_function
def fading(s, b, h, i, j):
    e = np.exp(s - s.max() - 0.1 * i * abs(i - j))
    return e / e.sum()


def drawn(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def bound(dtype=np.float64):
    return nearby(slope=np.array(0.3, dtype), table=drawn(9, dtype=dtype))


INNER = {
    "dot": (6, lambda: "dot"),
    "dot of two widths": (5, lambda: "dot"),
    "additive": (5, lambda: Additive(drawn(7), drawn(5, 7), drawn(6, 7, seed=1))),
    "pairwise": (6, lambda: fastattn.pairwise_score(lambda q, k, w: -w * abs(q - k))(w=np.linspace(0.5, 1, 6))),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_attention_by_it_is_attention_with_the_function(dtype):
    q, k, d = (drawn(2, n, 9, dtype=dtype, seed=n) for n in (4, 9, 4))
    function, w = bound(dtype), drawn(9, 9, dtype=dtype)
    for inner in ("scaled_dot", scores.General(w), "l2"):
        one, one_back = fastattn.attention_vjp(q, k, k, score=Modified(inner, function), return_weights=True)
        other, other_back = fastattn.attention_vjp(q, k, k, score=inner, score_mod=function, return_weights=True)
        assert same_bits(one.context, other.context) and same_bits(one.weights, other.weights)
        found, wanted = one_back(d), other_back(d)
        assert all(map(same_bits, found[:3], wanted[:3])) and found.score.keys() == wanted.score.keys()
        assert all(same_bits(found.score[name], wanted.score[name]) for name in wanted.score)
        memory = fastattn.prepare(k, k, score=Modified(inner, function))
        assert same_bits(memory.attend(q), one.context)
    again = pickle.loads(pickle.dumps(copy.deepcopy(Modified("dot", fastattn.score_mod(half)))))
    assert same_bits(fastattn.attention(q, k, k, score=again), fastattn.attention(q, k, k, score="dot", score_mod=half))


def half(score, b, h, i, j):
    return score / (2 + i)


@pytest.mark.parametrize("normalizer", ["softmax", "sparsemax"])
@pytest.mark.parametrize("inner", INNER)
def test_a_variant_trains_both(inner, normalizer):
    """All queries at once against central differences; step by step the same; i goes on from step to step."""
    width, make = INNER[inner]
    score = Modified(make(), bound())
    rng = np.random.default_rng(0)
    variant = Soft(score, query_width=width, memory_width=6, normalizer=normalizer, rng=rng, dtype=np.float64)
    memory, queries, d = drawn(2, 9, 6), drawn(2, 4, width, seed=2), drawn(2, 4, 6, seed=3)
    values, contexts = assigned(variant.trained, lambda: variant.forward(queries, variant.prepare(memory)))
    assert {"slope", "table"} <= set(values)
    found = [*variant.vjp(queries, variant.prepare(memory))[1](d)]
    found += [one.gradient.copy() for one in variant.trained.values()]
    for gradient, given in zip(found, [queries, memory, *values.values()], strict=True):
        np.testing.assert_allclose(gradient, differences(lambda: float((contexts() * d).sum()), given), atol=1e-6)
    for one in variant.trained.values():
        one.gradient = np.zeros_like(one.value)
    prepared, whole = variant.prepare(memory), contexts()
    state, backs = variant.start(prepared), []
    for t, query in enumerate(queries.swapaxes(0, 1)):
        assert same_bits(variant.step(query, prepared, state)[0], np.ascontiguousarray(whole[:, t]))
        _, _, state, back = variant.step_vjp(query, prepared, state)
        backs.append(back)
    d_queries = [back(d[:, t])[0] for t, back in reversed(list(enumerate(backs)))]
    steps = [np.stack(d_queries[::-1], 1), variant.finish(prepared), *(x.gradient for x in variant.trained.values())]
    for one, other in zip(steps, found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_queries_of_a_memory_one_after_the_other(dtype):
    """With their place as `first` they have the bits that they have together."""
    q, k = drawn(2, 7, 6, dtype=dtype), drawn(2, 9, 6, dtype=dtype, seed=1)
    for memory, options in (
        (fastattn.prepare(k, k, score_mod=bound(dtype)), {}),
        (fastattn.prepare(k, k, score=Modified("dot", bound(dtype)), mask=before), {}),
        (fastattn.prepare(k, k), {"score_mod": bound(dtype), "mask": before & ~before | before}),
        (fastattn.prepare(k, k), {"normalizer": fading, "mask": lambda b, h, i, j: abs(i - j) < 4}),
    ):
        whole = memory.attend(q, **options)
        for cut in (1, 3):
            parts = [memory.attend(q[:, t : t + cut], first=t, **options) for t in range(0, 7, cut)]
            assert same_bits(np.concatenate(parts, axis=1), whole)
        assert not same_bits(memory.attend(q[:, 3:4], **options), whole[:, 3:4].copy())


def test_a_function_of_a_place_is_another_function():
    one = bound().placed(3)
    assert one.placed(0) is one and before().placed(2).evaluate(0, 0, 0, np.arange(4)).tolist() == [1, 1, 1, 0]
    later = before().placed(2)
    assert same_bits(pickle.loads(pickle.dumps(later)).block_map(1, 1, 70, 70), later.block_map(1, 1, 70, 70))
    again = one.placed(2)
    x = (0.5, 0, 0, np.arange(3)[:, None], np.arange(9))
    assert same_bits(again.evaluate(*x), bound().evaluate(0.5, 0, 0, np.arange(5, 8)[:, None], np.arange(9)))


def test_looks_beyond_an_array_are_refused_at_later_places_too():
    table = fastattn.score_mod(lambda score, b, h, i, j, t: score + t[i])(t=np.ones(4, np.float32))
    memory = fastattn.prepare(np.ones((5, 3), np.float32), np.ones((5, 3), np.float32), score_mod=table)
    assert memory.attend(np.ones((1, 3), np.float32), first=3).shape == (1, 3)
    with pytest.raises(ArgumentError, match=r"indices from 0 to 3 in look-ups of t, got 4 to 4"):
        memory.attend(np.ones((1, 3), np.float32), first=4)


def test_what_cannot_be_is_refused():
    with pytest.raises(ArgumentError, match=r"^score_mod: expected None for a score that has a function"):
        fastattn.attention(*[drawn(2, 9)] * 3, score=Modified("dot", bound()), score_mod=half)
    with pytest.raises(ArgumentError, match=r"^inner: expected a score without a function"):
        Modified(Modified("dot", bound()), half)
    with pytest.raises(ArgumentError, match=r"^function: expected parameters of names that the score has not"):
        Modified(scores.General(drawn(3, 3)), fastattn.score_mod(lambda s, b, h, i, j, w: s * w)(w=np.array(2.0)))
    local = fastattn.create("local_m", query_width=4, memory_width=4, rng=np.random.default_rng(0))
    local.align.score = Modified("dot", half)
    prepared = local.prepare(np.ones((1, 5, 4), np.float32))
    with pytest.raises(UnsupportedError, match=r"^score: expected one without a function on scores"):
        local.step(np.ones((1, 4), np.float32), prepared, local.start(prepared))
