"""Configurations: what is written is what is used, and every fault is one line that names its key."""

import copy
import dataclasses
import datetime
import json
import math
import os
import pickle
from functools import partial
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastattn import seq2seq
from fastattn.errors import ArgumentError, ConfigError, FastattnError, describe
from fastattn.plugin import ModelRecord, isolated
from fastattn.seq2seq.aliases import ALIASES
from fastattn.seq2seq.config import Config, DataConfig, InferenceConfig, TrainingConfig, VocabularyConfig, read_config
from fastattn.seq2seq.schema import from_table, setting, to_table


@dataclasses.dataclass(frozen=True)
class Small:
    kind: str = "small"
    hidden: int = setting(8, least=1, most=64)
    rate: float = 0.5
    heads: int | None = None
    score: Literal["dot", "general"] = "dot"

    def __post_init__(self):
        if self.heads is not None and self.hidden % self.heads:
            raise ArgumentError(describe("heads", f"a divisor of {self.hidden}", self.heads, "use 2."))


class Plugin:
    def fastattn_models(self):
        return [ModelRecord("small", "nowhere:Model", settings=Small)]


@pytest.fixture(autouse=True, scope="module")
def _small():
    with isolated({"plugin": Plugin()}):
        yield


FULL = """
[data]
train = "train.en"
train_target = "train.de"
validation = "valid.tsv"
columns = [1, 3]
strict = true

[vocabulary]
source = "bpe"
target = "bpe"
source_size = 8000
target_size = 8000
min_count = 2
shared = true

[model]
kind = "small"
hidden = 12
heads = 3
rate = 1

[training]
seed = 7
epochs = 0
max_steps = 1000
tokens_per_batch = 2048
max_length = 50
rate = 2e-3
schedule = "inverse_sqrt"
warmup = 400
betas = [0.9, 0.98]
epsilon = 1e-9
decay = 0.01
clip = 5
sampling = 0.25
sampling_warmup = 100
accumulate = 2
validate_every = 100
checkpoint_every = 50
log_every = 10
patience = 4
metric = "bleu"
keep = 2

[inference]
beam = 4
length_penalty = 1
coverage_penalty = 0.2
max_length = 60
"""


def read(folder, text, name="c.toml"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_config(path)


def changed(text, old, new):
    assert text.count(old) == 1
    return text.replace(old, new)


def test_what_is_written_is_read(tmp_path):
    config = read(tmp_path, FULL)
    assert config.data.columns == (1, 3) and config.data.strict
    assert config.vocabulary.source_size == 8000 and config.vocabulary.shared
    assert config.model == Small(hidden=12, heads=3, rate=1.0) and type(config.model.rate) is float
    assert config.training.betas == (0.9, 0.98) and config.training.clip == 5.0 and config.training.metric == "bleu"
    assert config.inference.beam == 4 and type(config.inference.length_penalty) is float


def test_everything_has_a_default(tmp_path):
    config = read(tmp_path, '[data]\ntrain = "x.tsv"\n')
    assert (
        config.model == seq2seq.BahdanauConfig()
        and config.training == TrainingConfig()
        and config.vocabulary.source == "word"
    )
    assert read(tmp_path, "").data == DataConfig() == Config(model=Small()).data
    with pytest.raises(ConfigError, match="model: expected settings, got None"):
        Config()


def test_paths_are_relative_to_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("sub")
    with open("sub/c.toml", "w") as file:
        file.write(changed(FULL, '"train.de"', '"' + str(tmp_path / "x.de") + '"'))
    data = read_config("sub/c.toml").data
    assert data.train == os.path.join("sub", "train.en")
    assert data.train_target == str(tmp_path / "x.de")
    assert data.validation == os.path.join("sub", "valid.tsv") and data.validation_target == ""
    with open("c.toml", "w") as file:
        file.write('[data]\ntrain = "-"\n')
    assert read_config("c.toml").data.train == "-"


def test_there_and_back(tmp_path):
    config = read(tmp_path, FULL)
    tables = json.loads(json.dumps(config.to_dict()))
    assert Config.from_dict(tables) == config
    assert tables["training"]["betas"] == [0.9, 0.98]
    plain = read(tmp_path, '[data]\ntrain = "x.tsv"\n')
    assert "columns" not in plain.to_dict()["data"]
    assert Config.from_dict(plain.to_dict()) == plain


def test_nothing_can_be_changed(tmp_path):
    config = read(tmp_path, FULL)
    for section in (config, config.data, config.vocabulary, config.training, config.inference):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(section, dataclasses.fields(section)[0].name, 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed = 7", "sed = 7", "training.sed: unknown key. Hint: did you mean 'seed'?"),
        ("seed = 7", "beam = 7", "training.beam: unknown key. Hint: it belongs to [inference]."),
        ("hidden = 12", "hiden = 12", "model.hiden: unknown key. Hint: did you mean 'hidden'?"),
        ("hidden = 12", "zzz = 12", "model.zzz: unknown key. Hint: known are kind, hidden, rate, heads, score."),
        ("[training]", "[trainning]", "[trainning]: unknown section. Hint: did you mean 'training'?"),
        ("[data]", "seed = 7\n[data]", "seed: unknown section. Hint: it belongs to [training]."),
        ("[data]", "data = 3\n[dat]", "data: expected a table, got 3."),
        ("[model]", "[[model]]", "model: expected a table, got [{"),
        (
            'kind = "small"',
            'kind = "smal"',
            "model.kind: no kind of model is called 'smal'. Hint: did you mean 'small'?",
        ),
        ('kind = "small"', "kind = 3", "model.kind: no kind of model is called 3."),
        ("hidden = 12", "hidden = 0", "model.hidden: expected at least 1, got 0. Hint: the default is 8."),
        ("hidden = 12", "hidden = 65", "model.hidden: expected at most 64, got 65."),
        ("heads = 3", "heads = 5", "model: heads: expected a divisor of 12, got 5. Hint: use 2."),
        (
            "heads = 3",
            'score = "dott"',
            "model.score: expected one of dot, general, got 'dott'. Hint: did you mean 'dot'?",
        ),
        ("seed = 7", "seed = 7.0", "training.seed: expected an integer, got 7.0. Hint: the default is 1."),
        ("seed = 7", "seed = -1", "training.seed: expected at least 0, got -1. Hint: the default is 1."),
        ("seed = 7", "seed = true", "training.seed: expected an integer, got True."),
        ("seed = 7", "seed = 9223372036854775808", "training.seed: expected a number of at most 64 bits."),
        ("rate = 2e-3", "rate = 0", "training.rate: expected a number above 0, got 0"),
        ("rate = 2e-3", "rate = nan", "training.rate: expected a finite number, got nan."),
        ("rate = 2e-3", "rate = inf", "training.rate: expected a finite number, got inf."),
        ("rate = 2e-3", "rate = true", "training.rate: expected a number, got True."),
        ("rate = 2e-3", 'rate = "2e-3"', "training.rate: expected a number, got '2e-3'. Hint: the default is 0.001."),
        ("rate = 2e-3", "rate = " + "9" * 400, "training.rate: expected a number of at most 64 bits."),
        ("betas = [0.9, 0.98]", "betas = [0.9]", "training.betas: expected a list of 2 values, got [0.9]."),
        ("betas = [0.9, 0.98]", "betas = 0.9", "training.betas: expected a list of 2 values, got 0.9."),
        ("betas = [0.9, 0.98]", "betas = [0.9, 1]", "training.betas: expected a number below 1, got 1.0."),
        ("betas = [0.9, 0.98]", 'betas = [0.9, "x"]', "training.betas: expected a number, got 'x'."),
        ("columns = [1, 3]", "columns = [0, 1]", "data.columns: expected at least 1, got 0."),
        ("columns = [1, 3]", "columns = [1.0, 2]", "data.columns: expected an integer, got 1.0."),
        ("strict = true", "strict = 1", "data.strict: expected true or false, got 1. Hint: the default is false."),
        ('train = "train.en"', "", "data.train: missing. Hint: name the sources of train_target."),
        ('train = "train.en"', "train = 3", "data.train: expected a string in quotes, got 3."),
        ('validation = "valid.tsv"', 'validation_target = "v"', "data.validation: missing. Hint: name the sources of"),
        ('validation = "valid.tsv"', "", "training.patience: 4 needs validation data. Hint: give data.validation"),
        ('train_target = "train.de"', 'train_target = "-"', None),
        ("source_size = 8000", "source_size = 4", "vocabulary.source_size: expected at least 5, got 4."),
        ("source_size = 8000", "source_size = 9000", "vocabulary.shared: one vocabulary cannot be of two sorts."),
        ('target = "bpe"', 'target = "char"', "vocabulary.shared: one vocabulary cannot be of two sorts."),
        ('target = "bpe"', 'target = "bp"', "vocabulary.target: expected one of word, char, bpe, sentencepiece, token"),
        ('target = "bpe"', 'target = "bpe"\nlowercase = 1', "vocabulary.lowercase: expected true or false, got 1."),
        ('target = "bpe"', 'target = "bpe"\nnormalization = "nfc"', "vocabulary.normalization: expected one of none,"),
        (
            'source = "bpe"\ntarget = "bpe"',
            'source = "char"\ntarget = "sentencepiece"\npunctuation = true',
            "vocabulary.punctuation: not used by kinds 'char' and 'sentencepiece'.",
        ),
        ("max_steps = 1000", "", "training.epochs: training would never end."),
        ("max_length = 50", "max_length = 2048", "training.tokens_per_batch: tokens_per_batch 2048 holds no sentence"),
        ("warmup = 400", "", "training.warmup: inverse_sqrt needs one."),
        ('schedule = "inverse_sqrt"', "", "training.warmup: not used by schedule 'constant'."),
        ("warmup = 400", "warmup = 400\nlowest = 1e-5", "training.lowest: not used by schedule 'inverse_sqrt'."),
        ('"inverse_sqrt"', '"cosine"\nschedule_steps = 400', "training.schedule_steps: cosine needs more than the 400"),
        ('"inverse_sqrt"', '"cosine"\nschedule_steps = 900\nlowest = 0.1', "training.lowest: 0.1 is more than rate"),
        ("beam = 4", "beam = 0", "inference.beam: expected at least 1, got 0. Hint: the default is 5."),
        ("beam = 4", "beam =", "Invalid value (at line "),
        ("beam = 4", "beam = 4\nbeam = 4", "Cannot overwrite a value (at line "),
    ],
)
def test_a_fault_is_one_line_that_names_its_place(tmp_path, old, new, message):
    text = FULL.replace(old, new, 1)
    assert text != FULL
    if message is None:
        assert read(tmp_path, text).data.train_target == "-"
        return
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'c.toml'}: {message}")
    assert "\n" not in str(caught.value) and str(caught.value).count("Hint: ") == 1
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xfe[", "is UTF-16 text"),
        (b"\xff[data]", "no UTF-8 at byte 0"),
        (b"\x1f\x8b\x08", "is compressed by gzip"),
        (b"seed = 1\0", "is binary: byte 9 is NUL"),
        (b"#" * (1 << 20) + b"\n", "longer than 1048576 bytes"),
        (b"[data]\ntrain = '\xe9'", "no UTF-8 at byte 16"),
        (b"a = " + b"[" * 100000, "recursion"),
    ],
)
def test_a_file_that_is_no_toml(tmp_path, data, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, data)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_fault(tmp_path):
    assert read(tmp_path, b"\xef\xbb\xbf" + FULL.encode()) == read(tmp_path, FULL)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: no such file or directory\. Hint"):
        read_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="is a directory"):
        read_config(tmp_path)


def test_two_sides_cannot_both_be_the_standard_input():
    with pytest.raises(ConfigError, match="the standard input is named twice"):
        Config.from_dict({"data": {"train": "-", "train_target": "-"}})


def test_sections_made_in_python_are_checked_too():
    with pytest.raises(ConfigError, match=r"training\.rate: expected a number above 0, got -1"):
        TrainingConfig(rate=-1)
    assert TrainingConfig(rate=1).rate == 1
    with pytest.raises(ConfigError, match="model: expected settings"):
        Config(data=Config.from_dict({"data": {"train": "x"}}).data, model={"kind": "small"})


@pytest.mark.parametrize(
    ("name", "value"), [("schedule", "plateau"), ("metric", "wer"), ("validate_every", 5), ("patience", 1)]
)
def test_what_needs_validation_data_says_so(name, value):
    tables = {"data": {"train": "x"}, "training": {name: value}}
    with pytest.raises(ConfigError, match=rf"training\.{name}: .* needs validation data"):
        Config.from_dict(tables)
    tables["data"]["validation"] = "y"
    assert getattr(Config.from_dict(tables).training, name) == value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
names = [field.name for field in dataclasses.fields(TrainingConfig)]


@given(st.dictionaries(st.sampled_from(names), json_values, max_size=4))
def test_no_table_raises_anything_else(table):
    try:
        section = from_table(TrainingConfig, table, "training")
    except ConfigError as error:
        assert "\n" not in str(error)
    else:
        assert from_table(TrainingConfig, to_table(section), "training") == section


MODELS = ["Bahdanau", "Luong", "Transformer", "Wu", "Cho", "Sutskever"]
EVERY = [
    DataConfig,
    VocabularyConfig,
    TrainingConfig,
    InferenceConfig,
    *(getattr(seq2seq, f"{m}Config") for m in MODELS),
]
WRONG = ["x", -1, 0, 1.5, True, None, math.nan, math.inf, 10**30, 10**5000, b"x", [1], {"a": 1}, int, object()]


def of(section):
    """The path of a section, its fields, and values that suit some of them."""
    return section._section, [field.name for field in dataclasses.fields(section)]


def said(make, name):
    """The value of a field, or the error in place of it."""
    try:
        return getattr(make(), name)
    except FastattnError as error:
        assert str(error).count("Hint: ") == 1 and len(str(error)) < 500
        return " ".join(str(error).split()).removeprefix("model: ")


@pytest.mark.parametrize("section", EVERY, ids=lambda section: section.__name__)
def test_python_and_a_table_are_checked_alike(section):
    path, names = of(section)
    refused = 0
    for one in ({name: value} for name in names for value in WRONG):
        [name] = one
        found = said(partial(section, **one), name)
        assert found == said(partial(from_table, section, one, path), name)
        assert found == said(partial(dataclasses.replace, section(), **one), name)
        refused += isinstance(found, str) and found.startswith((f"{path}.{name}: ", "mechanism"))
    assert refused > 8 * len(names)


@pytest.mark.parametrize("section", EVERY, ids=lambda section: section.__name__)
def test_what_means_the_same_becomes_the_same(section):
    default = section()
    for field in dataclasses.fields(section):
        value = getattr(default, field.name)
        same = [value]
        if type(value) is int:
            same += [np.int64(value), np.uint16(value), np.array(value)[()]]
        elif type(value) is float:
            same += [np.float64(value), *([int(value), np.int8(value)] if value == int(value) else [])]
        elif type(value) is bool:
            same += [np.bool_(value)]
        elif type(value) is str:
            same += [np.str_(value)]
        elif type(value) is tuple:
            same += [list(value), [np.float64(item) for item in value]]
        for other in same:
            found = getattr(dataclasses.replace(default, **{field.name: other}), field.name)
            assert found == value and type(found) is type(value), field.name
    assert dataclasses.replace(default) == default == copy.deepcopy(default) == pickle.loads(pickle.dumps(default))


def test_numbers_that_are_not_the_same_are_refused():
    for value in (np.float64(8), 8.0, np.float32(8.5), np.bool_(True), "8", np.array([8])):
        with pytest.raises(ConfigError, match=r"model\.hidden: expected an integer, got"):
            seq2seq.BahdanauConfig(hidden=value)
    assert TrainingConfig(rate=np.float32(0.25)).rate == 0.25


def test_a_path_is_a_str(tmp_path):
    assert DataConfig(train=tmp_path / "x").train == str(tmp_path / "x")


@pytest.mark.parametrize("wrong", [type("Mine", (), {}), "coverage", [("name", "coverage")], 3])
def test_a_mechanism_is_a_table(wrong):
    with pytest.raises(ConfigError, match=r"model\.mechanism: expected a table, got .*in Python pass a dict\."):
        seq2seq.BahdanauConfig(mechanism=wrong)


@pytest.mark.parametrize(
    "wrong", [object(), {1: 2}, [object()], {"a": {"b": math.nan}}, datetime.date(2020, 1, 1), b"x"]
)
def test_a_mechanism_holds_what_a_file_can(wrong):
    with pytest.raises(ConfigError, match=r"model\.mechanism\.normalizer"):
        seq2seq.BahdanauConfig(mechanism={"name": "additive", "normalizer": wrong})


def test_a_mechanism_is_copied():
    table = {"name": "additive", "normalizer": {"name": "entmax", "alpha": np.float64(1.3)}}
    config = seq2seq.BahdanauConfig(mechanism=table)
    table["normalizer"]["alpha"] = 1.7
    assert config.mechanism == {"name": "additive", "normalizer": {"name": "entmax", "alpha": 1.3}}
    assert json.dumps(to_table(config))


@pytest.mark.parametrize(
    ("section", "name", "hint"),
    [
        (TrainingConfig, "learning_rate", "did you mean 'rate'?"),
        (TrainingConfig, "lr", "did you mean 'rate'?"),
        (TrainingConfig, "Learning-Rate", "did you mean 'rate'?"),
        (TrainingConfig, "batch_size", "did you mean 'tokens_per_batch'?"),
        (TrainingConfig, "num_epochs", "did you mean 'epochs'?"),
        (TrainingConfig, "weight_decay", "did you mean 'decay'?"),
        (TrainingConfig, "max_grad_norm", "did you mean 'clip'?"),
        (TrainingConfig, "epochz", "did you mean 'epochs'?"),
        (TrainingConfig, "beam", "it belongs to [inference]."),
        (InferenceConfig, "num_beams", "did you mean 'beam'?"),
        (InferenceConfig, "rate", "it belongs to [training]."),
        (seq2seq.BahdanauConfig, "hidden_size", "did you mean 'hidden'?"),
        (seq2seq.LuongConfig, "num_layers", "did you mean 'layers'?"),
        (seq2seq.TransformerConfig, "d_model", "did you mean 'width'?"),
        (seq2seq.TransformerConfig, "hidden_size", "did you mean 'width'?"),
        (seq2seq.TransformerConfig, "n_heads", "did you mean 'heads'?"),
        (seq2seq.TransformerConfig, "num_layers", "did you mean 'encoder_layers'?"),
        (seq2seq.TransformerConfig, "epochs", "it belongs to [training]."),
        (DataConfig, "learning_rate", "did you mean 'rate', which belongs to [training]?"),
        (DataConfig, "d_model", "did you mean 'width', which belongs to [model]?"),
        (seq2seq.BahdanauConfig, "layers", "known are kind, embedding, hidden, attention, readout, readout_width,"),
        (VocabularyConfig, "vocab_size", "did you mean 'source_size'?"),
    ],
)
def test_names_of_other_libraries_are_answered_by_ours(section, name, hint):
    path, _ = of(section)
    for make in (lambda: section(**{name: 1}), lambda: from_table(section, {name: 1}, path),
                 lambda: dataclasses.replace(section(), **{name: 1})):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            make()
        assert str(caught.value).startswith(f"{path}.{name}: unknown key. Hint: {hint}")


def test_sections_are_answered_too():
    belongs = r"belongs to \[training\]"
    for name, hint in (("seed", rf"it {belongs}"), ("lr", rf"did you mean 'rate', which {belongs}\?")):
        with pytest.raises(ConfigError, match=hint):
            Config(model=Small(), **{name: 1})
        with pytest.raises(ConfigError, match=hint):
            Config.from_dict({name: 1})


def test_every_alias_is_for_a_setting_and_none_is_one():
    known = {name for section in EVERY for name in of(section)[1]}
    for name, own in ALIASES.items():
        assert set(own) <= known, name


@pytest.mark.parametrize("given", [None, {"rate": 1}, TrainingConfig, DataConfig(), 3])
def test_a_section_is_made_by_its_class(given):
    with pytest.raises(ConfigError, match=r"training: expected settings, got .* Hint: pass TrainingConfig\("):
        Config(model=Small(), training=given)
    with pytest.raises(ConfigError, match="model: expected settings"):
        Config(model=Small)
