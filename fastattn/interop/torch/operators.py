"""Attention as two operators of `torch.library`: what compilers, exporters and transformations of PyTorch see.

``fastattn::attention`` returns context, weights, lse, and the maxima and sums of rows; ``fastattn::attention_backward``
the gradients of query, key, value, of the bias if that is asked for, and of the parameters. In place of what was not
asked for they return a tensor of five axes without elements. The last argument of both says all that is no tensor.
"""

import itertools
import json
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.fx.experimental.symbolic_shapes import guard_scalar

from fastattn.interop.torch.problem import Made, Operands, Problem
from fastattn.interop.torch.tensors import array, once, tensor

__all__ = ["attend", "constant", "gradients", "marked", "one_by_one", "unmarked"]

Outputs = tuple[Tensor | None, ...]
_INPUTS = (
    "Tensor query, Tensor key, Tensor value, Tensor? bias, Tensor? mask, Tensor? key_lengths, Tensor? seed, "
    "Tensor[] parameters"
)


class _Held:
    """A problem with functions or objects, which this process alone knows, as long as somebody holds this."""

    __slots__ = ("__weakref__", "problem", "text")

    def __init__(self, problem: Problem, text: str) -> None:
        self.problem, self.text = problem, text


_HELD: weakref.WeakValueDictionary[str, _Held] = weakref.WeakValueDictionary()
_LASTING: dict[str, _Held] = {}  # those in graphs, which may run at any time
_NUMBERS = itertools.count()


def attend(problem: Problem, given: Operands) -> Outputs:
    """Return context, weights or None, and lse or None."""
    text, held = encode(problem)
    inputs = (*given[:-1], list(given.parameters), text)
    if torch._C._are_functorch_transforms_active():
        made = _Transformed.apply(*given[:-1], text, *given.parameters)
    else:
        made = _forward(*inputs)
    del held  # by now by what differentiates, if anything does
    return unmarked(made)[:3]


def gradients(problem: Problem, given: Operands, saved: Outputs, d: Outputs, bias_gradient: bool) -> Outputs:
    """Return what `Problem.backward` does."""
    every = list(marked((*saved[:2], *map(tensor, saved[2:])), given.query))
    text, held = encode(problem)
    made = _backward(*given[:-1], list(given.parameters), every, *d, bias_gradient, text)
    del held
    return unmarked(made)


def encode(problem: Problem) -> tuple[str, _Held | None]:
    """Return a problem as a text, by which another process knows it too, unless it has functions or objects.

    What comes beside is to be held while that text is used.
    """
    score, normalizer, *rest = problem
    plain = (tuple(score), tuple(normalizer), *rest)
    if is_compiling():
        return _text(constant(plain)), None
    try:
        return json.dumps(plain), None
    except TypeError:
        held = _hold(plain)
        return held.text, held


def constant(given: Any) -> Any:
    """Return what a compiler knows for what it may take for a variable, as any number of a module or an argument."""
    if not is_compiling():
        return given
    if isinstance(given, tuple):
        return tuple([constant(one) for one in given])
    return guard_scalar(given) if isinstance(given, (int, float)) else given


@torch.compiler.assume_constant_result
def _text(plain: tuple[Any, ...]) -> str:
    try:
        return json.dumps(plain)
    except TypeError:
        held = _hold(plain)
        _LASTING[held.text] = held
        return held.text


def _hold(plain: tuple[Any, ...]) -> _Held:
    """Return what holds a problem; equal ones have one."""
    problem = _problem(*plain)
    held = next((one for one in list(_HELD.values()) if one.problem == problem), None)
    if held is None:
        held = _Held(problem, f"problem {next(_NUMBERS)}")
        _HELD[held.text] = held
    if torch._C._len_torch_dispatch_stack() > 0 or torch._C._is_tracing():
        _LASTING[held.text] = held
    return held


def decode(text: str) -> Problem:
    """Return the problem of a text."""
    held = _HELD.get(text)
    return _problem(*json.loads(text)) if held is None else held.problem


def _problem(score: Any, normalizer: Any, causal: Any, window: Any, *rest: Any) -> Problem:
    *numbers, modifier, places, relative = rest
    score, normalizer, modifier, places = (
        one and Made(one[0], tuple(one[1]), tuple(map(tuple, one[2]))) for one in (score, normalizer, modifier, places)
    )
    return Problem._make((score, normalizer, causal, window and tuple(window), *numbers, modifier, places, relative))


def marked(found: Outputs, like: Tensor) -> tuple[Tensor, ...]:
    """Return tensors alone."""
    return tuple([like.new_empty((0,) * 5) if one is None else one for one in found])


def unmarked(found: Sequence[Tensor]) -> Outputs:
    """Return what `marked` was given."""
    return tuple([None if one.ndim == 5 else one for one in found])


@torch.library.custom_op(
    "fastattn::attention",
    mutates_args=(),
    schema=f"({_INPUTS}, str problem) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _forward(*inputs: Any) -> Any:
    *tensors, problem = inputs
    *found, row_max, row_sum, _, _ = decode(problem).forward(Operands(*tensors))
    return marked((*found, tensor(row_max), tensor(row_sum)), tensors[0])


@torch.library.custom_op(
    "fastattn::attention_backward",
    mutates_args=(),
    schema=f"({_INPUTS}, Tensor[] saved, Tensor? d_context, Tensor? d_weights, Tensor? d_lse, bool bias_gradient, "
    "str problem) -> Tensor[]",
)
def _backward(*inputs: Any) -> Any:
    given, (saved, *d, bias_gradient, problem) = Operands(*inputs[:8]), inputs[8:]
    context, weights, *rows = unmarked(saved)
    arrays = [None if one is None else array("saved", one) for one in rows]
    found = decode(problem).backward(given, (context, weights, *arrays), tuple(d), bias_gradient)
    return list(marked(found, given.query))


@_forward.register_fake
def _(*inputs: Any) -> Any:
    query, key, value = inputs[:3]
    problem, rows = decode(inputs[-1]), query.shape[:-1]
    sparse = problem.normalizer.maker != "softmax"
    shapes = [(*rows, value.shape[-1]), *[(0,) * 5] * 4]
    if problem.return_weights:
        shapes[1] = (*rows, key.shape[-2])
    if problem.return_lse:
        shapes[2] = rows
    if not sparse:
        shapes[3] = shapes[4] = rows
    return tuple([query.new_empty(shape) for shape in shapes])


@_backward.register_fake
def _(*inputs: Any) -> Any:
    query, key, value, bias, *_ = inputs
    bias = bias if inputs[-2] and bias is not None else query.new_empty((0,) * 5)
    return [one.new_empty(one.shape) for one in (query, key, value, bias, *inputs[7])]


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, parameters, ctx.problem = inputs
    ctx.held = None if is_compiling() else _HELD.get(ctx.problem)
    ctx.save_for_backward(*tensors, *parameters, *output)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, *d: Tensor | None) -> Any:
    d_query, d_key, d_value, d_bias, rest = _each(ctx, d, ctx.needs_input_grad[3])
    return d_query, d_key, d_value, d_bias, None, None, None, rest, None


def _each(ctx: Any, d: Sequence[Tensor | None], bias_gradient: bool) -> Any:
    """Return the gradients of query, key, value and bias, and a list of the parameters'."""
    (*tensors, context, weights, lse, row_max, row_sum), d_outputs = ctx.saved_tensors, d[:3]
    inputs, parameters = tensors[:7], tensors[7:]
    # A compiler has zeros for the gradients of what is not there.
    asked = [None if one.ndim == 5 else given for one, given in zip((context, weights, lse), d_outputs)]
    if all(one is None for one in asked):
        return (None,) * 4 + ([None] * len(parameters),)
    problem, saved = ctx.problem, (context, weights, row_max, row_sum)

    def call(*t: Tensor | None) -> Any:
        return _backward(*t[:7], list(t[14:]), list(t[7:11]), *t[11:14], bias_gradient, problem)

    made = once(call, *inputs, *saved, *asked, *parameters)
    d_query, d_key, d_value, d_bias, *rest = unmarked(made)
    return d_query, d_key, d_value, d_bias, rest


_forward.register_autograd(_differentiate, setup_context=_setup)


class _Transformed(torch.autograd.Function):
    """The same for `torch.func`, which does not see the gradients of an operator."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> Any:
        """Call the operator."""
        return _forward(*inputs[:7], list(inputs[8:]), inputs[7])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Save what the backward pass reads."""
        _setup(ctx, (*inputs[:7], inputs[8:], inputs[7]), output)

    @staticmethod
    def backward(ctx: Any, *d: Tensor | None) -> Any:
        """Return the gradients of all inputs."""
        *found, rest = _each(ctx, d, ctx.needs_input_grad[3])
        return *found, None, None, None, None, *rest


# Under vmap: entries become samples of one batch, whose bits do not depend on it, where each has its own of everything;
# where a gradient is a sum over the batch, they are computed one by one.


class _Fold:
    """Entries of a vmap as samples of a batch: size entries of problems of `rank` axes with `batch` samples each."""

    def __init__(self, size: int, query: Tensor, dim: int | None) -> None:
        self.size, self.rank = size, query.ndim - (dim is not None)
        self.batch = _entry(query, dim, 0).shape[0] if self.rank > 2 else 1

    def whole(self, one: Tensor | None, dim: int | None) -> Tensor | None:
        """Return a tensor whose first axis is that of samples, if there are any."""
        if one is None or (one.ndim == 5 and dim is None):
            return one
        one = one.expand(self.size, *one.shape) if dim is None else one.movedim(dim, 0)
        return one.flatten(0, 1) if self.rank > 2 else one

    def broadcast(self, one: Tensor | None, dim: int | None) -> Tensor | None:
        """Return a bias or a mask."""
        if one is None or (dim is None and (self.rank == 2 or one.ndim < self.rank or one.shape[0] == 1)):
            return one
        one = one.expand(self.size, *one.shape) if dim is None else one.movedim(dim, 0)
        one = one.reshape(self.size, *(1,) * (self.rank + 1 - one.ndim), *one.shape[1:])
        return one.expand(-1, self.batch, *one.shape[2:]).flatten(0, 1) if self.rank > 2 else one

    def samples(self, one: Tensor | None, dim: int | None) -> Tensor | None:
        """Return one number for each sample."""
        if one is None:
            return None
        one = one.expand(self.size, *one.shape) if dim is None else one.movedim(dim, 0)
        return one.reshape(self.size, -1).expand(-1, self.batch).flatten()

    def inputs(self, tensors: Sequence[Tensor | None], dims: Sequence[int | None]) -> list[Tensor | None]:
        """Return query, key, value, bias, mask, lengths and seeds."""
        kinds = (self.whole,) * 3 + (self.broadcast,) * 2 + (self.samples,) * 2
        return [kind(one, dim) for kind, one, dim in zip(kinds, tensors, dims)]

    def entries(self, found: Sequence[Tensor]) -> tuple[list[Tensor], list[int | None]]:
        """Return outputs with the axis of entries first, and where that is."""
        made = [one.unflatten(0, (self.size, self.batch)) if one.ndim < 5 and self.rank > 2 else one for one in found]
        return made, [None if one.ndim == 5 and old.ndim == 5 else 0 for one, old in zip(made, found)]


def _entry(one: Any, dim: Any, number: int) -> Any:
    """Return what one entry of a vmap is given in place of an argument."""
    if isinstance(one, (list, tuple)):
        return [_entry(part, d, number) for part, d in zip(one, dim)]
    return one if dim is None or one is None else one.select(dim, number)


def one_by_one(
    operator: Callable[..., Any], size: int, in_dims: Any, inputs: Any
) -> tuple[list[Tensor], list[int | None]]:
    """Return what an operator makes of the entries of a vmap, one after the other, and where their axis is."""
    found = [operator(*(_entry(one, dim, i) for one, dim in zip(inputs, in_dims))) for i in range(size)]
    return [torch.stack(parts) for parts in zip(*found)], [0] * len(found[0])


@_forward.register_vmap
def _(info: Any, in_dims: Any, *inputs: Any) -> Any:
    if any(dim is not None for dim in in_dims[7]) or decode(inputs[-1]).relative:
        made, dims = one_by_one(_forward, info.batch_size, in_dims, inputs)
    else:
        fold = _Fold(info.batch_size, inputs[0], in_dims[0])
        made, dims = fold.entries(_forward(*fold.inputs(inputs[:7], in_dims[:7]), *inputs[7:]))
    return tuple(made), tuple(dims)


@_backward.register_vmap
def _(info: Any, in_dims: Any, *inputs: Any) -> Any:
    if inputs[7] or inputs[-2] or decode(inputs[-1]).relative:
        return one_by_one(_backward, info.batch_size, in_dims, inputs)
    fold = _Fold(info.batch_size, inputs[0], in_dims[0])
    saved = [fold.whole(one, dim) for one, dim in zip(inputs[8], in_dims[8])]
    d = [fold.whole(one, dim) for one, dim in zip(inputs[9:12], in_dims[9:12])]
    found = _backward(*fold.inputs(inputs[:7], in_dims[:7]), [], saved, *d, *inputs[-2:])
    return fold.entries(found)
