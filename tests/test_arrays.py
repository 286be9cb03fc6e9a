"""Arrays of other libraries go in without a copy, and the same kind comes out."""

import importlib

import numpy as np
import pytest
from others import Copying, Exchanged, Interface, OnCuda, numpy_of

import fastattn
from fastattn import DTypeError, functional, linear, scores
from fastattn._arrays import as_array, like


def arrays(dtype=np.float32):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(dtype) for shape in ((2, 3, 4), (2, 5, 4), (2, 5, 6))]


MASK = np.arange(15).reshape(3, 5) % 4 != 0
BIAS = np.linspace(-1, 1, 15, dtype=np.float32).reshape(3, 5)
LENGTHS = np.array([5, 2])


def same(found, right):
    """The same bits, whatever the library."""
    if isinstance(right, tuple):
        return len(found) == len(right) and all(map(same, found, right))
    if isinstance(right, dict):
        return found.keys() == right.keys() and all(same(found[name], right[name]) for name in right)
    return found is right is None or np.array_equal(found, right)


@pytest.mark.parametrize("kind", [Exchanged, Interface])
@pytest.mark.parametrize(
    "array", [*arrays(), MASK, LENGTHS, arrays()[0][:, ::-2], np.empty((0, 3), np.float32)], ids=lambda x: str(x.shape)
)
def test_nothing_is_copied(kind, array):
    seen = as_array("x", kind(array))
    assert type(seen) is np.ndarray and seen.dtype == array.dtype and seen.shape == array.shape
    if array.size:
        assert seen.strides == array.strides and seen.ctypes.data == array.ctypes.data


@pytest.mark.parametrize("kind", [Exchanged, Interface])
def test_all_that_attention_takes_may_be_of_another_library(kind):
    given = arrays()
    options = {"mask": MASK, "bias": BIAS, "key_lengths": LENGTHS}
    score, w = scores.General, np.eye(4, dtype=np.float32)
    right, backward = fastattn.attention_vjp(*given, score=score(w), return_weights=True, return_lse=True, **options)
    theirs = {name: kind(x) for name, x in options.items()}
    found, back = fastattn.attention_vjp(
        *map(kind, given), score=score(kind(w)), return_weights=True, return_lse=True, **theirs
    )
    context = np.ones_like(right.context)
    gradients = backward(context, d_weights=right.weights, d_lse=right.lse)
    of_theirs = back(kind(context), d_weights=kind(right.weights), d_lse=kind(right.lse))
    out = Exchanged if kind is Exchanged else np.ndarray  # an interface has no function for that
    assert {type(x) for x in (*found, *of_theirs[:4], *of_theirs.score.values())} == {out}
    assert same(numpy_of(tuple(found)), tuple(right)) and same(numpy_of(tuple(of_theirs)), tuple(gradients))


def test_a_call_without_weights_and_gradients_of_a_normalizer():
    given = arrays()
    options = {"normalizer": fastattn.normalizers.Entmax(alpha=[1.5])}
    right, backward = fastattn.attention_vjp(*given, **options)
    found, back = fastattn.attention_vjp(*map(Exchanged, given), **options)
    assert same(numpy_of(found), right) and same(numpy_of(fastattn.attention(*map(Exchanged, given), **options)), right)
    gradients = back(found)
    assert gradients.bias is None and type(gradients.normalizer["alpha"]) is Exchanged
    assert same(numpy_of(tuple(gradients)), tuple(backward(right)))


def test_the_query_decides():
    query, key, value = arrays()
    assert type(fastattn.attention(query, Exchanged(key), Exchanged(value))) is np.ndarray
    assert type(fastattn.attention(Exchanged(query), key, value)) is Exchanged


def test_a_memory_answers_in_the_kind_of_its_query():
    query, key, value = arrays()
    memory = fastattn.prepare(Exchanged(key), Exchanged(value), key_lengths=Interface(LENGTHS))
    right = memory.attend(query, return_weights=True)
    found = memory.attend(Exchanged(query), return_weights=True)
    assert type(found.weights) is Exchanged and same(numpy_of(tuple(found)), tuple(right))
    beams = memory.select(np.repeat(np.arange(2), 3))
    step = np.repeat(query[:, :1], 3, axis=0)
    assert same(numpy_of(beams.attend(Exchanged(step))), beams.attend(step))
    assert type(beams.attend(Exchanged(step))) is Exchanged


@pytest.mark.parametrize("kind", [Exchanged, Interface])
def test_out_is_written_and_returned(kind):
    given = arrays()
    right = fastattn.attention(*given, return_lse=True)
    for call in (
        lambda out: fastattn.attention(*given, out=out),
        lambda out: fastattn.attention(*map(kind, given), return_lse=True, out=out).context,
        lambda out: fastattn.attention_vjp(*given, out=out)[0],
        lambda out: fastattn.prepare(*given[1:]).attend(given[0], out=out),
        lambda out: fastattn.prepare(*given[1:]).attend(given[0], return_lse=True, out=out).context,
    ):
        out = kind(np.zeros((2, 3, 6), np.float32))
        assert call(out) is out and same(out.held, right.context)
    backwards = kind(np.zeros((2, 3, 6), np.float32)[..., ::-1])
    fastattn.attention(*given, out=backwards)
    assert same(backwards.held, right.context)


@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid"])
def test_functions(name):
    x, function = arrays()[0], getattr(functional, name)
    out = Exchanged(np.empty_like(x))
    assert type(function(Exchanged(x))) is Exchanged and function(x, out) is out
    assert same(out.held, function(x)) and same(function(Exchanged(x)).held, function(x))


def test_rows():
    x = arrays()[0]
    y = functional.softmax(x)
    for function, given in (
        (functional.softmax, (x,)), (functional.softmax_vjp, (y, x)), (functional.sparsemax, (x,)),
        (functional.sparsemax_vjp, (y, x)), (functional.entmax, (x,)), (functional.entmax_vjp, (y, x)),
        (linear.matmul, (x, x[0].T)), (linear.weight_gradient, (x, x)), (linear.row_sum, (x,)),
        (linear.PackedWeights(x[0]).matmul_transposed, (x,)),
    ):  # fmt: skip
        found = function(*map(Exchanged, given))
        assert {type(one) for one in (found if isinstance(found, tuple) else (found,))} == {Exchanged}
        assert same(numpy_of(found), function(*given))


def test_products_are_added_to_arrays_of_another_library():
    x = arrays()[0]
    w = Exchanged(np.zeros((4, 4), np.float32))
    sums, rows, y = (Exchanged(np.zeros(shape, np.float32)) for shape in (4, 4, (2, 3, 3)))
    assert linear.weight_gradient(x, x, w, sums=sums) is w and linear.row_sum(x, rows) is rows
    assert linear.PackedWeights(x[0].T).matmul(x, y) is y
    assert same(w.held, linear.weight_gradient(x, x)) and same(sums.held, rows.held)
    assert same(y.held, linear.matmul(x, x[0].T)) and sums.held.any()


def test_what_is_not_in_the_memory_of_the_cpu_is_refused():
    query, key, value = arrays()
    with pytest.raises(DTypeError, match=r"query: expected an array, got Exchanged \(on device 2 of DLPack\)\.\n.*CPU"):
        fastattn.attention(Exchanged(query, device=(2, 0)), key, value)
    with pytest.raises(DTypeError, match=r"out: .*device 8"):
        fastattn.attention(query, key, value, out=Exchanged(np.zeros((2, 3, 6), np.float32), device=(8, 0)))
    assert same(fastattn.attention(query, Exchanged(key, device=(3, 0)), value), fastattn.attention(query, key, value))


def test_advice_fits_the_cause():
    query, key, value = arrays()
    with pytest.raises(DTypeError, match=r"got OnCuda \(on a device of CUDA\)\.\n.*CPU first"):
        fastattn.attention(OnCuda(), key, value)
    for given in (query, bfloat16(query)):
        with pytest.raises(DTypeError, match=r"records gradients\)\.\n.*interop\.torch, .*detach"):
            fastattn.attention(Exchanged(given, requires_grad=True), key, value)
    with pytest.raises(DTypeError, match=r"query: .*\nHint: convert it first"):
        fastattn.attention(Exchanged(query.astype("U1")), key, value)


def bfloat16(array):
    return array.astype(pytest.importorskip("ml_dtypes").bfloat16)


def test_bfloat16_of_another_library():
    given = [bfloat16(x) for x in arrays()]
    right, backward = fastattn.attention_vjp(*given)
    found, back = fastattn.attention_vjp(*map(Exchanged, given))
    assert found.dtype == "others.bfloat16" and same(found.held, right)
    gradients = back(found)[:3]
    assert {type(x) for x in gradients} == {Exchanged} and same(numpy_of(gradients), tuple(backward(right)[:3]))
    assert as_array("x", Exchanged(given[0][:, ::-2])).ctypes.data == given[0][:, ::-2].ctypes.data
    out = Exchanged(np.zeros_like(right))
    assert fastattn.attention(*given, out=out) is out and same(out.held, right)


def test_what_would_be_lost_is_refused():
    given, zeros = arrays(), np.zeros((2, 3, 6), np.float32)
    with pytest.raises(DTypeError, match=r"out: expected an array, got Copying"):
        fastattn.attention(*given, out=Copying(zeros))
    with pytest.raises(DTypeError, match=r"out: expected an array, got list"):
        fastattn.attention(*given, out=zeros.tolist())
    frozen = zeros.copy()
    frozen.flags.writeable = False
    with pytest.raises(fastattn.ArgumentError, match="out: expected a writable array"):
        fastattn.attention(*given, out=Interface(frozen))
    query = np.zeros((2, 3, 6), np.float32)
    with pytest.raises(fastattn.ArgumentError, match="out: expected memory of its own"):
        fastattn.attention(query, query, query, out=Exchanged(query))


def test_what_has_no_library_stays_numpys():
    array = arrays()[0]
    for model in (Copying(array), Interface(array), [1.0], array[0].view(np.matrix)):
        assert like(model, array) is array


class Torch:
    """PyTorch: no namespace, but a function."""

    make = staticmethod(lambda x: importlib.import_module("torch").from_dlpack(x))


class Jax:
    """JAX: arrays that cannot be written."""

    make = staticmethod(lambda x: importlib.import_module("jax.numpy").asarray(x))


class Strict:
    """The array API and nothing else."""

    make = staticmethod(lambda x: importlib.import_module("array_api_strict").asarray(x))


LIBRARIES = {"torch": Torch, "jax": Jax, "array_api_strict": Strict}


@pytest.mark.filterwarnings("ignore:os.fork")
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library(name):
    library = pytest.importorskip(name, reason=f"{name} is not installed")
    make, given = LIBRARIES[name].make, arrays()
    right = fastattn.attention(*given, mask=MASK, bias=BIAS, key_lengths=LENGTHS)
    context, backward = fastattn.attention_vjp(
        *map(make, given), mask=make(MASK), bias=make(BIAS), key_lengths=make(LENGTHS)
    )
    assert type(context) is type(make(right)) and same(np.asarray(context), right)
    assert {type(x) for x in backward(context)[:4]} == {type(context)}
    out = make(np.zeros((2, 3, 6), np.float32))
    if name == "jax":
        with pytest.raises(fastattn.ArgumentError, match="writable"):
            fastattn.attention(*map(make, given), out=out)
    else:
        assert fastattn.attention(*given, mask=MASK, bias=BIAS, key_lengths=LENGTHS, out=out) is out
        assert same(np.asarray(out), right)
    if name == "array_api_strict":
        elsewhere = library.asarray(given[0], device=library.Device("device1"))
        with pytest.raises(DTypeError, match="CPU"):
            fastattn.attention(elsewhere, *given[1:])
    if name == "torch":
        halves = [make(x).bfloat16() for x in given]
        context, backward = fastattn.attention_vjp(*halves)
        bits = [bfloat16(x) for x in given]
        assert context.dtype == library.bfloat16 and same(
            context.view(library.uint16).numpy(), fastattn.attention(*bits).view(np.uint16)
        )
        assert {x.dtype for x in backward(context)[:3]} == {library.bfloat16}
        for x in (make(given[0]), halves[0]):
            with pytest.raises(DTypeError, match=r"interop\.torch.*detach"):
                fastattn.attention(x.requires_grad_(), *given[1:])
