"""Mechanisms as two operators of `torch.library`: what compilers, exporters and transformations of PyTorch see.

``fastattn::variant`` returns contexts, and weights or a tensor of five axes without elements;
``fastattn::variant_backward`` computes that anew, and returns the gradients of queries, memory, values and parameters.
Both are functions of their tensors: the last argument says how a mechanism is made, to which parameters are assigned.
"""

import copy
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastattn.errors import UnsupportedError, describe
from fastattn.interop.torch.operators import marked, one_by_one, unmarked
from fastattn.interop.torch.tensors import array, follow_threads, once
from fastattn.variants import create
from fastattn.variants.protocol.variant import Variant

__all__ = ["attend", "differentiate", "keep", "named", "run"]

_KEPT: dict[str, Variant[Any]] = {}  # those that no text says how to make, for this process alone
_FREE: dict[str, list[Variant[Any]]] = {}  # those that no call uses: one of several threads has its own
_MOST = 64  # texts of which mechanisms are kept for later calls

_INPUTS = "Tensor queries, Tensor memory, Tensor? values, Tensor? lengths, Tensor? mask, Tensor[] parameters"


def run(mechanism: Variant[Any], tensors: Sequence[Tensor | None], return_weights: bool, trained: bool) -> Any:
    """Return what a mechanism makes, and its backward pass where that is asked for.

    `tensors` are queries, memory, values, lengths and mask.
    """
    follow_threads()
    names = ("queries", "memory", "values", "lengths", "mask")
    arrays: Any = (None if one is None else array(name, one) for name, one in zip(names, tensors))
    queries, memory, values, lengths, mask = arrays
    prepared = mechanism.prepare(memory, lengths, mask, values=values)
    call: Any = mechanism.vjp if trained else mechanism.forward
    made = call(queries, prepared, return_weights=return_weights)
    output, back = made if trained else (made, None)
    context, weights = output[:2] if return_weights else (output, None)
    return torch.from_numpy(context), None if weights is None else torch.from_numpy(weights), back


def differentiate(mechanism: Variant[Any], back: Any, *d: Tensor | None) -> tuple[Tensor | None, ...]:
    """Return the gradients of queries, memory, values and all parameters by a mechanism's backward pass."""
    own = mechanism.parameters().values()
    for one in own:
        one.gradient = np.zeros(one.value.shape, one.value.dtype)
    d_queries, d_memory = back(*(None if one is None else array("gradient", one) for one in d))
    d_memory, d_values = d_memory if isinstance(d_memory, tuple) else (d_memory, None)
    found = (d_queries, d_memory, d_values, *(one.gradient.copy() for one in own))
    return tuple([None if one is None else torch.from_numpy(one) for one in found])


def named(name: str, dtype: str, options: Mapping[str, Any]) -> str | None:
    """Return the text that makes a mechanism in any process, or None if there are objects among its options."""
    plain = [name, dtype, dict(options)]
    try:
        text = json.dumps(plain)
    except (TypeError, ValueError):
        return None
    return text if json.loads(text) == plain else None


def keep(text: str, mechanism: Variant[Any]) -> None:
    """Know a mechanism by a text that does not say how to make it."""
    if text not in _KEPT:
        _KEPT[text] = copy.deepcopy(mechanism)


def _make(text: str) -> Variant[Any]:
    if text in _KEPT:
        return copy.deepcopy(_KEPT[text])
    try:
        name, dtype, options = json.loads(text)
    except ValueError:
        hint = "export it there, or make the module by variant(name, ...) with options that are numbers and words."
        raise UnsupportedError(
            describe("mechanism", "one that this process knows", f"{text} of another process", hint)
        ) from None
    return create(name, dtype=dtype, rng=np.random.default_rng(0), **options)


@contextmanager
def _made(text: str, parameters: Sequence[Tensor] = ()) -> Iterator[Variant[Any]]:
    """Lend a mechanism that has these parameters to a block."""
    free = _FREE.setdefault(text, [])
    try:
        mechanism = free.pop()
    except IndexError:
        mechanism = _make(text)
    try:
        for own, one in zip(mechanism.parameters().values(), parameters):
            own.assign(array("parameter", one))
        yield mechanism
    finally:
        free.append(mechanism)
        for old in list(_FREE)[: max(0, len(_FREE) - _MOST)]:  # several threads may do so
            _FREE.pop(old, None)


def attend(
    tensors: Sequence[Tensor | None], parameters: Sequence[Tensor], return_weights: bool, text: str
) -> Sequence[Tensor | None]:
    """Return contexts, and weights or None."""
    if torch._C._are_functorch_transforms_active():
        return unmarked(_Transformed.apply(return_weights, text, *tensors, *parameters))
    return unmarked(_forward(*tensors, list(parameters), return_weights, text))


@torch.library.custom_op(
    "fastattn::variant", mutates_args=(), schema=f"({_INPUTS}, bool return_weights, str text) -> (Tensor, Tensor)"
)
def _forward(*inputs: Any) -> Any:
    *tensors, parameters, return_weights, text = inputs
    with _made(text, parameters) as mechanism:
        context, weights, _ = run(mechanism, tensors, return_weights, False)
    return marked((context.contiguous(), None if weights is None else weights.contiguous()), context)


@torch.library.custom_op(
    "fastattn::variant_backward",
    mutates_args=(),
    schema=f"({_INPUTS}, Tensor? d_context, Tensor? d_weights, bool return_weights, str text) -> Tensor[]",
)
def _backward(*inputs: Any) -> Any:
    *tensors, parameters, d_context, d_weights, return_weights, text = inputs
    with _made(text, parameters) as mechanism:
        *_, back = run(mechanism, tensors, return_weights, True)
        found = differentiate(mechanism, back, d_context, d_weights)
    return [one.contiguous() for one in marked(found, tensors[0])]


@functools.lru_cache
def _sizes(text: str, *widths: int | None) -> tuple[int, tuple[int, ...], int]:
    """Return the width of a context, the heads of weights, and by how many keys each query extends the memory."""
    with _made(text) as mechanism:
        arrays: Any = (None if n is None else np.zeros((1, 1, n), mechanism.dtype) for n in widths)
        queries, memory, values = arrays
        output: Any = mechanism.forward(queries, mechanism.prepare(memory, values=values), return_weights=True)
    *heads, _, keys = output.weights.shape[1:]
    return output.context.shape[-1], tuple(heads), keys - 1


@_forward.register_fake
def _(*inputs: Any) -> Any:
    queries, memory, *_, return_weights, text = inputs
    width, heads, more = _sizes(text, *(None if one is None else int(one.shape[-1]) for one in inputs[:3]))
    samples, steps = queries.shape[:2]
    weights = (samples, *heads, steps, memory.shape[1] + more * steps) if return_weights else (0,) * 5
    return queries.new_empty((samples, steps, width)), queries.new_empty(weights)


@_backward.register_fake
def _(*inputs: Any) -> Any:
    found = (*inputs[:3], *inputs[5])
    return [inputs[0].new_empty((0,) * 5 if one is None else one.shape) for one in found]


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, parameters, ctx.return_weights, ctx.text = inputs
    ctx.save_for_backward(*tensors, *parameters)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, *d: Tensor | None) -> Any:
    d_queries, d_memory, d_values, *rest = _each(ctx, *d)
    return d_queries, d_memory, d_values, None, None, rest, None, None


def _each(ctx: Any, d_context: Tensor | None, d_weights: Tensor | None) -> Any:
    """Return the gradients of queries, memory, values and parameters."""
    saved, more = ctx.saved_tensors, (ctx.return_weights, ctx.text)
    asked = d_context, d_weights if ctx.return_weights else None  # a compiler has zeros for what is not there
    if all(one is None for one in asked):
        return (None,) * (len(saved) - 2)

    def call(*t: Tensor | None) -> Any:
        return _backward(*t[:5], list(t[7:]), *t[5:7], *more)

    return unmarked(once(call, *saved[:5], *asked, *saved[5:]))


_forward.register_autograd(_differentiate, setup_context=_setup)


class _Transformed(torch.autograd.Function):
    """The same for `torch.func`, which does not see the gradients of an operator."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> Any:
        """Call the operator."""
        return _forward(*inputs[2:7], list(inputs[7:]), *inputs[:2])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Save what the backward pass reads."""
        _setup(ctx, (*inputs[2:7], inputs[7:], *inputs[:2]), output)

    @staticmethod
    def backward(ctx: Any, *d: Tensor | None) -> Any:
        """Return the gradients of all inputs."""
        found = _each(ctx, *d)
        return None, None, *found[:3], None, None, *found[3:]


@_forward.register_vmap
def _(info: Any, in_dims: Any, *inputs: Any) -> Any:
    made, dims = one_by_one(_forward, info.batch_size, in_dims, inputs)
    return tuple(made), tuple(dims)


@_backward.register_vmap
def _(info: Any, in_dims: Any, *inputs: Any) -> Any:
    return one_by_one(_backward, info.batch_size, in_dims, inputs)
