"""Random Marian and BART models of Transformers itself, converted: its logits, its translations, and the reverse."""

import json

import numpy as np
import pytest

from fastattn.seq2seq import Vocabulary, from_transformers, to_transformers
from fastattn.seq2seq.text.batches import Batch, pad

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
pytest.importorskip("sentencepiece")

# Of a package that normalizes punctuation where a program asks for it; tokenizers do not.
pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses:UserWarning")

TEXTS = [
    "the black dog runs", "a cat sees the dog", "dogs and cats run home", "the house is black", "she sees a house",
    "he runs to the black house", "a dog", "cats see",
]  # fmt: skip
SIZES = {
    "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "init_std": 0.2,
}  # fmt: skip


INPUTS = ["input_ids", "attention_mask"]


def marian(folder):
    """A random model with the files of its tokenizer, as OPUS-MT has them: the end first, the padding last."""
    model = Vocabulary.build(TEXTS, "sentencepiece", max_size=50).model
    pieces = Vocabulary((), "sentencepiece", model=model).tokens[4:]
    names = ["</s>", "<unk>", *reversed(pieces), ">>fra<<", "<pad>"]
    for side in ("source", "target"):
        (folder / f"{side}.spm").write_bytes(model)
    (folder / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(names)}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "MarianTokenizer"}))
    last = len(names) - 1
    config = transformers.MarianConfig(
        **SIZES, vocab_size=len(names), decoder_vocab_size=len(names), pad_token_id=last, eos_token_id=0,
        decoder_start_token_id=last, forced_eos_token_id=0, activation_function="swish", scale_embedding=True,
        max_position_embeddings=64,
    )  # fmt: skip
    made = transformers.MarianMTModel(config)
    made.generation_config.bad_words_ids = [[last]]
    return made


def bart(folder):
    """A random model with a tokenizer of bytes, as BART's are: its special tokens first, its mask last."""
    own = tokenizers.Tokenizer(tokenizers.models.BPE())
    own.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = tokenizers.decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=290, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    own.train_from_iterator(TEXTS, trainer)
    own.add_special_tokens(["<mask>"])
    own.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    own.save(str(folder / "tokenizer.json"))
    names = {"bos": 0, "pad": 1, "eos": 2, "unk": 3}
    about = {f"{name}_token": special[number] for name, number in names.items()}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": INPUTS, **about})
    )
    size = own.get_vocab_size()
    made = transformers.BartForConditionalGeneration(
        transformers.BartConfig(**SIZES, vocab_size=size, max_position_embeddings=64, activation_function="gelu")
    )
    made.generation_config.forced_bos_token_id = 0
    made.generation_config.length_penalty = 0.0  # or scores would have a part of the token that is forced
    return made


def saved(kind, folder, **generation):
    """A random model in a folder, and its tokenizer."""
    torch.manual_seed(3)
    made = KINDS[kind](folder).eval()
    with torch.no_grad():
        made.final_logits_bias.normal_()
    for key, value in {"max_length": 14, "num_beams": 4, "early_stopping": "never", **generation}.items():
        setattr(made.generation_config, key, value)
    made.save_pretrained(folder)
    return made, transformers.AutoTokenizer.from_pretrained(folder)


KINDS = {"bart": bart, "marian": marian}


def both_logits(made, tokenizer, ours, texts, targets):
    """Logits of both for the targets, ours in the order of theirs; and where they are of tokens."""
    theirs = tokenizer(texts, return_tensors="pt", padding=True)
    labels = tokenizer(text_target=targets, return_tensors="pt", padding=True)["input_ids"]
    pad_id, start = made.config.pad_token_id, made.config.decoder_start_token_id
    inputs = torch.cat([torch.full_like(labels[:, :1], start), labels[:, :-1]], dim=1)
    with torch.no_grad():
        expected = made(**theirs, decoder_input_ids=inputs).logits.numpy()
    names = tokenizer.convert_ids_to_tokens(range(made.config.vocab_size))
    numbers = {name: number for number, name in enumerate(names)}
    special = [pad_id, start, made.config.eos_token_id, tokenizer.unk_token_id]
    columns = np.array([*special, *(numbers[token] for token in ours.target_vocabulary.tokens[4:])])
    sides = (ours.source_vocabulary, texts), (ours.target_vocabulary, targets)
    source, target = ([np.append(side.encode(side.split(text)), 2) for text in some] for side, some in sides)
    batch = Batch(*pad(source), *pad(target), np.arange(len(texts)))
    shown = [columns[batch.target[b, :length]].tolist() for b, length in enumerate(batch.target_lengths)]
    assert shown == [[int(x) for x in row if x != pad_id] for row in labels]
    fed = np.concatenate([np.ones_like(batch.target[:, :1]), batch.target[:, :-1]], axis=1)
    features, _ = ours.model.features(batch, fed)
    found = ours.model.projection.forward(features)
    keep = np.arange(len(columns)) != 1  # the token that decoding starts with is a copy
    at = np.arange(fed.shape[1]) < batch.target_lengths[:, None]
    return expected[..., columns[keep]][at], found[..., keep][at]


def translations(made, tokenizer, texts, **options):
    with torch.no_grad():
        found = made.generate(**tokenizer(texts, return_tensors="pt", padding=True), **options)
    return [text.strip(" ") for text in tokenizer.batch_decode(found, skip_special_tokens=True)]


@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_translations_are_theirs(tmp_path, kind):
    made, tokenizer = saved(kind, tmp_path)
    ours = from_transformers(tmp_path)
    expected, found = both_logits(made, tokenizer, ours, TEXTS, TEXTS[::-1])
    assert np.abs(expected - found).max() < 1e-5
    assert ours.translate(TEXTS, beam=1) == translations(made, tokenizer, TEXTS, num_beams=1)
    assert ours.translate(TEXTS, beam=4) == translations(made, tokenizer, TEXTS, num_beams=4)


@pytest.mark.parametrize("kind", KINDS)
def test_ours_in_theirs_translates_alike(tmp_path, kind):
    saved(kind, tmp_path)
    ours = from_transformers(tmp_path)
    to_transformers(ours, tmp_path / "back")
    back = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "back").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
    expected, found = both_logits(back, tokenizer, ours, TEXTS, TEXTS[::-1])
    assert np.abs(expected - found).max() < 1e-5
    assert ours.translate(TEXTS, beam=4) == translations(back, tokenizer, TEXTS, num_beams=4)
