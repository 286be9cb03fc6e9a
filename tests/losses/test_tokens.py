"""Cross-entropy fused with its projection: against the twin, central differences, any batch, any padding."""

import numpy as np
import pytest
from checks import same_bits
from gradcheck import check_directions

import fastattn
from fastattn import _reference
from fastattn.layers import Linear
from fastattn.losses import cross_entropy, cross_entropy_vjp, log_softmax, token_losses
from fastattn.testing.arrays import assigned

dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def problem(rows, inputs, vocabulary, dtype="float32", bias=True, ignored=(), size=1.0):
    rng = np.random.default_rng(rows * 1000 + vocabulary)
    projection = Linear(inputs, vocabulary, bias=bias, rng=rng, dtype=dtype)
    projection.w.assign(size * rng.standard_normal((inputs, vocabulary)))
    if bias:
        projection.b.assign(rng.standard_normal(vocabulary))
    targets = rng.integers(0, vocabulary, rows)
    targets[list(ignored)] = -1
    return rng.standard_normal((rows, inputs)).astype(dtype), projection, targets


def run(x, projection, targets, scale=1.0, **options):
    for parameter in projection.parameters().values():
        parameter.gradient[...] = 0
    loss, count, backward = cross_entropy_vjp(x, projection, targets, **options)
    dx = backward(scale)
    return [np.array([loss, count]), dx, *(p.gradient.copy() for p in projection.parameters().values())]


@dtypes
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("rows", "inputs", "vocabulary"), [(1, 3, 1), (5, 4, 7), (9, 16, 64), (300, 5, 45), (7, 3, 131)]
)
def test_against_the_twin(rows, inputs, vocabulary, bias, smoothing, dtype):
    x, projection, targets = problem(rows, inputs, vocabulary, dtype, bias, ignored=(0,) if rows > 1 else ())
    w, b = projection.w.value, projection.b.value if bias else None
    expected = _reference.token_losses(x, w, b, targets, smoothing)
    found = token_losses(x, projection, targets, smoothing=smoothing)
    eps = np.finfo(dtype).eps
    logits = np.abs(x).astype(np.float64) @ np.abs(w) + (0 if b is None else np.abs(b))
    room = 8 * eps * (1 + logits.max(axis=-1))
    assert found.dtype == np.float64 and (np.abs(found - expected) <= room).all()
    (loss, count), dx, *gradients = run(x, projection, targets, smoothing=smoothing)
    assert abs(loss - expected.sum()) <= room.sum() and count == (targets >= 0).sum()
    assert cross_entropy(x, projection, targets, smoothing=smoothing) == (loss, count)
    d_x, d_w, d_b = _reference.cross_entropy_vjp(x, w, b, targets, smoothing)
    unit = 16 * eps * (1 + logits.max())  # of a logit's gradient, which is at most 1
    assert (np.abs(dx - d_x) <= unit * (np.abs(w).sum(axis=-1))).all()
    assert (np.abs(gradients[0] - d_w) <= unit * np.abs(x).sum(axis=0)[:, None]).all()
    if bias:
        assert (np.abs(gradients[1] - d_b) <= unit * rows).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_central_differences(smoothing):
    x, projection, targets = problem(20, 6, 13, "float64", ignored=(3,))
    _, dx, dw, db = run(x, projection, targets, smoothing=smoothing)
    values, loss = assigned(
        projection.parameters(), lambda: cross_entropy(x, projection, targets, smoothing=smoothing)[0]
    )
    check_directions(loss, {"x": x, **values}, {"x": dx, "w": dw, "b": db}, np.random.default_rng(1))


@dtypes
def test_a_row_has_the_same_bits_in_any_batch(dtype):
    x, projection, targets = problem(600, 24, 70, dtype)
    losses = token_losses(x, projection, targets)
    _, dx, *_ = run(x, projection, targets)
    for rows in (slice(0, 1), slice(5, 6), slice(100, 400), slice(599, 600), slice(None, None, -1)):
        assert same_bits(token_losses(x[rows], projection, targets[rows]), losses[rows])
        assert same_bits(run(x[rows], projection, targets[rows])[1], dx[rows])


@dtypes
def test_padding_changes_nothing_and_is_not_read(dtype):
    x, projection, targets = problem(40, 12, 33, dtype)
    expected = run(x, projection, targets, smoothing=0.1, scale=0.3)
    at = np.flatnonzero(np.arange(100) % 5 < 2)
    padded, wanted = np.full((100, 12), np.nan, dtype), np.full(100, 0)
    padded[at], wanted[at] = x, np.where(targets == 0, 0, targets)
    wanted[np.setdiff1d(np.arange(100), at)] = -7
    found = run(padded, projection, wanted, smoothing=0.1, scale=0.3, ignore=-7)
    assert same_bits(found[0], expected[0]) and same_bits(found[2:], expected[2:])
    assert same_bits(found[1][at], expected[1])
    assert not found[1][wanted == -7].any()
    # An id of the vocabulary may be the one to ignore.
    wanted[wanted == -7] = 32
    keep = targets != 32
    assert same_bits(
        run(padded, projection, wanted, ignore=32)[2:], run(x[keep], projection, targets[keep], ignore=32)[2:]
    )


@dtypes
def test_threads_strides_and_repeats(dtype):
    x, projection, targets = problem(700, 40, 530, dtype)
    before = fastattn.get_num_threads()
    try:
        fastattn.set_num_threads(1)
        expected = run(x, projection, targets, smoothing=0.1)
        for threads in (2, 3, 7, 16):
            fastattn.set_num_threads(threads)
            assert same_bits(run(x, projection, targets, smoothing=0.1), expected), threads
    finally:
        fastattn.set_num_threads(before)
    assert same_bits(run(np.asfortranarray(x), projection, targets.astype(np.int16),
                         smoothing=0.1), expected)  # fmt: skip
    assert same_bits(run(x.reshape(7, 100, 40), projection, targets.reshape(7, 100), smoothing=0.1)[2:], expected[2:])


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_rows_of_half_types(half):
    """The losses and gradients of the same numbers in float32; that of x comes out in its type."""
    kind = np.float16 if half == "float16" else pytest.importorskip("ml_dtypes").bfloat16
    x, projection, targets = problem(30, 8, 20, ignored=(3, 29))
    x = x.astype(kind)
    sums, dx, *gradients = run(x.astype(np.float32), projection, targets)
    found = run(x, projection, targets)
    assert found[1].dtype == kind and same_bits(found, [sums, dx.astype(kind), *gradients])
    assert cross_entropy(x, projection, targets) == cross_entropy(x.astype(np.float32), projection, targets)


def test_the_scale_of_backward_and_adding_up():
    x, projection, targets = problem(30, 8, 20, "float64")
    once = run(x, projection, targets)
    half = run(x, projection, targets, scale=0.5)
    assert all(np.allclose(0.5 * a, b, rtol=1e-15, atol=0) for a, b in zip(once[1:], half[1:]))
    cross_entropy_vjp(x, projection, targets)[2](0.5)
    assert same_bits(projection.w.gradient, half[2] + half[2])


def test_huge_logits_and_empty_calls():
    x, projection, targets = problem(6, 4, 9, size=1e18)
    loss, count, backward = cross_entropy_vjp(x, projection, targets)
    assert np.isfinite(loss) and np.isfinite(backward(1.0)).all() and count == 6
    for rows in (0, 3):
        loss, count, backward = cross_entropy_vjp(np.zeros((rows, 4), np.float32), projection, np.full(rows, -1))
        assert (loss, count) == (0.0, 0)
        assert same_bits(backward(1.0), np.zeros((rows, 4), np.float32))


def test_nan_reaches_its_row():
    x, projection, targets = problem(6, 4, 9)
    expected = token_losses(x, projection, targets)
    x[2, 1] = np.nan
    found = token_losses(x, projection, targets)
    assert np.isnan(found[2]) and same_bits(np.delete(found, 2), np.delete(expected, 2))


@dtypes
@pytest.mark.parametrize("columns", [1, 3, 16, 45, 64, 1000])
def test_log_softmax(columns, dtype):
    rng = np.random.default_rng(columns)
    x = (8 * rng.standard_normal((3, 5, columns))).astype(dtype)
    y = log_softmax(x)
    expected = _reference.log_softmax(x)
    assert y.dtype == dtype and (np.abs(y - expected) <= 4 * np.finfo(dtype).eps * (1 + np.abs(x).max())).all()
    assert same_bits(log_softmax(x[1, 2]), y[1, 2])
    assert same_bits(log_softmax(np.asfortranarray(x)), y)
    x[..., 0] = -np.inf
    y = log_softmax(x)
    assert np.isneginf(y[..., 0]).all() and np.isfinite(y[..., 1:]).all()


WRONG = {
    "targets of another shape": (lambda x, p, t: cross_entropy(x, p, t[:2]), fastattn.ShapeError, "targets"),
    "a target too large": (lambda x, p, t: cross_entropy(x, p, t + 9), fastattn.ArgumentError, "targets"),
    "a negative target": (lambda x, p, t: cross_entropy(x, p, t - 20), fastattn.ArgumentError, "targets"),
    "float targets": (lambda x, p, t: cross_entropy(x, p, t * 1.0), fastattn.DTypeError, "targets"),
    "another width": (lambda x, p, t: cross_entropy(x[:, :2], p, t), fastattn.ShapeError, "x"),
    "another dtype": (lambda x, p, t: cross_entropy_vjp(x * 1.0, p, t), fastattn.DTypeError, "x"),
    "smoothing 1": (lambda x, p, t: cross_entropy(x, p, t, smoothing=1.0), fastattn.ArgumentError, "smoothing"),
    "no logits": (lambda x, p, t: log_softmax(np.ones((3, 0))), fastattn.ShapeError, "logits"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls(name):
    call, error, argument = WRONG[name]
    x, projection, targets = problem(5, 4, 9)
    x = x.astype(np.float64) if name == "another dtype" else x
    with pytest.raises(error, match=rf"^{argument}: expected .*\n?.*Hint: "):
        call(x, projection, targets)


@dtypes
def test_where_rows_are_cut_changes_no_loss_and_no_gradient_of_a_row(dtype, monkeypatch):
    rng = np.random.default_rng(3)
    x, targets = rng.normal(size=(50, 5)).astype(dtype), rng.integers(-1, 23, 50)
    found = []
    for rows in (960, 7, 1):
        monkeypatch.setattr("fastattn.losses.tokens._LEAST_ROWS", min(rows, 240))
        monkeypatch.setattr("fastattn.losses.tokens._MOST_ROWS", rows)
        projection = Linear(5, 23, rng=np.random.default_rng(0), dtype=dtype)
        loss, count, backward = cross_entropy_vjp(x, projection, targets)
        found.append((np.array([loss, count]), backward(0.3), projection.w.gradient, projection.b.gradient))
    for other in found[1:]:
        assert all((a == b).all() for a, b in zip(found[0][:2], other[:2], strict=True))
        # Sums over the rows are those of blocks, added: 50 roundings of terms below 1 at the most.
        for a, b in zip(found[0][2:], other[2:], strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=50 * np.finfo(dtype).eps * 0.3 * np.abs(x).max())


@dtypes
def test_rows_that_do_not_count_change_no_bit(dtype, monkeypatch):
    monkeypatch.setattr("fastattn.losses.tokens._LEAST_ROWS", 3)
    monkeypatch.setattr("fastattn.losses.tokens._MOST_ROWS", 7)
    rng = np.random.default_rng(3)
    x, targets = rng.normal(size=(50, 5)).astype(dtype), rng.integers(0, 23, 50)
    places = np.sort(rng.permutation(90)[:50])
    padded, ignored = np.full((90, 5), np.nan, dtype), np.full(90, -1)
    padded[places], ignored[places] = x, targets
    found = []
    for rows, wanted in ((x, targets), (padded, ignored)):
        projection = Linear(5, 23, rng=np.random.default_rng(0), dtype=dtype)
        loss, count, backward = cross_entropy_vjp(rows, projection, wanted)
        dx = backward(0.3)
        found.append((np.array([loss, count]), dx[wanted != -1], projection.w.gradient, projection.b.gradient))
    assert all((a == b).all() for a, b in zip(*found, strict=True))
