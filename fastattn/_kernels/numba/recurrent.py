"""Recurrent layers: all steps of GRU and LSTM in one call, forward and backward (csrc/decoder has the formulas).

Each step is a product of all running entries with the packed weights of each gate, panel by panel, one chain for each
element, and then the units, one after the other. Entries are samples, longest first.
"""

from typing import Any, NamedTuple

import numpy as np

from fastattn._kernels.numba.blocks.compiled import inlined, kernel
from fastattn._kernels.numba.blocks.elements import fma, like, sigmoid, tanh
from fastattn._kernels.numba.blocks.lanes import LANES
from fastattn._kernels.numba.blocks.tile import PANEL, multiply_panels
from fastattn._kernels.numba.checks import (
    MOST,
    WIDEST,
    Array,
    between,
    flat,
    floats,
    packed_size,
    same,
    tensor,
    within,
)
from fastattn._kernels.numba.products import gemm
from fastattn._kernels.numba.records import Sequences
from fastattn._kernels.numba.threads import in_parts

__all__ = ["Recurrent"]

_LSTM = 2  # among cells: 0 GRU with reset after the product, 1 GRU with reset before it


class Layer(NamedTuple):
    """Sizes and options of a call."""

    B: int
    T: int
    H: int
    cell: int
    reverse: int
    kept: int  # what the backward pass needs is written
    shown: int  # y is, or dy is read
    within: int  # there is what else the reset gate acts on
    panel: int
    lanes: int


@inlined
def _position(p, lengths, i, step):
    return lengths[i] - 1 - step if p.reverse else step


@inlined
def _running(lengths, first, last, step):
    """The end of the entries of first..last-1 that run at a step."""
    while last > first and lengths[last - 1] <= step:
        last -= 1
    return last


@inlined
def _product(p, rows, x, x0, x_row, w, w0, depth, columns, out, out_row, mode):
    """Rows of x times packed weights [panels][depth][panel] into rows of whole panels."""
    up = (columns + p.panel - 1) // p.panel * p.panel
    multiply_panels(rows, up, x, x0, x_row, 1, w, w0, p.panel * depth, out, 0, out_row, depth, mode, p.lanes)


@kernel(Layer, "x1 x1 x1 x1! x1! x1! x1! i1 i1 i1 x1 x1! x1! x1! x1! x1! x1! i i")
def _forward(
    p, w, b_input, b_hidden, gates, aux, before, y, lengths, starts, order, inside, h, c, reset, products, h_last,
    c_last, first, last,
):  # fmt: skip
    """Entries first..last-1; h, c, reset (B, Hp): states by entry; products (B, G Hp)."""
    H = p.H
    wide = (H + p.panel - 1) // p.panel * p.panel
    count = 4 if p.cell == 2 else 3
    size = wide * H
    end = last
    step = 0
    while True:
        still = _running(lengths, first, end, step)
        for i in range(still, end):  # these have ended
            at = order[i] * H
            for u in range(H):
                h_last[at + u] = h[i * wide + u]
                if p.cell == 2:
                    c_last[at + u] = c[i * wide + u]
        end = still
        if end <= first:
            break
        rows = end - first
        mine = products[first * count * wide : end * count * wide]
        for g in range(2 if p.cell == 1 else count):
            _product(p, rows, h, first * wide, wide, w, g * size, H, H, mine[g * wide :], count * wide, 0)
        for i in range(first, end):
            position = _position(p, lengths, i, step)
            row = starts[i] + position
            place = (order[i] * p.T + position) * H
            x = gates[row * count * H : (row + 1) * count * H]
            u0, state = products[i * count * wide : (i + 1) * count * wide], h[i * wide : i * wide + H]
            if p.kept:
                for u in range(H):
                    before[row * H + u] = state[u]
            if p.cell == 2:
                cell = c[i * wide : i * wide + H]
                for u in range(H):
                    enter = sigmoid((x[u] + b_input[u]) + u0[u])
                    forget = sigmoid((x[H + u] + b_input[H + u]) + u0[wide + u])
                    new = tanh((x[2 * H + u] + b_input[2 * H + u]) + u0[2 * wide + u])
                    out = sigmoid((x[3 * H + u] + b_input[3 * H + u]) + u0[3 * wide + u])
                    cell[u] = fma(forget, cell[u], enter * new)
                    state[u] = out * tanh(cell[u])
                    if p.kept:
                        x[u], x[H + u], x[2 * H + u], x[3 * H + u] = enter, forget, new, out
                if p.kept:
                    for u in range(H):
                        aux[row * H + u] = cell[u]
            elif p.cell == 0:
                for u in range(H):
                    r = sigmoid((x[u] + b_input[u]) + (u0[u] + b_hidden[u]))
                    z = sigmoid((x[H + u] + b_input[H + u]) + (u0[wide + u] + b_hidden[H + u]))
                    inner = u0[2 * wide + u] + b_hidden[2 * H + u]
                    if p.within:
                        inner = inner + inside[order[i] * H + u]
                    new = tanh(fma(r, inner, x[2 * H + u] + b_input[2 * H + u]))
                    state[u] = fma(z, state[u] - new, new)
                    if p.kept:
                        x[u], x[H + u], x[2 * H + u] = r, z, new
                        aux[row * H + u] = inner
            else:
                back = reset[i * wide : i * wide + H]
                for u in range(H):
                    r = sigmoid((x[u] + b_input[u]) + (u0[u] + b_hidden[u]))
                    x[H + u] = sigmoid((x[H + u] + b_input[H + u]) + (u0[wide + u] + b_hidden[H + u]))
                    back[u] = r * state[u]
                    if p.kept:
                        x[u] = r
                        aux[row * H + u] = back[u]
        if p.cell == 1:
            _product(p, rows, reset, first * wide, wide, w, 2 * size, H, H, mine, count * wide, 0)
            for i in range(first, end):
                position = _position(p, lengths, i, step)
                row = starts[i] + position
                x = gates[row * count * H : (row + 1) * count * H]
                u0, state = products[i * count * wide : (i + 1) * count * wide], h[i * wide : i * wide + H]
                for u in range(H):
                    new = tanh((x[2 * H + u] + b_input[2 * H + u]) + (u0[u] + b_hidden[2 * H + u]))
                    state[u] = fma(x[H + u], state[u] - new, new)
                    if p.kept:
                        x[2 * H + u] = new
        if p.shown:
            for i in range(first, end):
                place = (order[i] * p.T + _position(p, lengths, i, step)) * H
                for u in range(H):
                    y[place + u] = h[i * wide + u]
        step += 1


@kernel(Layer, "x1 x1! x1! x1 x1 i1 i1 i1 x1 x1! x1! x1! x1! i i")
def _backward(
    p, w, gates, aux, before, dy, lengths, starts, order, c_first, dh, dc, d_gates, product, first, last,
):  # fmt: skip
    """Entries first..last-1, all steps from the last; dh, dc (B, Hp), d_gates (B, G H) of the step after, product
    (B, Hp)."""
    H = p.H
    wide = (H + p.panel - 1) // p.panel * p.panel
    count = 4 if p.cell == 2 else 3
    G = count * H
    one = like(dh[0], 1)
    steps = 0
    for i in range(first, last):
        steps = max(steps, lengths[i])
    for step in range(steps - 1, -2, -1):
        end = _running(lengths, first, last, max(step, 0))
        after = _running(lengths, first, last, step + 1)  # have a step after this one, whose product comes first
        depth = 2 * H if p.cell == 1 else G
        multiply_panels(
            after - first, wide, d_gates, first * G, G, 1, w, 0, p.panel * G, dh, first * wide, wide, depth,
            0 if p.cell == 2 else 1, p.lanes,
        )  # fmt: skip
        if step < 0:
            break
        for i in range(first, end):
            position = _position(p, lengths, i, step)
            row = starts[i] + position
            place = (order[i] * p.T + position) * H
            x = gates[row * G : (row + 1) * G]
            extra = aux[row * H : (row + 1) * H]
            old = before[row * H : (row + 1) * H]
            d, out = dh[i * wide : i * wide + H], d_gates[i * G : (i + 1) * G]
            if p.shown:
                for u in range(H):
                    d[u] = d[u] + dy[place + u]
            if p.cell == 2:
                memory = dc[i * wide : i * wide + H]
                earlier = starts[i] + _position(p, lengths, i, step - 1)
                for u in range(H):
                    enter, forget, new, show = x[u], x[H + u], x[2 * H + u], x[3 * H + u]
                    t = tanh(extra[u])
                    was = aux[earlier * H + u] if step > 0 else c_first[order[i] * H + u]
                    e = fma(d[u] * show, fma(-t, t, one), memory[u])
                    x[u] = (e * new) * (enter * (one - enter))
                    x[H + u] = (e * was) * (forget * (one - forget))
                    x[2 * H + u] = (e * enter) * fma(-new, new, one)
                    x[3 * H + u] = (d[u] * t) * (show * (one - show))
                    memory[u] = e * forget
                for g in range(G):
                    out[g] = x[g]
            else:
                for u in range(H):
                    r, z, new = x[u], x[H + u], x[2 * H + u]
                    dn = (d[u] * (one - z)) * fma(-new, new, one)
                    dz = (d[u] * (old[u] - new)) * (z * (one - z))
                    d[u] = d[u] * z
                    x[H + u] = dz
                    x[2 * H + u] = dn
                    out[H + u] = dz
                    if p.cell == 1:
                        out[2 * H + u] = dn
                    else:
                        dr = (dn * extra[u]) * (r * (one - r))
                        x[u] = dr
                        out[u] = dr
                        out[2 * H + u] = dn * r
                        extra[u] = dn * r
        if p.cell == 1:
            multiply_panels(
                end - first, wide, d_gates, first * G + 2 * H, G, 1, w, 2 * H * p.panel, p.panel * G, product,
                first * wide, wide, H, 0, p.lanes,
            )  # fmt: skip
            for i in range(first, end):
                row = starts[i] + _position(p, lengths, i, step)
                x, d = gates[row * G : (row + 1) * G], dh[i * wide : i * wide + H]
                old, of_reset = before[row * H : (row + 1) * H], product[i * wide : i * wide + H]
                out = d_gates[i * G : (i + 1) * G]
                for u in range(H):
                    dr = (of_reset[u] * old[u]) * (x[u] * (one - x[u]))
                    d[u] = fma(of_reset[u], x[u], d[u])
                    x[u] = dr
                    out[u] = dr


class Recurrent:
    """The weights of a recurrent layer: cell 0 GRU, reset after; 1 GRU, reset before; 2 LSTM, whose b_hidden is None.

    w_input is packed (D, G H), w_hidden is packed (H, H) for each gate; biases are read in place, at every call. Every
    array is contiguous. States are pairs (h, c) of arrays (B, H), or None for zeros; of a GRU, c is None.
    """

    def __init__(
        self, cell: int, hidden: int, w_input: Array, w_hidden: Array, b_input: Array, b_hidden: Array | None
    ) -> None:
        self._dtype = dtype = floats(b_input, "b_input")
        self._cell = between("cell", None, cell, 0, 2)
        self._hidden = between("hidden", None, hidden, 0, WIDEST)
        self._count = 4 if cell == _LSTM else 3
        self._panel = PANEL[dtype.char]
        self._w_input = flat(w_input, "w_input", dtype, int(np.size(w_input)))
        size = self._count * packed_size(hidden, hidden, self._panel)
        self._w_hidden = flat(w_hidden, "w_hidden", dtype, size)
        self._b_input = flat(b_input, "b_input", dtype, self._count * hidden)
        empty = np.empty(0, dtype)
        self._b_hidden = empty if cell == _LSTM else flat(b_hidden, "b_hidden", dtype, self._count * hidden)

    def _sequences(self, s: Sequences, gates: Array) -> tuple[int, Array, Array, Array, Array]:
        """Return the rows of a batch, gates, and lengths, starts and order of its entries."""
        width, dtype = self._count * self._hidden, self._dtype
        batch, steps = s.batch, s.steps
        if s.lengths is None:
            rows = batch * steps
            at = np.arange(batch)
            return rows, flat(gates, "gates", dtype, rows * width, True), np.full(batch, steps), at * steps, at
        rows = gates.size // width if width and isinstance(gates, np.ndarray) else 0
        out = flat(gates, "gates", dtype, rows * width, True)
        lengths = within(s.lengths, "lengths", batch, 0, steps)
        starts = within(s.starts, "starts", batch, 0, MOST)
        order = within(s.order, "order", batch, 0, batch - 1)
        for i, (length, start) in enumerate(zip(lengths.tolist(), starts.tolist())):
            if length:
                between("starts", None, start, 0, rows - length)
            if i:
                between("lengths", None, length, 0, int(lengths[i - 1]))  # longest first
        return rows, out, lengths, starts, order

    def _each(self, array: Any, name: str, count: int, wanted: bool, write: bool) -> Array:
        """Return an array of H units for each of `count`, empty for None unless it is wanted."""
        if array is None and not wanted:
            return np.empty(0, self._dtype)
        return flat(array, name, self._dtype, count * self._hidden, write)

    def _states(self, states: Array, batch: int, order: Array) -> Array:
        """Return states by entry in rows of whole panels, or zeros."""
        wide = -(-self._hidden // self._panel) * self._panel
        rows = np.zeros((batch, wide), self._dtype)
        if states.size:
            rows[:, : self._hidden] = states.reshape(batch, self._hidden)[order]
        return rows

    def _layer(self, s: Sequences, reverse: bool, kept: bool, shown: bool, inside: bool) -> Layer:
        return Layer(
            s.batch, s.steps, self._hidden, self._cell, int(reverse), int(kept), int(shown), int(inside), self._panel,
            LANES[self._dtype.char],
        )  # fmt: skip

    def forward(
        self,
        x: Array | None,
        sequences: Sequences,
        reverse: bool,
        first: tuple[Array | None, Array | None] | None,
        last: tuple[Array, Array | None],
        gates: Array,
        kept: tuple[Array, Array] | None = None,
        y: Array | None = None,
        inside: Array | None = None,
        parts: None = None,
    ) -> None:
        """All steps over x (rows, D): last states, y (B, T, H) unless None; gates (rows, G H) is scratch, or is with
        kept, (aux, before), each (rows, H), what backward needs. x may be None if gates hold its products. inside
        (B, H) is what else the reset gate of a GRU with reset after acts on. There are no parts here."""
        dtype, batch = self._dtype, sequences.batch
        rows, out, lengths, starts, order = self._sequences(sequences, gates)
        h_first, c_first = first or (None, None)
        aux, before = kept or (None, None)
        states = self._each(h_first, "h_first", batch, False, False)
        memory = self._each(c_first, "c_first", batch, False, False)
        h_last = self._each(last[0], "h_last", batch, True, True)
        c_last = self._each(last[1], "c_last", batch, False, True)
        of_step = self._each(aux, "aux", rows, before is not None, True)
        of_state = self._each(before, "before", rows, aux is not None, True)
        of_y = self._each(y, "y", batch * sequences.steps, False, True)
        more = self._each(inside, "inside", batch, False, False)
        width = self._count * self._hidden
        if x is not None:
            s = tensor(x, "x", dtype, 2, 2)
            same("x", "rows", s.T, rows)
            same("w_input", "elements", self._w_input.size, packed_size(s.D, width, self._panel))
        if not batch or not self._hidden:
            return
        if x is not None:
            gemm(x, self._w_input, out.reshape(rows, width))
        p = self._layer(sequences, reverse, kept is not None, y is not None, inside is not None)
        h, c = self._states(states, batch, order), self._states(memory, batch, order)
        reset, products = np.zeros_like(h), np.empty((batch, self._count * h.shape[1]), dtype)
        last_c = c_last if c_last.size else np.empty(batch * self._hidden, dtype)
        compiled = _forward[dtype]

        def work(begin: int, end: int) -> None:
            compiled(
                p, self._w_hidden, self._b_input, self._b_hidden, out, of_step, of_state, of_y, lengths, starts, order,
                more, h.reshape(-1), c.reshape(-1), reset.reshape(-1), products.reshape(-1), h_last, last_c, begin, end,
            )  # fmt: skip

        in_parts(work, batch, float(batch) * sequences.steps * width * self._hidden)

    def backward(
        self,
        w_hidden_transposed: Array,
        sequences: Sequences,
        reverse: bool,
        dy: Array | None,
        d_last: tuple[Array | None, Array | None] | None,
        d_first: tuple[Array, Array | None],
        gates: Array,
        kept: tuple[Array, Array],
        c_first: Array | None,
        parts: None = None,
    ) -> None:
        """All backward steps: gradients of the first states, and in gates, and in aux of a GRU with reset after, those
        at the gates' arguments. dy, d_last and either of it may be None: zeros."""
        dtype, batch, width = self._dtype, sequences.batch, self._count * self._hidden
        rows, out, lengths, starts, order = self._sequences(sequences, gates)
        dh_last, dc_last = d_last or (None, None)
        w = flat(w_hidden_transposed, "w_hidden_transposed", dtype, packed_size(width, self._hidden, self._panel))
        of_y = self._each(dy, "dy", batch * sequences.steps, False, False)
        of_last = self._each(dh_last, "dh_last", batch, False, False)
        of_memory = self._each(dc_last, "dc_last", batch, False, False)
        dh_first = self._each(d_first[0], "dh_first", batch, True, True)
        dc_first = self._each(d_first[1], "dc_first", batch, False, True)
        aux = self._each(kept[0], "aux", rows, True, True)
        before = self._each(kept[1], "before", rows, True, False)
        memory = self._each(c_first, "c_first", batch, self._cell == _LSTM, False)
        if not batch or not self._hidden:
            return
        p = self._layer(sequences, reverse, True, dy is not None, False)
        dh, dc = self._states(of_last, batch, order), self._states(of_memory, batch, order)
        d_gates, product = np.zeros((batch, width), dtype), np.zeros_like(dh)
        compiled = _backward[dtype]

        def work(begin: int, end: int) -> None:
            compiled(
                p, w, out, aux, before, of_y, lengths, starts, order, memory, dh.reshape(-1), dc.reshape(-1),
                d_gates.reshape(-1), product.reshape(-1), begin, end,
            )  # fmt: skip

        in_parts(work, batch, float(batch) * sequences.steps * width * self._hidden)
        dh_first.reshape(batch, self._hidden)[order] = dh[:, : self._hidden]
        if dc_first.size:
            dc_first.reshape(batch, self._hidden)[order] = dc[:, : self._hidden]
