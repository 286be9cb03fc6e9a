"""sparsemax and entmax of rows: against the twin, enumeration of all supports, and other people's implementations."""

import itertools

import numpy as np
import pytest
from checks import same_bits

import fastattn
from fastattn import _reference, functional

ALPHAS = (1.0, 1.001, 1.1, 1.25, 1.5, 1.75, 1.9, 2.0)
alphas = pytest.mark.parametrize("alpha", ALPHAS)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
# p = y^(1/e) of y in [0, 1] loses 1/e times the rounding of y, relative to p <= 1, where it is not computed by log1p;
# the score itself is rounded to eps of its distance from the largest, at most 1/e where a weight is left.
ROOM = {"float32": 4, "float64": 16}


def rows(rng, n, dtype, spread=1.0, count=6):
    x = (rng.standard_normal((count, n)) * spread).astype(dtype)
    x[0] = x[0, :1]  # all alike
    x[1] = np.round(x[1])  # ties
    return x


@dtypes
@alphas
@pytest.mark.parametrize("n", [1, 2, 3, 7, 15, 16, 17, 63, 64, 65, 130, 1000])
def test_rows_against_the_twin(n, alpha, dtype):
    rng = np.random.default_rng(n)
    for spread in (0.01, 1.0, 10.0):
        x = rows(rng, n, dtype, spread)
        found, expected = functional.entmax(x, alpha), _reference.entmax(x, alpha)
        eps = np.finfo(dtype).eps
        assert found.dtype == dtype
        assert np.abs(found - expected).max() <= ROOM[dtype] * eps * (1 + spread)
        # A chain of n sums errs by up to n eps / 2; for float32 it is in float64.
        of_sum = 4 * eps + n * np.finfo(np.float64).eps / 2
        assert np.abs(found.astype(np.longdouble).sum(-1) - 1).max() <= of_sum
        assert ((found == 0) | (expected > 0) | (found <= 16 * eps * (1 + spread))).all()


@alphas
def test_gradients_against_the_twin(alpha):
    rng = np.random.default_rng(5)
    for n in (1, 2, 5, 40):
        y = functional.entmax(rng.standard_normal((7, n)), alpha)
        dy = rng.standard_normal(y.shape)
        dx, d_alpha = functional.entmax_vjp(y, dy, alpha)
        right, right_alpha = _reference.entmax_vjp(y, dy, alpha)
        assert np.abs(dx - right).max() <= 1e-13
        least = alpha - 1 if alpha > 1 else 1  # the twin's form of d_alpha loses eps / (alpha - 1)^2
        assert np.abs(d_alpha - right_alpha).max() <= 1e-13 + 1e-15 * n / least**2
        if alpha == 2:
            assert same_bits(functional.sparsemax_vjp(y, dy), dx)


@pytest.mark.parametrize("alpha", [1.1, 1.5, 1.75, 2.0])
def test_gradients_against_central_differences(alpha):
    rng = np.random.default_rng(11)
    x, dy = rng.standard_normal((4, 9)), rng.standard_normal((4, 9))
    dx, d_alpha = functional.entmax_vjp(functional.entmax(x, alpha), dy, alpha)
    step, direction = 1e-6, rng.standard_normal(x.shape)
    ends = [(functional.entmax(x + sign * step * direction, alpha) * dy).sum() for sign in (1, -1)]
    assert abs((ends[0] - ends[1]) / (2 * step) - (dx * direction).sum()) <= 1e-6
    if alpha < 2:
        ends = [(functional.entmax(x, alpha + sign * step) * dy).sum(-1) for sign in (1, -1)]
        assert np.abs((ends[0] - ends[1]) / (2 * step) - d_alpha).max() <= 1e-6


@pytest.mark.parametrize("alpha", [1.5, 2.0])
def test_rows_against_all_supports(alpha):
    """Of all sets of keys, the one on which the weights are positive, sum to one, and leave no other key above t."""
    rng = np.random.default_rng(2)
    for n in range(1, 8):
        z = rng.standard_normal(n) * rng.choice([0.1, 1.0, 3.0])
        x = z * (alpha - 1)
        found = []
        for size in range(1, n + 1):
            for chosen in itertools.combinations(range(n), size):
                part = x[list(chosen)]
                if alpha == 2:
                    t = (part.sum() - 1) / size
                else:
                    root = (1 - ((part - part.mean()) ** 2).sum()) / size
                    if root < 0:
                        continue
                    t = part.mean() - np.sqrt(root)
                if (part > t).all() and all(x[j] <= t for j in range(n) if j not in chosen):
                    found.append(np.maximum(x - t, 0) ** (1 / (alpha - 1)))
        assert len(found) == 1
        assert np.abs(functional.entmax(z, alpha) - found[0]).max() <= 1e-14


def test_sparsemax_is_the_nearest_point_of_the_simplex():
    rng = np.random.default_rng(4)
    z = rng.standard_normal((20, 12)) * 2
    p = functional.sparsemax(z)
    others = rng.dirichlet(np.full(12, 0.3), size=(500, 20))
    assert (((others - z) ** 2).sum(-1) >= ((p - z) ** 2).sum(-1) - 1e-12).all()


def test_rows_and_gradients_against_torch_in_float64():
    """Thresholds by sorting, gradients by automatic differentiation through them."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(8)
    x, dy = rng.standard_normal((30, 25)) * 2, rng.standard_normal((30, 25))
    for alpha in (1.5, 2.0):
        z = torch.tensor(x, requires_grad=True)
        ranked = torch.sort(z * (alpha - 1), dim=-1, descending=True).values
        ranks = torch.arange(1, 26, dtype=torch.float64)
        mean = ranked.cumsum(-1) / ranks
        if alpha == 2:
            taus = mean - 1 / ranks
        else:
            taus = mean - torch.sqrt(torch.clamp((1 - (ranked**2).cumsum(-1)) / ranks + mean**2, min=1e-300))
        support = (taus < ranked).cumprod(-1).sum(-1, keepdim=True)
        p = torch.clamp(z * (alpha - 1) - taus.gather(-1, support - 1), min=0) ** (1 / (alpha - 1))
        (p * torch.tensor(dy)).sum().backward()
        found = functional.entmax(x, alpha)
        assert np.abs(found - p.detach().numpy()).max() <= 1e-12
        assert np.abs(functional.entmax_vjp(found, dy, alpha)[0] - z.grad.numpy()).max() <= 1e-9


def test_rows_and_gradients_against_the_authors_package():
    entmax = pytest.importorskip("entmax", reason="the package entmax is not installed")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(9)
    x, dy = rng.standard_normal((40, 30)) * 2, rng.standard_normal((40, 30))
    for alpha in (1.05, 1.3, 1.5, 1.8, 2.0):
        z, a = torch.tensor(x, requires_grad=True), torch.full((40, 1), alpha, dtype=torch.float64, requires_grad=True)
        exact = {1.5: entmax.entmax15, 2.0: entmax.sparsemax}
        p = exact[alpha](z, dim=-1) if alpha in exact else entmax.entmax_bisect(z, a, dim=-1, n_iter=100)
        (p * torch.tensor(dy)).sum().backward()
        found = functional.entmax(x, alpha)
        dx, d_alpha = functional.entmax_vjp(found, dy, alpha)
        assert np.abs(found - p.detach().numpy()).max() <= 1e-10
        assert np.abs(dx - z.grad.numpy()).max() <= 1e-8
        if alpha not in exact:
            assert np.abs(d_alpha - a.grad.numpy()[:, 0]).max() <= 1e-7


@dtypes
@alphas
def test_masked_elements_are_not_read_and_empty_rows_are_zero(alpha, dtype):
    rng = np.random.default_rng(3)
    x = rows(rng, 40, dtype)
    mask = rng.random(x.shape) < 0.5
    mask[2], mask[3] = False, True
    expected = [functional.entmax(row[keep], alpha) for row, keep in zip(x, mask)]
    x[~mask] = np.nan
    found = functional.entmax(x, alpha, mask=mask)
    assert not found[~mask].any() and not found[2].any()
    assert all(same_bits(row[keep], right) for row, keep, right in zip(found, mask, expected))
    assert same_bits(functional.sparsemax(x, mask), functional.entmax(x, 2.0, mask))


@alphas
def test_special_values_of_rows(alpha):
    inf, nan = np.inf, np.nan
    x = np.array([[nan, 0, 1], [inf, 0, 1], [-inf, 0, 0], [-inf, -inf, -inf], [1e300, -1e300, 1e300]])
    y = functional.entmax(x, alpha)
    assert np.isnan(y[:2]).all() and np.allclose(y[2], [0, 0.5, 0.5]) and not y[3].any()
    assert np.allclose(y[4], [0.5, 0, 0.5])
    assert functional.entmax(np.zeros((3, 0)), alpha).shape == (3, 0)
    assert functional.entmax(np.zeros(()), alpha) == 1


@dtypes
@alphas
def test_bits_of_rows_do_not_depend_on_threads_or_place(alpha, dtype):
    x = np.random.default_rng(1).standard_normal((3000, 100)).astype(dtype)
    before = fastattn.get_num_threads()
    try:
        fastattn.set_num_threads(1)
        expected = functional.entmax(x, alpha)
        gradient = functional.entmax_vjp(expected, x, alpha)
        fastattn.set_num_threads(4)
        assert same_bits(expected, functional.entmax(x, alpha))
        assert same_bits(gradient, functional.entmax_vjp(expected, x, alpha))
    finally:
        fastattn.set_num_threads(before)
    assert same_bits(expected[7], functional.entmax(x[7], alpha))


@pytest.mark.parametrize(
    ("call", "error", "names"),
    [
        (lambda: functional.entmax(np.zeros(3), 2.5), ValueError, "alpha"),
        (lambda: functional.entmax(np.zeros(3), [1.5]), ValueError, "alpha"),
        (lambda: functional.entmax(np.zeros(3, int)), TypeError, "x"),
        (lambda: functional.sparsemax(np.zeros(3), mask=np.ones(4, bool)), ValueError, "mask"),
        (lambda: functional.sparsemax(np.zeros(3), mask=np.ones(3)), TypeError, "mask"),
        (lambda: functional.entmax_vjp(np.zeros(3), np.zeros(4)), ValueError, "dy"),
    ],
    ids=["alpha", "several alphas", "integers", "shape of the mask", "mask of numbers", "shape of dy"],
)
def test_wrong_calls_are_refused(call, error, names):
    with pytest.raises(error, match=rf"(?s){names}.*Hint"):
        call()


class Named(fastattn.normalizers.Normalizer):
    """A normalizer of somebody else, which says by itself what it is: here sparsemax."""

    name = "named"
    asked = 0

    def kernel(self, query_shape):
        return fastattn.normalizers.KernelNormalizer(np.array(2.0))

    def slopes(self, weights):
        type(self).asked += 1
        return (weights != 0).astype(weights.dtype)


def test_a_normalizer_says_itself_which_kernel_and_which_slopes_it_has():
    rng = np.random.default_rng(0)
    memory, queries = rng.normal(size=(2, 6, 4)), rng.normal(size=(2, 3, 4))
    found = []
    for normalizer in (Named(), fastattn.normalizers.Sparsemax()):
        variant = fastattn.create("dot", query_width=4, memory_width=4, dtype=np.float64, normalizer=normalizer)
        prepared = variant.prepare(memory)
        context, weights, _, backward = variant.step_vjp(queries[:, 0], prepared, variant.start(prepared))
        d_query, _ = backward(np.ones_like(context), None, None)
        found.append((context, weights, d_query, variant.finish(prepared)))
    assert all((one == other).all() for one, other in zip(*found)) and Named.asked == 1


@pytest.mark.parametrize("name", ["softmax", "sparsemax", "entmax15"])
def test_slopes_give_the_gradient(name):
    rng = np.random.default_rng(1)
    z, d = rng.normal(size=(5, 7)), rng.normal(size=(5, 7))
    alpha = {"softmax": 1.0, "sparsemax": 2.0, "entmax15": 1.5}[name]
    weights = functional.softmax(z) if name == "softmax" else functional.entmax(z, alpha)
    s = fastattn.normalizers.create(name).slopes(weights)
    right = functional.softmax_vjp(weights, d) if name == "softmax" else functional.entmax_vjp(weights, d, alpha)[0]
    assert np.abs(s * (d - (s * d).sum(-1, keepdims=True) / s.sum(-1, keepdims=True)) - right).max() < 1e-12


def test_a_normalizer_without_a_kernel_cannot_be_made():
    class Nothing(fastattn.normalizers.Normalizer):
        name = "nothing"

    with pytest.raises(TypeError, match="kernel"):
        Nothing()
