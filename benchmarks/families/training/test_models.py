"""The references of models, and planted faults that must cost a contestant its number."""

import numpy as np
import pytest

from ... import inputs, reference
from ...cases import select
from ...harness import accuracy
from ..bahdanau import reference as bahdanau
from ..transformer import inputs as words
from ..transformer import reference as transformer

NAMES = ("train_letters", "greedy_letters_b32", "transformer_train", "transformer_beam")
BAHDANAU, GREEDY, TRANSFORMER, SEARCH = (case.small() for name in NAMES for case in select([name]))


def bahdanau_loss(parameters, data):
    return bahdanau.loss_and_gradients(parameters, data["source"], data["target"])


def transformer_loss(parameters, data):
    return transformer.loss_and_gradients(TRANSFORMER, parameters, data)


@pytest.mark.parametrize(("case", "function"), [(BAHDANAU, bahdanau_loss), (TRANSFORMER, transformer_loss)])
def test_gradients_against_differences(case, function):
    data = inputs.make(case)
    weights = {name: array.astype(np.float64) for name, array in data.items() if name not in ("source", "target")}
    gradients = function(weights, data)[1]
    assert sorted(gradients) == sorted(weights.keys() - ({"projection.b"} if case is TRANSFORMER else set()))
    rng, step = np.random.default_rng(7), 1e-6
    for name, gradient in gradients.items():
        direction = rng.standard_normal(gradient.shape)
        moved = ({**weights, name: weights[name] + sign * step * direction} for sign in (1, -1))
        up, down = (function(parameters, data)[0] for parameters in moved)
        expected = (gradient * direction).sum()
        assert (up - down) / (2 * step) == pytest.approx(expected, rel=1e-5, abs=1e-8), name


def test_search_scores_what_it_returns():
    data = inputs.make(SEARCH)
    found = reference.compute(SEARCH, data).values
    weights = {name: data[name].astype(np.float64) for name in words.shapes(SEARCH)}
    assert not np.isin(found["tokens"], [0, words.BOS, words.EOS, SEARCH.sizes["V"] - 1]).any()
    for source, tokens, score in zip(data["source"], found["tokens"], found["score"]):
        pair = {"source": source[None], "target": tokens[None].astype(int)}
        loss, _ = transformer.loss_and_gradients(SEARCH, weights, pair)
        assert -loss * len(tokens) == pytest.approx(score, rel=1e-12)


@pytest.mark.parametrize("case", [BAHDANAU, GREEDY, TRANSFORMER, SEARCH], ids=lambda case: case.name)
def test_each_output_is_judged(case):
    right = reference.compute(case, inputs.make(case))
    values = {name: value.astype(np.float32) for name, value in right.values.items()}
    assert accuracy.judge(values, right).ok
    for name, value in values.items():
        off = np.float32(1.005 if name in ("later", "norm") else 1.001)
        for fault in (value * off, value.astype(np.float64), value[..., :-1], value * np.float32(np.nan)):
            verdict = accuracy.judge({**values, name: fault}, right)
            assert not verdict.ok and name in verdict.reason


@pytest.mark.parametrize(
    ("case", "fault"),
    [(BAHDANAU, "no bridge"), (BAHDANAU, "gates swapped"), (BAHDANAU, "no second step")]
    + [(TRANSFORMER, "no positions"), (TRANSFORMER, "heads together"), (TRANSFORMER, "no second step")],
)
def test_a_faulty_model_is_judged_wrong(case, fault, monkeypatch):
    data = inputs.make(case)
    right, changed = reference.compute(case, data), dict(data)
    if fault == "no bridge":
        changed["bridge.w"] = 0 * data["bridge.w"]
    elif fault == "gates swapped":
        r, z, n = np.split(data["cell.w_hidden"], 3, axis=1)
        changed["cell.w_hidden"] = np.concatenate([z, r, n], axis=1)
    elif fault == "no positions":
        monkeypatch.setattr(transformer, "sinusoids", lambda count, width: np.zeros((count, width)))
    elif fault == "heads together":
        case = case.__class__(**{**vars(case), "sizes": {**case.sizes, "H": 1}})
    values = {name: value.astype(np.float32) for name, value in reference.compute(case, changed).values.items()}
    if fault == "no second step":
        values["later"] = values["loss"]
    assert not accuracy.judge(values, right).ok
