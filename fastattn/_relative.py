"""Numbers added to scores that depend only on how far a key is from its query."""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from fastattn._arrays import Array, float_array
from fastattn._numbers import check_flag
from fastattn.errors import ShapeError, describe

__all__ = ["RelativeBias"]


class RelativeBias:
    """A bias of attention with equal numbers along each diagonal, for ``fastattn.attention(..., bias=)``.

    ::

        bias_ij = values[j - i + Tq - 1]            of head h: values[h, j - i + Tq - 1]

    i and j count the queries and keys of the call. The kernels read the Tq + Tk - 1 numbers in place, and add up the
    gradient in as many, so that no array of size (Tq, Tk) is made.

    Parameters
    ----------
    values : array, shape (Tq + Tk - 1,) or (H, Tq + Tk - 1)
        -inf masks.
    trained : bool
        Whether `Gradients.bias` is the gradient of `values`, of their shape, or None. The gradient is a sum over the
        batch, for which a head's samples are computed one after the other; without it they run in parallel.

    Attributes
    ----------
    values : array
    trained : bool

    Raises
    ------
    ShapeError, DTypeError
        If values are no such array; and from the call, if they do not fit its queries and keys.

    Notes
    -----
    The same bits as of the array ``relative.array(Tq, Tk)``, gradients of query, key and value too.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> from fastattn.positions import RelativeBias
    >>> x = np.ones((1, 2, 3, 4), np.float32)
    >>> bias = RelativeBias(np.array([[0, 0, 0, -1, -2], [0, 0, 0, -2, -4]], np.float32))
    >>> bias.array(3, 3)[1]
    array([[ 0., -2., -4.],
           [ 0.,  0., -2.],
           [ 0.,  0.,  0.]], dtype=float32)
    >>> fastattn.attention(x, x, x, bias=bias).shape
    (1, 2, 3, 4)
    """

    __slots__ = ("_values", "trained")

    def __init__(self, values: Array, *, trained: bool = True) -> None:
        self.values = values
        self.trained = check_flag("trained", trained)

    @property
    def values(self) -> Array:
        """The numbers; what is assigned is checked."""
        return self._values

    @values.setter
    def values(self, values: Array) -> None:
        values = float_array("values", values)
        if values.ndim not in (1, 2):
            hint = "one number for each distance, or a row of them for each head."
            raise ShapeError(describe("values", "shape (R,) or (H, R)", f"shape {values.shape}", hint))
        self._values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))

    def array(self, queries: int, keys: int) -> Array:
        """Return the bias as an array (Tq, Tk) or (H, Tq, Tk), a view that may only be read.

        Parameters
        ----------
        queries, keys : int
            Tq and Tk.
        """
        return diagonals(self.values, queries, keys, False)

    def gradient(self, d_array: Array) -> Array:
        """Return the gradient of `values` from that of ``array(Tq, Tk)``: sums along its diagonals.

        Parameters
        ----------
        d_array : array, shape (Tq, Tk) or (H, Tq, Tk)
        """
        d_array = float_array("d_array", d_array)
        queries, keys = d_array.shape[-2:] if d_array.ndim > 1 else (0, 0)
        if d_array.shape[:-2] != self.values.shape[:-1] or max(queries + keys - 1, 0) != self.values.shape[-1]:
            hint = "pass the gradient of array(Tq, Tk)."
            expected = "the shape of an array that these values make"
            raise ShapeError(describe("d_array", expected, f"shape {d_array.shape}", hint))
        d_values = np.zeros_like(self.values)
        for i in range(queries):
            d_values[..., queries - 1 - i : queries - 1 - i + keys] += d_array[..., i, :]
        return d_values

    def __repr__(self) -> str:
        return f"RelativeBias(shape={self.values.shape}, dtype={self.values.dtype}, trained={self.trained})"


def distances(first: int, queries: int, keys: int) -> Array:
    """Return j - i of keys 0, 1, ... and queries first, first + 1, ..., ascending, int64 (Tq + Tk - 1,)."""
    return np.arange(max(queries + keys - 1, 0)) - (first + queries - 1)


def diagonals(values: Array, queries: int, keys: int, writeable: bool) -> Array:
    """Return the view (..., Tq, Tk) of contiguous values (..., Tq + Tk - 1) whose element i, j is j - i + Tq - 1."""
    there = max(queries + keys - 1, 0)
    if values.shape[-1] != there or not values.flags.c_contiguous:  # the view would reach beyond them
        expected = f"{there} distances, of {queries} queries and {keys} keys"
        hint = "there is one from -(Tq - 1) to Tk - 1."
        raise ShapeError(describe("bias", expected, f"values of shape {values.shape}", hint))
    shape = (*values.shape[:-1], queries, keys)
    if not queries or not keys:
        return np.zeros(shape, values.dtype)
    item = values.itemsize
    return as_strided(
        values[..., queries - 1 :], shape, (*values.strides[:-1], -item, item), writeable=writeable, subok=False
    )
