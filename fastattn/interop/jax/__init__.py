"""Attention of fastattn in JAX, on the CPU: ``jit``, ``grad`` and ``vmap``, without a callback and without a copy.

`dot_product_attention` takes the place of ``jax.nn.dot_product_attention``; `attention` has what `fastattn.attention`
has. Arrays are float32, or float64 where JAX is told to have it. The kernels are called by compiled programs through
XLA's foreign function interface, on the program's own buffers; the forward pass is computed once, its gradient leaves
two numbers a row. Reverse mode only, once: ``jax.jvp`` and gradients of gradients are errors of JAX.
"""

from fastattn._optional import need

need("jax", "jax", "fastattn.interop.jax")

from fastattn.interop.jax.functional import attention, dot_product_attention  # noqa: E402

__all__ = ["attention", "dot_product_attention"]
