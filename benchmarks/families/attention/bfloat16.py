"""Attention of bfloat16 arrays beside PyTorch's: ``python -m benchmarks.families.attention.bfloat16``.

Results are compared with float64 before they are timed. Both take turns in one process, and a ratio is that of the best
times of all rounds: PyTorch's over ours. Where PyTorch is not installed the times are ours alone.
"""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

import fastattn

from ...timing import Effort, interleave

try:
    import torch
except ModuleNotFoundError:
    torch = None

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class Case(NamedTuple):
    """Sizes, and what is asked of the ratios forward and with gradients, if they are timed."""

    sizes: tuple[int, int, int, int, int]  # B, H, Tq, Tk, D
    causal: bool
    prepared: bool
    forward: float
    gradients: float | None


CASES = (
    Case((1, 8, 2048, 2048, 64), False, False, 2, 4),
    Case((4, 8, 512, 512, 64), True, False, 2, 6),
    Case((64, 4, 30, 30, 64), False, False, 3, 3),
    Case((32, 8, 1, 512, 64), False, True, 1.3, None),
    Case((1, 32, 1, 8192, 128), False, True, 1.3, None),
)


def arrays(case: Case) -> list[np.ndarray]:
    """Query, key, value and d_context."""
    batch, heads, queries, keys, width = case.sizes
    rng = np.random.default_rng(0)
    return [rng.standard_normal((batch, heads, n, width), np.float32).astype(BFLOAT16) for n in
            (queries, keys, keys, queries)]  # fmt: skip


def ours(case: Case, gradients: bool) -> Callable[[], Any]:
    """A call of ours."""
    q, k, v, d = arrays(case)
    options: dict[str, Any] = {"causal": "top_left"} if case.causal else {}
    if gradients:
        return lambda: fastattn.attention_vjp(q, k, v, **options)[1](d)
    if case.prepared:
        memory = fastattn.prepare(k, v)
        return lambda: memory.attend(q, **options)
    return lambda: fastattn.attention(q, k, v, **options)


def theirs(case: Case, gradients: bool) -> Callable[[], Any]:
    """The same call of PyTorch, of tensors that it has allocated: NumPy's begin anywhere in a line of the cache."""
    q, k, v, d = (torch.from_numpy(x.view(np.int16)).view(torch.bfloat16).clone() for x in arrays(case))
    attend = torch.nn.functional.scaled_dot_product_attention
    if not gradients:

        def forward() -> Any:
            with torch.no_grad():
                return attend(q, k, v, is_causal=case.causal)

        return forward
    leaves = [x.requires_grad_() for x in (q, k, v)]
    return lambda: torch.autograd.grad(attend(*leaves, is_causal=case.causal), leaves, d)


def error(case: Case) -> float:
    """The largest error of a few rows over what is allowed, 2 u A and that of float32."""
    q, k, v, _ = arrays(case)
    found = ours(case, False)()
    q, k, v, found = (x[:1, :1].astype(np.float64) for x in (q, k, v, found))
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    if case.causal:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    exact, unit = weights @ v, weights @ np.abs(v)
    growth = 1 + (np.abs(q) @ np.abs(k).swapaxes(-1, -2)).max(axis=-1, keepdims=True) / np.sqrt(q.shape[-1])
    return float((np.abs(found - exact) / (2 * 2.0**-8 * unit + 4 * 2.0**-23 * unit * growth)).max())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=Effort.rounds)
    given = parser.parse_args()
    fastattn.set_num_threads(given.threads)
    if torch is not None:
        torch.set_num_threads(given.threads)
    print(f"level {fastattn.show_config(as_dict=True)['level']}, {given.threads} threads")
    print(f"{'B, H, Tq, Tk, D':24} {'':10} {'ours':>9} {'PyTorch':>9} {'ratio':>6} {'asked':>6} {'error':>6}")
    for case in CASES:
        name = ", ".join(map(str, case.sizes)) + (" causal" if case.causal else "")
        wrong = error(case)
        for gradients, asked in ((False, case.forward), (True, case.gradients)):
            if asked is None:
                continue
            runs = {"ours": ours(case, gradients)} | ({} if torch is None else {"theirs": theirs(case, gradients)})
            times = [min(found) for found in interleave(runs, Effort(given.rounds)).values()]
            ratio = f"{times[1] / times[0]:.2f}" if len(times) > 1 else ""
            shown = " ".join(f"{1e3 * x:9.2f}" for x in (*times, *([float("nan")] * (2 - len(times)))))
            print(f"{name:24} {'gradients' if gradients else 'forward':10} {shown} {ratio:>6} {asked:6} {wrong:6.2f}")


if __name__ == "__main__":
    main()
