"""fastattn through its adapter for JAX beside JAX's own, all compiled: ``python -m benchmarks.frameworks.in_jax``.

Results and gradients are compared before anything is timed. Both sides of a case are timed in turn, round by round;
printed are the medians, their ratio, and the largest difference.
"""

from collections.abc import Callable
from typing import Any

from .table import Case, options, show


def cases() -> list[Case]:
    import jax
    import numpy as np
    from jax import numpy as jnp

    from fastattn.interop import jax as fast

    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    def with_gradients(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            context, pullback = jax.vjp(function, *given)
            return context, pullback(jnp.ones_like(context))

        return run

    def additive(query: Any, memory: Any, v: Any) -> Any:
        scores = jnp.tanh(query[:, :, None] + memory[:, None]) @ v
        return jax.nn.softmax(scores) @ memory

    def own_additive(query: Any, memory: Any, v: Any) -> Any:
        return fast.attention(query, memory, memory, score={"name": "additive", "v": v})

    own, other = fast.dot_product_attention, jax.nn.dot_product_attention
    plain = [
        Case(
            "causal 4,512,8,64",
            lambda *x: own(*x, is_causal=True),
            lambda *x: other(*x, is_causal=True),
            [draw(4, 512, 8, 64) for _ in range(3)],
        ),
        Case("64,30,4,64", own, other, [draw(64, 30, 4, 64) for _ in range(3)]),
        Case("bias 4,512,8,64", own, other, [*(draw(4, 512, 8, 64) for _ in range(3)), draw(1, 8, 512, 512)]),
        Case("smallest 1,2,1,16", own, other, [draw(1, n, 1, 16) for n in (1, 8, 8)]),
        Case("additive 16,100,256", own_additive, additive, [draw(16, 100, 256), draw(16, 100, 256), draw(256)]),
    ]
    found = []
    for case in plain:
        found.append(case)
        both = with_gradients(case.ours), with_gradients(case.theirs)
        found.append(Case(f"{case.name}, with gradients", *both, case.inputs))
    return [case._replace(ours=jax.jit(case.ours), theirs=jax.jit(case.theirs)) for case in found]


def main() -> int:
    given = options("in_jax", __doc__)
    import jax

    import fastattn

    fastattn.set_num_threads(given.threads)
    show("JAX", cases(), given.quick, jax.tree.leaves, jax.block_until_ready)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
