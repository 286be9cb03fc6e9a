"""Decoders take any variant by name: in Python, and from a configuration file to a trained model."""

import dataclasses

import numpy as np
import pytest
from checks import same_bits
from seq2seq_cases import SOURCE_SIZE, TARGET_SIZE, check_gradients, random_pairs

import fastattn
from fastattn.errors import ArgumentError, ConfigError, ShapeError, UnsupportedError
from fastattn.losses import coverage_loss
from fastattn.seq2seq import BOS, BahdanauConfig, LuongConfig, beam_search, build, load, read_config, train

SMALL = {"embedding": 5, "hidden": 6, "attention": 7, "readout_width": 4}
OPTIONS = {
    "luong": {"score": "concat"},
    "local_p": {"window": 2},
    "local_m": {"window": 1},
    "additive_multihead": {"heads": 2},
    "multihead": {"heads": 3, "key_heads": 1},
    "location_sensitive": {"filters": 2, "filter_size": 3, "smoothing": True},
    "monotonic": {"search": "soft", "offset": -1.0},
    "hard": {"training": "reinforce"},
    "mocha": {"search": "soft", "offset": -1.0},
    "dot": None,
    "scaled_dot": None,
    "cosine": None,
    "l2": None,
    "pooling": None,
    "causal_self_attention": None,
}
LOOPS = [name for name in fastattn.variants.names() if OPTIONS.get(name, {}) is not None]
# The queries of Luong's decoder are as wide as the memory.
OF_LUONG = [*LOOPS, "dot", "scaled_dot", "cosine", "l2"]
LITTLE = {"embedding": 5, "hidden": 6, "layers": 2}


def make(name, dtype=np.float32, readout="maxout", **options):
    table = {"name": name, **OPTIONS.get(name, {}), **options}
    return build(BahdanauConfig(**SMALL, readout=readout, mechanism=table), SOURCE_SIZE, TARGET_SIZE, 1, dtype)


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("readout", ["maxout", "linear"])
def test_gradients_through_the_loop_are_those_of_central_differences(name, readout):
    check_gradients(make(name, np.float64, readout))


def make_luong(name, dtype=np.float32, feeding=True, **options):
    table = {"name": name, **(OPTIONS.get(name) or {}), **options}
    config = LuongConfig(**LITTLE, dropout=0.1, input_feeding=feeding, mechanism=table)
    return build(config, SOURCE_SIZE, TARGET_SIZE, 1, dtype)


@pytest.mark.parametrize("name", OF_LUONG)
@pytest.mark.parametrize("feeding", [True, False])
def test_gradients_through_the_loop_of_luong_are_those_of_central_differences(name, feeding):
    check_gradients(make_luong(name, np.float64, feeding))


@pytest.mark.parametrize(
    "made",
    [*(pytest.param(lambda name=name: make(name), id=name) for name in LOOPS),
     *(pytest.param(lambda name=name: make_luong(name), id=f"luong-{name}") for name in OF_LUONG)],
)  # fmt: skip
def test_steps_and_beams_give_the_bits_of_forced(made):
    model, batch = made(), random_pairs()
    log_probabilities, weights = model.teacher_forcing(batch)
    rows = np.array([3, 0, 1, 2])
    state, tokens = model.encode(batch.source[rows], batch.source_lengths[rows]), np.full(4, BOS)
    state = state.select(np.argsort(rows))
    for t in range(batch.target.shape[1]):
        row, state, attended = model.step(tokens, state)
        tokens, alive = batch.target[:, t], t < batch.target_lengths
        assert same_bits(row[np.arange(4), tokens][alive], log_probabilities[alive, t])
        assert same_bits(attended[alive], weights[alive, t])


def trained_bits(config):
    """What a model of a configuration gives, and the gradients of its parameters."""
    model, batch = build(config, SOURCE_SIZE, TARGET_SIZE, 1), random_pairs()
    loss, _, backward = model.loss_vjp(batch, seeds=np.arange(4, dtype=np.uint64))
    backward()
    return [*model.teacher_forcing(batch), np.array(loss), *(p.gradient for p in model.parameters().values())]


@pytest.mark.parametrize("feeding", [True, False])
@pytest.mark.parametrize(
    ("score", "table"),
    [("general", {"name": "luong"}), ("dot", {"name": "luong", "score": "dot"}), ("concat", {"name": "concat"}),
     ("location", {"name": "location", "longest": 9}), ("coverage", {"name": "coverage"})],
)  # fmt: skip
def test_a_score_and_a_table_of_its_name_are_the_same_attention(score, table, feeding):
    sizes = {**LITTLE, "input_feeding": feeding, "longest_source": 9}
    assert same_bits(*map(trained_bits, (LuongConfig(**sizes, score=score), LuongConfig(**sizes, mechanism=table))))


def test_bahdanaus_attention_is_the_variant_of_its_name():
    configs = BahdanauConfig(**SMALL), BahdanauConfig(**SMALL, mechanism={"name": "bahdanau"})
    assert same_bits(*map(trained_bits, configs))


@pytest.mark.parametrize("name", ["monotonic", "mocha", "hard"])
def test_a_search_with_luong_decides_where_training_does_not(name):
    options = {"training": "gumbel"} if name == "hard" else {"search": "hard"}
    model, batch = make_luong(name, **options), random_pairs(5, 7)
    found = beam_search(model, batch.source, batch.source_lengths, size=3, weights=True)
    for b, hypotheses in enumerate(found):
        if name != "mocha":
            assert np.isin(hypotheses[0].weights, (0, 1)).all()
        one = batch.row(b)
        alone = beam_search(model, one.source, one.source_lengths, size=3, weights=True)[0]
        assert all(same_bits(x.weights, y.weights) for x, y in zip(alone, hypotheses, strict=True))


@pytest.mark.parametrize("name", ["monotonic", "hard"])
def test_what_is_random_in_training_of_luong_follows_the_seeds(name):
    model = make_luong(name, **({"training": "gumbel"} if name == "hard" else {"noise": 1.0}))
    batch = random_pairs()
    losses = [model.loss_vjp(batch, seeds=np.arange(first, first + 4, dtype=np.uint64))[0] for first in (0, 0, 4)]
    assert losses[0] == losses[1] != losses[2]


def test_a_score_of_luong_excludes_a_mechanism():
    with pytest.raises(ConfigError, match="score: expected 'general' with a mechanism, got 'dot'"):
        LuongConfig(**LITTLE, score="dot", mechanism={"name": "coverage"})


@pytest.mark.parametrize(
    ("error", "words", "table"),
    [
        (ArgumentError, "a name", {}),
        (ArgumentError, "did you mean 'coverage'", {"name": "coverag"}),
        (ArgumentError, "mechanism.heads", {"name": "coverage", "heads": 3}),
        (ArgumentError, "mechanism.query_width", {"name": "coverage", "query_width": 3}),
        (ArgumentError, "query_width", {"name": "pooling"}),
        (UnsupportedError, "loop", {"name": "causal_self_attention", "heads": 2}),
        (UnsupportedError, "normalizer: expected none with 'coverage'", {"name": "coverage", "normalizer": "softmax"}),
    ],
)
def test_what_cannot_be_the_attention_of_luong_is_refused(error, words, table):
    with pytest.raises(error, match=words):
        build(LuongConfig(**LITTLE, mechanism=table), SOURCE_SIZE, TARGET_SIZE, 1)


@pytest.mark.parametrize(
    ("error", "words", "table"),
    [
        (ArgumentError, "a name", {}),
        (ArgumentError, "did you mean 'coverage'", {"name": "coverag"}),
        (ArgumentError, "mechanism.heads", {"name": "coverage", "heads": 3}),
        (ArgumentError, "mechanism.query_width", {"name": "coverage", "query_width": 3}),
        (ArgumentError, "query_width", {"name": "pooling"}),
        (ShapeError, "memory_width", {"name": "linear", "terms": ["x*y"]}),
        (UnsupportedError, "loop", {"name": "causal_self_attention", "heads": 2}),
    ],
)
def test_what_cannot_be_a_decoders_attention_is_refused(error, words, table):
    with pytest.raises(error, match=words):
        build(BahdanauConfig(**SMALL, mechanism=table), SOURCE_SIZE, TARGET_SIZE, 1)


BOTH = pytest.mark.parametrize(("config", "sizes"), [(BahdanauConfig, SMALL), (LuongConfig, LITTLE)])


@BOTH
@pytest.mark.parametrize("mechanism", [None, {"name": "coverage"}])
def test_the_coverage_loss_counts_target_positions_once_each(config, sizes, mechanism):
    options = {"mechanism": mechanism, "dropout": 0.0}
    models = [
        build(config(**sizes, **options, coverage_loss=factor), SOURCE_SIZE, TARGET_SIZE, 1, np.float64)
        for factor in (0.0, 0.7)
    ]
    batch = random_pairs(6, 7)
    plain, with_coverage = (model.loss_vjp(batch, seeds=np.arange(6, dtype=np.uint64))[0] for model in models)
    weights = models[0].teacher_forcing(batch)[1]
    expected = sum(
        coverage_loss(weights[b : b + 1, : batch.target_lengths[b]]).sum() for b in range(len(batch.target_lengths))
    )
    assert expected > 1
    assert np.isclose(with_coverage - plain, 0.7 * expected, rtol=1e-10)


@BOTH
def test_the_doubly_stochastic_loss_counts_neither_padding_of_the_source_nor_of_the_target(config, sizes):
    options = {"mechanism": {"name": "gated_additive"}, "dropout": 0.0}
    models = [
        build(config(**{**sizes, **options, **more}), SOURCE_SIZE, TARGET_SIZE, 1, np.float64)
        for more in ({}, {"doubly_stochastic_loss": 0.7}, {"doubly_stochastic_loss": 0.7, "coverage_loss": 0.2})
    ]
    batch = random_pairs(6, 7)
    plain, lossy, both = (model.loss_vjp(batch, seeds=np.arange(6, dtype=np.uint64))[0] for model in models)
    weights = models[0].teacher_forcing(batch)[1]
    real = [w[:t, :s] for w, t, s in zip(weights, batch.target_lengths, batch.source_lengths)]
    expected = sum(((1 - w.sum(axis=0)) ** 2).sum() for w in real)
    assert len({w.shape for w in real}) > 3
    assert np.isclose(lossy - plain, 0.7 * expected, rtol=1e-10)
    assert np.isclose(both - lossy, 0.2 * sum(coverage_loss(w[None]).sum() for w in real), rtol=1e-10)


@pytest.mark.parametrize("loss", ["coverage_loss", "doubly_stochastic_loss"])
@pytest.mark.parametrize("factor", [-1.0, np.nan])
@BOTH
def test_a_loss_of_weights_needs_a_factor(loss, factor, config, sizes):
    with pytest.raises(ConfigError, match=f"{loss}: expected"):
        build(config(**sizes, **{loss: factor}), SOURCE_SIZE, TARGET_SIZE, 1)


@pytest.mark.parametrize("loss", ["coverage_loss", "doubly_stochastic_loss"])
@BOTH
def test_a_loss_of_weights_needs_one_head(loss, config, sizes):
    table = {"name": "multihead", "heads": 2}
    with pytest.raises(ConfigError, match=f"^model.{loss}: .* mechanism with one head"):
        config(**sizes, mechanism=table, **{loss: 1.0})
    config(**sizes, mechanism=table)


TOML = """
[data]
train = "pairs.tsv"
[vocabulary]
source = "char"
target = "char"
[model]
embedding = 8
hidden = 8
attention = 8
readout_width = 8
[model.mechanism]
name = "location_sensitive"
filters = 3
filter_size = 5
[training]
epochs = 2
"""


def test_a_variant_named_in_a_file_is_trained_and_loaded(tmp_path):
    pytest.importorskip("safetensors", reason="checkpoints need it")
    (tmp_path / "pairs.tsv").write_text("abc\tcba\nab\tba\nca\tac\n")
    (tmp_path / "model.toml").write_text(TOML)
    train(tmp_path / "model.toml", tmp_path / "run", quiet=True)
    translator = load(tmp_path / "run", "last")
    assert translator.model.mechanism.name == "location_sensitive"
    assert "mechanism.filters" in translator.model.parameters()
    assert translator.model.config.mechanism["filters"] == 3
    assert len(translator.translate(["ab", "c"])) == 2
    assert translator.align("ab", "ba").weights.shape == (3, 3)


@pytest.mark.parametrize("feeding", ["true", "false"])
@pytest.mark.parametrize(
    ("name", "options"),
    [("location_sensitive", "filters = 3\nfilter_size = 5"), ("bahdanau", 'normalizer = "entmax15"'),
     ("bahdanau", 'normalizer = {name = "entmax", alpha = 1.3}'), ("hard", ""), ("multihead", "heads = 2")],
)  # fmt: skip
def test_a_variant_for_luong_named_in_a_file_is_trained_and_loaded(tmp_path, name, options, feeding):
    pytest.importorskip("safetensors", reason="checkpoints need it")
    (tmp_path / "pairs.tsv").write_text("abc\tcba\nab\tba\nca\tac\n")
    old = "embedding = 8\nhidden = 8\nattention = 8\nreadout_width = 8\n"
    new = f'kind = "luong"\nembedding = 8\nhidden = 8\nlayers = 2\ninput_feeding = {feeding}\n'
    text = TOML.replace(old, new).replace('name = "location_sensitive"\nfilters = 3\nfilter_size = 5', "TABLE")
    (tmp_path / "model.toml").write_text(text.replace("TABLE", f'name = "{name}"\n{options}'))
    train(tmp_path / "model.toml", tmp_path / "run", quiet=True)
    translator = load(tmp_path / "run", "last")
    assert translator.model.config.kind == "luong" and translator.model.config.mechanism["name"] == name
    assert any(path.startswith("mechanism.") for path in translator.model.parameters())
    assert len(translator.translate(["ab", "c"])) == len(translator.translate(["ab", "c"], beam=3)) == 2
    weights = translator.align("ab", "ba").weights  # (T, S), or (T, H, S)
    assert weights.shape == ((3, 2, 3) if name == "multihead" else (3, 3))


@pytest.mark.parametrize("kind", ["cho", "sutskever", "transformer"])
def test_models_without_a_choice_of_attention_say_so(tmp_path, kind):
    (tmp_path / "model.toml").write_text(f'[model]\nkind = "{kind}"\n[model.mechanism]\nname = "coverage"\n')
    with pytest.raises(ConfigError, match=r"model.mechanism: "):
        read_config(tmp_path / "model.toml")


@pytest.mark.parametrize(
    ("words", "old", "new"),
    [
        (r"model: .*did you mean 'location_sensitive'", '"location_sensitive"', '"location_sensitiv"'),
        (r"model: mechanism.filtres", "filters = 3", "filtres = 3"),
        (r"model: normalizer: expected none with 'location_sens", "filters = 3", 'normalizer = "sparsemax"'),
        (
            r"model: normalizer: .*did you mean 'sparsemax'",
            '"location_sensitive"\nfilters = 3\nfilter_size = 5',
            '"additive"\nnormalizer = "sparsmax"',
        ),
        (r"model.mechanism: expected a table", "[model.mechanism]\n", "mechanism = 3\n[inference]\n"),
    ],
)
def test_faults_of_the_table_are_said_in_one_line(tmp_path, words, old, new):
    text = TOML.replace(old, new)
    if "inference" in new:
        text = text[: text.index("[inference]")] + "[training]\nepochs = 2\n"
    (tmp_path / "model.toml").write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        read_config(tmp_path / "model.toml")
    assert "\n" not in str(caught.value)


def test_a_configuration_without_a_mechanism_is_written_as_before():
    assert "mechanism" not in {key for key, value in dataclasses.asdict(BahdanauConfig()).items() if value is not None}
