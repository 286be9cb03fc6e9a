"""Attention of fastattn in PyTorch: functions and modules of tensors, read in place, with their gradients.

``scaled_dot_product_attention`` takes the place of PyTorch's own, `attention` has what `fastattn.attention` has.

Tensors are float32 or float64 on the CPU. In eager mode a call is one node of autograd; under ``torch.compile``,
``torch.export`` and ``torch.func`` it is an operator, ``torch.ops.fastattn.attention``. As many threads are used as
``torch.set_num_threads`` says, on Linux PyTorch's own: after this import all kernels of the process run on these.
"""

from fastattn._optional import need

need("torch", "torch", "fastattn.interop.torch")

from fastattn.interop.torch.flex import flex_attention  # noqa: E402
from fastattn.interop.torch.functional import RelativeBias, attention, scaled_dot_product_attention  # noqa: E402
from fastattn.interop.torch.modules import AdditiveAttention, LuongAttention, MultiheadAttention  # noqa: E402
from fastattn.interop.torch.swapping import use  # noqa: E402
from fastattn.interop.torch.tensors import share_threads  # noqa: E402
from fastattn.interop.torch.variant import VariantModule, variant  # noqa: E402

share_threads()

__all__ = [
    "AdditiveAttention",
    "LuongAttention",
    "MultiheadAttention",
    "RelativeBias",
    "VariantModule",
    "attention",
    "flex_attention",
    "scaled_dot_product_attention",
    "use",
    "variant",
]
