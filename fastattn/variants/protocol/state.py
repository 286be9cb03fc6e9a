"""What one step leaves for the next, and the checks that it is of the memory that it is used with."""

from dataclasses import Field, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fastattn import _reprs
from fastattn._arrays import Array, gradient_array, native, row_array
from fastattn.errors import ArgumentError, DTypeError, ShapeError, describe

if TYPE_CHECKING:
    from fastattn.variants.protocol.prepared import Prepared

__all__ = ["AttentionState", "PositionState", "check_state", "check_state_gradient", "per_sample", "selected"]


def per_sample(*axes: str, dtype: Any = None) -> dict[str, Any]:
    """Return the metadata of a field of a state that is an array (B, ...).

    Parameters
    ----------
    *axes : str
        Sizes behind the batch: "S", the number of positions, or the name of an attribute of the variant.
    dtype : dtype, optional
        By default the variant's.

    Examples
    --------
    >>> import numpy as np
    >>> from dataclasses import dataclass, field
    >>> from fastattn.variants import AttentionState, per_sample
    >>> @dataclass(frozen=True)
    ... class Attended(AttentionState):
    ...     total: np.ndarray = field(metadata=per_sample("S"))
    """
    return {"axes": axes, "dtype": dtype}


@dataclass(frozen=True)
class AttentionState:
    """What a variant carries from one step to the next; this class itself is that of variants that carry nothing.

    Fields are arrays, batch first, which `per_sample` declares, or whole numbers, or None, or have a `select` of their
    own. A state of gradients is of the same class.

    Attributes
    ----------
    shape : (int, int), or None
        B and S of the memory that the state belongs to; None: not known.
    """

    shape: tuple[int, int] | None = field(default=None, kw_only=True)

    __repr__ = _reprs.fields

    def __init_subclass__(cls) -> None:
        cls.__repr__ = _reprs.fields  # type: ignore[assignment]  # before a dataclass has one that prints arrays

    def select(self, rows: Array) -> Self:
        """Return the state whose batch entry i is this one's entry ``rows[i]``."""
        values = {one.name: getattr(self, one.name) for one in _own_fields(type(self))}
        batch, keys = self.shape or (next((len(x) for x in values.values() if isinstance(x, np.ndarray)), None), None)
        index = row_array(rows, batch)
        shape = None if keys is None else (len(index), keys)
        return replace(self, **{name: selected(value, index) for name, value in values.items()}, shape=shape)


@dataclass(frozen=True)
class PositionState(AttentionState):
    """The position of the next query."""

    position: int


def selected(value: Any, rows: Array) -> Any:
    """Return entries of what has a batch, also in a tuple, and anything else as it is."""
    if isinstance(value, np.ndarray):
        return value[rows]
    if isinstance(value, tuple):
        return tuple(selected(item, rows) for item in value)
    return value.select(rows) if hasattr(value, "select") else value


_FIELDS: dict[type, tuple[Field[Any], ...]] = {}


def _own_fields(kind: type[AttentionState]) -> tuple[Field[Any], ...]:
    found = _FIELDS.get(kind)
    if found is None:
        found = _FIELDS[kind] = tuple(one for one in fields(kind) if one.name != "shape")
    return found


_START = "pass what start() or the step before returned."
_SELECT = "start() anew for another memory, and select the same rows of the state and of the memory."
_BACK = "pass what the backward pass of the step after this one returned, or None."


def check_state(state: object, variant: Any, prepared: "Prepared") -> None:
    """Raise unless a state is of one of the kinds that the variant has, and of this memory."""
    kind: Any = type(state)
    if kind not in variant.states:
        expected = " or ".join(one.__name__ for one in variant.states)
        raise _wrong(DTypeError, "state", f"a {expected}", kind.__name__, _START)
    own: Any = state
    if own.shape is not None and own.shape != prepared.shape:
        expected, got = (f"one of {batch} samples and {keys} positions" for batch, keys in (prepared.shape, own.shape))
        raise _wrong(ShapeError, "state", expected, got, _SELECT)
    declared = prepared._expected.get(kind)
    if declared is None:
        declared = prepared._expected[kind] = [_expectation(one, variant, prepared) for one in _own_fields(kind)]
    for name, optional, shape, dtype, whole in declared:
        value: Any = getattr(own, name)
        if value is None and optional:
            continue
        if shape is not None:
            if type(value) is not np.ndarray or value.dtype != dtype:
                got = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
                raise _wrong(DTypeError, f"state.{name}", f"an array of {dtype}", got, _START)
            if value.shape != shape:
                raise _wrong(ShapeError, f"state.{name}", f"shape {shape}", f"shape {value.shape}", _SELECT)
        elif whole and (type(value) is not int or value < 0):
            raise _wrong(ArgumentError, f"state.{name}", "a whole number from 0 on", repr(value), _START)
        elif isinstance(value, np.ndarray) and value.shape[:1] != prepared.shape[:1]:
            raise _wrong(ShapeError, f"state.{name}", f"{prepared.batch} samples", f"shape {value.shape}", _SELECT)


def _expectation(one: Field[Any], variant: Any, prepared: "Prepared") -> tuple[str, bool, Any, Any, bool]:
    """Return the name of a field, whether it may be None, its shape and dtype if these are declared, if it counts."""
    shape = dtype = None
    if "axes" in one.metadata:
        batch, keys = prepared.shape
        shape = (batch, *(keys if axis == "S" else getattr(variant, axis) for axis in one.metadata["axes"]))
        dtype = np.dtype(one.metadata["dtype"] or variant.dtype)
    return one.name, one.default is None, shape, dtype, one.type is int


def check_state_gradient(d_state: Any, after: AttentionState) -> Any:
    """Return a state of gradients, with arrays that kernels can read, or raise unless it fits the state `after`."""
    kind = type(after)
    if type(d_state) is not kind:
        raise _wrong(DTypeError, "d_state", f"a {kind.__name__}, or None", type(d_state).__name__, _BACK)
    changes: dict[str, Any] = {}
    for one in _own_fields(kind):
        name, made, given = f"d_state.{one.name}", getattr(after, one.name), getattr(d_state, one.name)
        if given is None and one.default is None:
            continue
        if made is None:
            raise _wrong(DTypeError, name, "None, as in the state", type(given).__name__, _BACK)
        if isinstance(made, np.ndarray) and made.dtype.kind == "f":
            array = native(gradient_array(name, given, made.shape, made.dtype, _BACK))
            if array is not given:
                changes[one.name] = array
    return replace(d_state, **changes) if changes else d_state


def _wrong(error: type[Exception], name: str, expected: str, got: object, hint: str) -> Exception:
    return error(describe(name, expected, got, hint))
