"""Training that begins with a trained model: known tokens keep their rows, whatever their numbers."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from checks import same_bits
from seq2seq_cases import CASES, SMALL, TINY
from training_runs import DATA, make_config, result

from fastattn import seq2seq
from fastattn.errors import ConfigError
from fastattn.seq2seq import Config, Translator, Vocabulary, build
from fastattn.seq2seq.runs.beginning import begin_from
from fastattn.seq2seq.runs.runlog import read_log


def letters(text):
    return Vocabulary(list(text), "char")


OLD = letters("abcdefg")


def trained(config, sides):
    return Translator(build(config, len(sides[0]), len(sides[1]), seed=1), *sides, Config(model=config))


MODELS = {**CASES, "transformer-all": seq2seq.TransformerConfig(**TINY, **SMALL, tied="all")}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_renumbered_tokens_gives_the_same_scores(name):
    config = MODELS[name]
    shared = getattr(config, "tied", "none") == "all"
    before = trained(config, (OLD, OLD if shared else letters("hijkl")))
    sides = letters("gfedcba"), letters("gfedcba" if shared else "lhkij")
    model = build(config, len(sides[0]), len(sides[1]), seed=2)
    notes = begin_from(model, sides, before, Path("before"))
    assert notes["source"] == {"kept": 7, "new": 0} and notes["target"] == {"kept": 7 if shared else 5, "new": 0}
    texts = ["abc", "gg", "fedcba"], ["acb", "g", "bag"] if shared else ["hi", "l", "jkl"]
    found = Translator(model, *sides, before.config).score(*texts)
    for one, other in zip(found, before.score(*texts)):
        np.testing.assert_allclose(one.log_probability, other.log_probability, rtol=1e-5)


def test_new_tokens_have_what_the_seed_draws_and_no_other_value_is_touched():
    config = CASES["bahdanau"]
    before = trained(config, (OLD, OLD))
    sides = letters("xbay"), letters("cz")
    model, drawn = (build(config, len(sides[0]), len(sides[1]), seed=2) for _ in range(2))
    assert begin_from(model, sides, before, Path("before")) == {
        "init_from": "before", "source": {"kept": 2, "new": 2}, "target": {"kept": 1, "new": 1},
    }  # fmt: skip
    own, old, fresh = (each.parameters() for each in (model, before.model, drawn))
    table = own["source_embedding.w"].value
    assert same_bits(table[[5, 6]], old["source_embedding.w"].value[[5, 4]])
    assert same_bits(table[[4, 7]], fresh["source_embedding.w"].value[[4, 7]])
    assert same_bits(own["projection.w"].value[:, 4], old["projection.w"].value[:, 6])
    assert same_bits(own["projection.w"].value[:, 5], fresh["projection.w"].value[:, 5])
    same = [name for name in own if own[name].value.shape == old[name].value.shape]
    assert len(same) > 5 and all(same_bits(own[name].value, old[name].value) for name in same)


def test_another_architecture_is_refused_by_name_and_other_dropout_is_not():
    config = CASES["bahdanau"]
    before = trained(config, (OLD, OLD))

    def begin(**changes):
        other = dataclasses.replace(config, **changes)
        begin_from(build(other, len(OLD), len(OLD), seed=2), (OLD, OLD), before, Path("before"))

    begin(dropout=0.45, label_smoothing=0.2, coverage_loss=0.5)
    for changes in ({"hidden": config.hidden + 8}, {"conditional": not config.conditional}, {"score": "general"}):
        with pytest.raises(ConfigError, match=f"^model.{next(iter(changes))}: .*, and the model in before has"):
            begin(**changes)
    with pytest.raises(ConfigError, match=r"^model\.kind: 'cho', and the model in before has 'bahdanau'"):
        begin_from(build(CASES["cho"], 11, 11, seed=2), (OLD, OLD), before, Path("before"))


def test_a_run_that_begins_with_a_model_is_exact_and_says_so(tmp_path):
    pairs, validation = DATA
    more = [(source + "z", target) for source, target in pairs[:50]] + pairs
    seq2seq.train(make_config(max_steps=8), tmp_path / "first", pairs=pairs, validation=validation, quiet=True)
    first = seq2seq.load(tmp_path / "first")
    began = []

    def train(folder, resume=False, callback=lambda event: None, place=tmp_path / "first"):
        config = make_config(max_steps=10, init_from=place)
        seq2seq.train(config, tmp_path / folder, pairs=more, validation=validation, resume=resume, quiet=True,
                      callbacks=[callback])  # fmt: skip

    def look(event):
        if event.kind == "begin":
            began.append({name: p.value.copy() for name, p in event.model.parameters().items()})
        return event.step == 5

    train("parts", callback=look)
    train("parts", resume=True, place="")
    train("whole")
    assert result(tmp_path / "parts")[1:] == result(tmp_path / "whole")[1:]
    weights = [seq2seq.checkpoint.load(tmp_path / folder).model for folder in ("parts", "whole")]
    assert all(same_bits(weights[0][name], weights[1][name]) for name in weights[0])
    assert same_bits(began[0]["bridge.w"], first.model.parameters()["bridge.w"].value)
    lines = [line for line in read_log(tmp_path / "whole" / "log.jsonl") if "init_from" in line]
    assert lines == [{"step": 0, "epoch": 0, "init_from": str(tmp_path / "first"), "source": {"kept": 8, "new": 1},
                      "target": {"kept": 8, "new": 0}}]  # fmt: skip
