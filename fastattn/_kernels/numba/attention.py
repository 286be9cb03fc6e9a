"""Attention: a call forward and backward, packed keys."""

from typing import Any

import numpy as np

from fastattn._kernels.numba.attention_backward import attention_backward, backward_space
from fastattn._kernels.numba.attention_forward import attention_forward, forward_space
from fastattn._kernels.numba.blocks import calls as calling
from fastattn._kernels.numba.blocks import scores
from fastattn._kernels.numba.blocks.compiled import kernel
from fastattn._kernels.numba.blocks.lanes import LANES
from fastattn._kernels.numba.blocks.rows import Problem
from fastattn._kernels.numba.blocks.tile import PANEL
from fastattn._kernels.numba.checks import (
    MOST,
    WIDEST,
    Array,
    Sizes,
    between,
    broadcasts,
    flat,
    floats,
    inside,
    maybe,
    same,
    tensor,
)  # fmt: skip
from fastattn._kernels.numba.memory import aligned_empty
from fastattn._kernels.numba.records import (
    ADDITIVE,
    DOT,
    PAIRWISE,
    SCORES,
    KernelNormalizer,
    KernelScore,
    Keys,
    Options,
    refused,
)  # fmt: skip
from fastattn._kernels.numba.sparse import least_weight, sparse_backward, sparse_forward, sparse_space
from fastattn._kernels.numba.threads import get_num_threads, in_parts

__all__ = ["Call", "pack_keys", "panel_elements", "panel_width", "tiles", "xla_handlers"]

_INT64, _UINT64, _BOOL = np.dtype(np.int64), np.dtype(np.uint64), np.dtype(np.bool_)


def tiles() -> bool:
    """Whether there is a matrix unit: none."""
    return False


class Call:
    """One attention problem: its sizes, and the arrays that kernels read."""

    def __init__(
        self,
        query: Array,
        keys: Keys,
        score: KernelScore,
        scale: float,
        options: Options,
        normalizer: KernelNormalizer | None = None,
    ) -> None:
        self.dtype = dtype = floats(query, "query")
        q = tensor(query, "query", dtype, 2, 4)
        self.axes = n = query.ndim
        k, v, self.entries = keys.read(dtype, 2, 4, q.B, q.D)
        self.Hk = k.H if n == 4 else 1
        same("key", "heads", k.H, self.Hk)
        same("value", "heads", v.H, self.Hk)
        same("query", "heads beyond a multiple of those of key", q.H % self.Hk if self.Hk else q.H, 0)
        self.full = full = (q.B, q.H, q.T, k.T)
        self.mask = self.bias = None
        if options.mask is not None:
            self.mask = broadcasts(options.mask, "mask", _BOOL, n, full).view(np.uint8)
        if options.bias is not None:
            self.bias = broadcasts(options.bias, "bias", dtype, n, full)
        self.lengths = maybe(options.key_lengths, "key_lengths", _INT64, q.B)
        self.seeds = maybe(options.seeds, "seeds", _UINT64, q.B)
        self.rows = np.empty(0, np.int64) if keys.rows is None else flat(keys.rows, "rows", _INT64, q.B)
        self.table = maybe(keys.table, "table", _INT64, k.T * q.B)
        self.vector = score.read(dtype, q.D)
        self.packed = np.empty(0, dtype)
        elements = 0
        if keys.panels is not None:
            p = tensor(keys.panels, "panels", dtype, 3, 3)  # (entries, Hk, elements)
            between("panels", "batch entries", p.B, self.entries, MOST)
            between("panels", "heads", p.T, self.Hk, MOST)
            between("panels", "elements", p.D, _elements(score.kernel, k.T, q.D, dtype), MOST)
            if p.T == self.Hk:
                self.packed, elements = np.ascontiguousarray(keys.panels).reshape(-1), p.D
        if keys.table is not None:
            same(
                "table", "other arrays that say where keys are",
                (keys.panels is not None) + (keys.rows is not None), 0,
            )  # fmt: skip
        self.normalizer = normalizer
        self.alpha = np.empty(0)
        if normalizer is not None:
            between("keys", "for sparse weights", k.T, 0, 2**31 - 1)
            same("table", "arrays with sparse weights", int(keys.table is not None), 0)
            self.alpha = normalizer.read(q.H)
            if normalizer.weights:
                raise refused("normalizer", "alpha-entmax or softmax")
        self.calls, self.blocks = self._functions(score, options)
        self.pairs = score.functions
        self.options, self.scale, self.softcap, self.Dv = options, float(scale), score.softcap, v.D
        self.query = np.ascontiguousarray(query).reshape(-1)
        key, value = np.ascontiguousarray(keys.key), np.ascontiguousarray(keys.value)
        self.key, self.value = key.reshape(-1), value.reshape(-1)
        self.problem = Problem(
            B=q.B, H=q.H, Hk=self.Hk, Tq=q.T, Tk=k.T, D=q.D, Dv=v.D, score=score.kernel, activation=score.activation,
            causal=options.causal, left=options.left, right=options.right, drop_below=options.drop_below,
            key_rows=key.shape[-2], value_rows=value.shape[-2], panel_elements=elements,
            lanes=LANES[dtype.char], panel=_panel(score.kernel, dtype), masked=int(self.mask is not None),
            biased=int(self.bias is not None), sized=int(options.key_lengths is not None),
            dropped=int(options.seeds is not None), selected=int(keys.rows is not None),
            scattered=int(keys.table is not None),
        )  # fmt: skip

    def _functions(self, score: KernelScore, options: Options) -> tuple[Array, Array]:
        """Return what kernels need to know of functions of users, and the states of a mask's blocks."""
        same("score", "objects without functions", int(score.kernel == PAIRWISE and score.functions is None), 0)
        blocks = np.empty(0, np.uint8)
        if score.functions is None and options.modifier is None and options.allow is None:
            return np.empty(0, np.int64), blocks
        calls = np.zeros(calling.NUMBERS, np.int64)
        if self.normalizer is not None and (options.modifier is not None or score.functions is not None):
            raise refused("normalizer", "softmax for scores that are functions of yours")
        if options.modifier is not None:
            calls[calling.MODIFY : calling.PAIRS] = options.modifier.read("modifier", self.dtype)
            calls[calling.SUMS] = len(options.modifier.sizes)
            calls[calling.MODIFY_SLOPED] = options.modifier.sloped
        if score.functions is not None:
            calls[calling.PAIRS : calling.ALLOW] = score.functions.read("score", self.dtype)
        if options.allow is not None:
            calls[calling.ALLOW : calling.SUMS] = options.allow.read(self.full, self.dtype)
            blocks = options.allow.blocks.reshape(-1)
        return (calls, blocks) if calls.any() else (np.empty(0, np.int64), blocks)

    def _numbers(self) -> None:
        """Check the numbers that kernels index by, which may have changed since the call was made."""
        inside("key_lengths", self.lengths, 0, self.problem.Tk)
        inside("rows", self.rows, 0, self.entries - 1)
        inside("table", self.table, 0, self.entries - 1)

    def _output(self, array: Any, name: str, write: bool) -> Sizes:
        """Check an array of context's sizes."""
        s, p = tensor(array, name, self.dtype, self.axes, self.axes, write), self.problem
        same(name, "batch entries", s.B, p.B)
        same(name, "heads", s.H, p.H)
        same(name, "queries", s.T, p.Tq)
        same(name, "features", s.D, p.Dv)
        return s

    def _rows(self, array: Any, name: str, width: int, write: bool) -> Array:
        """Return an array of `width` numbers for each row of the call, empty for None."""
        p = self.problem
        return maybe(array, name, self.dtype, p.B * p.H * p.Tq * width, write)

    def _pairs(self) -> tuple[Any, ...]:
        """The arrays of a call as kernels take them, from scale to the packed keys."""
        real = self.dtype.type
        mask = np.empty((0, 0, 0, 0), np.uint8) if self.mask is None else self.mask
        bias = np.empty((0, 0, 0, 0), self.dtype) if self.bias is None else self.bias
        return (
            real(self.scale), self.softcap, real(self.options.keep_scale), self.query, self.key, self.value,
            self.vector, mask, bias, self.lengths, self.seeds, self.rows, self.table, self.packed, self.calls,
            self.blocks,
        )  # fmt: skip

    def forward(
        self,
        context: Array,
        weights: Array | None,
        lse: Array | None,
        row_max: Array | None,
        row_sum: Array | None,
    ) -> None:
        """Write the context, and whatever else is not None."""
        self._numbers()
        self._output(context, "context", True)
        p = self.problem
        outputs = (
            self._rows(weights, "weights", p.Tk, True), self._rows(lse, "lse", 1, True),
            self._rows(row_max, "row_max", 1, True), self._rows(row_sum, "row_sum", 1, True),
        )  # fmt: skip
        if not p.Hk or not p.B * p.H * p.Tq:
            return
        whole = context if context.flags.c_contiguous else np.empty(context.shape, self.dtype)
        if self.normalizer is not None:
            self._sparse_forward(whole.reshape(-1), outputs[0])
            if whole is not context:
                context[...] = whole
            return
        given, compiled = self._pairs(), attention_forward[self.dtype]
        space = forward_space(p)
        heads, tiles = p.B * p.Hk, -(-p.H // p.Hk * p.Tq // 6)
        pieces = 1 if heads >= get_num_threads() else max(1, min(get_num_threads(), tiles))

        def work(first: int, last: int) -> None:
            mine = aligned_empty((space,), self.dtype)
            compiled(p, *given, whole.reshape(-1), *outputs, mine, mine, pieces, first, last)

        in_parts(work, heads * pieces, float(p.B * p.H * p.Tq) * p.Tk * (p.D + p.Dv))
        if whole is not context:
            context[...] = whole

    def _sparse_forward(self, context: Array, weights: Array) -> None:
        p, given, compiled = self.problem, self._pairs(), sparse_forward[self.dtype]
        space, least = sparse_space(p), least_weight(self.dtype)

        def work(first: int, last: int) -> None:
            mine, found, weight = np.empty(space, self.dtype), np.empty(p.Tk), np.empty(p.Tk)
            compiled(p, *given, self.alpha, least, context, weights, mine, mine, found, weight, first, last)

        in_parts(work, p.B * p.Hk, float(p.B * p.H * p.Tq) * p.Tk * (p.D + p.Dv))

    def backward(
        self,
        context: Array,
        weights: Array | None,
        row_max: Array,
        row_sum: Array,
        d_context: Array,
        d_weights: Array | None,
        d_lse: Array | None,
        d_query: Array,
        d_key: Array,
        d_value: Array,
        d_bias: Array | None,
        d_vector: Array | None,
        d_parameters: Array | None,
        value: Array | None = None,
    ) -> bool:
        """Write all gradients, and return whether they are finite; context, row_max and row_sum are those that forward
        wrote, and value, if it is not None, is read in place of the call's."""
        p, of_values = self._values(value)
        dtype, rows = self.dtype, p.B * p.H * p.Tq
        outputs, total, sums, wide = self._gradients(d_context, d_query, d_key, d_value, d_bias, d_vector)
        same("normalizer", "objects", int(self.normalizer is not None), 0)
        context = np.ascontiguousarray(context)
        given = (
            flat(context, "context", dtype, rows * p.Dv), self._rows(weights, "weights", p.Tk, False),
            flat(row_max, "row_max", dtype, rows), flat(row_sum, "row_sum", dtype, rows),
            np.ascontiguousarray(d_context).reshape(-1), self._rows(d_weights, "d_weights", p.Tk, False),
            self._rows(d_lse, "d_lse", 1, False),
        )  # fmt: skip
        same("d_weights", "arrays without weights", int(d_weights is not None and weights is None), 0)
        if not p.Hk or not rows:
            for array in (*outputs, total):
                array[...] = 0
            return True
        tasks = p.B * p.Hk
        of_heads, finite = np.zeros((tasks, p.D)), np.zeros(tasks, np.uint8)
        pairs = list(self._pairs())
        pairs[5] = of_values
        compiled, space = attention_backward[dtype], backward_space(p, self.softcap)
        whole, of_tasks, pointers = self._sums(d_parameters, tasks)

        def work(first: int, last: int) -> None:
            mine = aligned_empty((space,), dtype)
            compiled(p, *pairs, *given, *outputs, wide, of_heads.reshape(-1), pointers, finite, mine, mine, first, last)

        operations = 2.5 * p.B * p.H * p.Tq * p.Tk * (p.D + p.Dv)
        if d_bias is not None and d_bias.size < wide.size:
            work(0, tasks)  # pairs that share a bias are added in one order
        else:
            in_parts(work, tasks, operations)
        good = self._finish(d_bias, sums, of_heads, total, finite)
        if whole.size:
            whole[...] = _in_order(of_tasks)
            good = good and bool(np.isfinite(whole).all())
        return good

    def sparse_backward(
        self,
        d_context: Array,
        d_weights: Array | None,
        d_query: Array,
        d_key: Array,
        d_value: Array,
        d_bias: Array | None,
        d_vector: Array | None,
        d_parameters: Array | None,
        d_alpha: Array | None,
        value: Array | None = None,
    ) -> bool:
        """Write the same for a call with a normalizer; d_alpha (B, H, Tq), float64, is what each row adds."""
        p, of_values = self._values(value)
        outputs, total, sums, wide = self._gradients(d_context, d_query, d_key, d_value, d_bias, d_vector)
        same("normalizer", "objects", int(self.normalizer is not None), 1)
        rows = p.B * p.H * p.Tq
        of_weights = self._rows(d_weights, "d_weights", p.Tk, False)
        of_alpha = maybe(d_alpha, "d_alpha", np.dtype(np.float64), rows, True)
        for array in (*outputs, of_alpha, total):
            array[...] = 0
        if not p.Hk or not rows:
            return True
        tasks = p.B * p.Hk
        of_heads, finite = np.zeros((tasks, p.D)), np.zeros(tasks, np.uint8)
        pairs = list(self._pairs())
        pairs[5] = of_values
        mine, found, weight = np.empty(sparse_space(p), self.dtype), np.empty(p.Tk), np.empty(p.Tk)
        sparse_backward[self.dtype](
            p, *pairs, self.alpha, least_weight(self.dtype), np.ascontiguousarray(d_context).reshape(-1), of_weights,
            *outputs, wide, of_heads.reshape(-1), of_alpha, finite, mine, mine, found, weight, 0, tasks,
        )  # fmt: skip
        return self._finish(d_bias, sums, of_heads, total, finite)

    def _gradients(
        self, d_context: Array, d_query: Array, d_key: Array, d_value: Array, d_bias: Array | None, d_vector: Any
    ) -> tuple[tuple[Array, Array, Array], Array, Any, Array]:
        """Return the arrays of gradients, flat, that of the vector, sums for the bias, and these with four axes."""
        p, dtype = self.problem, self.dtype
        self._numbers()
        same("rows", "arrays in the backward pass", int(bool(p.selected or p.scattered)), 0)
        self._output(d_context, "d_context", False)
        outputs = (
            self._rows(d_query, "d_query", p.D, True),
            flat(d_key, "d_key", dtype, p.B * p.Hk * p.Tk * p.D, True),
            flat(d_value, "d_value", dtype, p.B * p.Hk * p.Tk * p.Dv, True),
        )
        total, sums, wide = np.empty(0, dtype), None, np.empty((0, 0, 0, 0))
        if p.score == ADDITIVE or d_vector is not None:
            total = flat(d_vector, "d_vector", dtype, p.D, True)
        if d_bias is not None:
            kind = floats(d_bias, "d_bias")
            kind = kind if kind == np.float64 else dtype
            broadcasts(d_bias, "d_bias", kind, self.axes, self.full, True)
            sums = d_bias if kind == np.float64 else np.zeros(d_bias.shape)
            wide = broadcasts(sums, "d_bias", np.dtype(np.float64), self.axes, self.full, True)
        return outputs, total, sums, wide

    def _finish(self, d_bias: Any, sums: Any, of_heads: Array, total: Array, finite: Array) -> bool:
        """Put sums into the gradients of bias and vector; return whether all gradients are finite."""
        good = bool(finite.all())
        if total.size or (sums is not None and sums is not d_bias):
            with np.errstate(over="ignore"):
                if sums is not None and sums is not d_bias:
                    d_bias[...] = sums
                if total.size:
                    total[...] = _in_order(of_heads)
            good = good and bool(np.isfinite(total).all())
        return good

    def _sums(self, d_parameters: Array | None, tasks: int) -> tuple[Array, Array, Array]:
        """Return the array of sums for parameters of functions, those of each task, and pointers to these: as many of
        each task, and as many that point nowhere."""
        functions = [one for one in (self.options.modifier, self.pairs) if one is not None]
        if not functions and d_parameters is None:
            return np.empty(0), np.empty((tasks, 0)), np.empty(0, np.int64)
        for one in functions:
            same("functions", "without a gradient", int(one.backward == 0 and one.sloped == 0), 0)
        sizes = np.array([size for one in functions for size in one.sizes], np.int64)
        whole = maybe(d_parameters, "d_parameters", np.dtype(np.float64), int(sizes.sum()), True)
        of_tasks = np.zeros((tasks, whole.size))
        pointers = np.zeros((tasks + 1, sizes.size), np.int64)
        if whole.size:
            starts = of_tasks.ctypes.data + 8 * (np.cumsum(sizes) - sizes)
            pointers[:-1] = np.where(sizes > 0, starts + 8 * whole.size * np.arange(tasks)[:, None], 0)
        return whole, of_tasks, pointers.reshape(-1)

    def _values(self, value: Array | None) -> tuple[Problem, Array]:
        """Return the problem with other values, or its own, and these."""
        p = self.problem
        if value is None:
            return p, self.value
        v = tensor(value, "value", self.dtype, 2, 4)
        same("value", "batch entries", v.B, p.B)
        same("value", "heads", v.H, p.Hk)
        same("value", "features", v.D, p.Dv)
        between("value", "positions", v.T, p.Tk, MOST)
        return p._replace(value_rows=v.T), np.ascontiguousarray(value).reshape(-1)


def _in_order(sums: Array) -> Array:
    """Return the sum of rows, one after the other."""
    total = np.zeros(sums.shape[1:])
    for row in sums:
        total += row
    return total


def _panel(score: int, dtype: "np.dtype[Any]") -> int:
    """Keys in one panel: the columns of a tile of products, and four vectors for functions of pairs, whose loops over
    fewer are not vectorised."""
    return PANEL[dtype.char] if score == DOT else 4 * LANES[dtype.char]


def _elements(score: int, tk: int, width: int, dtype: "np.dtype[Any]") -> int:
    panel = _panel(score, dtype)
    rows = -(-width // 4) * 4 + 2 if score == ADDITIVE else width
    return -(-tk // panel) * panel * rows


def plain(query: Array, key: Array, value: Array, options: Options) -> None:
    """Return None: there is no shorter way here, where what a call passes through is not what takes its time."""


def panel_width(dtype_like: Array) -> int:
    """Return the keys in one packed panel for arrays of this dtype."""
    return PANEL[floats(dtype_like, "dtype_like").char]


def panel_elements(key: Array, score: int, tk: int) -> int:
    """Return the elements of the packed keys of one batch entry and head, for tk keys of key's width and dtype."""
    k = tensor(key, "key", floats(key, "key"), 2, 4)
    between("score", None, score, 0, len(SCORES) - 1)
    between("key", "features", k.D, 0, WIDEST)
    between("tk", None, tk, 0, WIDEST)
    return _elements(score, tk, k.D, key.dtype)


@kernel("i i x1 i i i i i i i x1 x1! i")
def _pack(score, activation, key, count, entries, heads, panel_heads, depth, first, width, vector, panels, elements):
    features = (depth + 3) // 4 * 4
    v = np.zeros(features, panels.dtype)
    for t in range(vector.size):
        v[t] = vector[t]
    size = scores.panel_rows(score, depth) * width
    for b in range(entries):
        for h in range(heads):
            to = (b * panel_heads + h) * elements + first // width * size
            at = (b * heads + h) * count * depth
            scores.pack_keys(score, activation, key, at, depth, count, depth, v, panels, to, width)


def pack_keys(key: Array, score: KernelScore, first: int, last: int, panels: Array) -> None:
    """Pack keys first..last-1 (first a multiple of the panel width) of (B, Hk, T, D) into panels (B, Hk, elements)."""
    dtype = floats(key, "key")
    s = tensor(key, "key", dtype, 4, 4)
    p = tensor(panels, "panels", dtype, 3, 3, True)
    vector = score.read(dtype, s.D)
    between("last", None, last, 0, s.T)
    between("first", None, first, 0, last)
    same("first", "keys beyond a multiple of a panel", first % PANEL[dtype.char], 0)
    panel = _panel(score.kernel, dtype)
    first = first // panel * panel  # the whole of the panel that it is in
    between("key", "features", s.D, 0, WIDEST)
    between("panels", "batch entries", p.B, s.B, MOST)
    between("panels", "heads", p.T, s.H, MOST)
    between("panels", "elements", p.D, _elements(score.kernel, last, s.D, dtype), MOST)
    part = np.ascontiguousarray(key[:, :, first:last]).reshape(-1)
    whole = panels if panels.flags.c_contiguous else np.ascontiguousarray(panels)
    _pack[dtype](
        score.kernel, score.activation, part, last - first, s.B, s.H, p.T, s.D, first, panel, vector,
        whole.reshape(-1), p.D,
    )  # fmt: skip
    if whole is not panels:
        panels[...] = whole


def xla_handlers(forward: int, backward: int) -> tuple[int, int]:
    """The addresses of handlers of XLA for plain calls of attention: those that were given, as none is compiled."""
    return forward, backward
