"""Feature grids, as of pictures, as memories: cells row by row, and weights back to maps."""

import math
import reprlib
from typing import Any

import numpy as np

from fastattn._arrays import Array, as_array, float_array
from fastattn._numbers import check_size
from fastattn.errors import ArgumentError, DTypeError, ShapeError, describe

__all__ = ["Grid"]


class Grid:
    """Where the cells of a batch of feature grids are in a memory (Xu et al. 2015, arXiv:1502.03044, section 3.1.1).

    Grids of different size are padded to one array (B, R, C, D). In the memory a sample has its own cells only, row
    after row, without gaps, and padding behind them, so that `lengths` says all and neither bits nor places depend on
    what the sample was padded to::

        memory[b, i columns_b + j] = features[b, i, j],     i < rows_b, j < columns_b

    Parameters
    ----------
    extents : int array, shape (B, 2)
        Rows and columns of each sample.
    shape : (int, int), optional
        R and C; by default the largest of each.

    Attributes
    ----------
    shape : (int, int)
    lengths : int64 array, shape (B,)
        Numbers of cells, for `fastattn.prepare`, `fastattn.attention` or `Variant.prepare`.
    cells : int
        S, the largest of the lengths.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        If the extents are not pairs of integers, or beyond the shape.

    Notes
    -----
    `flatten` and `unflatten` are copies of B S D elements, and each is the gradient of the other.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> from fastattn.grid import Grid
    >>> grid = Grid(np.array([[2, 3], [1, 2]]))
    >>> features = np.arange(12.0).reshape(2, 2, 3, 1)
    >>> memory = grid.flatten(features)
    >>> memory[..., 0], grid.lengths
    (array([[0., 1., 2., 3., 4., 5.],
           [6., 7., 0., 0., 0., 0.]]), array([6, 2]))
    >>> output = fastattn.attention(np.ones((2, 1, 1)), memory, memory, key_lengths=grid.lengths, return_weights=True)
    >>> grid.maps(output.weights)[1, 0].round(3)
    array([[0.269, 0.731, 0.   ],
           [0.   , 0.   , 0.   ]])
    """

    def __init__(self, extents: Array, shape: tuple[int, int] | None = None) -> None:
        extents = as_array("extents", extents)
        if extents.dtype.kind not in "iu" or extents.ndim != 2 or extents.shape[1] != 2:
            error = ShapeError if extents.dtype.kind in "iu" else DTypeError
            got = f"{extents.dtype} of shape {extents.shape}"
            hint = "pass (rows, columns) of each sample, as integers."
            raise error(describe("extents", "integers of shape (B, 2)", got, hint))
        if shape is None:
            largest = extents.max(axis=0).tolist() if len(extents) else [0, 0]
            shape = largest[0], largest[1]
        else:
            both: Any = shape
            if not isinstance(both, (tuple, list)) or len(both) != 2:
                raise ShapeError(describe("shape", "a pair of integers", reprlib.repr(both), "pass (rows, columns)."))
            shape = check_size("shape", both[0], 0), check_size("shape", both[1], 0)
        if (extents < 0).any() or (extents > np.array(shape)).any():
            got = f"up to {tuple(extents.max(axis=0).tolist())}, from {int(extents.min())}"
            hint = "pass rows before columns, without the padding."
            raise ArgumentError(describe("extents", f"rows and columns from 0 to {tuple(shape)}", got, hint))
        self.shape = int(shape[0]), int(shape[1])
        if math.prod(self.shape) >= 2**63:
            hint = "pass the rows and columns of feature vectors, a few hundred of each at most."
            raise ArgumentError(describe("extents", "fewer than 2**63 cells", f"{self.shape} of them", hint))
        rows, columns = extents.astype(np.int64).T[..., None]
        self.lengths = (rows * columns)[:, 0]
        self.cells = int(self.lengths.max(initial=0))
        places = np.arange(self.cells)
        inside = places < self.lengths[:, None]
        at = places // np.maximum(columns, 1) * self.shape[1] + places % np.maximum(columns, 1)
        # (sample, place in the memory) and (sample, cell of the padded grid) of every cell.
        self._places, self._at = np.nonzero(inside), at[inside]

    def flatten(self, features: Array) -> Array:
        """Return the memory (B, S, D) of features (B, R, C, D): zeros behind the lengths, the padding is not read."""
        features = float_array("features", features)
        batch, (rows, columns) = len(self.lengths), self.shape
        if features.ndim != 4 or features.shape[:3] != (batch, rows, columns):
            expected = f"shape ({batch}, {rows}, {columns}, D)"
            raise ShapeError(describe("features", expected, f"shape {features.shape}", "pass Grid(..., shape=)."))
        width = features.shape[3]
        memory = np.zeros((batch, self.cells, width), features.dtype.newbyteorder("="))
        memory[self._places] = features.reshape(batch, rows * columns, width)[self._places[0], self._at]
        return memory

    def unflatten(self, memory: Array) -> Array:
        """Return the features (B, R, C, D) of a memory (B, S, D), zeros in the padding: the gradient of `flatten`."""
        return self._unflatten("memory", float_array("memory", memory))

    def _unflatten(self, name: str, memory: Array) -> Array:
        batch, (rows, columns) = len(self.lengths), self.shape
        if memory.ndim < 2 or memory.shape[:2] != (batch, self.cells):
            expected = f"batch {batch} and {self.cells} cells"
            raise ShapeError(describe(name, expected, f"shape {memory.shape}", "pass what belongs to this grid."))
        flat = np.zeros((batch, rows * columns, *memory.shape[2:]), memory.dtype.newbyteorder("="))
        flat[self._places[0], self._at] = memory[self._places]
        return flat.reshape(batch, rows, columns, *memory.shape[2:])

    def maps(self, weights: Array) -> Array:
        """Return weights (B, ..., S), as (B, Tq, S) or (B, H, Tq, S), as maps (B, ..., R, C), zeros in the padding.

        The map of sample b without its padding is ``maps(weights)[b, ..., :rows_b, :columns_b]``.
        """
        weights = float_array("weights", weights)
        if weights.ndim < 2:
            hint = "pass what attention returned."
            raise ShapeError(describe("weights", "shape (B, ..., S)", f"shape {weights.shape}", hint))
        cells_first = self._unflatten("weights", np.moveaxis(weights, -1, 1))
        return np.ascontiguousarray(np.moveaxis(cells_first, (1, 2), (-2, -1)))

    def __repr__(self) -> str:
        cells = math.prod(self.shape)
        return f"Grid(batch={len(self.lengths)}, shape={self.shape}, {self.cells} of {cells} cells)"
