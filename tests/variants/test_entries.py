"""Whatever a variant hands out is an entry too: backward passes, states, memories, selections and losses check."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from checks import same_bits
from variant_cases import CASES, label, make

import fastattn
from fastattn.errors import ArgumentError, DTypeError, FastattnError, ShapeError, UnsupportedError
from fastattn.losses import coverage_loss_vjp, doubly_stochastic_loss_vjp, marginal_likelihood_vjp
from fastattn.plugin import ScoreRecord
from fastattn.variants import AttentionState
from fastattn.variants.hard import MovingBaseline, SampledState, reinforce
from fastattn.variants.local import LocalState
from fastattn.variants.monotonic import HardState, MonotonicState
from fastattn.variants.protocol.state import PositionState
from fastattn.variants.recall import RecallState

# The first case of each name, and those whose states or memories have parts of their own.
ONE_EACH = [
    *{case.record.name: case for case in reversed(CASES)}.values(),
    *(case for case in CASES if case.options.get("positions") == "alibi" or "reinforce" in case.options.values()),
]
every_variant = pytest.mark.parametrize("case", ONE_EACH, ids=label)


def begun(problem):
    """A memory, and the state after a step."""
    prepared = problem.prepare()
    state = problem.variant.start(prepared)
    return prepared, problem.variant.step(problem.queries[:, 0], prepared, state)[2]


def calls(problem, prepared, state):
    """Everything that takes a memory and a state."""
    variant, queries = problem.variant, problem.queries
    return [
        lambda: variant.step(queries[:, 1], prepared, state),
        lambda: variant.step_vjp(queries[:, 1], prepared, state),
        lambda: variant.forward(queries, prepared, state=state),
        lambda: variant.vjp(queries, prepared, state=state),
    ]


@every_variant
def test_a_memory_of_another_variant_is_refused_by_every_call(case):
    problem, other = make(case, np.float32), make(case, np.float32)
    state = problem.variant.start(problem.prepare())
    arrays = problem.queries.astype(np.float32), problem.memory.astype(np.float32)
    wrong = [
        (ShapeError, other.prepare()),
        (ShapeError, fastattn.create("dot", query_width=6, memory_width=6).prepare(np.ones((3, 7, 6), np.float32))),
        (DTypeError, None),
        (DTypeError, arrays[1]),
        (DTypeError, fastattn.prepare(arrays[1], arrays[1])),
    ]
    for error, prepared in wrong:
        for call in (
            *calls(problem, prepared, state),
            lambda prepared=prepared: problem.variant.start(prepared),
            lambda prepared=prepared: problem.variant.start_search(prepared),
            lambda prepared=prepared: problem.variant.finish(prepared),
        ):
            with pytest.raises(error, match=r"^prepared: "):
                call()


@every_variant
def test_a_memory_stays_as_it_was_prepared(case):
    problem = make(case, np.float32)
    prepared, state = begun(problem)
    wanted = problem.variant.step(problem.queries[:, 1], prepared, state)[:2]
    for name, value in list(vars(prepared).items()):
        with pytest.raises(UnsupportedError, match=f"^{name}: .*a prepared memory"):
            setattr(prepared, name, value)
        if isinstance(value, np.ndarray):
            with pytest.raises(ValueError, match=r"read-only|WRITEABLE"):
                value[...] = 0
            with pytest.raises(ValueError, match="WRITEABLE"):
                value.flags.writeable = True
    if prepared.mask is not None:
        problem.mask[...] = False
    problem.lengths[...] = 0
    assert same_bits(problem.variant.step(problem.queries[:, 1], prepared, state)[:2], wanted)


@every_variant
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_of_a_memory_are_used_like_it_and_have_a_tape_of_their_own(case, again):
    problem = make(case, np.float32)
    variant, (prepared, state) = problem.variant, begun(problem)
    wanted = variant.step(problem.queries[:, 1], prepared, state)[:2]
    other = again(prepared)
    assert same_bits(variant.step(problem.queries[:, 1], other, again(state))[:2], wanted)
    assert same_bits(again(variant).step(problem.queries[:, 1], prepared, state)[:2], wanted)
    context, *_, backward = variant.step_vjp(problem.queries[:, 1], other, again(state))
    backward(np.ones_like(context))
    assert not prepared.tape and not prepared.sums
    with pytest.raises(UnsupportedError, match="a prepared memory"):
        other.lengths = None
    assert not other.lengths.flags.writeable
    parts = variant.finish(prepared)
    assert not any(np.any(part) for part in (parts if isinstance(parts, tuple) else (parts,)))


@every_variant
def test_a_step_can_be_finished_once_and_never_from_a_selection(case):
    problem = make(case, np.float32)
    variant, (prepared, state) = problem.variant, begun(problem)
    nothing = variant.finish(prepared)
    assert nothing.shape == problem.memory.shape and not nothing.any()
    context, *_, backward = variant.step_vjp(problem.queries[:, 1], prepared, state)
    backward(np.ones_like(context))
    with pytest.raises(UnsupportedError, match=r"^backward: expected one call"):
        backward(np.ones_like(context))
    assert variant.finish(prepared).any()
    assert not variant.finish(prepared).any()
    with pytest.raises(UnsupportedError, match=r"^prepared: .*select"):
        variant.finish(prepared.select([0, 1, 2]))


@every_variant
def test_gradients_of_lists_and_other_kinds_are_read_or_refused(case):
    problem = make(case)  # float64, as what NumPy makes of a list
    variant, queries = problem.variant, problem.queries
    prepared, state = begun(problem)
    context, weights, _, backward = variant.step_vjp(queries[:, 1], prepared, state)
    whole, whole_backward = variant.vjp(queries, problem.prepare(), return_weights=True)
    for back, d_context, d_weights in (
        (backward, np.ones_like(context), np.ones_like(weights)),
        (whole_backward, np.ones_like(whole.context), np.ones_like(whole.weights)),
    ):
        for wrong in ("x", [[1.0], [1.0, 2.0]], d_context[..., :-1], d_context[:1], d_context > 0, {}, 1.0):
            with pytest.raises((ShapeError, DTypeError), match=r"^d_context: "):
                back(wrong, d_weights)
        with pytest.raises((ShapeError, DTypeError), match=r"^d_weights: "):
            back(d_context, d_weights[..., :-1])
        with pytest.raises((ShapeError, DTypeError), match=r"^d_weights: "):
            back(d_context, "x")
        with pytest.raises(ArgumentError, match=r"^d_context: expected at least one"):
            back()
        found = back(d_context.tolist(), d_weights.tolist())
        assert np.isfinite(found[0]).all()


@every_variant
def test_gradients_of_a_step_are_kept_when_their_buffers_are_used_again(case):
    problem = make(case, np.float32)
    found = []
    for fill in (None, 7):
        prepared, state = begun(problem)
        context, weights, _, backward = problem.variant.step_vjp(problem.queries[:, 1], prepared, state)
        d_context, d_weights = np.ones_like(context), np.full_like(weights, 0.5)
        backward(d_context, d_weights)
        if fill is not None:
            d_context[...] = d_weights[...] = fill
        found.append(problem.variant.finish(prepared))
    assert same_bits(*found)


# What is wrong in a state, for each class that has arrays.
STATES = {
    "coverage": lambda s: [
        dataclasses.replace(s, history=s.history[:, :-1]),
        dataclasses.replace(s, history=s.history[0]),
        dataclasses.replace(s, history=s.history.astype(np.float64)),
        dataclasses.replace(s, history=s.history.tolist()),
        dataclasses.replace(s, history=None),
        RecallState(np.zeros((3, 900), np.float32)),
    ],
    "neural_coverage": lambda s: [
        dataclasses.replace(s, coverage=s.coverage[..., :-1]),
        dataclasses.replace(s, coverage=s.coverage[:, :-1]),
    ],
    "monotonic": lambda s: [
        dataclasses.replace(s, alignment=s.alignment[:, :-1]),
        dataclasses.replace(s, seeds=np.zeros(3, np.int32)),
        dataclasses.replace(s, seeds=np.zeros(2, np.uint64)),
        dataclasses.replace(s, steps=-1),
        dataclasses.replace(s, steps=1.0),
        MonotonicState(np.zeros((3, 900), np.float32)),
        HardState(np.array([0, -1, 0])),
        HardState(np.array([0, 8, 0])),
        HardState(np.array([0, 10**15, 0])),
        HardState(np.array([0.0, 1.0, 2.0])),
    ],
    "local_m": lambda s: [
        LocalState(np.zeros(2, np.int64)),
        LocalState(np.full(3, np.nan)),
        dataclasses.replace(s, position=s.position.astype(np.int32)),
    ],
    "hard": lambda s: [SampledState(np.zeros(3, np.int64)), SampledState(None, -1)],
    "multihead": lambda s: [PositionState(-1), PositionState(2.0)] if type(s) is PositionState else [PositionState(0)],
}


@every_variant
def test_states_of_other_memories_and_variants_are_refused_by_every_call(case):
    problem = make(case, np.float32, keys=7)
    prepared, state = begun(problem)
    others = {"keys": 50 if case.record.name == "location" else 900}, {"keys": 2}, {"batch": 2}
    longer, shorter, fewer = (begun(make(case, np.float32, **sizes))[1] for sizes in others)
    wrong = [longer, shorter, fewer, None, 3, dataclasses.replace(state, shape=(3, 8))]
    wrong += STATES.get(case.record.name, lambda _: [])(state)
    wrong += [AttentionState()] if type(state) is not AttentionState else [LocalState(np.zeros(3, np.int64))]
    for one in wrong:
        for call in calls(problem, prepared, one)[: 2 if one is None else None]:
            with pytest.raises(FastattnError, match=r"^(state|start)[.:]"):
                call()
    if type(state).__name__ == "SampledState" and state.log_probability is not None:
        problem.variant.step(problem.queries[:, 1], prepared, dataclasses.replace(state, shape=None))


@every_variant
def test_gradients_of_states_are_those_of_the_state_that_came_out(case):
    problem = make(case, np.float32)
    prepared, state = begun(problem)
    backs, contexts = [], []
    for t in (1, 2):
        context, _, state, back = problem.variant.step_vjp(problem.queries[:, t], prepared, state)
        backs.append(back)
        contexts.append(context)
    _, d_state = backs[1](np.ones_like(contexts[1]))
    wrong = [3, PositionState(1) if type(state) is not PositionState else AttentionState()]
    if d_state is not None:
        arrays = {f.name: getattr(d_state, f.name) for f in dataclasses.fields(d_state)}
        for name, array in arrays.items():
            if isinstance(array, np.ndarray):
                wrong += [dataclasses.replace(d_state, **{name: x}) for x in (
                    array[:1], array[:, :-1], array.astype(np.float64), array[..., None], "x"
                )]  # fmt: skip
    for one in wrong:
        with pytest.raises(FastattnError, match=r"^d_state[.:]"):
            backs[0](np.ones_like(contexts[0]), None, one)
    assert np.isfinite(backs[0](np.ones_like(contexts[0]), None, d_state)[0]).all()


@every_variant
@pytest.mark.parametrize("rows", [[-1, 0, 1], [0, 3], [10**12], [0.0], [[0]], "ab", None, [True]])
def test_rows_are_numbers_of_samples_from_0_on(case, rows):
    problem = make(case, np.float32)
    for one in begun(problem):
        with pytest.raises((ArgumentError, DTypeError), match=r"^rows: "):
            one.select(rows)
        with pytest.raises((ArgumentError, DTypeError), match=r"^rows: "):
            one.select([2, 1]).select([2] if rows == [0, 3] else rows)


@every_variant
def test_rows_may_change_after_they_were_selected(case):
    problem = make(case, np.float32)
    prepared, state = begun(problem)
    rows = np.array([2, 0])
    picked, picked_state = prepared.select(rows), state.select(rows)
    query = problem.queries[rows, 1]
    wanted = problem.variant.step(query, picked, picked_state)[:2]
    rows[:] = 10**9
    assert same_bits(problem.variant.step(query, picked, picked_state)[:2], wanted)


def test_states_without_a_memory_are_compared_by_their_arrays():
    problem = make(next(case for case in CASES if case.record.name == "coverage"), np.float32)
    prepared, state = begun(problem)
    same = RecallState(state.history)
    assert same_bits(
        problem.variant.step(problem.queries[:, 1], prepared, same)[:2],
        problem.variant.step(problem.queries[:, 1], prepared, state)[:2],
    )
    with pytest.raises(ArgumentError, match=r"^rows: "):
        same.select([3])


@every_variant
def test_nan_in_a_query_reaches_the_row_that_reads_it_and_no_other(case):
    problem = make(case, np.float32, masked=False)
    if not problem.queries.shape[-1]:
        pytest.skip("it reads no query")
    whole = problem.variant.forward(problem.queries, problem.prepare(), return_weights=True)
    problem.queries[1, 0, 0] = np.nan
    found = problem.variant.forward(problem.queries, problem.prepare(), return_weights=True)
    assert np.isnan(found.context[1, 0]).any() and np.isnan(found.weights[1]).any()
    assert same_bits(found.context[::2], whole.context[::2]) and same_bits(found.weights[::2], whole.weights[::2])


WEIGHTS = np.random.default_rng(0).dirichlet(np.ones(5), size=(3, 4))
LOSSES = {
    "coverage": lambda w=WEIGHTS: coverage_loss_vjp(w),
    "doubly_stochastic": lambda w=WEIGHTS: doubly_stochastic_loss_vjp(w),
    "marginal": lambda w=WEIGHTS: marginal_likelihood_vjp(w, np.full_like(w, -1.0)),
    "marginal without keys": lambda w=WEIGHTS: marginal_likelihood_vjp(w[..., :0], w[..., :0]),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_ways_back_of_losses_check_what_they_are_given(loss):
    losses, backward = LOSSES[loss]()
    for wrong in (np.ones((1, *losses.shape[1:])), np.ones(losses.shape, np.float32), "x", None, 1.0):
        with pytest.raises((ShapeError, DTypeError), match=r"^d_(losses|total): "):
            backward(wrong)
    swapped = losses.astype(losses.dtype.newbyteorder())
    for a, b in zip(np.atleast_3d(backward(swapped)), np.atleast_3d(backward(losses))):
        assert same_bits(np.asarray(a), np.asarray(b))
    backward(np.zeros(losses.shape).tolist())


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if "keys" not in loss])
def test_losses_of_weights_read_any_byte_order_and_refuse_what_are_no_weights(loss):
    swapped = WEIGHTS.astype(WEIGHTS.dtype.newbyteorder())
    assert same_bits(LOSSES[loss](swapped)[0], LOSSES[loss]()[0])
    with pytest.raises((ShapeError, DTypeError)):
        LOSSES[loss](WEIGHTS[0])
    with pytest.raises(DTypeError, match=r"^weights: "):
        LOSSES[loss](WEIGHTS > 0)


def test_reinforce_checks_its_state_and_advantage():
    state = SampledState(np.zeros(3, np.uint64), 2, np.zeros(3, np.float32), np.zeros(3, np.float32))
    with pytest.raises(DTypeError, match=r"^state: "):
        reinforce(None, np.zeros(3, np.float32))
    with pytest.raises(ShapeError, match=r"^advantage: "):
        reinforce(state, np.zeros(2, np.float32))
    with pytest.raises(DTypeError, match=r"^advantage: "):
        reinforce(state, np.zeros(3))
    with pytest.raises(DTypeError, match=r"^rewards: "):
        MovingBaseline().advantage([1, 2])
    assert MovingBaseline().advantage([1.0, 3.0]).tolist() == [0.8, 2.8]


RNG = np.random.default_rng(0)
OPTIONS = [
    ("dtype", [{"dtype": x} for x in ("x", dict, int, "float16", object())], "additive"),
    ("dtype", [{"dtype": int}], "normed_additive"),
    ("rng", [{"rng": x} for x in (5, None, np.random)], "additive"),
    ("width", [{"width": x} for x in ("4", None, 4.0, 0)], "normed_additive"),
    ("heads", [{"heads": x} for x in ("2", 2.0, [2])], "multihead"),
    ("scale", [{"scale": x} for x in ("x", [], np.inf)], "dot"),
    ("fertility", [{"fertility": x} for x in ("x", [], -1)], "coverage"),
    ("soft_share", [{"soft_share": x} for x in ("x", {}, 2)], "hard"),
    ("temperature", [{"temperature": x} for x in ("x", None, 0)], "hard"),
    ("score", [{"score": x} for x in ([], 3, "x")], "luong"),
    ("score", [{"score": x} for x in ([], 3, "x")], "hard"),
    ("offset", [{"offset": x} for x in ("x", None, np.nan)], "monotonic"),
    ("noise", [{"noise": x} for x in ("x", None, -1)], "mocha"),
    ("sharpening", [{"sharpening": x} for x in ("x", None)], "location_sensitive"),
    ("terms", [{"terms": x} for x in (5, [[]], "xy", ())], "linear"),
]


@pytest.mark.parametrize(("argument", "options", "name"), OPTIONS)
def test_options_of_wrong_types_are_refused_by_name(argument, options, name):
    sizes = {"query_width": 4, "memory_width": 4, "rng": RNG}
    sizes |= {"width": 4} if "width" in fastattn.variants.options(name) else {}
    sizes |= {"heads": 2} if "heads" in fastattn.variants.options(name) else {}
    for wrong in options:
        with pytest.raises((ArgumentError, DTypeError), match=f"^{argument}: "):
            fastattn.create(name, **{**sizes, **wrong})


def test_pooling_says_what_it_is_for():
    pooling = fastattn.create("pooling", memory_width=5, width=8, rng=np.random.default_rng(0))
    memory = np.ones((2, 4, 5), np.float32)
    with pytest.raises(DTypeError, match=r"pool\(variant.prepare\(memory\)\)"):
        pooling.forward(memory)
    with pytest.raises(DTypeError, match=r"^prepared: "):
        pooling.pool(memory)


@pytest.mark.parametrize("width", [None, 7])
def test_pooling_gives_what_it_does_with_one_query_that_nobody_asks(width):
    rng = np.random.default_rng(0)
    pooling = fastattn.create("pooling", memory_width=5, width=width, rng=rng)
    memory, lengths = rng.normal(size=(2, 4, 5)).astype(np.float32), np.array([4, 2])
    output, backward = pooling.pool_vjp(pooling.prepare(memory, lengths), return_weights=True)
    d = rng.normal(size=(2, 5)).astype(np.float32), rng.normal(size=(2, 4)).astype(np.float32)
    found = [*output[:2], backward(*d), *(p.gradient.copy() for p in pooling.parameters().values())]
    for parameter in pooling.parameters().values():
        parameter.gradient = np.zeros_like(parameter.value)
    asked, back = pooling.vjp(np.ones((2, 1, 0), np.float32), pooling.prepare(memory, lengths), return_weights=True)
    d_memory = back(*(one[:, None] for one in d))[1]
    wanted = [asked.context[:, 0], asked.weights[:, 0], d_memory, *(p.gradient for p in pooling.parameters().values())]
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted))
    assert np.array_equal(pooling.pool(pooling.prepare(memory, lengths)), output.context)
    with pytest.raises(ShapeError, match=r"^d_context: expected shape \(2, 5\)"):
        backward(d[0][:1])


def test_pooling_without_a_layer_between_starts_as_the_mean():
    memory = np.arange(40, dtype=np.float32).reshape(2, 4, 5)
    pooling = fastattn.create("pooling", memory_width=5, width=None)
    assert np.allclose(pooling.pool(pooling.prepare(memory)), memory.mean(axis=1))
    assert repr(pooling) == "Pooling(0 -> 5, v: (5,), float32)"


def test_a_score_that_a_program_registers_is_a_variant_of_its_name(monkeypatch):
    registry = fastattn.scores.registry.REGISTRY
    monkeypatch.setattr(registry, "_own", dict(registry._own))
    own = ScoreRecord("mine", fastattn.scores.General, "q w k")
    fastattn.scores.register(own)
    made = fastattn.create("mine", query_width=3, memory_width=5, rng=np.random.default_rng(0))
    assert list(made.parameters()) == ["w"] and "mine" in fastattn.variants.names()
    assert fastattn.seq2seq.BahdanauConfig(score="mine").score == "mine"
    fastattn.scores.register(ScoreRecord("dot", fastattn.scores.General, "q w k"), replace=True)
    made = fastattn.create("dot", query_width=5, memory_width=5, rng=np.random.default_rng(0))
    assert list(made.parameters()) == ["w"]


def test_what_is_no_record_is_not_registered():
    for wrong in ("additive", None, fastattn.variants.Variant):
        with pytest.raises(DTypeError, match=r"^new: "):
            fastattn.variants.register(wrong)
