"""fastattn through its adapter for PyTorch beside PyTorch's own: ``python -m benchmarks.frameworks.in_torch``.

Every call is that of a program: tensors in, tensors out, autograd's part too. Each round times both sides of a case
one after the other, in an order drawn for it, and gives one ratio; their median is printed, with the range of the
middle half. Results are compared before they are timed. ``smallest`` is no ratio: what a call costs beyond the same
call of arrays, in microseconds, at most. What is printed is the table of docs/torch.md.
"""

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

Call = Callable[[], Any]


class Case(NamedTuple):
    """Calls that do the same, ours and PyTorch's, and the ratio that is aimed at."""

    name: str
    target: float
    ours: Call
    theirs: Call


def cases(names: list[str]) -> list[Case]:
    import torch
    from torch import nn
    from torch.nn import functional
    from torch.nn.attention import flex_attention as theirs

    from fastattn.interop import torch as fast

    made: list[Case] = []
    random_numbers = torch.Generator().manual_seed(0)

    def draw(*shape: int, grad: bool = True) -> Any:
        return torch.randn(*shape, generator=random_numbers).requires_grad_(grad)

    def add(
        name: str, target: float, ours: Any, other: Any, inputs: list[Any], parameters: Any = (), both: bool = True
    ) -> None:
        """Add the forward pass, without gradients, and both passes."""

        def forward(call: Any) -> Call:
            def run() -> Any:
                with torch.no_grad():
                    return call(*inputs)

            return run

        def passes(call: Any, trained: list[Any]) -> Call:
            def run() -> Any:
                output = call(*inputs)
                first = output[0] if isinstance(output, tuple) else output
                return torch.autograd.grad(first, trained, torch.ones_like(first))

            return run

        def wanted() -> bool:
            return not names or any(name.startswith(one) for one in names)

        if wanted():
            if both:
                trained = [one for one in inputs if getattr(one, "requires_grad", False)]
                own = parameters or ([], [])
                made.append(
                    Case(
                        f"{name}, with gradients",
                        target,
                        passes(ours, [*trained, *own[0]]),
                        passes(other, [*trained, *own[1]]),
                    )
                )
            else:
                made.append(Case(name, target, forward(ours), forward(other)))

    sdpa = functional.scaled_dot_product_attention

    def causal(f: Any) -> Any:
        return lambda q, k, v: f(q, k, v, is_causal=True)

    for sizes, first, second, wrap in (((4, 8, 512, 64), 1.9, 1.9, causal), ((64, 4, 30, 64), 1.7, 1.4, lambda f: f)):
        q, k, v = (draw(*sizes) for _ in range(3))
        own, other = wrap(fast.scaled_dot_product_attention), wrap(sdpa)
        label = f"sdpa {'causal ' if wrap is causal else ''}{','.join(map(str, sizes))}"
        add(label, first, own, other, [q, k, v], both=False)
        add(label, second, own, other, [q, k, v])
    q, k, v = (draw(4, 8, 512, 64) for _ in range(3))
    add("sdpa trained bias 1,8,512,512", 3.0, fast.scaled_dot_product_attention, sdpa, [q, k, v, draw(1, 8, 512, 512)])
    module = fast.AdditiveAttention(256, 256, 256)

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.v = module.query, module.key, module.v

        def forward(self, query: Any, memory: Any) -> Any:
            scores = torch.tanh(self.query(query)[:, :, None] + self.key(memory)[:, None]) @ self.v
            return torch.softmax(scores, -1) @ memory

    if not names or any("additive".startswith(one) for one in names):
        plain = torch.compile(Plain())
        parameters = list(module.parameters())
        add(
            "additive module 16,100,100,256",
            8.0,
            module,
            plain,
            [draw(16, 100, 256), draw(16, 100, 256)],
            (parameters, parameters),
        )
    heads, own_heads = (
        nn.MultiheadAttention(512, 8, batch_first=True),
        fast.MultiheadAttention(512, 8, batch_first=True),
    )
    own_heads.load_state_dict(heads.state_dict())
    x = draw(32, 128, 512)
    add(
        "multihead with weights 32,128,512",
        1.5,
        lambda x: own_heads(x, x, x),
        lambda x: heads(x, x, x),
        [x],
        (list(own_heads.parameters()), list(heads.parameters())),
    )
    if not names or any("flex".startswith(one) for one in names):
        slopes = -(2.0 ** -torch.arange(1, 9, dtype=torch.float32))
        compiled = torch.compile(theirs.flex_attention)

        def alibi(score: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
            return score + slopes[h] * (i - j).abs()

        inputs = [draw(4, 8, 512, 64, grad=False) for _ in range(3)]
        add(
            "flex alibi 4,8,512,64",
            4.0,
            lambda *x: fast.flex_attention(*x, alibi),
            lambda *x: compiled(*x, alibi),
            inputs,
            both=False,
        )
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("case", nargs="*", help="only these, by the start of a name")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    given = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))[-given.threads :]
    os.sched_setaffinity(0, cpus)
    import torch

    torch.set_num_threads(given.threads)
    missed = 0
    print(f"PyTorch {torch.__version__}, {given.threads} thread{'s' * (given.threads > 1)}\n")
    print("| case | fastattn | PyTorch's time over it | middle half | asked for | |\n|---|--:|--:|--:|--:|---|")
    draw = random.Random(0)
    missed += smallest(given.case) + pools(given.case, given.threads)
    for case in cases(given.case):
        for one, other in zip(flat(case.ours()), flat(case.theirs()), strict=True):
            torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-4 * max(1.0, float(other.abs().max())))
        ratios, times = [], []
        for _ in range(given.rounds):
            seconds = {}
            for call in draw.sample([case.ours, case.theirs], 2):
                time.sleep(0.02)  # the other's threads stop spinning
                call()
                count, start = 0, time.perf_counter()
                while (passed := time.perf_counter() - start) < 0.1 or count == 0:
                    call()
                    count += 1
                seconds[call] = passed / count
            ratios.append(seconds[case.theirs] / seconds[case.ours])
            times.append(seconds[case.ours])
        low, middle, high = statistics.quantiles(ratios, n=4)
        ours, half = f"{statistics.median(times) * 1e3:.3f} ms", f"{low:.2f} to {high:.2f}"
        missed += row(case.name, ours, f"{middle:.2f}", half, f"{case.target}", middle < case.target)
    return int(given.check and missed > 0)


def row(name: str, ours: str, ratio: str, half: str, asked: str, short: bool) -> int:
    """Print a row of the table; return 1 if it falls short, else 0."""
    print(f"| {name} | {ours} | {ratio} | {half} | {asked} | {'missed' if short else ''} |", flush=True)
    return int(short)


def smallest(names: list[str]) -> int:
    """Print what the adapter adds to the smallest calls, and return how many cost too much."""
    import torch

    import fastattn
    from fastattn.interop import torch as fast

    if names and not any("smallest".startswith(one) for one in names):
        return 0
    frozen = torch.ones(1, 1, 1, 4)
    trained, array = frozen.clone().requires_grad_(), frozen.numpy()
    calls = {
        "arrays": lambda: fastattn.attention(array, array, array),
        "smallest": lambda: fast.scaled_dot_product_attention(frozen, frozen, frozen),
        "smallest, gradients required": lambda: fast.scaled_dot_product_attention(trained, trained, trained),
    }
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(400):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(20):
                call()
            best[name] = min(best[name], (time.perf_counter() - start) / 20 * 1e6)
    least, missed = best.pop("arrays"), 0
    for name, microseconds in best.items():
        more = microseconds - least
        missed += row(f"{name}, beside arrays", f"{more:.1f} us more", "", "", "at most 20 us", more > 20)
    return missed


def pools(names: list[str], threads: int) -> int:
    """Print what it costs that both libraries have threads: calls in turn, over the same calls by themselves."""
    import torch

    from fastattn.interop import torch as fast

    if threads < 2 or (names and not any("pools".startswith(one) for one in names)):
        return 0
    x, w = torch.randn(1024, 512), torch.randn(512, 512)
    query, key, value = (torch.randn(2, 8, 256, 64) for _ in range(3))

    def product() -> None:
        torch.mm(x, w)

    def attention() -> None:
        fast.scaled_dot_product_attention(query, key, value)

    ratios = []
    for _ in range(30):
        seconds = []
        for calls in ([product] * 20, [attention] * 20, [product, attention] * 20):
            time.sleep(0.02)
            start = time.perf_counter()
            for call in calls:
                call()
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[2] / (seconds[0] + seconds[1]))
    low, middle, high = statistics.quantiles(ratios, n=4)
    half = f"{low:.2f} to {high:.2f}"
    return row("both in turn, over each alone", "", f"{middle:.2f}", half, "at most 1.05", middle > 1.05)


def flat(found: Any) -> list[Any]:
    return [one for one in found if one is not None] if isinstance(found, tuple) else [found]


if __name__ == "__main__":
    sys.exit(main())
