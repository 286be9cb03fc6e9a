"""Failures of the system in commands: one line, with a hint."""

import errno
import os

import pytest

from fastattn.commands.failure import FAILED, HINTS, guarded


@pytest.mark.parametrize("number", HINTS, ids=errno.errorcode.get)
def test_errors_of_the_system_have_a_hint(number, capsys):
    def run():
        raise OSError(number, os.strerror(number), "a/file")

    assert guarded("translate", run) == FAILED
    expected = f"fastattn translate: a/file: {os.strerror(number)}. Hint: {HINTS[number]}.\n"
    assert capsys.readouterr().err == expected


def test_no_memory_has_a_hint(capsys):
    def run():
        raise MemoryError

    assert guarded("train", run) == FAILED
    assert "out of memory. Hint: " in capsys.readouterr().err
