"""Adam, the norm of gradients, and schedules."""

import json
import math

import numpy as np
import pytest
from checks import same_bits

import fastattn
from fastattn import _reference
from fastattn.layers import Parameter
from fastattn.optim import (
    Adam,
    AdamW,
    Constant,
    Cosine,
    InverseSquareRoot,
    OneCycle,
    ReduceOnPlateau,
    WeightAverage,
    clip_scale,
    global_norm,
)

dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
SHAPES = {"w": (31, 7), "b": (7,), "large": (300, 301), "one": (1,), "none": (0, 4)}


def parameters(dtype="float32"):
    rng = np.random.default_rng(0)
    return {name: Parameter(rng.standard_normal(shape).astype(dtype)) for name, shape in SHAPES.items()}


def fill(found, step):
    rng = np.random.default_rng(step)
    for p in found.values():
        p.accumulate((10.0 ** rng.integers(-6, 3, p.value.shape) * rng.standard_normal(p.value.shape)).astype(
            p.value.dtype))  # fmt: skip


@dtypes
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam_against_the_twin(decay, dtype):
    found = parameters(dtype)
    expected = {name: (p.value, *np.zeros((2, *p.value.shape))) for name, p in found.items()}
    optimizer = AdamW(found, rate=0.01, betas=(0.8, 0.95), decay=decay)
    eps = np.finfo(dtype).eps
    for step in range(1, 6):
        fill(found, step)
        for name, (value, m, v) in expected.items():
            g = found[name].gradient.astype(np.float64) * 0.5
            expected[name] = _reference.adam_step(
                value, g, m, v, step, rate=0.002 * step, betas=(0.8, 0.95), decay=decay
            )
        optimizer.step(scale=0.5, rate=0.002 * step)
        assert optimizer.steps == step
        for name, p in found.items():
            assert p.value.dtype == dtype and not p.gradient.any()
            assert np.allclose(p.value, expected[name][0], rtol=8 * eps, atol=8 * eps * (1 + 0.01 * step)), name


@dtypes
def test_averages_are_sums_of_weighted_values(dtype):
    found = parameters(dtype)
    average, expected = WeightAverage(found, 0.8), {name: p.value.astype(np.float64) for name, p in found.items()}
    for step in range(1, 60):
        d = min(0.8, (1 + step) / (10 + step))
        for name, p in found.items():
            with p.edit() as value:
                value += np.asarray(step % 3 - 1, dtype)
            expected[name] = d * expected[name] + (1 - d) * p.value
        average.update(step)
    room = 20 * np.finfo(dtype).eps
    assert all(np.allclose(average.values[name], expected[name], rtol=room, atol=room) for name in found)
    last, packed = {name: p.value.copy() for name, p in found.items()}, found["w"].packed()
    average.exchange()
    assert found["w"].packed() is not packed
    assert all(np.allclose(p.value, expected[name], rtol=room, atol=room) for name, p in found.items())
    assert same_bits(list(average.values.values()), list(last.values()))
    average.exchange()
    assert same_bits([p.value for p in found.values()], list(last.values()))
    with pytest.raises(fastattn.FastattnError, match="decay: expected a number in"):
        WeightAverage(found, 1.0)


def test_values_packed_earlier_are_packed_anew():
    w = Parameter(np.ones((3, 3)))
    w.packed()
    w.accumulate(np.ones((3, 3)))
    Adam({"w": w}, rate=0.1).step()
    assert np.allclose(w.packed().matmul(np.eye(3)), 0.9)


@dtypes
def test_threads_change_no_bit(dtype):
    before = fastattn.get_num_threads()

    def everything():
        found = parameters(dtype)
        optimizer = Adam(found, rate=0.01)
        norms = []
        for step in range(3):
            fill(found, step)
            norms.append(global_norm(found))
            optimizer.step(clip_scale(norms[-1], 1.0))
        return [np.array(norms), *(p.value for p in found.values()), *optimizer.state().values()]

    try:
        fastattn.set_num_threads(1)
        expected = everything()
        for threads in (2, 3, 16):
            fastattn.set_num_threads(threads)
            assert same_bits(everything(), expected)
    finally:
        fastattn.set_num_threads(before)


@dtypes
def test_moments_do_not_sink_into_subnormal_numbers(dtype):
    w = Parameter(np.zeros(20, dtype))
    optimizer = Adam({"w": w}, rate=0.01, betas=(0.1, 0.01))
    w.accumulate(np.full(20, 1e-3, dtype))
    for _ in range(400):
        optimizer.step()
        for name, moment in optimizer.state().items():
            assert name == "steps" or ((moment == 0) | (moment >= np.finfo(dtype).tiny)).all()
    assert not optimizer.state()["m.w"].any() and not optimizer.state()["v.w"].any()


def test_a_resumed_run_has_the_same_bits():
    straight, broken = parameters(), parameters()
    one, two = Adam(straight, rate=0.01), Adam(broken, rate=0.01)
    for step in range(4):
        if step == 2:
            state = two.state()
            two = Adam(broken, rate=0.01)
            two.load_state(state)
        for found, optimizer in ((straight, one), (broken, two)):
            fill(found, step)
            optimizer.step()
    assert same_bits([p.value for p in straight.values()], [p.value for p in broken.values()])
    assert same_bits(one.state(), two.state())


def test_a_state_that_does_not_fit():
    optimizer = Adam(parameters(), rate=0.01)
    state = optimizer.state()
    before = optimizer.state()
    for change, error in (
        ({"v.w": None}, fastattn.ArgumentError),
        ({"v.x": np.zeros(3)}, fastattn.ArgumentError),
        ({"v.one": np.zeros(3, np.float32)}, fastattn.ShapeError),
        ({"v.one": np.zeros(1)}, fastattn.ShapeError),
        ({"steps": np.array(-1)}, fastattn.ArgumentError),
        ({"steps": np.array(1.5)}, fastattn.ArgumentError),
    ):
        wrong = {**state, "m.w": state["m.w"] + 1, **change}
        wrong = {name: array for name, array in wrong.items() if array is not None}
        with pytest.raises(error, match=r"(state|v\.one|steps): expected"):
            optimizer.load_state(wrong)
        assert same_bits(optimizer.state(), before)


@dtypes
def test_global_norm(dtype):
    found = parameters(dtype)
    fill(found, 1)
    expected = math.sqrt(sum((p.gradient.astype(np.float64) ** 2).sum() for p in found.values()))
    assert math.isclose(global_norm(found), expected, rel_tol=1e-13)
    found["one"].gradient[0] = 2.0**100
    assert math.isclose(global_norm(found), 2.0**100, rel_tol=1e-13)
    assert math.isclose(global_norm({"one": found["one"]}) * clip_scale(global_norm(found), 5.0), 5.0, rel_tol=1e-12)
    found["large"].gradient[-1, -1] = np.nan
    assert math.isnan(global_norm(found))
    assert global_norm({}) == 0.0 and clip_scale(0.0, 1.0) == 1.0 and clip_scale(0.9, 1.0) == 1.0


@pytest.mark.parametrize("kind", [Adam, WeightAverage])
def test_an_optimizer_keeps_to_its_parameters(kind):
    found = parameters()
    one = kind(found, **({"rate": 0.1} if kind is Adam else {"decay": 0.9}))
    found["w"] = one.parameters["w"] = Parameter(np.ones(1))
    assert one.parameters["w"].value.shape == SHAPES["w"]
    with pytest.raises(AttributeError):
        one.parameters = found


def test_constant_and_inverse_square_root():
    assert [Constant(3.0).rate(step) for step in (1, 10)] == [3.0, 3.0]
    width, warmup = 512, 4000
    schedule = InverseSquareRoot((width * warmup) ** -0.5, warmup=warmup)
    for step in (1, 10, 3999, 4000, 4001, 100_000):
        published = width**-0.5 * min(step**-0.5, step * warmup**-1.5)
        assert math.isclose(schedule.rate(step), published, rel_tol=1e-14)


def test_cosine_and_one_cycle():
    steps, warmup, low, high = 1000, 100, 0.01, 2.0
    cosine = Cosine(high, steps=steps, warmup=warmup, lowest=low)
    for step in (1, 50, 99):
        assert math.isclose(cosine.rate(step), high * step / warmup, rel_tol=1e-14)
    for step in (100, 101, 550, 999, 1000):  # equation 5, with T_cur counted from the end of the rise
        published = low + 0.5 * (high - low) * (1 + math.cos((step - warmup) / (steps - warmup) * math.pi))
        assert math.isclose(cosine.rate(step), published, rel_tol=1e-14)
    cycle = OneCycle(high, steps=steps, lowest=low)
    assert math.isclose(cycle.rate(0), high / 25) and (cycle.rate(300), cycle.rate(1000)) == (high, low)
    assert math.isclose(cycle.rate(150), (high / 25 + high) / 2) and math.isclose(cycle.rate(650), (high + low) / 2)
    for schedule in (cosine, cycle, OneCycle(high, steps=1), Cosine(high, steps=1)):
        rates = [schedule.rate(step) for step in range(1, 1500)]
        top = rates.index(max(rates))
        assert rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True)
        assert rates[steps:] == [schedule.lowest] * len(rates[steps:])
    assert OneCycle(high, steps=steps, warmup=7).rate(7) == high


def test_reduce_on_plateau():
    schedule = ReduceOnPlateau(1.0, factor=0.5, patience=1, better="higher", lowest=0.2, threshold=0.1)
    rates = []
    for value in (-1.0, 1.0, 1.05, 1.0, math.nan, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0):
        schedule.observe(value)
        rates.append(schedule.rate(1))
        other = ReduceOnPlateau(1.0, factor=0.5, patience=1, better="higher", lowest=0.2, threshold=0.1)
        other.load_state(json.loads(json.dumps(schedule.state(), allow_nan=False)))
        schedule = other
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]
    assert ReduceOnPlateau(1.0, warmup=4).rate(1) == 0.25


WRONG = [
    (lambda: Adam({}, rate=-1.0), "rate"),
    (lambda: Adam({}, rate=0.1, betas=(0.9, 1.0)), r"betas\[1\]"),
    (lambda: Adam({}, rate=0.1).step(math.nan), "scale"),
    (lambda: Adam({}, rate=0.1).step(rate=math.inf), "rate"),
    (lambda: clip_scale(math.nan, 1.0), "norm"),
    (lambda: clip_scale(1.0, 0.0), "limit"),
    (lambda: Constant(0.0), "rate"),
    (lambda: Constant(1.0, warmup=-1), "warmup"),
    (lambda: InverseSquareRoot(1.0, warmup=0), "warmup"),
    (lambda: Cosine(1.0, steps=4, warmup=4), "steps"),
    (lambda: Cosine(1.0, steps=4, lowest=1.5), "lowest"),
    (lambda: OneCycle(1.0, steps=0), "steps"),
    (lambda: OneCycle(1.0, steps=4, lowest=-1.0), "lowest"),
    (lambda: ReduceOnPlateau(1.0, factor=1.0), "factor"),
    (lambda: ReduceOnPlateau(1.0, better="more"), "better"),
    (lambda: ReduceOnPlateau(1.0).load_state({"x": 1.0}), "state"),
    (lambda: Constant(1.0).load_state({"x": 1.0}), "state"),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_calls(number):
    call, argument = WRONG[number]
    with pytest.raises(fastattn.ArgumentError, match=f"^{argument}: expected"):
        call()
