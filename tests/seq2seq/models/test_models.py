"""What holds for every encoder-decoder: gradients, one step at a time, batches of mixed lengths, dropout by seed."""

import dataclasses

import numpy as np
import pytest
from checks import same_bits
from seq2seq_cases import CASES, SEEDS, SOURCE_SIZE, TARGET_SIZE, check_gradients, random_pairs, reversal

from fastattn.errors import FastattnError
from fastattn.optim import Adam
from fastattn.seq2seq import BOS, build
from fastattn.seq2seq.models import luong, recurrence, transformer
from fastattn.seq2seq.models.model import decoder_inputs
from fastattn.seq2seq.models.registry import record

every_model = pytest.mark.parametrize("name", CASES)


def make(name, dtype=np.float32, seed=1, **changes):
    return build(dataclasses.replace(CASES[name], **changes), SOURCE_SIZE, TARGET_SIZE, seed, dtype)


@every_model
def test_gradients_of_every_parameter_are_those_of_central_differences(name):
    check_gradients(make(name, np.float64))


def test_gradients_of_embeddings_that_are_all_one_matrix():
    config = dataclasses.replace(CASES["transformer-post"], tied="all")
    model = build(config, SOURCE_SIZE, SOURCE_SIZE, 1, np.float64)
    assert not any("embedding" in path for path in model.parameters())
    check_gradients(model)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("score", ["dot", "general", "concat", "location", "coverage", "hard"])
def test_all_steps_at_once_have_the_bits_of_single_steps_and_their_gradients(
    score, layers, dropout, dtype, monkeypatch
):
    changes = {"score": score, "layers": layers, "dropout": dropout, "input_feeding": False, "longest_source": 9}
    batch, found, gradients = random_pairs(7, padding=1000), [], []
    for way in (luong.AtOnce, luong.StepByStep):
        monkeypatch.setattr(luong, "AtOnce", way)
        model = make("luong-concat", dtype, **changes)
        x, weights = model.features(batch, decoder_inputs(batch), weights=True)
        loss, _, backward = model.loss_vjp(batch, seeds=np.arange(7, dtype=np.uint64))
        backward(0.5)
        found.append([x, weights, np.array(loss)])
        gradients.append([p.gradient for p in model.parameters().values()])
    assert same_bits(*found)
    room = {"rtol": 1e-9, "atol": 1e-15} if dtype == np.float64 else {"rtol": 1e-3, "atol": 1e-7}
    for at_once, steps in zip(*gradients, strict=True):  # whose sums over steps have other orders
        np.testing.assert_allclose(at_once, steps, **room)


@pytest.mark.parametrize("name", ["cho", "cho-before", "cho-after", "sutskever", "luong-concat"])
def test_decoders_whose_inputs_are_known_take_no_single_steps_in_training(name, monkeypatch):
    def step(*arguments):
        raise AssertionError("a single step")

    for cls in (recurrence.GRUStep, recurrence.LSTMStep, recurrence.Record):
        monkeypatch.setattr(cls, "forward", step)
    model = make(name)
    loss, _, backward = model.loss_vjp(random_pairs(), seeds=SEEDS)
    backward(1.0)
    assert np.isfinite(loss)


@every_model
def test_steps_give_the_bits_of_forced(name):
    model, batch = make(name), random_pairs()
    log_probabilities, weights = model.teacher_forcing(batch)
    state, tokens = model.encode(batch.source, batch.source_lengths), np.full(4, BOS)
    for t in range(batch.target.shape[1]):
        row, state, attended = model.step(tokens, state)
        tokens, alive = batch.target[:, t], t < batch.target_lengths
        assert same_bits(row[np.arange(4), tokens][alive], log_probabilities[alive, t])
        assert weights is None or same_bits(attended[alive], weights[alive, t])
    assert (log_probabilities[np.arange(batch.target.shape[1]) >= batch.target_lengths[:, None]] == 0).all()
    assert abs(model.loss(batch)[0] + log_probabilities.sum(dtype=np.float64)) < 1e-4
    assert model.loss(batch)[1] == batch.target_lengths.sum()


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("transformer")])
def test_sources_that_are_encoded_a_few_at_a_time_have_the_bits_of_forced(name, monkeypatch):
    monkeypatch.setattr(transformer, "ENCODED", 2 * random_pairs().source.shape[1])
    test_steps_give_the_bits_of_forced(name)


@every_model
def test_a_sentence_has_the_same_bits_alone_and_in_any_batch(name):
    model = make(name)
    batch = random_pairs(9, 8, padding=1000)  # an id outside both vocabularies: it is never looked up
    log_probabilities, weights = model.teacher_forcing(batch)
    for b in range(9):
        s, t = batch.source_lengths[b], batch.target_lengths[b]
        alone, attended = model.teacher_forcing(batch.row(b))
        assert same_bits(alone[0], log_probabilities[b, :t])
        if weights is not None:
            assert same_bits(attended[0], np.ascontiguousarray(weights[b, :t, ..., :s]))
            assert not weights[b, t:].any() and not weights[b, ..., s:].any()
            np.testing.assert_allclose(weights[b, :t].sum(-1), 1, rtol=1e-5)
    order = np.array([3, 3, 8, 0])
    state = model.encode(batch.source, batch.source_lengths).select(order)
    few = model.encode(batch.source[order], batch.source_lengths[order])
    for tokens in (np.full(4, BOS), np.array([4, 5, 6, 7])):
        (a, state, _), (b, few, _) = model.step(tokens, state), model.step(tokens, few)
        assert same_bits(a, b)


@every_model
def test_the_same_seeds_give_the_same_bits_whatever_the_batch(name):
    model, batch = make(name), random_pairs()
    runs = []
    for seeds in (SEEDS, SEEDS, SEEDS + np.uint64(1)):
        loss, count, backward = model.loss_vjp(batch, seeds=seeds)
        backward(1 / count)
        runs.append((loss, [p.gradient.copy() for p in model.parameters().values()]))
        for parameter in model.parameters().values():
            parameter.gradient[...] = 0
    assert runs[0][0] == runs[1][0] != runs[2][0]
    assert same_bits(runs[0][1], runs[1][1]) and not same_bits(runs[0][1], runs[2][1])
    alone = [model.loss_vjp(batch.row(b), seeds=SEEDS[b : b + 1])[0] for b in range(4)]
    assert runs[0][0] == pytest.approx(sum(alone), rel=1e-12)


@every_model
def test_scheduled_sampling_feeds_the_models_own_choices(name):
    model, batch = make(name), random_pairs()
    inputs = model.sampled(batch, SEEDS, 1.0)
    state = model.encode(batch.source, batch.source_lengths)
    for t in range(inputs.shape[1] - 1):
        row, state, _ = model.step(inputs[:, t], state)
        alive = t + 1 < batch.target_lengths
        assert (inputs[alive, t + 1] == row.argmax(-1)[alive]).all()
    half = model.sampled(batch, SEEDS, 0.5)
    assert (inputs[:, 0] == BOS).all() and same_bits(half, model.sampled(batch, SEEDS, 0.5))
    assert same_bits(model.sampled(batch.row(2), SEEDS[2:3], 0.5)[0], half[2, : batch.target_lengths[2]])
    many = random_pairs(200, 8)
    chosen = model.sampled(many, np.arange(200, dtype=np.uint64), 0.5)
    later = (np.arange(chosen.shape[1]) < many.target_lengths[:, None]) & (np.arange(chosen.shape[1]) > 0)
    share = (chosen != decoder_inputs(many))[later].mean()  # of half, less where the model would have chosen the target
    assert 0.35 < share < 0.55, share
    loss, count, backward = model.loss_vjp(batch, seeds=SEEDS, sampling=0.5)
    backward(1 / count)
    assert np.isfinite(loss) and count == batch.target_lengths.sum()


LEARNING = {
    "bahdanau": {"embedding": 16, "hidden": 32, "attention": 32, "readout_width": 32, "dropout": 0.0},
    "bahdanau-after-linear": {"embedding": 16, "hidden": 32, "attention": 32, "dropout": 0.0},
    "luong-general": {"embedding": 16, "hidden": 32, "dropout": 0.0},
    "luong-concat": {"embedding": 16, "hidden": 32, "layers": 1, "input_feeding": True, "dropout": 0.0},
    "transformer-post": {"width": 32, "heads": 4, "inner": 64, "dropout": 0.0},
    "transformer-pre": {"width": 32, "heads": 4, "inner": 64, "dropout": 0.0, "attention_dropout": 0.0},
    "transformer-rotary": {"width": 32, "heads": 4, "inner": 64, "dropout": 0.0},
    "wu": {"embedding": 16, "hidden": 32, "readout_width": 32, "dropout": 0.0},
    "sutskever": {"embedding": 16, "hidden": 48, "dropout": 0.0},
    "cho": {"embedding": 16, "hidden": 48, "readout_width": 32, "dropout": 0.0},
}


@pytest.mark.parametrize("name", LEARNING)
def test_a_small_model_learns_to_reverse(name):
    plain = {} if name == "wu" else {"label_smoothing": 0.0}
    model = make(name, **plain, **LEARNING[name])
    rate, steps = (0.004, 250) if name.startswith("transformer") else (0.01, 150)
    adam = Adam(model.parameters(), rate=rate)
    for step in range(steps):
        batch = reversal(32, seed=step, letters=5, longest=5)
        _, count, backward = model.loss_vjp(batch, seeds=np.arange(32, dtype=np.uint64))
        backward(1 / count)
        adam.step(rate=rate * min(1, (step + 1) / 40))
    loss, count = model.loss(reversal(64, seed=10**6, letters=5, longest=5))
    assert loss / count < 0.3, loss / count


def test_wrong_calls_name_the_argument():
    batch = random_pairs()
    model = make("bahdanau")
    with pytest.raises(FastattnError, match="kind: expected one of"):
        record("bahdanua")
    with pytest.raises(FastattnError, match="source_vocabulary_size"):
        build(CASES["bahdanau"], 3, 9, 0)
    with pytest.raises(FastattnError, match="seeds: expected 4 integers"):
        model.loss_vjp(batch, seeds=np.zeros(3, np.uint64))
    with pytest.raises(FastattnError, match="sampling"):
        model.loss_vjp(batch, seeds=SEEDS, sampling=1.5)
    with pytest.raises(FastattnError, match="source_lengths: expected values from 1"):
        model.encode(batch.source, np.zeros(4, int))
    with pytest.raises(FastattnError, match="readout"):
        make("bahdanau", readout="softmax")
    with pytest.raises(FastattnError, match=r"model.score: .*expected one of .*did you mean 'cosine'"):
        make("luong-dot", score="cosinus")
    with pytest.raises(FastattnError, match="memory: expected at most 5 positions"):
        make("luong-location", longest_source=5).loss(batch)
    with pytest.raises(FastattnError, match="tied: expected one vocabulary"):
        make("transformer-post", tied="all")
    with pytest.raises(FastattnError, match="heads: expected a divisor of width 6"):
        make("transformer-post", heads=4)
    with pytest.raises(FastattnError, match="positions: expected one of sinusoidal"):
        make("transformer-post", positions="relative")
    with pytest.raises(FastattnError, match="positions: expected at most 3"):
        make("transformer-post", positions="learned", longest=3).loss(batch)
    with pytest.raises(FastattnError, match="reset"):
        make("bahdanau", reset="never")
