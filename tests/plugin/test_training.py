"""Plugins' scores and models, named in a configuration file, are trained, saved, loaded and used."""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import fastattn
from fastattn import scores
from fastattn.commands.new_plugin import write
from fastattn.errors import CheckpointError, ConfigError, FastattnError
from fastattn.plugin import ModelRecord, ScoreRecord, isolated
from fastattn.scores import Modified
from fastattn.seq2seq import BOS, Batch, Config, build, kinds, load, train

EXAMPLE = Path(__file__).resolve().parents[2] / "plugins" / "fastattn-lowrank"

TOML = """
[data]
train = "{pairs}"
validation = "{pairs}"

[vocabulary]
source = "char"
target = "char"

{model}
[training]
epochs = 3
seed = 1
rate = 0.01
"""


MECHANISM = """
[model]
kind = "bahdanau"
embedding = 8
hidden = 16
attention = 8
readout_width = 8

[model.mechanism]
name = "low_rank"
rank = 5
"""


@pytest.fixture
def lowrank(monkeypatch):
    if not EXAMPLE.exists():
        pytest.skip("the examples are in the checkout only")
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import fastattn_lowrank

    with isolated({"lowrank": fastattn_lowrank}):
        yield
    for name in [name for name in sys.modules if name.startswith("fastattn_lowrank")]:
        del sys.modules[name]


def trained(folder, model):
    pytest.importorskip("safetensors", reason="checkpoints need it")
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcd"), rng.integers(2, 6))) for _ in range(60)]
    pairs = folder / "pairs.tsv"
    pairs.write_text("".join(f"{word}\t{word[::-1]}\n" for word in words))
    file = folder / "train.toml"
    file.write_text(TOML.format(pairs=pairs, model=model))
    train(file, folder / "run", quiet=True)
    return load(folder / "run")


def test_a_score_of_a_plugin_is_trained_from_a_configuration_file(lowrank, tmp_path):
    translator = trained(tmp_path, MECHANISM)
    variant = translator.model.mechanism
    assert variant.name == "low_rank" and variant.trained["a"].value.shape == (16, 5)
    assert "mechanism.a" in translator.model.parameters()
    assert len(translator.translate(["abc", "d"])) == 2
    assert translator.align("abc", "cba").weights.shape == (4, 4)
    with isolated(), pytest.raises(FastattnError, match="'low_rank'"):
        load(tmp_path / "run")


class Capped(Modified):
    """A dot product under a learned cap that falls with the step."""

    name = "capped"

    def __init__(self, cap):
        def capped(score, b, h, i, j, cap):
            return cap * np.tanh(score / cap) / (1 + 0.1 * i)

        super().__init__("dot", fastattn.score_mod(capped)(cap=cap))

    @classmethod
    def drawn(cls, query_width, key_width, *, rng, dtype):
        return cls(np.array(2, dtype))


@pytest.mark.parametrize("kind", ["bahdanau", "luong"])
def test_a_score_with_a_function_is_trained_from_a_configuration_file(kind, tmp_path, monkeypatch):
    registry = fastattn.scores.registry.REGISTRY
    monkeypatch.setattr(registry, "_own", dict(registry._own))
    fastattn.scores.register(ScoreRecord("capped", Capped, "c tanh(q . k / c)"))
    more = "readout_width = 8\n" if kind == "bahdanau" else ""
    translator = trained(tmp_path, f'[model]\nkind = "{kind}"\nscore = "capped"\nembedding = 8\nhidden = 16\n{more}')
    mechanism = translator.model.mechanism
    assert mechanism.positioned and mechanism.trained["cap"].value != 2
    words = ["abc", "d", "dcba"]
    assert translator.translate(words) == [translator.translate([word])[0] for word in words]
    weights = translator.align("abc", "cba").weights
    assert weights.shape == (4, 4) and np.allclose(weights.sum(axis=1), 1, atol=1e-6)
    found = [one[0] for one in translator.search(words)]
    forced = translator.score(words, [one.text for one in found])  # all steps at once, where searches take one
    assert all(one.finished for one in found)
    for one, other in zip(found, forced, strict=True):
        assert abs(one.log_probability - other.log_probability) < 1e-4


@pytest.mark.parametrize("kind", ["python", "score"])
def test_a_new_package_trains_in_the_default_model(kind, monkeypatch, tmp_path):
    """What `fastattn new-plugin` writes, its score named beside the sizes of a small model and nothing else."""
    monkeypatch.syspath_prepend(str(write("fresh_score", kind, tmp_path)))
    with isolated({"fresh_score": importlib.import_module("fastattn_fresh_score")}):
        sizes = "embedding = 8\nhidden = 16\nreadout_width = 8\n"
        translator = trained(tmp_path, f'[model]\nscore = "fresh_score"\n{sizes}')
        assert translator.model.config.kind == "bahdanau" and translator.model.mechanism.name == "fresh_score"
        sides = (len(translator.source_vocabulary), len(translator.target_vocabulary))
        new = build(translator.model.config, *sides, seed=1)
        found, began = (model.parameters()["mechanism.w"].value for model in (translator.model, new))
        assert found.shape == (new.mechanism.memory_width,) and np.abs(found - began).max() > 1e-3
        assert len(translator.translate(["abc", "d"])) == 2
        assert translator.align("abc", "cba").weights.shape == (4, 4)
    sys.modules.pop("fastattn_fresh_score")
    with isolated(), pytest.raises(FastattnError, match="'fresh_score'"):
        load(tmp_path / "run")


GUIDE = Path(__file__).resolve().parents[2] / "docs" / "plugins.md"


def of_the_guide(name):
    """A module of the block of the guide that has a name in it."""
    if not GUIDE.exists():
        pytest.skip("the guide is in the checkout only")
    [code] = [block for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL) if name in block]
    made = ModuleType(f"fastattn_{name.lower()}")
    exec(code, vars(made))
    return made


@pytest.fixture
def lookup():
    made = of_the_guide("Lookup")
    with isolated({"lookup": made}):
        yield made


@pytest.mark.parametrize("kind", ["bahdanau", "luong"])  # queries and memory of two widths, and of one
def test_a_pairwise_score_that_a_program_registers_is_trained_from_a_configuration_file(kind, monkeypatch, tmp_path):
    monkeypatch.setattr(scores.registry.REGISTRY, "_own", dict(scores.registry.REGISTRY.built_in))
    of_the_guide("WeightedL1")
    sizes = {"bahdanau": "score = 'weighted_l1'\nreadout_width = 8", "luong": "mechanism = {name = 'weighted_l1'}"}
    translator = trained(tmp_path, f"[model]\nkind = '{kind}'\n{sizes[kind]}\nembedding = 8\nhidden = 16\n")
    variant = translator.model.mechanism
    assert variant.name == "weighted_l1" and (variant.query_width == variant.memory_width) == (kind == "luong")
    sides = (len(translator.source_vocabulary), len(translator.target_vocabulary))
    began = build(translator.model.config, *sides, seed=1).parameters()["mechanism.w"].value
    assert np.abs(translator.model.parameters()["mechanism.w"].value - began).max() > 1e-3
    assert len(translator.translate(["abc", "d"], beam=3)) == 2
    assert translator.align("abc", "cba").weights.shape == (4, 4)


def test_the_model_of_the_guide_is_trained_from_a_configuration_file(lookup, tmp_path):
    translator = trained(tmp_path, '[model]\nkind = "lookup"\nwidth = 16\n')
    model = translator.model
    assert type(model) is lookup.Lookup and model.config == lookup.LookupConfig(width=16)
    assert model.source.w.value.shape[1] == 16 and "lookup" in kinds()
    assert len(translator.translate(["abc", "d"], beam=3)) == 2
    assert translator.align("abc", "cba").weights.shape == (4, 4)
    (tmp_path / "more.toml").write_text((tmp_path / "train.toml").read_text().replace("epochs = 3", "epochs = 4"))
    assert train(tmp_path / "more.toml", tmp_path / "run", resume=True, quiet=True).steps > 0
    with isolated(), pytest.raises(CheckpointError, match=r"no kind of model is called 'lookup'.*and its plugins"):
        load(tmp_path / "run")


def test_the_model_of_the_guide_has_right_gradients_and_one_result(lookup):
    model = build(lookup.LookupConfig(width=4), 9, 10, seed=0, dtype=np.float64)
    rng = np.random.default_rng(0)
    batch = Batch(
        source=rng.integers(4, 9, (3, 5)), source_lengths=np.array([5, 2, 4]), target=rng.integers(4, 10, (3, 4)),
        target_lengths=np.array([4, 3, 1]), indices=np.arange(3),
    )  # fmt: skip
    seeds = np.arange(3, dtype=np.uint64)
    _, _, backward = model.loss_vjp(batch, seeds=seeds)
    backward(1.0)
    for name, parameter in model.parameters().items():
        direction = rng.normal(size=parameter.value.shape)
        start, losses = parameter.value.copy(), []
        for step in (1e-6, -1e-6):
            parameter.assign(start + step * direction)
            losses.append(model.loss(batch)[0])
        parameter.assign(start)
        slope = (losses[0] - losses[1]) / 2e-6
        assert abs(slope - (direction * parameter.gradient).sum()) < 1e-7 * max(1, abs(slope)), name
    forced, weights = model.teacher_forcing(batch)
    state, tokens = model.encode(batch.source, batch.source_lengths), np.full(3, BOS)
    for t in range(4):
        found, state, attended = model.step(tokens, state)
        tokens = batch.target[:, t]
        reads = t < batch.target_lengths
        assert (found[np.arange(3), tokens] == forced[:, t])[reads].all() and (attended == weights[:, t])[reads].all()


def test_a_model_of_a_plugin_that_cannot_be_made_is_named():
    hooks = ModuleType("hooks")
    hooks.fastattn_models = lambda: [ModelRecord("gone", "no.such:Model", settings="no.such:Settings")]
    with isolated({"mine": hooks}):
        assert "gone" in kinds()  # a listing imports nothing
        with pytest.raises(ConfigError, match=r"model\.kind: gone: no\.such:Settings cannot be imported"):
            Config.from_dict({"model": {"kind": "gone"}})
