"""What a wheel without a compiled module has to do on any system: attend, train, translate. Needs fastattn alone."""

import tempfile

import numpy as np

import fastattn
from fastattn.seq2seq import BahdanauConfig, Config, TrainingConfig, VocabularyConfig, load, train

assert fastattn.show_config(as_dict=True)["backend"] == "numba"
rng = np.random.default_rng(0)
query, memory = (rng.normal(size=(n, 16)).astype(np.float32) for n in (3, 7))
output = fastattn.attention(query, memory, memory, return_weights=True)
assert np.allclose(output.weights.sum(axis=1), 1) and np.allclose(output.weights @ memory, output.context, atol=1e-5)
words = "zero one two three".split()
pairs = [(f"{a}{b}", f"{words[a]} {words[b]}") for a in range(4) for b in range(4)]
config = Config(
    model=BahdanauConfig(embedding=16, hidden=32, attention=16, readout_width=16),
    vocabulary=VocabularyConfig(source="char", target="word"),
    training=TrainingConfig(epochs=40, rate=0.02),
)
with tempfile.TemporaryDirectory() as folder:
    train(config, folder, pairs=pairs, quiet=True)
    assert load(folder).translate(["31"]) == ["three one"]
