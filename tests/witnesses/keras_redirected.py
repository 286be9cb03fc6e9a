"""Runs Keras' own tests of its attention layers while fastattn computes what the layers return, and all gradients.

The tests are in the keras wheel. `test_keras_layers.py` runs this file in an interpreter of its own, as it changes
classes of Keras; the report is a JSON file with the outcome of every test, how often it came through fastattn, and how
far the two were apart. What is replaced is the inside of the layers, from projected queries to contexts: of
`Attention` and `AdditiveAttention` the methods `_calculate_scores` and `_apply_scores`, of `MultiHeadAttention` and
`GroupQueryAttention` the method `_compute_attention`. Every redirected call is also computed by Keras' own method from
the same tensors, and contexts, weights and gradients of random cotangents are compared, as most of the tests look at
shapes only. Rows that may attend to nothing are left out of that: Keras gives them a mean of all values.

Use:
    python tests/witnesses/keras_redirected.py REPORT
"""

import json
import math
import os
import sys

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import pytest
import torch
from attention_in_torch import LOG, as_options, attend, attend_dropping, compare, rows_with_keys
from keras import ops
from keras.layers import AdditiveAttention, Attention, GroupQueryAttention, MultiHeadAttention

import fastattn

MODULES = ("attention", "additive_attention", "multi_head_attention", "grouped_query_attention")
SCALES = {MultiHeadAttention: "_inverse_sqrt_key_dim", GroupQueryAttention: "_inverse_sqrt_head_dim"}


def draw(generator):
    """The next seed of a Keras generator as one number."""
    high, low = generator.next().tolist()
    return (int(high) << 31) ^ int(low)


class Folded:
    """Between Keras' layout (samples, positions, heads, features), where positions may have several axes, not all of
    them attended to, and (B, H, T, D)."""

    def __init__(self, layer, query, key):
        self.axes = getattr(layer, "_attention_axes", (1,))
        heads = query.ndim - 2
        self.batch = [i for i in range(heads) if i not in self.axes]
        self.order = [*self.batch, heads, *self.axes, heads + 1]
        self.rows = [query.shape[i] for i in self.order[:-1]]
        self.scores = [*self.rows, *(key.shape[i] for i in self.axes)]

    def fold(self, x):
        x = x.permute(self.order)
        return x.reshape(math.prod(x.shape[: len(self.batch)]), x.shape[len(self.batch)], -1, x.shape[-1])

    def unfold(self, context):
        context = context.reshape([*self.rows, context.shape[-1]])
        return context.permute([self.order.index(i) for i in range(context.ndim)])

    def mask(self, mask):
        if mask is None:
            return None
        while mask.ndim < len(self.scores):
            mask = mask.unsqueeze(-2 * len(self.axes) - 1)
        mask = mask.expand(self.scores).flatten(-len(self.axes)).flatten(-1 - len(self.axes), -2)
        return mask.flatten(0, len(self.batch) - 1)


calculate_scores = {kind: kind._calculate_scores for kind in (Attention, AdditiveAttention)}
apply_scores = Attention._apply_scores
compute_attention = {kind: kind._compute_attention for kind in (MultiHeadAttention, GroupQueryAttention)}


def calculate_and_note(kind):
    """Keras' scores, which some tests look at, and what they were made of."""

    def patched(layer, query, key):
        scores = calculate_scores[kind](layer, query, key)
        scores.operands = tuple(map(ops.convert_to_tensor, (query, key)))
        return scores

    return patched


def apply_redirected(layer, scores, value, scores_mask=None, training=False):
    """In the place of `_apply_scores`, from the operands of the scores."""
    kind = AdditiveAttention if isinstance(layer, AdditiveAttention) else Attention
    given = (*scores.operands, ops.convert_to_tensor(value))
    mask = None if scores_mask is None else ops.cast(scores_mask, "bool")
    mask = mask[:, None] if mask is not None and mask.ndim == 2 else mask
    options = as_options(mask, len(scores))

    def operands(query, key, value):
        factor, ones = 1 if layer.scale is None else ops.convert_to_tensor(layer.scale), torch.ones_like(query[0, 0])
        if kind is AdditiveAttention:
            return query, key, value, factor * ones
        if layer.score_mode == "dot":
            return factor * query, key, value
        return factor * query, factor * key, value, ops.convert_to_tensor(layer.concat_score_weight) * ones

    def ours(*given):
        return attend(*operands(*given), **options)

    def theirs(query, key, value):
        return apply_scores(layer, calculate_scores[kind](layer, query, key), value, scores_mask, False)

    compare(layer, given, ours, theirs, rows_with_keys(mask, scores.shape))
    if training and layer.dropout > 0:
        return attend_dropping(layer.dropout, draw(layer.seed_generator), *operands(*given), **options)
    return ours(*given)


def compute_redirected(kind):
    """In the place of `_compute_attention`; keys and values that Keras repeated for each group are taken once."""
    keras_own = compute_attention[kind]

    def patched(layer, query, key, value, attention_mask=None, training=None, *wanted, use_causal_mask=False, **more):
        query, key, value = map(ops.convert_to_tensor, (query, key, value))
        layout = Folded(layer, query, key)
        groups = getattr(layer, "num_repeats", 1)
        if not all(torch.equal(x, x[:, :, ::groups].repeat_interleave(groups, 2)) for x in (key, value)):
            groups = 1  # a test that calls this method with keys of its own
        mask = None if attention_mask is None else ops.cast(attention_mask, "bool")
        options = {"causal": None, "scale": getattr(layer, SCALES[kind])}
        if use_causal_mask and query.ndim == 4:
            options["causal"] = "top_left"
        elif use_causal_mask:
            later = layer._compute_causal_mask(query, value)
            mask = later if mask is None else mask & later
        mask = layout.mask(mask)
        options |= as_options(mask, math.prod(layout.rows[: len(layout.batch)]))
        if options["causal"]:
            earlier = layer._compute_causal_mask(query, value)
            mask = earlier if mask is None else mask & earlier

        def ours(*given):
            return attend(*map(layout.fold, given), **options)

        def theirs(query, key, value):
            key, value = (x.repeat_interleave(groups, 2) if groups > 1 else x for x in (key, value))
            context, weights = keras_own(
                layer, query, key, value, attention_mask, False, *wanted, use_causal_mask=use_causal_mask, **more
            )
            context = layout.fold(context)
            return context, None if weights is None else weights.reshape(*context.shape[:3], -1)

        given = (query, key[:, :, ::groups], value[:, :, ::groups])
        folded = [layout.fold(x) for x in given]
        shape = (*folded[0].shape[:3], folded[1].shape[2])
        has_weights = compare(layer, given, ours, theirs, rows_with_keys(mask, shape))
        context, weights = attend(*folded, **options)
        if training and layer.dropout > 0:
            seed = draw(layer._dropout_layer.seed_generator)
            context, _ = attend_dropping(layer.dropout, seed, *folded, **options)
        return layout.unfold(context), weights.reshape(layout.scores) if has_weights else None

    return patched


class Recorder:
    """Notes for every test how it ended and how many calls came through fastattn."""

    def pytest_runtest_setup(self, item):
        keras.utils.set_random_seed(0)
        self.before = LOG["forward"], LOG["backward"]

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.skipped or report.failed:
            calls = [LOG[name] - n for name, n in zip(("forward", "backward"), self.before)]
            why = "" if report.passed else str(report.longrepr)[-2000:]
            LOG["tests"][report.nodeid] = {"outcome": report.outcome, "calls": calls, "why": why}


def check_loading():
    """Parameters of Keras' own layers, taken by `load_keras`, give the layers' outputs and weights."""
    rng = np.random.default_rng(0)
    query, memory = (rng.normal(size=(2, n, d)).astype(np.float32) for n, d in ((3, 8), (5, 6)))
    for heads, key_heads in ((2, 2), (4, 2)):
        layer = MultiHeadAttention(heads, 3) if heads == key_heads else GroupQueryAttention(3, heads, key_heads)
        layer.build(query.shape, memory.shape)
        parameters = [rng.normal(size=x.shape).astype(np.float32) for x in layer.get_weights()]
        layer.set_weights(parameters)
        variant = fastattn.create(
            "multihead", query_width=8, memory_width=6, heads=heads, key_heads=key_heads, head_width=3, rng=rng
        )
        variant.load_keras(layer.get_weights())
        found = variant.forward(query, variant.prepare(memory), return_weights=True)
        for mine, right in zip(found, layer(query, memory, return_attention_scores=True)):
            np.testing.assert_allclose(mine, right.numpy(force=True), rtol=1e-4, atol=1e-5)
        LOG["loaded"] += 1


def main(report):
    check_loading()
    for kind in calculate_scores:
        kind._calculate_scores = calculate_and_note(kind)
    Attention._apply_scores = apply_redirected
    for kind in compute_attention:
        kind._compute_attention = compute_redirected(kind)
    modules = [f"keras.src.layers.attention.{name}_test" for name in MODULES]
    status = pytest.main(["-q", "-c", os.devnull, "-p", "no:cacheprovider", "--pyargs", *modules], [Recorder()])
    with open(report, "w") as file:
        json.dump(LOG, file)
    return int(status)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
