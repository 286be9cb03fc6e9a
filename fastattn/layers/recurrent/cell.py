"""What GRU and LSTM have in common: from arrays to one call of the kernels that walks all steps, and back."""

import enum
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from fastattn import linear
from fastattn._arrays import Array, float_array
from fastattn._kernels import core
from fastattn.errors import ShapeError, describe
from fastattn.layers.backward import Once
from fastattn.layers.parameter import Layer, Parameter
from fastattn.layers.sequences import Sequences, check_rows
from fastattn.precision import Precision, float32_precision, get_float32_precision

__all__ = ["Kind", "RecurrentCell", "Tape"]


class Kind(enum.IntEnum):
    """The cells that the kernels know: GRUs by what their reset gate acts on, a product or the state."""

    AFTER = 0
    BEFORE = 1
    LSTM = 2


@dataclass
class Tape:
    """What the backward steps need; used up by them."""

    sequences: Sequences
    reverse: bool
    x: Array
    gates: Array
    aux: Array
    before: Array
    c_first: Array | None
    once: Once
    precision: Precision = field(default_factory=get_float32_precision)  # of the forward pass


class RecurrentCell(Layer):
    """Base of `GRUCell` and `LSTMCell`: sizes, weights as the kernels read them, the walk over sequences."""

    _matrices: ClassVar[tuple[str, ...]] = ("w_input",)
    w_input: Parameter
    w_hidden: Parameter

    def __init__(self, kind: Kind, inputs: int, hidden: int, dtype: Any) -> None:
        self.inputs, self.hidden = inputs, hidden
        self.gates = 4 if kind == Kind.LSTM else 3
        self._kind = kind
        self._dtype = np.dtype(dtype)
        self._weights: tuple[Any, Any, core.Recurrent] | None = None
        self._narrow: linear.PackedWeights | None = None  # w_input, where it is of a type that the kernels do not read
        self._parts: dict[tuple[bool, int], tuple[linear.PackedWeights, tuple[Array, ...]]] = {}

    def _biases(self) -> tuple[Array, Array | None]:
        """Return the bias of the input's products and, if it is apart, of the state's, as the kernels read them."""
        raise NotImplementedError

    def check(self, name: str, array: object, *shape: int) -> Array:
        """Return the argument as an array that kernels can read, or raise."""
        return check_rows(name, array, shape, self._dtype)

    def check_input(self, x: object, axes: int) -> Array:
        """Return x, an array (B, D) or (B, T, D), or raise."""
        array = float_array("x", x)
        if array.ndim != axes or array.shape[-1] != self.inputs:
            expected = f"shape (B, {self.inputs})" if axes == 2 else f"shape (B, T, {self.inputs})"
            raise ShapeError(describe("x", expected, f"shape {array.shape}", "match the width of the layer."))
        return array

    def zeros(self, batch: int) -> Array:
        """Return a state of zeros."""
        return np.zeros((batch, self.hidden), self._dtype)

    def step(self, x: Array, h: Array, c: Array | None) -> tuple[Array, Array | None]:
        """Return h' and c' for checked x (B, D) and states (B, H); nothing is kept."""
        batch = x.shape[0]
        h_next = np.empty((batch, self.hidden), self._dtype)
        c_next = None if c is None else np.empty((batch, self.hidden), self._dtype)
        gates = np.empty((batch, self.gates * self.hidden), self._dtype)
        kernel = self._kernel()
        kernel.forward(
            self._given(x, gates), core.Sequences(batch, 1), False, (h, c), (h_next, c_next), gates,
            parts=self._on_unit(False),
        )  # fmt: skip
        return h_next, c_next

    def walk(
        self, x: Array, h: Array | None, c: Array | None, lengths: object, reverse: bool, keep: bool
    ) -> tuple[Array, Array, Array | None, Tape | None]:
        """Return y (B, T, H), the last h and c, and what `walk_back` needs if it is to be kept; None is zeros."""
        sequences = Sequences(x, lengths)
        batch, count, width = sequences.batch, sequences.count, self.hidden
        rows = check_rows("x", sequences.gather(x), (count, self.inputs), self._dtype)
        if self._kind == Kind.LSTM and c is None:
            c = self.zeros(batch)
        h_last = np.empty((batch, width), self._dtype)
        c_last = None if c is None else np.empty((batch, width), self._dtype)
        space = core.empty if sequences.lengths is None else np.zeros
        y = space((batch, sequences.steps, width), self._dtype)
        gates = core.empty((count, self.gates * width), self._dtype)
        kept = (core.empty((count, width), self._dtype), core.empty((count, width), self._dtype)) if keep else None
        kernel = self._kernel()
        kernel.forward(
            self._given(rows, gates), sequences.kernel, reverse, (h, c), (h_last, c_last), gates, kept, y,
            parts=self._on_unit(False),
        )  # fmt: skip
        tape = None if kept is None else Tape(sequences, reverse, rows, gates, *kept, c, Once())
        return y, h_last, c_last, tape

    def walk_back(
        self, tape: Tape, dy: Array | None, dh_last: Array | None, dc_last: Array | None
    ) -> tuple[Array, Array, Array | None]:
        """Return the gradients of x and of the first h and c; add those of the parameters."""
        sequences, width = tape.sequences, self.hidden
        if dy is not None:
            dy = self.check("dy", dy, sequences.batch, sequences.steps, width)
        if dh_last is not None:
            dh_last = self.check("dh_last", dh_last, sequences.batch, width)
        if dc_last is not None:
            dc_last = self.check("dc_last", dc_last, sequences.batch, width)
        tape.once.use()
        dh = np.empty((sequences.batch, width), self._dtype)
        dc = None if tape.c_first is None else np.empty_like(dh)
        with float32_precision(tape.precision):
            self._kernel().backward(
                self.w_hidden.packed()._panels_transposed(), sequences.kernel, tape.reverse, dy, (dh_last, dc_last),
                (dh, dc), tape.gates, (tape.aux, tape.before), tape.c_first, self._on_unit(True),
            )  # fmt: skip
            self.accumulate(tape)
            return sequences.scatter(self.w_input.packed().matmul_transposed(tape.gates)), dh, dc

    def accumulate(self, tape: Tape) -> None:
        """Add the gradients of all parameters, from the gradients that the backward steps left in the tape."""
        raise NotImplementedError

    def _given(self, x: Array, gates: Array) -> Array | None:
        """What the kernels are given of x: nothing where its products are written here, with a matrix that they do not
        read or on a matrix unit."""
        if self._narrow is None and not linear.parts_on_tiles(self.w_input._array.shape):
            return x
        self.w_input.packed().matmul(x, gates)
        return None

    def _on_unit(self, transposed: bool) -> tuple[Array, ...] | None:
        """w_hidden, or its transpose, as a matrix unit reads it, one array for each product; None: not on one.

        Split once for each change of the value, in the memory of before; the size of all of it decides. Not in all
        parts: many rows may be those of few sequences, and a step has one row of each.
        """
        w, packed, H = self.w_hidden._array, self.w_hidden.packed(), self.hidden
        count = linear.parts_on_tiles(w.shape)
        if count in (0, linear.ALL_PARTS) or not core.gemm_parts_bytes(w, H, H, count):
            return None
        before, memory = self._parts.get((transposed, count), (None, None))
        if memory is None or before is not packed:
            both = 2 * H
            matrices = [w[:, g * H : (g + 1) * H] for g in range(self.gates)]
            if transposed:
                matrices = [w[:, :both], w[:, both:]] if self._kind == Kind.BEFORE else [w]
            made = []
            for matrix, old in zip(matrices, memory or [None] * len(matrices)):
                parts = linear.split_parts(matrix, transposed, count, old)
                assert parts is not None
                made.append(parts[0])
            memory = tuple(made)
            self._parts[transposed, count] = packed, memory
        return memory

    def _kernel(self) -> core.Recurrent:
        w_input, w_hidden = self.w_input.packed(), self.w_hidden.packed()
        if self._weights is None or self._weights[0] is not w_input or self._weights[1] is not w_hidden:
            # What kernels are not given inputs for may be any array.
            read = w_input if w_input._narrow is None else w_hidden
            kernel = core.Recurrent(self._kind, self.hidden, read._packed, self._gate_panels(), *self._biases())
            self._weights = w_input, w_hidden, kernel
            self._narrow = None if w_input._narrow is None else w_input
        return self._weights[2]

    def __getstate__(self) -> dict[str, Any]:
        # Addresses of memory, made anew when it is next called.
        kernel_and_matrices: dict[str, Any] = {"_weights": None, "_narrow": None, "_parts": {}}
        return {**vars(self), **kernel_and_matrices}

    def _gate_panels(self) -> Array:
        """The packed w_hidden, in which every gate begins a panel."""
        packed, width = self.w_hidden.packed(), core.panel_width(self.w_hidden._array)
        if self.hidden % width == 0:
            return packed._packed
        wide = -(-self.hidden // width) * width
        apart = np.zeros((self.hidden, self.gates, wide), self._dtype)
        apart[:, :, : self.hidden] = self.w_hidden._array.reshape(self.hidden, self.gates, self.hidden)
        return linear.PackedWeights(apart.reshape(self.hidden, self.gates * wide))._packed
