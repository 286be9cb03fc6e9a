"""Mechanisms by name, of plugins too, as modules whose parameters are PyTorch's."""

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastattn.attention import AttentionOutput
from fastattn.errors import ArgumentError, DTypeError, describe
from fastattn.interop.torch import mechanisms
from fastattn.interop.torch.operators import constant
from fastattn.interop.torch.tensors import array, autocasting, check_tensors, is_watched, narrowed, once, wide
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
    module = VariantModule(create(name, dtype=_FLOATS[dtype], **options))
    more = {option: given for option, given in options.items() if option != "rng"}
    module._text = mechanisms.named(name, np.dtype(module.mechanism.dtype).name, more) or module._text
    return module


class VariantModule(nn.Module):
    """A mechanism whose parameters are tensors; `variant` makes one.

    Parameters
    ----------
    mechanism : Variant
        Of `fastattn.create`. Its parameters are copied.

    Attributes
    ----------
    mechanism : Variant
        What computes; it follows the tensors. Compiled modules follow its settings that are numbers or words.

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
        self._text = _bound(mechanism)  # by which operators know it
        self._dtype, self._names = _TYPES[np.dtype(mechanism.dtype)], tuple(mechanism.parameters())
        self._made = _described(mechanism)
        self._settings = tuple(name for name, one in vars(mechanism).items() if isinstance(one, (int, float, str)))
        self._seen: dict[str, tuple[weakref.ref[Tensor], tuple[int, int]]] = {}
        for name, parameter in mechanism.parameters().items():
            place: nn.Module = self
            *parents, last = name.split(".")
            for part in parents:
                if not hasattr(place, part):
                    place.add_module(part, nn.Module())
                place = getattr(place, part)
            place.register_parameter(last, nn.Parameter(torch.from_numpy(parameter.value.copy())))

    @autocasting
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
        optional = {"values": values, "lengths": lengths, "mask": mask}
        check_tensors(optional, queries=queries, memory=memory)
        own = dict(self.named_parameters())
        inputs = [None if one is None else wide(one) for one in (queries, memory, values)]
        parameters = [wide(own[name]) for name in self._names]
        for name, one in zip(("queries", "memory", "values", *self._names), (*inputs, *parameters)):
            if one is not None and one.dtype != self._dtype:
                made = f"{self._dtype}, of which the module was made"
                hint = f"pass tensors of {self._dtype}; variant(name, dtype=...) decides, module.to() changes nothing."
                raise DTypeError(describe(name, made, one.dtype, hint))
        tensors = (*inputs, lengths, mask)
        if is_watched((*tensors, *parameters)):
            # A compiler looks at what is read here again before each call of what it compiled.
            settings = constant(tuple([getattr(self.mechanism, name) for name in self._settings]))
            found = mechanisms.attend(tensors, parameters, return_weights, self._known(self._text, settings))
        else:
            self._follow()
            found = _Mechanism.apply(self.mechanism, return_weights, *tensors, *parameters)
        context, weights = (narrowed(one, queries) for one in found)
        return AttentionOutput(context, weights) if return_weights else context

    @torch.compiler.assume_constant_result
    def _known(self, text: str, settings: tuple[Any, ...]) -> str:
        """Return a text by which operators know the mechanism with its settings of now."""
        now = _described(self.mechanism)
        if now != self._made:
            text = f"{_bound(self.mechanism)} {now}"
        if text.startswith(_bound(self.mechanism)):
            mechanisms.keep(text, self.mechanism)
        return text

    def train(self, mode: bool = True) -> "VariantModule":
        """As of any module; parameters are looked at anew."""
        self._seen.clear()
        return super().train(mode)

    def _follow(self) -> None:
        """Take over parameters that may have changed."""
        own = self.mechanism.parameters()
        for name, parameter in self.named_parameters():
            now = (parameter.data_ptr(), parameter._version)
            seen = self._seen.get(name)
            # Another tensor may lie where one was that is no more.
            if self.training or seen is None or seen[0]() is not parameter or seen[1] != now:
                own[name].assign(array(name, wide(parameter.detach())))
                self._seen[name] = weakref.ref(parameter), now

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_seen": {}}


def _bound(mechanism: Variant[Any]) -> str:
    """Return the text of a mechanism that this process alone knows, and its copies."""
    return f"mechanism {mechanism.identity.hex()}"


def _described(mechanism: Variant[Any]) -> str:
    """Return all settings as a text."""
    return ", ".join(f"{name}={one!r}" for name, one in sorted(vars(mechanism).items()) if not name.startswith("_"))


class _Mechanism(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mechanism: Variant[Any], return_weights: bool, *tensors: Tensor) -> Any:
        """Compute, and keep the mechanism's own backward pass."""
        ctx.set_materialize_grads(False)
        ctx.given = mechanism, return_weights
        *found, ctx.back = mechanisms.run(mechanism, tensors[:5], return_weights, any(ctx.needs_input_grad))
        ctx.again = captured(mechanisms.run)
        ctx.save_for_backward(*tensors)
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *d: Tensor | None) -> Any:
        """Return the gradients of all that went in."""
        saved = ctx.saved_tensors
        if all(one is None for one in d):
            return (None,) * len(ctx.needs_input_grad)
        found = once(lambda *given: _gradients(ctx, given[:2], given[2:7]), *d, *saved)
        return None, None, *found[:3], None, None, *found[3:]


def _gradients(ctx: Any, d: Sequence[Tensor | None], tensors: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Return the gradients of queries, memory, values and parameters."""
    mechanism, return_weights = ctx.given
    back, ctx.back = ctx.back, None
    if back is None:  # a graph that is kept; a mechanism's backward pass can be called once
        *_, back = ctx.again(mechanism, tensors, return_weights, True)
    return mechanisms.differentiate(mechanism, back, *d)
