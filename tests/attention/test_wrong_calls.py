"""Wrong calls of attention: the type of the exception, the argument it names, and the form of its message."""

import os
import re

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import fastattn
from fastattn import ArgumentError, DTypeError, ShapeError, scores

F32 = np.float32
MESSAGE = re.compile(r"(?P<argument>[a-z_]+): expected (?P<expected>.+), got (?P<got>.+)\.\nHint: (?P<hint>.+)", re.S)


def ones(*shape, dtype=F32):
    return np.ones(shape, dtype)


def huge(*shape, dtype=F32):
    """An array of any shape that takes four bytes."""
    return as_strided(np.ones(1, dtype), shape, (0,) * len(shape), writeable=False)


def call(query=None, key=None, value=None, **options):
    """A right call, but for what is given."""
    query = ones(2, 3, 4) if query is None else query
    key = ones(2, 5, 4) if key is None else key
    value = ones(2, 5, 6) if value is None else value
    return fastattn.attention(query, key, value, **options)


def four(heads, key_heads, value_heads=None):
    value_heads = key_heads if value_heads is None else value_heads
    return ones(2, heads, 3, 4), ones(2, key_heads, 5, 4), ones(2, value_heads, 5, 6)


def overlapping():
    query = ones(2, 3, 6)
    return {"query": query, "key": ones(2, 5, 6), "value": ones(2, 5, 6), "out": query}


def partly_overlapping():
    memory = ones(100)
    key = memory[:60].reshape(2, 5, 6)
    return {"query": ones(2, 3, 6), "key": key, "value": ones(2, 5, 6), "out": memory[50:86].reshape(2, 3, 6)}


def overlapping_mask():
    out = np.zeros((2, 3, 6), F32)
    return {"mask": out.view(bool)[..., :5], "out": out}


def overlapping_parameter():
    memory = ones(36)
    return {"score": scores.General(memory[:16].reshape(4, 4)), "out": memory.reshape(2, 3, 6)}


def read_only():
    out = ones(2, 3, 6)
    out.flags.writeable = False
    return out


PAIR = ones(2, 3, 5)
# id: (call, exception, argument, what the message must contain besides)
WRONG = {
    # ranks and sizes
    "query of one axis": (lambda: call(query=ones(4)), ShapeError, "query", "(4,)"),
    "query of five axes": (lambda: call(query=ones(1, 1, 1, 3, 4)), ShapeError, "query", "(1, 1, 1, 3, 4)"),
    "query of no axis": (lambda: call(query=F32(1)), ShapeError, "query", "()"),
    "key of another rank": (lambda: call(key=ones(5, 4)), ShapeError, "key", "(5, 4)"),
    "key and value of one axis": (lambda: fastattn.attention(ones(3, 4), ones(4), ones(4)), ShapeError, "key", "(4,)"),
    "value of another rank": (lambda: call(value=ones(1, 2, 5, 6)), ShapeError, "value", "(1, 2, 5, 6)"),
    "key of another width": (lambda: call(key=ones(2, 5, 7)), ShapeError, "key", "(2, 5, 7)"),
    "key of another batch": (lambda: call(key=ones(3, 5, 4)), ShapeError, "key", "(3, 5, 4)"),
    "value of another batch": (lambda: call(value=ones(1, 5, 6)), ShapeError, "value", "(1, 5, 6)"),
    "value of another length": (lambda: call(value=ones(2, 4, 6)), ShapeError, "value", "(2, 4, 6)"),
    "heads that do not divide": (lambda: call(*four(4, 3)), ShapeError, "key", "3"),
    "more key heads than heads": (lambda: call(*four(2, 4)), ShapeError, "key", "4"),
    "no key heads": (lambda: call(*four(2, 0)), ShapeError, "key", "0"),
    "value heads unlike key heads": (lambda: call(*four(4, 2, 4)), ShapeError, "value", "(2, 4, 5, 6)"),
    # dtypes
    "integer query": (lambda: call(query=ones(2, 3, 4, dtype=int)), DTypeError, "query", "int64"),
    "object key": (lambda: call(key=ones(2, 5, 4, dtype=object)), DTypeError, "key", "object"),
    "complex value": (lambda: call(value=ones(2, 5, 6, dtype=np.complex64)), DTypeError, "value", "complex64"),
    "half query": (lambda: call(query=ones(2, 3, 4, dtype=np.float16)), DTypeError, "key", "float32"),
    "text query": (lambda: call(query="hello"), DTypeError, "query", None),
    "ragged query": (lambda: call(query=[[1.0, 2.0], [3.0]]), DTypeError, "query", None),
    "None as query": (lambda: fastattn.attention(None, ones(5, 4), ones(5, 4)), DTypeError, "query", None),
    "key of another dtype": (lambda: call(key=ones(2, 5, 4, dtype="f8")), DTypeError, "key", "float64"),
    "value of another dtype": (lambda: call(value=ones(2, 5, 6, dtype="f8")), DTypeError, "value", "float64"),
    # mask
    "masked array": (lambda: call(key=np.ma.masked_array(ones(2, 5, 4))), DTypeError, "key", "masked array"),
    "masked parameter": (lambda: scores.General(np.ma.ones((4, 4))), DTypeError, "w", "masked array"),
    "float mask": (lambda: call(mask=PAIR), DTypeError, "mask", "np.asarray(mask, bool)"),
    "float mask with minus infinity": (lambda: call(mask=PAIR * F32(-np.inf)), DTypeError, "mask", "bias="),
    "integer mask": (lambda: call(mask=PAIR.astype(np.int8)), DTypeError, "mask", "int8"),
    "mask that does not broadcast": (lambda: call(mask=np.ones((2, 3, 4), bool)), ShapeError, "mask", "(2, 3, 4)"),
    "mask of too many axes": (lambda: call(mask=np.ones((1, 2, 3, 5), bool)), ShapeError, "mask", "(1, 2, 3, 5)"),
    # bias
    "bool bias": (lambda: call(bias=PAIR > 0), DTypeError, "bias", "mask="),
    "integer bias": (lambda: call(bias=PAIR.astype(int)), DTypeError, "bias", "int64"),
    "bias of another dtype": (lambda: call(bias=PAIR.astype("f8")), DTypeError, "bias", "float64"),
    "bias that does not broadcast": (lambda: call(bias=ones(3, 4)), ShapeError, "bias", "(3, 4)"),
    # key_lengths
    "length too large": (lambda: call(key_lengths=[5, 6]), ArgumentError, "key_lengths", "6"),
    "negative length": (lambda: call(key_lengths=[-1, 2]), ArgumentError, "key_lengths", "-1"),
    "float lengths": (lambda: call(key_lengths=[1.0, 2.0]), DTypeError, "key_lengths", "float64"),
    "bool lengths": (lambda: call(key_lengths=[True, True]), DTypeError, "key_lengths", "bool"),
    "too few lengths": (lambda: call(key_lengths=[1]), ShapeError, "key_lengths", "(1,)"),
    "lengths of two axes": (lambda: call(key_lengths=[[1, 2]]), ShapeError, "key_lengths", "(1, 2)"),
    "huge length": (lambda: call(key_lengths=np.array([2**63, 1], np.uint64)), ArgumentError, "key_lengths", None),
    # causal and window
    "causal=True on a rectangle": (lambda: call(causal=True), ArgumentError, "causal", "bottom_right"),
    "causal=True names the other too": (lambda: call(causal=True), ArgumentError, "causal", "top_left"),
    "unknown causal": (lambda: call(causal="upper"), ArgumentError, "causal", "'upper'"),
    "causal as a number": (lambda: call(causal=2), ArgumentError, "causal", "2"),
    "negative window": (lambda: call(window=(-1, 0)), ArgumentError, "window", "-1"),
    "window of one number": (lambda: call(window=3), ArgumentError, "window", "3"),
    "window of three": (lambda: call(window=(1, 2, 3)), ArgumentError, "window", "(1, 2, 3)"),
    "window of floats": (lambda: call(window=(1.5, 2)), (ArgumentError, DTypeError), "window", "1.5"),
    # dropout
    "dropout of one": (lambda: call(dropout=1.0, seed=1), ArgumentError, "dropout", "1.0"),
    "negative dropout": (lambda: call(dropout=-0.1, seed=1), ArgumentError, "dropout", "-0.1"),
    "dropout NaN": (lambda: call(dropout=np.nan, seed=1), ArgumentError, "dropout", "nan"),
    "dropout as text": (lambda: call(dropout="0.1", seed=1), (ArgumentError, DTypeError), "dropout", "0.1"),
    "dropout as an array": (lambda: call(dropout=ones(2), seed=1), (ArgumentError, DTypeError), "dropout", None),
    "dropout without a seed": (lambda: call(dropout=0.1), ArgumentError, "seed", "None"),
    "float seed": (lambda: call(dropout=0.1, seed=1.5), (ArgumentError, DTypeError), "seed", None),
    "seeds of another batch": (lambda: call(dropout=0.1, seed=np.arange(3)), ShapeError, "seed", "(3,)"),
    # scale and softcap
    "scale as text": (lambda: call(scale="half"), (ArgumentError, DTypeError), "scale", "'half' of type str"),
    "scale as an array": (lambda: call(scale=ones(1)), DTypeError, "scale", "ndarray"),
    "scale complex": (lambda: call(scale=1j), DTypeError, "scale", "1j"),
    "scale NaN": (lambda: call(scale=np.nan), ArgumentError, "scale", "nan"),
    "scale infinite": (lambda: call(scale=np.inf), ArgumentError, "scale", "inf"),
    "softcap of zero": (lambda: call(score=scores.Dot(softcap=0.0)), ArgumentError, "softcap", "0"),
    "softcap negative": (lambda: call(score=scores.Dot(softcap=-3.0)), ArgumentError, "softcap", "-3"),
    "softcap as text": (lambda: call(score=scores.Dot(softcap="x")), (ArgumentError, DTypeError), "softcap", "x"),
    # out
    "out of another shape": (lambda: call(out=ones(2, 3, 5)), ShapeError, "out", "(2, 3, 5)"),
    "out of another dtype": (lambda: call(out=ones(2, 3, 6, dtype="f8")), DTypeError, "out", "float64"),
    "out that is no array": (lambda: call(out=[1.0]), (DTypeError, ArgumentError), "out", "list"),
    "out that is read-only": (lambda: call(out=read_only()), ArgumentError, "out", "read-only"),
    "out that is the query": (lambda: call(**overlapping()), ArgumentError, "out", "overlap"),
    "out that shares a part of the key": (lambda: call(**partly_overlapping()), ArgumentError, "out", "overlap"),
    "out that is the bias": (
        lambda: call(value=ones(2, 5, 5), bias=PAIR, out=PAIR),
        ArgumentError,
        "out",
        "overlap",
    ),
    "out that shares bytes of the mask": (lambda: call(**overlapping_mask()), ArgumentError, "out", "overlap"),
    "out that shares a parameter": (lambda: call(**overlapping_parameter()), ArgumentError, "out", "overlap"),
    "out whose elements overlap each other": (
        lambda: call(out=as_strided(np.ones(6, F32), (2, 3, 6), (0, 0, 4))),
        ArgumentError,
        "out",
        "(0, 0, 4)",
    ),
    "out whose rows overlap": (
        lambda: call(out=as_strided(np.ones(50, F32), (2, 3, 6), (96, 16, 4))),
        ArgumentError,
        "out",
        "(96, 16, 4)",
    ),
    # sizes that no offset can hold
    "weights beyond 64 bits": (
        lambda: call(huge(2**31, 1), huge(2**31, 1), huge(2**31, 0), return_weights=True),
        ShapeError,
        None,
        str(2**31),
    ),
    "context beyond 64 bits": (
        lambda: fastattn.attention(huge(2**60, 1), ones(2, 1), ones(2, 16)),
        ShapeError,
        None,
        str(2**60),
    ),
    # names
    "unknown score": (lambda: call(score="scaled_dots"), ArgumentError, "score", "did you mean 'scaled_dot'"),
    "unheard-of score": (lambda: call(score="zzz"), ArgumentError, "score", "'zzz'"),
    "score that needs parameters": (
        lambda: call(score="additive"),
        ArgumentError,
        "score",
        "scores.create('additive', v=...)",
    ),
    "score that is no score": (lambda: call(score=3), (DTypeError, ArgumentError), "score", "int"),
    "score class instead of object": (lambda: call(score=scores.Dot), (DTypeError, ArgumentError), "score", None),
    "unknown normalizer": (lambda: call(normalizer="softmx"), ArgumentError, "normalizer", "did you mean 'softmax'"),
    "normalizer that names nothing": (lambda: call(normalizer=1), (DTypeError, ArgumentError), "normalizer", "int"),
    # parameters of scores
    "v of two axes": (lambda: scores.Additive(ones(2, 2)), ShapeError, "v", "(2, 2)"),
    "v of integers": (lambda: scores.Additive(ones(2, dtype=int)), DTypeError, "v", "int64"),
    "w_query of one axis": (lambda: scores.Additive(ones(8), w_query=ones(8)), ShapeError, "w_query", "(8,)"),
    "w_query of another Da": (lambda: scores.Additive(ones(8), w_query=ones(4, 7)), ShapeError, "w_query", "(4, 7)"),
    "w_key of another Da": (lambda: scores.Additive(ones(8), w_key=ones(4, 7)), ShapeError, "w_key", "(4, 7)"),
    "b of another Da": (lambda: scores.Additive(ones(8), b=ones(7)), ShapeError, "b", "(7,)"),
    "w of concat of another Da": (lambda: scores.Concat(ones(8, 7), ones(8)), ShapeError, "w", "(8, 7)"),
    "w of general of one axis": (lambda: scores.General(ones(8)), ShapeError, "w", "(8,)"),
    "unknown activation": (lambda: scores.Additive(ones(8), activation="tan"), ArgumentError, "activation", "'tanh'"),
    "additive query of another width": (lambda: call(score=scores.Additive(ones(7))), ShapeError, "query", "(2, 3, 4)"),
    "additive key of another width": (
        lambda: call(score=scores.Additive(ones(4), w_key=ones(3, 4))),
        ShapeError,
        "key",
        "(2, 5, 4)",
    ),
    "concat of other widths": (lambda: call(score=scores.Concat(ones(7, 3), ones(3))), ShapeError, "w", "(7, 3)"),
    "general of other widths": (lambda: call(score=scores.General(ones(3, 4))), ShapeError, None, "(3, 4)"),
    "location too narrow": (lambda: call(score=scores.Location(ones(4, 4))), ShapeError, "w", "(4, 4)"),
    "location of another width": (lambda: call(score=scores.Location(ones(3, 9))), ShapeError, "w", "(3, 9)"),
    "parameter of another dtype": (
        lambda: call(score=scores.General(ones(4, 4, dtype="f8"))),
        DTypeError,
        "w",
        "float64",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_call_says_what_is_wrong(name):
    action, error, argument, contains = WRONG[name]
    with pytest.raises(error) as caught:
        action()
    assert isinstance(caught.value, fastattn.FastattnError)
    message = MESSAGE.fullmatch(str(caught.value))
    assert message, str(caught.value)
    assert argument in (None, message["argument"]), str(caught.value)
    assert contains is None or contains in str(caught.value), str(caught.value)
    assert len(str(caught.value)) < 600 and message["hint"].endswith((".", "?"))


@pytest.mark.parametrize("name", [n for n in WRONG if "out" not in n])
def test_attention_vjp_and_attention_refuse_the_same(name, monkeypatch):
    action, error, _, _ = WRONG[name]
    monkeypatch.setattr(fastattn, "attention", fastattn.attention_vjp)
    with pytest.raises(error):
        action()


@pytest.mark.parametrize(
    ("given", "error", "argument"),
    [
        ({"d_context": ones(2, 3, 5)}, ShapeError, "d_context"),
        ({"d_context": ones(2, 3, 6, dtype="f8")}, DTypeError, "d_context"),
        ({"d_weights": ones(2, 3, 4)}, ShapeError, "d_weights"),
        ({"d_lse": ones(2, 4)}, ShapeError, "d_lse"),
        ({}, ArgumentError, "d_context"),
    ],
)
def test_wrong_cotangents(given, error, argument):
    arrays = ones(2, 3, 4), ones(2, 5, 4), ones(2, 5, 6)
    _, backward = fastattn.attention_vjp(*arrays, return_weights=True, return_lse=True)
    with pytest.raises(error) as caught:
        backward(**given)
    message = MESSAGE.fullmatch(str(caught.value))
    assert message and message["argument"] == argument


def test_the_gradient_of_weights_that_were_not_returned():
    _, backward = fastattn.attention_vjp(ones(2, 3, 4), ones(2, 5, 4), ones(2, 5, 6))
    with pytest.raises(ArgumentError, match=r"d_weights: expected None unless .*\n.*return_weights=True"):
        backward(ones(2, 3, 6), d_weights=PAIR)


TOO_LARGE = """
import numpy as np
import fastattn
from numpy.lib.stride_tricks import as_strided
query = as_strided(np.ones(1, np.float32), (2**52, 1), (0, 0), writeable=False)
try:
    fastattn.attention(query, np.ones((2, 1), np.float32), np.ones((2, 16), np.float32))
except MemoryError as error:
    print(repr(error))
"""


def test_what_no_memory_can_hold_is_a_memory_error(run_python):
    # 2^58 bytes can be indexed, and are more than a process can address. The address sanitizer would end the process.
    sanitizer = os.environ.get("ASAN_OPTIONS", "") + ":allocator_may_return_null=1"
    assert "MemoryError" in run_python("-c", TOO_LARGE, ASAN_OPTIONS=sanitizer).stdout


def test_a_refused_call_leaves_out_alone():
    out = np.full((2, 3, 6), 7, F32)
    with pytest.raises(ArgumentError):
        call(out=out, causal=True)
    assert (out == 7).all()


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="dropuot"):
        call(dropuot=0.1)


@pytest.mark.parametrize("name", ["return_weights", "return_lse"])
def test_prepared_memories_refuse_what_attention_refuses(name):
    memory = fastattn.prepare(ones(2, 5, 4), ones(2, 5, 6))
    for query in (ones(3, 3, 4), ones(2, 3, 5), ones(3, 4)):
        with pytest.raises(ShapeError, match="Hint: "):
            memory.attend(query, **{name: True})
    with pytest.raises(DTypeError, match="Hint: "):
        memory.attend(ones(2, 3, 4, dtype="f8"), **{name: True})


def test_what_is_right_passes():
    call()
    call(key_lengths=np.array([5, 0], np.int8), mask=np.ones((1, 5), bool), bias=ones(5), window=(np.int64(1), None))
    call(dropout=0, causal=False, scale=2, seed=3)
    call(dropout=F32(0.5), seed=np.int32(4), out=ones(2, 3, 6))
    call(mask=[[True, False, True, True, True]])
    call(scale=np.array(2.0), dropout=False, score=scores.Dot(softcap=F32(3)))


def test_out_may_lie_between_the_columns_of_an_input():
    both = ones(2, 5, 10)
    key, value, expected = both[..., :4], ones(2, 5, 6), call(query=ones(2, 5, 4))
    assert np.array_equal(fastattn.attention(key, key, value, out=both[..., 4:]), expected)
    assert np.array_equal(both[..., 4:], expected) and (key == 1).all()
