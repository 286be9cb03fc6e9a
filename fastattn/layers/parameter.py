"""What every layer is made of: parameters with their gradients, and layers that hold them by name."""

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from fastattn import _cards, _reprs
from fastattn._arrays import Array, float_array, gradient_array, type_word
from fastattn._kernels import core
from fastattn._numbers import check_choice
from fastattn.errors import ArgumentError, ShapeError, describe
from fastattn.layers.halves import storing_halves
from fastattn.linear import PackedWeights, Parts, pack_panels, replace_gradient, split_parts, weight_gradient

__all__ = ["Layer", "Parameter"]


Storage = Literal["float32", "bfloat16", "int8"]
STORAGES: tuple[Storage, ...] = get_args(Storage)


class _PackedValue(PackedWeights):
    """The packed forms of a parameter: they are made from the value itself instead of a copy when they are needed, in
    the memory of the forms before them, since new memory costs more than packing."""

    def __init__(self, value: Array, memory: dict[tuple[bool, int], Array]) -> None:
        self._value, self._memory = value, memory
        super().__init__(value)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._value.dtype

    def _first(self, w: Array) -> None:
        return None

    def _pack(self, w: Array, transposed: bool) -> Array:
        place = transposed, 0
        self._memory[place] = pack_panels(w, transposed, self._memory.get(place))
        return self._memory[place]

    def _split(self, transposed: bool, count: int) -> Parts | None:
        place = transposed, count
        made = split_parts(self._value, transposed, count, self._memory.get(place), core.lasting)
        if made is not None:
            self._memory[place] = made[0]
        return made

    def unpack(self) -> Array:
        return self._value.copy()

    def _unpacked(self) -> Array:
        return self._value


class Parameter:
    """An array that is learnt, its gradient, and its packed forms.

    Parameters
    ----------
    value : array, float32 or float64
        Copied.

    Attributes
    ----------
    value : array
        A read-only view, which follows later changes; `copy` it to keep what it holds. Change the value by `assign` or
        in a block of `edit`; ``w.value += 1`` is NumPy's error for any read-only array, see the example.
    gradient : array
        Same shape; backward passes add to it, an optimizer sets it back to zero. What is assigned is copied into the
        parameter's own array and rounded to its dtype; arithmetic in place is another way to change it.

    Notes
    -----
    Each access to `value` or `gradient` makes a new view of the same memory, in 0.2 us: nothing that is done to a view,
    such as setting its shape, reaches the kernels, which read arrays that are never handed out (`_array`,
    `_gradient`). A copy, by `copy` or `pickle`, has its own value and gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import Parameter
    >>> w = Parameter(np.ones((2, 3), np.float32))
    >>> with w.edit() as value:
    ...     value += 1
    >>> w.packed().matmul(np.ones((1, 2), np.float32))
    array([[4., 4., 4.]], dtype=float32)
    >>> w.value += 1
    Traceback (most recent call last):
    ValueError: output array is read-only
    >>> w.assign(np.zeros((2, 3)))
    >>> w.packed().matmul(np.ones((1, 2), np.float32))
    array([[0., 0., 0.]], dtype=float32)
    """

    __slots__ = (
        "_array", "_cleared", "_lent", "_memory", "_packed", "_replaced", "_rounded", "_seen", "_storage", "_sums",
        "_value_memory",
    )  # fmt: skip

    def __init__(self, value: Array) -> None:
        self._hold(float_array("value", value))

    def _hold(self, value: Array, gradient: Array | None = None) -> None:
        """Begin with copies of a value and of a gradient, by default 0."""
        self._array = core.lasting(value.shape, value.dtype.newbyteorder("="))
        self._array[...] = value
        self._sums = core.lasting(value.shape, self._array.dtype)
        if gradient is not None:
            self._sums[...] = gradient
        # Whether the gradient is zero whatever is in its memory, and whether products replace it as soon as it is.
        self._cleared = self._replaced = False
        # What is handed out leads to views and to their memory, never to the arrays that kernels read.
        self._value_memory = self._array.view().data.toreadonly()
        self._seen: weakref.ref[Array] | None = None
        self._packed: PackedWeights | None = None
        self._memory: dict[tuple[bool, int], Array] = {}
        self._storage: Storage = "float32"
        self._rounded = False  # what is packed is the value itself, which was rounded to it
        self._lent: Array | None = None

    @property
    def value(self) -> Array:
        """See above."""
        return np.asarray(self._value_memory)

    @value.setter
    def value(self, value: object) -> None:
        hint = "call assign(value), or change the copy that `with parameter.edit() as w:` gives."
        raise ArgumentError(describe("value", "no assignment", f"one of {type(value).__name__}", hint))

    @property
    def gradient(self) -> Array:
        """See above."""
        view = None if self._seen is None else self._seen()
        if view is None:
            view = self._gradient.view()
            self._seen = weakref.ref(view)
        return np.asarray(view.data)

    @gradient.setter
    def gradient(self, gradient: object) -> None:
        self._gradient[...] = self._fitting("gradient", gradient)

    @property
    def _gradient(self) -> Array:
        """The array that kernels add to."""
        if self._cleared:
            self._sums[...] = 0
            self._cleared = False
        return self._sums

    def _clears_later(self) -> bool:
        """Whether zeros need not be written now: products replace them, and nobody has a view of them."""
        return self._replaced and (self._seen is None or self._seen() is None)

    def _add_product(self, x: Array, dy: Array, bias: "Parameter | None") -> None:
        """Add the gradients of a matrix and of a bias for ``y = x w + b``."""
        own = (self,) if bias is None else (self, bias)
        if all(p._cleared for p in own):
            replace_gradient(x, dy, self._sums, None if bias is None else bias._sums)
        else:
            weight_gradient(x, dy, self._gradient, sums=None if bias is None else bias._gradient)
        for p in own:
            p._cleared, p._replaced = False, True

    def assign(self, value: object) -> None:
        """Copy a value in, rounded to the parameter's dtype.

        Parameters
        ----------
        value : array, float32 or float64
            Of the parameter's shape.

        Notes
        -----
        Packed forms are made anew when they are next needed, in the memory of those before. What `packed` returned
        earlier stays safe to use; its products are those of an old or of a new value.
        """
        self._changing()[...] = self._fitting("value", value)

    @contextmanager
    def edit(self) -> Iterator[Array]:
        """Give a copy of the value to a block, and assign it at the block's end, unless that is an exception.

        Examples
        --------
        >>> import numpy as np
        >>> from fastattn.layers import Parameter
        >>> w = Parameter(np.zeros(3))
        >>> with w.edit() as value:
        ...     value[1:] = 5
        >>> w.value
        array([0., 5., 5.])
        """
        value = self._array.copy()
        yield value
        self.assign(value)

    def packed(self) -> PackedWeights:
        """Return the matrix packed for products; it is packed once for each change of the value.

        Ask for it again after a change: see `assign`.
        """
        if self._packed is None:
            if self._storage == "float32":
                self._packed = _PackedValue(self._array, self._memory)
            else:
                self._packed = PackedWeights(self._array, self._storage)
        return self._packed

    def store(self, dtype: Storage | type[np.generic] | np.dtype[Any]) -> None:
        """Round the value, a float32 matrix, to a narrower type, in which it is packed for products from now on.

        Parameters
        ----------
        dtype : {"float32", "bfloat16", "int8"}
            That of `PackedWeights`. With "float32" products are of float32 again, of the value as it is.

        Notes
        -----
        For models that are trained: a value that is changed afterwards is rounded when it is packed.
        """
        storage = check_choice("dtype", type_word(dtype), STORAGES)
        packed = None if storage == "float32" else PackedWeights(self._array, storage)
        if packed is not None:
            self._array[...] = packed.unpack()
        self._packed, self._storage, self._rounded = packed, storage, packed is not None

    def _borrow(self) -> Array:
        """Return an array like the value, whose elements are arbitrary, for a gradient that cannot be added yet.

        `_give_back` it, and it is lent again without costing new memory.
        """
        array, self._lent = self._lent, None
        return np.empty_like(self._array) if array is None else array

    def _give_back(self, array: Array) -> None:
        """Take what `_borrow` returned; it may be overwritten from now on."""
        self._lent = array

    def accumulate(self, gradient: Array) -> None:
        """Add to the gradient an array of its shape and dtype."""
        hint = "sum it over the axes that the parameter was broadcast along."
        own = self._gradient
        own += gradient_array("gradient", gradient, self._array.shape, self._array.dtype, hint)

    def _changing(self) -> Array:
        """The array that kernels read, for the library's own code to write at once."""
        self._packed, self._rounded = None, False
        return self._array

    def _columns(self, ids: Array) -> Array:
        """Return columns of a matrix, (n, K), from where they are packed if that is what they are."""
        packed = self._packed
        narrow = packed._narrow if self._rounded and packed is not None else None
        if narrow is not None:
            return narrow.columns(ids)
        y = np.empty((len(ids), len(self._array)), self._array.dtype)
        core.gather(self._array, ids, y, columns=True)
        return y

    def _parts(self) -> dict[tuple[bool, int], Array]:
        """The memory of the parts that products have read since the last change, for who writes the value next and
        them too; none unless all are of one number of parts."""
        if self._storage != "float32" or self._packed is None:
            return {}
        made = {place: self._memory[place] for place, parts in self._packed._parts.items() if parts is not None}
        return made if len({count for _, count in made}) == 1 else {}

    def _keep_parts(self, fits: dict[tuple[bool, int], bool]) -> None:
        """Take parts of the value as it is now, written to their memory; whether all of a form are for the unit."""
        self._packed = _PackedValue(self._array, self._memory)
        self._packed._parts = {place: (self._memory[place], whether) for place, whether in fits.items()}

    def _fitting(self, name: str, value: object) -> Array:
        array = float_array(name, value)
        if array.shape != self._array.shape:
            hint = "the parameter keeps its shape; make another layer for another size."
            expected = f"shape {self._array.shape}, that of the parameter"
            raise ShapeError(describe(name, expected, f"shape {array.shape}", hint))
        return array

    def __getstate__(self) -> tuple[Array, Array, Storage]:
        return self._array, self._gradient, self._storage

    def __setstate__(self, state: tuple[Array, Array, Storage]) -> None:
        self._hold(*state[:2])  # a copy: two parameters with one memory would not know of each other's changes
        self._storage = state[2]

    def __repr__(self) -> str:
        return f"Parameter(shape={self._array.shape}, dtype={self._array.dtype})"


class Layer:
    """Base class of layers: finds parameters in its attributes, in the order in which they were set.

    `forward` and `vjp` of a layer are given float32 or float64: of arrays of half types they get copies in float32, and
    what they return is rounded to the type of the first.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import Linear
    >>> Linear(3, 4, rng=np.random.default_rng(0))
    Linear(w: (3, 4), b: (4,), float32)
    """

    _matrices: ClassVar[tuple[str, ...]] = ()  # parameters of its own that rows are multiplied with, by `packed`
    _store_halves: ClassVar[tuple[str, ...]] = ("forward", "vjp")  # methods whose first array may be of a half type

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in cls._store_halves:
            if name in vars(cls):
                setattr(cls, name, storing_halves(vars(cls)[name]))

    def store(self, dtype: Storage | type[np.generic] | np.dtype[Any]) -> None:
        """Keep matrices in a narrower type, to which their values are rounded: see `Parameter.store`.

        Parameters
        ----------
        dtype : {"float32", "bfloat16", "int8"}

        Notes
        -----
        Matrices are those of affine layers, which networks, projections of attention and output layers are made of, and
        those of the inputs of recurrent layers. Biases, embeddings, normalization, the matrices of recurrent states and
        the parameters of scores stay float32, and so does everything between the products. A row has the same bits in
        any batch.

        Examples
        --------
        >>> import numpy as np
        >>> from fastattn.layers import Linear
        >>> layer = Linear(3, 4, rng=np.random.default_rng(0))
        >>> layer.store("int8")
        >>> layer.w.packed()
        PackedWeights(shape=(3, 4), dtype=int8)
        """
        for parameter in self._stored().values():
            parameter.store(dtype)

    def _stored(self) -> dict[str, Parameter]:
        """The parameters that `store` rounds, by dotted name."""
        wanted = {id(getattr(layer, name)) for layer in self._within() for name in layer._matrices}
        return {name: parameter for name, parameter in self.parameters().items() if id(parameter) in wanted}

    def parameters(self) -> dict[str, Parameter]:
        """Return all parameters by dotted name; a parameter that two layers share is listed once."""
        found: dict[str, Parameter] = {}
        seen: set[int] = set()
        for name, parameter in self._named():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                found[name] = parameter
        return found

    def _named(self) -> Iterator[tuple[str, Parameter]]:
        for name, value in self._members():
            if isinstance(value, Parameter):
                yield name, value
            else:
                yield from ((f"{name}.{inner}", parameter) for inner, parameter in value._named())

    def _members(self) -> Iterator[tuple[str, "Parameter | Layer"]]:
        """Parameters and layers among the attributes, and layers in lists of these."""
        for name, value in vars(self).items():
            if isinstance(value, (Parameter, Layer)):
                yield name, value
            elif isinstance(value, (list, tuple)):
                yield from ((f"{name}.{number}", item) for number, item in enumerate(value) if isinstance(item, Layer))

    def _within(self) -> "Iterator[Layer]":
        """The layer, and all within it."""
        yield self
        for _, value in self._members():
            if isinstance(value, Layer):
                yield from value._within()

    def _facts(self) -> Mapping[str, object]:
        """What is to be said of a layer besides its parameters."""
        kinds = bool, int, float, str, np.ndarray
        return {name: x for name, x in vars(self).items() if name[0] != "_" and isinstance(x, kinds)}

    def __repr__(self) -> str:
        return _reprs.words(self, _reprs.shapes(self.parameters()), **self._facts())

    def _repr_html_(self) -> str:
        """A card with all parameters."""
        found = {name: parameter.value for name, parameter in self.parameters().items()}
        lines = ((name, str(value.shape), value.dtype, f"{value.size:,}") for name, value in found.items())
        count = f"{sum(value.size for value in found.values()):,} parameters in {len(found)} arrays"
        facts = {name: x if isinstance(x, str) else _reprs.brief(x) for name, x in self._facts().items()}
        table = _cards.grid(["name", "shape", "dtype", "parameters"], lines)
        return _cards.card(type(self).__name__, _cards.rows(facts), _cards.folded(count, table, opened=len(found) < 9))
