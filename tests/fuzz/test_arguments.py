"""5000 random wrong calls of all that takes or returns arrays, and that all of it is among them."""

import importlib
import inspect
import pkgutil
import sys
from pathlib import Path

import numpy as np
import pytest

import fastattn

sys.path.append(str(Path(__file__).parent))

import arguments
import entries
import spoil

# Public names that neither take nor return arrays, by module.
LEFT_OUT = {
    "fastattn": "ArgumentError DTypeError FastattnError PluginError ShapeError UnsupportedError __version__ "
    "float32_precision get_float32_precision get_include get_num_threads mask_mod pairwise_score row_function "
    "score_mod set_float32_precision set_num_threads show_config",
    "fastattn.seq2seq": "BOS EOS PAD UNK BahdanauConfig Callback ChoConfig Config DataConfig Event InferenceConfig "
    "LuongConfig RateCurve Stopped SutskeverConfig TensorBoard TrainingConfig TransformerConfig TranslationStep "
    "VocabularyConfig WuConfig find_rate kinds pharaoh read_vocabulary",
    "fastattn.variants": "check_normalized",
}
# Commands, settings, errors, plugins, adapters: they have no arrays, and fuzzers or tests of their own.
OTHER_MODULES = {"cli", "commands", "config", "errors", "interop", "jit", "plugin", "precision", "scale", "verify"}


def modules():
    yield fastattn
    for found in pkgutil.iter_modules(fastattn.__path__, "fastattn."):
        name = found.name.removeprefix("fastattn.")
        if not name.startswith("_") and name not in OTHER_MODULES and name != "attention":
            yield importlib.import_module(found.name)


def test_every_public_name_is_called():
    """What is new needs an entry in tests/fuzz/entries.py, or a place in LEFT_OUT."""
    names = ((module, name) for module in modules() for name in module.__all__)
    public = {f"{module.__name__}.{name}" for module, name in names if not inspect.ismodule(getattr(module, name))}
    left_out = {f"{module}.{name}" for module, names in LEFT_OUT.items() for name in names.split()}
    assert public - entries.COVERED - left_out == set()
    assert left_out - public == set()


@pytest.mark.parametrize("first", range(0, 5000, 1000))
def test_random_calls_work_or_are_refused(first):
    found, counts = arguments.search(1000, seed=7, first=first)
    assert not found, "\n".join(found)
    assert counts.total() >= 1000


def test_what_a_call_may_not_do_is_noticed():
    def writes(array):
        array[...] = 3

    def raises(array):
        raise IndexError("raw")

    for function in (writes, raises):
        z = spoil.Draw(np.random.default_rng(0))
        z.spoil_within = lambda value: value
        with pytest.raises(spoil.WrongAnswerError, match=inspect.unwrap(function).__name__):
            z.call(function, np.ones(3))
