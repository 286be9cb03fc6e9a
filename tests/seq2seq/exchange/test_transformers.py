"""Models of Transformers as ours and ours as theirs: logits, translations, and what is refused by its name."""

import dataclasses
import json

import numpy as np
import pytest

from fastattn.errors import CheckpointError, TextError, UnsupportedError
from fastattn.seq2seq import (
    Config,
    DataConfig,
    InferenceConfig,
    TrainingConfig,
    TransformerConfig,
    Translator,
    Vocabulary,
    VocabularyConfig,
    build,
    from_transformers,
    load,
    to_transformers,
    train,
)
from fastattn.seq2seq.exchange.transformers import save
from fastattn.seq2seq.text.batches import Batch, pad
from fastattn.seq2seq.text.encoding import encode

pytest.importorskip("sentencepiece")
pytest.importorskip("tokenizers")
pytest.importorskip("safetensors")

TEXTS = [
    "the black dog runs", "a cat sees the dog", "dogs and cats run home", "the house is black", "she sees a house",
    "he runs to the black house", "a dog", "cats see",
]  # fmt: skip
KINDS = {"marian": "sentencepiece", "bart": "tokenizer"}
SIZES = {"width": 16, "heads": 2, "inner": 24, "encoder_layers": 2, "decoder_layers": 1, "bias": True}


def ours(kind, **settings):
    """A random model of ours that theirs can be."""
    vocabulary = Vocabulary.build(TEXTS, KINDS[kind], max_size=60 if kind == "marian" else 300)
    more = {"positions": "learned", "longest": 40, "norm_embedding": True, "tied": "all"} if kind == "bart" else {}
    config = TransformerConfig(**{**SIZES, "activation": "swish", **more, **settings})
    model = build(config, len(vocabulary), len(vocabulary), seed=1)
    rng = np.random.default_rng(2)
    for parameter in model.parameters().values():
        with parameter.edit() as value:
            value += rng.normal(0, 0.3, value.shape).astype(np.float32)
    inference = InferenceConfig(beam=3, length_penalty=1.0, length_norm="length", max_length=12)
    tokens = VocabularyConfig(source=KINDS[kind], target=KINDS[kind])
    return Translator(model, vocabulary, vocabulary, Config(model=config, vocabulary=tokens, inference=inference))


def logits(translator, texts=TEXTS, targets=TEXTS[::-1]):
    """Our logits of each target token, padded, and the batch."""
    sides = translator.source_vocabulary, translator.target_vocabulary
    source, target = ([encode(side, text) for text in some] for side, some in zip(sides, (texts, targets)))
    batch = Batch(*pad(source), *pad(target), np.arange(len(texts)))
    inputs = np.concatenate([np.ones_like(batch.target[:, :1]), batch.target[:, :-1]], axis=1)
    features, _ = translator.model.features(batch, inputs)
    return translator.model.projection.forward(features), batch


@pytest.mark.parametrize("tied", ["all", "target", "none"])
def test_a_marian_of_ours_comes_back_as_it_went(tmp_path, tied):
    translator = ours("marian", tied=tied)
    assert to_transformers(translator, tmp_path / "theirs") == []
    again = from_transformers(tmp_path / "theirs")
    assert again.source_vocabulary.tokens == translator.source_vocabulary.tokens
    for name, parameter in translator.model.parameters().items():
        there = again.model.parameters()[name].value
        assert np.array_equal(there, parameter.value), name
    assert again.config.inference == translator.config.inference
    expected = dataclasses.replace(translator.config.model, label_smoothing=0.0)
    assert again.config.model == expected
    save(again, tmp_path / "ours")
    assert load(tmp_path / "ours").translate(TEXTS) == translator.translate(TEXTS)


def test_a_bart_of_ours_comes_back_as_it_went(tmp_path):
    translator = ours("bart")
    to_transformers(translator, tmp_path)
    again = from_transformers(tmp_path)
    before, batch = logits(translator)
    after, there = logits(again)
    assert np.array_equal(batch.target_lengths, there.target_lengths)
    columns = [*range(4), *again.target_vocabulary.encode(translator.target_vocabulary.tokens[4:])]
    for b, length in enumerate(batch.target_lengths):
        assert np.abs(before[b, :length] - after[b, :length][:, columns]).max() < 1e-5
    assert again.translate(TEXTS) == translator.translate(TEXTS)
    assert np.array_equal(*(one.model.parameters()["source_positions.rows.w"].value for one in (translator, again)))


def changed(folder, file, **changes):
    """Change keys of a file of JSON; None takes one away."""
    path = folder / file
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.mark.parametrize(
    "file, changes, message",
    [
        ("config.json", {"model_type": "t5"}, "model_type: expected marian or bart, got 't5'"),
        ("config.json", {"normalize_before": True}, "normalize_before: expected False, got True"),
        ("config.json", {"decoder_ffn_dim": 8}, "decoder_ffn_dim: expected 24, as of the encoder, got 8"),
        ("config.json", {"activation_function": "mish"}, "activation_function: expected one of"),
        ("config.json", {"d_model": None}, "d_model: expected a size, got None"),
        ("config.json", {"tie_word_embeddings": False}, "tie_word_embeddings: expected True for shared"),
        ("config.json", {"quantization_config": {}}, "quantization_config: expected none"),
        ("config.json", {"pad_token_id": 99999}, "pad_token_id: expected the number of a token, got 99999"),
        ("config.json", {"vocab_size": 7}, "numbers of tokens: expected a number for each token"),
        ("generation_config.json", {"no_repeat_ngram_size": 3}, "no_repeat_ngram_size: expected 0, got 3"),
        ("generation_config.json", {"bad_words_ids": [[5, 6]]}, "bad_words_ids: expected single tokens, got [5, 6]"),
        ("generation_config.json", {"forced_eos_token_id": 7}, "forced_eos_token_id: expected 2, the end, got 7"),
        ("generation_config.json", {"sequence_bias": [1]}, "sequence_bias: expected no such setting"),
    ],
)
def test_what_differs_is_refused_by_its_name(tmp_path, file, changes, message):
    to_transformers(ours("marian", tied="all"), tmp_path)
    changed(tmp_path, file, **changes)
    with pytest.raises(UnsupportedError) as error:
        from_transformers(tmp_path)
    assert message in str(error.value)


def test_positions_in_their_file_are_those_that_marian_computes(tmp_path):
    """All sines before all cosines, as its own code has them."""
    from safetensors.numpy import load_file, save_file

    to_transformers(ours("marian", tied="all"), tmp_path)
    path = tmp_path / "model.safetensors"
    angles = np.arange(30)[:, None] / 10000 ** (np.arange(0, 16, 2) / 16)
    table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
    save_file({**load_file(path), "model.encoder.embed_positions.weight": table}, path)
    from_transformers(tmp_path)


def test_tensors_that_differ_are_refused_by_their_names(tmp_path):
    from safetensors.numpy import load_file, save_file

    to_transformers(ours("marian", tied="all"), tmp_path)
    path = tmp_path / "model.safetensors"
    good = load_file(path)
    name = "model.encoder.layers.0.fc1.weight"
    positions = "model.encoder.embed_positions.weight"
    for wrong, message in (
        ({key: value for key, value in good.items() if key != name}, f"{name}: expected a tensor of shape (24, 16)"),
        ({**good, name: good[name][1:].copy()}, f"{name}: expected a tensor of shape (24, 16), got float32 of shape"),
        ({**good, "model.extra": good[name]}, "1 tensors are of no known part (model.extra)"),
        ({**good, positions: np.zeros((9, 16), np.float32)}, f"{positions}: is not what its model computes"),
        ({**good, "lm_head.weight": good["model.shared.weight"] + 1}, "lm_head.weight: is not what its model"),
    ):
        save_file(wrong, path)
        with pytest.raises(CheckpointError) as error:
            from_transformers(tmp_path)
        assert message in str(error.value)
    path.unlink()
    with pytest.raises(CheckpointError, match="there is no such file"):
        from_transformers(tmp_path)
    (tmp_path / "vocab.json").write_text("[")
    with pytest.raises(TextError, match="is not the JSON of a table"):
        from_transformers(tmp_path)


@pytest.mark.parametrize(
    "kind, settings, message",
    [
        ("marian", {"norm": "pre"}, "model.norm: expected 'post'"),
        ("marian", {"positions": "rotary"}, "model.positions: expected 'sinusoidal'"),
        ("marian", {"norm_embedding": True}, "model.norm_embedding: expected False"),
        ("bart", {"tied": "target"}, "model.tied: expected 'all'"),
    ],
)
def test_what_theirs_has_not_is_refused_by_its_name(tmp_path, kind, settings, message):
    with pytest.raises(UnsupportedError) as error:
        to_transformers(ours(kind, **settings), tmp_path)
    assert message in str(error.value)


def test_a_converted_model_is_trained_further(tmp_path):
    """From its own vocabularies, whose tokens have other numbers than in the files of their tokenizers."""
    to_transformers(ours("marian", tied="all"), tmp_path / "theirs")
    vocab = json.loads((tmp_path / "theirs" / "vocab.json").read_text())
    names = [*list(vocab)[:4], *list(vocab)[:3:-1]]
    (tmp_path / "theirs" / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    before = from_transformers(tmp_path / "theirs")
    save(before, tmp_path / "ours")
    [checkpoint] = (tmp_path / "ours").glob("checkpoint-*")
    config = Config(
        data=DataConfig(
            source_vocabulary=str(checkpoint / "source.vocabulary.json"),
            target_vocabulary=str(checkpoint / "source.vocabulary.json"),
        ),
        model=before.config.model,
        vocabulary=before.config.vocabulary,
        training=TrainingConfig(epochs=0, max_steps=1, rate=1e-9),
    )
    pairs = list(zip(TEXTS, TEXTS[::-1]))
    train(config, tmp_path / "more", pairs=pairs, init_from=tmp_path / "ours", quiet=True)
    after = load(tmp_path / "more")
    assert after.source_vocabulary.tokens == before.source_vocabulary.tokens
    for name, parameter in before.model.parameters().items():
        assert np.abs(after.model.parameters()[name].value - parameter.value).max() < 1e-6, name


def test_a_folder_that_transformers_did_not_write_is_refused_by_what_it_is(tmp_path):
    with pytest.raises(TextError, match=r"none/config\.json: there is no such file\. Hint: name a folder that save"):
        from_transformers(tmp_path / "none")
    save(ours("marian"), tmp_path / "run")
    with pytest.raises(TextError, match=r"run/config\.json: .* a model of fastattn, which .* --to transformers"):
        from_transformers(tmp_path / "run")
