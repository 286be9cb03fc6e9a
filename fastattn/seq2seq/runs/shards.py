"""Gradients of a step in shards, added in one tree: the same bits for any number of processes.

A step's batches are cut into a fixed number of shards. Each shard's gradient begins at zero, and those of all shards
are added in a binary tree whose form depends on their number alone. A process computes neighbouring shards, adds what
it has of the tree, and all add the rest alike, so that who computed a shard cannot be seen in the sum.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from fastattn._arrays import Array
from fastattn.layers import Parameter
from fastattn.seq2seq.runs.processes import Processes
from fastattn.seq2seq.text.batches import Batch

__all__ = ["ShardedGradients", "part"]

Node = tuple[int, int]  # shards from the first up to the second one

_LINE = 64  # bytes: where the gradient of each parameter begins


def part(batch: Batch, shard: int, shards: int) -> Batch:
    """Return the rows of a batch that belong to a shard, every `shards`-th one, with the padding that they need.

    Rows of a batch are sorted by length: neighbours go to different shards, which so are of about one size.
    """
    rows = slice(shard, None, shards)
    values = {field.name: getattr(batch, field.name)[rows] for field in dataclasses.fields(batch)}
    for side in ("source", "target"):
        longest = values[f"{side}_lengths"].max(initial=0)
        values[side] = np.ascontiguousarray(values[side][:, :longest])
    return Batch(**values)


def _nodes(block: Node, node: Node) -> list[Node]:
    """Return the largest parts of the tree below a node that lie within a block of shards, in order."""
    if block[1] <= node[0] or node[1] <= block[0]:
        return []
    if block[0] <= node[0] and node[1] <= block[1]:
        return [node]
    return [found for half in _halves(node) for found in _nodes(block, half)]


def _halves(node: Node) -> tuple[Node, Node]:
    middle = (node[0] + node[1]) // 2
    return (node[0], middle), (middle, node[1])


class ShardedGradients:
    """The gradients of a model's parameters, summed over shards and processes.

    Parameters
    ----------
    parameters : mapping of str to Parameter
    shards : int
    processes : Processes
        At most as many as shards.

    Notes
    -----
    A sum holds at most log2(shards) + 1 copies of the gradients, and with several processes one more for each of them.
    """

    def __init__(self, parameters: Mapping[str, Parameter], shards: int, processes: Processes) -> None:
        self._gradients = [parameter.gradient for parameter in parameters.values()]
        self._shards, self._processes = shards, processes
        self._places, size = list[int](), _LINE  # the loss stands at the beginning
        for gradient in self._gradients:
            self._places.append(size)
            size += -(-gradient.nbytes // _LINE) * _LINE
        self._size = size
        blocks = [(rank * shards // processes.size, (rank + 1) * shards // processes.size)
                  for rank in range(processes.size)]  # fmt: skip
        self._nodes = [_nodes(block, (0, shards)) for block in blocks]
        self.own = range(*blocks[processes.rank])
        self._free: list[Array] = []

    def add(self, compute: Callable[[int], float]) -> float:
        """Set all gradients to the sum over all shards, and return the sum of the losses.

        Parameters
        ----------
        compute : callable
            ``compute(shard)`` adds the gradients of a shard, and returns its loss. It is called for those of `own`.
        """
        of_nodes = self._nodes[self._processes.rank]
        found = [self._computed(node, compute) for node in of_nodes]
        if self._processes.size == 1:
            [total] = found
        else:
            most = max(map(len, self._nodes))
            message = np.zeros(most * self._size, np.uint8)
            for place, array in enumerate(found):
                message[place * self._size : (place + 1) * self._size] = array
            self._free += found
            gathered = [array.reshape(most, self._size) for array in self._processes.all_gather(message)]
            total = self._total((0, self._shards), {
                node: array[place]
                for nodes, array in zip(self._nodes, gathered) for place, node in enumerate(nodes)
            })  # fmt: skip
        loss, *gradients = self._views(total)
        for gradient, own in zip(gradients, self._gradients):
            own[...] = gradient
        result = float(loss[0])
        if self._processes.size == 1:
            self._free.append(total)
        return result

    def _computed(self, node: Node, compute: Callable[[int], float]) -> Array:
        """Return the sum of a node whose shards are all this process' own."""
        if node[1] - node[0] > 1:
            left, right = (self._computed(half, compute) for half in _halves(node))
            self._add(left, right)
            self._free.append(right)
            return left
        array = self._free.pop() if self._free else np.zeros(self._size, np.uint8)
        loss, *gradients = self._views(array)
        loss[0] = compute(node[0])
        for gradient, own in zip(gradients, self._gradients):
            gradient[...] = own
            own[...] = 0
        return array

    def _total(self, node: Node, known: Mapping[Node, Array]) -> Array:
        """Return the sum of a node of which the parts are known; they are changed."""
        if node in known:
            return known[node]
        left, right = (self._total(half, known) for half in _halves(node))
        self._add(left, right)
        return left

    def _add(self, left: Array, right: Array) -> None:
        for one, other in zip(self._views(left), self._views(right)):
            one += other

    def _views(self, array: Array) -> Iterator[Array]:
        """Yield the loss and the gradients that stand in an array of bytes."""
        yield array[:8].view(np.float64)
        for place, gradient in zip(self._places, self._gradients):
            yield array[place : place + gradient.nbytes].view(gradient.dtype).reshape(gradient.shape)
