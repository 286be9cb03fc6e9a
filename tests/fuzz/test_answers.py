"""A share of what the fuzzers run: whatever a command is given, it answers in one line with a documented exit code."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

import answers
import command_lines
import configurations
import files


@pytest.mark.parametrize(
    ("fuzzer", "cases"),
    [(configurations, 80), (files, 15), (command_lines, 120)],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_every_answer_is_one_line(fuzzer, cases):
    found = answers.search(fuzzer.case, cases, seed=11)
    assert not found, "\n\n".join(found)


def answered(status=1, err="fastattn train: no.\n", raised=""):
    return answers.Answer(status, "", err, raised)


@pytest.mark.parametrize(
    "answer",
    [
        answered(raised="Traceback"),
        answered(status=3),
        answered(status=None),
        answered(err=""),
        answered(err="fastattn train: no.\nfastattn train: no.\n"),
        answered(err="fastattn train: \x1b[31mno.\n"),
        answered(err="no.\n"),
        answered(err="fastattn train: no. Hint: a. Hint: b.\n"),
        answered(err="fastattn train: no.. Hint: a.\n"),
        answered(status=0),
    ],
)
def test_what_is_no_answer_is_seen(answer):
    assert answers.fault_of(answer)
    assert not answers.fault_of(answered()) and not answers.fault_of(answered(status=0, err=""))


def test_a_case_that_hangs_is_seen(monkeypatch):
    monkeypatch.setattr(answers, "SECONDS", 1)
    monkeypatch.setattr("fastattn.commands.info.run", lambda options: sys.stdin.read(1) or forever())
    assert "Hangs" in answers.fault_of(answers.run(["info"]))


def forever():
    while True:
        pass
