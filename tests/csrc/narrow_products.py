"""Products with matrices of narrow types at the level that FASTATTN_ISA forces: a script that prints their bits."""

import hashlib

import numpy as np

import fastattn
from fastattn import linear

SIZES = [(1, 64, 32), (3, 70, 33), (17, 100, 65), (33, 129, 130), (40, 600, 70), (2, 0, 5), (300, 31, 64)]
WILD = [np.inf, -np.inf, np.nan, 3e38, 1e-45, -1e-38, 2.0**-80, 2.0**60, 1e-30, 0.0]


def drawn(rng, *shape, spread=0.0):
    x = rng.standard_normal(shape)
    return (x * np.exp2(rng.uniform(-spread, spread, shape))).astype(np.float32)


def cases(rng):
    """Rows and matrices of all kinds: plain ones, of many exponents, with numbers that units treat otherwise."""
    for m, k, n in SIZES:
        for spread in (0, 20, 60):
            yield drawn(rng, m, k, spread=spread), drawn(rng, k, n, spread=spread)
    for exponent in (-145, -120, -75, 50, 100):
        yield np.ldexp(drawn(rng, 20, 70), exponent), drawn(rng, 70, 40)
        yield drawn(rng, 20, 70), np.ldexp(drawn(rng, 70, 40), exponent)
    x, w = drawn(rng, 40, 70), drawn(rng, 70, 100)
    for number, value in enumerate(WILD):
        x[3 * number, 5 + number] = value
        if np.isfinite(value):
            w[number, 9 * number] = value
    x[35], w[:, 99] = 0, 0
    yield x, w
    w[60, 50] = np.inf
    w[61, 51] = np.nan
    yield x, w


def main():
    digests = {}
    for dtype in linear.NARROW:
        digest, rng = hashlib.sha256(), np.random.default_rng(7)
        for x, w in cases(rng):
            if dtype == "int8":
                w = np.clip(np.where(np.isfinite(w), w, 0), -(2.0**126), 2.0**126).astype(np.float32)
            packed, bias = linear.PackedWeights(w, dtype=dtype), drawn(rng, w.shape[1])
            for y in (packed.matmul(x), packed.matmul(x, bias=bias, relu=True), packed.matmul(x[:1])):
                digest.update(np.where(np.isnan(y), np.float32(np.nan), y).tobytes())
        digests[dtype] = digest.hexdigest()[:32]
    print(fastattn.show_config(as_dict=True)["level"], *digests.values())


if __name__ == "__main__":
    main()
