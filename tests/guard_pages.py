"""Attention on arrays that touch an unreadable page: a script, because a stray read ends the process.

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


def run(family, dtype, edge):
    arenas = [Arena(40) for _ in range(8)]
    rng = np.random.default_rng(0)
    for sizes, with_options in itertools.product(problems(), (False, True)):
        print(sizes, "with options" if with_options else "", flush=True)
        tq, tk, d, dv = sizes.values()
        shapes = [(2, tq, d), (2, tk, d), (2, tk, dv), (2, tq, dv), (2, tq, dv), (d,)]
        arrays = [arena.place(rng.standard_normal(s).astype(dtype), edge) for arena, s in zip(arenas, shapes)]
        query, key, value, d_context, out, v = arrays
        score = "dot" if family == "dot" else fastattn.scores.Additive(v)
        rest = {"return_weights": True, "return_lse": True}
        if with_options:
            rest["mask"] = arenas[6].place(rng.random((2, tq, tk)) < 0.8, edge)
            rest["bias"] = arenas[7].place(rng.standard_normal((2, tq, tk)).astype(dtype), edge)
            rest.update(dropout=0.2, seed=1, causal="bottom_right")
        result, backward = fastattn.attention_vjp(query, key, value, score=score, out=out, **rest)
        gradients = backward(d_context)
        assert np.isfinite(result.context).all() and np.isfinite(gradients.query).all()


def planted():
    """Reads one byte too many, so that a test can see this script catch it."""
    x = Arena(1).place(np.zeros(3, np.uint8), "end")
    ctypes.string_at(x.ctypes.data, 4)


if __name__ == "__main__":
    faulthandler.enable()
    if sys.argv[1] == "planted":
        planted()
    else:
        run(*sys.argv[1:])
        print("done")
