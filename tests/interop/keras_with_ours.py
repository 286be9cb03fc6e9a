"""Runs Keras' own tests of its attention layers, from its wheel, with the layers of `fastattn.interop.keras` in place.

`test_keras.py` runs this in an interpreter of its own for each backend (KERAS_BACKEND), as it changes Keras' modules;
the report is a JSON file with the outcome of every test, how often fastattn computed a layer's attention, and how far
models with ours and with Keras' layers are apart, in what they predict and after a step of training.

Use:
    python tests/interop/keras_with_ours.py REPORT
"""

import json
import os
import sys

import keras.src.layers
import numpy as np
import pytest

import fastattn.interop.keras as ours

MODULES = ("attention", "additive_attention", "multi_head_attention")
LOG = {"calls": 0, "tests": {}, "apart": {}}

# Of a layer: its name, what it is made with, and what it is called with.
MODELS = {
    "dot": ("Attention", {"use_scale": True}, {"use_causal_mask": True}),
    "concat": ("Attention", {"score_mode": "concat", "use_scale": True}, {}),
    "additive": ("AdditiveAttention", {}, {"use_causal_mask": True}),
    "unscaled": ("AdditiveAttention", {"use_scale": False}, {}),
    "heads": ("MultiHeadAttention", {"num_heads": 2, "key_dim": 4}, {"use_causal_mask": True}),
    "window": ("MultiHeadAttention", {"num_heads": 2, "key_dim": 4, "sliding_window": 2}, {"use_causal_mask": True}),
    "gate": ("MultiHeadAttention", {"num_heads": 2, "key_dim": 4, "use_gate": True}, {}),
    "half": ("MultiHeadAttention", {"num_heads": 2, "key_dim": 4, "dtype": "mixed_float16"}, {}),
}


class Recorder:
    """Notes for every test how it ended."""

    def pytest_runtest_setup(self, item):
        keras.utils.set_random_seed(0)

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.skipped or report.failed:
            why = "" if report.passed else str(report.longrepr)[-2000:]
            LOG["tests"][report.nodeid] = {"outcome": report.outcome, "why": why}


def counted(function):
    def call(*args, **options):
        LOG["calls"] += 1
        return function(*args, **options)

    return call


def model(layer, options):
    """A model around a layer, for batches of tokens of which 0 is padding."""
    tokens = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(9, 8, mask_zero=True)(tokens)
    x = layer([x, x], **options) if isinstance(layer, keras.layers.Attention) else layer(x, x, **options)
    whole = keras.Model(tokens, keras.layers.Dense(1, dtype="float32")(x))
    whole.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    return whole


def apart(name, arguments, options):
    """The largest difference between models with ours and with Keras', before and after a step."""
    tokens = np.array([[1, 2, 3, 4, 5, 6], [7, 8, 1, 2, 0, 0], [3, 3, 0, 0, 0, 0]])
    if name == "MultiHeadAttention":  # a query that is padding has no keys there, and Keras a mean of all values
        tokens = np.maximum(tokens, 1)
    pair = [model(getattr(home, name)(**arguments), options) for home in (keras.layers, ours)]
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=x.shape).astype(x.dtype) for x in pair[0].get_weights()]
    found = []
    for one in pair:
        one.set_weights(weights)
        predicted = one.predict(tokens, verbose=0)
        one.train_on_batch(tokens, np.ones_like(predicted))
        found.append([predicted, *one.get_weights()])
    assert not all(np.array_equal(x, y) for x, y in zip(weights, found[1][1:]))
    return max(float(np.abs(x - y).max()) for x, y in zip(*found))


def main(report):
    keras.utils.set_random_seed(0)
    for case, of_case in MODELS.items():
        if case != "half" or keras.backend.backend() != "jax":  # whose own attention has no float16 on a CPU
            LOG["apart"][case] = apart(*of_case)
    for name in ours.__all__:
        setattr(keras.src.layers, name, getattr(ours, name))
    ours._attend = counted(ours._attend)
    modules = [f"keras.src.layers.attention.{name}_test" for name in MODULES]
    chosen = ["-q", "-c", os.devnull, "-p", "no:cacheprovider", "--pyargs", *modules]
    status = pytest.main(chosen, [Recorder()])
    with open(report, "w") as file:
        json.dump(LOG, file)
    return int(status)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
