"""The planted faults are in order: each says what it breaks, names tests that exist, and still finds its text."""

import subprocess
import sys

import pytest
from _pytest.mark.expression import Expression
from faults.run import ROOT, Change, all_faults, read_faults

FAULTS = [fault for found in all_faults().values() for fault in found]


def named(fault):
    """The files, folders and tests that a fault names."""
    return [argument for argument in fault.tests if argument.startswith("tests/")]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_in_order(fault):
    assert named(fault)
    assert not [name for name in named(fault) if not (ROOT / name.partition("::")[0]).exists()]
    for change in fault.changes:
        assert (ROOT / change.file).read_text().count(change.find) == 1, change


@pytest.fixture(scope="module")
def collected():
    """Of every file that faults name its tests; none of one that is skipped, as what it needs is not installed."""
    files = sorted({name.partition("::")[0] for fault in FAULTS for name in named(fault)})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    return [line for line in done.stdout.splitlines() if "::" in line]


def selected(fault, tests):
    tests = [one for one in tests if any(one.startswith(name) for name in named(fault))]
    if "-k" not in fault.tests:
        return tests
    chosen = Expression.compile(fault.tests[fault.tests.index("-k") + 1])
    return [one for one in tests if chosen.evaluate(lambda word, one=one: word.lower() in one.lower())]


def test_what_a_fault_names_is_there(collected):
    files = {one.partition("::")[0] for one in collected}
    roots = {fault: [name.partition("::")[0] for name in named(fault)] for fault in FAULTS}
    there = [fault for fault in FAULTS if any(file.startswith(root) for root in roots[fault] for file in files)]
    assert len(there) > len(FAULTS) / 2
    assert not [fault.name for fault in there if not selected(fault, collected)]
    renamed = FAULTS[0]._replace(tests=(*named(FAULTS[0]), "-k", "no_test_of_this_name"))
    assert not selected(renamed, collected)


def test_names_are_used_once():
    names = [fault.name for fault in FAULTS]
    assert sorted(set(names)) == sorted(names)


def test_a_text_must_be_there_once(tmp_path):
    (tmp_path / "a.c").write_text("one two two")
    assert Change("a.c", "one", "1").plant(tmp_path) == "one two two"
    assert (tmp_path / "a.c").read_text() == "1 two two"
    for absent in ("one", "two"):
        with pytest.raises(ValueError, match="expected this once"):
            Change("a.c", absent, "2").plant(tmp_path)


WHOLE = {"name": "n", "breaks": "b", "tests": "tests/test_x.py", "find": "x", "put": "y"}


@pytest.mark.parametrize("changed", [{key: None} for key in WHOLE] + [{"put": "x"}])
def test_what_a_fault_needs(tmp_path, changed):
    path = tmp_path / "a.c.toml"
    rows = {**WHOLE, **changed}
    path.write_text("[[fault]]\n" + "".join(f'{key} = "{value}"\n' for key, value in rows.items() if value is not None))
    with pytest.raises(ValueError, match=r"missing|expected find and put"):
        read_faults(path, "a.c")


def test_a_whole_fault_is_read(tmp_path):
    path = tmp_path / "a.c.toml"
    path.write_text("[[fault]]\n" + "".join(f'{key} = "{value}"\n' for key, value in WHOLE.items()))
    (fault,) = read_faults(path, "a.c")
    assert fault == ("n", "b", ("tests/test_x.py",), (Change("a.c", "x", "y"),))
