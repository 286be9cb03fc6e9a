"""What a graph computes, in NumPy and float64: the reference of the compiled functions."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fastattn.jit.graph import Node, ancestors
from fastattn.jit.operations import OPERATIONS

__all__ = ["evaluate"]


def evaluate(nodes: Iterable[Node], inputs: Mapping[str, Any], parameters: list[Any]) -> list[Any]:
    """Return the values of some nodes.

    Parameters
    ----------
    nodes : iterable of Node
    inputs : mapping of str to array
        By name; they broadcast with each other.
    parameters : list of array
    """
    nodes = list(nodes)
    found: dict[Node, Any] = {}
    with np.errstate(all="ignore"):
        for node in ancestors(nodes):
            given = [found[argument] for argument in node.arguments]
            if node.operation == "constant":
                found[node] = node.value
            elif node.operation == "input":
                found[node] = np.asarray(inputs[node.value])
            elif node.operation == "size":
                parameter, axis = node.value
                found[node] = parameters[parameter].shape[axis]
            elif node.operation == "look":
                array = np.asarray(parameters[node.value])
                array = array.astype(np.float64) if node.kind == "f" else array
                found[node] = array[tuple(given)] if given else array[()]
            else:
                found[node] = OPERATIONS[node.operation].function(*given)
    return [found[node] for node in nodes]
