"""The reference of the Transformer, and planted faults that must cost a contestant its number."""

import numpy as np
import pytest

from . import accuracy, inputs, reference, transformer
from .cases import CASES

SMALL = {case.name: case.small() for case in CASES if case.family == "transformer"}
TRAINING, SEARCH = SMALL["transformer_train"], SMALL["transformer_beam"]


def test_gradients_against_differences():
    data = inputs.make(TRAINING)
    weights = {name: data[name].astype(np.float64) for name in transformer.shapes(TRAINING)}
    gradients = transformer.loss_and_gradients(TRAINING, weights, data)[1]
    assert sorted(gradients) == sorted(weights.keys() - {"projection.b"})
    rng, step = np.random.default_rng(7), 1e-6
    for name, gradient in gradients.items():
        direction = rng.standard_normal(gradient.shape)
        moved = ({**weights, name: weights[name] + sign * step * direction} for sign in (1, -1))
        up, down = (transformer.loss_and_gradients(TRAINING, parameters, data)[0] for parameters in moved)
        expected = (gradient * direction).sum()
        assert (up - down) / (2 * step) == pytest.approx(expected, rel=1e-5, abs=1e-8), name


def test_search_scores_what_it_returns():
    data = inputs.make(SEARCH)
    found = reference.compute(SEARCH, data).values
    weights = {name: data[name].astype(np.float64) for name in transformer.shapes(SEARCH)}
    assert not np.isin(found["tokens"], [0, transformer.BOS, transformer.EOS, SEARCH.sizes["V"] - 1]).any()
    for source, tokens, score in zip(data["source"], found["tokens"], found["score"]):
        pair = {"source": source[None], "target": tokens[None].astype(int)}
        loss, _ = transformer.loss_and_gradients(SEARCH, weights, pair)
        assert -loss * len(tokens) == pytest.approx(score, rel=1e-12)


@pytest.mark.parametrize("case", [TRAINING, SEARCH], ids=lambda case: case.name)
def test_each_output_is_judged(case):
    right = reference.compute(case, inputs.make(case))
    values = {name: value.astype(np.float32) for name, value in right.values.items()}
    assert accuracy.judge(values, right).ok
    for name, value in values.items():
        off = np.float32(1.005 if name in ("later", "norm") else 1.001)
        for fault in (value * off, value.astype(np.float64), value[..., :-1], value * np.float32(np.nan)):
            verdict = accuracy.judge({**values, name: fault}, right)
            assert not verdict.ok and name in verdict.reason


@pytest.mark.parametrize("fault", ["no positions", "heads together", "no second step"])
def test_a_faulty_model_is_judged_wrong(fault, monkeypatch):
    data = inputs.make(TRAINING)
    right = reference.compute(TRAINING, data)
    case = TRAINING
    if fault == "no positions":
        monkeypatch.setattr(transformer, "sinusoids", lambda count, width: np.zeros((count, width)))
    elif fault == "heads together":
        case = TRAINING.__class__(**{**vars(TRAINING), "sizes": {**TRAINING.sizes, "H": 1}})
    values = {name: value.astype(np.float32) for name, value in reference.compute(case, data).values.items()}
    if fault == "no second step":
        values["later"] = values["loss"]
    assert not accuracy.judge(values, right).ok
