"""Folders that Transformers saves and loads: from one to a translator, and from a translator to one."""

import json
import os
from pathlib import Path
from typing import Any

from fastattn._strings import path_name
from fastattn.errors import CheckpointError, TextError, describe_file
from fastattn.seq2seq.config import Config, InferenceConfig, VocabularyConfig
from fastattn.seq2seq.exchange import settings, tensors, tokens
from fastattn.seq2seq.models.registry import build
from fastattn.seq2seq.models.transformer import TransformerConfig
from fastattn.seq2seq.runs import checkpoint, durable
from fastattn.seq2seq.runs.tensors import pack, restore, unpack
from fastattn.seq2seq.strict_json import parse_json
from fastattn.seq2seq.text.files import read_bytes
from fastattn.seq2seq.text.vocabulary import BOS, PAD
from fastattn.seq2seq.translate import Translator
from fastattn.variants.protocol.checks import check_kind

__all__ = ["from_transformers", "save", "to_transformers"]

_MOST = 1 << 34  # bytes of a file of tensors
_TENSORS = "model.safetensors"


def from_transformers(folder: str | os.PathLike[str]) -> Translator:
    """Return the model in a folder that Transformers saved, with its vocabularies and the settings of its search.

    Parameters
    ----------
    folder : path
        Of a Marian model, such as those of OPUS-MT, or of a BART: ``config.json``, ``model.safetensors``,
        ``generation_config.json`` if there is one, and the tokenizer's files: ``source.spm``, ``target.spm`` and
        ``vocab.json`` of Marian, ``tokenizer.json`` of BART. Transformers itself is not needed.

    Returns
    -------
    Translator
        Its model is a `Transformer`, which can be trained further; `to_transformers` does the reverse.

    Raises
    ------
    UnsupportedError
        By the name of the setting, if the model or its search has what ours has not.
    CheckpointError
        By the name of the tensor, if one is missing, of another shape, or not known.
    TextError
        If a file cannot be read.

    Notes
    -----
    Logits are theirs but for rounding, and greedy translations are theirs. A beam search of ours goes on until nothing
    better can come, as theirs does with ``early_stopping="never"``; otherwise theirs may end sooner, with a sentence of
    a lower score. A score of ours has the log-probabilities of tokens that theirs forces, such as a first one. What
    acts in training alone and ours has not, ``activation_dropout`` and the dropping of layers, is left out.

    The token that decoding starts with has an embedding of its own here, a copy of theirs.

    References
    ----------
    Junczys-Dowmunt et al., "Marian: Fast Neural Machine Translation in C++", ACL 2018, arXiv:1804.00344. Tiedemann and
    Thottingal, "OPUS-MT - Building open translation services for the World", EAMT 2020. Lewis et al., "BART: Denoising
    Sequence-to-Sequence Pre-training for Natural Language Generation, Translation, and Comprehension", ACL 2020,
    arXiv:1910.13461.

    Examples
    --------
    >>> from fastattn.seq2seq import from_transformers
    >>> from_transformers("opus-mt-en-de")
    Traceback (most recent call last):
    fastattn.errors.TextError: opus-mt-en-de/config.json: there is no such file. Hint: name a...
    """
    folder = Path(path_name("folder", folder))
    place = folder / "config.json"
    if not place.exists():
        hint = "name a folder that save_pretrained wrote."
        if checkpoint.steps(folder):
            hint = "the folder has a model of fastattn, which to_transformers, or --to transformers, converts."
        raise TextError(describe_file(place, "there is no such file", hint))
    table = tokens.read_json(place)
    model_config = settings.model(place, table)
    search = folder / "generation_config.json"
    generation = tokens.read_json(search) if search.exists() else _search_of(table)
    found, never = settings.decoding(search if search.exists() else place, generation, table["eos_token_id"])
    (source, numbers), (target, target_numbers) = tokens.read(folder, table, generation)
    ours = {number: i for i, number in reversed([*enumerate(target_numbers.tolist())])}  # of two the first
    unwanted = {ours[number] for number in never if number in ours}
    renormalized = PAD in unwanted and bool(generation.get("renormalize_logits"))
    layout = tensors.Layout(numbers, target_numbers, (PAD,) if renormalized else ())
    place = folder / _TENSORS
    parameters = tensors.read(tensors.Theirs(_tensors(place), place), model_config, layout)
    forbid = tuple(target.tokens[number] for number in sorted(unwanted - {PAD, BOS}))
    inference = InferenceConfig(**found, forbid=forbid)
    kind = source.kind
    vocabulary = VocabularyConfig(source=kind, target=target.kind, shared=source == target)
    model = build(model_config, len(source), len(target), seed=0)
    restore(model.parameters(), parameters, place)
    return Translator(model, source, target, Config(model=model_config, vocabulary=vocabulary, inference=inference))


def _search_of(table: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a search that an older ``config.json`` has among those of the model."""
    return {key: value for key, value in table.items() if key in settings.SEARCH}


def _tensors(place: Path) -> dict[str, Any]:
    if not place.exists():
        hint = "load and save it in Transformers, which writes one file of safetensors."
        raise CheckpointError(describe_file(place, "there is no such file", hint))
    data = read_bytes(place, _MOST)
    try:
        head = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
        kinds = {about["dtype"] for name, about in head.items() if name != "__metadata__"}
    except (ValueError, TypeError, KeyError, AttributeError):
        kinds = set()  # `unpack` says what is wrong
    if not kinds <= {"F16", "F32", "F64"}:
        raise settings.refusal(place, "dtype", ", ".join(sorted(kinds)), "F16, F32 or F64")
    return unpack(data, place)


def save(translator: Translator, folder: str | os.PathLike[str], **progress: Any) -> None:
    """Write a translator as the checkpoint of a new run, which `fastattn.seq2seq.load` reads.

    Parameters
    ----------
    translator : Translator
    folder : path
        One that has a checkpoint is refused.
    **progress
        What ``state.json`` is to say of where it comes from.
    """
    folder = Path(path_name("folder", folder))
    if checkpoint.steps(folder):
        raise CheckpointError(describe_file(folder, "there is a checkpoint in it", "choose another folder."))
    model = {name: parameter.value for name, parameter in translator.model.parameters().items()}
    vocabularies = {"source": translator.source_vocabulary, "target": translator.target_vocabulary}
    checkpoint.save(folder, 0, model=model, state={}, config=translator.config.to_dict(), progress=progress,
                    vocabularies=vocabularies, best=True)  # fmt: skip


def to_transformers(translator: Translator, folder: str | os.PathLike[str]) -> list[str]:
    """Write a `Transformer` as a folder that Transformers loads: a Marian model, or with learned positions a BART.

    Parameters
    ----------
    translator : Translator
    folder : path
        Made if it does not exist; files of the same names are replaced.

    Returns
    -------
    list of str
        What the search does otherwise there, one line each.

    Raises
    ------
    UnsupportedError
        By the name of what theirs cannot have: another kind of model; pre-norm; other positions; for Marian another
        vocabulary than "sentencepiece", for BART than "tokenizer"; texts in lower case or a normal form.

    Notes
    -----
    Logits are ours but for rounding. ``AutoModelForSeq2SeqLM.from_pretrained(folder)`` and
    ``AutoTokenizer.from_pretrained(folder)`` read it.
    """
    check_kind("translator", translator, Translator, "load() makes one from a folder.")
    folder = Path(path_name("folder", folder))
    config, inference = getattr(translator.model, "config", None), translator.config.inference
    if not isinstance(config, TransformerConfig):
        raise settings.refusal(folder, "model.kind", getattr(config, "kind", "ensemble"), "'transformer'")
    if inference.allow:
        raise settings.refusal(folder, "inference.allow", list(inference.allow), "no such setting")
    made, (source, target) = tokens.write(folder, translator.source_vocabulary, translator.target_vocabulary)
    ids = {key: int(target[number]) for key, number in settings.IDS.items()}
    sizes = int(source.max()) + 1, int(target.max()) + 1
    begin = translator.target_vocabulary.encode(translator.target_vocabulary.begin)
    forced = {"forced_bos_token_id": int(target[begin[0]])} if len(begin) else {}
    never = [int(target[number]) for number in (PAD, BOS, *translator.target_vocabulary.encode(inference.forbid))]
    parameters = {name: parameter.value for name, parameter in translator.model.parameters().items()}
    made |= {
        "config.json": _json(settings.outline(folder, config, sizes, ids)),
        "generation_config.json": _json(settings.generation(inference, {**ids, **forced}, never)),
        _TENSORS: pack(tensors.write(parameters, config, tensors.Layout(source, target)), {"format": "pt"}),
    }
    os.makedirs(folder, exist_ok=True)
    for name, data in made.items():
        durable.write_file(folder / name, data)
    return settings.differences(inference)


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()
