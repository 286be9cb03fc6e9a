"""Functions of users on scores, as masks and as scores: against our own kernels, and PyTorch's FlexAttention.

python -m benchmarks.functions [--threads 1] [--quick] [--only softcap] [--keys 512]

Ratios are times of fastattn's function to those of another way to the same numbers, in turns: below 1 the function is
faster. The context of each way is compared with a formula in float64 first. Where PyTorch is installed, its compiled
`flex_attention` stands beside, which has no backward pass on CPUs: there the formula of tensors is trained.
"""

import argparse
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import fastattn
from fastattn.positions import RelativeBias

from ..families.functions.inputs import CAP, WIDTH
from ..families.functions.ours import additive, alibi, softcap, window
from ..timing import FULL, QUICK, interleave

NAMES = ("alibi", "softcap", "temperature", "window")
SIZES = ((1, 8, 2048, 64), (4, 8, 512, 64), (8, 8, 128, 64))


@fastattn.score_mod
def temperature(score: Any, b: Any, h: Any, i: Any, j: Any, factors: Any) -> Any:
    return score * factors[h]


def distances(count: int) -> Any:
    return np.abs(np.arange(count)[:, None] - np.arange(count))


def numbers(heads: int) -> Any:
    """Slopes of ALiBi, and near 1 as factors."""
    return (2.0 ** -np.arange(1, heads + 1)).astype(np.float32)


def expected(name: str, query: Any, key: Any, value: Any) -> Any:
    """The context of the first sample and the last head, float64."""
    q, k, v = (x[0, -1].astype(np.float64) for x in (query, key, value))
    slope, far = float(numbers(query.shape[1])[-1]), distances(len(q))
    scores = q @ k.T / np.sqrt(q.shape[1])
    if name == "alibi":
        scores -= slope * far
    elif name == "softcap":
        scores = CAP * np.tanh(scores / CAP)
    elif name == "temperature":
        scores *= 1 + slope
    elif name == "window":
        scores[far > WIDTH] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ v


def ours(name: str, heads: int, count: int, trained: bool) -> Mapping[str, Mapping[str, Any]]:
    """Options of attention by what they are called, the function first; slopes of ALiBi are trained or not."""
    slopes = numbers(heads)
    if name == "alibi":
        bias = -slopes[:, None] * np.abs(np.arange(1 - count, count)).astype(np.float32)
        function = alibi(slopes=slopes if trained else list(slopes))
        return {"function": {"score_mod": function}, "dot": {}, "bias": {"bias": RelativeBias(bias, trained=trained)}}
    if name == "softcap":
        built_in = fastattn.scores.ScaledDot(softcap=CAP)
        return {"function": {"score_mod": softcap(cap=CAP)}, "dot": {}, "built in": {"score": built_in}}
    if name == "temperature":
        return {"function": {"score_mod": temperature(factors=1 + slopes)}, "dot": {}}
    return {"function": {"mask": window(width=WIDTH)}, "dot": {}, "built in": {"window": (WIDTH, WIDTH)}}


def torch_calls(name: str, arrays: Any, d_context: Any, backward: bool) -> Mapping[str, Callable[[], Any]]:
    import torch
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    q, k, v = (torch.from_numpy(x) for x in arrays)
    heads, count, width = q.shape[1:]
    slopes, cotangent = torch.from_numpy(numbers(heads)), torch.from_numpy(d_context)
    places = torch.arange(count)
    far = (places[:, None] - places).abs()

    def modified(score: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
        if name == "alibi":
            return score - slopes[h] * (i - j).abs()
        return CAP * torch.tanh(score / CAP) if name == "softcap" else score * (1 + slopes[h])

    def formula(query: Any, key: Any, value: Any, factors: Any) -> Any:
        scores = (query * width**-0.5) @ key.transpose(-1, -2)
        if name == "alibi":
            scores = scores - factors[:, None, None] * far
        elif name == "softcap":
            scores = CAP * torch.tanh(scores / CAP)
        elif name == "temperature":
            scores = scores * (1 + factors[:, None, None])
        else:
            scores = scores.masked_fill(far > WIDTH, float("-inf"))
        return torch.softmax(scores, -1) @ value

    if backward:
        inputs = [x.clone().requires_grad_() for x in (q, k, v, slopes)]
        wanted = inputs if name in ("alibi", "temperature") else inputs[:3]

        def both() -> Any:
            context = formula(*inputs)
            return (context.detach().numpy(), *torch.autograd.grad(context, wanted, cotangent))

        return {"formula in torch": both}
    blocks: Any = create_block_mask(lambda b, h, i, j: (i - j).abs() <= WIDTH, None, None, count, count, device="cpu")
    options = {"block_mask": blocks} if name == "window" else {"score_mod": modified}
    torch.compiler.reset()
    flex = torch.compile(flex_attention, dynamic=False)

    def forward() -> Any:
        with torch.no_grad():
            return (flex(q, k, v, **options).numpy(),)

    return {"flex_attention": forward}


def report(name: str, sizes: tuple[int, ...], part: str, quick: bool) -> None:
    """One line: forward, backward alone, or both."""
    rng = np.random.default_rng(0)
    heads, count = sizes[1:3]
    *arrays, d_context = (rng.standard_normal(sizes).astype(np.float32) for _ in range(4))

    def call(options: Mapping[str, Any]) -> Callable[[], Any]:
        def both() -> Any:
            context, back = fastattn.attention_vjp(*arrays, **options)
            return context, *back(d_context)

        if part == "backward":
            context, back = fastattn.attention_vjp(*arrays, **options)
            return lambda: (context, *back(d_context))
        return both if part == "both" else lambda: (fastattn.attention(*arrays, **options),)

    runs = {label: call(options) for label, options in ours(name, heads, count, part == "both").items()}
    if importlib.util.find_spec("torch") and part != "backward":
        runs |= torch_calls(name, arrays, d_context, part == "both")
    right = expected(name, *arrays)
    for label, run in runs.items():
        if label != "dot" and np.abs(run()[0][0, -1] - right).max() > 1e-4:
            raise SystemExit(f"{label} is wrong for {name}")
    times = {label: min(found) for label, found in interleave(runs, QUICK if quick else FULL).items()}
    own = times.pop("function")
    words = ", ".join(f"{own / other:.2f} of {label}" for label, other in times.items())
    print(f"{name:12} {'x'.join(map(str, sizes)):15} {part:8} {1e3 * own:8.2f} ms: {words}")


def report_additive(quick: bool) -> None:
    """An additive score as a function against the kernel's."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((8, n, 128)).astype(np.float32) for n in (64, 256, 256))
    w = rng.standard_normal(128).astype(np.float32)
    as_function, own = additive(v=w), fastattn.scores.Additive(w)
    runs: dict[str, Callable[[], Any]] = {
        "function": lambda: fastattn.attention(q, k, v, score=as_function),
        "kernel": lambda: fastattn.attention(q, k, v, score=own),
    }
    if importlib.util.find_spec("torch"):
        import torch

        tensors = [torch.from_numpy(x) for x in (q, k, v, w)]

        def formula(query: Any, key: Any, value: Any, factor: Any) -> Any:
            scores = torch.tanh(query[:, :, None] + key[:, None]) @ factor
            return torch.softmax(scores, -1) @ value

        compiled = torch.compile(formula, dynamic=False)

        def compiled_formula() -> Any:
            with torch.no_grad():
                return compiled(*tensors).numpy()

        runs["compiled formula in torch"] = compiled_formula
    first = runs["function"]()
    if any(np.abs(run() - first).max() > 1e-4 for run in runs.values()):
        raise SystemExit("a way is wrong for additive")
    times = {label: min(found) for label, found in interleave(runs, QUICK if quick else FULL).items()}
    own_time = times.pop("function")
    words = ", ".join(f"{own_time / other:.2f} of {label}" for label, other in times.items())
    print(f"{'additive':12} {'8x64x256x128':15} {'forward':8} {1e3 * own_time:8.2f} ms: {words}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=[*NAMES, "additive"], nargs="+", default=[*NAMES, "additive"])
    parser.add_argument("--keys", choices=[sizes[2] for sizes in SIZES], type=int, nargs="+")
    given = parser.parse_args()
    fastattn.set_num_threads(given.threads)
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(given.threads)
    wanted = given.keys or [sizes[2] for sizes in (SIZES[-1:] if given.quick else SIZES)]
    for sizes in (one for one in SIZES if one[2] in wanted):
        for name in (one for one in NAMES if one in given.only):
            for part in ("forward", "backward", "both"):
                report(name, sizes, part, given.quick)
    if "additive" in given.only:
        report_additive(given.quick)


if __name__ == "__main__":
    main()
