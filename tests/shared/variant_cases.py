"""The variants that tests run over: subjects of the conformance kit, which makes their problems and has their twins."""

import numpy as np

import fastattn
from fastattn.scores.ours import ours
from fastattn.testing.variant_subject import VariantSubject


def subject(name, options=None):
    """A variant of fastattn with some options."""
    return VariantSubject(fastattn.variants.record(name), options or {})


SAME = {"query_width": 6}  # as wide as the memory


def label(case):
    """The name of a test of it; only what is unusual is said of widths."""
    if case.options.get("query_width") == 4:
        return f"{case.record.name}-bridged"
    return "-".join([case.record.name, *(f"{k}={v}" for k, v in case.options.items() if k != "query_width")])


CASES = [
    subject("dot", SAME),
    subject("dot", {**SAME, "scale": 0.3}),
    subject("scaled_dot", SAME),
    subject("cosine", {**SAME, "scale": 4.0}),
    subject("general"),
    subject("location", {"longest": 50}),
    subject("additive", {"width": 9}),
    subject("additive", {"width": 21, "activation": "sigmoid", "bias": True}),
    subject("additive", {"width": 6, "activation": "relu"}),
    subject("gated_additive", {"width": 9}),
    subject("gated_additive", {"width": 20, "activation": "sigmoid", "bias": True}),
    subject("concat", {"width": 7}),
    subject("normed_additive", {"width": 8}),
    subject("bahdanau", {"width": 5}),
    subject("luong", {"score": "concat"}),
    subject("multihead", {"heads": 1}),
    subject("multihead", {"heads": 6, "key_heads": 2, "head_width": 3, "bias": False}),
    subject("multihead", {"heads": 2, "head_width": 5, "output_width": 7}),
    subject("multihead", {"heads": 3, "head_width": 4, "positions": "alibi"}),
    subject("multihead", {"heads": 4, "key_heads": 2, "head_width": 4, "positions": "rotary", "window": (3, None)}),
    subject(
        "multihead",
        {"heads": 2, "head_width": 6, "positions": {"name": "rotary", "part": 4, "base": 100.0, "layout": "half"}},
    ),
    subject(
        "multihead",
        {"heads": 4, "key_heads": 2, "head_width": 3, "positions": {"name": "t5", "buckets": 8, "farthest": 20}},
    ),
    subject(
        "multihead",
        {"heads": 2, "head_width": 3, "positions": {"name": "t5", "buckets": 6, "farthest": 9, "bidirectional": False}},
    ),
    subject("multihead", {**SAME, "heads": 2, "positions": "sinusoidal"}),
    subject(
        "multihead", {**SAME, "heads": 3, "positions": {"name": "learned", "longest": 60}, "window": (1, 2), "sinks": 1}
    ),
    subject("multihead", {"heads": 4, "key_heads": 2, "head_width": 3, "positions": {"name": "shaw", "clip": 2}}),
    subject(
        "multihead",
        {"heads": 2, "head_width": 3, "positions": {"name": "shaw", "clip": 3, "values": False}, "window": (4, 1)},
    ),
    subject("multihead", {"heads": 2, "head_width": 3, "normalizer": "sparsemax", "positions": "alibi"}),
    subject(
        "multihead",
        {
            "heads": 4,
            "key_heads": 2,
            "head_width": 3,
            "normalizer": "entmax15",
            "positions": {"name": "shaw", "clip": 2},
        },
    ),
    subject(
        "multihead", {"heads": 2, "head_width": 3, "normalizer": "entmax15", "positions": {"name": "t5", "buckets": 8}}
    ),
    subject("additive_multihead", {"heads": 2, "width": 7, "head_width": 3}),
    subject("additive_multihead", {"heads": 1, "width": 5, "activation": "sigmoid", "bias": False, "output_width": 4}),
    subject("pooling", {"query_width": 0, "width": 10}),
    subject("pooling", {"query_width": 0, "width": None}),
    subject("l2", SAME),
    subject("l2", {**SAME, "scale": 0.7}),
    subject("linear"),
    subject("linear", {"terms": ("y", "x*y", "x"), "activation": "tanh"}),
    subject("linear", {"terms": ("x+y", "x/y", "x-y", "x*y")}),
    subject("dot", {**SAME, "normalizer": "sparsemax"}),
    subject("cosine", {**SAME, "scale": 3.0, "normalizer": "entmax15"}),
    subject("general", {"normalizer": "entmax15"}),
    subject("location", {"longest": 50, "normalizer": "sparsemax"}),
    subject("location", {"longest": 50, "normalizer": {"name": "entmax", "alpha": 1.3}}),
    subject("additive", {"width": 9, "bias": True, "normalizer": {"name": "entmax", "alpha": 1.2}}),
    subject("normed_additive", {"width": 8, "normalizer": "sparsemax"}),
    subject("bahdanau", {"width": 5, "normalizer": "sparsemax"}),
    subject("luong", {"score": "concat", "normalizer": "entmax15"}),
    subject("pooling", {"query_width": 0, "width": 10, "normalizer": "sparsemax"}),
    subject("l2", {**SAME, "normalizer": "entmax15"}),
    subject("linear", {"terms": ("x", "y", "x*y"), "activation": "tanh", "normalizer": "sparsemax"}),
    subject("additive_multihead", {"heads": 2, "width": 6, "head_width": 3, "normalizer": "sparsemax"}),
    subject("local_m", {"window": 2, "score": "general"}),
    subject("local_m", {"window": 1, "score": "concat"}),
    subject("local_p", {"window": 2, "score": "general"}),
    subject("local_p", {"window": 3, "score": "concat", "width": 19}),
    subject("local_p", {**SAME, "window": 4, "score": "dot"}),
    subject("location_sensitive", {"width": 9, "filters": 3, "filter_size": 5}),
    subject("location_sensitive", {"width": 37, "filters": 20, "filter_size": 41, "cumulative": True}),
    subject(
        "location_sensitive", {"width": 16, "filters": 1, "filter_size": 1, "smoothing": True, "initial": "uniform"}
    ),
    subject("location_sensitive", {"width": 7, "filters": 2, "filter_size": 3, "window": 2, "sharpening": 2.0}),
    subject("location_sensitive", {"width": 7, "filters": 2, "filter_size": 3, "window": 1, "cumulative": True}),
    subject("coverage", {"width": 11}),
    subject("coverage", {"width": 18, "fertility": 2.0}),
    subject("neural_coverage", {"width": 9, "coverage_width": 3}),
    subject("neural_coverage", {"width": 18, "coverage_width": 1}),
    subject("monotonic", {"width": 11, "offset": -1.0}),
    subject("monotonic", {"width": 37, "offset": 0.5}),
    subject("hard", {"width": 9}),
    subject("hard", {"score": "general", "training": "reinforce"}),
    subject("hard", {**SAME, "score": "dot"}),
    subject("mocha", {"width": 10, "chunk": 3, "offset": -1.0}),
    subject("mocha", {"width": 5, "chunk": 1, "offset": 0.0}),
    subject("mocha", {"width": 17, "chunk": 50, "offset": 0.0}),
]

# Queries of another width than the memory, through a matrix.
CASES += [subject(name, {"query_width": 4}) for name in ("dot", "cosine", "l2")]

# Those of a score that has no case above: with what it cannot be made without.
CASES += [
    subject(name, {**SAME, **({"width": 6} if fastattn.variants.options(name).get("width") else {})})
    for name in (record.name for record in ours())
    if name not in {case.record.name for case in CASES}
]


def make(case, dtype=np.float64, *, keys=7, **sizes):
    """A problem of a case, float64 and short unless the test says otherwise."""
    if sizes.get("valued") and case.record.name.endswith("multihead"):
        case = VariantSubject(case.record, {**case.options, "value_width": 4})
    return case.problem(dtype, keys=keys, **sizes)


def parameters(variant):
    return {name: parameter.value.astype(np.float64) for name, parameter in variant.parameters().items()}


def derivative(function, array, direction, step=1e-6):
    """The derivative of a scalar function of an array along a direction by a central difference; array is restored."""
    kept = array.copy()
    array += step * direction
    above = function()
    array[...] = kept - step * direction
    below = function()
    array[...] = kept
    return (above - below) / (2 * step)
