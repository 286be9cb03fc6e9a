"""What tests of variants share: cases, problems, and the twin of each."""

from dataclasses import dataclass, field

import numpy as np

import fastattn
from fastattn._reference import variants as twins
from fastattn.scores.ours import ours
from fastattn.testing.variant_subject import VariantProblem, scores_by_formula
from fastattn.variants.soft import Soft

SOFT = (
    "dot",
    "scaled_dot",
    "cosine",
    "general",
    "location",
    "additive",
    "concat",
    "normed_additive",
    "bahdanau",
    "pooling",
    "l2",
    "linear",
)


@dataclass(frozen=True)
class Case:
    name: str
    options: dict = field(default_factory=dict)
    label: str = ""

    def __str__(self):
        return self.label or "-".join([self.name, *(f"{k}={v}" for k, v in self.options.items())])


CASES = [
    Case("dot"),
    Case("dot", {"scale": 0.3}),
    Case("scaled_dot"),
    Case("cosine", {"scale": 4.0}),
    Case("general"),
    Case("location", {"longest": 50}),
    Case("additive", {"width": 9}),
    Case("additive", {"width": 21, "activation": "sigmoid", "bias": True}),
    Case("additive", {"width": 6, "activation": "relu"}),
    Case("gated_additive", {"width": 9}),
    Case("gated_additive", {"width": 20, "activation": "sigmoid", "bias": True}),
    Case("concat", {"width": 7}),
    Case("normed_additive", {"width": 8}),
    Case("bahdanau", {"width": 5}),
    Case("luong", {"score": "concat"}),
    Case("multihead", {"heads": 1}),
    Case("multihead", {"heads": 6, "key_heads": 2, "head_width": 3, "bias": False}),
    Case("multihead", {"heads": 2, "head_width": 5, "output_width": 7}),
    Case("multihead", {"heads": 3, "head_width": 4, "positions": "alibi"}),
    Case("multihead", {"heads": 4, "key_heads": 2, "head_width": 4, "positions": "rotary", "window": (3, None)}),
    Case(
        "multihead",
        {"heads": 2, "head_width": 6, "positions": {"name": "rotary", "part": 4, "base": 100.0, "layout": "half"}},
    ),
    Case(
        "multihead",
        {"heads": 4, "key_heads": 2, "head_width": 3, "positions": {"name": "t5", "buckets": 8, "farthest": 20}},
    ),
    Case(
        "multihead",
        {"heads": 2, "head_width": 3, "positions": {"name": "t5", "buckets": 6, "farthest": 9, "bidirectional": False}},
    ),
    Case("multihead", {"heads": 2, "positions": "sinusoidal"}),
    Case("multihead", {"heads": 3, "positions": {"name": "learned", "longest": 60}, "window": (1, 2), "sinks": 1}),
    Case("multihead", {"heads": 4, "key_heads": 2, "head_width": 3, "positions": {"name": "shaw", "clip": 2}}),
    Case(
        "multihead",
        {"heads": 2, "head_width": 3, "positions": {"name": "shaw", "clip": 3, "values": False}, "window": (4, 1)},
    ),
    Case("multihead", {"heads": 2, "head_width": 3, "normalizer": "sparsemax", "positions": "alibi"}),
    Case(
        "multihead",
        {
            "heads": 4,
            "key_heads": 2,
            "head_width": 3,
            "normalizer": "entmax15",
            "positions": {"name": "shaw", "clip": 2},
        },
    ),
    Case(
        "multihead", {"heads": 2, "head_width": 3, "normalizer": "entmax15", "positions": {"name": "t5", "buckets": 8}}
    ),
    Case("additive_multihead", {"heads": 2, "width": 7, "head_width": 3}),
    Case("additive_multihead", {"heads": 1, "width": 5, "activation": "sigmoid", "bias": False, "output_width": 4}),
    Case("pooling", {"width": 10}),
    Case("l2"),
    Case("l2", {"scale": 0.7}),
    Case("linear"),
    Case("linear", {"terms": ("y", "x*y", "x"), "activation": "tanh"}),
    Case("linear", {"terms": ("x+y", "x/y", "x-y", "x*y")}),
    Case("dot", {"normalizer": "sparsemax"}),
    Case("cosine", {"scale": 3.0, "normalizer": "entmax15"}),
    Case("general", {"normalizer": "entmax15"}),
    Case("location", {"longest": 50, "normalizer": "sparsemax"}),
    Case("location", {"longest": 50, "normalizer": {"name": "entmax", "alpha": 1.3}}),
    Case("additive", {"width": 9, "bias": True, "normalizer": {"name": "entmax", "alpha": 1.2}}),
    Case("normed_additive", {"width": 8, "normalizer": "sparsemax"}),
    Case("bahdanau", {"width": 5, "normalizer": "sparsemax"}),
    Case("luong", {"score": "concat", "normalizer": "entmax15"}),
    Case("pooling", {"width": 10, "normalizer": "sparsemax"}),
    Case("l2", {"normalizer": "entmax15"}),
    Case("linear", {"terms": ("x", "y", "x*y"), "activation": "tanh", "normalizer": "sparsemax"}),
    Case("additive_multihead", {"heads": 2, "width": 6, "head_width": 3, "normalizer": "sparsemax"}),
    Case("local_m", {"window": 2, "score": "general"}),
    Case("local_m", {"window": 1, "score": "concat"}),
    Case("local_p", {"window": 2, "score": "general"}),
    Case("local_p", {"window": 3, "score": "concat", "width": 19}),
    Case("local_p", {"window": 4, "score": "dot"}),
    Case("location_sensitive", {"width": 9, "filters": 3, "filter_size": 5}),
    Case("location_sensitive", {"width": 37, "filters": 20, "filter_size": 41, "cumulative": True}),
    Case("location_sensitive", {"width": 16, "filters": 1, "filter_size": 1, "smoothing": True, "initial": "uniform"}),
    Case("location_sensitive", {"width": 7, "filters": 2, "filter_size": 3, "window": 2, "sharpening": 2.0}),
    Case("location_sensitive", {"width": 7, "filters": 2, "filter_size": 3, "window": 1, "cumulative": True}),
    Case("coverage", {"width": 11}),
    Case("coverage", {"width": 18, "fertility": 2.0}),
    Case("neural_coverage", {"width": 9, "coverage_width": 3}),
    Case("neural_coverage", {"width": 18, "coverage_width": 1}),
    Case("monotonic", {"width": 11, "offset": -1.0}),
    Case("monotonic", {"width": 37, "offset": 0.5}),
    Case("hard", {"width": 9}),
    Case("hard", {"score": "general", "training": "reinforce"}),
    Case("hard", {"score": "dot"}),
    Case("mocha", {"width": 10, "chunk": 3, "offset": -1.0}),
    Case("mocha", {"width": 5, "chunk": 1, "offset": 0.0}),
    Case("mocha", {"width": 17, "chunk": 50, "offset": 0.0}),
]

# Queries of another width than the memory, through a matrix.
CASES += [Case(name, {"query_width": 4}, label=f"{name}-bridged") for name in ("dot", "cosine", "l2")]

# Those of a score that has no case above: with what it cannot be made without.
CASES += [
    Case(name, {"width": 6} if fastattn.variants.options(name).get("width") else {})
    for name in (record.name for record in ours())
    if name not in {case.name for case in CASES}
]

SAME_WIDTH = ("dot", "scaled_dot", "cosine", "l2")


def positions_of(case):
    positions = case.options.get("positions")
    return positions["name"] if isinstance(positions, dict) else positions


@dataclass
class Problem(VariantProblem):
    """That of the kit, of a case."""

    case: Case

    def prepare(self, **changes):
        given = {"lengths": self.lengths, "mask": self.mask, "values": self.values, **changes}
        return self.variant.prepare(self.memory, **given)


def widths(case):
    if case.name == "pooling":
        return 0, 6
    if "query_width" in case.options:
        return case.options["query_width"], 6
    if positions_of(case) in ("learned", "sinusoidal"):
        return 6, 6
    return (
        (6, 6) if case.name in SAME_WIDTH or case.options.get("score") == "dot" or "terms" in case.options else (5, 6)
    )


def make(case, dtype=np.float64, batch=3, steps=4, keys=7, masked=True, valued=False, seed=0, size=1.0):
    rng = np.random.default_rng(seed)
    dq, dm = widths(case)
    sizes = {**case.options, "query_width": dq, "memory_width": dm}
    if valued and case.name.endswith("multihead"):
        sizes["value_width"] = 4
    variant = fastattn.create(case.name, rng=rng, dtype=dtype, **sizes)
    for parameter in variant.parameters().values():
        with parameter.edit() as value:
            value += rng.normal(size=parameter.value.shape) * 0.3
    lengths = rng.integers(1, keys + 1, batch)
    lengths[0] = keys
    mask = None
    if masked:
        mask = rng.random((batch, keys)) < 0.8
        mask[:, 0] = True
    queries, memory = (rng.normal(size=(batch, n, d)).astype(dtype) * dtype(size) for n, d in ((steps, dq), (keys, dm)))
    values = rng.normal(size=(batch, keys, 4)).astype(dtype) if valued else None
    return Problem(variant, queries, memory, lengths, mask, values, case)


def parameters(variant):
    return {name: parameter.value.astype(np.float64) for name, parameter in variant.parameters().items()}


def twin(problem, queries=None, memory=None, values=None, given=None):
    """Contexts and weights by the twin, in float64."""
    name, options = problem.case.name, dict(problem.case.options)
    queries = problem.queries if queries is None else queries
    memory = problem.memory if memory is None else memory
    values = problem.values if values is None else values
    given = parameters(problem.variant) if given is None else given
    summed = memory if values is None else values
    if name == "luong":
        name = options.pop("score", "general")
    if name == "local_p":
        options["lengths"] = problem.lengths
    if (name not in SOFT or options.pop("query_width", None)) and type(problem.variant) is Soft:
        scores = scores_by_formula(problem.variant, given, np.asarray(queries, np.float64), memory, options)
        weights = twins.weighted(scores, problem.allowed[:, None], options.get("normalizer", "softmax"))
        return np.einsum("bts,bsd->btd", weights, np.where(problem.allowed[..., None], summed, 0)), weights
    if name in SOFT:
        return twins.soft(name, given, queries, memory, summed, problem.allowed, **options)
    reference = fastattn.variants.record(name).formula()
    return reference(given, queries, memory, summed, problem.allowed, **options)


def derivative(function, array, direction, step=1e-6):
    """The derivative of a scalar function of an array along a direction by a central difference; array is restored."""
    kept = array.copy()
    array += step * direction
    above = function()
    array[...] = kept - step * direction
    below = function()
    array[...] = kept
    return (above - below) / (2 * step)
