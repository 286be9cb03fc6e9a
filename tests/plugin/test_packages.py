"""Packages in new virtual environments: the example plugins beside fastattn's own wheel, and set-ups as documented."""

import json
import os
import re
import subprocess
import venv
from pathlib import Path

import documents
import pytest

import fastattn

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "plugins").glob("fastattn-*"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.packages,
    pytest.mark.skipif(not EXAMPLES, reason="the examples are in the checkout only"),
    pytest.mark.skipif("FASTATTN_SANITIZE" in os.environ, reason="other programs lack the sanitizers' libraries"),
]


def run(*command, check=True, cwd=None, **variables):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "FASTATTN"))}
    command = [str(part) for part in command]
    done = subprocess.run(
        command, cwd=cwd, env={**environment, **variables}, capture_output=True, text=True, timeout=600
    )
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def needed():
    """What building, running and testing plugins takes."""
    content = documents.project()
    tests = [one for one in content["project"]["optional-dependencies"]["test"] if one.startswith("pytest")]
    return [*content["build-system"]["requires"], *content["project"]["dependencies"], *tests]


def copy_of(source, target):
    """Copy what is or could be committed of a source tree."""
    names = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=source, check=False)
    files = names.stdout.split("\n") if names.returncode == 0 else None
    for path in source.rglob("*") if files is None else [source / name for name in files if name]:
        if path.is_file() and not {"build", "__pycache__", ".git"} & set(path.relative_to(source).parts):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return target


class Environment:
    def __init__(self, folder, *packages):
        self.folder, self.wheels = folder, folder / "wheels"
        venv.create(folder / "venv", with_pip=True)
        self.python = folder / "venv" / "bin" / "python"
        if packages:
            self.pip("install", "-q", *packages)

    def pip(self, *arguments, **variables):
        return run(self.python, "-m", "pip", "--disable-pip-version-check", *arguments, **variables)

    def install(self, source, **variables):
        """Build a wheel of a copy of a source tree, so that nothing is left in it, and install it."""
        copy = copy_of(source, self.folder / "sources" / source.name)
        place = self.wheels / source.name
        self.pip("wheel", "-q", "--no-deps", "--no-build-isolation", "-w", place, copy, **variables)
        self.pip("install", "-q", "--no-deps", "--force-reinstall", *place.glob("*.whl"))

    def follow(self, lines, cwd, **variables):
        """Run lines in a shell as somebody would who has this environment, and nothing else."""
        variables.update(PATH=f"{self.python.parent}:/usr/bin:/bin", PIP_DISABLE_PIP_VERSION_CHECK="1")
        return run("/bin/bash", "-eo", "pipefail", "-c", lines, cwd=cwd, **variables)

    def fastattn(self, *arguments, **options):
        return run(self.folder / "venv" / "bin" / "fastattn", *arguments, cwd=self.folder, **options)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    made = Environment(tmp_path_factory.mktemp("packages"), *needed())
    made.install(ROOT, FASTATTN_BUILD_LEVELS="generic")  # in a third of the time; plugins see no level
    for example in EXAMPLES:
        made.install(example)
    return made


def name_of(example):
    return example.name.removeprefix("fastattn-")


def test_all_are_listed(environment):
    rows = {row["name"]: row for row in json.loads(environment.fastattn("plugins", "--json").stdout)}
    assert {name_of(example) for example in EXAMPLES} <= rows.keys()
    assert all(row["status"] in ("active", "built in") and not row["problem"] for row in rows.values())
    assert rows["ard"]["distribution"] == "fastattn-ard" and rows["ard"]["version"] == "0.1.0"
    assert rows["lowrank"]["provides"] == {"scores": ["low_rank", "low_rank_tanh"]}
    rows = json.loads(environment.fastattn("plugins", "--json", FASTATTN_PLUGINS="").stdout)
    assert {row["status"] for row in rows} == {"built in", "disabled"}


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_its_own_tests_and_its_benchmark_pass(environment, example):
    run(environment.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", example, cwd=environment.folder)
    bench = example / "benchmarks" / f"bench_{name_of(example)}.py"
    run(
        environment.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--benchmark-disable", bench,
        cwd=environment.folder,
    )  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_the_commands_check_and_time_it(environment, example):
    assert "checks passed" in environment.fastattn("check", name_of(example)).stdout
    rows = json.loads(environment.fastattn("bench", "--plugin", name_of(example), "--json").stdout)
    assert rows and all(row["microseconds"] > 0 for row in rows)


@pytest.fixture(scope="module")
def users(environment, tmp_path_factory):
    """An environment with fastattn and what it needs, and nothing else."""
    [wheel] = (environment.wheels / ROOT.name).glob("*.whl")
    return Environment(tmp_path_factory.mktemp("users"), wheel)


@pytest.mark.parametrize("kind", ["cython", "python", "score", "numba"])  # the first one has the least to build on
def test_a_new_package_works_as_its_readme_says(users, kind, tmp_path):
    users.fastattn("new-plugin", f"new_{kind}", "--kind", kind, "--folder", tmp_path)
    folder = tmp_path / f"fastattn-new-{kind}"
    [lines] = documents.scripts(folder / "README.md")
    users.follow(lines, folder, PYTEST_ADDOPTS="-p no:cacheprovider --benchmark-disable")
    assert "checks passed" in users.fastattn("check", f"new_{kind}").stdout


TRAINING = """
[data]
train = "test.tsv"
[model]
embedding = 8
hidden = 8
attention = 8
readout_width = 8
[training]
epochs = 1
"""

# What stands in for what takes minutes; after it, what must work in the environment that the text makes.
FOLLOWED = {
    "README.md": ({"fastattn quickstart\n": "fastattn quickstart --steps 2 --quiet\n"}, ""),
    "CONTRIBUTING.md": (
        {},
        "python -m pytest -q -p no:cacheprovider tests/test_{functional,package}.py tests/plugin/test_plugins.py "
        "tests/viz tests/seq2seq/test_quickstart.py tests/seq2seq/text/test_{metrics,vocabulary}.py "
        "tests/seq2seq/runs/test_checkpoint.py\nruff check .\ncython-lint --help >/dev/null",
    ),
    "docs/training.md": ({}, ""),
}


@pytest.mark.parametrize("page", FOLLOWED)
def test_the_first_commands_of_a_page_work_in_a_new_environment(page, tmp_path):
    tree = copy_of(ROOT, tmp_path / "tree")
    pairs = "".join(f"{word}\t{word[::-1]}\n" for word in ("ein Hund", "rennt", "ein", "Hund", "ein Hund rennt"))
    (tree / "test.tsv").write_text(pairs)
    (tree / "sentences.txt").write_text("ein Hund\n")
    (tree / "german.toml").write_text(TRAINING)
    replaced, then = FOLLOWED[page]
    lines = documents.scripts(ROOT / page)[0]
    for old, new in replaced.items():
        assert old in lines
        lines = lines.replace(old, new)
    bare = Environment(tmp_path / "bare")
    # One level builds in a third of the time.
    bare.follow(f"{lines}\n{then}", tree, FASTATTN_BUILD_LEVELS="generic", HOME=str(tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("ABI_MAJOR 1", "ABI_MAJOR 2", "was built against fastattn .* version 2.1; .*pip install 'fastattn=="),
        ("ABI_MINOR 1", "ABI_MINOR 7", "needs version 1.7 .* pip install --upgrade 'fastattn>="),
    ],
)
def test_a_plugin_built_against_another_version_is_refused(environment, tmp_path, old, new, words):
    name = f"alien_{new[4:9].lower()}"
    environment.fastattn("new-plugin", name, "--kind", "cython", "--folder", tmp_path)
    folder = tmp_path / f"fastattn-{name.replace('_', '-')}"
    header = (Path(fastattn.get_include()) / "fastattn.h").read_text()
    assert f"FASTATTN_{old}" in header
    (folder / "include").mkdir()
    (folder / "include" / "fastattn.h").write_text(header.replace(f"FASTATTN_{old}", f"FASTATTN_{new}"))
    setup = (folder / "setup.py").read_text()
    (folder / "setup.py").write_text(setup.replace("[fastattn.get_include()]", '["include", fastattn.get_include()]'))
    environment.install(folder)
    done = environment.fastattn("check", name, check=False)
    assert done.returncode == 1
    assert re.search(words, done.stdout), done.stdout
    assert environment.fastattn("check", "ard").returncode == 0  # the others work


def test_the_version_of_the_header_is_that_of_the_package():
    header = (Path(fastattn.get_include()) / "fastattn.h").read_text()
    assert f'#define FASTATTN_VERSION "{fastattn.__version__}"' in header
