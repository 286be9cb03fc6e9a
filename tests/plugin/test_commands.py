"""The commands about plugins, and the packages that `fastattn new-plugin` writes."""

import importlib.util
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from wrong_plugins import Dot

from fastattn.cli import main
from fastattn.commands.new_plugin import KINDS, write
from fastattn.errors import ConfigError
from fastattn.plugin import ScoreRecord, VariantRecord, isolated

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {"python": "diagonal", "score": "cauchy", "numba": "laplace", "cython": "ard"}


class Good:
    def fastattn_variants(self):
        return [VariantRecord("mine", Dot, "q . m")]


class Bad:
    def fastattn_variants(self):
        raise OSError("no such library")


class Wrong:
    def fastattn_scores(self):
        return [ScoreRecord("wrong", "wrong_plugins:ScoreLeaks")]


@pytest.fixture
def plugins():
    with isolated({"good": Good(), "bad": Bad(), "wrong": Wrong()}):
        yield


def test_plugins_are_listed(plugins, capsys):
    assert main(["plugins", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["good"]["provides"] == {"variants": ["mine"]} and rows["good"]["status"] == "active"
    assert rows["bad"]["status"] == "broken" and "no such library" in rows["bad"]["problem"]
    assert "bahdanau" in rows["fastattn.variants"]["provides"]["variants"]
    with isolated({"good": Good(), "bad": Bad()}):
        assert main(["plugins"]) == 0
    text = capsys.readouterr()
    assert "variants: mine" in text.out and "broken" in text.out and not text.err


@pytest.mark.filterwarnings("ignore::fastattn.errors.PluginWarning")
def test_a_plugin_is_checked(plugins, capsys):
    assert main(["check", "good"]) == 0
    assert "variant 'mine'" in capsys.readouterr().out
    assert main(["check", "wrong", "--json"]) == 1
    certificates = json.loads(capsys.readouterr().out)
    assert [certificate["passed"] for certificate in certificates] == [True, False]
    assert main(["check", "bad"]) == 1
    assert "FAILED  loads" in capsys.readouterr().out
    assert main(["check", "nobody"]) == 1
    assert "there is no such plugin" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::fastattn.errors.PluginWarning")
def test_a_plugin_is_timed_if_it_is_right(plugins, capsys, monkeypatch):
    monkeypatch.setattr("fastattn.testing.timing.measure", lambda case: (case.run() is None, 2e-6))
    assert main(["bench", "--plugin", "good", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["case"] for row in rows] == [f"variant mine: {c}" for c in ("prepare", "step", "forward", "gradients")]
    assert main(["bench", "--plugin", "good"]) == 0 and "built in" in capsys.readouterr().out
    assert main(["bench", "--plugin", "bad"]) == 1
    assert "no such library" in capsys.readouterr().err


def test_measured_times_are_times():
    from fastattn.testing.timing import benchmarks_of, measure

    for case in benchmarks_of(Good()):
        own, peer = measure(case, rounds=2, seconds=0.001)
        assert 0 < own < 1 and 0 < peer < 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_packages_are_what_new_plugin_writes(kind, tmp_path):
    written, name = write(EXAMPLES[kind], kind, tmp_path), EXAMPLES[kind]
    example = ROOT / "plugins" / f"fastattn-{name}"
    if not example.exists():
        pytest.skip("the examples are in the checkout only")
    files = sorted(path.relative_to(written) for path in written.rglob("*") if path.is_file())
    assert len(files) >= 5
    for file in files:
        assert (written / file).read_text() == (example / file).read_text(), file


def test_a_new_package_works_and_conforms(tmp_path, run_python, capsys):
    assert main(["new-plugin", "two_words", "--folder", str(tmp_path)]) == 0
    assert "fastattn check two_words" in capsys.readouterr().out
    folder = tmp_path / "fastattn-two-words"
    assert "class TwoWords(Score)" in (folder / "fastattn_two_words" / "__init__.py").read_text()
    above = str(Path(importlib.util.find_spec("fastattn").origin).parents[1])
    path = f"{folder}:{above}"
    code = f"import sys; sys.path[:0] = {path.split(':')!r}; import pytest; "
    code += f"sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '--rootdir', {str(folder)!r}, {str(folder)!r}]))"
    done = run_python("-c", code, PYTHONPATH=path, check=False)
    assert done.returncode == 0, done.stdout


def test_the_commands_of_readmes_differ_only_where_something_is_compiled(tmp_path):
    found = {}
    for kind in KINDS:
        readme = (write(f"of_{kind}", kind, tmp_path) / "README.md").read_text()
        found[kind] = re.search("^```\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)[1].replace(kind, "kind")
    assert found["numba"] == found["python"] == found["score"] != found["cython"]


def test_what_a_compiled_package_is_built_with_is_said(tmp_path, capsys):
    main(["new-plugin", "mine", "--kind", "cython", "--folder", str(tmp_path)])
    said, readme = capsys.readouterr().out, (tmp_path / "fastattn-mine" / "README.md").read_text()
    built = set(tomllib.loads((tmp_path / "fastattn-mine" / "pyproject.toml").read_text())["build-system"]["requires"])
    for text in (said, readme):
        tools = set(re.findall("'([a-z]+>=.*?)'", text))
        assert tools == {need for need in built if not need.startswith(("numpy", "fastattn"))}
        assert text.count("--no-build-isolation") == text.count("pip install") - 1


def test_names_that_are_none_and_folders_that_exist_are_refused(tmp_path, capsys):
    for kind in KINDS:
        for name in (
            *("Two", "a-b", "", "2x", "n\u00e4me", "a b"), *("_", "_x", "x_", "a__b"),
            *("class", "import", "none", "true", "lambda"), *("dot", "luong", "cosine", "sparsemax"),
        ):  # fmt: skip
            with pytest.raises(ConfigError, match=r"is (not a valid|no new) name"):
                write(name, kind, tmp_path)
    for name, kind in (
        ("score_record", "python"), ("pairwise", "score"), ("variant", "numba"), ("shape_error", "numba"),
        ("score", "cython"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="is what the package is made from"):
            write(name, kind, tmp_path)
    assert not list(tmp_path.iterdir())
    write("mine", "python", tmp_path)
    assert main(["new-plugin", "mine", "--folder", str(tmp_path)]) == 2
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["numpy", "fastattn", "match", "type", "test", "formula", "loops", "np", "x2"])
def test_names_of_other_packages_and_of_soft_keywords_make_packages(name, tmp_path):
    for kind in KINDS:
        folder = write(name, kind, tmp_path / kind)
        for path in folder.rglob("*.py"):
            compile(path.read_text(), str(path), "exec")
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        assert project["entry-points"]["fastattn.plugins"] == {name: f"fastattn_{name}"}


def test_templates_hold_every_file_of_the_examples():
    done = subprocess.run(["git", "ls-files", "plugins"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode or not done.stdout:
        pytest.skip("not in a checkout")
    for kind, name in EXAMPLES.items():
        files = [line for line in done.stdout.split() if line.startswith(f"plugins/fastattn-{name}/")]
        folders = (ROOT / "fastattn" / "commands" / "templates" / folder for folder in ("every", kind))
        assert len(files) == sum(len(list(folder.rglob("*.template"))) for folder in folders)
