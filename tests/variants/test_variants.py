"""What variants promise beside what the conformance kit checks of all of them: tests/testing/test_kit.py."""

import numpy as np
import pytest
from checks import same_bits
from variant_cases import CASES, label, make

import fastattn
from fastattn._reference import variants as twins
from fastattn.errors import ArgumentError, DTypeError, FastattnError, ShapeError, UnsupportedError
from fastattn.losses import coverage_loss, coverage_loss_vjp, doubly_stochastic_loss, doubly_stochastic_loss_vjp
from fastattn.testing.arrays import differences
from fastattn.variants.recall import RecallState

every_case = pytest.mark.parametrize("case", CASES, ids=label)


@every_case
def test_a_row_without_keys_has_the_context_of_no_values(case):
    problem = make(case, np.float32, masked=False)
    problem.lengths[1] = 0
    context = problem.variant.forward(problem.queries, problem.prepare())
    nothing = getattr(getattr(problem.variant, "output", None), "b", None)  # what is behind the sum over values
    assert (context[1] == (0 if nothing is None else nothing.value)).all()


@every_case
@pytest.mark.parametrize("none", ["samples", "queries"])
def test_nothing_gives_nothing(case, none):
    problem = make(case, np.float32, masked=False)
    queries = problem.queries[:0] if none == "samples" else problem.queries[:, :0]
    memory = problem.memory[:0] if none == "samples" else problem.memory
    variant = problem.variant
    context, backward = variant.vjp(queries, variant.prepare(memory))[:2]
    assert context.shape == variant.forward(queries, variant.prepare(memory)).shape
    assert context.shape[:2] == queries.shape[:2]
    d_queries, d_memory = backward(np.zeros_like(context))
    assert d_queries.shape == queries.shape and d_memory.shape == memory.shape and not d_memory.any()


def test_a_selection_copies_no_memory():
    problem = make(CASES[0])
    prepared = problem.prepare()
    assert np.shares_memory(prepared.select(np.array([1, 2, 0, 1])).memory, prepared.memory)


def test_names_are_listed_and_records_say_what_they_are():
    assert {case.record.name for case in CASES} | {"causal_self_attention"} == set(fastattn.variants.names())
    for name, record in fastattn.variants.records().items():
        assert record.name == name and record.summary and record.paper
        assert callable(record.load())
        assert {"query_width", "memory_width", "dtype", "rng"} <= set(fastattn.variants.options(name))


RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ArgumentError, "did you mean 'additive'", lambda: fastattn.create("aditive")),
        (DTypeError, "name of a variant", lambda: fastattn.create(3)),
        (ArgumentError, "did you mean 'width'", lambda: fastattn.create("additive", widht=3)),
        (ArgumentError, "needs", lambda: fastattn.create("additive", query_width=3, memory_width=3, rng=RNG)),
        (ArgumentError, "default_rng", lambda: fastattn.create("general", query_width=3, memory_width=3)),
        (ArgumentError, "a matrix takes queries", lambda: fastattn.create("dot", query_width=3, memory_width=4)),
        (DTypeError, "float32", lambda: fastattn.create("dot", query_width=3, memory_width=3, dtype=np.int32)),
        (UnsupportedError, "'monotonic', whose weights are not made by a normalizer",
         lambda: fastattn.create("monotonic", query_width=3, memory_width=3, normalizer="sparsemax", rng=RNG)),
        (UnsupportedError, "'coverage'", lambda: fastattn.create("coverage", normalizer="sparsemax", rng=RNG)),
        (ArgumentError, "did you mean 'sparsemax'",
         lambda: fastattn.create("dot", query_width=3, memory_width=3, normalizer="sparsmax")),
        (ArgumentError, "got {'alpha': 1.3} without a name",
         lambda: fastattn.create("dot", query_width=3, memory_width=3, normalizer={"alpha": 1.3})),
        (DTypeError, "normalizer: expected a name",
         lambda: fastattn.create("dot", query_width=3, memory_width=3, normalizer=3)),
        (ArgumentError, "did you mean 'concat'",
         lambda: fastattn.create("luong", query_width=3, memory_width=3, score="conkat", rng=RNG)),
    ],
)  # fmt: skip
def test_wrong_wishes_are_refused_with_advice(error, words, call):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\nHint: " in str(caught.value)


WRONG = [
    ("memory", lambda p: p.variant.prepare(p.memory[0])),
    ("memory", lambda p: p.variant.prepare(p.memory[..., :2])),
    ("memory", lambda p: p.variant.prepare(p.memory.astype(np.float32))),
    ("lengths", lambda p: p.variant.prepare(p.memory, np.array([9, 9, 9]))),
    ("lengths", lambda p: p.variant.prepare(p.memory, np.ones(3))),
    ("mask", lambda p: p.variant.prepare(p.memory, mask=np.ones((3, 7)))),
    ("mask", lambda p: p.variant.prepare(p.memory, mask=np.ones((3, 6), bool))),
    ("values", lambda p: p.variant.prepare(p.memory, values=p.memory[:, :3])),
    ("queries", lambda p: p.variant.forward(p.queries[:2], p.prepare())),
    ("query", lambda p: p.variant.step(p.queries, p.prepare(), p.variant.start(p.prepare()))),
    ("d_context", lambda p: p.variant.vjp(p.queries, p.prepare())[1]()),
    ("d_context", lambda p: p.variant.vjp(p.queries, p.prepare())[1](p.queries[:, :2])),
    ("d_weights", lambda p: p.variant.vjp(p.queries, p.prepare())[1](None, p.queries)),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
@every_case
def test_wrong_arrays_are_refused_by_name(case, number):
    words, change = WRONG[number]
    with pytest.raises(FastattnError, match=f"^{words}: "):
        change(make(case))


def test_coverage_loss_is_that_of_the_twin_and_differentiable():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(5), size=(3, 4))
    losses, backward = coverage_loss_vjp(weights)
    np.testing.assert_allclose(losses, twins.coverage_loss(weights), rtol=1e-13)
    assert same_bits(coverage_loss(weights), losses)
    d_losses = rng.normal(size=losses.shape)
    measured = differences(lambda: (twins.coverage_loss(weights) * d_losses).sum(), weights)
    np.testing.assert_allclose(backward(d_losses), measured, rtol=1e-7, atol=1e-8)
    padded = np.concatenate([weights, np.zeros((3, 4, 9))], axis=-1)
    assert same_bits(coverage_loss(padded), losses)


def test_doubly_stochastic_loss_is_that_of_the_twin_and_differentiable():
    rng = np.random.default_rng(0)
    weights, steps = rng.dirichlet(np.ones(5), size=(4, 6)), np.array([6, 3, 1, 0])
    allowed = np.arange(5) < np.array([5, 4, 2, 3])[:, None]
    allowed[0, 2] = False
    losses, backward = doubly_stochastic_loss_vjp(weights, steps, allowed)
    np.testing.assert_allclose(losses, twins.doubly_stochastic_loss(weights, steps, allowed), rtol=1e-13)
    assert losses[3] == 3 and losses[0] > 0.1
    every = doubly_stochastic_loss(weights)
    wanted = twins.doubly_stochastic_loss(weights, np.full(4, 6), np.ones((4, 5), bool))
    np.testing.assert_allclose(every, wanted, rtol=1e-13)
    d_losses = rng.normal(size=4)
    gradient = backward(d_losses)
    measured = differences(lambda: (twins.doubly_stochastic_loss(weights, steps, allowed) * d_losses).sum(), weights)
    np.testing.assert_allclose(gradient, measured, rtol=1e-7, atol=1e-8)
    padded, wide = np.full((4, 9, 16), np.nan), np.zeros((4, 16), bool)
    padded[:, :6, :5], wide[:, :5] = weights, allowed
    again, back = doubly_stochastic_loss_vjp(padded, steps, wide)
    assert same_bits(again, losses)
    found = back(d_losses)
    assert same_bits(found[:, :6, :5].copy(), gradient) and found.sum() == found[:, :6, :5].sum()
    for b in range(4):
        one = slice(b, b + 1)
        assert same_bits(doubly_stochastic_loss(weights[one], steps[one], allowed[one]), losses[one])


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("weights: ", (np.ones((2, 3)),)),
        ("steps: ", (np.ones((2, 3, 4)), np.array([1, 4]))),
        ("steps: ", (np.ones((2, 3, 4)), np.ones(2))),
        ("allowed: ", (np.ones((2, 3, 4)), None, np.ones((2, 4)))),
        ("allowed: ", (np.ones((2, 3, 4)), None, np.ones((2, 3), bool))),
    ],
)
def test_doubly_stochastic_loss_refuses_what_does_not_fit(words, arguments):
    with pytest.raises(FastattnError, match=f"^{words}"):
        doubly_stochastic_loss(*arguments)


def test_a_gate_is_outside_of_the_weights():
    rng = np.random.default_rng(0)
    sizes = {"query_width": 3, "memory_width": 4, "width": 5, "dtype": np.float64}
    gated, plain = (fastattn.create(name, **sizes, rng=rng) for name in ("gated_additive", "additive"))
    for name, parameter in plain.parameters().items():
        parameter.assign(gated.parameters()[name].value)
    with gated.gate.b.edit() as value:
        value[...] = [-1.0]
    queries, memory = rng.normal(size=(2, 3, 3)), rng.normal(size=(2, 6, 4))
    found, wanted = (v.forward(queries, v.prepare(memory), return_weights=True) for v in (gated, plain))
    beta = 1 / (1 + np.exp(1 - queries @ gated.gate.w.value))
    assert same_bits(found.weights, wanted.weights)
    np.testing.assert_allclose(found.context, beta * wanted.context, rtol=1e-13)


def test_a_window_reads_nothing_beyond_it():
    case = next(case for case in CASES if case.options.get("window") == 2)
    problem = make(case, np.float32, keys=30, steps=5, masked=False)
    problem.lengths[...] = 30
    output = problem.variant.forward(problem.queries, problem.prepare(), return_weights=True)
    assert (output.weights[:, 0, 3:] == 0).all()
    assert ((output.weights != 0).sum(-1) <= 5).all()


def test_filters_see_the_side_that_the_docstring_says():
    variant = fastattn.create("location_sensitive", query_width=2, memory_width=2, width=1, filters=1, filter_size=3,
                              rng=RNG, dtype=np.float64)  # fmt: skip
    for parameter in variant.parameters().values():
        with parameter.edit() as value:
            value[...] = 0
    with variant.filters.edit() as value:  # the weight of the next position
        value[0] = [0, 0, 1]
    for parameter in (variant.u, variant.v):
        parameter.assign(np.full(parameter.value.shape, 3.0))
    prepared = variant.prepare(np.zeros((1, 5, 2)))
    state = RecallState(np.array([[0, 0, 1.0, 0, 0]]))
    _, weights, _ = variant.step(np.zeros((1, 2)), prepared, state)
    assert weights[0].argmax() == 1


@pytest.mark.parametrize("before", [0, 3])
def test_causal_self_attention_by_steps_and_at_once(before):
    variant = fastattn.create("causal_self_attention", query_width=8, memory_width=8, heads=4, key_heads=2,
                              rng=np.random.default_rng(0))  # fmt: skip
    x = np.random.default_rng(1).normal(size=(3, 9, 8)).astype(np.float32)
    prepared = variant.prepare(x[:, :before])
    whole = variant.forward(x[:, before:], prepared, return_weights=True)
    state = variant.start(prepared)
    for t in range(9 - before):
        earlier = state
        context, weights, state = variant.step(x[:, before + t], prepared, state)
        assert same_bits(context, np.ascontiguousarray(whole.context[:, t]))
        assert same_bits(weights, np.ascontiguousarray(whole.weights[:, :, t, : before + t + 1]))
        assert (whole.weights[:, :, t, before + t + 1 :] == 0).all()
    rows = np.array([2, 2, 0])
    again = variant.step(x[rows, -1], prepared.select(rows), earlier.select(rows))
    assert same_bits(again[:2], (context[rows], weights[rows]))
    output, _ = variant.vjp(x[:, before:], prepared, return_weights=True)
    assert same_bits(output[:2], whole[:2])
    with pytest.raises(UnsupportedError, match="step_vjp"):
        variant.step_vjp(x[:, 0], prepared, state)
    with pytest.raises(UnsupportedError, match="whole"):
        variant.prepare(x, lengths=[1, 2, 3])


def test_parameters_of_keras_are_taken():
    rng = np.random.default_rng(0)
    for heads, key_heads in ((2, 2), (4, 2)):
        variant = fastattn.create("multihead", query_width=8, memory_width=6, heads=heads, key_heads=key_heads,
                                  head_width=3, rng=rng)  # fmt: skip
        shapes = [(8, heads, 3), (heads, 3), (6, key_heads, 3), (key_heads, 3), (6, key_heads, 3), (key_heads, 3),
                  (heads, 3, 8), (8,)]  # fmt: skip
        weights = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
        variant.load_keras(weights)
        q, m = (rng.normal(size=(2, n, d)).astype(np.float32) for n, d in ((3, 8), (5, 6)))
        query, key, value = (
            np.einsum("btd,dhe->bhte", x, weights[i]) + weights[i + 1][None, :, None]
            for i, x in ((0, q), (2, m), (4, m))
        )
        key, value = (np.repeat(x, heads // key_heads, axis=1) for x in (key, value))
        p = np.exp(np.einsum("bhte,bhse->bhts", query, key) / 3**0.5)
        heads_context = np.einsum("bhts,bhse->bhte", p / p.sum(-1, keepdims=True), value)
        expected = np.einsum("bhte,hed->btd", heads_context, weights[6]) + weights[7]
        np.testing.assert_allclose(variant.forward(q, variant.prepare(m)), expected, rtol=2e-4, atol=2e-5)
    with pytest.raises(ArgumentError, match="get_weights"):
        variant.load_keras(weights[:3])
    with pytest.raises(ShapeError, match=r"query\.w"):
        variant.load_keras([weights[0][:2], *weights[1:]])
    with pytest.raises(ArgumentError, match="out_proj"):
        variant.load_torch({})
