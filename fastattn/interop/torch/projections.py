"""Products with matrices whose rows have the same bits in any batch: ``x @ w.T + b``, as of ``torch.nn.Linear``."""

import math
from typing import Any

import torch
from torch import Tensor

from fastattn import linear
from fastattn._kernels import core
from fastattn.interop.torch.tensors import array, follow_threads, is_watched, once, wide
from fastattn.precision import captured

__all__ = ["apart", "project"]


def project(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x @ weight.T + bias`` for x (..., K), weight (N, K) and bias (N,), in float32 where these are halves.

    PyTorch's own product takes another order of summation for one row than for many.
    """
    x, weight, bias = wide(x), wide(weight), None if bias is None else wide(bias)
    if torch._C._are_functorch_transforms_active():
        return _Transformed.apply(x, weight, bias)
    if is_watched((x, weight, bias)):
        return _product(x, weight, bias)
    return _Projection.apply(x, weight, bias)


def apart(x: Tensor, *sizes: int) -> tuple[Tensor, ...]:
    """Return the parts, (B, T, *sizes[1:]), of which x (B, T, N) has sizes[0] side by side."""
    if is_watched((x,)):
        return x.unflatten(-1, sizes).unbind(2)
    parts: tuple[Tensor, ...] = _Apart.apply(x, sizes)
    return parts


class _Apart(torch.autograd.Function):
    """Parts whose gradients are brought together in one pass, into memory that is kept: new one takes longer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Return the parts."""
        return x.unflatten(-1, sizes).unbind(2)

    @staticmethod
    def backward(ctx: Any, *d: Tensor) -> Any:
        """Return the gradient."""
        if torch.is_grad_enabled() or is_watched(d):
            return torch.stack(d, 2).flatten(2), None
        batch, rows, *sizes = d[0].shape
        whole = (batch, rows, len(d) * math.prod(sizes))
        together = torch.from_numpy(core.empty(whole, array("gradient", d[0]).dtype))
        for one, to in zip(d, together.unflatten(-1, (len(d), *sizes)).unbind(2)):
            to.copy_(one)
        return together, None


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    follow_threads()
    packed = linear.PackedWeights(array("weight", weight).T)
    return torch.from_numpy(packed.matmul(array("x", x), bias=None if bias is None else array("bias", bias)))


def _differentiate(dy: Tensor, x: Tensor, weight: Tensor, wanted: Any) -> tuple[Tensor | None, ...]:
    follow_threads()
    d = array("gradient", dy)
    dx = torch.from_numpy(linear.matmul(d, array("weight", weight))) if wanted[0] else None
    sums = torch.zeros(d.shape[-1], dtype=dy.dtype) if wanted[2] else None
    if not wanted[1]:
        return dx, None, None if sums is None else torch.from_numpy(linear.row_sum(d, sums.numpy()))
    dw = linear.weight_gradient(array("x", x), d, sums=None if sums is None else sums.numpy())
    return dx, torch.from_numpy(dw).T, sums


class _Projection(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the product."""
        ctx.save_for_backward(x, weight)
        ctx.differentiate = captured(_differentiate)
        return _multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        """Return the gradients."""
        return _gradients_of(ctx, dy, ctx.differentiate)


def _gradients_of(ctx: Any, dy: Tensor, differentiate: Any = _differentiate) -> tuple[Tensor | None, ...]:
    wanted = list(ctx.needs_input_grad[:3])

    def call(*t: Tensor) -> Any:
        return _backward(*t, wanted) if is_watched(t) else differentiate(*t, wanted)

    found = once(call, dy, *ctx.saved_tensors)
    return tuple([None if one is None or one.ndim == 0 else one for one in found])


@torch.library.custom_op(
    "fastattn::project", mutates_args=(), schema="(Tensor x, Tensor weight, Tensor? bias) -> Tensor"
)
def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _multiply(x, weight, bias)


@torch.library.custom_op(
    "fastattn::project_backward",
    mutates_args=(),
    schema="(Tensor dy, Tensor x, Tensor weight, bool[] wanted) -> (Tensor, Tensor, Tensor)",
)
def _backward(dy: Tensor, x: Tensor, weight: Tensor, wanted: Any) -> Any:
    found = _differentiate(dy, x, weight, wanted)
    return tuple([dy.new_empty(()) if one is None else one.contiguous() for one in found])


@_product.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


@_backward.register_fake
def _(dy: Tensor, x: Tensor, weight: Tensor, wanted: Any) -> Any:
    shapes = (x.shape, weight.shape, weight.shape[:1])
    return tuple([dy.new_empty(shape if asked else ()) for shape, asked in zip(shapes, wanted)])


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs[:2])


_product.register_autograd(_gradients_of, setup_context=_setup)


class _Transformed(torch.autograd.Function):
    """The same for `torch.func`, which does not see the gradients of an operator."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Call the operator."""
        return _product(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Save what the backward pass reads."""
        _setup(ctx, inputs, output)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        """Return the gradients."""
        return _gradients_of(ctx, dy)


def _entries(size: int, one: Tensor, dim: int | None) -> Tensor:
    return one.expand(size, *one.shape) if dim is None else one.movedim(dim, 0)


@_product.register_vmap
def _(info: Any, in_dims: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Any:
    if in_dims[1] is None and in_dims[2] is None:  # rows more
        return _product(x.movedim(in_dims[0], 0), weight, bias), 0
    several = [
        None if one is None else _entries(info.batch_size, one, dim) for one, dim in zip((x, weight, bias), in_dims)
    ]
    return torch.stack(
        [_product(*(None if one is None else one[i] for one in several)) for i in range(info.batch_size)]
    ), 0


@_backward.register_vmap
def _(info: Any, in_dims: Any, dy: Tensor, x: Tensor, weight: Tensor, wanted: Any) -> Any:
    several = [_entries(info.batch_size, one, dim) for one, dim in zip((dy, x, weight), in_dims)]
    found = [_backward(*(one[i] for one in several), wanted) for i in range(info.batch_size)]
    return tuple(torch.stack(parts) for parts in zip(*found)), (0, 0, 0)
