"""Compiled modifiers compute what their graph says in float64, and their gradients what its derivative says."""

import re

import compiled_scores as scores
import numpy as np
import pytest

import fastattn
from fastattn import jit

BOUND = {one.name: one for one in scores.bound()}
CLOSE = {np.float32: 3e-6, np.float64: 1e-13}  # of the largest number


def close(found, wanted, dtype):
    most = np.abs(wanted).max(initial=1e-300)
    np.testing.assert_allclose(found / most, wanted / most, rtol=0, atol=CLOSE[dtype])


# float64 of a few: a function is the same text but for the constants of its width.
CASES = [(name, np.float32) for name in BOUND] + [(name, np.float64) for name in ("alibi", "buckets", "choices")]


@pytest.mark.parametrize(("name", "dtype"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_values_and_gradients(name, dtype):
    bound = BOUND[name]
    score, d = scores.problem(dtype)
    wanted = bound.evaluate(score, *scores.places(score))
    close(scores.forward(bound, score), wanted, dtype)
    wanted, totals = bound.evaluate_vjp(score, *scores.places(score), d)
    unread = np.where(d == 0, np.nan, score).astype(dtype)
    found, gradients = scores.backward(bound, unread, d)
    close(found, wanted, dtype)
    assert (found[d == 0] == 0).all() and np.isfinite(found).all()
    assert gradients.keys() == totals.keys() == set(bound.trained)
    for parameter, total in totals.items():
        close(gradients[parameter], total, dtype)
        assert gradients[parameter].dtype == bound.parameters[parameter].dtype


# Whose gradient is 0 by choice somewhere, whatever that of the result: more than a factor.
CHOOSING = {"clipped", "logarithms", "choices", "elsewhere", "flags"}


@pytest.mark.parametrize("name", [name for name, one in BOUND.items() if not one.trained])
def test_slopes_in_place_of_a_backward_function(name):
    bound = BOUND[name]
    score, _ = scores.problem(np.float32)
    slopes, _ = bound.evaluate_vjp(score, *scores.places(score), np.ones(score.shape))
    if not bound.compiled(np.float32, *score.shape).sloped:
        assert (slopes == 1).all() or name in CHOOSING
        return
    values, found = scores.sloped(bound, score)
    close(values, bound.evaluate(score, *scores.places(score)), np.float32)
    close(found, slopes, np.float32)


@pytest.mark.parametrize("name", ["softcap", "relative", "buckets", "powers"])
def test_a_row_has_the_same_bits_in_any_pieces(name):
    bound = BOUND[name]
    score, d = scores.problem(np.float32)
    compiled = bound.compiled(np.float32, *score.shape)
    call, back = scores.FORWARD(compiled.forward), scores.BACKWARD(compiled.backward)
    whole = scores.forward(bound, score)
    gradient, _ = scores.backward(bound, score, d)
    place = (1, 2, 3)
    for first in (0, 1, 3, 15, 16, 17):
        for count in range(1, scores.TK - first + 1):
            part = slice(first, first + count)
            row, d_row = score[place][part].copy(), d[place][part].copy()
            nothing = np.zeros(len(compiled.gradients) + 1, np.int64)
            given = len(row), *place, first, compiled.parameters
            back(scores.address(row), scores.address(d_row), *given, scores.address(nothing))
            call(scores.address(row), *given)
            assert row.tobytes() == whole[place][part].tobytes()
            assert d_row.tobytes() == gradient[place][part].tobytes()


def test_gradients_of_parameters_do_not_depend_on_the_keys_behind():
    """Those whose d is 0, which padding may add or leave out."""
    for name in ("softcap", "alibi", "twice", "relative"):
        bound = BOUND[name]
        score, d = scores.problem(np.float32)
        compiled = bound.compiled(np.float32, *score.shape)
        back = scores.BACKWARD(compiled.backward)
        found = []
        for count in (41, 42, 48, 63, 64, 70):
            totals, pointers = scores.sums(compiled)
            row, d_row = score[1, 2, 3].copy(), d[1, 2, 3].copy()
            row[41:], d_row[41:] = np.nan, 0
            arrays = scores.address(row), scores.address(d_row)
            back(*arrays, count, 1, 2, 3, 0, compiled.parameters, scores.address(pointers))
            found.append([one.tobytes() for one in totals])
        assert all(one == found[0] for one in found), name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_quotients_by_what_stays_the_same(dtype):
    """Products with reciprocals, also where a reciprocal is beyond the type, but for those that a step follows."""
    info = np.finfo(dtype)
    numbers = [0, -0.0, 1, -3, 7, info.tiny, 1e-40, info.max, np.inf, -np.inf, np.nan, 0.1]
    score = np.array(numbers, dtype)[None, None, None]
    divisors = [3, -7, info.tiny, info.smallest_subnormal, info.max, -info.max, np.inf, 0, -0.0, np.nan, 1e-30, 1e30]
    for c in divisors:
        bound = divided(c=dtype(c).item() if np.isfinite(c) else float(c))
        with np.errstate(all="ignore"):
            wanted = score / dtype(c)
        found = scores.forward(bound, score)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
        np.testing.assert_array_equal(np.isinf(found), np.isinf(wanted))
        both = np.isfinite(wanted)
        unit = np.maximum(np.spacing(np.abs(wanted[both])), info.smallest_subnormal)
        assert (np.abs(found[both] - wanted[both]) <= 2 * unit).all(), c
    stairs = jit.as_score_mod(lambda score, b, h, i, j: np.floor(j * 1.0 / 49) + (score / 49 >= 1))
    found = scores.forward(stairs, np.full((1, 1, 1, 200), 49, dtype))
    np.testing.assert_array_equal(found[0, 0, 0], np.arange(200) // 49 + 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_slopes_of_quotients_whose_reciprocal_is_infinite(dtype):
    """A cap so small that all scores are capped has the slope 0, and not 0 times infinity."""
    cap = float(np.finfo(dtype).tiny) / 64
    score = np.array([[[[-3, 0, 1, 1e30]]]], dtype)
    for factor in (1.0, dtype(1)):  # by slopes, and by a backward function
        bound = fastattn.score_mod(lambda score, b, h, i, j, n: n * cap * np.tanh(score / cap))(n=factor)
        given = score.copy(), np.ones_like(score)
        found = scores.backward(bound, *given)[0] if bound.trained else scores.sloped(bound, given[0])[1]
        np.testing.assert_allclose(found[0, 0, 0], [0, 1, 0, 0], rtol=1e-6)


@fastattn.score_mod
def divided(score, b, h, i, j, c):
    return score / c


FUNCTIONS = {
    "exp": lambda score, b, h, i, j: np.exp(score),
    "expm1": lambda score, b, h, i, j: np.expm1(score),
    "log": lambda score, b, h, i, j: np.log(score),
    "log1p": lambda score, b, h, i, j: np.log1p(score),
    "tanh": lambda score, b, h, i, j: np.tanh(score),
    "sin": lambda score, b, h, i, j: np.sin(score),
    "cos": lambda score, b, h, i, j: np.cos(score),
    "arctan": lambda score, b, h, i, j: np.arctan(score),
    "erf": lambda score, b, h, i, j: scores.erf(score),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_over_all_numbers(name):
    """In float32, against float64: at most 4 units in the last place, and what is not finite as NumPy has it."""
    rng = np.random.default_rng(0)
    every = rng.integers(0, 2**32, 1 << 15, dtype=np.uint32).view(np.float32)
    some = np.array([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 88.7, 89, -87, -103, -150, 1e-45, 1e-38, 20, 9.1], "f4")
    near = np.concatenate([rng.normal(size=4096), 1 + 0.1 * rng.normal(size=4096), 9 * rng.normal(size=4096)])
    x = np.concatenate([every, some, near.astype(np.float32)])
    if name in ("sin", "cos"):
        x = x[(np.abs(x) < 1e6) | np.isnan(x)]
    found = scores.forward(jit.as_score_mod(FUNCTIONS[name]), x[None, None, None].copy())[0, 0, 0]
    with np.errstate(all="ignore"):
        wanted = getattr(scores if name == "erf" else np, name)(x.astype(np.float64))
        rounded = wanted.astype(np.float32)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(found[~finite], rounded[~finite])
    units = np.abs(found[finite] - wanted[finite]) / np.spacing(np.abs(rounded[finite]))
    assert units.max() <= 4, x[finite][np.argmax(units)]


@pytest.mark.slow
def test_functions_in_float64():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(scale=20, size=4000), [0, 1e-300, 709.7, -708, 800, -800, 1e-320]])
    for name, function in FUNCTIONS.items():
        found = scores.forward(jit.as_score_mod(function), x[None, None, None].copy())[0, 0, 0]
        with np.errstate(all="ignore"):
            wanted = getattr(scores if name == "erf" else np, name)(x)
        finite = np.isfinite(wanted)
        np.testing.assert_array_equal(found[~finite], wanted[~finite])
        found, wanted = found[finite], wanted[finite]
        units = np.spacing(np.abs(wanted) if name not in ("sin", "cos") else np.ones_like(wanted))
        assert (np.abs(found - wanted) <= 4 * units).all(), name


def test_code_is_vectorised():
    """Where the processor has vectors of 256 bits or more."""
    import llvmlite.binding as llvm

    from fastattn.jit import compiling, objects
    from fastattn.jit.functions import text_of

    if not llvm.get_host_cpu_features().get("avx2"):
        pytest.skip("needs AVX2")
    for name in ("softcap", "alibi", "buckets"):
        text = text_of(BOUND[name]._traced, "forward", 32, True)
        machine, _ = objects._machine()
        code = compiling.optimized(text, "forward", "f", machine)
        assembly = machine.emit_assembly(code)
        assert re.search(r"(add|mul)p[sd]\t.*%[yz]mm", assembly), name


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_arrays_of_half_types_are_parameters(half):
    """Read as the numbers that they are; the gradient is of their type, and infinite beyond it, without a warning."""
    dtype = np.dtype(half if half == "float16" else pytest.importorskip("ml_dtypes").bfloat16)
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    table = np.array([0.5, -1.25, 3]).astype(dtype)

    def of(table):
        made = fastattn.score_mod(lambda s, b, h, i, j, table: s + table[j])(table=table)
        context, backward = fastattn.attention_vjp(x, x, x, score_mod=made)
        return context, lambda d: backward(d).score["table"]

    context, backward = of(table)
    wide, of_wide = of(table.astype(np.float32))
    np.testing.assert_array_equal(context, wide)
    found, right = backward(x), of_wide(x)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, right.astype(dtype))
    beyond = np.float32(1e7 if half == "float16" else 3e38) * np.sign(x)
    assert np.isinf(backward(beyond).astype(np.float32)).any() or half == "bfloat16"
    seen = np.array([1, 0, 1]).astype(dtype)
    masked = fastattn.attention(x, x, x, mask=lambda b, h, i, j: seen[j] > 0.5)
    np.testing.assert_array_equal(masked, fastattn.attention(x, x, x, mask=seen.astype(bool)))
