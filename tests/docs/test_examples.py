"""The examples in the README, in docs/ and in the docstrings print what they say."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import fastattn

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


def modules():
    """Names of the modules that import without any optional package."""
    yield "fastattn"
    for info in pkgutil.walk_packages(fastattn.__path__, "fastattn."):
        if not any(part in {"interop", "viz", "__main__"} for part in info.name.split(".")):
            yield info.name


def run(test):
    report = []
    doctest.DocTestRunner(optionflags=OPTIONS, verbose=False).run(test, out=report.append)
    assert not report, "".join(report)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_examples_of_a_page(page):
    text = page.read_text()
    blocks = re.findall(r"^```pycon\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert ">>>" not in re.sub(r"^```pycon\n(.*?)^```", "", text, flags=re.MULTILINE | re.DOTALL)
    assert blocks or page != PAGES[0]
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page.name, str(page), 0)
    run(test)


@pytest.mark.parametrize("name", list(modules()))
def test_examples_of_a_module(name):
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    for test in finder.find(module, name, extraglobs={"np": np, "fastattn": fastattn}):
        run(test)


def test_a_wrong_example_is_noticed():
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    with pytest.raises(AssertionError, match="Expected"):
        run(test)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_of_a_page_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_readme_names_its_table():
    text = (ROOT / "README.md").read_text()
    assert text.index("<!-- benchmark-table:start -->") < text.index("<!-- benchmark-table:end -->")
