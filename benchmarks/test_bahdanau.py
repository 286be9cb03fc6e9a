"""The reference of the encoder-decoder, and planted faults that must cost a contestant its number."""

import numpy as np
import pytest

from . import accuracy, bahdanau, inputs, reference
from .cases import CASES

SMALL = {case.name: case.small() for case in CASES if case.family == "bahdanau"}
TRAINING, GREEDY = SMALL["train_letters"], SMALL["greedy_letters_b32"]


def test_gradients_against_differences():
    data = inputs.make(TRAINING)
    weights = {name: data[name].astype(np.float64) for name in bahdanau.shapes(TRAINING)}
    sentences = data["source"], data["target"]
    gradients = bahdanau.loss_and_gradients(weights, *sentences)[1]
    rng, step = np.random.default_rng(7), 1e-6
    for name, weight in weights.items():
        direction = rng.standard_normal(weight.shape)
        up, down = (
            bahdanau.loss_and_gradients({**weights, name: weight + sign * step * direction}, *sentences)[0]
            for sign in (1, -1)
        )
        expected = (gradients[name] * direction).sum()
        assert (up - down) / (2 * step) == pytest.approx(expected, rel=1e-5, abs=1e-8), name


@pytest.mark.parametrize("case", [TRAINING, GREEDY], ids=lambda case: case.name)
def test_each_output_is_judged(case):
    right = reference.compute(case, inputs.make(case))
    values = {name: value.astype(np.float32) for name, value in right.values.items()}
    assert accuracy.judge(values, right).ok
    for name, value in values.items():
        off = np.float32(1.005 if name in ("later", "norm") else 1.001)
        for fault in (value * off, value.astype(np.float64), value[..., :-1], value * np.float32(np.nan)):
            verdict = accuracy.judge({**values, name: fault}, right)
            assert not verdict.ok and name in verdict.reason


@pytest.mark.parametrize("fault", ["no bridge", "gates swapped", "no second step"])
def test_a_faulty_model_is_judged_wrong(fault):
    data = inputs.make(TRAINING)
    right = reference.compute(TRAINING, data)
    changed = dict(data)
    if fault == "no bridge":
        changed["bridge.w"] = 0 * data["bridge.w"]
    elif fault == "gates swapped":
        r, z, n = np.split(data["cell.w_hidden"], 3, axis=1)
        changed["cell.w_hidden"] = np.concatenate([z, r, n], axis=1)
    values = {name: value.astype(np.float32) for name, value in reference.compute(TRAINING, changed).values.items()}
    if fault == "no second step":
        values["later"] = values["loss"]
    assert not accuracy.judge(values, right).ok
