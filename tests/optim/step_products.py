"""Steps of Adam that pack the matrix in parts, on a matrix unit or on its model, as FASTATTN_ISA forces: prints its
level."""

import numpy as np

import fastattn
from fastattn import linear
from fastattn._kernels import core
from fastattn.layers import Linear
from fastattn.optim import Adam

NUMBERS = (0.01, 0.9, 0.999, 1e-3, 1.0, 1e-8, 0.999)


def drawn(rng, *shape, spread=0.0):
    x = rng.standard_normal(shape)
    return (x * np.exp2(rng.uniform(-spread, spread, shape))).astype(np.float32)


def same(a, b):
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def kernel(rng):
    """Values and moments are those of a step alone; parts those of the value after it, each form with the other or
    alone, at any number of threads, whatever their memory held and whichever numbers are not for the unit."""
    shapes = (1, 1), (5, 70), (64, 64), (33, 600), (130, 129), (700, 40), (64, 2200)
    for K, N in shapes:
        for odd in ((), (0.0,), (np.inf, 0.0), (2.0**-60, 2.0**30, np.nan)):
            w, gradient, m, v = drawn(rng, K, N), drawn(rng, K, N), drawn(rng, K, N), np.abs(drawn(rng, K, N))
            for value in odd:
                w[rng.integers(K), rng.integers(N)] = value
            for count in (1, 2, 3):
                plain = [array.copy() for array in (w, gradient, m, v)]
                assert core.adam(*plain, *NUMBERS, False) == (True, True) and same(plain[1], gradient)
                plain[1][...] = 0
                expected = [linear.split_parts(plain[0], turned, count) for turned in (False, True)]
                for threads, wanted in ((1, (True, True)), (3, (True, True)), (1, (True, False)), (2, (False, True))):
                    fastattn.set_num_threads(threads)
                    found = [array.copy() for array in (w, gradient, m, v)]
                    memory = [np.full_like(form[0], 0xA5) if want else None for form, want in zip(expected, wanted)]
                    fits = core.adam(*found, *NUMBERS, True, *memory)
                    assert all(map(same, found, plain)), (K, N, odd, count, threads)
                    for form, parts, fit in zip(expected, memory, fits, strict=True):
                        if parts is None:
                            assert fit is True
                        else:
                            assert same(parts, form[0]) and fit == form[1], (K, N, odd, count, threads, wanted)
                fastattn.set_num_threads(1)


def layers(rng):
    """After a step products have the bits of a matrix packed anew, whatever was packed before, and are not packed again
    if they were packed by it."""
    made, split_parts = [], linear.split_parts

    def counted(*given):
        made.append(given[1:3])
        return split_parts(*given)

    for words in (("medium",), ("high",), ("batched",), ("medium", "batched"), ("highest",)):
        layer = Linear(130, 70, rng=rng)
        optimizer, x, dy = Adam(layer.parameters(), rate=0.1), drawn(rng, 20, 130), drawn(rng, 20, 70)
        for step in range(3):
            layer.w.accumulate(drawn(rng, 130, 70))
            optimizer.step()
            fastattn.layers.parameter.split_parts = counted
            for word in words:
                with fastattn.float32_precision(word):
                    fresh = linear.PackedWeights(layer.w.value)
                    made.clear()
                    assert same(layer.w.packed().matmul(x), fresh.matmul(x))
                    assert same(layer.w.packed().matmul_transposed(dy), fresh.matmul_transposed(dy))
                    again = word != "highest" and (step == 0 or len(words) > 1)
                    assert len(made) == 2 * again, (words, step, made)
            fastattn.layers.parameter.split_parts = split_parts
    with fastattn.float32_precision("medium"):  # a rounded matrix is packed from its own numbers
        layer.w.packed().matmul(x)
        layer.w.store("bfloat16")
        layer.w.packed().matmul_transposed(dy)
        layer.w.accumulate(drawn(rng, 130, 70))
        optimizer.step()
        assert same(layer.w.packed().matmul(x), linear.PackedWeights(layer.w.value, "bfloat16").matmul(x))


def main():
    linear.LEAST_FOR_TILES = linear.LEAST_IN_MEDIUM = 1
    kernel(np.random.default_rng(0))
    layers(np.random.default_rng(1))
    print(fastattn.show_config(as_dict=True)["level"])


if __name__ == "__main__":
    main()
