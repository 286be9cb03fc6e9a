"""Products on a matrix unit or on its model, at the level that FASTATTN_ISA forces: a script that prints their bits."""

import hashlib

import numpy as np

import fastattn
from fastattn import linear

# What each precision may err by in eps * sum |x w|, that of the sums being 4.
ROOM = {name: room * 2.0**23 + 4 for name, room in (("batched", 0), ("high", 3 * 2.0**-16), ("medium", 2.0**-7))}
SIZES = [(1, 64, 32), (3, 70, 33), (17, 100, 65), (33, 129, 130), (70, 1060, 40)]


def drawn(rng, *shape, spread=0.0):
    x = rng.standard_normal(shape)
    return (x * np.exp2(rng.uniform(-spread, spread, shape))).astype(np.float32)


def errors(found, x, w):
    """In eps * sum |x w|."""
    x, w = x.astype(np.float64), w.astype(np.float64)
    with np.errstate(all="ignore"):
        return np.abs(found - x @ w) / (np.finfo(np.float32).eps * (np.abs(x) @ np.abs(w)) + 1e-45)


def product(x, w, least, **options):
    """By parts, or, if the matrix has not so many elements, by chains of multiply-adds."""
    linear.LEAST_FOR_TILES = linear.LEAST_IN_MEDIUM = least
    return linear.PackedWeights(w).matmul(x, **options)


def same(a, b):
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def accuracy(rng, digest):
    """No less exact than chains of multiply-adds; with fewer parts within the bounds of `set_float32_precision`."""
    for m, k, n in SIZES:
        for spread, shift in ((0, 0), (0, 4), (8, 0)):
            x, w = (np.float32(drawn(rng, *shape, spread=spread) + shift) for shape in ((m, k), (k, n)))
            found, chain = errors(product(x, w, 1), x, w), errors(product(x, w, k * n + 1), x, w)
            assert np.sqrt(np.mean(found**2)) < max(np.sqrt(np.mean(chain**2)), 0.3), (m, k, n, spread, shift)
            assert found.max() < max(chain.max(), 2), (m, k, n, spread, shift)
            digest.update(product(x, w, 1).tobytes())
            worst = [found.max()]
            for precision in ("high", "medium"):
                with fastattn.float32_precision(precision):
                    less = product(x, w, 1)
                worst.append(errors(less, x, w).max())
                assert worst[-2] < worst[-1] < ROOM[precision] - 4 + max(chain.max(), 2), (m, k, n, spread, shift)
                digest.update(less.tobytes())


def rows_and_columns(rng, digest):
    """An element is computed of its row and its column alone."""
    w, x, bias = drawn(rng, 530, 100), drawn(rng, 270, 530), drawn(rng, 100)
    packed = linear.PackedWeights(w)
    whole = packed.matmul(x, bias=bias, relu=True)
    assert same(whole, np.maximum(packed.matmul(x) + bias, np.float32(0)))
    for first, last in ((0, 1), (5, 6), (269, 270), (0, 15), (3, 19), (0, 17), (240, 260)):
        assert same(packed.matmul(x[first:last], bias=bias, relu=True), whole[first:last]), (first, last)
    for first, last in ((0, 64), (64, 100), (30, 70)):
        of_these = linear.PackedWeights(w[:, first:last]).matmul(x[:20], bias=bias[first:last], relu=True)
        assert same(of_these, whole[:20, first:last]), (first, last)
    for threads in (1, 3, 16):
        fastattn.set_num_threads(threads)
        assert same(packed.matmul(x, bias=bias, relu=True), whole), threads
    odd = x.copy()
    odd[[3, 200], 50] = np.inf, 1e30  # rows that are not for the unit, of two threads
    fastattn.set_num_threads(1)
    expected = packed.matmul(odd)
    for threads in (2, 3):
        fastattn.set_num_threads(threads)
        assert np.array_equal(packed.matmul(odd), expected, equal_nan=True), threads
    digest.update(whole.tobytes())


def numbers_for_the_plain_kernel(rng, digest):
    """Numbers whose parts the unit cannot take: right answers there, and no bit of another row or column changes."""
    w, x = drawn(rng, 64, 70), drawn(rng, 40, 64)
    tiny, least, most = np.float32(1e-45), np.finfo(np.float32).tiny, np.finfo(np.float32).max
    for precision, room in ROOM.items():
        with fastattn.float32_precision(precision):
            expected = product(x, w, 1)
            for value in (np.inf, -np.inf, np.nan, most, tiny, -least, np.float32(2.0**-60), np.float32(2.0**80)):
                for rows, columns in (([3], []), ([], [5]), ([0, 39], [0, 63, 64])):
                    x2, w2 = x.copy(), w.copy()
                    x2[rows, 50], w2[20, columns] = value, value
                    found, plain = product(x2, w2, 1), product(x2, w2, 1 << 60)
                    others = np.ones((40, 70), bool)
                    others[rows], others[:, columns] = False, False
                    assert same(found[others], expected[others]), (precision, value, rows, columns)
                    assert np.array_equal(found[~others], plain[~others], equal_nan=True), (precision, value, rows)
            # Small numbers alone: nothing is lost where all products are small.
            for exponents in ((-60, -30), (-100, 20), (-63, -31), (60, 28), (-126, 100)):
                x2, w2 = np.float32(np.ldexp(x, exponents[0])), np.float32(np.ldexp(w, exponents[1]))
                assert errors(product(x2, w2, 1), x2, w2).max() < room, (precision, exponents)
            zeros = product(np.full((2, 64), -1, np.float32), np.zeros((64, 32), np.float32), 1)
            assert not zeros.any()
    # Whole blocks, which are read as they lie: the same parts of a matrix and of its transpose, whatever is where.
    for row in (None, 3, 20, 40, 63):
        whole = drawn(rng, 64, 192)
        if row is not None:
            whole[row, 70] = np.inf
        for count in (1, 2, 3):
            parts, fit = linear.split_parts(whole, False, count)
            turned, fits = linear.split_parts(np.ascontiguousarray(whole.T), True, count)
            assert (parts == turned).all() and fit == fits == (row is None), (row, count)
        digest.update(expected.tobytes())


def ends(rng, digest):
    """Of the range that the unit takes, beyond it, and of what rounds to a part: halfway, and next to that."""
    near = [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x7F80, 0x807F, 0x8080, 0x8081, 0x7FFFFF]  # the last bits
    inside = {"x": (-56, -55, 0, 71), "w": (-40, -39, 0, 23)}
    beyond = {"x": (-149, -127, -57, 72, 90), "w": (-149, -127, -41, 24, 30)}

    def numbers(shape, exponents):
        y = np.ldexp(np.float32(1), rng.choice(exponents, shape)).astype(np.float32)
        y.view(np.uint32)[...] |= rng.choice(np.uint32(near), shape) * (y >= np.finfo(np.float32).tiny)
        return y * rng.choice(np.float32([-1, 1]), shape)

    for m, k, n in SIZES:
        x, w = numbers((m, k), inside["x"]), numbers((k, n), inside["w"])
        for precision, room in ROOM.items():
            with fastattn.float32_precision(precision):
                found = product(x, w, 1)
                assert errors(found, x, w).max() < room, (m, k, n, precision)
                digest.update(found.tobytes())
                # Rows and columns with numbers that are not for the unit.
                x2, w2 = x.copy(), w.copy()
                x2[::3], w2[:, ::3] = numbers(x[::3].shape, beyond["x"]), numbers(w[:, ::3].shape, beyond["w"])
                assert errors(product(x2, w2, 1), x2, w2).max() < room, (m, k, n, precision)


def exact(rng, digest):
    """Whole numbers stay whole, and the identity gives every number back."""
    x, w = (rng.integers(-500, 500, shape).astype(np.float32) for shape in ((40, 70), (70, 64)))
    assert (linear.PackedWeights(w).matmul(x) == x @ w).all()
    x = drawn(rng, 50, 64, spread=20)
    assert same(linear.PackedWeights(np.eye(64, dtype=np.float32)).matmul(x), x)


def main():
    digest = hashlib.sha256()
    for number, check in enumerate((accuracy, rows_and_columns, numbers_for_the_plain_kernel, ends, exact)):
        linear.LEAST_FOR_TILES = 1
        with fastattn.float32_precision("batched"):
            check(np.random.default_rng(number), digest)
    print(fastattn.show_config(as_dict=True)["level"], digest.hexdigest())


if __name__ == "__main__":
    main()
