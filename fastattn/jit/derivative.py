"""Derivatives of a graph, in reverse mode, as more nodes of the same graph."""

import math
from functools import lru_cache
from typing import NamedTuple

from fastattn.jit.graph import Graph, Node, ancestors
from fastattn.jit.reductions import of_keys, reduced, seen
from fastattn.jit.trace import Traced

__all__ = ["Derivative", "derive", "derive_rows", "slope"]


class Derivative(NamedTuple):
    """Gradients in terms of that of the result, which is the input "d".

    Attributes
    ----------
    inputs : dict of str to Node
        Of the arguments that are real numbers, where the result depends on them.
    looks : tuple of (Node, Node)
        Each look-up of a real parameter, and what is to be added to the gradient of the element that it reads.
    """

    inputs: dict[str, Node]
    looks: tuple[tuple[Node, Node], ...]


def derive(traced: Traced) -> Derivative:
    """Return the gradients of a function.

    Where a choice is not taken its derivative is not multiplied by 0 but left out, so that ``where(x > 0, log(x), 0)``
    has the gradient 0 at 0 and not NaN. At a kink one side is taken: minimum and maximum choose their first argument
    where both are equal, abs and sign have the slope 0 at 0.
    """
    graph, result = traced.graph, traced.result
    d = graph.input("d", "f")
    gradients: dict[Node, Node] = {result: d}
    inputs: dict[str, Node] = {}
    looks = []
    for node in reversed(list(ancestors([result]))):
        gradient = gradients.get(node)
        if node.operation == "input" and node.value in traced.derivatives:
            inputs[node.value] = _times(graph, d, traced.derivatives[node.value])
        elif gradient is None:
            continue
        elif node.operation == "input":
            inputs[node.value] = gradient
        elif node.operation == "look":
            looks.append((node, gradient))
        elif node.arguments:
            for argument, part in zip(node.arguments, _parts(graph, node, gradient)):
                if part is not None and argument.kind == "f":
                    before = gradients.get(argument)
                    gradients[argument] = part if before is None else graph.make("add", before, part)
    return Derivative(inputs, tuple(reversed(looks)))


@lru_cache(maxsize=512)
def slope(traced: Traced) -> Node | None:
    """Return the derivative of a function on scores with respect to the score; None where it is more than a factor.

    Where a choice does not read the score, the gradient is 0 whatever that of the result is, NaN included.
    """
    graph = traced.graph
    d = graph.input("d", "f")
    given = derive(traced).inputs.get("score")
    if given is None or any(node.operation == "where" and d in ancestors([node]) for node in ancestors([given])):
        return None
    return graph.copy_of(given, lambda node: graph.constant(1.0) if node is d else None)


def _times(graph: Graph, gradient: Node, slope: Node, operation: str = "mul") -> Node:
    """Return the product, or the quotient; a gradient that is 0 by a choice stays 0 whatever the slope."""
    if gradient.operation == "where":
        condition, this, that = gradient.arguments
        if this.is_constant(0) or that.is_constant(0):
            scaled = [one if one.is_constant(0) else _times(graph, one, slope, operation) for one in (this, that)]
            return graph.make("where", condition, *scaled)
    return graph.make(operation, gradient, slope)


def _parts(graph: Graph, node: Node, gradient: Node) -> list[Node | None]:
    """Return the gradient of each argument of a node; None where there is none."""
    operation, arguments = node.operation, node.arguments
    zero, one = graph.constant(0.0), graph.constant(1.0)

    def choice(condition: Node) -> list[Node | None]:
        return [graph.make("where", condition, gradient, zero), graph.make("where", condition, zero, gradient)]

    def by(*slopes: Node) -> list[Node | None]:
        return [_times(graph, gradient, slope) for slope in slopes]

    if operation == "where":
        return [None, *choice(arguments[0])]
    if operation == "minimum":
        return choice(graph.make("less_equal", *arguments))
    if operation == "maximum":
        return choice(graph.make("less_equal", arguments[1], arguments[0]))
    if operation == "add":
        return [gradient, gradient]
    if operation == "sub":
        return [gradient, *by(graph.constant(-1.0))]
    if operation == "neg":
        return by(graph.constant(-1.0))
    if operation == "mul":
        return by(arguments[1], arguments[0])
    first = arguments[0]
    if operation == "div":
        divisor = arguments[1]
        inverse = graph.make("div", one, divisor)
        found = by(inverse, graph.make("neg", graph.make("mul", node, inverse)))
        if not any(node.operation == "input" for node in ancestors([divisor])):  # one number, whose inverse may be inf
            found[0] = _times(graph, gradient, divisor, "div")
        return found
    if operation == "abs":
        falls, rises = graph.make("less", first, zero), graph.make("less", zero, first)
        return by(graph.make("where", rises, one, graph.make("where", falls, graph.constant(-1.0), zero)))
    if operation == "exp":
        return by(node)
    if operation == "expm1":
        return by(graph.make("add", node, one))
    if operation == "log":
        return by(graph.make("div", one, first))
    if operation == "log1p":
        return by(graph.make("div", one, graph.make("add", one, first)))
    if operation == "sqrt":
        return by(graph.make("div", graph.constant(0.5), node))
    if operation == "tanh":
        return by(graph.make("sub", one, graph.make("mul", node, node)))
    if operation == "arctan":
        return by(graph.make("div", one, graph.make("add", one, graph.make("mul", first, first))))
    if operation == "erf":
        slope = graph.make("exp", graph.make("neg", graph.make("mul", first, first)))
        return by(graph.make("mul", graph.constant(2 / math.sqrt(math.pi)), slope))
    if operation == "sin":
        return by(graph.make("cos", first))
    if operation == "cos":
        return by(graph.make("neg", graph.make("sin", first)))
    if operation == "power":
        exponent = arguments[1]
        lower = graph.make("power", first, graph.make("sub", exponent, one))
        positive = graph.make("less", zero, first)
        logarithm = graph.make("where", positive, graph.make("log", first), zero)
        return by(graph.make("mul", exponent, lower), graph.make("mul", node, logarithm))
    return [None] * len(arguments)  # floor, and what integers become


def derive_rows(traced: Traced) -> Derivative:
    """Return the gradients of a function of rows in terms of those of its weights, the input "d".

    The gradient of a number of the row is the sum of what it adds to over the keys. A maximum is that of all keys that
    have it, in equal parts.
    """
    graph, result = traced.graph, traced.result
    each = of_keys([result])
    own: dict[Node, Node] = {result: graph.input("d", "f")}  # gradients; what keys add to a number of the row: spread
    spread: dict[Node, Node] = {}
    inputs: dict[str, Node] = {}
    looks = []

    def add(to: dict[Node, Node], node: Node, part: Node) -> None:
        to[node] = graph.make("add", to[node], part) if node in to else part

    for node in reversed(list(ancestors([result]))):
        if node in spread:
            add(own, node, reduced(graph, "row_sum", spread[node]))
        gradient = own.get(node)
        if gradient is None:
            continue
        if node.operation == "input":
            inputs[node.value] = seen(graph, gradient, 0.0)
        elif node.operation == "look":
            looks.append((node, seen(graph, gradient, 0.0) if node in each else gradient))
        elif node.arguments:
            for argument, part in zip(node.arguments, _parts_of_rows(graph, node, gradient)):
                if part is not None and argument.kind == "f":
                    add(spread if node in each and argument not in each else own, argument, part)
    return Derivative(inputs, tuple(reversed(looks)))


def _parts_of_rows(graph: Graph, node: Node, gradient: Node) -> list[Node | None]:
    """Return the gradient of each argument of a node."""
    if node.operation == "row_sum":
        return [gradient]
    if node.operation == "row_max":
        largest = graph.make("equal", node.arguments[0], node)
        zero = graph.constant(0.0)
        count = reduced(graph, "row_sum", graph.make("where", largest, graph.constant(1.0), zero))
        return [graph.make("where", largest, graph.make("div", gradient, count), zero)]
    return _parts(graph, node, gradient)
