"""Kernels on arrays that touch an unreadable page: a script, as a stray read ends it.

Run as `guard_pages.py FAMILY DTYPE EDGE`; EDGE says whether arrays end ("end") or start ("start") at the page. The last
line printed names the sizes that were being tried.
"""

import ctypes
import faulthandler
import itertools
import mmap
import sys

import numpy as np

import fastattn
from fastattn import linear
from fastattn._kernels import core

PAGE = mmap.PAGESIZE
PROT_NONE = 0
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Arena:
    """One mapping with an unreadable page at either end, filled anew for each array."""

    def __init__(self, pages):
        self.map = mmap.mmap(-1, (pages + 2) * PAGE)
        self.size = pages * PAGE
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        for page in (start, start + PAGE + self.size):
            if LIBC.mprotect(page, PAGE, PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")

    def place(self, x, edge):
        """A copy of x whose last, or first, byte is next to an unreadable page."""
        offset = PAGE + (self.size - x.nbytes if edge == "end" else 0)
        y = np.ndarray(x.shape, x.dtype, buffer=self.map, offset=offset)
        y[...] = x
        return y


def problems():
    """Sizes 1 to 64 of one dimension, the others small and awkward; then all of 1..9 at once."""
    small = {"tq": 3, "tk": 5, "d": 3, "dv": 2}
    for name in small:
        for size in range(1, 65):
            yield {**small, name: size}
    for size in range(1, 10):
        yield dict.fromkeys(small, size)
    yield {"tq": 7, "tk": 577, "d": 5, "dv": 3}


@fastattn.pairwise_score
def distance(q, k, w):
    return -w * abs(q - k)


def run(family, dtype, edge):
    arenas = [Arena(40) for _ in range(8)]
    rng = np.random.default_rng(0)
    for sizes, with_options in itertools.product(problems(), (False, True)):
        print(sizes, "with options" if with_options else "", flush=True)
        tq, tk, d, dv = sizes.values()
        shapes = [(2, tq, d), (2, tk, d), (2, tk, dv), (2, tq, dv), (2, tq, dv), (d,)]
        arrays = [arena.place(rng.standard_normal(s).astype(dtype), edge) for arena, s in zip(arenas, shapes)]
        query, key, value, d_context, out, v = arrays
        made = {"additive": lambda v: fastattn.scores.Additive(v), "pairwise": lambda v: distance(w=v)}
        score = made[family](v) if family in made else family
        rest = {"return_weights": True, "return_lse": True}
        if with_options:
            rest["mask"] = arenas[6].place(rng.random((2, tq, tk)) < 0.8, edge)
            rest["bias"] = arenas[7].place(rng.standard_normal((2, tq, tk)).astype(dtype), edge)
            rest.update(dropout=0.2, seed=1, causal="bottom_right")
        result, backward = fastattn.attention_vjp(query, key, value, score=score, out=out, **rest)
        gradients = backward(d_context)
        assert np.isfinite(result.context).all() and np.isfinite(gradients.query).all()
        del rest["return_lse"]
        normalizer = fastattn.normalizers.Entmax((2.0, 1.5, 1.25)[tq % 3])
        _, backward = fastattn.attention_vjp(query, key, value, score=score, out=out, normalizer=normalizer, **rest)
        assert np.isfinite(backward(d_context).query).all()


def run_kept(dtype, edge):
    """Rows of narrower types: sizes 1 to 70 of keys and values, for one query and for several; dtype names it."""
    arenas = [Arena(40) for _ in range(2)]
    rng, more = np.random.default_rng(0), 4 * (dtype == "int8")
    kind = np.int8 if more else np.uint16
    for d, dv, tq in [*((d, 3, 1) for d in range(1, 71)), *((3, dv, 9) for dv in range(1, 71)), (5, 2, 1)]:
        print(d, dv, tq, flush=True)
        rows = [np.zeros((2, 1, 7 if d != 5 else 577, width + more), kind) for width in (d, dv)]
        key, value = (arena.place(x, edge) for arena, x in zip(arenas, rows))
        query, context = rng.standard_normal((2, 1, tq, d)).astype("f4"), np.ones((2, 1, tq, dv), "f4")
        for table in (None, np.ones((key.shape[2], 2), np.int64)):
            keys = core.Keys(key, value, table=table, kept=core.KEPT[dtype])
            core.Call(query, keys, core.KernelScore(0), 1.0, core.Options()).forward(context, None, None, None, None)
            assert not context.any()


def run_training(dtype, edge):
    """Every size of a row from 1 to 70 for the kernels that layers and optimizers are made of."""
    arenas = [Arena(16) for _ in range(6)]
    rng = np.random.default_rng(0)
    for width, rows in itertools.product(range(1, 71), (1, 5)):
        print("width", width, "rows", rows, flush=True)
        place = (arena.place for arena in itertools.cycle(arenas))

        def draw(*shape, place=place):
            return next(place)(rng.standard_normal(shape).astype(dtype), edge)

        def ints(high, *shape, place=place):
            return next(place)(rng.integers(0, high, shape), edge)

        x, bias, targets, losses = draw(rows, width), draw(width), ints(width, rows), draw(rows).astype(np.float64)
        core.log_softmax(x, bias, draw(rows, width), rows, width)
        core.cross_entropy(x, bias, targets, 0.1, True, losses)
        x, dw, db = draw(rows, width), draw(width, rows), draw(rows)
        core.gemm_tn(x, draw(rows, rows), dw, db, True)
        core.gemm_tn(draw(rows, 3), draw(rows, width), draw(3, width), draw(width), True)
        x, gain, mean, inverse, dx = draw(rows, width), draw(width), draw(rows), draw(rows), draw(rows, width)
        core.layer_norm(x, gain, gain, 1e-5, dx, mean, inverse)
        core.layer_norm_backward(x, gain, mean, inverse, draw(rows, width), np.empty_like(x), gain.copy(), gain.copy())
        value, gradient, m, v = (draw(width) for _ in range(4))
        v[...] = 1
        core.adam(value, gradient, m, v, 1.0, 0.9, 0.9, 0.1, 1.0, 1e-8, 1.0)
        assert core.square_sum(draw(width), 0.0) > 0
        core.add_scaled(draw(width), 2.0, draw(width))
        table, ids = draw(7, width), ints(7, rows)
        core.gather(table, ids, draw(rows, width))
        core.scatter(draw(rows, width), ids, -1, table)
        table = draw(width, 7)
        core.gather(table, ids, draw(rows, width), columns=True)
        core.scatter(draw(rows, width), ids, -1, table, columns=True)
        core.dropout(draw(rows, width), np.arange(rows, dtype=np.uint64), 2**31, 2.0, draw(rows, width))
        x, y, dy, dx = (draw(rows, width) for _ in range(4))
        d_alpha = ints(1, rows).view(np.float64)
        for alpha in (1.25, 1.5, 2.0):
            core.entmax(x, None, y, alpha, rows, width)
            core.entmax_backward(y, dy, dx, d_alpha, alpha, rows, width)
        y, dx, norms = draw(rows, width), draw(rows, width), draw(rows, 2)
        core.softmax(draw(rows, width), ints(2, rows, width).astype(bool), y, rows, width)
        core.softmax_backward(y, draw(rows, width), dx, rows, width)
        core.normalize(draw(rows, width), y, norms, rows, width)
        core.normalize_backward(y, norms, draw(rows, width), dx, rows, width)
        for function in range(3):
            core.map_array(function, draw(width), draw(width))


def run_steps(dtype, edge):
    """Attention of steps over features of earlier weights and over windows: sizes 1 to 40 of one dimension."""
    arenas = [Arena(16) for _ in range(24)]
    rng = np.random.default_rng(0)
    small = {"s": 4, "d": 3, "dv": 2, "c": 2, "k": 3}
    sizes = [{**small, name: size} for name in small for size in range(1, 41) if name != "k" or size % 2]
    kernels = [kernel for name, kernel in core.SCORES.items() if name != "pairwise"]  # which steps do not take
    for size, kernel, filtered in itertools.product(sizes, kernels, (True, False)):
        additive = kernel == core.SCORES["additive"]
        print(size, kernel, filtered, flush=True)
        s, d, dv, c, k = size.values()
        c, place = c if filtered else 1, (arena.place for arena in arenas)

        def draw(*shape, place=place):
            return next(place)(rng.random(shape).astype(dtype), edge)

        def ints(*values, place=place):
            return next(place)(np.array([[value] for value in values], np.int64), edge)

        query, key, value, d_context = draw(2, 1, d), draw(2, s, d), draw(2, s, dv), draw(2, 1, dv)
        mask = next(place)(rng.random((2, s)) < 0.8, edge)
        first, last = ints(0, min(1, s)), ints(s, s)
        vector = history = filters = weights = d_history = d_vector = d_weights = d_filters = factor = d_factor = None
        if additive:
            vector, d_vector, history, d_history = draw(d), draw(2, d), draw(2, 1, s), draw(2, 1, s)
            weights, d_weights = draw(c, d), draw(2, c, d)
            if filtered:
                filters, d_filters = draw(c, k), draw(2, c, k)
        else:
            factor, d_factor = draw(2, 1, s), draw(2, 1, s)
        features = core.Features(history, weights, filters) if additive else None
        keys, score = core.Keys(key, value), core.KernelScore(kernel, 0, vector)
        call = core.Steps(query, keys, score, 0.5, first, last, mask, filtered, features, factor)
        context, made, normalized, total = draw(2, 1, dv), draw(2, 1, s), draw(2, 1, s), draw(2, 1)
        call.forward(context, made, made if factor is None else normalized, total)
        d_query, d_key = draw(2, 1, d), draw(2, s, d)
        call.backward(d_context, draw(2, 1, s), d_query, d_history, d_factor, d_key, d_vector, d_weights, d_filters)
        assert np.isfinite(context).all() and np.isfinite(d_query).all() and np.isfinite(d_key).all()


def run_monotonic(dtype, edge):
    """Monotonic steps, with chunks of 0 to 40 positions and without: sizes 1 to 40 of one dimension, soft and hard."""
    arenas = [Arena(16) for _ in range(32)]
    rng = np.random.default_rng(0)
    small = {"s": 4, "d": 3, "dv": 2, "w": 3}
    for size in [{**small, name: size} for name in small for size in range(41) if size or name == "w"]:
        print(size, flush=True)
        (s, d, dv, w), place = size.values(), (arena.place for arena in arenas)

        def draw(*shape, place=place):
            return next(place)(rng.random(shape).astype(dtype), edge)

        query, key, vector, offset, value = draw(2, d), draw(2, s, d), draw(d), draw(1), draw(2, s, dv)
        mask = next(place)(rng.random((2, s)) < 0.8, edge)
        lengths, begin, found = (next(place)(np.array(x, np.int64), edge) for x in ((s, s), (0, s // 2), (0, 0)))
        seeds, previous = next(place)(np.array([1, 2], np.uint64), edge), draw(2, s)
        context, weights, alignment, energy, chunk_energy = draw(2, dv), *(draw(2, s) for _ in range(4))

        def packed(keys, score, value=value, s=s, draw=draw):
            panels = draw(2, 1, core.panel_elements(keys[:, None], 1, s))
            core.pack_keys(keys[:, None], score, 0, s, panels)
            return core.Keys(keys, value, panels)

        score, chunks = core.KernelScore(1, 0, vector), None
        if w:
            second = core.KernelScore(1, 0, draw(d))
            chunks = core.Chunks(w, draw(2, d), packed(draw(2, s, d), second), second)
        rest = score, offset, lengths, mask, chunks
        hard = core.Monotonic(query, core.Keys(key, value), *rest, start=begin)
        hard.forward(context, weights, None, None, None, found)
        soft = core.Monotonic(query, packed(key, score), *rest, previous=previous, seeds=seeds, step=3, noise=1.0)
        soft.forward(context, weights, alignment, energy, chunk_energy, None)
        d_query, d_key, d_vector, d_offset, d_previous = draw(2, d), draw(2, s, d), draw(2, d), draw(2, 1), draw(2, s)
        d_second = (draw(2, d), draw(2, s, d), draw(2, d)) if w else (None, None, None)
        soft.backward(
            context, weights, previous, d_query, d_second[0], d_previous, d_key, d_vector, d_offset, *d_second[1:]
        )
        assert np.isfinite(context).all() and np.isfinite(d_previous).all() and np.isfinite(d_key).all()


def run_recurrent(dtype, edge):
    """Every width of a state from 1 to 40, then panels of all widths again; alone, and 7 sequences of unequal lengths.

    Cells are those of `core.Recurrent`: GRU with reset after and before, and LSTM.
    """
    arenas = [Arena(160) for _ in range(20)]
    rng = np.random.default_rng(0)
    lengths = np.array([3, 3, 2, 1, 1, 1, 0])
    ragged = lengths, np.cumsum(lengths) - lengths, rng.permutation(7)
    for hidden, cell, sequences in itertools.product((*range(1, 41), 64, 65, 70), range(3), (None, ragged)):
        print("hidden", hidden, "cell", cell, "ragged" if sequences else "one", flush=True)
        place = (arena.place for arena in arenas)

        def keep(x, place=place):
            return next(place)(x, edge)

        def draw(*shape, keep=keep):
            return keep(rng.standard_normal(shape).astype(dtype))

        batch, steps, rows = (7, 3, int(lengths.sum())) if sequences else (1, 2, 2)
        inputs, gates, lstm = 1 + hidden % 5, 4 if cell == 2 else 3, cell == 2
        batched = core.Sequences(batch, steps, *(keep(part.astype(np.int64)) for part in sequences or ()))
        w = rng.standard_normal((hidden, gates, hidden)).astype(dtype)
        panel = core.panel_width(w)
        apart = np.zeros((hidden, gates, -(-hidden // panel) * panel), dtype)
        apart[:, :, :hidden] = w
        w_hidden = keep(linear.PackedWeights(apart.reshape(hidden, -1)).panels)
        back = keep(linear.PackedWeights(w.reshape(hidden, -1)).panels_transposed())
        w_input = keep(linear.PackedWeights(rng.standard_normal((inputs, gates * hidden)).astype(dtype)).panels)
        kernel = core.Recurrent(
            cell, hidden, w_input, w_hidden, draw(gates * hidden), None if lstm else draw(gates * hidden)
        )
        c, c_last = (draw(batch, hidden), draw(batch, hidden)) if lstm else (None, None)
        work, aux, before = draw(rows, gates * hidden), draw(rows, hidden), draw(rows, hidden)
        y, h_last = draw(batch, steps, hidden), draw(batch, hidden)
        h = draw(batch, hidden)
        inside = draw(batch, hidden) if cell == 0 else None
        kernel.forward(draw(rows, inputs), batched, True, (h, c), (h_last, c_last), work, (aux, before), y, inside)
        assert np.isfinite(h_last).all() and np.isfinite(work).all()
        dh, dc = draw(batch, hidden), draw(batch, hidden) if lstm else None
        kernel.backward(back, batched, True, y, (h_last, c_last), (dh, dc), work, (aux, before), c)
        assert np.isfinite(dh).all() and np.isfinite(work).all()


def planted():
    """Reads one byte too many, so that a test can see this script catch it."""
    x = Arena(1).place(np.zeros(3, np.uint8), "end")
    ctypes.string_at(x.ctypes.data, 4)


if __name__ == "__main__":
    faulthandler.enable()
    if sys.argv[1] == "planted":
        planted()
    else:
        others = {"training": run_training, "recurrent": run_recurrent, "steps": run_steps,
                  "monotonic": run_monotonic, "kept": run_kept}  # fmt: skip
        others[sys.argv[1]](*sys.argv[2:]) if sys.argv[1] in others else run(*sys.argv[1:])
        print("done")
