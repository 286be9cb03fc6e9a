"""The Python blocks of the pages that no other test runs: each page is one program, in an interpreter and a folder of
its own. Before the first block stands here what a page takes as given, and after each what it is to have done.

Ray, Spark and Dask are stood in for by what calls what a recipe gives them: that the recipes suit the engines
themselves is tested in tests/scale/test_engines.py, where these are installed.
"""

import documents
import pytest

pytestmark = pytest.mark.skipif(not documents.PAGES[1].exists(), reason="the documents are in the checkout only")

MODEL = """
import sys
from types import ModuleType, SimpleNamespace

import fastattn
from fastattn import seq2seq
from fastattn.scale import Predictor

PAIRS = [("ein Hund rennt", "a dog runs"), ("eine Katze ruht", "a cat rests")]
texts = [source for source, _ in PAIRS]
model = seq2seq.BahdanauConfig(embedding=8, hidden=8, attention=8, readout_width=8)
config = seq2seq.Config(model=model, training=seq2seq.TrainingConfig(epochs=2))
seq2seq.train(config, "german", pairs=PAIRS, quiet=True)
translator = seq2seq.load("german")
right = translator.translate(texts)


def stand_in(name, **content):
    sys.modules[name] = ModuleType(name)
    vars(sys.modules[name]).update(content)


class Frame:
    # Rows of any engine, to which one column is added.

    index, write = None, property(lambda self: self)
    to_parquet = write_parquet = parquet = lambda self, path: found.append(self.made)

    def map_batches(self, function, batch_size):
        self.made = function({"source": texts})["translation"]
        return self

    def withColumn(self, name, column):
        self.made = column
        return self

    def map_partitions(self, function, meta):
        made = function(self)
        assert made.keys() == meta.keys() and all(isinstance(made[name][0], kind) for name, kind in meta.items())
        self.made = made["translation"]
        return self

    def to_dict(self, kind):
        return {"source": list(texts)}


found, rows = [], Frame()
ray = SimpleNamespace(data=SimpleNamespace(read_parquet=lambda path: rows))
stand_in("pyspark.ml.functions", predict_batch_udf=lambda make, return_type, batch_size: lambda name: make()(texts))
stand_in("pyspark.sql.types", StringType=str)
stand_in("pandas", DataFrame=lambda columns, index: columns)
"""
TRAINED = """
    from pathlib import Path

    Path("train.tsv").write_text("".join("\\t".join(pair) + "\\n" for pair in PAIRS))
    Path("german.toml").write_text(
        "[data]\\ntrain = 'train.tsv'\\n[model]\\nkind = 'bahdanau'\\nembedding = 8\\nhidden = 8\\nattention = 8\\n"
        "readout_width = 8\\n[training]\\nepochs = 3\\n"
    )


class Joined:
    # In the place of `fastattn.scale.joined`, which needs a launcher.

    def __init__(self, backend):
        joined.append(backend)

    def __enter__(self):
        return None

    def __exit__(self, *raised):
        pass


joined = []
fastattn.scale.joined = Joined
ready()
"""
SCALE = (
    MODEL,
    "assert list(found.pop()) == right",
    "assert list(found.pop()) == right",
    "assert list(found.pop()) == right\n\n\ndef ready():" + TRAINED + "import shutil\nshutil.rmtree('german')",
    "assert joined.pop() == 'gloo' and seq2seq.load('german').translate(texts)\nshutil.rmtree('german')\n"
    "train = seq2seq.train\n"
    "seq2seq.train = lambda *paths, **more: train(*[one.removeprefix('/data/') for one in paths], **more)\n"
    "Made = lambda **options: options\n"
    "stand_in('ray.train', FailureConfig=Made, RunConfig=Made, ScalingConfig=Made)\n"
    "stand_in('ray.train.torch', TorchTrainer=lambda work, **options: SimpleNamespace(fit=work))",
    "assert joined.pop() == 'gloo' and seq2seq.load('german').translate(texts)",
)
TRAINING = (
    f"{MODEL}\nimport contextlib, io\nprinted = io.StringIO()\nsys.stdout, out = printed, sys.stdout\n",
    "sys.stdout, lines = out, printed.getvalue().splitlines()\n"
    "best = translator.translate(texts, beam=4)\n"
    "assert all(f'{text} {found}'.strip() in map(str.strip, lines) for text, found in zip(texts, best))\n"
    "assert any(line.startswith('1 ') and '[' in line for line in lines)",
)
PLUGINS = (
    "assert fastattn_scores()[0].name == 'diagonal'",
    "assert variant.name == 'weighted_l1'",
    "assert fastattn_models()[0].name == 'lookup'\n"
    "import dataclasses, sys\nfrom types import ModuleType\n"
    "from fastattn.variants.registry import REGISTRY\n"
    "sys.modules['my_plugin'] = made = ModuleType('my_plugin')\n"
    "made.fastattn_variants = lambda: [dataclasses.replace(REGISTRY.record('dot'), name='my_variant')]",
    "[mark] = test_conformance.pytestmark\n"
    "cases = {case.id: case for case in mark.args[1]}\n"
    "assert len(cases) > 10\n"
    "assert [name for name, case in cases.items() if case.marks] == ['variant-my_variant-forked_child']\n"
    "test_conformance(cases['variant-my_variant-masks'].values[0])",
)
PROGRAMS = {
    "precision": ("", "", "", "", "", ""),  # each asserts what it says
    "plugins": ("", *PLUGINS),
    "scale": SCALE,
    "training": TRAINING,
}
ELSEWHERE = {
    "pictures": "tests/docs/test_commands.py",
    **dict.fromkeys(("jax", "keras", "recurrent", "torch", "transformers"), "tests/interop/test_pages.py"),
}


def blocks(page):
    return documents.blocks(page, "python")


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_blocks_of_a_page_run(name, run_python):
    if name == "precision":
        pytest.importorskip("ml_dtypes")
    given, *after = PROGRAMS[name]
    pairs = zip(blocks(documents.ROOT / "docs" / f"{name}.md"), after, strict=True)
    run_python("-c", "\n".join([given, *(text for pair in pairs for text in pair)]))


def test_all_pages_with_blocks_are_run():
    assert {page.stem for page in documents.PAGES if blocks(page)} == PROGRAMS.keys() | ELSEWHERE.keys()
    for name, file in ELSEWHERE.items():
        assert name in (documents.ROOT / file).read_text()


def test_a_block_that_does_something_else_is_noticed(run_python):
    block = blocks(documents.ROOT / "docs" / "precision.md")[0]
    with pytest.raises(AssertionError):
        run_python("-c", block.replace("0.001", "0.002"))
