"""The gallery of docs/functions.md: each of its entries beside plain attention of the same size, and PyTorch.

python -m benchmarks.functions.gallery [--threads 1] [--quick] [--only alibi t5] [--side 16]

The entries are those of the page, made for other sizes. Ratios are times of an entry to those of attention without it,
forward, and with gradients, in turns. Where PyTorch is installed, the last column has the ratio, forward, to its
`scaled_dot_product_attention` with a bias or a mask of the size of all scores, for entries that are such; it is made
beforehand, and both give the same context.
"""

import argparse
import doctest
import functools
import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastattn

from ..timing import FULL, QUICK, Effort, interleave

PAGE = Path(__file__).resolve().parents[2] / "docs" / "functions.md"
SAMPLES, HEADS, WIDTH = 4, 8, 64


def entries(**sizes: int) -> dict[str, dict[str, Any]]:
    """Options of attention by what the page calls them; `samples`, `heads`, `side` and `width` may be others."""
    blocks = re.findall(r"^```pycon\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    for example in doctest.DocTestParser().get_examples("\n".join(blocks)):
        if example.exc_msg is None and not re.search(r"attention\w*\(|backward\(", example.source):  # made, not called
            exec(example.source, names)
            names.update(sizes)
    return dict(names["gallery"])


def added(options: Mapping[str, Any], sizes: tuple[int, ...]) -> Any:
    """What an entry adds to scores, or whom it lets attend, of the shape of all scores; None of others."""
    places = np.ogrid[tuple(slice(size) for size in sizes)]
    if set(options) == {"mask"}:
        return fastattn.jit.as_mask_mod(options["mask"]).evaluate(*places)
    if set(options) != {"score_mod"}:
        return None
    modifier = fastattn.jit.as_score_mod(options["score_mod"])
    none, one = (modifier.evaluate(np.full(sizes, x), *places) for x in (0.0, 1.0))
    return none.astype(np.float32) if np.allclose(one - none, 1.0) else None


def in_torch(q: Any, k: Any, v: Any, bias: Any) -> Callable[[], Any]:
    import torch

    tensors = [torch.from_numpy(x) for x in (q, k, v, bias)]

    def forward() -> Any:
        with torch.no_grad():
            return torch.nn.functional.scaled_dot_product_attention(*tensors).numpy()

    return forward


def report(name: str, options: Mapping[str, Any], arrays: Sequence[Any], effort: Effort) -> None:
    """One line."""
    q, k, v, d = arrays

    def both(given: Mapping[str, Any]) -> Any:
        return fastattn.attention_vjp(q, k, v, **given)[1](d)

    runs = {
        "forward": functools.partial(fastattn.attention, q, k, v, **options),
        "dot": functools.partial(fastattn.attention, q, k, v),
    }
    with_torch = importlib.util.find_spec("torch") is not None
    bias = added(options, (*q.shape[:3], k.shape[2])) if with_torch else None
    if bias is not None:
        runs["torch"] = in_torch(q, k, v, bias)
        if np.abs(runs["torch"]() - runs["forward"]()).max() > 1e-4:
            raise SystemExit(f"{name} is not what PyTorch computes")
    times = {label: min(found) for label, found in interleave(runs, effort).items()}
    gradients = {"both": functools.partial(both, options), "dot": functools.partial(both, {})}
    trained = {label: min(found) for label, found in interleave(gradients, effort).items()}
    beside = f"{times['forward'] / times['torch']:10.2f}" if "torch" in times else f"{'-':>10}"
    print(
        f"{name:14} {1e3 * times['forward']:10.3f} {times['forward'] / times['dot']:10.2f} "
        f"{1e3 * trained['both']:10.3f} {trained['both'] / trained['dot']:10.2f} {beside}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="ENTRY", help="some entries of the page (default: all)")
    parser.add_argument("--side", type=int, default=16, help="so many queries and keys, squared (default: 16)")
    given = parser.parse_args(arguments)
    found = entries(samples=SAMPLES, heads=HEADS, side=given.side, width=WIDTH)
    if unknown := set(given.only or ()) - set(found):
        parser.error(f"--only: the page has no {', '.join(sorted(unknown))}; it has {', '.join(found)}")
    fastattn.set_num_threads(given.threads)
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(given.threads)
    rng, shape = np.random.default_rng(0), (SAMPLES, HEADS, given.side**2, WIDTH)
    arrays = [rng.standard_normal(shape).astype(np.float32) for _ in range(4)]
    print(f"{'x'.join(map(str, shape)):14} {'forward ms':>10} {'of dot':>10} {'both ms':>10} {'of dot':>10}   of torch")
    for name in given.only or found:
        report(name, found[name], arrays, QUICK if given.quick else FULL)


if __name__ == "__main__":
    main()
