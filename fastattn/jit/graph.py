"""Expressions as a graph: equal expressions are one node, and what is constant is computed when a node is made.

A node is of one of three kinds: "b" bool, "i" integer of 64 bits, "f" real number. Its operation is one of
`fastattn.jit.operations.OPERATIONS`, or that of a leaf:

- ``constant``, with its value;
- ``input``, with the name of what changes from call to call (score, b, h, i, j; q, k; d, the gradient at the result);
- ``size``, with (parameter, axis): how long an axis of a parameter is;
- ``look``, with a parameter's number: the element at the indices that are the node's arguments.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from fastattn.jit.operations import OPERATIONS

__all__ = ["Graph", "Node", "ancestors"]


class Node:
    """One expression; two of a graph are the same expression if they are the same object."""

    __slots__ = ("arguments", "kind", "number", "operation", "value")

    def __init__(self, operation: str, kind: str, arguments: "tuple[Node, ...]", value: Any, number: int) -> None:
        self.operation = operation
        self.kind = kind
        self.arguments = arguments
        self.value = value
        self.number = number  # arguments have lower ones

    def is_constant(self, *values: float) -> bool:
        """Whether it is a constant, and one of some values if any are given."""
        return self.operation == "constant" and (not values or self.value in values)


class Graph:
    """The nodes of some expressions."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Node] = {}

    def _node(self, operation: str, kind: str, arguments: tuple[Node, ...] = (), value: Any = None) -> Node:
        key = (operation, kind, arguments, repr(value))  # repr tells 0.0 from -0.0, and one NaN is another
        if key not in self._known:
            self._known[key] = Node(operation, kind, arguments, value, len(self._known))
        return self._known[key]

    def constant(self, value: bool | int | float) -> Node:
        """Return the node of a Python number."""
        kind = "b" if isinstance(value, bool) else "i" if isinstance(value, int) else "f"
        return self._node("constant", kind, (), value)

    def input(self, name: str, kind: str) -> Node:
        """Return what changes from call to call."""
        return self._node("input", kind, (), name)

    def size(self, parameter: int, axis: int) -> Node:
        """Return how long an axis of a parameter is."""
        return self._node("size", "i", (), (parameter, axis))

    def look(self, parameter: int, kind: str, indices: Iterable[Node]) -> Node:
        """Return an element of a parameter."""
        return self._node("look", kind, tuple(indices), parameter)

    def make(self, operation: str, *arguments: Node) -> Node:
        """Return the node of an operation, or an equal and simpler one; arguments have the kinds that it takes."""
        rule = OPERATIONS[operation]
        if all(node.is_constant() for node in arguments):
            value = _computed(rule.function, arguments, rule.kind(arguments))
            if value is not None:
                return self.constant(value)
        if rule.commutes and arguments[0].number > arguments[1].number:
            arguments = (arguments[1], arguments[0])
        simpler = self._simpler(operation, arguments)
        return self._node(operation, rule.kind(arguments), arguments) if simpler is None else simpler

    def _simpler(self, operation: str, arguments: tuple[Node, ...]) -> Node | None:
        """Return an equal node with less to compute, or None."""
        first = arguments[0]
        last = arguments[-1]
        if operation == "add":
            for one, other in ((first, last), (last, first)):
                if one.is_constant(0):
                    return other
                if one.operation == "neg":
                    return self.make("sub", other, one.arguments[0])
            return self._merged(first, last)
        if operation == "sub":
            if last.is_constant(0):
                return first
            if last.operation == "neg":
                return self.make("add", first, last.arguments[0])
            return self.make("neg", last) if first.is_constant(0) else None
        if operation == "mul":
            for one, other in ((first, last), (last, first)):
                if one.is_constant(1):
                    return other
                if one.is_constant(-1):
                    return self.make("neg", other)
                if one.is_constant(0) and other.kind == "i":
                    return one
                if one.operation == "neg":
                    return self.make("neg", self.make("mul", one.arguments[0], other))
            return None
        if operation == "div":
            return first if last.is_constant(1) else None
        if operation in ("neg", "not") and first.operation == operation:
            return first.arguments[0]
        if operation == "abs" and first.operation in ("neg", "abs"):
            return self.make("abs", first.arguments[0])
        if operation in ("minimum", "maximum", "and", "or") and first is last:
            return first
        if operation in ("and", "or"):
            for one, other in ((first, last), (last, first)):
                if one.is_constant():
                    return other if one.value == (operation == "and") else one
        if operation == "where":
            condition, this, that = arguments
            if condition.is_constant():
                return this if condition.value else that
            if this is that:
                return this
            if condition.operation == "not":
                return self.make("where", condition.arguments[0], that, this)
        return None

    def _merged(self, first: Node, last: Node) -> Node | None:
        """Return the sum of two choices by one condition as one choice, where no number is added to another."""
        if first.operation == last.operation == "where" and first.arguments[0] is last.arguments[0]:
            (condition, a, b), (_, c, d) = first.arguments, last.arguments
            if (a.is_constant(0) or c.is_constant(0)) and (b.is_constant(0) or d.is_constant(0)):
                return self.make("where", condition, self.make("add", a, c), self.make("add", b, d))
        return None

    def real(self, node: Node) -> Node:
        """Return a node as a real number."""
        return node if node.kind == "f" else self.make("real", node)

    def copy_of(self, node: Node, replace: Callable[[Node], Node | None]) -> Node:
        """Return a node of another graph in this one; leaves and look-ups that `replace` knows become its answers."""
        made: dict[Node, Node] = {}
        for one in ancestors([node]):
            arguments = [made[argument] for argument in one.arguments]
            found = replace(one)
            if found is not None:
                made[one] = self.look(found.value, found.kind, arguments) if one.operation == "look" else found
            elif one.operation in OPERATIONS:
                made[one] = self.make(one.operation, *arguments)
            else:
                made[one] = self._node(one.operation, one.kind, tuple(arguments), one.value)
        return made[node]


def _computed(function: Callable[..., Any], arguments: tuple[Node, ...], kind: str) -> bool | int | float | None:
    """Return the value of an operation on constants, or None: where an integer has none."""
    try:
        with np.errstate(all="ignore"):
            value = function(*(node.value for node in arguments))
        if kind == "b":
            return bool(value)
        if kind == "f":
            return float(value)
        number = int(value)
    except (ArithmeticError, ValueError):
        return None
    exact = all(isinstance(node.value, (bool, int)) or math.isfinite(node.value) for node in arguments)
    return number if exact and -(2**63) <= number < 2**63 else None


def ancestors(nodes: Iterable[Node]) -> Iterator[Node]:
    """Yield all that some nodes are made of, and themselves, arguments first."""
    seen: set[Node] = set()
    left = list(nodes)
    while left:
        node = left.pop()
        if node not in seen:
            seen.add(node)
            left += node.arguments
    return iter(sorted(seen, key=lambda node: node.number))
