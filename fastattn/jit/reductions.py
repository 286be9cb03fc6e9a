"""Functions of rows: sums and maxima over the keys of a row, and what they make of masked keys.

The score of each key is the input "s", and "seen" says whether its query may attend to it. A reduction takes a number
of each key and gives one of the row; what is not seen counts as 0 in a sum and as -inf in a maximum, by a choice that
is part of the graph, so that derivatives leave it out as well.
"""

from typing import Any

from fastattn.jit.graph import Graph, Node, ancestors
from fastattn.jit.symbols import Symbol, Tracer

__all__ = ["REDUCTIONS", "RowTracer", "of_keys", "reduced", "seen"]

REDUCTIONS = ("row_sum", "row_max")


class RowTracer(Tracer):
    """One call of a function of rows with symbols."""

    refused = ()

    def reduce(self, name: str, value: Any) -> Symbol:
        """Return the sum, mean, max or min over the keys that a query may attend to, or how many there are."""
        if name == "size":
            return self.reduce("sum", 1.0)
        node = self.graph.real(self.node(value))
        if name == "mean":
            return self.reduce("sum", value) / self.reduce("size", value)
        if name == "min":
            return -self.reduce("max", -Symbol(self, node))
        return Symbol(self, reduced(self.graph, "row_sum" if name == "sum" else "row_max", node))

    def finished(self, node: Node) -> Node:
        """Return the weight of a key: 0 where it is masked."""
        return seen(self.graph, node, 0.0)


def seen(graph: Graph, node: Node, otherwise: float) -> Node:
    """Return a number of each key, or another one where the key is masked."""
    condition = graph.input("seen", "b")
    if node.operation == "where" and node.arguments[0] is condition and node.arguments[2].is_constant(otherwise):
        return node
    return graph.make("where", condition, node, graph.constant(otherwise))


def reduced(graph: Graph, operation: str, node: Node) -> Node:
    """Return the sum or the maximum of a number of each key."""
    if operation == "row_sum" and node.is_constant(0):
        return node
    return graph.make(operation, seen(graph, node, 0.0 if operation == "row_sum" else -float("inf")))


def of_keys(nodes: "list[Node]") -> set[Node]:
    """Return the nodes, of all that some are made of, that have a value for each key and not one for the row."""
    found: set[Node] = set()
    for node in ancestors(nodes):
        own = node.operation == "input" and node.value in ("s", "seen", "j", "d")
        if own or (node.operation not in REDUCTIONS and any(argument in found for argument in node.arguments)):
            found.add(node)
    return found
