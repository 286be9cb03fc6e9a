"""An embedding that shares its table with the output layer."""

from collections.abc import Callable

from fastattn._arrays import Array, gradient_array, index_array
from fastattn._kernels import core
from fastattn.layers.parameter import Layer, Parameter

__all__ = ["TiedEmbedding"]


class TiedEmbedding(Layer):
    """Embeddings that are the columns of the output matrix.

    Parameters
    ----------
    w : Parameter, shape (D, V)
        The output layer's.

    References
    ----------
    Press and Wolf, "Using the Output Embedding to Improve Language Models", EACL 2017, arXiv:1608.05859.
    """

    def __init__(self, w: Parameter) -> None:
        self.w = w

    def forward(self, ids: Array) -> Array:
        """Return (..., D)."""
        return self._columns(index_array("ids", ids, self.w._array.shape[1]))

    def vjp(self, ids: Array) -> tuple[Array, Callable[[Array], None]]:
        """Return ``forward(ids)``, and the function that adds the gradient of its result to that of w.

        ids are copied: their array may be used for other ids at once.
        """
        width, size = self.w._array.shape
        numbers = index_array("ids", ids, size)

        def backward(dy: Array) -> None:
            dy = gradient_array("dy", dy, (*numbers.shape, width), self.w._array.dtype)
            core.scatter(core.unit(dy.reshape(numbers.size, width)), numbers, -1, self.w._gradient, columns=True)

        return self._columns(numbers), backward

    def _columns(self, numbers: Array) -> Array:
        return self.w._columns(numbers.reshape(-1)).reshape(*numbers.shape, len(self.w._array))
