"""Arrays by name: to safetensors and back, and into the parameters of a model."""

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np

from fastattn._arrays import Array
from fastattn._kernels.narrow import NARROW, NarrowType, numbers_of, widened
from fastattn._optional import need
from fastattn.errors import CheckpointError, describe_file
from fastattn.seq2seq.strict_json import parse_json

__all__ = ["check_finite", "check_tensors", "narrow", "not_finite", "pack", "restore", "unpack", "widen"]


_SCALE = "scale"


class _Parameter(Protocol):
    @property
    def value(self) -> Array: ...

    def assign(self, value: Array) -> None: ...


def pack(arrays: Mapping[str, Array], about: Mapping[str, str] | None = None) -> bytes:
    """Return arrays as a safetensors file; equal arrays give equal bytes, whatever their order.

    `about` is what its head says besides, nothing by default.
    """
    numpy_format = need("safetensors.numpy", "seq2seq", "checkpoints")
    ordered = {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}
    # Where there is no room for two copies the package panics; this, which touches none of it, is a MemoryError.
    np.empty(2 * sum(array.nbytes for array in ordered.values()), np.uint8)
    data: bytes = numpy_format.save(ordered, about)
    return data


def unpack(data: bytes, place: object) -> dict[str, Array]:
    """Return the arrays of a safetensors file; a CheckpointError that begins with `place` if it is none."""
    numpy_format = need("safetensors.numpy", "seq2seq", "checkpoints")
    try:
        parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")])  # a name that comes twice is refused
        arrays: dict[str, Array] = numpy_format.load(data)
    except Exception as error:  # whatever it raises, the file is not one that was saved here
        hint = "use another checkpoint."
        raise CheckpointError(describe_file(place, f"is no safetensors file: {error}", hint)) from None
    return arrays


def narrow(arrays: Mapping[str, Array], stored: Mapping[str, NarrowType]) -> dict[str, Array]:
    """Return arrays as they are saved: those of `stored`, matrices of float32, in the type that it names.

    Such a matrix is ``<name>.int8`` with ``<name>.scale``, of columns, or ``<name>.bfloat16``, bits of 16.
    """
    found = {name: array for name, array in arrays.items() if name not in stored}
    for name, kind in stored.items():
        found[f"{name}.{kind}"], scales = numbers_of(arrays[name], kind)
        if scales is not None:
            found[f"{name}.{_SCALE}"] = scales
    return found


def widen(arrays: Mapping[str, Array], place: object) -> tuple[dict[str, Array], dict[str, NarrowType]]:
    """Return what `narrow` was given: all arrays as they are in a model, and which are of another type in the file."""
    found, stored, used = dict(arrays), dict[str, NarrowType](), set[str]()
    for kind, wanted in zip(NARROW, (np.uint16, np.int8)):
        for full in [name for name in arrays if name.endswith(f".{kind}")]:
            name, numbers = full.removesuffix(f".{kind}"), found.pop(full)
            scales = arrays.get(f"{name}.{_SCALE}") if kind == "int8" else None
            fits = kind != "int8" or (scales is not None and scales.shape == numbers.shape[1:] and scales.dtype == "f")
            if numbers.dtype != wanted or numbers.ndim != 2 or name in found or not fits:
                problem = f"{full} is no matrix of {kind}"
                raise CheckpointError(describe_file(place, problem, "use another checkpoint."))
            with np.errstate(all="ignore"):  # what is not finite is refused with all others
                found[name], stored[name] = widened(numbers, scales), kind
            used.add(f"{name}.{_SCALE}")
    return {name: array for name, array in found.items() if name not in used}, stored


def check_tensors(arrays: Mapping[str, Array], expected: Mapping[str, Array], place: object) -> None:
    """Raise a CheckpointError unless arrays have the names, shapes and dtypes of the expected ones.

    Parameters
    ----------
    arrays, expected : mapping of str to array
    place : object
        Where the arrays are from, for the message.
    """
    hint = "use the configuration and the vocabularies that were saved with it."
    missing, unknown = sorted(expected.keys() - arrays.keys()), sorted(arrays.keys() - expected.keys())
    wrong = [
        f"{len(names)} {what} ({_some(names)})" for what, names in (("missing", missing), ("unknown", unknown)) if names
    ]
    if wrong:
        raise CheckpointError(describe_file(place, f"tensors do not fit the model: {', '.join(wrong)}", hint))
    for name, array in expected.items():
        found = arrays[name]
        if found.shape != array.shape or found.dtype != array.dtype:
            problem = f"{name}: expected {array.dtype} of shape {array.shape}, got {found.dtype} of {found.shape}"
            raise CheckpointError(describe_file(place, problem, hint))


def not_finite(arrays: Mapping[str, Array]) -> Iterator[str]:
    """Yield the names of arrays that have an element that is infinite or NaN."""
    return (name for name, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all())


def check_finite(arrays: Mapping[str, Array], place: object) -> None:
    """Raise a CheckpointError, with the name of the array, if one is not finite."""
    for name in not_finite(arrays):
        hint = "use an earlier checkpoint, or train anew with a lower rate: the run had diverged."
        raise CheckpointError(describe_file(place, f"{name} is not finite", hint))


def restore(parameters: Mapping[str, _Parameter], arrays: Mapping[str, Array], place: object) -> None:
    """Copy arrays into the parameters of a model; all are checked, for finite numbers
    too, before the first is copied.

    Parameters
    ----------
    parameters : mapping of str to Parameter
    arrays : mapping of str to array
        `Checkpoint.model`.
    place : object
        Where they are from, for messages: `Checkpoint.folder`.
    """
    check_tensors(arrays, {name: parameter.value for name, parameter in parameters.items()}, place)
    check_finite(arrays, place)
    for name, parameter in parameters.items():
        parameter.assign(arrays[name])


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
