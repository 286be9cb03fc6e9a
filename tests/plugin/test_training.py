"""A plugin's variant, named in a configuration file, is trained, saved, loaded and used."""

import sys
from pathlib import Path

import numpy as np
import pytest

from fastattn.errors import FastattnError
from fastattn.plugin import isolated
from fastattn.seq2seq import load, train

EXAMPLE = Path(__file__).resolve().parents[2] / "plugins" / "fastattn-lowrank"

TOML = """
[data]
train = "{pairs}"
validation = "{pairs}"

[vocabulary]
source = "char"
target = "char"

[model]
kind = "bahdanau"
embedding = 8
hidden = 16
attention = 8
readout_width = 8

[model.mechanism]
name = "low_rank"
rank = 5

[training]
epochs = 3
seed = 1
rate = 0.01
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


def test_a_variant_of_a_plugin_is_trained_from_a_configuration_file(lowrank, tmp_path):
    pytest.importorskip("safetensors", reason="checkpoints need it")
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcd"), rng.integers(2, 6))) for _ in range(60)]
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("".join(f"{word}\t{word[::-1]}\n" for word in words))
    file = tmp_path / "train.toml"
    file.write_text(TOML.format(pairs=pairs))
    train(file, tmp_path / "run", quiet=True)
    translator = load(tmp_path / "run")
    variant = translator.model.mechanism
    assert type(variant).__name__ == "LowRank" and variant.query.w.value.shape == (16, 5)
    assert "mechanism.query.w" in translator.model.parameters()
    assert len(translator.translate(["abc", "d"])) == 2
    assert translator.align("abc", "cba").weights.shape == (4, 4)
    with isolated(), pytest.raises(FastattnError, match="'low_rank'"):
        load(tmp_path / "run")
