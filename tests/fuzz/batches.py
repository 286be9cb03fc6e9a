"""A sample alone, in a batch, beside padding, and on several threads: random cases, whose bits have to be the same.

    python tests/fuzz/batches.py --precision bfloat16 --cases 20000
    python tests/fuzz/batches.py --precision bfloat16 --only 1234     one case again, with its traceback

A precision is that of the products (highest, batched, high, medium), of the arrays (bfloat16, float16), or of what is
kept (int8: memories and matrices). Every matrix is for a matrix unit here, where there is one, whatever its size. Some
arrays have numbers that the unit cannot take, and what a sample may not read is often NaN.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

import fastattn
from fastattn import layers, linear

PRECISIONS = ("highest", "high", "medium", "bfloat16", "float16", "int8", "batched")
HALVES: Mapping[str, Any] = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
LIMITS = ("LEAST_FOR_TILES", "LEAST_IN_MEDIUM", "LEAST_FOR_GRADIENT")
WILD = (0.0, 1e-40, 2.0**-100, 2.0**-62, 2.0**50, 2.0**80, 3e38, np.inf, -np.inf, np.nan)


class Draw:
    """What a case is made of."""

    def __init__(self, precision: str, seed: int, number: int) -> None:
        self.precision = precision
        self.rng = np.random.default_rng([PRECISIONS.index(precision), seed, number])
        self.dtype = HALVES.get(precision, np.float32)
        words = {"batched", "high", "medium"}
        self.products: Any = "medium" if precision == "bfloat16" else precision if precision in words else "highest"

    def size(self, most: int) -> int:
        """1 to most, small ones and multiples of a tile more often."""
        found = int(self.rng.integers(1, most + 1))
        return (1, min(16, most), min(64, most), found, found, found)[self.rng.integers(6)]

    def flip(self) -> bool:
        return bool(self.rng.integers(2))

    def array(self, *shape: int) -> Any:
        """Normal numbers; a tenth of the arrays with exponents far apart, a tenth with numbers that are no unit's."""
        x = self.rng.standard_normal(shape)
        kind = self.rng.integers(10)
        if kind == 0:
            x *= np.exp2(self.rng.uniform(-8, 8, shape))
        if kind == 1:
            at = self.rng.integers(x.size, size=4)
            x.reshape(-1)[at] = self.rng.choice(WILD[: len(WILD) - 3 * self.flip()], 4)
        with np.errstate(over="ignore"):
            return x.astype(self.dtype)

    def lengths(self, batch: int, longest: int) -> Any:
        found = self.rng.integers(1, longest + 1, batch)
        found[self.rng.integers(batch)] = longest
        return found


Way = Callable[[slice, int], tuple[Any, ...]]


class Case(NamedTuple):
    """`way(samples, longest)`: results of these samples; `own(results, i, sample)`: the i-th one's, without padding."""

    way: Way
    own: Callable[[tuple[Any, ...], int, int], Iterator[Any]]
    batch: int
    lengths: Any


def attention(z: Draw) -> Case:
    """Contexts, weights and all gradients."""
    batch, group, heads = z.size(5), z.size(3), z.size(3)
    most = 700 if z.rng.integers(8) == 0 else 200  # more than a block or a chunk of keys
    queries, keys, width, values = z.size(40), z.size(most), z.size(130), z.size(130)
    q, d = z.array(batch, heads * group, queries, width), z.array(batch, heads * group, queries, values)
    k, v = z.array(batch, heads, keys, width), z.array(batch, heads, keys, values)
    lengths = z.lengths(batch, keys)
    for sample in range(batch if z.flip() else 0):
        k[sample, :, lengths[sample] :] = v[sample, :, lengths[sample] :] = np.nan
    mask = z.rng.random((batch, 1, queries, keys)) < 0.9 if z.rng.integers(4) == 0 else None
    options: dict[str, Any] = {}
    if z.flip():
        options["causal"] = ("top_left", "bottom_right")[z.rng.integers(2)]
    elif z.flip():
        options["window"] = tuple(int(n) for n in z.rng.integers(0, 20, 2))
    if z.flip():
        vector = z.array(width).astype(np.float32)
        additive = fastattn.scores.Additive(vector, activation=("tanh", "sigmoid")[z.rng.integers(2)])
        options["score"] = additive if z.flip() else fastattn.scores.ScaledDot(softcap=3.0)

    def way(samples: slice, longest: int) -> tuple[Any, ...]:
        cut = (samples, slice(None), slice(longest))
        more = options | {"key_lengths": lengths[samples]}
        if mask is not None:
            more["mask"] = mask[samples, ..., :longest]
        found, back = fastattn.attention_vjp(q[samples], k[cut], v[cut], return_weights=True, **more)
        gradients = back(d[samples])
        again = fastattn.attention(q[samples], k[cut], v[cut], **more)
        return found.context, again, gradients.query, gradients.key, gradients.value, found.weights

    def own(results: tuple[Any, ...], at: int, sample: int) -> Iterator[Any]:
        n = lengths[sample]
        yield from (x[at] for x in results[:3])
        yield from (x[at, :, :n] for x in results[3:5])
        yield results[5][at, ..., :n]

    return Case(way, own, batch, lengths)


def memory(z: Draw) -> Case:
    """A memory that is kept, of a narrower type too: all queries at once, those of a sample alone one by one."""
    most = 700 if z.rng.integers(8) == 0 else 200
    batch, heads, queries, keys, width = z.size(5), z.size(3), z.size(20), z.size(most), z.size(130)
    q = z.array(batch, heads, queries, width)
    k, v = z.array(batch, heads, keys, width), z.array(batch, heads, keys, z.size(130))
    lengths = z.lengths(batch, keys)
    kept = {"int8": np.int8, **HALVES}.get(z.precision) if z.dtype == np.float32 or z.flip() else None

    def way(samples: slice, longest: int) -> tuple[Any, ...]:
        cut = (samples, slice(None), slice(longest))
        prepared = fastattn.prepare(k[cut], v[cut], key_lengths=lengths[samples], storage=kept)
        if samples.stop - samples.start > 1:
            return (prepared.attend(q[samples]),)
        apart = [prepared.attend(q[samples, :, i : i + 1]) for i in range(queries)]
        return (np.concatenate(apart, axis=2),)

    return Case(way, lambda results, at, sample: iter([results[0][at]]), batch, lengths)


def matrix(z: Draw) -> Case:
    """Products of rows with a matrix and with its transpose; the gradient of one has no sample, but threads."""
    batch, rows, width, columns = z.size(5), z.size(20), z.size(300), z.size(200)
    x, dy = z.array(batch, rows, width), z.array(batch, rows, columns)
    kept: Any = z.precision if z.precision in ("int8", "bfloat16") and z.flip() else None
    w = z.array(width, columns) if kept is None else z.array(width, columns).astype(np.float32)
    if kept == "int8":
        w = np.where(abs(w) < 2.0**120, w, np.float32(1))  # it takes no other numbers
    bias = z.array(columns).astype(np.float32)
    packed = linear.PackedWeights(w, kept)

    def way(samples: slice, longest: int) -> tuple[Any, ...]:
        more: Any = {} if z.dtype != np.float32 else {"bias": bias, "relu": True}
        rows, d_rows = x[samples, :longest], dy[samples, :longest]
        of_matrix = linear.weight_gradient(rows, d_rows)
        return packed.matmul(rows, **more), packed.matmul_transposed(d_rows), of_matrix

    lengths = z.lengths(batch, rows)
    return Case(way, lambda results, at, sample: (r[at, : lengths[sample]] for r in results[:2]), batch, lengths)


def recurrent(z: Draw) -> Case:
    """Layers over sequences of several lengths, with all gradients of their inputs."""
    batch, steps, width, hidden = z.size(5), z.size(12), z.size(70), z.size(70)
    made: Any = (layers.GRU, layers.LSTM)[z.rng.integers(2)]
    layer = made(width, hidden, rng=z.rng)
    if z.precision in ("int8", "bfloat16") and z.flip():
        layer.store(z.precision)
    x = z.array(batch, steps, width).astype(np.float32)
    dy = z.array(batch, steps, hidden).astype(np.float32)
    lengths = z.lengths(batch, steps)

    def way(samples: slice, longest: int) -> tuple[Any, ...]:
        y, last, back = layer.vjp(x[samples, :longest], lengths=lengths[samples])
        dx = back(dy[samples, :longest])[0]
        again = layer.forward(x[samples, :longest], lengths=lengths[samples])[0]
        return y, dx, again, *(last if isinstance(last, tuple) else (last,))

    def own(results: tuple[Any, ...], at: int, sample: int) -> Iterator[Any]:
        yield from (r[at, : lengths[sample]] for r in results[:3])
        yield from (r[at] for r in results[3:])

    return Case(way, own, batch, lengths)


KINDS = {attention: 4, memory: 3, matrix: 3, recurrent: 2}
NAMES = [kind for kind, share in KINDS.items() for _ in range(share)]


def same(a: Any, b: Any) -> bool:
    """Whether bits are; which NaN a sum of two of them is depends on their order, which is the compiler's."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return a.tobytes() == b.tobytes() or one_nan(a) == one_nan(b)


def one_nan(x: Any) -> bytes:
    return bytes(np.where(np.isnan(x.astype(np.float32)), x.dtype.type(np.nan), x).tobytes())


def differing(precision: str, seed: int, number: int) -> str | None:
    """Run a case; return what differs, if anything does."""
    z = Draw(precision, seed, number)
    kind = NAMES[z.rng.integers(len(NAMES))]
    with fastattn.float32_precision(z.products):
        case = kind(z)
        fastattn.set_num_threads(1)
        longest = int(max(case.lengths))
        whole = case.way(slice(0, case.batch), longest)
        fastattn.set_num_threads(int(z.rng.integers(2, 5)))
        threads = case.way(slice(0, case.batch), longest)
        if not all(map(same, whole, threads)):
            return f"{kind.__name__}: threads"
        first = int(z.rng.integers(case.batch))
        last = int(z.rng.integers(first, case.batch)) + 1
        parts = [slice(first, first + 1), slice(first, last)]
        for part in parts:
            padding = bool(z.rng.integers(2))
            alone = case.way(part, longest if padding else int(max(case.lengths[part])))
            for at, sample in enumerate(range(part.start, part.stop)):
                pairs = zip(case.own(whole, sample, sample), case.own(alone, at, sample), strict=True)
                for which, (x, y) in enumerate(pairs):
                    if not same(np.ascontiguousarray(x), np.ascontiguousarray(y)):
                        return f"{kind.__name__}: result {which} of sample {sample} of {case.batch}, as {part}"
    return None


def search(precision: str, cases: int, seed: int, first: int = 0) -> list[str]:
    """Return a line for each case that differs."""
    before = [getattr(linear, limit) for limit in LIMITS], fastattn.get_num_threads()
    for limit in LIMITS:
        setattr(linear, limit, 1)
    try:
        found = ((number, differing(precision, seed, number)) for number in range(first, first + cases))
        return [f"{precision}, case {number}: {what}" for number, what in found if what]
    finally:
        for limit, least in zip(LIMITS, before[0], strict=True):
            setattr(linear, limit, least)
        fastattn.set_num_threads(before[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=PRECISIONS, nargs="+", default=PRECISIONS)
    parser.add_argument("--cases", type=int, default=20000, help="of each precision")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="N", help="this case alone")
    given = parser.parse_args()
    total = 0
    for precision in given.precision:
        first, cases = (0, given.cases) if given.only is None else (given.only, 1)
        found = search(precision, cases, given.seed, first)
        print(*found, f"{precision}: {cases} cases, {len(found)} differ", sep="\n", flush=True)
        total += len(found)
    return min(total, 1)


if __name__ == "__main__":
    sys.exit(main())
