"""Attention weights of all layers of a Transformer: from the model, from a translator, and on the page."""

import re

import numpy as np
import pytest
from checks import same_bits
from seq2seq_cases import CASES, SOURCE_SIZE, TARGET_SIZE, random_pairs

from fastattn.errors import ArgumentError
from fastattn.seq2seq import Config, DataConfig, Translator, Vocabulary, build

transformers = pytest.mark.parametrize("name", ["transformer-post", "transformer-pre"])


@transformers
@pytest.mark.parametrize("padding", [0, -7])
def test_each_layer_is_what_a_model_of_so_many_layers_returns(name, padding):
    batch = random_pairs(padding=padding)
    model = build(CASES[name], SOURCE_SIZE, TARGET_SIZE, seed=1)
    log_probabilities, found = model.teacher_forcing(batch, weights="layers")
    expected, last = model.teacher_forcing(batch)
    (B, T), S, layers = batch.target.shape, batch.source.shape[1], len(model.decoder)
    assert layers == 2 and found.shape == (B, T, layers, model.config.heads, S)
    assert same_bits(log_probabilities, expected) and same_bits(np.ascontiguousarray(found[:, :, -1]), last)
    whole = model.decoder
    for number in range(layers):
        model.decoder = whole[: number + 1]
        assert same_bits(np.ascontiguousarray(found[:, :, number]), model.teacher_forcing(batch)[1]), number
    assert not same_bits(np.ascontiguousarray(found[:, :, 0]), last)


def test_models_of_one_layer_return_what_there_is():
    batch = random_pairs()
    model = build(CASES["bahdanau"], SOURCE_SIZE, TARGET_SIZE, seed=1)
    assert same_bits(model.teacher_forcing(batch, weights="layers")[1], model.teacher_forcing(batch)[1])
    with pytest.raises(ArgumentError, match="weights"):
        model.teacher_forcing(batch, weights="all")


def translator_of(name):
    letters = Vocabulary(list("abcdefg"))
    model = build(CASES[name], len(letters), len(letters), seed=3)
    return Translator(model, letters, letters, Config(DataConfig(train="pairs.tsv"), CASES[name]))


@transformers
@pytest.mark.parametrize("beam", [1, 3])
def test_a_search_gives_all_layers_of_what_it_finds(name, beam):
    translator = translator_of(name)
    texts, options = ["a b c", "d", "g f e d c"], {"beam": beam, "best": beam, "max_length": 6, "weights": True}
    for several, plain in zip(translator.search(texts, layers=True, **options), translator.search(texts, **options)):
        for one, other in zip(several, plain, strict=True):
            assert one.tokens == other.tokens and one.score == other.score
            assert one.weights.shape == (len(one.tokens), 2, 2, len(one.source_tokens))
            assert same_bits(np.ascontiguousarray(one.weights[:, -1]), other.weights)
            assert one.map().shape == (2, 2, len(one.tokens), len(one.source_tokens))
            assert np.array_equal(one.map()[1], other.map())


def test_a_given_target_has_all_layers():
    translator = translator_of("transformer-post")
    found, plain = (translator.align("a b c", "c b", layers=layers) for layers in (True, False))
    assert found.weights.shape == (3, 2, 2, 4) and plain.weights.shape == (3, 2, 4)
    assert same_bits(np.ascontiguousarray(found.weights[:, -1]), plain.weights)


def test_the_page_has_a_picker_for_layers():
    from fastattn import viz

    found = translator_of("transformer-post").align("a b c", "c b", layers=True)
    text = viz.page(found.map(), found.source_tokens, found.tokens)
    assert re.search(r'"layers":\["1","2"\]', text) and re.search(r'"heads":\["1","2"\]', text)
