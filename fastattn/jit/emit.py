"""From a graph to the text of compiled functions.

Numbers of a function are of one width, 32 or 64 bits, but for two: what becomes an integer is computed in float64, so
that a bucket of distances is the same for float32 and float64; and an offset into a parameter in int64, which a
compiler sees to be consecutive where it is. Everything that does not change along a row is computed before the loop.
Look-ups that change with the key are read into a buffer by a loop of their own: nothing else in that loop is memory,
which is what lets the others be vectorised. Buffers have 64 elements, and a row is taken in pieces of that.

A quotient whose divisor does not change along the row is a product with its reciprocal: the division unit takes 16
cycles for a vector, a softcap's two of them a third of the time of dot attention. Where a step follows, as that of a
floor or a comparison, it stays a quotient: 49 * (1 / 49) is less than 1.
"""

import math
from collections.abc import Iterable, Mapping

from fastattn.jit.graph import Node, ancestors
from fastattn.jit.mathematics import helpers
from fastattn.jit.operations import OPERATIONS
from fastattn.jit.trace import Traced

__all__ = ["Writer", "indented"]

_LINEAR = ("add", "sub", "mul", "neg")
_STEPS = ("index", "floor", "less", "less_equal", "equal")


def indented(lines: Iterable[str], depth: int = 1) -> list[str]:
    """Return lines one step further in."""
    return ["    " * depth + line for line in lines]


class Writer:
    """What has been written of one function.

    Parameters
    ----------
    traced : Traced
    bits : int
        The width of real numbers, 32 or 64.
    narrow : bool
        Whether all integers fit in 32 bits.
    levels : mapping of str to int
        In which loop an input changes: 0 outside of all, and so on; the last is the innermost.
    wanted : iterable of Node
        All that will be written.
    """

    def __init__(
        self, traced: Traced, bits: int, narrow: bool, levels: Mapping[str, int], wanted: Iterable[Node]
    ) -> None:
        self.traced = traced
        self.bits = bits
        self.integer_bits = 32 if narrow else 64
        self.levels = levels
        self.inner = max(levels.values())
        self.lines: list[list[str]] = [[] for _ in range(self.inner + 1)]
        self.names: list[dict[tuple[Node, int], str]] = [{} for _ in range(self.inner + 1)]
        self.inputs: dict[str, str] = {}  # the text of each input, in its own width
        self.staged: set[Node] = set()  # look-ups whose values are in buffers
        self.called: set[tuple[str, int]] = set()
        self.tables: dict[str, None] = {}  # lines that make the pointers of parameters, in order
        self._level: dict[Node, int] = {}
        steps = [node for node in ancestors(wanted) if node.operation in _STEPS]
        self._exact = set(ancestors(argument for node in steps for argument in node.arguments))

    # What changes where.

    def level(self, node: Node) -> int:
        """Return the loop in which a node changes."""
        if node not in self._level:
            for one in ancestors([node]):
                own = self.levels.get(one.value, 0) if one.operation == "input" else 0
                self._level[one] = max([own, *(self._level[argument] for argument in one.arguments)])
        return self._level[node]

    def stages(self, nodes: Iterable[Node]) -> list[Node]:
        """Return the look-ups of the innermost loop, each after those that its indices need."""
        return [n for n in ancestors(nodes) if n.operation == "look" and self.level(n) == self.inner]

    def begin(self, level: int) -> None:
        """Begin a new loop: nothing of this level and below has been computed."""
        for one in range(level, self.inner + 1):
            self.lines[one], self.names[one] = [], {}

    # Names of values.

    def width(self, node: Node) -> int:
        """Return the width that a node has unless another is asked for."""
        return self.bits if node.kind == "f" else self.integer_bits

    def name(self, node: Node, bits: int = 0) -> str:
        """Return what a node is called, or the text of a constant; write what computes it where it changes."""
        bits = bits or self.width(node)
        if node.operation == "constant":
            return self.literal(node, bits)
        level = self.level(node)
        names = self.names[level]
        if (node, bits) not in names:
            text = self.text(node, bits)
            found = f"x{node.number}" if bits == self.width(node) else f"x{node.number}_{bits}"
            self.lines[level].append(f"{found} = {text}")
            names[node, bits] = found
        return names[node, bits]

    def literal(self, node: Node, bits: int) -> str:
        """Return a constant as text."""
        if node.kind == "b":
            return str(node.value)
        if node.kind == "i":
            return f"integer{bits}({node.value})"
        value = repr(node.value) if math.isfinite(node.value) else f"np.{node.value}" if node.value >= 0 else "-np.inf"
        return f"real{bits}({value if node.value == node.value else 'np.nan'})"

    def text(self, node: Node, bits: int) -> str:
        """Return what computes a node in this width."""
        operation, arguments = node.operation, node.arguments
        if operation in ("input", "size", "look"):
            return self.leaf(node, bits)
        if operation == "real":
            (argument,) = arguments
            value = self.name(argument)
            if argument.kind == "b":
                return f"select({value}, real{bits}(1.0), real{bits}(0.0))"
            return f"real{bits}({value})"
        if operation == "index":
            return self.truncated(arguments[0], bits)
        if node.kind == "i" and bits != self.integer_bits and operation not in _LINEAR:
            return f"integer{bits}({self.name(node)})"
        if operation == "div" and node not in self._exact and self.level(arguments[1]) < self.level(node):
            return self.quotient(arguments[0], arguments[1], bits)
        if operation in ("floordiv", "mod"):
            self.called.add(("floor_divide", self.integer_bits))
        own = bits if node.kind in "fi" else 0  # what is compared has its own width
        names = [self.name(one, own if one.kind == node.kind else 0) for one in arguments]
        rule = OPERATIONS[operation]
        if "{bits}" in rule.text:
            self.called.add((operation, bits))
        text = rule.text.format(*names, bits=bits)
        return f"integer{bits}({text})" if node.kind == "i" and operation != "where" else text

    def quotient(self, dividend: Node, divisor: Node, bits: int) -> str:
        """Return a quotient as the product with a reciprocal that is computed where the divisor changes."""
        names = self.names[self.level(divisor)]
        if (divisor, -bits) not in names:
            value, number = self.name(divisor, bits), f"{divisor.number}_{bits}"
            self.called.add(("within", bits))
            self.lines[self.level(divisor)] += [
                f"w{number} = within{bits}({value})",
                f"r{number} = real{bits}(1.0) / ({value} * w{number})",
            ]
            names[divisor, -bits] = number
        number = names[divisor, -bits]
        return f"{self.name(dividend, bits)} * w{number} * r{number}"

    def leaf(self, node: Node, bits: int) -> str:
        """Return an input, the size of a parameter, or an element of one."""
        if node.operation == "input":
            if bits != self.width(node) and node.kind == "f":
                return f"real{bits}({self.name(node)})"
            text = self.inputs[node.value]
            return text if node.kind == "f" else f"integer{bits}({text})"
        if node.operation == "size":
            parameter, axis = node.value
            before = sum(ndim for _, _, ndim in self.traced.parameters[:parameter])
            self.tables["sizes = integers64(parameters[0])"] = None
            return f"integer{bits}(sizes[{before + axis}])"
        if bits != self.width(node):
            return f"{'real' if node.kind == 'f' else 'integer'}{bits}({self.name(node)})"
        return f"l{node.number}[t]" if node in self.staged else self.element(node)

    def element(self, node: Node) -> str:
        """Return the text that reads an element of a parameter."""
        table = f"p{node.value}"
        kind = {"f": f"reals{self.bits}", "i": "integers64", "b": "bytes8"}[node.kind]
        self.tables[f"{table} = {kind}(parameters[{node.value + 1}])"] = None
        text = f"{table}[{self.offset(node)}]"
        return {"f": text, "i": f"integer{self.integer_bits}({text})", "b": f"{text} != 0"}[node.kind]

    def offset(self, node: Node) -> str:
        """Return where in its parameter the element of a look-up is, in 64 bits."""
        text = "0"
        for axis, index in enumerate(node.arguments):
            name = self.name(index, 64)
            size = self.traced.graph.size(node.value, axis)
            text = name if axis == 0 else f"({text}) * {self.name(size, 64)} + {name}"
        return text

    def truncated(self, argument: Node, bits: int) -> str:
        """Return a bool or a real number as an integer."""
        if argument.kind == "b":
            return f"select({self.name(argument)}, integer{bits}(1), integer{bits}(0))"
        x = self.name(argument, 64)
        if self.integer_bits == 32:  # it is known to fit: `fastattn.jit.intervals`
            low, high = -(2.0**31), 2.0**31 - 1
        else:
            low, high = -(2.0**62), 2.0**62
        capped = f"select({x} < real64({high!r}), {x}, real64({high!r}))"
        return f"integer{bits}(select({x} > real64({low!r}), {capped}, real64({low!r})))"

    # Parts of functions.

    def staged_loops(self, nodes: list[Node]) -> list[str]:
        """Return the loops over ``count`` elements that read look-ups into buffers, where later loops find them."""
        lines: list[str] = []
        for node in nodes:
            self.begin(self.inner)
            found = self.element(node)
            value = f"select({found}, byte(1), byte(0))" if node.kind == "b" else found
            lines += ["for t in range(count):", *indented([*self.lines[self.inner], f"l{node.number}[t] = {value}"])]
            self.staged.add(node)
        self.begin(self.inner)
        return lines

    def buffers(self, nodes: Iterable[Node]) -> list[str]:
        """Return the lines that make the buffers of some look-ups."""
        kinds = {"f": f"buffer_real{self.bits}", "i": f"buffer_integer{self.integer_bits}", "b": "buffer_byte"}
        return [f"l{node.number} = {kinds[node.kind]}()" for node in nodes]

    def module(self, functions: list[str]) -> str:
        """Return a whole text: what it imports, the helpers that are called, and functions."""
        head = [
            "import numpy as np",
            "from numba import cfunc, njit",
            "from fastattn.jit.lowering import *",
            "",
        ]
        return "\n".join(head) + helpers(self.called, self.integer_bits == 32) + "\n\n" + "\n".join(functions) + "\n"
