"""Hints about models of Transformers."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from fastattn.seq2seq import (
    Config,
    TransformerConfig,
    Translator,
    Vocabulary,
    VocabularyConfig,
    build,
    from_transformers,
    load,
    to_transformers,
)
from fastattn.seq2seq.exchange.transformers import save
from hints import advice

VOCABULARY = Vocabulary.build(["the cat", "the dog"], "sentencepiece", max_size=20)
TINY = TransformerConfig(width=2, heads=1, inner=2, encoder_layers=1, decoder_layers=1, bias=True, tied="all")


def ours(**settings):
    config = replace(TINY, **settings)
    tokens = VocabularyConfig(source="sentencepiece", target="sentencepiece", shared=True)
    model = build(config, len(VOCABULARY), len(VOCABULARY), seed=0)
    return Translator(model, VOCABULARY, VOCABULARY, Config(model=config, vocabulary=tokens))


def theirs(break_it=None):
    """Ours as theirs, read again after something has been done to the folder."""
    shutil.rmtree("theirs", ignore_errors=True)
    to_transformers(ours(), "theirs")
    if break_it is not None:
        break_it(Path("theirs"))
    return from_transformers("theirs")


def wider(folder):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "d_model": 4}))


def saved(folder="new"):
    shutil.rmtree("new", ignore_errors=True)
    save(ours(), "old") if not Path("old").exists() else None
    save(ours(), folder)


advice(lambda norm="pre": to_transformers(ours(norm=norm), "theirs"), "change the model", norm="post")
advice(lambda: theirs(wider), "convert a model of the published architecture", theirs)
advice(lambda: theirs(lambda f: (f / "config.json").write_text("[]")), "name a folder that save_pretrained", theirs)
advice(lambda: theirs(lambda f: (f / "model.safetensors").unlink()), "load and save it in Transformers", theirs)
advice(lambda folder="old": saved(folder), "choose another folder", folder="new")
advice(
    lambda translator=None: to_transformers(translator, "theirs"), "load() makes one from a folder", translator=ours()
)


def old_run(folder):
    saved("new")
    return from_transformers(folder) if folder == "new" else to_transformers(load("new"), "away")


advice(lambda: from_transformers("nowhere"), "name a folder that save_pretrained wrote", theirs)
advice(
    lambda folder="new": old_run(folder),
    "the folder has a model of fastattn, which to_transformers, or --to transformers, converts",
    folder="load",
)
