"""The program that type checkers read also runs; `.ci/run` has mypy and pyright read it."""

import runpy
from pathlib import Path


def test_the_program_of_the_type_checkers_runs(capsys):
    runpy.run_path(str(Path(__file__).with_name("program.py")))
    assert capsys.readouterr().out.startswith("(2, 5, 8)\n(2, 5, 8) (2, 5, 5) (2, 5)\n")
