"""Tensors to arrays and back, without a copy; and threads."""

import ctypes
import functools
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch._C import _are_functorch_transforms_active, _is_tracing, _len_torch_dispatch_stack
from torch.compiler import is_compiling

from fastattn._arrays import Array
from fastattn._kernels import core
from fastattn.config import set_num_threads
from fastattn.errors import DTypeError, UnsupportedError, describe

__all__ = [
    "HALVES",
    "array",
    "autocasting",
    "check_tensors",
    "check_types",
    "follow_threads",
    "half_array",
    "is_watched",
    "narrowed",
    "on_unit",
    "once",
    "share_threads",
    "tensor",
    "wide",
    "widened",
]

P = ParamSpec("P")
Out = TypeVar("Out")

HALVES = frozenset({torch.float16, torch.bfloat16})

try:
    import ml_dtypes

    _BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
except ImportError:
    _BFLOAT16 = None

_PLAIN = frozenset({torch.Tensor, torch.nn.Parameter, type(None)})
_WANTED = "a dense tensor of float32 or float64 on the CPU"


def array(name: str, given: torch.Tensor) -> Array:
    """Return the array of a tensor's own memory, or raise if kernels of a CPU cannot read it."""
    if given.dtype is not torch.float16:
        try:
            return given.numpy()
        except (RuntimeError, TypeError):  # what follows says why
            pass
    if given.dtype in HALVES:
        hint = "pass tensor.float(), or query, key and value of one type."
        raise DTypeError(describe(name, _WANTED, given.dtype, hint))
    if not given.is_cpu:
        hint = "fastattn computes on the CPU: pass tensor.cpu(), or keep PyTorch's own attention there."
        raise UnsupportedError(describe(name, _WANTED, f"one on {given.device}", hint))
    if given.layout != torch.strided:
        hint = "pass tensor.to_dense()."
        raise UnsupportedError(describe(name, _WANTED, f"one of layout {given.layout}", hint))
    try:
        return given.detach().resolve_neg().numpy()  # one that requires gradients, where these are recorded
    except TypeError:  # of a type that NumPy has not
        raise DTypeError(describe(name, _WANTED, given.dtype, "pass tensor.float().")) from None


def half_array(name: str, given: torch.Tensor) -> Array:
    """Return the array of a bfloat16 tensor's own memory, or raise likewise; without ml_dtypes there is none."""
    return array(name, given.detach().view(torch.int16)).view(_BFLOAT16)


def check_tensors(optional: Mapping[str, Any] | None = None, /, **needed: Any) -> None:
    """Raise unless all arguments are tensors, not nested; those that are optional may be None, others are floats."""
    for name, one in (*needed.items(), *(optional or {}).items()):
        if not isinstance(one, torch.Tensor):
            if one is None and name not in needed:
                continue
            hint = f"pass a torch.Tensor, as torch.as_tensor({name}) of an array or a list."
            raise DTypeError(describe(name, "a tensor", type(one).__name__, hint))
        if one.is_nested:
            hint = "pass tensor.to_padded_tensor(0.0), and what is padding by a mask or lengths."
            raise UnsupportedError(describe(name, _WANTED, "a nested one", hint))
        if name in needed and not one.is_floating_point():
            raise DTypeError(describe(name, _WANTED, one.dtype, "pass tensor.float()."))


def tensor(found: Array | None) -> torch.Tensor | None:
    """Return a tensor of an array's own memory, or None."""
    if found is None:
        return None
    try:
        return torch.from_numpy(found)
    except TypeError:  # of bfloat16
        return torch.from_numpy(found.view(np.int16)).view(torch.bfloat16)


def on_unit(dtype: torch.dtype) -> bool:
    """Whether kernels take tensors of a type that a matrix unit multiplies."""
    return dtype is torch.bfloat16 and _BFLOAT16 is not None and core.tiles()


def wide(one: torch.Tensor) -> torch.Tensor:
    """Return a tensor of half precision in float32, and any other as it is."""
    return one.float() if one.dtype in HALVES else one


def check_types(given: Any) -> None:
    """Raise if operands are of several types, but for a bias of float32."""
    dtype = given.query.dtype
    for name, one in zip(given._fields, given[:4]):
        if one is not None and one.dtype != dtype and not (name == "bias" and one.dtype is torch.float32):
            hint = f"pass tensor.to({dtype}), or query.float()." if dtype in HALVES else f"pass tensor.to({dtype})."
            raise DTypeError(describe(name, f"{dtype}, the type of query", one.dtype, hint))


def widened(given: Any) -> Any:
    """Return operands of half precision in float32, or raise if they are of several types."""
    check_types(given)
    first = [None if one is None else one.float() for one in given[:4]]
    return type(given)(*first, *given[4:-1], [wide(one) for one in given.parameters])


def narrowed(found: Any, like: torch.Tensor) -> Any:
    """Return what was computed in float32, or None, rounded once to the type of `like`."""
    return None if found is None else found.to(like.dtype)


def autocasting(call: Callable[P, Out]) -> Callable[P, Out]:
    """Return a function that ``torch.autocast`` gives tensors of its type, but for float64, as products of PyTorch."""

    @functools.wraps(call)
    def cast(*given: P.args, **more: P.kwargs) -> Out:
        if not torch.is_autocast_enabled("cpu"):
            return call(*given, **more)
        dtype = torch.get_autocast_dtype("cpu")

        def lower(one: Any) -> Any:
            low = isinstance(one, torch.Tensor) and one.is_floating_point() and one.dtype != torch.float64
            return one.to(dtype) if low else one

        operands: Any = map(lower, given)
        options: Any = {name: lower(one) for name, one in more.items()}
        with torch.autocast("cpu", enabled=False):  # for all between, which has the types that it was written for
            return call(*operands, **options)

    return cast


def follow_threads() -> None:
    """Use as many threads as PyTorch does in this thread."""
    threads = torch.get_num_threads()
    if threads != core.get_num_threads():
        set_num_threads(threads)


def share_threads() -> None:
    """Let kernels run on the threads of PyTorch's operators, if these are of an OpenMP library that is found.

    PyTorch's threads stay awake for milliseconds after an operator. Threads of our own would get half a processor then.
    """
    try:
        operators = ctypes.CDLL("libtorch_cpu.so", os.RTLD_NOLOAD | os.RTLD_NOW)  # that which is loaded, wherever it is
        parallel = operators.GOMP_parallel  # its own, or of the library that it is linked with
    except (OSError, AttributeError):  # no such library, no such function or, beside Linux, no such flag
        return
    core.use_team(ctypes.cast(parallel, ctypes.c_void_p).value or 0)


def is_watched(tensors: Iterable[torch.Tensor | None]) -> bool:
    """Whether somebody is to see an operator: a compiler, a transformation, a mode, or the class of a tensor."""
    return (
        is_compiling()
        or _are_functorch_transforms_active()
        or _len_torch_dispatch_stack() > 0
        or not _PLAIN.issuperset(map(type, tensors))
        or _is_tracing()
    )


def once(call: Callable[..., Any], *tensors: torch.Tensor | None) -> Any:
    """Return what `call` makes of tensors, gradients that refuse their own: all inputs, so that none is forgotten."""
    watched = torch.is_grad_enabled() or _are_functorch_transforms_active()
    return _Once.apply(call, *tensors) if watched else call(*tensors)


class _Once(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(call: Callable[..., Any], *tensors: torch.Tensor | None) -> Any:
        """Call the operator."""
        return tuple(call(*tensors))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Save nothing."""

    @staticmethod
    def backward(ctx: Any, *d: torch.Tensor) -> Any:
        """Refuse."""
        raise RuntimeError(
            "attention of fastattn cannot differentiate twice.\nHint: use PyTorch's own attention there."
        )
