"""How exact products of float32 are: words for the process, for a block of one thread, and for backward passes."""

import threading

import numpy as np
import pytest
from checks import same_bits
from variant_cases import CASES, label, make

import fastattn
from fastattn import layers, linear


@pytest.fixture(autouse=True)
def as_at_import():
    yield
    fastattn.set_float32_precision("highest")


def test_the_process_and_a_block_of_one_thread():
    seen = []
    fastattn.set_float32_precision("high")
    with fastattn.float32_precision("medium"):
        thread = threading.Thread(target=lambda: seen.append(fastattn.get_float32_precision()))
        thread.start()
        thread.join()
        with fastattn.float32_precision("highest"):
            seen.append(fastattn.get_float32_precision())
        seen.append(fastattn.get_float32_precision())
        fastattn.set_float32_precision("highest")
        seen.append(fastattn.get_float32_precision())
    assert [*seen, fastattn.get_float32_precision()] == ["high", "highest", "medium", "medium", "highest"]


def test_a_block_ends_with_an_exception():
    with pytest.raises(KeyError), fastattn.float32_precision("medium"):
        raise KeyError
    assert fastattn.get_float32_precision() == "highest"


@pytest.mark.parametrize("wrong", ["low", 3, None, np.ones(2)])
def test_other_words_are_refused(wrong):
    with pytest.raises(fastattn.ArgumentError, match=r"^precision: expected 'highest' or 'batched' or 'high'"):
        fastattn.set_float32_precision(wrong)
    with pytest.raises(fastattn.ArgumentError, match=r"^precision: "), fastattn.float32_precision(wrong):
        pass


def test_a_backward_pass_has_the_precision_of_its_forward_pass(monkeypatch):
    monkeypatch.setattr(linear, "LEAST_FOR_TILES", 1)
    rng = np.random.default_rng(0)
    layer = layers.Linear(70, 40, rng=rng)
    x, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((9, 70), (9, 40)))
    gradients = {}
    for precision in ("highest", "batched", "high", "medium"):
        with fastattn.float32_precision(precision):
            inside = layer.vjp(x)[1](dy)
            backward = layer.vjp(x)[1]
        gradients[precision] = backward(dy)
        assert same_bits(gradients[precision], inside)
    for precision in ("batched", "high", "medium"):
        assert same_bits(gradients["highest"], gradients[precision]) is not on_the_unit()


@pytest.fixture
def any_size(monkeypatch):
    """Matrices of any size are for the unit."""
    for limit in ("LEAST_FOR_TILES", "LEAST_IN_MEDIUM", "LEAST_FOR_GRADIENT"):
        monkeypatch.setattr(linear, limit, 1)


def unlike_highest(gradients):
    """Backward passes in the block and after it, in "medium", are the same; return whether "highest" has others."""
    with fastattn.float32_precision("medium"):
        inside = gradients(lambda backward: backward)
        outside = gradients(lambda backward: lambda *given: in_highest(backward, *given))
    assert len(inside) == len(outside)
    assert all(map(same_bits, inside, outside))
    return not all(map(same_bits, inside, gradients(lambda backward: backward)))


def in_highest(backward, *given):
    with fastattn.float32_precision("highest"):
        return backward(*given)


def on_the_unit():
    return fastattn.show_config(as_dict=True)["level"] in ("amx", "amx_model")


@pytest.mark.parametrize("name", ["general", "additive"])
def test_attention_whose_score_has_matrices(any_size, name):
    rng = np.random.default_rng(7)
    q, kv, d = (rng.standard_normal(shape, dtype=np.float32) for shape in ((2, 9, 40), (2, 11, 40), (2, 9, 40)))
    w, v = rng.standard_normal((2, 40, 40), dtype=np.float32), rng.standard_normal(40, dtype=np.float32)
    score = fastattn.scores.General(w[0]) if name == "general" else fastattn.scores.Additive(v, w[0], w[1])

    def gradients(run):
        found = run(fastattn.attention_vjp(q, kv, kv, score=score)[1])(d)
        return [*found[:3], *found.score.values()]

    assert unlike_highest(gradients) is on_the_unit()


@pytest.mark.parametrize("case", CASES, ids=label)
def test_variants(any_size, case):
    """All queries at once, step by step, and what `finish` adds."""
    problem = make(case, np.float32, masked=False)
    variant, queries = problem.variant, problem.queries

    def parameters():
        found = [one.gradient.copy() for one in variant.parameters().values()]
        for one in variant.parameters().values():
            one.gradient = np.zeros_like(one.value)
        return found

    def gradients(run):
        found = []
        context, backward = variant.vjp(queries, problem.prepare())
        found += flat(run(backward)(context)) + parameters()
        if not variant.loops:
            return found
        prepared = problem.prepare()
        state, backs, d_state = variant.start(prepared), [], None
        for query in queries.swapaxes(0, 1):
            context, _, state, back = variant.step_vjp(query, prepared, state)
            backs.append((back, context))
        for back, d in reversed(backs):
            d_query, d_state = run(back)(d, None, d_state)
            found.append(d_query)
        return found + flat(run(variant.finish)(prepared)) + parameters()

    assert unlike_highest(gradients) in (False, on_the_unit())  # some have no matrices


def flat(results):
    if isinstance(results, tuple):
        return [array for part in results for array in flat(part)]
    return [] if results is None else [results]


def test_parts_are_the_nearest_ties_to_even(any_size):
    """Numbers of 11 bits, as float16 has, are halfway between two of bfloat16 one time in eight."""
    rng = np.random.default_rng(8)
    x = (rng.integers(1024, 2048, (512, 256)) * 2.0**-10).astype(np.float32)
    w = np.eye(256, 80, dtype=np.float32)
    with fastattn.float32_precision("medium"):
        errors = linear.PackedWeights(w).matmul(x) / x[:, :80] - 1
    assert abs(errors.mean()) < 5e-5  # 6e-4 with ties away from zero
    assert bool(errors.any()) is on_the_unit()


def test_only_float32_has_parts(monkeypatch):
    monkeypatch.setattr(linear, "LEAST_FOR_TILES", 1)
    rng = np.random.default_rng(1)
    w, x = rng.standard_normal((70, 40)), rng.standard_normal((9, 70))
    exact = linear.PackedWeights(w).matmul(x)
    with fastattn.float32_precision("medium"):
        assert same_bits(linear.PackedWeights(w).matmul(x), exact)


def test_parts_follow_the_value_and_the_precision(monkeypatch):
    """Their memory is used again, for another value and beside parts of another number."""
    monkeypatch.setattr(linear, "LEAST_FOR_TILES", 1)
    rng = np.random.default_rng(2)
    parameter = layers.Parameter(rng.standard_normal((70, 130)).astype(np.float32))
    x, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((9, 70), (9, 130)))
    for _ in range(3):
        fresh = linear.PackedWeights(parameter.value)
        for precision in ("medium", "highest", "batched", "high", "medium"):
            with fastattn.float32_precision(precision):
                assert same_bits(parameter.packed().matmul(x), fresh.matmul(x))
                assert same_bits(parameter.packed().matmul_transposed(dy), fresh.matmul_transposed(dy))
        with parameter.edit() as value:
            value *= np.float32(1.7)


@pytest.mark.parametrize("less", [("batched", 1e-5), ("high", 1e-3), ("medium", 0.02)])
@pytest.mark.parametrize("made", [layers.GRU, layers.LSTM])
def test_recurrent_layers(monkeypatch, made, less):
    """Steps have the bits of the walk, and the backward pass the precision of the forward pass."""
    monkeypatch.setattr(linear, "LEAST_FOR_TILES", 1)
    monkeypatch.setattr(linear, "LEAST_FOR_GRADIENT", 1)
    rng = np.random.default_rng(3)
    layer = made(70, 40, rng=rng)
    x, dy = (rng.standard_normal((3, 5, width)).astype(np.float32) for width in (70, 40))
    found = {}
    for precision in ("highest", less[0]):
        gradients = []
        with fastattn.float32_precision(precision):
            y, _, backward = layer.vjp(x)
            state = None
            for t in range(5):
                state = layer.cell.forward(x[:, t], state if t else layer.cell.zeros(3) if made is layers.GRU else None)
                assert same_bits(state if made is layers.GRU else state[0], np.ascontiguousarray(y[:, t]))
            gradients += [backward(dy)[0], layer.w_input.gradient.copy()]
            layer.w_input.gradient = np.zeros_like(layer.w_input.value)
            backward = layer.vjp(x)[2]
        assert same_bits(backward(dy)[0], gradients[0]) and same_bits(layer.w_input.gradient, gradients[1])
        layer.w_input.gradient = np.zeros_like(layer.w_input.value)
        found[precision] = [y, *gradients]
    for exact, rounded in zip(*found.values()):
        assert same_bits(exact, rounded) is not on_the_unit()
        np.testing.assert_allclose(rounded, exact, rtol=0, atol=less[1] * np.abs(exact).max())


def test_gradients_of_weights(monkeypatch):
    monkeypatch.setattr(linear, "LEAST_FOR_GRADIENT", 70 * 40)
    rng = np.random.default_rng(4)
    x, dy = (rng.standard_normal((100, width)).astype(np.float32) for width in (70, 40))
    exact = linear.weight_gradient(x, dy)
    for precision in ("highest", "batched", "high", "medium"):
        with fastattn.float32_precision(precision):
            same = same_bits(linear.weight_gradient(x, dy), exact)
            assert same is not (precision != "highest" and on_the_unit())
            assert same_bits(linear.weight_gradient(x[:, 1:], dy), exact[1:])  # too small
            wide = linear.weight_gradient(x.astype(np.float64), dy.astype(np.float64))
        assert same_bits(wide, linear.weight_gradient(x.astype(np.float64), dy.astype(np.float64)))


@pytest.mark.parametrize("name", ["coverage", "local_m", "local_p"])
def test_gradients_of_values_do_not_depend_on_padding(name):
    """A sample alone has a matrix of another size than in a batch, and what decides about a unit is the size."""
    rng = np.random.default_rng(0)
    shapes = {"memory": (2, 60, 512), "queries": (2, 8, 24), "d_context": (2, 8, 512)}
    given = {what: rng.standard_normal(shape, dtype=np.float32) for what, shape in shapes.items()}
    more = {"width": 16} if name == "coverage" else {}
    variant = fastattn.create(name, query_width=24, memory_width=512, rng=rng, **more)

    def gradient(samples, keys):
        memory, queries, d_context = (x[samples] for x in given.values())
        with fastattn.float32_precision("medium"):
            prepared = variant.prepare(memory[:, :keys], np.array([60, 20])[samples])
            state, backs = variant.start(prepared), []
            for query in queries.swapaxes(0, 1):
                _, _, state, back = variant.step_vjp(query, prepared, state)
                backs.append(back)
            d_state = None
            for back, d in zip(backs[::-1], d_context.swapaxes(0, 1)[::-1], strict=True):
                _, d_state = back(d, None, d_state)
            return variant.finish(prepared)

    assert gradient(slice(1, 2), 20)[0].tobytes() == gradient(slice(0, 2), 60)[1, :20].tobytes()


def test_scores_of_places_do_not_depend_on_padding(monkeypatch):
    monkeypatch.setattr(linear, "LEAST_IN_MEDIUM", 64 * 40)
    rng = np.random.default_rng(0)
    query, memory = (rng.standard_normal((1, n, 64), dtype=np.float32) for n in (3, 50))
    score = fastattn.scores.Location(rng.standard_normal((64, 50), dtype=np.float32))
    variant = fastattn.create("location", query_width=64, memory_width=64, longest=50, rng=rng)
    with fastattn.float32_precision("medium"):
        found = []
        for keys in (30, 50):
            more = {"key_lengths": np.array([30])}
            context, back = fastattn.attention_vjp(query, memory[:, :keys], memory[:, :keys], score=score, **more)
            prepared = variant.prepare(memory[:, :keys], more["key_lengths"])
            stepped = variant.forward(query, prepared)
            found.append((context, back(query).query, stepped))
    assert all(same_bits(alone, padded) for alone, padded in zip(*found, strict=True))


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu"])
def test_additive_scores(activation):
    """In "medium" by estimates of reciprocals: of one key the log-sum-exp is the score, and its gradient is 1."""
    rng = np.random.default_rng(0)
    v = rng.standard_normal(70).astype(np.float32)
    score = fastattn.scores.Additive(v, activation=activation)
    size = float(np.abs(v).sum())
    level = fastattn.show_config(as_dict=True)["level"]
    for spread in (1, 12):  # the second needs the cap
        q, k = (np.float32(spread * rng.standard_normal((5, n, 70))) for n in (9, 1))
        found = {}
        for precision in ("highest", "medium"):
            with fastattn.float32_precision(precision):
                outputs, back = fastattn.attention_vjp(q, k, k, score=score, return_lse=True)
                inside = back(d_lse=np.ones((5, 9), np.float32))
            gradients = back(d_lse=np.ones((5, 9), np.float32))
            made = [(one.query, one.key, one.score["v"]) for one in (inside, gradients)]
            assert all(map(same_bits, *made))
            found[precision] = outputs.lse, *made[0]
        x = q.astype(np.float64) + k
        y = {"tanh": np.tanh(x), "sigmoid": 1 / (1 + np.exp(-x)), "relu": np.maximum(x, 0)}[activation]
        slope = {"tanh": 1 - y**2, "sigmoid": y * (1 - y), "relu": (x > 0) * 1.0}[activation]
        exact = y @ v, slope * v, (slope * v).sum(axis=1, keepdims=True), y.sum(axis=(0, 1))
        unit = {"tanh": 2.0**-13, "sigmoid": 2.0**-14, "relu": 0.0}[activation]
        bounds = unit * size, 2 * unit * np.abs(v), 9 * 2 * unit * np.abs(v), 45 * unit
        for right, known, rough, bound in zip(exact, found["highest"], found["medium"], bounds, strict=True):
            room = np.abs(known - right).max() + 1e-5 * max(1, np.abs(right).max())
            assert (np.abs(rough - right) <= bound + room).all()
        alike = list(map(same_bits, found["highest"], found["medium"]))
        if level == "amx" and activation != "relu":
            assert not any(alike)
        elif level != "amx_model" or activation == "relu":  # its estimates are quotients
            assert all(alike)


def of_any_size(rng):
    """70 numbers of sizes from 1 to 2^-60, and zeros."""
    v = rng.choice([-1.0, 1.0], 70) * 2.0 ** -rng.uniform(0, 60, 70)
    v[::9] = 0
    return v


VECTORS = {
    "any": of_any_size,
    "zero": lambda rng: np.zeros(70),
    "one": lambda rng: np.eye(70)[3],
    "huge": lambda rng: rng.standard_normal(70) * 1e36,
    "tiny": lambda rng: rng.standard_normal(70) * 2.0**-130,
}


@pytest.mark.parametrize("apart", [1, 30, 42.9])  # exponentials of 42.9 are near the ends of the type
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
@pytest.mark.parametrize("name", VECTORS)
def test_additive_scores_whatever_their_vector(name, activation, apart):
    """Queries near -apart and keys near apart: sums of a few, of exponentials of any size."""
    rng = np.random.default_rng(1)
    v = VECTORS[name](rng).astype(np.float32)
    q, k = (np.float32(sign * apart + rng.standard_normal((3, n, 70)) / 4) for sign, n in ((-1, 7), (1, 1)))
    q, k = np.clip(q, -42.95, 42.95), np.clip(k, -42.95, 42.95)
    score = fastattn.scores.Additive(v, activation=activation)
    found = {}
    for precision in ("highest", "medium"):
        with fastattn.float32_precision(precision):
            found[precision] = fastattn.attention(q, k, k, score=score, return_lse=True).lse
    x = q.astype(np.float64) + k
    right = (np.tanh(x) if activation == "tanh" else 1 / (1 + np.exp(-x))) @ v.astype(np.float64)
    size = float(np.abs(v.astype(np.float64)).sum())
    room = np.abs(found["highest"] - right).max() + 1e-5 * size
    assert (np.abs(found["medium"] - right) <= (2.0**-13 if activation == "tanh" else 2.0**-14) * size + room).all()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_additive_scores_of_a_vector_that_is_not_finite(odd):
    rng = np.random.default_rng(2)
    q, k, v = (rng.standard_normal(shape, np.float32) for shape in ((2, 5, 20), (2, 1, 20), (20,)))
    v[7] = odd  # of one key the log-sum-exp is the score
    found = []
    for precision in ("highest", "medium"):
        with fastattn.float32_precision(precision):
            found.append(fastattn.attention(q, k, k, score=fastattn.scores.Additive(v), return_lse=True).lse)
    assert same_bits(*found)
