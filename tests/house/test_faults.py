"""The planted faults are in order: each says what it breaks, names tests that exist, and still finds its text."""

import pytest
from faults.run import ROOT, Change, all_faults, read_faults

FAULTS = [fault for found in all_faults().values() for fault in found]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_in_order(fault):
    files = [argument for argument in fault.tests if argument.startswith("tests/")]
    assert files
    assert not [name for name in files if not (ROOT / name.partition("::")[0]).exists()]
    for change in fault.changes:
        assert (ROOT / change.file).read_text().count(change.find) == 1, change


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
