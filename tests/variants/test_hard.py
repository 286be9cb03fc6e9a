"""Hard attention in training: what is drawn, the gradients of both estimators, and exact likelihoods."""

import itertools

import numpy as np
import pytest
from checks import same_bits
from variant_cases import label, make, parameters, subject

import fastattn
from fastattn._kernels import core
from fastattn._reference import hard as twins
from fastattn.errors import ArgumentError, DTypeError, ShapeError
from fastattn.losses import marginal_likelihood, marginal_likelihood_vjp
from fastattn.testing.arrays import assigned, differences
from fastattn.variants.hard import MovingBaseline, SampledState, reinforce

GUMBEL = subject("hard", {"width": 9, "temperature": 0.7})
REINFORCE = subject("hard", {"width": 9, "training": "reinforce", "soft_share": 0.4})
both = pytest.mark.parametrize("case", [GUMBEL, REINFORCE], ids=label)


def steps_back(problem, seeds, d_context, d_weights, d_last=None):
    """Outputs, the last state, and all gradients, by steps."""
    variant = problem.variant
    for parameter in variant.parameters().values():
        parameter.gradient[...] = 0
    prepared = problem.prepare()
    state, found = variant.start(prepared, seeds=seeds), []
    for t in range(problem.queries.shape[1]):
        *output, state, backward = variant.step_vjp(problem.queries[:, t], prepared, state)
        found.append((*output, backward))
    d_queries, d_state = np.empty_like(problem.queries), d_last
    for t in reversed(range(len(found))):
        d_queries[:, t], d_state = found[t][2](d_context[:, t], d_weights[:, t], d_state)
    d_memory = variant.finish(prepared)
    gradients = {"queries": d_queries, "memory": d_memory}
    gradients |= {name: parameter.gradient.copy() for name, parameter in variant.parameters().items()}
    return *(np.stack([x[i] for x in found], axis=1) for i in range(2)), state, gradients


def many(case, count, keys=5, **changes):
    """The same sample `count` times, and its probabilities."""
    problem = make(subject("hard", {**case.options, **changes}), batch=1, steps=1, keys=keys, masked=True, seed=4)
    p = twins.probabilities(parameters(problem.variant), problem.queries, problem.memory, problem.allowed)[0, 0]
    for name in ("queries", "memory", "lengths", "mask"):
        setattr(problem, name, np.repeat(getattr(problem, name), count, axis=0))
    return problem, p


@both
def test_positions_are_drawn_with_their_probabilities(case):
    problem, p = many(case, 6000, soft_share=0.0, temperature=1.0)
    prepared = problem.prepare()
    state, before = problem.variant.start(prepared, seeds=np.arange(6000)), None
    for _ in range(2):
        _, weights, state = problem.variant.step(problem.queries[:, 0], prepared, state)
        if before is not None:  # steps are drawn apart
            assert abs((weights * before).sum(axis=-1).mean() - p @ p) <= 5 / np.sqrt(6000)
        before = weights
        share = weights.mean(axis=0)
        assert (abs(share - p) <= 5 * np.sqrt(p * (1 - p) / 6000)).all()
        assert set(np.unique(weights)) == {0, 1}


def test_some_samples_are_attended_to_softly_throughout():
    problem, p = many(REINFORCE, 3000)
    prepared = problem.prepare()
    state, soft = problem.variant.start(prepared, seeds=np.arange(3000)), []
    for _ in range(2):
        _, weights, state = problem.variant.step(problem.queries[:, 0], prepared, state)
        soft.append(weights.max(axis=-1) < 1)
        np.testing.assert_allclose(weights[soft[-1]], np.broadcast_to(p, weights[soft[-1]].shape), rtol=1e-12)
    assert (soft[0] == soft[1]).all() and abs(soft[0].mean() - 0.4) < 0.05


def test_log_probabilities_and_entropies_and_their_gradients():
    problem = make(REINFORCE, batch=4, steps=3, keys=5, seed=3)
    seeds, rng = np.array([3, 4, 5, 6]), np.random.default_rng(0)
    d_context, d_weights = rng.normal(size=(4, 3, 6)), rng.normal(size=(4, 3, 5))
    d_last = SampledState(log_probability=rng.normal(size=4), entropy=rng.normal(size=4))
    _, weights, state, gradients = steps_back(problem, seeds, d_context, d_weights, d_last)
    soft = weights.max(axis=-1) < 1
    given = parameters(problem.variant)
    p = twins.probabilities(given, problem.queries, problem.memory, problem.allowed)
    log_p = np.log(np.where(p > 0, p, 1))
    drawn = np.where(soft, 0, np.take_along_axis(log_p, weights.argmax(-1)[..., None], -1)[..., 0])
    np.testing.assert_allclose(state.log_probability, drawn.sum(1), rtol=1e-11)
    np.testing.assert_allclose(state.entropy, -(p * log_p).sum((1, 2)), rtol=1e-11)
    assert soft.any() and not soft.all() and state.steps == 3

    def loss():
        context, weights, state, _ = steps_back(problem, seeds, d_context, d_weights)
        through = (state.log_probability * d_last.log_probability + state.entropy * d_last.entropy).sum()
        return (context * d_context).sum() + (weights * d_weights).sum() + through

    values, loss_of_all = assigned(problem.variant.parameters(), loss)
    for name, array in {"queries": problem.queries, "memory": problem.memory, **values}.items():
        np.testing.assert_allclose(gradients[name], differences(loss_of_all, array), rtol=2e-6, atol=2e-7, err_msg=name)


def test_reinforce_estimates_the_gradient_of_the_expected_reward():
    count = 20000
    problem, _ = many(REINFORCE, count, soft_share=0.0)
    rewards = np.array([0.3, -1.0, 2.0, 0.5, -0.2])
    zero = np.zeros((count, 1, 6)), np.zeros((count, 1, 5))
    _, weights, state, _ = steps_back(problem, np.arange(count), *zero)
    found = weights[:, 0] @ rewards
    d_last = reinforce(state, found - 0.25, reward=1.0)
    gradients = steps_back(problem, np.arange(count), *zero, d_last)[3]["queries"][:, 0]
    inside, step = parameters(problem.variant), 1e-6
    wanted = np.empty(5)
    for c in range(5):
        above, below = (problem.queries[:1] + sign * step * np.eye(5)[c] for sign in (1, -1))
        p_above, p_below = (
            twins.probabilities(inside, q, problem.memory[:1], problem.allowed[:1])[0, 0] for q in (above, below)
        )
        wanted[c] = -((p_above - p_below) @ rewards) / (2 * step)  # the loss is minus the reward
    error = gradients.std(axis=0) / np.sqrt(count)
    assert (abs(gradients.mean(axis=0) - wanted) < 5 * error).all()
    assert (abs(wanted) > 5 * error).any()


def test_straight_through_gradients_are_those_of_the_perturbed_softmax():
    problem = make(GUMBEL, batch=3, steps=2, keys=5, seed=3)
    seeds, rng = np.array([9, 8, 7], np.uint64), np.random.default_rng(0)
    d_context, d_weights = rng.normal(size=(3, 2, 6)), rng.normal(size=(3, 2, 5))
    context, weights, _, gradients = steps_back(problem, seeds, d_context, d_weights)
    noise = np.empty((2, 3, 5))
    for t in range(2):
        core.logarithm(np.ones((3, 5)), seeds, t, noise[t])
    d_y = d_weights + np.einsum(
        "btd,bsd->bts", d_context, problem.memory
    )  # with the memory as it is, not as a variable

    def perturbed():
        p = twins.probabilities(parameters(problem.variant), problem.queries, problem.memory, problem.allowed)
        z = np.where(p > 0, (np.log(np.where(p > 0, p, 1)) + noise.swapaxes(0, 1)) / 0.7, -np.inf)
        e = np.exp(z - z.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    assert (weights.argmax(-1) == perturbed().argmax(-1)).all()
    np.testing.assert_allclose(context, np.einsum("bts,bsd->btd", weights, problem.memory), rtol=1e-12)
    values, loss = assigned(problem.variant.parameters(), lambda: (perturbed() * d_y).sum())
    for name, array in {"queries": problem.queries, "memory": problem.memory, **values}.items():
        measured = differences(loss, array)
        if name == "memory":
            measured += np.einsum("bts,btd->bsd", weights, d_context)
        np.testing.assert_allclose(gradients[name], measured, rtol=2e-6, atol=2e-7, err_msg=name)


@both
def test_what_is_drawn_has_the_same_bits_in_any_batch_and_at_any_padding(case):
    problem = make(case, np.float32, batch=6, keys=26, steps=3, masked=False, valued=True)
    variant, seeds = problem.variant, np.arange(6) + 2**50
    whole_memory, values = problem.memory.copy(), problem.values
    hidden = ~problem.allowed
    problem.memory[hidden], problem.values[hidden] = np.nan, np.inf

    def run(b, n):
        prepared = variant.prepare(problem.memory[b, :n], problem.lengths[b], values=values[b, :n])
        output, backward = variant.vjp(
            problem.queries[b], prepared, state=variant.start(prepared, seeds=seeds[b]), return_weights=True
        )
        return output, backward(np.ones_like(output.context))

    whole, gradients = run(slice(None), 26)
    assert np.isfinite(whole.context).all() and np.isfinite(gradients[0]).all()
    assert np.isfinite(gradients[1][0]).all() and whole_memory.shape == problem.memory.shape
    for b, n in enumerate(problem.lengths):
        one = slice(b, b + 1)
        output, back = run(one, n)
        assert same_bits(output.context, whole.context[one])
        assert same_bits(output.weights, np.ascontiguousarray(whole.weights[one, :, :n]))
        assert same_bits(back[0], gradients[0][one])
        assert same_bits(back[1], tuple(x[one, :n] for x in gradients[1]))
    threads = fastattn.get_num_threads()
    try:
        for number in (1, 3):
            fastattn.set_num_threads(number)
            assert same_bits(run(slice(None), 26)[1], gradients)
    finally:
        fastattn.set_num_threads(threads)


@both
def test_selected_rows_draw_as_the_rows_they_came_from(case):
    problem = make(case, np.float32, keys=12)
    prepared = problem.prepare()
    state = problem.variant.start(prepared, seeds=[1, 2, 3])
    _, _, state = problem.variant.step(problem.queries[:, 0], prepared, state)
    wanted = problem.variant.step(problem.queries[:, 1], prepared, state)
    rows = np.array([2, 0, 2])
    found = problem.variant.step(problem.queries[rows, 1], prepared.select(rows), state.select(rows))
    assert same_bits(found[:2], (wanted[0][rows], wanted[1][rows]))


def test_a_memory_without_positions_gives_zeros():
    for case in (GUMBEL, REINFORCE):
        variant = make(case, np.float32).variant
        prepared = variant.prepare(np.zeros((2, 0, 6), np.float32))
        state = variant.start(prepared, seeds=[1, 2])
        output, backward = variant.vjp(np.ones((2, 3, 5), np.float32), prepared, state=state)
        d_queries, d_memory = backward(np.ones_like(output))
        assert not output.any() and not d_queries.any() and d_memory.shape == (2, 0, 6)


def test_the_baseline_is_the_papers_moving_average():
    baseline, expected = MovingBaseline(), 0.0
    for k in range(4):
        rewards = np.array([k, -3.0, 2.0 * k])
        expected = 0.9 * expected + 0.1 * rewards.mean()
        np.testing.assert_allclose(baseline.advantage(rewards), rewards - expected, rtol=1e-14)
    state = SampledState(log_probability=np.zeros(2), entropy=np.zeros(2))
    d_last = reinforce(state, np.array([2.0, -1.0]), reward=3.0, entropy=0.5)
    assert d_last.log_probability.tolist() == [-6, 3] and d_last.entropy.tolist() == [-0.5, -0.5]


def drawn_likelihoods(dtype=np.float64, batch=2, steps=3, keys=4, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(keys), (batch, steps)).astype(dtype)
    weights[0, 1, 2] = 0
    return weights, (rng.normal(size=weights.shape) * 3 - 4).astype(dtype)


def test_exact_likelihoods_are_the_sum_over_all_sequences_of_positions():
    weights, likelihoods = drawn_likelihoods()
    found = marginal_likelihood(weights, likelihoods)
    wanted = np.zeros(2)
    for b, path in itertools.product(range(2), itertools.product(range(4), repeat=3)):
        wanted[b] += np.prod([weights[b, t, j] * np.exp(likelihoods[b, t, j]) for t, j in enumerate(path)])
    np.testing.assert_allclose(found.sum(axis=1), np.log(wanted), rtol=1e-12)
    np.testing.assert_allclose(found, twins.marginal_likelihood(weights, likelihoods), rtol=1e-12)


def test_gradients_of_exact_likelihoods_are_central_differences():
    weights, likelihoods = drawn_likelihoods()
    rng = np.random.default_rng(1)
    total, backward = marginal_likelihood_vjp(weights, likelihoods)
    d_total = rng.normal(size=total.shape)
    d_weights, d_likelihoods = backward(d_total)
    assert d_weights[0, 1, 2] == d_likelihoods[0, 1, 2] == 0
    measured = differences(lambda: (twins.marginal_likelihood(weights, likelihoods) * d_total).sum(), likelihoods)
    np.testing.assert_allclose(d_likelihoods, measured, rtol=1e-7, atol=1e-9)
    measured = differences(lambda: (twins.marginal_likelihood(weights, likelihoods) * d_total).sum(), weights, 1e-7)
    measured[0, 1, 2] = 0
    np.testing.assert_allclose(d_weights, measured, rtol=1e-5, atol=1e-7)


def test_exact_likelihoods_train_a_soft_variant():
    problem = make(subject("additive", {"width": 7}), batch=2, steps=3, keys=5, seed=2)
    likelihoods = np.random.default_rng(0).normal(size=(2, 3, 5))
    output, attention_back = problem.variant.vjp(problem.queries, problem.prepare(), return_weights=True)
    total, backward = marginal_likelihood_vjp(output.weights, likelihoods)
    d_queries, _ = attention_back(None, backward(np.ones_like(total))[0])

    def loss():
        found = problem.variant.forward(problem.queries, problem.prepare(), return_weights=True)
        return twins.marginal_likelihood(found.weights, likelihoods).sum()

    np.testing.assert_allclose(d_queries, differences(loss, problem.queries), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exact_likelihoods_far_below_one_and_without_reading_what_has_no_weight(dtype):
    weights, likelihoods = drawn_likelihoods(dtype)
    likelihoods[1] -= 5000
    wanted = marginal_likelihood(weights, likelihoods + dtype(5000)) if dtype == np.float64 else None
    found, backward = marginal_likelihood_vjp(weights, likelihoods)
    assert np.isfinite(found).all() and found.dtype == dtype
    if wanted is not None:
        np.testing.assert_allclose(found + 5000, wanted, rtol=1e-9, atol=1e-9)
    likelihoods[0, 1, 2] = np.nan
    again, backward_again = marginal_likelihood_vjp(weights, likelihoods)
    assert same_bits(again, found) and same_bits(backward_again(np.ones_like(found)), backward(np.ones_like(found)))
    padded = [np.concatenate([x, np.zeros((2, 3, 40), dtype)], axis=-1) for x in (weights, likelihoods)]
    assert same_bits(marginal_likelihood(*padded), found)
    assert same_bits(marginal_likelihood(weights[1:], likelihoods[1:]), found[1:])
    weights[1, 2] = 0
    found, backward = marginal_likelihood_vjp(weights, likelihoods)
    assert found[1, 2] == -np.inf and not any(np.isnan(d).any() or d[1, 2].any() for d in backward(np.ones_like(found)))
    assert (marginal_likelihood(weights[..., :0], likelihoods[..., :0]) == -np.inf).all()


def test_what_cannot_be_is_refused():
    weights, likelihoods = drawn_likelihoods()
    with pytest.raises(ShapeError, match="log_likelihoods"):
        marginal_likelihood(weights, likelihoods[:1])
    with pytest.raises(DTypeError, match="log_likelihoods"):
        marginal_likelihood(weights, likelihoods.astype(np.float32))
    for options in ({"training": "exact"}, {"score": "cosine"}, {"soft_share": 1.5}, {"temperature": 0.0}):
        with pytest.raises(ArgumentError, match=next(iter(options))):
            make(subject("hard", options))
    with pytest.raises(ArgumentError, match="decay"):
        MovingBaseline(1.0)
    problem = make(GUMBEL)
    with pytest.raises(ArgumentError, match="log_probability"):
        reinforce(problem.variant.start(problem.prepare(), seeds=[1, 2, 3]), np.zeros(3))
