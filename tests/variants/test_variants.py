"""Every variant keeps the protocol: the twin's numbers, true gradients, and the same bits by steps and at once."""

import numpy as np
import pytest
from checks import same_bits
from variant_cases import CASES, differences, make, parameters, twin

import fastattn
from fastattn._reference import variants as twins
from fastattn.errors import ArgumentError, DTypeError, FastattnError, ShapeError, UnsupportedError
from fastattn.losses import coverage_loss, coverage_loss_vjp, doubly_stochastic_loss, doubly_stochastic_loss_vjp
from fastattn.variants.recall import RecallState

every_case = pytest.mark.parametrize("case", CASES, ids=str)


def steps_of(problem, prepared, queries=None):
    queries = problem.queries if queries is None else queries
    state, contexts, weights = problem.variant.start(prepared), [], []
    for t in range(queries.shape[1]):
        context, found, state = problem.variant.step(queries[:, t], prepared, state)
        contexts.append(context)
        weights.append(found)
    return np.stack(contexts, axis=1), np.stack(weights, axis=-2)


def cotangents(problem, output, seed=1):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=array.shape).astype(array.dtype) for array in output[:2])


def all_gradients(problem, d_context, d_weights):
    """Gradients by `vjp`: queries, memory (and values), parameters."""
    for parameter in problem.variant.parameters().values():
        parameter.gradient[...] = 0
    _, backward = problem.variant.vjp(problem.queries, problem.prepare(), return_weights=True)
    d_queries, d_memory = backward(d_context, d_weights)
    named = {name: parameter.gradient.copy() for name, parameter in problem.variant.parameters().items()}
    return d_queries, d_memory, named


@every_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("valued", [False, True])
def test_contexts_and_weights_are_those_of_the_twin(case, dtype, valued):
    problem = make(case, dtype, keys=19, valued=valued)
    output = problem.variant.forward(problem.queries, problem.prepare(), return_weights=True)
    context, weights = twin(problem)
    room = 300 * np.finfo(dtype).eps
    assert output.context.dtype == output.weights.dtype == dtype
    np.testing.assert_allclose(output.weights, weights, rtol=room, atol=room)
    np.testing.assert_allclose(output.context, context, rtol=room, atol=10 * room)


@every_case
def test_steps_give_the_bits_of_all_at_once(case):
    problem = make(case, np.float32, keys=40, steps=9)
    prepared = problem.prepare()
    whole = problem.variant.forward(problem.queries, prepared, return_weights=True)
    assert same_bits(steps_of(problem, prepared), whole[:2])
    assert same_bits(problem.variant.forward(problem.queries, prepared), whole.context)
    output, _ = problem.variant.vjp(problem.queries, problem.prepare(), return_weights=True)
    assert same_bits(output[:2], whole[:2])


@every_case
@pytest.mark.parametrize("valued", [False, True])
def test_gradients_are_central_differences_of_the_twin(case, valued):
    problem = make(case, batch=2, steps=3, keys=5, valued=valued, seed=3)
    d_context, d_weights = cotangents(problem, twin(problem))
    d_queries, d_memory, named = all_gradients(problem, d_context, d_weights)
    given, arrays = parameters(problem.variant), {"queries": problem.queries, "memory": problem.memory}
    expected = {"queries": d_queries, "memory": d_memory}
    if valued:
        arrays["values"] = problem.values
        expected["memory"], expected["values"] = d_memory

    def loss():
        context, weights = twin(problem, given=given)
        return (context * d_context).sum() + (weights * d_weights).sum()

    for name, array in {**arrays, **given}.items():
        measured = differences(loss, array)
        np.testing.assert_allclose({**expected, **named}[name], measured, rtol=2e-6, atol=2e-7, err_msg=name)


@every_case
@pytest.mark.parametrize("valued", [False, True])
def test_going_back_step_by_step_gives_the_gradients_of_all_at_once(case, valued):
    problem = make(case, steps=5, keys=11, valued=valued)
    variant = problem.variant
    d_context, d_weights = cotangents(problem, twin(problem))
    expected = all_gradients(problem, d_context, d_weights)
    for parameter in variant.parameters().values():
        parameter.gradient[...] = 0
    prepared = problem.prepare()
    state, backwards = variant.start(prepared), []
    for t in range(5):
        _, _, state, backward = variant.step_vjp(problem.queries[:, t], prepared, state)
        backwards.append(backward)
    d_queries, d_state = np.empty_like(problem.queries), None
    for t in reversed(range(5)):
        d_queries[:, t], d_state = backwards[t](d_context[:, t], d_weights[..., t, :], d_state)
    d_memory = variant.finish(prepared)
    named = {name: parameter.gradient for name, parameter in variant.parameters().items()}
    assert not prepared.tape
    for got, wanted in ((d_queries, expected[0]), (d_memory, expected[1])):
        for a, b in zip(
            got if valued and got is d_memory else [got], wanted if isinstance(wanted, tuple) else [wanted]
        ):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    for name, gradient in named.items():
        np.testing.assert_allclose(gradient, expected[2][name], rtol=1e-10, atol=1e-12, err_msg=name)


@every_case
def test_what_is_masked_is_never_read(case):
    problem = make(case, np.float32, keys=21, valued=True)
    hidden = ~problem.allowed
    problem.memory[hidden], problem.values[hidden] = 0, 0
    clean = problem.variant.forward(problem.queries, problem.prepare(), return_weights=True)
    d_context, d_weights = cotangents(problem, clean)
    clean_gradients = all_gradients(problem, d_context, d_weights)
    problem.memory[hidden], problem.values[hidden] = np.nan, np.inf
    output = problem.variant.forward(problem.queries, problem.prepare(), return_weights=True)
    assert same_bits(output[:2], clean[:2])
    assert same_bits(steps_of(problem, problem.prepare()), clean[:2])
    assert same_bits(all_gradients(problem, d_context, d_weights), clean_gradients)
    assert (np.moveaxis(output.weights, -1, 1)[hidden] == 0).all()


@every_case
def test_rows_without_keys_are_zero_and_have_no_gradient(case):
    problem = make(case, np.float32, masked=False)
    problem.lengths[1] = 0
    problem.memory[1] = np.nan
    output = problem.variant.forward(problem.queries, problem.prepare(), return_weights=True)
    nothing = getattr(getattr(problem.variant, "output", None), "b", None)  # what is behind the sum over values
    assert (output.context[1] == (0 if nothing is None else nothing.value)).all() and (output.weights[1] == 0).all()
    assert np.isfinite(output.context).all()
    d_queries, d_memory, named = all_gradients(problem, *cotangents(problem, output))
    assert (d_queries[1] == 0).all() and (d_memory[1] == 0).all()
    assert all(np.isfinite(gradient).all() for gradient in named.values())


@every_case
def test_bits_do_not_depend_on_batch_padding_or_threads(case):
    problem = make(case, np.float32, batch=5, keys=26, steps=3, masked=False)
    whole = problem.variant.forward(problem.queries, problem.prepare(), return_weights=True)
    d_context, d_weights = cotangents(problem, whole)
    d_queries, d_memory, _ = all_gradients(problem, d_context, d_weights)
    for b, n in enumerate(problem.lengths):
        one = slice(b, b + 1)
        prepared = problem.variant.prepare(problem.memory[one, :n], problem.lengths[one])
        output, backward = problem.variant.vjp(problem.queries[one], prepared, return_weights=True)
        assert same_bits(output.context, whole.context[one])
        assert same_bits(output.weights, np.ascontiguousarray(whole.weights[one, ..., :n]))
        alone = backward(d_context[one], np.ascontiguousarray(d_weights[one, ..., :n]))
        assert same_bits(alone[0], d_queries[one])
        assert same_bits(alone[1], d_memory[one, :n])
    threads = fastattn.get_num_threads()
    try:
        for number in (1, 3, 16):
            fastattn.set_num_threads(number)
            assert same_bits(all_gradients(problem, d_context, d_weights)[:2], (d_queries, d_memory))
    finally:
        fastattn.set_num_threads(threads)


@every_case
def test_selected_rows_go_on_as_the_rows_they_came_from(case):
    problem = make(case, np.float32, keys=12)
    prepared = problem.prepare()
    state = problem.variant.start(prepared)
    for t in range(2):
        _, _, state = problem.variant.step(problem.queries[:, t], prepared, state)
    wanted = problem.variant.step(problem.queries[:, 2], prepared, state)
    rows = np.array([2, 0, 2, 1])
    again = prepared.select(np.array([1, 2, 0])).select(np.array([1, 2, 1, 0]))
    got = problem.variant.step(problem.queries[rows, 2], again, state.select(rows))
    assert same_bits(got[:2], (wanted[0][rows], wanted[1][rows]))
    assert again.batch == 4 and np.shares_memory(again.memory, prepared.memory)
    with pytest.raises(UnsupportedError, match="select"):
        problem.variant.step_vjp(problem.queries[rows, 2], again, state.select(rows))


@every_case
def test_inputs_and_states_are_not_written_and_strides_do_not_matter(case):
    problem = make(case, np.float32)
    prepared = problem.prepare()
    whole = problem.variant.forward(problem.queries, prepared, return_weights=True)
    for array in (problem.queries, problem.memory):
        array.setflags(write=False)
    strided = np.asfortranarray(problem.queries)
    again = problem.variant.forward(strided, problem.variant.prepare(
        np.asfortranarray(problem.memory), problem.lengths, problem.mask), return_weights=True)  # fmt: skip
    assert same_bits(again[:2], whole[:2])
    output, backward = problem.variant.vjp(strided, problem.prepare(), return_weights=True)
    backward(*(np.asfortranarray(d) for d in cotangents(problem, output)))


def test_names_are_listed_and_records_say_what_they_are():
    assert {case.name for case in CASES} | {"causal_self_attention"} == set(fastattn.variants.names())
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
        (ShapeError, "use 'general'", lambda: fastattn.create("dot", query_width=3, memory_width=4)),
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
