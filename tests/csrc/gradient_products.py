"""Gradients of weights on a matrix unit or on its model, at the level that FASTATTN_ISA forces: prints their bits."""

import hashlib

import numpy as np
from tile_products import drawn, same

import fastattn
from fastattn import linear
from fastattn._kernels import core

SIZES = [(1, 64, 32), (3, 70, 33), (31, 17, 129), (64, 100, 65), (129, 33, 300), (1060, 40, 70)]
EPS = np.finfo(np.float32).eps


def gradient_of(x, dy, precision, **options):
    with fastattn.float32_precision(precision):
        return linear.weight_gradient(x, dy, **options)


def rounded(x):
    """To bfloat16, nearest, ties to even, in float64."""
    bits = x.view(np.uint32).astype(np.uint64)
    near = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return near.astype(np.uint32).view(np.float32).astype(np.float64)


def errors(found, x, dy):
    """In eps * sum |x dy|, of factors that were rounded before."""
    with np.errstate(all="ignore"):
        return np.abs(found - x.T @ dy) / (EPS * (np.abs(x).T @ np.abs(dy)) + 1e-45)


# Of more parts than one, by how many eps of sum |x dy| a product may be off beside float32 sums.
WORDS = {"high": 3 * 2.0**7, "batched": 0}


def ends(precision):
    """Numbers of x and of d_y that are not for the unit."""
    of_dy = (-81, 48) if precision == "medium" else (-65, 64)
    return np.ldexp(np.float32(1), [-33, 32, *of_dy]).astype(np.float32)


def accuracy(rng, digest):
    """That of float32 sums of products of rounded factors; ties are among the numbers. Of all parts no less than that
    of chains of as many multiply-adds, of two parts within the bound of `set_float32_precision`."""
    for m, k, n in SIZES:
        for spread, shift in ((0, 0), (0, 4), (8, 0)):
            x, dy = (np.float32(drawn(rng, m, size, spread=spread) + shift) for size in (k, n))
            x.reshape(-1).view(np.uint32)[::3] &= 0xFFFF8000
            found = gradient_of(x, dy, "medium")
            assert errors(found, rounded(x), rounded(dy)).max() < 4, (m, k, n, spread, shift)
            assert not same(found, gradient_of(x, dy, "highest")), (m, k, n)
            digest.update(found.tobytes())
            x, dy = (np.float32(drawn(rng, m, size, spread=spread) + shift) for size in (k, n))
            wide, chain = (x.astype(np.float64), dy.astype(np.float64)), np.zeros((k, n), np.float32)
            for row, d in zip(x, dy, strict=True):
                chain = np.float32(chain + row[:, None].astype(np.float64) * d)
            of_chain = errors(chain, *wide).max()
            for precision, room in WORDS.items():
                found = gradient_of(x, dy, precision)
                assert errors(found, *wide).max() < room + max(of_chain, 2), (m, k, n, spread, shift, precision)
                digest.update(found.tobytes())


def rows(rng, digest, precision):
    """Rows of zeros, threads, strides and pieces of rows change no bit; d_b is as in float32."""

    def gradient(x, dy, precision=precision, **options):
        return gradient_of(x, dy, precision, **options)

    m, k, n = 19000, 40, 70
    x, dy = drawn(rng, m, k), drawn(rng, m, n)
    sums, plain = np.zeros(n, np.float32), np.zeros(n, np.float32)
    whole = gradient(x, dy, sums=sums)
    gradient(x, dy, "highest", sums=plain)
    assert same(sums, plain)
    for threads in (1, 3, 16):
        fastattn.set_num_threads(threads)
        assert same(gradient(x, dy), whole), threads
    places = np.sort(rng.permutation(2 * m)[:m])
    wide, padded = np.full((2 * m, k + 9), np.nan, np.float32), np.zeros((2 * m, n), np.float32)
    wide[places, 5 : k + 5], padded[places] = x, dy
    assert same(gradient(wide[:, 5 : k + 5], padded), whole)
    short = gradient(x[:5000], dy[:5000])
    pieces = np.zeros((k, n), np.float32)
    for first, last in ((0, 1024), (1024, 3072), (3072, 5000)):
        gradient(x[first:last], dy[first:last], out=pieces)
    assert same(pieces, short)
    # An element is computed of its column of x and its column of d_y alone.
    assert same(gradient(x[:200, 3:37], dy[:200, 33:]), gradient(x[:200], dy[:200])[3:37, 33:])
    digest.update(whole.tobytes())
    digest.update(short.tobytes())


def numbers_for_float32(rng, digest, precision):
    """Numbers that the unit cannot take: right answers there, and no bit of another row or column of d_w changes."""
    room = {"medium": 2.0**-7, "high": 3 * 2.0**-16 + 4 * EPS, "batched": 4 * EPS}[precision]

    def gradient(x, dy, precision=precision):
        return gradient_of(x, dy, precision)

    m, k, n = 70, 40, 50
    x, dy = drawn(rng, m, k), drawn(rng, m, n)
    expected = gradient(x, dy)
    most, tiny = np.finfo(np.float32).max, np.float32(1e-45)
    for value in (np.inf, -np.inf, np.nan, most, tiny, -tiny, *ends(precision)):
        for of_x, of_dy in (([3], []), ([], [5]), ([0, 33, 39], [0, 31, 49])):
            x2, dy2 = x.copy(), dy.copy()
            x2[50, of_x], dy2[66, of_dy] = value, value
            found, plain = gradient(x2, dy2), gradient(x2, dy2, "highest")
            others = np.ones((k, n), bool)
            others[of_x], others[:, of_dy] = False, False
            assert same(found[others], expected[others]), (value, of_x, of_dy)
            finite = np.isfinite(plain)
            assert np.array_equal(found[~finite], plain[~finite], equal_nan=True), (value, of_x, of_dy)
            size = np.abs(x2.astype(np.float64)).T @ np.abs(dy2.astype(np.float64))
            off = np.abs(found[finite] - plain[finite])
            assert (off <= (2 * room * size)[finite]).all(), (value, of_x, of_dy)
            digest.update(np.nan_to_num(found).tobytes())
    # Small and large numbers alone: nothing is lost or overflows where all products are small or large.
    for exponents in ((-31, -78), (-31, -62), (30, 40), (-60, -60), (-100, 20), (-20, -100), (40, 60), (100, -20)):
        x2, dy2 = np.float32(np.ldexp(x, exponents[0])), np.float32(np.ldexp(dy, exponents[1]))
        size = np.abs(x2.astype(np.float64)).T @ np.abs(dy2.astype(np.float64))
        found = gradient(x2, dy2)
        assert (np.abs(found - x2.astype(np.float64).T @ dy2) <= room * size + 1e-45 * m).all(), exponents
        digest.update(found.tobytes())
    assert not gradient(np.zeros((40, 32), np.float32), np.full((40, 32), -1, np.float32)).any()


def replaced(rng, digest, precision):
    """What is written has the bits of what is added to zeros, past the caches too, where d_w is large and its rows are
    whole lines, of one piece of rows and of several."""
    for m, k, n in ((40, 520, 512), (40, 512, 513), (70, 33, 8000), (1100, 512, 512), (0, 512, 512)):
        x, dy = drawn(rng, m, k), drawn(rng, m, n)
        x[: m // 2, 7], dy[m // 3 :, 9] = 2.0**-60, 2.0**80  # not for the unit
        added = np.zeros((k, n), np.float32)
        gradient_of(x, dy, precision, out=added)
        for threads in (1, 3):
            fastattn.set_num_threads(threads)
            found = core.lasting((k, n), np.dtype(np.float32))
            found[...] = 7
            with fastattn.float32_precision(precision):
                linear.replace_gradient(x, dy, found, None)
            assert same(found, added), (m, k, n, threads)
            assert same(gradient_of(x, dy, precision), added), (m, k, n, threads)
        fastattn.set_num_threads(1)


def exact(rng, digest, precision):
    """Small whole numbers stay whole, with more parts larger ones."""

    def gradient(x, dy):
        return gradient_of(x, dy, precision)

    x, dy = (rng.integers(-256, 257, shape).astype(np.float32) for shape in ((70, 40), (70, 64)))
    assert (gradient(x, dy) == x.T @ dy).all()
    if precision == "batched":
        x, dy = (rng.integers(-300, 301, shape).astype(np.float32) * 257 // 77 for shape in ((70, 40), (70, 64)))
        assert (gradient(x, dy) == x.T @ dy).all()
    one = np.zeros((1, 64), np.float32)
    one[0, 7] = 1
    assert same(gradient(one, dy[:1])[7], dy[0])


def main():
    digest = hashlib.sha256()
    linear.LEAST_FOR_GRADIENT = 1
    accuracy(np.random.default_rng(0), digest)
    for precision in ("medium", *WORDS):
        for number, check in enumerate((rows, numbers_for_float32, exact, replaced)):
            check(np.random.default_rng(number + 1), digest, precision)
    print(fastattn.show_config(as_dict=True)["level"], digest.hexdigest())


if __name__ == "__main__":
    main()
