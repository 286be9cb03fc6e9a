"""What is printed: nothing in a message steers the terminal, and one file does all printing."""

import ast
import errno
import io
import sys
from pathlib import Path

import pytest

import fastattn
from fastattn._printing import emit, say, show, visible
from fastattn.errors import describe, describe_file

PACKAGE = Path(fastattn.__file__).parent

STEERING = {
    "C0": "".join(map(chr, range(0x20))),
    "DEL and C1": "".join(map(chr, range(0x7F, 0xA0))),
    "line and paragraph separators": "\u2028\u2029",
    "marks of direction": "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    "invisible": "\u00ad\u200b\u2060\ufeff\U000e0041",
    "spaces of other widths": "\u00a0\u2007\u3000",
    "bytes that are no UTF-8": "\udc80\udcff",
}


@pytest.mark.parametrize("what", STEERING)
def test_what_steers_a_terminal_is_shown(what):
    for character in STEERING[what]:
        shown = visible(f"a{character}b")
        assert shown.isprintable() and shown.startswith("a\\") and shown.endswith("b"), ascii(character)


@pytest.mark.parametrize(
    "text",
    [
        "plain \\ text",
        "\u043f\u0440\u0438\u0432\u0435\u0442",
        "\u6f22\u5b57",
        "a\u0301",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "",
    ],
)
def test_what_can_be_read_stays(text):
    assert visible(text) == text


def test_no_part_of_a_described_error_steers_a_terminal():
    evil = "\x1b]0;owned\x07\r\n\x9b31m\u202e"
    for text in (describe(evil, evil, evil, evil).replace("\nHint", " Hint"), describe_file(evil, evil, evil)):
        assert text.isprintable() and text.count("owned") > 2


def test_messages_are_visible_and_data_are_not_touched(capsys):
    say("a\x1b[2J", 3)
    show("b\rc", "d")
    emit("e\x1b[2J\tf")
    done = capsys.readouterr()
    assert done.err == "a\\x1b[2J\n3\n" and done.out == "b\\rc\nd\ne\x1b[2J\tf\n"


class Full(io.TextIOBase):
    def write(self, text):
        raise OSError(errno.ENOSPC, "no space left on device")


@pytest.mark.parametrize("stream", [None, "closed", "full"])
def test_a_message_that_nobody_can_read_is_not_missed(stream, monkeypatch):
    if stream == "closed":
        stream = io.StringIO()
        stream.close()
    elif stream == "full":
        stream = Full()
    monkeypatch.setattr(sys, "stderr", stream)
    say("into the void")
    monkeypatch.undo()


def writes(tree):
    """Calls that write to the standard streams, and names of these streams that are handed on."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield node.lineno
        if isinstance(node, ast.Attribute) and node.attr in ("write", "writelines", "__stdout__", "__stderr__"):
            if ast.unparse(node).startswith("sys.std") or node.attr.startswith("__"):
                yield node.lineno


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(PACKAGE.rglob("*.py")) if p.name != "_printing.py"],
    ids=lambda p: p.relative_to(PACKAGE).as_posix(),
)
def test_one_file_does_all_printing(path):
    found = list(writes(ast.parse(path.read_text())))
    assert not found, f"{path.name}, lines {found}: use say, show or emit of fastattn._printing"


def test_the_walk_sees_what_prints():
    code = "def f():\n    print('x')\n    sys.stderr.write('x')\n    y.write('x')\n    sys.__stdout__.flush()\n"
    assert list(writes(ast.parse(code))) == [2, 3, 5]
