"""Mechanisms by name, of plugins too, as modules whose parameters are PyTorch's."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastattn.attention import AttentionOutput
from fastattn.errors import ArgumentError, DTypeError, describe
from fastattn.interop.torch.tensors import array, check_tensors, follow_threads, narrowed, once, wide
from fastattn.precision import captured
from fastattn.variants import create
from fastattn.variants.protocol.variant import Variant

__all__ = ["VariantModule", "variant"]

_FLOATS = {torch.float32: np.float32, torch.float64: np.float64}
_TYPES = {np.dtype(one): dtype for dtype, one in _FLOATS.items()}


def variant(name: str, *, dtype: torch.dtype = torch.float32, **options: Any) -> "VariantModule":
    """Make an attention mechanism by its name, as `fastattn.create` does, as a module of PyTorch.

    Parameters
    ----------
    name : str
        One of ``fastattn.variants.names()``.
    dtype : torch.dtype
        float32 or float64, which it stays: ``module.double()`` of one of float32 is refused when it is called.
    **options
        As in `fastattn.create`; ``rng`` is by default made of PyTorch's generator, so that ``torch.manual_seed``
        decides how parameters start.

    Returns
    -------
    VariantModule
    """
    if dtype not in _FLOATS:
        raise ArgumentError(describe("dtype", "torch.float32 or torch.float64", dtype, "pass torch.float32."))
    if "rng" not in options:
        options["rng"] = np.random.default_rng(int(torch.randint(2**63 - 1, ())))
    return VariantModule(create(name, dtype=_FLOATS[dtype], **options))


class VariantModule(nn.Module):
    """A mechanism whose parameters are tensors; `variant` makes one.

    Parameters
    ----------
    mechanism : Variant
        Of `fastattn.create`. Its parameters are copied.

    Attributes
    ----------
    mechanism : Variant
        What computes; it follows the tensors.

    Notes
    -----
    Parameters are copied and packed once for each forward pass in training. In evaluation they are kept packed until
    their ``data_ptr`` or ``_version`` changes, which every optimizer, `load_state_dict` and every change in place does.
    What escapes in evaluation is a change through ``parameter.data``, through NumPy or another process that shares the
    memory; `train` and `eval` look again.

    Under ``torch.compile`` a call is a break of the graph, with ``fullgraph=True`` an error; ``torch.export`` and
    ``torch.func`` refuse it.
    """

    def __init__(self, mechanism: Variant[Any]) -> None:
        super().__init__()
        self.mechanism = mechanism
        self._seen: dict[str, tuple[int, int]] = {}
        for name, parameter in mechanism.parameters().items():
            place: nn.Module = self
            *parents, last = name.split(".")
            for part in parents:
                if not hasattr(place, part):
                    place.add_module(part, nn.Module())
                place = getattr(place, part)
            place.register_parameter(last, nn.Parameter(torch.from_numpy(parameter.value.copy())))

    def forward(
        self,
        queries: Tensor,
        memory: Tensor,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        values: Tensor | None = None,
        return_weights: bool = False,
    ) -> Any:
        """Attend with all queries.

        Parameters
        ----------
        queries : tensor, shape (B, Tq, Dq)
        memory : tensor, shape (B, S, Dm)
        lengths : int tensor, shape (B,), optional
            Positions from there on are padding.
        mask : bool tensor, shape (B, S), optional
            True = may be attended to.
        values : tensor, shape (B, S, Dv), optional
            What contexts are sums of, in place of the memory.
        return_weights : bool
            Return an `AttentionOutput`.

        Returns
        -------
        tensor, shape (B, Tq, Dv), or AttentionOutput of tensors
        """
        return self._attend(queries, memory, lengths, mask, values, return_weights)

    @torch.compiler.disable  # beneath forward, as compiling a disabled function itself fails
    def _attend(
        self, queries: Tensor, memory: Tensor, lengths: Tensor | None, mask: Tensor | None, values: Tensor | None,
        return_weights: bool,
    ) -> Any:  # fmt: skip
        optional = {"values": values, "lengths": lengths, "mask": mask}
        check_tensors(optional, queries=queries, memory=memory)
        named = dict(self.named_parameters())
        inputs = [None if one is None else wide(one) for one in (queries, memory, values)]
        parameters = [wide(named[name]) for name in self.mechanism.parameters()]
        dtype = _TYPES[np.dtype(self.mechanism.dtype)]
        for name, one in zip(("queries", "memory", "values", *self.mechanism.parameters()), (*inputs, *parameters)):
            if one is not None and one.dtype != dtype:
                hint = f"pass tensors of {dtype}; variant(name, dtype=...) decides it, and module.to() changes nothing."
                raise DTypeError(describe(name, f"{dtype}, of which the module was made", one.dtype, hint))
        self._follow()
        found = _Mechanism.apply(self.mechanism, return_weights, lengths, mask, *inputs, *parameters)
        context, weights = (narrowed(one, queries) for one in found)
        return AttentionOutput(context, weights) if return_weights else context

    def train(self, mode: bool = True) -> "VariantModule":
        """As of any module; parameters are looked at anew."""
        self._seen.clear()
        return super().train(mode)

    def _follow(self) -> None:
        """Take over parameters that may have changed."""
        own = self.mechanism.parameters()
        for name, parameter in self.named_parameters():
            now = (parameter.data_ptr(), parameter._version)
            if self.training or self._seen.get(name) != now:
                own[name].assign(array(name, wide(parameter.detach())))
                self._seen[name] = now

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_seen": {}}


class _Mechanism(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        mechanism: Variant[Any],
        return_weights: bool,
        lengths: Tensor | None,
        mask: Tensor | None,
        *tensors: Tensor,
    ) -> Any:
        """Compute, and keep the mechanism's own backward pass."""
        ctx.set_materialize_grads(False)
        ctx.given = mechanism, return_weights, lengths, mask
        run = any(ctx.needs_input_grad)
        output, ctx.back = _run(ctx.given, tensors, run)
        ctx.again = captured(_run)
        context, weights = (output.context, output.weights) if return_weights else (output, None)
        found = torch.from_numpy(context), None if weights is None else torch.from_numpy(weights)
        ctx.save_for_backward(*tensors)
        return found

    @staticmethod
    def backward(ctx: Any, d_context: Tensor | None, d_weights: Tensor | None) -> Any:
        """Return the gradients of all that went in."""
        saved = ctx.saved_tensors
        if d_context is None and d_weights is None:
            return (None,) * len(ctx.needs_input_grad)
        found = once(lambda *given: _gradients(ctx, *given), d_context, d_weights, *saved)
        return None, None, None, None, *found


def _gradients(ctx: Any, d_context: Tensor | None, d_weights: Tensor | None, *saved: Tensor) -> tuple[Any, ...]:
    """Return the gradients of queries, memory, values and parameters."""
    mechanism = ctx.given[0]
    queries, memory, values = saved[:3]
    back, ctx.back = ctx.back, None
    if back is None:  # a graph that is kept; a mechanism's backward pass can be called once
        _, back = ctx.again(ctx.given, (queries, memory, values), True)
    own = mechanism.parameters().values()
    for one in own:
        one.gradient = np.zeros(one.value.shape, one.value.dtype)
    d_queries, d_memory = back(**_arrays(d_context=d_context, d_weights=d_weights))
    d_values = None
    if values is not None:
        d_memory, d_values = d_memory
    found = (None if one is None else torch.from_numpy(one) for one in (d_queries, d_memory, d_values))
    return *found, *(torch.from_numpy(one.gradient.copy()) for one in own)


def _run(given: Any, tensors: Any, trained: bool) -> Any:
    """Return what a mechanism makes, and its backward pass where that is asked for."""
    follow_threads()
    mechanism, return_weights, lengths, mask = given
    queries, memory, values = tensors[:3]
    prepared = mechanism.prepare(array("memory", memory), **_arrays(lengths=lengths, mask=mask, values=values))
    run = mechanism.vjp if trained else mechanism.forward
    made = run(array("queries", queries), prepared, return_weights=return_weights)
    return made if trained else (made, None)


def _arrays(**given: Tensor | None) -> dict[str, Any]:
    """Return arrays of what is there."""
    return {name: array(name, one) for name, one in given.items() if one is not None}
