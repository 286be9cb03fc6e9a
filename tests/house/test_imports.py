"""The rules of the house that can be read off the source: who imports whom, and what no file says."""

import ast
import re
import sys

import pytest
import sources
from sources import relative, under

PACKAGE = sources.ROOT / "fastattn"

# A part may import parts of lower tiers and itself, never sideways or upwards.
TIERS = [
    {"_known_as", "_printing", "_reprs"},
    {"_cards", "errors", "_version"},
    {"_optional"},
    {"_arrays", "_kernels", "_numbers", "_reference", "_strings", "plugin"},
    {"_allocator", "config", "functional", "grid", "jit", "linear", "precision", "_relative", "viz"},
    {"scores", "normalizers"},
    {"attention"},
    {"layers"},
    {"optim", "positions"},
    {"variants"},
    {"losses"},
    {"seq2seq", "testing", "verify"},
    {"interop", "scale"},
    {"commands"},
    {"cli"},
    {"__init__", "__main__"},
]
TIER = {part: number for number, parts in enumerate(TIERS) for part in parts}

# Written so that no pattern matches its own text.
FORBIDDEN = {
    "a path of one machine": r"(?<![\w.:])/(?:work|opt|root|home|mnt)/",
    "a path outside the project": r"\.\./shared",
    "a package index": r"pypi[.]|files[.]pythonhosted|conda[.]anaconda|(?:extra-)?index[-]url|find[-]links",
}


def part_of(module):
    """``fastattn.scores.dot`` -> ``scores``; the package itself is ``__init__``."""
    names = module.split(".")
    return names[1] if len(names) > 1 else "__init__"


def module_name(path):
    names = path.relative_to(sources.ROOT).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" and len(names) > 2 else names)


def imports_of(path):
    """Names of all modules that a Python file imports, at any depth, as absolute names."""
    package = path.relative_to(sources.ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
            base = base if node.level else node.module
            # ``from fastattn import scores`` imports a part; ``from fastattn.scores import Dot`` a name of one.
            yield from (f"{base}.{alias.name}" for alias in node.names) if base == "fastattn" else (base,)


def cython_imports_of(path):
    for line in path.read_text().splitlines():
        if found := re.match(r"\s*from\s+(fastattn)\s+c?import\s+(\w+)", line):
            yield ".".join(found.groups())
        elif found := re.match(r"\s*(?:from|c?import)\s+([\w.]+)", line):
            yield found.group(1)


def our_imports(path):
    imported = imports_of(path) if path.suffix in {".py", ".pyi"} else cython_imports_of(path)
    return [name for name in imported if name.split(".")[0] == "fastattn"]


@pytest.mark.parametrize("path", under(PACKAGE, ".py", ".pyi", ".pyx", ".pxd", ".pxi"), ids=relative)
def test_imports_run_downwards(path):
    own = part_of(module_name(path))
    if own in TIERS[-1]:
        return
    assert own in TIER, f"{own}: name its tier in this test"
    for name in our_imports(path):
        target = part_of(name)
        assert target == own or TIER[target] < TIER[own], f"{own} must not import {name}"


def test_the_walk_sees_an_upward_import(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    folder = tmp_path / "fastattn" / "scores"
    folder.mkdir(parents=True)
    bad = folder / "bad.py"
    bad.write_text("def f():\n    from ..attention import attention\n    from fastattn import variants\n")
    assert sorted(our_imports(bad)) == ["fastattn.attention", "fastattn.variants"]
    with pytest.raises(AssertionError, match="must not import"):
        test_imports_run_downwards(bad)
    bad_cython = folder / "bad.pyx"
    bad_cython.write_text("from fastattn cimport interop\ncimport fastattn.variants.luong\n")
    assert sorted(our_imports(bad_cython)) == ["fastattn.interop", "fastattn.variants.luong"]


def file_of(name):
    """The file of a module, or None: ``fastattn.linear.matmul`` is none."""
    path = sources.ROOT.joinpath(*name.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists()), None)


def files_imported(path):
    """Files of ours that a file imports, at any depth, for types alone too: of a name, the module that has it."""
    package = path.relative_to(sources.ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
            names = [(f"{base if node.level else node.module}", alias.name) for alias in node.names]
        else:
            continue
        for module, name in names:
            yield file_of(f"{module}.{name}") or file_of(module)


def circles(paths):
    """Files that reach themselves by what they import."""
    graph = {path: {found for found in files_imported(path) if found not in (None, path)} for path in paths}

    def reached(path):
        seen, left = set(), [path]
        while left:
            new = graph.get(left.pop(), set()) - seen
            seen |= new
            left += new
        return seen

    return [relative(path) for path in graph if path in reached(path)]


def test_no_files_import_each_other():
    assert not circles(under(PACKAGE, ".py"))


def test_the_walk_sees_a_circle_that_is_hidden(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    folder = tmp_path / "fastattn" / "scores"
    folder.mkdir(parents=True)
    for name, text in {
        "one": "def f():\n    from fastattn.scores import two\n",
        "two": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .three import T\n",
        "three": "import fastattn.scores.one\n",
        "four": "from fastattn.scores.one import f\n",
    }.items():
        (folder / f"{name}.py").write_text(text)
    assert circles(under(folder, ".py")) == [f"fastattn/scores/{name}.py" for name in ("one", "three", "two")]


@pytest.mark.parametrize("path", under(PACKAGE / "_reference", ".py"), ids=relative)
def test_the_reference_imports_numpy_only(path):
    for name in imports_of(path):
        top = name.split(".")[0]
        assert top == "numpy" or top in sys.stdlib_module_names or name.startswith("fastattn._reference"), name


@pytest.mark.parametrize("name", ["records", "hookspecs"])
def test_plugin_contracts_import_only_errors(name):
    path = PACKAGE / "plugin" / f"{name}.py"
    if not path.exists():
        pytest.skip("not part of this version")
    allowed = {"fastattn.errors", "fastattn.plugin.foreign", "fastattn.plugin.records"}
    assert set(our_imports(path)) <= allowed


@pytest.mark.parametrize("folder", ["plugins", "benchmarks", "docs"])
def test_outsiders_use_public_names_only(folder):
    for path in under(sources.ROOT / folder, ".py", ".pyx", ".pxi"):
        for name in our_imports(path):
            if name == "fastattn._kernels.capi":  # the one public .pxd
                continue
            private = [part for part in name.split(".") if part.startswith("_") and not part.endswith("__")]
            assert not private, f"{relative(path)} imports {name}"


@pytest.mark.parametrize("path", under(sources.ROOT / "csrc", ".c", ".def", ".h", ".inl"), ids=relative)
def test_the_c_library_knows_no_python(path):
    assert "Python.h" not in re.findall(r"#\s*include\s*[<\"]([^>\"]+)", path.read_text())


@pytest.mark.parametrize("path", sources.texts(), ids=relative)
def test_text_is_plain_and_names_no_place(path):
    text = path.read_text()
    if relative(path) == ".ci/run":
        text = text.replace("/".join(["..", "shared", "data"]), "")  # an optional folder of test data
    assert text.isascii(), [line for line in text.splitlines() if not line.isascii()]
    assert "\t" not in text
    for what, pattern in FORBIDDEN.items():
        found = re.search(pattern, text)
        assert found is None, f"{what}: {found.group()!r}"
    if path.suffix != ".md" and path.name != "LICENSE" and "tests/faults/" not in relative(path):  # lines of others
        assert not [line for line in text.splitlines() if len(line) > 120], "a line is longer than 120 characters"


@pytest.mark.parametrize("text", ["see /" + "work/x", "open('/" + "home/me')", "../" + "shared/data", "py" + "pi.org"])
def test_the_forbidden_patterns_match(text):
    assert any(re.search(pattern, text) for pattern in FORBIDDEN.values())
