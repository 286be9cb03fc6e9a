"""The workflows: what they run by others is pinned, and the checks that others have written for workflows pass."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import sources

FOLDER = sources.ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
PINNED = re.compile(r"uses: [\w-]+/[\w-]+@(?:[0-9a-f]{40} # v[\d.]+|v[\d.]+ # zizmor: ignore\[unpinned-uses\])$")
# Programs, their arguments, and a change of a workflow that they must refuse.
CHECKS = {
    "check-jsonschema": (["--builtin-schema", "vendor.github-workflows"], "runs-on:", "runs:"),
    "zizmor": (["--offline", "--quiet"], "permissions:\n  contents: read", "permissions: write-all"),
}

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="the workflows are in the checkout only")


def loose(text):
    """Lines that run what others may change."""
    return [line for line in text.splitlines() if "uses:" in line and not PINNED.search(line)]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned(path):
    assert not loose(path.read_text())


def test_a_loose_action_is_seen():
    commit = "0123456789" * 4
    assert not loose(f"  - uses: some/thing@{commit} # v1.2.3")
    assert all(loose(f"- uses: some/thing@{where}") for where in ("main", "v1", commit, f"{commit[1:]} # v1"))


def test_tests_and_wheels_are_of_the_same_pythons():
    wanted = set(runpy.run_path(str(sources.ROOT / "tools" / "wheels"))["PYTHONS"])
    lists = [re.findall(r"python: \[(.+)\]", path.read_text()) for path in WORKFLOWS]
    assert [set(re.findall(r'"([\w.]+)"', one)) for found in lists for one in found] == [wanted, wanted]
    (installed,) = re.findall(r"python-version: \|\n((?: +3\.\w+\n)+)", (FOLDER / "wheels.yml").read_text())
    assert set(installed.split()) == wanted


@pytest.mark.parametrize("program", CHECKS)
def test_what_others_check(program, tmp_path):
    path = Path(sys.executable).with_name(program)
    if not path.exists():
        pytest.skip(f"{program} is not installed: it is of the extra lint")
    arguments, right, wrong = CHECKS[program]
    subprocess.run([path, *arguments, *WORKFLOWS], check=True)
    worse = tmp_path / ".github" / "workflows" / "worse.yml"
    worse.parent.mkdir(parents=True)
    worse.write_text((FOLDER / "tests.yml").read_text().replace(right, wrong))
    assert subprocess.run([path, *arguments, worse], capture_output=True).returncode
