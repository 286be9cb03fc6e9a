"""Errors of attention of bfloat16 beside PyTorch's: ``python -m benchmarks.families.attention.accuracy``.

Of random inputs of many sizes, of numbers with a mean of 0 and with one of several deviations: for the context and each
gradient the root of the mean squared error, ours over PyTorch's. Both take the same bfloat16 numbers, of which float64
is the right result. Pooled is the ratio over all inputs, whose squared errors are divided by the size of their result.
"""

import argparse
from typing import NamedTuple

import ml_dtypes
import numpy as np

import fastattn

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
NAMES = ("context", "d_query", "d_key", "d_value")
MEANS = (0.0, 4.0)


class Input(NamedTuple):
    """Query, key, value and d_context, and the mean of the first three."""

    mean: float
    arrays: list[np.ndarray]


def inputs(count: int, seed: int) -> list[Input]:
    """Of each mean in turn; the query's mean is small, or keys of one mean would have all weights."""
    rng, found = np.random.default_rng(seed), []
    for number in range(count):
        heads, width = int(rng.integers(1, 5)), int(rng.choice([16, 32, 64, 80, 128]))
        # One key has no gradient of its score: two and more.
        queries, keys = (round(2 ** rng.uniform(least, 9)) for least in (0, 1))
        mean = MEANS[number % len(MEANS)]
        drawn = [rng.standard_normal((1, heads, n, width)) for n in (queries, keys, keys, queries)]
        for array, shift in zip(drawn, (mean / 4, mean, mean, 0.0), strict=True):
            array += shift
        found.append(Input(mean, [array.astype(BFLOAT16) for array in drawn]))
    return found


def exact(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Context and gradients in float64."""
    q, k, v, d = (x.astype(np.float64) for x in arrays)
    scale = q.shape[-1] ** -0.5
    scores = scale * q @ k.swapaxes(-1, -2)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    d_weights = d @ v.swapaxes(-1, -2)
    d_scores = scale * weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    return [weights @ v, d_scores @ k, d_scores.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ d]


def ours(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Context and gradients of fastattn."""
    context, backward = fastattn.attention_vjp(*arrays[:3])
    return [context, *backward(arrays[3])[:3]]


def theirs(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Those of PyTorch's fused attention."""
    import torch

    q, k, v, d = (torch.from_numpy(x.view(np.int16)).view(torch.bfloat16).clone() for x in arrays)
    leaves = [x.requires_grad_() for x in (q, k, v)]
    context = torch.nn.functional.scaled_dot_product_attention(*leaves)
    return [x.detach().float().numpy() for x in (context, *torch.autograd.grad(context, leaves, d))]


def squares(found: list[np.ndarray], right: list[np.ndarray]) -> list[float]:
    """Squared errors of each result over its squared size."""
    return [
        float(np.square(a.astype(np.float64) - b).sum() / np.square(b).sum())
        for a, b in zip(found, right, strict=True)
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    means, errors = [], []  # (inputs, two, results)
    for mean, arrays in inputs(options.inputs, options.seed):
        right = exact(arrays)
        means.append(mean)
        errors.append([squares(ours(arrays), right), squares(theirs(arrays), right)])
    print(f"level {fastattn.show_config(as_dict=True)['level']}, {options.inputs} inputs, our error over PyTorch's\n")
    print("| | mean | largest | median | pooled | inputs above 1 |\n|---|--:|--:|--:|--:|--:|")
    for number, name in enumerate(NAMES):
        for mean in MEANS:
            own, other = np.array(errors)[np.array(means) == mean, :, number].T
            ratios = np.sqrt(own / other)
            pooled, above = np.sqrt(own.sum() / other.sum()), (ratios > 1).sum()
            print(
                f"| {name} | {mean:g} | {ratios.max():.3f} | {np.median(ratios):.3f} | {pooled:.3f} "
                f"| {above} of {len(ratios)} |"
            )


if __name__ == "__main__":
    main()
