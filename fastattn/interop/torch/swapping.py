"""PyTorch's own attention, computed by fastattn inside of a block."""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.nn import functional
from torch.overrides import TorchFunctionMode

from fastattn.interop.torch.functional import scaled_dot_product_attention

__all__ = ["use"]


def _over(function: Any, **names: Any) -> Any:
    """Return a function of PyTorch that finds other things by these names: a mode is not asked about what it calls."""
    made = types.FunctionType(function.__code__, {**function.__globals__, **names}, function.__name__)
    made.__defaults__, made.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    return made


_HEADS = _over(functional.multi_head_attention_forward, scaled_dot_product_attention=scaled_dot_product_attention)


class use(TorchFunctionMode):
    """Compute ``torch.nn.functional.scaled_dot_product_attention`` by fastattn in a block, and nowhere else.

    Models that call it, also through a module, need no change. Calls of other threads are not affected.

    Notes
    -----
    Every call of PyTorch in the block passes through Python, about a microsecond more for each.
    ``nn.MultiheadAttention`` and ``nn.TransformerEncoderLayer`` do not call the function in evaluation without
    gradients, unless ``torch.backends.mha.set_fastpath_enabled(False)``, nor where weights are asked for;
    `MultiheadAttention` serves there.

    Examples
    --------
    ::

        with fastattn.interop.torch.use():
            loss = model(batch).loss
        loss.backward()
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call what takes the place of `func`."""
        if func is functional.scaled_dot_product_attention:
            func = scaled_dot_product_attention
        elif func is functional.multi_head_attention_forward:
            func = _HEADS
        return func(*args, **(kwargs or {}))
