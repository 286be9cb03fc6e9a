"""Runs in bfloat16: which products are, the same bits however a run is cut, and what is said without a unit."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import training_runs
from stand_ins import of_processes
from training_runs import DATA, make_config, result

import fastattn
from fastattn import linear, seq2seq
from fastattn.errors import ConfigError
from fastattn.seq2seq.models.bahdanau import Bahdanau

pytest.importorskip("safetensors", reason="checkpoints need safetensors")

SETTINGS = {"precision": "bfloat16", "max_steps": 6, "shards": 4}
TRANSFORMER = {
    "model": seq2seq.TransformerConfig(width=16, heads=2, inner=24, encoder_layers=1, decoder_layers=2, dropout=0.2),
    "sampling": 0.0,
}

# Where there is no unit, its model: a process of its own, which says what it is.
ON_THE_MODEL = f"""
import sys, tempfile
from pathlib import Path
sys.path[:0] = [{str(Path(training_runs.__file__).parent)!r}, {str(Path(__file__).parent)!r}]
import fastattn
import test_precision
with tempfile.TemporaryDirectory() as folder:
    given = test_precision.TRANSFORMER if sys.argv[1] == "transformer" else dict()
    found = [test_precision.cut(Path(folder, "cut"), max_steps=3, **given)]
    for kind in ("bfloat16", "float32"):
        found.append(test_precision.alone(Path(folder, kind), max_steps=3, precision=kind, **given))
print(fastattn.show_config(as_dict=True)["level"], found[0] == found[1], found[1][0] == found[2][0])
"""


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch):
    """Matrices of these models are for the matrix unit, where there is one."""
    monkeypatch.setattr(linear, "LEAST_FOR_TILES", 1)


def train(folder, *, model=None, resume=False, processes=None, quiet=True, **settings):
    config = make_config(**{**SETTINGS, **settings})
    config = replace(config, model=model or config.model)
    given = {"pairs": DATA[0], "validation": DATA[1], "resume": resume, "processes": processes, "quiet": quiet}
    return seq2seq.train(config, folder, **given)


def alone(folder, **settings):
    linear.LEAST_FOR_TILES = 1
    train(folder, **settings)
    return result(folder)


def cut(folder, **settings):
    """The result of a run that ended after each step, and went on with another number of threads."""
    linear.LEAST_FOR_TILES = 1
    threads = fastattn.get_num_threads()
    try:
        for steps in range(1, settings["max_steps"] + 1):
            fastattn.set_num_threads(steps % 3 + 1)
            train(folder, resume=steps > 1, **{**settings, "max_steps": steps})
    finally:
        fastattn.set_num_threads(threads)
    return result(folder)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "LEAST_FOR_TILES", 1)
        return alone(tmp_path_factory.mktemp("precision") / "run")


def test_a_run_that_goes_on_has_the_same_bits(tmp_path, expected):
    assert cut(tmp_path, max_steps=6) == expected


def test_a_run_of_a_transformer_has_too(tmp_path):
    whole, parts = alone(tmp_path / "whole", **TRANSFORMER), cut(tmp_path / "cut", max_steps=6, **TRANSFORMER)
    assert parts == whole


@pytest.mark.parametrize("count", [2, 3])
def test_any_number_of_processes_gives_the_same_bits(tmp_path, expected, count):
    outcomes = of_processes.together(count, lambda processes: train(tmp_path, processes=processes))
    assert isinstance(outcomes[0], seq2seq.Outcome), outcomes
    assert result(tmp_path) == expected


def test_the_bits_are_others_where_there_is_a_unit(tmp_path, expected):
    found = alone(tmp_path, precision="float32")
    losses = [[line["loss"] for line in log if "loss" in line] for *_, log in (expected, found)]
    assert (losses[0] == losses[1]) is not linear.has_unit()
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


@pytest.mark.parametrize("model", ["bahdanau", "transformer"])
def test_runs_on_the_model_of_the_unit(run_python, model):
    if "amx_model" not in fastattn.show_config(as_dict=True)["levels_built"]:
        pytest.skip("this build has no model of the unit")
    done = run_python("-c", ON_THE_MODEL, model, FASTATTN_ISA="amx_model")
    assert done.stdout.split() == ["amx_model", "True", "False"]


@pytest.mark.parametrize("of_process", ["highest", "batched", "high", "medium"])
@pytest.mark.parametrize(("kind", "of_steps"), [("float32", "batched"), ("bfloat16", "medium")])
def test_precisions_of_steps_and_of_validations(tmp_path, monkeypatch, kind, of_steps, of_process):
    seen = {"loss": set(), "loss_vjp": set(), "translate": set()}

    def watched(owner, name):
        plain = getattr(owner, name)

        def method(self, *args, **options):
            seen[name].add(fastattn.get_float32_precision())
            return plain(self, *args, **options)

        monkeypatch.setattr(owner, name, method)

    watched(Bahdanau, "loss")
    watched(Bahdanau, "loss_vjp")
    watched(seq2seq.Translator, "translate")
    with fastattn.float32_precision(of_process):
        train(tmp_path, precision=kind, max_steps=3, metric="per")
        assert fastattn.get_float32_precision() == of_process
    # A checkpoint asks for the loss of the last step's batches once more.
    assert seen == {"loss": {"highest", of_steps}, "loss_vjp": {of_steps}, "translate": {"highest"}}


@pytest.mark.parametrize(("before", "after"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_a_run_keeps_its_precision(tmp_path, before, after):
    train(tmp_path, precision=before, max_steps=1)
    with pytest.raises(ConfigError, match=r"the run began with another training\.precision\."):
        train(tmp_path, precision=after, resume=True)
    assert train(tmp_path, precision=before, resume=True).steps == 6


def test_it_is_said_where_nothing_is_gained(tmp_path, monkeypatch, capsys):
    line = r'^training\.precision: "bfloat16" is "float32" here: the level \w+ has no matrix unit$'
    for unit in (True, False):
        monkeypatch.setattr(linear, "has_unit", lambda unit=unit: unit)
        for kind in ("float32", "bfloat16"):
            train(tmp_path / f"{kind}{unit}", precision=kind, max_steps=1, quiet=False)
            said = re.search(line, capsys.readouterr().err, re.MULTILINE) is not None
            assert said is (kind == "bfloat16" and not unit)


@pytest.mark.parametrize("name", ["amp", "bf16", "mixed_precision"])
def test_names_of_others_are_answered(name):
    with pytest.raises(ConfigError, match="did you mean 'precision'"):
        seq2seq.Config.from_dict({"model": {"kind": "bahdanau"}, "training": {name: True}})
