"""What cannot be compiled, or must not run, is refused: with the line, and with what to write instead."""

import copy
import math
import pickle

import compiled_scores as scores
import numpy as np
import pytest

import fastattn
from fastattn import jit, score_mod

TABLE = np.arange(5.0)
LIST = [1.0, 2.0]
HELD = {"table": TABLE}


def looked_up(index):
    return TABLE[index]


def score_of(function, **parameters):
    return fastattn.score_mod(function)(**parameters)


REFUSED = {
    "a branch": (lambda s, b, h, i, j: s if s > 0 else 0, r"branch .* in `.*s if s > 0 else 0.*np.where"),
    "and": (lambda s, b, h, i, j: s * (i > 0 and j > 0), "a & b"),
    "a chain of comparisons": (lambda s, b, h, i, j: np.where(0 < i < 5, s, 0), "a & b"),
    "min": (lambda s, b, h, i, j: min(s, 3), "np.minimum"),
    "math": (lambda s, b, h, i, j: math.exp(s), "np.exp"),
    "range": (lambda s, b, h, i, j: sum(range(i)), "used as a number of Python"),
    "a sequence": (lambda s, b, h, i, j: s[0], "look up elements of parameters"),
    "an unknown function": (lambda s, b, h, i, j: np.sinc(s), r"np.sinc in `.*these, without options: absolute"),
    "an option": (lambda s, b, h, i, j: np.exp(s, dtype="f4"), "without options"),
    "a method": (lambda s, b, h, i, j: s.prod(), "AttributeError"),
    "a reduction": (lambda s, b, h, i, j: np.sum(s), r"the sum of one number in `.*fastattn.row_function"),
    "a reduction as a method": (lambda s, b, h, i, j: s - s.max(), "the max of one number"),
    "an unknown reduction": (lambda s, b, h, i, j: np.prod(s), "np.prod"),
    "a float index": (lambda s, b, h, i, j, t: t[i / 2], "an index that is no integer"),
    "a slice": (lambda s, b, h, i, j, t: t[:], "look up one element"),
    "too many indices": (lambda s, b, h, i, j, t: t[h, j], "t takes 1 indices"),
    "a whole array": (lambda s, b, h, i, j, t: s + t, r"look up an element, as t\[h\]"),
    "a length": (lambda s, b, h, i, j, t: s + len(t), r"t.shape\[0\]"),
    "a list": (lambda s, b, h, i, j: s + LIST, "use numbers"),
    "an array made inside": (lambda s, b, h, i, j: s + np.ones(3), "parameter of the function"),
    "a logical operation on numbers": (lambda s, b, h, i, j: np.where(i & (j > 3), s, 0), "compare them first"),
    "bits of real numbers": (lambda s, b, h, i, j: s ^ i, "compare them first"),
    "bits as a condition": (lambda s, b, h, i, j: np.where(i & j, s, 0), "compare it"),
    "a shift by what is not known": (lambda s, b, h, i, j: s + (1 << h), r"write x \* 2\*\*n"),
    "a shift beyond the integers": (lambda s, b, h, i, j: s + (i << 63), "by a known number"),
    "a shift to the other side": (lambda s, b, h, i, j: s + (i >> -1), "by a known number"),
    "a shift of a real number": (lambda s, b, h, i, j: s >> 1, "of other than integers"),
    "a condition that is a number": (lambda s, b, h, i, j: np.where(i, s, 0), "compare it"),
    "nothing": (lambda s, b, h, i, j: None, r"got NoneType as the result of score_mod\.\nHint: end it with `return`"),
    "a list as the result": (lambda s, b, h, i, j: [s], "(?s)got list as the result .* one number"),
    "a tuple as the result": (lambda s, b, h, i, j: (s, s), "got tuple as the result"),
    "an array as the result": (lambda s, b, h, i, j: TABLE, r"(?s)whole array TABLE as the result .*TABLE\[h\]"),
    "an array of a dict": (lambda s, b, h, i, j: s + HELD["table"][h], "(?s)in `.*HELD.*or capture it directly"),
    "an array of a helper": (
        lambda s, b, h, i, j: s + looked_up(h),
        "(?s)in `return TABLE.*bind the array as a parameter",
    ),
    "an element of a list": (lambda s, b, h, i, j: s + LIST[h], "bind a list as an array"),
    "int": (lambda s, b, h, i, j: s + int(i / 2), r"x.astype\(int\) for int\(x\)"),
    "a function of rows among those known": (lambda s, b, h, i, j: np.sinc(s), r"logical_xor, maximum, minimum, mul"),
    "an error of its own": (lambda s, b, h, i, j: 1 // 0, "ZeroDivisionError"),
    "a complex number": (lambda s, b, h, i, j: s * 1j, "use numbers"),
    "a type": (lambda s, b, h, i, j: s.astype(complex), r"astype\(int\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_traced_is_refused(name):
    function, message = REFUSED[name]
    parameters = {"t": TABLE} if "t" in function.__code__.co_varnames else {}
    with pytest.raises(fastattn.UnsupportedError, match=message):
        score_of(function, **parameters)


def test_a_line_of_a_named_function_is_quoted():
    @fastattn.score_mod
    def shifted(score, b, h, i, j):
        if score > 0:
            return score
        return -score

    with pytest.raises(fastattn.UnsupportedError, match=r"shifted: .*`if score > 0:`"):
        shifted()


WRONG_CALLS = {
    "without a name": (lambda: scores.softcap(3.0), "by keyword"),
    "of another name": (lambda: scores.softcap(cup=3.0), "did you mean 'cap'"),
    "missing": (lambda: scores.softcap(), "bind it, as softcap"),
    "of no numbers": (lambda: scores.softcap(cap="x"), "bind numbers"),
    "complex": (lambda: scores.softcap(cap=1j), "bind numbers"),
    "not a function": (lambda: fastattn.score_mod(3), "a Python function"),
    "too few arguments": (lambda: fastattn.score_mod(lambda s: s), "def f"),
    "any arguments": (lambda: fastattn.score_mod(lambda s, b, h, i, j, *more: s), "named parameters"),
    "a class": (lambda: fastattn.score_mod(dict), "a Python function"),
    "no function": (lambda: jit.as_mask_mod(3), "decorate a function with fastattn.mask_mod"),
    "a flag": (lambda: fastattn.score_mod(check=TABLE), "True or False"),
}


X = np.ones((4, 3), np.float32)


def tempered(score, b, h, i, j, c):
    return score * c


MEANT_FOR_ANOTHER = {
    "a modifier": ({"score": scores.plain}, "score: expected .* got a score_mod.\nHint: pass it as score_mod="),
    "a modifier with parameters": ({"score": scores.plain()}, "got a score_mod.\nHint: pass it as score_mod="),
    "a modifier as a mask": ({"mask": scores.plain}, "mask: .*\nHint: pass it as score_mod="),
    "a pairwise score": ({"score_mod": scores.l2()}, "got a pairwise_score.\nHint: pass it as score="),
    "a row": ({"score": fastattn.row_function(lambda s, b, h, i, j: s)}, "pass it as normalizer="),
    "a plain modifier": (
        {"score": lambda s, b, h, i, j: s},
        r"a function of \(score, b, h, i, j\) as score_mod= or normalizer=, or .*pairwise_score\(f\)\(h=..., i=",
    ),
    "a plain score": ({"score_mod": lambda q, k: q}, r"pass a function of \(q, k\) as score=\.$"),
    "with a parameter": ({"score_mod": tempered}, r"decorate it first, .* as fastattn.score_mod\(tempered\)\(c=...\)"),
    "with one by keyword": ({"score_mod": lambda s, b, h, i, j, *, c: s}, r"fastattn.score_mod\(f\)\(c=...\)"),
    "decorated, without a name": ({"score_mod": score_mod(lambda s, b, h, i, j, c: s)}, r"bind it, as f\(c=...\)"),
}


@pytest.mark.parametrize("name", MEANT_FOR_ANOTHER)
def test_another_argument_is_named(name):
    options, message = MEANT_FOR_ANOTHER[name]
    with pytest.raises((fastattn.ArgumentError, fastattn.DTypeError), match=message):
        fastattn.attention(X, X, X, **options)


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_wrong_calls_are_refused(name):
    call, message = WRONG_CALLS[name]
    with pytest.raises((fastattn.ArgumentError, fastattn.DTypeError), match=message):
        call()


OUTSIDE = {
    "after the end": (lambda s, b, h, i, j, t: t[j], "indices from 0 to 4 in look-ups of t, got 0 to 69"),
    "after the end by one": (lambda s, b, h, i, j, t: t[np.minimum(j, 5)], "got 0 to 5"),
    "before the beginning": (lambda s, b, h, i, j, t: t[np.minimum(j, 4) - 1], "got -1 to 3"),
    "in what is not chosen": (lambda s, b, h, i, j, t: np.where(j < 5, t[j], s), "got 0 to 69"),
    "of what may be NaN": (lambda s, b, h, i, j, t: t[np.clip(s, 0, 4).astype(int)], "of the integer, not of what"),
    "of a score": (lambda s, b, h, i, j, t: t[s.astype(int)], "keep the index inside by np.clip"),
    "where float32 compares otherwise": (
        lambda s, b, h, i, j, t: t[np.where(i * 0.1 < 0.3000000001, 0, 99)],
        "got 0 to 99",
    ),
    "of a number that float32 rounds up": (
        lambda s, b, h, i, j, t, p=4.9999999999: t[p.astype(int)],
        "got 4 to 5",
    ),
    "of a logarithm": (lambda s, b, h, i, j, t: t[np.log(j).astype(int)], "keep the index inside"),
    "by a divisor of 0": (lambda s, b, h, i, j, t: i // j * 1.0, "a divisor that is not 0"),
    "beyond integers": (lambda s, b, h, i, j, t: s * ((i + 2**62) * 4), "integers of 64 bits"),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_may_leave_its_array_does_not_run(name):
    function, message = OUTSIDE[name]
    bound = score_of(function, t=TABLE)
    with pytest.raises(fastattn.ArgumentError, match=message):
        bound.compiled(np.float32, scores.B, scores.H, scores.TQ, scores.TK)


def test_what_is_kept_inside_runs():
    for function in (
        lambda s, b, h, i, j, t: t[np.clip(j, 0, 4)],
        lambda s, b, h, i, j, t: t[j % 5],
        lambda s, b, h, i, j, t: t[np.where(j < 5, j, 0)],
        lambda s, b, h, i, j, t: t[np.clip(s.astype(int), 0, 4)],
        lambda s, b, h, i, j, t: t[j // 15],
        lambda s, b, h, i, j, t: t[np.minimum(t.shape[0] - 1, j)],
    ):
        bound = score_of(function, t=TABLE)
        given = np.full((scores.B, scores.H, scores.TQ, scores.TK), np.nan, np.float32)
        found = scores.forward(bound, given)
        assert np.isin(found, TABLE).all()


def test_integers_beyond_32_bits_are_computed_in_64():
    bound = jit.as_score_mod(lambda s, b, h, i, j: s + (i * 10**10 + j) % 1000 + (j + 2**40) // 7)
    score, _ = scores.problem(np.float64)
    wanted = bound.evaluate(score, *scores.places(score))
    np.testing.assert_allclose(scores.forward(bound, score), wanted, rtol=1e-14)


def test_wrong_derivatives_are_named():
    def wrong(score, b, h, i, j, cap):
        return 1 - np.tanh(score / cap)

    def right(score, b, h, i, j, cap):
        return 1 - np.tanh(score / cap) ** 2

    for given, fine in ((wrong, False), (right, True)):
        made = fastattn.score_mod(derivative=given, check=True)(scores.softcap.function)(cap=2.0)
        if fine:
            made.compiled(np.float32, 1, 1, 4, 4)
            continue
        with pytest.raises(fastattn.ArgumentError, match="softcap: expected a derivative with respect to score of"):
            made.compiled(np.float32, 1, 1, 4, 4)


def test_the_authors_derivative_is_used():
    made = fastattn.score_mod(lambda s, b, h, i, j: np.floor(s), derivative=lambda s, b, h, i, j: 1.0)()
    score, d = scores.problem(np.float32)
    np.testing.assert_array_equal(scores.backward(made, score, d)[0], d)


def test_a_function_that_is_defined_again_is_another():
    score, _ = scores.problem(np.float32)
    for factor in (2.0, 3.0):

        @fastattn.score_mod
        def scaled(score, b, h, i, j, factor=factor):
            return score * factor

        np.testing.assert_array_equal(scores.forward(scaled(), score), score * np.float32(factor))


def test_what_a_function_captured_is_read_when_it_is_bound():
    score, _ = scores.problem(np.float32)
    slopes, factor = np.ones(scores.H), 1.0

    def f(s, b, h, i, j):
        return s * factor + slopes[h]

    found = [scores.forward(jit.as_score_mod(f), score)]
    slopes[:] = 2.0
    found.append(scores.forward(jit.as_score_mod(f), score))
    factor = 3.0
    found.append(scores.forward(jit.as_score_mod(f), score))
    np.testing.assert_array_equal(found[0], score + 1)
    np.testing.assert_array_equal(found[1], score + 2)
    np.testing.assert_allclose(found[2], score * 3 + 2, rtol=1e-6)
    assert jit.as_score_mod(f).trained == ()


def test_parameters_are_copies():
    table = np.ones(scores.H)
    bound = scores.constant(table=table)
    table[:] = 2
    score, _ = scores.problem(np.float32)
    assert (scores.forward(bound, score) == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        bound.parameters["table"][0] = 3


def test_numbers_have_no_gradient_and_arrays_have_one():
    assert scores.softcap(cap=3.0).trained == ()
    assert scores.softcap(cap=np.array(3.0)).trained == ("cap",)
    for scalar in (np.float32(3.0), np.sqrt(9.0)):
        context, backward = fastattn.attention_vjp(X, X, X, score_mod=scores.softcap(cap=scalar))
        found = backward(np.ones_like(context)).score["cap"]
        assert found.dtype == scalar.dtype and found.shape == ()
    assert scores.softcap(cap=np.int64(3)).trained == ()
    assert scores.documents(document=np.zeros((2, 70), int), apart=np.ones(2, np.float32)).trained == ("apart",)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_compute_the_same(duplicate):
    score, _ = scores.problem(np.float32)
    bound = scores.softcap(cap=np.array(3.0))
    found = duplicate(bound)
    assert scores.forward(found, score).tobytes() == scores.forward(bound, score).tobytes()
    assert found.trained == bound.trained
    assert duplicate(scores.softcap) is scores.softcap
    mask = near(width=3) & ~near(width=1)
    assert (duplicate(mask).block_map(1, 1, 200, 200) == mask.block_map(1, 1, 200, 200)).all()


@fastattn.mask_mod
def near(b, h, i, j, width):
    return abs(i - j) <= width


def test_a_function_without_a_name_does_not_go_to_another_process():
    with pytest.raises(fastattn.UnsupportedError, match="a function that another process can import"):
        pickle.dumps(jit.as_score_mod(lambda s, b, h, i, j: s))


def test_what_is_compiled_can_be_read():
    text = scores.softcap.source(cap=3.0)
    assert text.count("= tanh32(") == 2 and "def forward(" in text and "def sloped(" in text
    assert "def backward(" in scores.softcap.source(cap=np.array(3.0))
    assert "tanh64(" in scores.softcap.source("float64", cap=3.0)
    for dtype in (np.float16, np.int32, complex):
        with pytest.raises(fastattn.DTypeError, match="expected float32 or float64"):
            scores.softcap.source(dtype, cap=3.0)
    assert "float64" in repr(scores.alibi(slopes=TABLE)) and repr(scores.softcap) == "<score_mod softcap(cap)>"


def test_numbers_that_float32_does_not_hold_are_refused():
    """They would be infinite in the kernel, and what is made of them NaN."""
    sizes = (1, 1, 3, 5)
    for made in (
        score_of(lambda s, b, h, i, j, cap: cap * np.tanh(s / cap), cap=1e39),
        score_of(lambda s, b, h, i, j, t: s + t[j], t=np.array([0, 1, 2, -1e39, np.inf])),
        score_of(lambda s, b, h, i, j: 1e39 * np.tanh(s / 1e39)),
        fastattn.row_function(lambda s, b, h, i, j, t: s / t)(t=1e39),
    ):
        with pytest.raises(fastattn.ArgumentError, match=r"finite in float32, got -?1e\+39"):
            made.compiled(np.float32, *sizes)
        made.compiled(np.float64, *sizes)
    pair = fastattn.pairwise_score(lambda q, k, w: w * q * k)(w=1e39)
    with pytest.raises(fastattn.ArgumentError, match=r"w: .*finite in float32"):
        pair.compiled(np.float32, 2)
    fastattn.mask_mod(lambda b, h, i, j, t: t[j] < 1e39)(t=np.full(5, 1e40)).compiled(*sizes)  # float64 always
    score_of(lambda s, b, h, i, j, t: s + t[j], t=np.full(5, -np.inf)).compiled(np.float32, *sizes)
