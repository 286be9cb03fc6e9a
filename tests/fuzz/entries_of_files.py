"""Right calls of what reads and writes files, draws, trains or checks, for the fuzzer of arguments: see `entries`."""

import contextlib
import functools
import io
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from entries import entry
from seq2seq_cases import CASES as MODELS
from seq2seq_cases import TINY

from fastattn import normalizers, scores, seq2seq, testing, variants, viz

PAIRS = [("a b", "b a"), ("b", "b"), ("c a", "a c")]


@contextlib.contextmanager
def in_a_folder():
    """Work in an empty folder, where a wrong path does no harm, and keep what is said to oneself."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def settings(model, steps):
    training = seq2seq.TrainingConfig(epochs=0, max_steps=steps, tokens_per_batch=40, max_length=10)
    return seq2seq.Config(model=model, training=training)


@functools.cache
def trained():
    """A run's folder, which stays for all cases."""
    folder = tempfile.mkdtemp()
    seq2seq.train(settings(MODELS["cho"], 1), folder, pairs=PAIRS, quiet=True)
    return folder


@entry("fastattn.seq2seq.read_lines", "fastattn.seq2seq.read_pairs")
def files(z):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.tsv")
        path.write_bytes(z.pick(b"a b\tc\nd\te\n", b"\xff\xfe", b"", b"a\0\tb\n", b"\x1f\x8b", b"a\n"))
        if z.chance():
            z.call(seq2seq.read_lines, z.pick(path, str(path), folder), strict=z.chance())
        else:
            z.call(seq2seq.read_pairs, z.pick(path, str(path)), columns=z.pick(None, (0, 1)), strict=z.chance())


@entry(*(f"fastattn.viz.{name}" for name in viz.__all__))
def pictures(z):
    source, target = ["a", "b", "c"], ["x", "y"]
    weights = np.abs(z.floats(len(target), len(source)))
    weights /= weights.sum(-1, keepdims=True)
    picture, maps = z.floats(4, 6, z.pick(1, 3)), np.abs(z.floats(2, 2, 3)) * 0.01
    what = z.pick("page", "gallery", "picture", "heatmap", "overlay", "save")
    if what == "page":
        z.call(viz.page, weights, source, target, title="t", normalized=True)
    elif what == "gallery":
        z.call(viz.gallery, [(weights, source, target)], title="t", layers=None, heads=None)
    elif what == "heatmap":
        options = {"numbers": z.pick(None, True), "colorbar": z.pick(None, False), "cmap": "cividis", "vmax": 1.0}
        z.call(viz.heatmap, weights, source, target, title="t", longest=24, normalized=True, **options)
    elif what == "overlay":
        options = {"columns": z.pick(None, 2), "cmap": "inferno", "opacity": 0.6, "smooth": z.chance()}
        z.call(viz.overlay, np.clip(picture[..., 0], 0, 1), maps, target, vmax=z.pick(None, 0.5), **options)
    elif what == "save":
        with in_a_folder():
            z.call(viz.save, z.call(viz.page, weights, source, target), z.pick("a.html", "a.png"), dpi=50.0)
    else:
        z.call(viz.picture_page, np.clip(picture, 0, 1), maps, target, title="t", normalized=True)


@entry(
    "fastattn.seq2seq.train", "fastattn.seq2seq.load", "fastattn.seq2seq.quantize", "fastattn.seq2seq.read_config",
    "fastattn.seq2seq.Outcome",
)  # fmt: skip
def runs(z):
    what = z.pick("load", "load", "quantize", "train", "read")
    with in_a_folder():
        if what == "load":
            z.call(z.pick(seq2seq.load, seq2seq.checkpoint.load), trained(), z.pick("best", "last"))
        elif what == "quantize":
            z.call(seq2seq.quantize, trained(), "small", z.pick("int8", "bfloat16"), which=z.pick("best", "last"))
        elif what == "read":
            Path("c.toml").write_text('[data]\ntrain = "a.tsv"\n')
            z.call(seq2seq.read_config, "c.toml")
        else:
            options = {"pairs": PAIRS, "validation": z.pick(None, PAIRS[:1]), "resume": z.chance(), "quiet": z.chance()}
            z.call(seq2seq.train, settings(MODELS[z.pick(*MODELS)], z.size(2)), "run", label="l", **options)


@functools.cache
def translators():
    """One that Transformers could load, if there is a package for its texts, and one that it could not."""
    found = [seq2seq.load(trained())]
    if find_spec("sentencepiece"):
        words = seq2seq.Vocabulary.build(["a b c", "b a"], "sentencepiece", max_size=12)
        config = seq2seq.Config(model=seq2seq.TransformerConfig(**TINY))
        model = seq2seq.build(config.model, len(words), len(words), seed=0)
        found.append(seq2seq.Translator(model, words, words, config))
    return found


@entry("fastattn.seq2seq.to_transformers", "fastattn.seq2seq.from_transformers")
def exchange(z):
    with in_a_folder():
        z.call(seq2seq.to_transformers, z.pick(*translators()), "theirs")
        z.call(seq2seq.from_transformers, "theirs")


@entry(*(f"fastattn.testing.{name}" for name in testing.__all__))
def kit(z):
    width, dtype = z.size(), z.pick(np.float32, np.float64)
    what = z.pick("records", "benchmarks", "plugin", "score", "score", "normalizer")
    if what == "score":  # of parameters that do not fit, mostly, which fail at once
        given = {"w": z.floats(width, z.size(), dtype=dtype)}
        z.call(testing.check_score, z.pick(scores.General, "general"), options=given, expected_failures={})
    elif what == "normalizer":
        made = normalizers.Entmax if z.chance(0.02) else z.pick("entmax", None, 3, np.ones(2))
        z.call(testing.check_normalizer, made, options={"alpha": 1.3})
    elif what == "plugin":
        z.call(testing.check_plugin, z.pick("nothing", np.ones(2), None, variants), expected_failures={"a": "b"})
    else:
        z.call(z.pick(testing.records_of, testing.benchmarks_of), z.pick("fastattn.scores", "x", np.ones(2), scores))
