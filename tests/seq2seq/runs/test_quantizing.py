"""Models with matrices of int8 and bfloat16: loaded and written so, the same bits alone and in any batch."""

import copy

import numpy as np
import pytest
from checks import same_bits
from seq2seq_cases import CASES
from training_runs import DATA, make_config

import fastattn
from fastattn import seq2seq
from fastattn.cli import main
from fastattn.errors import ArgumentError, CheckpointError
from fastattn.layers import Embedding, Layer
from fastattn.seq2seq import BOS, build, checkpoint
from fastattn.seq2seq.runs.tensors import narrow, widen

pytestmark = pytest.mark.skipif(
    fastattn.show_config(as_dict=True).get("backend") == "numba", reason="the kernels in Numba have no narrow types"
)
types = pytest.mark.parametrize("weights", ["int8", "bfloat16"])
WORDS = ["abcd", "h", "gfedcbaab", "hag"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    seq2seq.train(make_config(max_steps=6), folder, pairs=DATA[0], validation=DATA[1], quiet=True)
    return folder


def everything(translator, texts):
    """All that is computed of each text: tokens and numbers of a search, and log-probabilities of given targets."""
    found = translator.search(texts, beam=3, best=2, weights=True, max_length=8)
    scored = translator.score(texts, [text[::-1] for text in texts])
    return [
        [(one.tokens, one.score, one.weights.tobytes()) for one in several] + [score.log_probability]
        for several, score in zip(found, scored)
    ]


@types
def test_a_sentence_alone_and_in_any_batch(run, weights):
    translator = seq2seq.load(run, weights=weights)
    together = everything(translator, WORDS)
    assert [everything(translator, [word])[0] for word in WORDS] == together
    assert everything(translator, WORDS[::-1])[::-1] == together
    assert together != everything(seq2seq.load(run), WORDS)
    scores = [one[-1] for one in together]
    exact = [one[-1] for one in everything(seq2seq.load(run), WORDS)]
    assert np.allclose(scores, exact, rtol=0.02)


@types
def test_what_is_written_gives_what_is_loaded_so(run, tmp_path, weights):
    before = everything(seq2seq.load(run, weights=weights), WORDS)
    found = seq2seq.quantize(run, tmp_path / "small", weights)
    assert set(found.stored.values()) == {weights} and found.state == {}
    assert everything(seq2seq.load(tmp_path / "small"), WORDS) == before
    assert everything(seq2seq.load(tmp_path / "small", weights=weights), WORDS) == before
    again = seq2seq.quantize(tmp_path / "small", tmp_path / "again", weights)
    assert all(same_bits(array, found.model[name]) for name, array in again.model.items())
    wide = seq2seq.load(tmp_path / "small", weights="float32")
    assert everything(wide, WORDS) != before
    sizes = [next(folder.glob("*/model.safetensors")).stat().st_size for folder in (tmp_path / "small", run)]
    matrices = sum(found.model[name].size for name in found.stored)
    assert sizes[1] - sizes[0] > 0.8 * matrices * (3 if weights == "int8" else 2)


def test_the_command_writes_the_same(run, tmp_path, capsys):
    seq2seq.quantize(run, tmp_path / "python", "int8")
    assert main(["quantize", str(run), "-o", str(tmp_path / "command")]) == 0
    assert capsys.readouterr().out == f"model: {tmp_path / 'command'}\n"
    one, other = (next((tmp_path / name).glob("*/model.safetensors")).read_bytes() for name in ("python", "command"))
    assert one == other
    assert main(["quantize", str(run), "-o", str(tmp_path / "command")]) == 1
    assert "there is a checkpoint in it" in capsys.readouterr().err


def test_wrong_words(run, tmp_path):
    with pytest.raises(ArgumentError, match=r"^weights: expected 'float32' or 'bfloat16' or 'int8'"):
        seq2seq.load(run, weights="int4")
    with pytest.raises(ArgumentError, match=r"^weights: expected 'bfloat16' or 'int8'"):
        seq2seq.quantize(run, tmp_path / "new", "float32")


def within(layer):
    yield layer
    for _, member in layer._members():
        if isinstance(member, Layer):
            yield from within(member)


@types
@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_model(name, weights):
    """Matrices of products are narrow, embeddings are not, and steps have the bits of any batch."""
    model = build(CASES[name], 11, 11, seed=0)
    plain = copy.deepcopy(model)
    model.store(weights)
    tables = {id(layer.w) for layer in within(model) if type(layer) is Embedding}
    assert model.projection.w.packed().storage == weights
    assert not any(id(parameter) in tables for parameter in model._stored().values())
    for key, parameter in model.parameters().items():
        same = same_bits(parameter.value, plain.parameters()[key].value)
        assert same or key in model._stored(), key
    source, lengths = np.random.default_rng(0).integers(4, 11, (5, 6)), np.array([6, 2, 5, 1, 3])
    source[np.arange(6) >= lengths[:, None]] = 0
    state = model.encode(source, lengths)
    found = model.step(np.full(5, BOS), state)[0]
    for row, length in enumerate(lengths):
        one = model.step(np.array([BOS]), model.encode(source[row : row + 1, :length], lengths[row : row + 1]))[0]
        assert same_bits(one[0], found[row]), row
    exact = plain.step(np.full(5, BOS), plain.encode(source, lengths))[0]
    assert 0 < np.abs(found - exact).max() < 0.3


def test_files_that_are_no_matrices_are_refused():
    bits, scale = np.ones((3, 2), np.uint16), np.ones(2, np.float32)
    good = narrow({"a": np.ones((3, 2), np.float32), "b": scale}, {"a": "int8"})
    assert set(good) == {"a.int8", "a.scale", "b"}
    found, stored = widen(good, "here")
    assert set(found) == {"a", "b"} and stored == {"a": "int8"} and np.allclose(found["a"], 1, rtol=1e-4)
    numbers = good["a.int8"]
    for wrong in (
        {"a.bfloat16": bits[0]},
        {"a.bfloat16": bits.astype(np.float32)},
        {"a.bfloat16": bits, "a": scale},
        {"a.int8": numbers},
        {"a.int8": numbers, "a.scale": scale[:1]},
        {"a.int8": numbers, "a.scale": scale.astype(np.float64)},
        {"a.int8": numbers.astype(np.int16), "a.scale": scale},
    ):
        with pytest.raises(CheckpointError, match=r"^here: a.(int8|bfloat16) is no matrix of"):
            widen(wrong, "here")


@types
def test_a_mean_of_quantized_models_is_of_float32(run, tmp_path, weights):
    seq2seq.quantize(run, tmp_path / "small", weights)
    mean = checkpoint.average([tmp_path / "small"], tmp_path / "mean")
    assert mean.stored == {}
    assert seq2seq.load(tmp_path / "mean").model.projection.w.packed().storage == "float32"
