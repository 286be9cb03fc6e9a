"""Scores that are functions of one feature of query and key: values, gradients, bits, memories and variants."""

import dataclasses

import numpy as np
import pytest
from cases import AttentionCase, make
from checks import same_bits

import fastattn
from fastattn import _reference, scores
from fastattn._reference.scores import ScoreSpec
from fastattn.errors import ShapeError
from fastattn.plugin import ScoreRecord
from fastattn.scores.pairwise import Pairwise
from fastattn.testing.arrays import assigned, differences
from fastattn.variants.soft import Soft


@fastattn.pairwise_score
def weighted_l1(q, k, w):
    return -w * abs(q - k)


@fastattn.pairwise_score
def additive(q, k, v, offset):
    return v * np.tanh(q + k + offset)


def of(name, dtype, width):
    w = np.linspace(0.2, 1.0, width).astype(dtype)
    return weighted_l1(w=w) if name == "l1" else additive(v=w, offset=np.array(0.1, dtype))


def problem(dtype="float32", **fields):
    shape = {"batch": (3, 4), "key_heads": 2, "tq": 50, "tk": 130, "dk": 17, "dv": 9, "key_lengths": (130, 1, 77)}
    return make(AttentionCase("pairwise", **{**shape, **fields}, dtype=dtype))


def everything(p, **rest):
    out, backward = fastattn.attention_vjp(*p.arrays, **{**p.rest, **rest}, return_weights=True)
    d = backward(p.d_context)
    return {"context": out.context, "weights": out.weights, "query": d.query, "key": d.key, "value": d.value, **d.score}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("normalizer", ["softmax", "sparsemax"])
@pytest.mark.parametrize("name", ["l1", "additive"])
def test_values_and_gradients(name, normalizer, dtype):
    p = problem(dtype)
    bound = of(name, dtype, 17)
    rest = {"scale": 0.7, "normalizer": normalizer, "causal": "bottom_right"}
    spec = ScoreSpec(
        name, {}, scale=1.0,
        formula=lambda _, q, k, scale: bound.evaluate(q, k),
        formula_vjp=lambda _, q, k, scale, d: bound.evaluate_vjp(q, k, d),
    )  # fmt: skip
    found = everything(p, score=bound, **rest)
    context, weights, _ = _reference.attention(*p.arrays, **p.rest, score=spec, **rest)
    d = _reference.attention_vjp(*p.arrays, **p.rest, score=spec, **rest, d_context=p.d_context)
    wanted = {"context": context, "weights": weights, "query": d.query, "key": d.key, "value": d.value, **d.score}
    assert found.keys() == wanted.keys()
    close = 1e-11 if dtype == "float64" else 3e-5
    for part, x in found.items():
        assert x.dtype == dtype
        assert np.abs(x - wanted[part]).max() <= close * max(1, np.abs(wanted[part]).max()), part


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("own", ["float16", "float32", "float64"])
def test_parameters_of_another_type(own, dtype):
    """They are converted, as those of functions on scores are, and their gradients come back as they were."""
    p = problem("float32" if dtype == "float16" else dtype)
    q, k, v, d = (x.astype(dtype) for x in (*p.arrays, p.d_context))
    w = of("l1", own, 17).parameters["w"]
    gradients = []
    for score in (weighted_l1(w=w), weighted_l1(w=w.astype("f4" if dtype == "float16" else dtype))):
        context, backward = fastattn.attention_vjp(q, k, v, score=score)
        assert context.dtype == dtype
        np.testing.assert_array_equal(fastattn.prepare(k, v, score=score).attend(q), context)
        gradients.append(backward(d).score["w"])
    assert gradients[0].dtype == own
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=2e-3, atol=2e-3 * np.abs(gradients[1]).max())


def test_gradients_against_central_differences():
    p = problem("float64", batch=(1, 2), key_heads=1, tq=2, tk=5, dk=3, dv=2, key_lengths=(4,))

    def loss(w, offset):
        out = fastattn.attention(*p.arrays, score=additive(v=w, offset=offset), **p.rest)
        return (out * p.d_context).sum()

    w, offset = np.array([0.3, -0.4, 0.8]), np.array(0.1)
    found = everything(p, score=additive(v=w, offset=offset))
    steps = np.eye(3) * 1e-6
    assert np.allclose(found["v"], [(loss(w + s, offset) - loss(w - s, offset)) / 2e-6 for s in steps], atol=1e-8)
    assert np.allclose(found["offset"], (loss(w, offset + 1e-6) - loss(w, offset - 1e-6)) / 2e-6, atol=1e-8)


@pytest.mark.parametrize("normalizer", ["softmax", "sparsemax"])
@pytest.mark.parametrize("name", ["l1", "additive"])
def test_the_same_bits(name, normalizer):
    p, rest = problem(), {"score": of(name, "float32", 17), "normalizer": normalizer}
    fastattn.set_num_threads(1)
    first = everything(p, **rest)
    fastattn.set_num_threads(5)
    again = everything(p, **rest)
    assert all(same_bits(x, again[part]) for part, x in first.items())
    one = dataclasses.replace(p, **{n: getattr(p, n)[2:] for n in ("query", "key", "value", "d_context")})
    alone = everything(one, **{**rest, "key_lengths": [77]})
    assert all(same_bits(first[part][2:], alone[part]) for part in ("context", "query", "key", "value"))
    poisoned = dataclasses.replace(p, key=p.key.copy(), value=p.value.copy())
    poisoned.key[1, :, 1:], poisoned.value[2, :, 77:] = np.nan, np.inf
    found = everything(poisoned, **rest)
    assert all(same_bits(x, found[part]) for part, x in first.items())
    memory = fastattn.prepare(p.key, p.value, score=rest["score"], key_lengths=p.rest["key_lengths"])
    assert same_bits(memory.attend(p.query, normalizer=normalizer), first["context"])
    rows = [memory.attend(p.query[:, :, i : i + 1], normalizer=normalizer) for i in (0, 49)]
    assert same_bits(rows, [first["context"][:, :, i : i + 1] for i in (0, 49)])


def test_it_is_the_score_that_a_kernel_computes():
    p = problem(batch=(2,), key_heads=None, key_lengths=(130, 60))
    ours, plain = everything(p, score="l1", scale=1.0), everything(p, score=lambda q, k: -abs(q - k))
    for part, x in ours.items():
        assert np.abs(x - plain[part]).max() <= 1e-5 * np.abs(x).max(), part
    v = np.linspace(-1, 1, 17).astype(np.float32)
    ours = everything(p, score=scores.Additive(v))
    plain = everything(p, score=additive(v=v, offset=0.0))
    for part, x in ours.items():
        assert np.abs(x - plain[part]).max() <= 2e-5 * np.abs(x).max(), part


def test_a_parameter_for_each_feature_is_of_their_number():
    p = problem()
    with pytest.raises(ShapeError, match="w"):
        fastattn.attention(*p.arrays, score=of("l1", "float32", 16))


def test_a_variant_trains_it():
    bound = of("additive", "float32", 17)
    variant = Soft(bound, query_width=17, memory_width=17)
    p = problem(batch=(3,), key_heads=None, tq=4, tk=20, dv=17, key_lengths=(20, 3, 11))
    prepared = variant.prepare(p.key, lengths=p.rest["key_lengths"])
    context, _, backward = variant.attend_vjp(p.query, prepared, variant.start(prepared), False)
    assert same_bits(context, fastattn.attention(p.query, p.key, p.key, score=bound, **p.rest))
    backward(p.d_context, None)
    trained = {name: one.gradient.copy() for name, one in variant.trained.items()}
    wanted = everything(dataclasses.replace(p, value=p.key), score=bound)
    assert all(same_bits(trained[name], wanted[name]) for name in ("v", "offset"))
    for one in variant.trained.values():
        one.gradient[...] = 0
    state = variant.start(prepared)
    for i in range(4):
        context_i, _, state, step = variant.step_vjp(p.query[:, i], prepared, state)
        assert same_bits(context_i, context[:, i])
        step(p.d_context[:, i])
    variant.finish(prepared)
    for name, one in variant.trained.items():
        np.testing.assert_allclose(one.gradient, trained[name], rtol=1e-4, atol=1e-5)
    variant.trained["v"].assign(2 * variant.trained["v"].value)
    changed = variant.prepare(p.key, lengths=p.rest["key_lengths"])
    twice = of("additive", "float32", 17)
    twice = additive(v=2 * twice.parameters["v"], offset=twice.parameters["offset"])
    found = variant.attend(p.query, changed, variant.start(changed), False)[0]
    assert same_bits(found, fastattn.attention(p.query, p.key, p.key, score=twice, **p.rest))


def test_a_variant_of_two_widths():
    """Queries pass through a matrix first; all at once, and step by step."""
    rng = np.random.default_rng(0)
    memory, queries, d = (rng.standard_normal(shape) for shape in ((2, 5, 8), (2, 3, 6), (2, 3, 8)))
    score = weighted_l1(w=rng.uniform(0.5, 1, 8))
    variant = Soft(score, query_width=6, memory_width=8, rng=rng, dtype=np.float64)
    values, contexts = assigned(variant.trained, lambda: variant.forward(queries, variant.prepare(memory)))
    found = [*variant.vjp(queries, variant.prepare(memory))[1](d)]
    found += [one.gradient.copy() for one in variant.trained.values()]
    for gradient, given in zip(found, [queries, memory, *values.values()], strict=True):
        np.testing.assert_allclose(gradient, differences(lambda: float((contexts() * d).sum()), given), atol=1e-6)
    for one in variant.trained.values():
        one.gradient = np.zeros_like(one.value)
    prepared = variant.prepare(memory)
    state, backs = variant.start(prepared), []
    for query, d_context in zip(queries.swapaxes(0, 1), d.swapaxes(0, 1)):
        _, _, state, back = variant.step_vjp(query, prepared, state)
        backs.append((back, d_context))
    d_queries = [back(d_context)[0] for back, d_context in reversed(backs)]
    steps = [np.stack(d_queries[::-1], 1), variant.finish(prepared), *(x.gradient for x in variant.trained.values())]
    for one, other in zip(steps, found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_a_score_by_a_name_is_a_variant():
    class Weighted(Pairwise):
        def __init__(self, w):
            super().__init__(weighted_l1(w=w))

        @classmethod
        def drawn(cls, query_width, key_width, *, rng, dtype=np.float32):
            return cls(rng.uniform(0.5, 1.5, key_width).astype(dtype))

    record = ScoreRecord("weighted_l1_of_a_test", Weighted, "-sum of w |q - k|")
    scores.register(record)
    try:
        p = problem(batch=(3,), key_heads=None, tq=4, tk=20, dv=17, key_lengths=(20, 3, 11))
        widths = {"query_width": 17, "memory_width": 17}
        variant = fastattn.create("weighted_l1_of_a_test", **widths, rng=np.random.default_rng(0))
        prepared = variant.prepare(p.key, lengths=p.rest["key_lengths"])
        score = scores.create("weighted_l1_of_a_test", w=variant.trained["w"].value)
        found = variant.forward(p.query, prepared)
        assert same_bits(found, fastattn.attention(p.query, p.key, p.key, score=score, **p.rest))
    finally:
        del scores.registry.REGISTRY._own[record.name]
