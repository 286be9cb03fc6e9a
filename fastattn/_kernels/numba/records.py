"""What calls are made of: records that are made once where their parts are known, as in the compiled module."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastattn._kernels.numba.checks import (
    FARTHEST,
    MOST,
    WIDEST,
    Array,
    Sizes,
    between,
    flat,
    floats,
    same,
    tensor,
)  # fmt: skip
from fastattn.errors import UnsupportedError, describe

__all__ = [
    "KEPT", "SCORES", "Chunks", "Features", "KernelFunctions", "KernelMask", "KernelNormalizer", "KernelScore", "Keys",
    "Options", "Sequences", "refused",
]  # fmt: skip

SCORES = {"dot": 0, "additive": 1, "l1": 2, "pairwise": 3}
KEPT: dict[str, int] = {}  # types of a memory's rows that calls read as they are kept: none
DOT, ADDITIVE, PAIRWISE = SCORES["dot"], SCORES["additive"], SCORES["pairwise"]


class KernelScore:
    """A score that kernels compute, a number of SCORES, with an activation and its vector; softcap 0 is none."""

    __slots__ = ("activation", "functions", "kernel", "softcap", "vector")

    def __init__(
        self,
        kernel: int,
        activation: int = 0,
        vector: Array | None = None,
        softcap: float = 0,
        functions: "KernelFunctions | None" = None,
    ) -> None:
        between("functions", "of another score", int(functions is not None), 0, int(kernel == PAIRWISE))
        self.functions = functions
        self.kernel = between("score", None, kernel, 0, len(SCORES) - 1)
        self.activation = between("activation", None, activation, 0, 2)
        self.vector = vector
        self.softcap = float(softcap)

    def read(self, dtype: "np.dtype[Any]", width: int) -> Array:
        """Return the vector of a score that has one, else an empty array."""
        return flat(self.vector, "vector", dtype, width) if self.kernel == ADDITIVE else np.empty(0, dtype)

    def alone(self) -> None:
        """Raise unless it is one for kernels of one query, without softcap and not of functions from outside."""
        same("score", "functions in steps", int(self.kernel == PAIRWISE), 0)
        between("softcap", None, int(self.softcap != 0), 0, 0)


def refused(what: str, expected: str) -> UnsupportedError:
    """Return the error of what only the compiled module does."""
    hint = "use the compiled module: pip install a wheel of this platform, or build fastattn from source."
    return UnsupportedError(describe(what, expected, "the backend numba", hint))


class KernelFunctions:
    """Functions from outside at addresses, one in each direction, as in the compiled module."""

    def __init__(
        self,
        dtype: Any,
        forward: int,
        backward: int,
        parameters: int,
        sizes: Iterable[int],
        owner: object,
        sloped: int = 0,
    ) -> None:
        self.dtype = None if dtype is None else floats(np.empty(0, dtype), "dtype")
        between("forward", None, int(forward != 0), 1, 1)
        self.forward, self.backward, self.parameters = forward, backward, parameters
        self.sizes = tuple(sizes)
        self.size = sum(self.sizes)
        between("sloped", "with gradients of parameters", int(sloped != 0 and self.size != 0), 0, 0)
        self.owner, self.sloped = owner, sloped

    def split(self, sums: Array) -> list[Array | None]:
        """Return the sums of each parameter, None of one without."""
        ends = np.cumsum(self.sizes)
        return [sums[end - size : end] if size else None for end, size in zip(ends, self.sizes)]

    def read(self, name: str, dtype: "np.dtype[Any]") -> tuple[int, int, int]:
        """Return the addresses of the functions and of their parameters, for scores of this type."""
        same(name, "functions of another type", int(self.dtype is not None and self.dtype != dtype), 0)
        return self.forward, self.backward, self.parameters


class KernelMask:
    """A mask function, and what it says of blocks of 64 queries and 64 keys, as in the compiled module."""

    def __init__(self, functions: KernelFunctions, blocks: Array) -> None:
        states = np.array(blocks, np.uint8, order="C")
        between("blocks", "axes", states.ndim, 4, 4)
        between("blocks", None, int(states.max(initial=0)), 0, 2)
        self.functions, self.blocks = functions, states

    def read(self, full: tuple[int, ...], dtype: "np.dtype[Any]") -> tuple[int, int, int, int, int]:
        """Return the addresses of the function and of its parameters, and the rows of blocks of a batch entry and of a
        head, and the columns, for scores (B, H, Tq, Tk)."""
        batch, heads, rows, columns = self.blocks.shape
        for name, size, own in (("batch entries", batch, full[0]), ("heads", heads, full[1])):
            if size != 1:
                same("blocks", name, size, own)
        same("blocks", "rows", rows, -(-full[2] // 64))
        same("blocks", "columns", columns, -(-full[3] // 64))
        forward, _, parameters = self.functions.read("mask", dtype)
        return forward, parameters, rows * heads if batch != 1 else 0, rows if heads != 1 else 0, columns


class KernelNormalizer:
    """What makes weights of a row in place of softmax: alpha-entmax, with alpha (float64) of all heads or of each; or
    functions at addresses, which `owner` keeps alive."""

    __slots__ = ("alpha", "buffers", "functions", "gradient", "owner", "weights")

    def __init__(
        self,
        alpha: Array | None = None,
        weights: int = 0,
        gradient: int = 0,
        owner: object = None,
        functions: KernelFunctions | None = None,
        buffers: int = 0,
    ) -> None:
        if functions is not None:
            raise refused("normalizer", "one that is not a function of rows")
        self.functions, self.buffers = functions, buffers
        same("weights", "functions without a gradient", weights != 0, gradient != 0)
        same("alpha", "ways to make weights beside functions", (alpha is not None) + (weights != 0), 1)
        self.alpha, self.weights, self.gradient, self.owner = alpha, weights, gradient, owner

    def read(self, heads: int) -> Array:
        """Return alpha of each head; empty for functions."""
        if self.alpha is None:
            return np.empty(0)
        return np.broadcast_to(
            flat(self.alpha, "alpha", np.dtype(np.float64), heads if self.alpha.ndim else 1), (heads,)
        ).copy()


class Options:
    """What pairs of a query and a key are scored at all, and what is added to and taken from their scores."""

    __slots__ = (
        "allow", "bias", "causal", "drop_below", "keep_scale", "key_lengths", "left", "mask", "modifier", "right",
        "seeds",
    )  # fmt: skip

    def __init__(
        self,
        mask: Array | None = None,
        bias: Array | None = None,
        key_lengths: Array | None = None,
        causal: int = 0,
        left: int = -1,
        right: int = -1,
        seeds: Array | None = None,
        drop_below: int = 0,
        keep_scale: float = 1,
        modifier: KernelFunctions | None = None,
        allow: KernelMask | None = None,
    ) -> None:
        self.modifier, self.allow = modifier, allow
        self.mask, self.bias, self.key_lengths, self.seeds = mask, bias, key_lengths, seeds
        self.causal = between("causal", None, causal, 0, 2)
        self.left = between("left", None, left, -1, FARTHEST)
        self.right = between("right", None, right, -1, FARTHEST)
        self.drop_below = between("drop_below", None, drop_below, 0, 2**32 - 1)
        self.keep_scale = float(keep_scale)

    def replace(self, bias: Array | None, key_lengths: Array | None) -> "Options":
        """Return the same with this bias and these lengths."""
        return Options(
            self.mask, bias, key_lengths, self.causal, self.left, self.right, self.seeds, self.drop_below,
            self.keep_scale, self.modifier, self.allow,
        )  # fmt: skip

    @property
    def only_lengths(self) -> bool:
        """Whether nothing but key lengths sets one query of a sample apart from another."""
        given = (self.mask, self.bias, self.seeds, self.modifier, self.allow)
        return all(x is None for x in given) and self.causal == 0 and self.left < 0 and self.right < 0


class Keys:
    """Keys (..., T, D) and values (..., T, Dv) of a memory, of any strides, of which the first `positions` are there;
    packed, selected by rows or by a table as in the compiled module."""

    __slots__ = ("key", "panels", "positions", "rows", "table", "value")

    def __init__(
        self,
        key: Array,
        value: Array,
        panels: Array | None = None,
        rows: Array | None = None,
        table: Array | None = None,
        positions: int | None = None,
        kept: int = 0,
    ) -> None:
        between("kept", None, kept, 0, 0)
        self.key, self.value, self.panels, self.rows, self.table = key, value, panels, rows, table
        self.positions = -1 if positions is None else between("positions", None, positions, 0, MOST)

    def read(self, dtype: "np.dtype[Any]", least: int, most: int, batch: int, width: int) -> tuple[Sizes, Sizes, int]:
        """Return the sizes of keys, with T that of positions, and of values, and how many entries there are."""
        k = tensor(self.key, "key", dtype, least, most)
        v = tensor(self.value, "value", dtype, least, most)
        between("query", "features", width, 0, WIDEST)
        between("value", "features", v.D, 0, WIDEST)
        same("key", "features", k.D, width)
        positions = k.T if self.positions < 0 else self.positions
        between("key", "positions", k.T, positions, MOST)
        between("value", "positions", v.T, positions, MOST)
        entries = min(k.B, v.B)
        if self.rows is not None:
            flat(self.rows, "rows", np.dtype(np.int64), batch)
        elif self.table is None:
            between("key and value", "batch entries", entries, batch, MOST)
        return k._replace(T=positions), v, entries


class Features:
    """What earlier weights add to an additive score: history (B, T, S), weights (C, D), filters (C, K) or None."""

    __slots__ = ("filters", "history", "weights")

    def __init__(self, history: Array, weights: Array, filters: Array | None = None) -> None:
        self.history, self.weights, self.filters = history, weights, filters


class Chunks:
    """The second energies of monotonic attention, over chunks of `width` keys."""

    __slots__ = ("keys", "query", "score", "width")

    def __init__(self, width: int, query: Array, keys: Keys, score: KernelScore) -> None:
        self.width = between("width", None, width, 1, WIDEST)
        self.query, self.keys, self.score = query, keys, score


class Sequences:
    """A batch of sequences for a recurrent layer: sizes, and for unequal lengths (lengths, starts, order), each (B,)
    int64, without which every sample has all `steps` positions."""

    __slots__ = ("batch", "lengths", "order", "starts", "steps")

    def __init__(
        self,
        batch: int,
        steps: int,
        lengths: Array | None = None,
        starts: Array | None = None,
        order: Array | None = None,
    ) -> None:
        self.batch = between("batch", None, batch, 0, MOST)
        self.steps = between("steps", None, steps, 0, MOST)
        self.lengths, self.starts, self.order = lengths, starts, order
