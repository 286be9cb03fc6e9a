"""Monotonic attention beyond the protocol: enumeration of all walks, hard steps, noise, and numbers near the edges."""

import itertools

import numpy as np
import pytest
from checks import same_bits
from seq2seq_cases import SOURCE_SIZE, TARGET_SIZE, random_pairs
from variant_cases import derivative, label, make, parameters, subject

import fastattn
from fastattn._reference import monotonic as twins
from fastattn._reference.elementwise import sigmoid
from fastattn.errors import ArgumentError, DTypeError, ShapeError, UnsupportedError
from fastattn.seq2seq import BOS, BahdanauConfig, build
from fastattn.testing.arrays import assigned

MONOTONIC = subject("monotonic", {"width": 9, "offset": -0.5})
MOCHA = subject("mocha", {"width": 9, "offset": -0.5, "chunk": 3})
both = pytest.mark.parametrize("case", [MONOTONIC, MOCHA], ids=label)


def walks_through(case, problem):
    """Weights as sums over all walks, and the sum of the walks' probabilities, for each sample.

    A walk is where each step stops: at a key, or behind the last one when it passes all that are left. MoChA's weights
    are those of the keys up to the stop, each walk with its own.
    """
    given, hidden = parameters(problem.variant), ~problem.allowed
    memory = np.where(hidden[..., None], 0, problem.memory)
    stop = sigmoid(twins.energies(given, "align", problem.queries, memory) + given["r"])
    stop = np.where(hidden[:, None], 0, stop)
    samples, steps, keys = stop.shape
    energies = np.zeros(stop.shape)
    if case.record.name == "mocha":
        energies = twins.energies(given, "chunk_align", problem.queries, memory)
    weights, total = np.zeros(stop.shape), np.zeros(samples)
    every = list(itertools.combinations_with_replacement(range(keys + 1), steps))
    for b, walk in itertools.product(range(samples), every):
        probability, before = 1.0, 0
        for t, place in enumerate(walk):
            probability *= np.prod(1 - stop[b, t, before:place]) * (stop[b, t, place] if place < keys else 1)
            before = place
        total[b] += probability
        for t, place in enumerate(walk):
            chunk = [j for j in range(place - case.options.get("chunk", 1) + 1, place + 1) if j >= 0]
            chunk = [j for j in chunk if place < keys and not hidden[b, place] and not hidden[b, j]]
            share = np.exp(energies[b, t, chunk])
            weights[b, t, chunk] += probability * share / share.sum()
    return weights, total


def hard_steps(problem, prepared=None, queries=None):
    prepared = problem.prepare() if prepared is None else prepared
    queries = problem.queries if queries is None else queries
    state, found = problem.variant.start(prepared, mode="hard"), []
    for t in range(queries.shape[1]):
        context, weights, state = problem.variant.step(queries[:, t], prepared, state)
        found.append((context, weights, state.position))
    return [np.stack(x, axis=1) for x in zip(*found)]


@both
@pytest.mark.parametrize("masked", [False, True])
def test_alignments_are_the_probabilities_of_all_walks(case, masked):
    problem = make(case, batch=2, steps=3, keys=5, masked=masked)
    weights = problem.variant.forward(problem.queries, problem.prepare(), return_weights=True).weights
    wanted, total = walks_through(case, problem)
    np.testing.assert_allclose(total, 1, rtol=1e-12)
    np.testing.assert_allclose(weights, wanted, rtol=1e-11, atol=1e-14)


@both
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_those_of_the_sum_over_all_walks(case, masked):
    """By differences along random directions of every parameter, the queries, the memory and the values."""
    problem = make(case, batch=2, steps=3, keys=5, masked=masked, valued=True, seed=4)
    variant, rng = problem.variant, np.random.default_rng(0)
    output, backward = variant.vjp(problem.queries, problem.prepare(), return_weights=True)
    d_context, d_weights = (rng.normal(size=array.shape) for array in output[:2])
    d_queries, (d_memory, d_values) = backward(d_context, d_weights)

    def loss():
        weights = walks_through(case, problem)[0]
        context = np.einsum("bts,bsd->btd", weights, np.where(problem.allowed[..., None], problem.values, 0))
        return (context * d_context).sum() + (weights * d_weights).sum()

    found = [(problem.queries, d_queries), (problem.memory, d_memory), (problem.values, d_values)]
    values, loss = assigned(variant.parameters(), loss)
    found += [(values[name], parameter.gradient) for name, parameter in variant.parameters().items()]
    for array, gradient in found:
        for _ in range(2):
            direction = rng.normal(size=array.shape)
            wanted = derivative(loss, array, direction)
            np.testing.assert_allclose((gradient * direction).sum(), wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_alignments_are_right_to_the_last_digits_where_quotients_of_cumulative_products_fail(dtype):
    problem = make(subject("monotonic", {"width": 4, "offset": 0.0}), dtype, batch=4, steps=5, keys=300, masked=False)
    problem.lengths[...] = 300
    with problem.variant.align.trained["g"].edit() as value:  # p from 1e-11 to 1 - 1e-11
        value[...] = 25
    weights = problem.variant.forward(problem.queries, problem.prepare(), return_weights=True).weights
    energies = twins.energies(parameters(problem.variant), "align", problem.queries, problem.memory)
    energies = energies + problem.variant.r.value[0]
    alpha = np.zeros((4, 300))
    alpha[:, 0] = 1
    unstable = False
    for t in range(5):
        p, stay, before, q = sigmoid(energies[:, t]), sigmoid(-energies[:, t]), alpha, np.zeros(4)
        alpha, passed = np.zeros((4, 300)), np.cumprod(1 - p.astype(dtype), axis=-1)
        for j in range(300):
            q = before[:, j] + (stay[:, j - 1] * q if j else 0)
            alpha[:, j] = p[:, j] * q
        with np.errstate(all="ignore"):
            exclusive = np.concatenate([np.ones((4, 1), dtype), passed[:, :-1]], axis=-1)
            quotient = p.astype(dtype) * exclusive * np.cumsum(before.astype(dtype) / exclusive, axis=-1)
        unstable |= not np.allclose(quotient, alpha, rtol=1e-3, atol=1e-6)
        # Where alpha is not tiny; energies have an error of some 25 roundings, p as much again.
        near = alpha > 1e-30
        np.testing.assert_allclose(weights[:, t][near], alpha[near], rtol=3e4 * np.finfo(dtype).eps)
    assert unstable


@both
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_hard_steps_are_the_process_of_the_paper(case, dtype):
    problem = make(case, dtype, batch=6, steps=7, keys=12, valued=True, seed=2)
    arguments = parameters(problem.variant), problem.queries, problem.memory, problem.values, problem.allowed
    wanted = getattr(twins, case.record.name)(*arguments, hard=True, **case.options)
    context, weights, position = hard_steps(problem)
    room = 300 * np.finfo(dtype).eps
    np.testing.assert_allclose(weights, wanted[1], rtol=room, atol=room)
    np.testing.assert_allclose(context, wanted[0], rtol=room, atol=10 * room)
    assert (np.diff(position, axis=1) >= 0).all()
    assert len(np.unique(position)) > 3 and (position == problem.lengths[:, None]).any()
    prepared = problem.prepare()
    state = problem.variant.start(prepared, mode="hard")
    assert same_bits(problem.variant.forward(problem.queries, prepared, state=state), context)


@both
def test_a_hard_step_may_stop_where_the_last_one_did(case):
    problem = make(case, np.float32, batch=20, steps=6, keys=40, seed=2)
    problem.queries[:, 1::2] = problem.queries[:, ::2]
    with problem.variant.r.edit() as value:
        value[...] = 0
    position = hard_steps(problem)[2]
    assert (position[:, 1::2] == position[:, ::2]).all()
    assert ((position > 0) & (position < problem.lengths[:, None])).any()


@both
def test_a_hard_step_reads_no_key_but_those_that_it_passes(case):
    problem = make(case, np.float32, batch=4, steps=6, keys=20, masked=False)
    problem.lengths[...] = 20
    clean = hard_steps(problem)
    prepared = problem.prepare()
    state = problem.variant.start(prepared, mode="hard")
    for t in range(6):
        key, memory = prepared.key.copy(), problem.memory.copy()
        prepared = problem.prepare()
        vars(prepared).update(key=np.full_like(key, np.nan), memory=np.full_like(memory, np.nan))
        for b, last in enumerate(np.minimum(clean[2][:, t], 19)):
            prepared.key[b, state.position[b] : last + 1] = key[b, state.position[b] : last + 1]
            first = max(0, last - 2) if case is MOCHA else last
            prepared.memory[b, first : last + 1] = memory[b, first : last + 1]
        context, weights, state = problem.variant.step(problem.queries[:, t], prepared, state)
        assert same_bits((context, weights, state.position), tuple(np.ascontiguousarray(x[:, t]) for x in clean))
        prepared = problem.prepare()


@both
def test_hard_steps_have_the_same_bits_in_any_batch_at_any_padding_and_for_selected_rows(case):
    problem = make(case, np.float32, batch=5, steps=6, keys=26, masked=False)
    whole = hard_steps(problem)
    for b, n in enumerate(problem.lengths):
        one = slice(b, b + 1)
        alone = hard_steps(
            problem, problem.variant.prepare(problem.memory[one, :n], problem.lengths[one]), problem.queries[one]
        )
        assert same_bits(alone[0], whole[0][one])
        assert same_bits(alone[1], np.ascontiguousarray(whole[1][one, :, :n]))
    prepared, rows = problem.prepare(), np.array([4, 1, 4, 0])
    state = problem.variant.start(prepared, mode="hard")
    for t in range(2):
        _, _, state = problem.variant.step(problem.queries[:, t], prepared, state)
    context, weights, _ = problem.variant.step(problem.queries[rows, 2], prepared.select(rows), state.select(rows))
    assert same_bits((context, weights), (whole[0][rows, 2], whole[1][rows, 2]))
    vars(prepared).update(memory=np.concatenate([problem.memory, problem.memory]))
    with pytest.raises(ShapeError, match="select"):
        problem.variant.step(problem.queries[rows, 2], prepared.select(rows), state)


def noise_of(keys, seed, steps=1, noise=1.0):
    """The noise of each step over keys whose probabilities are small, out of the weights."""
    options = {"query_width": 1, "memory_width": 1, "width": 1, "offset": -12.0, "noise": noise}
    variant = fastattn.create("monotonic", **options, rng=np.random.default_rng(0), dtype=np.float64)
    with variant.align.trained["g"].edit() as value:
        value[...] = 0
    prepared = variant.prepare(np.zeros((1, keys, 1)))
    found = []
    for t in range(steps):
        state = variant.start(prepared, seeds=[seed])
        for _ in range(t + 1):
            before, (_, weights, state) = state, variant.step(np.zeros((1, 1)), prepared, state)
        q, stops = 0.0, np.empty(keys)
        for j in range(keys):
            q = before.alignment[0, j] + (q * (1 - stops[j - 1]) if j else 0)
            stops[j] = weights[0, j] / q
        found.append(np.log(stops / (1 - stops)) + 12)
    return found


def test_noise_is_normal_and_belongs_to_seed_step_and_position():
    z, other_step = noise_of(4000, 5, steps=2)
    near = 5 / np.sqrt(len(z))
    assert abs(z.mean()) < near and abs(z.std() - 1) < near
    assert abs((z**3).mean()) < 4 * near and abs((z**4).mean() - 3) < 10 * near
    (other_seed,) = noise_of(4000, 6)
    for x in (other_seed, other_step, np.roll(z, 1)):
        assert abs(np.corrcoef(z, x)[0, 1]) < near
    np.testing.assert_allclose(noise_of(50, 5)[0], z[:50], rtol=1e-9)
    np.testing.assert_allclose(noise_of(50, 5, noise=0.25)[0], z[:50] / 4, rtol=1e-7, atol=1e-9)
    quantiles = np.quantile(z, [0.025, 0.16, 0.5, 0.84, 0.975])
    np.testing.assert_allclose(quantiles, [-1.96, -0.994, 0, 0.994, 1.96], atol=0.15)


@both
def test_noise_has_the_same_bits_in_any_batch_and_gradients_see_it(case):
    problem = make(case, np.float32, batch=5, steps=3, keys=14, masked=False)
    variant, seeds = problem.variant, np.arange(5) + 2**40
    prepared = problem.prepare()

    def run(b, n):
        part = variant.prepare(problem.memory[b, :n], problem.lengths[b])
        state = variant.start(part, seeds=seeds[b])
        output, backward = variant.vjp(problem.queries[b], part, state=state, return_weights=True)
        return output, backward(np.ones_like(output.context))

    whole, whole_gradients = run(slice(None), 14)
    plain = variant.forward(problem.queries, prepared)
    assert not np.allclose(whole.context, plain)
    for b, n in enumerate(problem.lengths):
        output, gradients = run(slice(b, b + 1), n)
        assert same_bits(output.context, whole.context[b : b + 1])
        assert same_bits(gradients[0], whole_gradients[0][b : b + 1])


@both
def test_what_cannot_be_is_refused(case):
    problem = make(case)
    variant, prepared = problem.variant, problem.prepare()
    hard = variant.start(prepared, mode="hard")
    with pytest.raises(UnsupportedError, match="hard mode"):
        variant.step_vjp(problem.queries[:, 0], prepared, hard)
    with pytest.raises(ArgumentError, match="seeds"):
        variant.start(prepared, mode="hard", seeds=[1, 2, 3])
    with pytest.raises(ArgumentError, match="mode"):
        variant.start(prepared, mode="firm")
    with pytest.raises(ShapeError, match="seeds"):
        variant.start(prepared, seeds=[1])
    with pytest.raises(DTypeError, match="seeds"):
        variant.start(prepared, seeds=[1.0, 2.0, 3.0])
    with pytest.raises(DTypeError, match="state"):
        variant.step(problem.queries[:, 0], prepared, fastattn.variants.AttentionState())
    with pytest.raises(ArgumentError, match="noise"):
        make(subject(case.record.name, {"width": 3, "noise": -1.0}))
    with pytest.raises(ArgumentError, match="search"):
        make(subject(case.record.name, {"width": 3, "search": "beam"}))


@pytest.mark.parametrize("name", ["monotonic", "mocha"])
def test_decoders_search_with_decisions(name):
    small = {"embedding": 5, "hidden": 6, "attention": 7, "readout_width": 4}
    table = {"name": name, "offset": 0.0}
    model, batch = build(BahdanauConfig(**small, mechanism=table), SOURCE_SIZE, TARGET_SIZE, 1), random_pairs()
    state, tokens = model.encode(batch.source, batch.source_lengths), np.full(4, BOS)
    before = np.zeros(4, np.int64)
    for t in range(batch.target.shape[1]):
        _, state, weights = model.step(tokens, state)
        position = state.attention.position
        assert (position >= before).all()
        if name == "monotonic":
            assert set(np.unique(weights)) <= {0, 1}
        before, tokens = position, batch.target[:, t]


def test_a_chunk_of_one_is_monotonic_attention():
    problem, other = make(subject("mocha", {"width": 9, "chunk": 1}), keys=15), make(subject("monotonic", {"width": 9}))
    for name, parameter in other.variant.parameters().items():
        parameter.assign(problem.variant.parameters()[name].value)
    prepared = [p.variant.prepare(problem.memory, problem.lengths, problem.mask) for p in (problem, other)]
    found = [p.variant.forward(problem.queries, x) for p, x in zip((problem, other), prepared)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12, atol=1e-14)
